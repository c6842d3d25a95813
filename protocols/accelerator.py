"""Where a network trains and in which precision, through Lightning Fabric. Light is always computed in float32."""

from __future__ import annotations

import os
from typing import TYPE_CHECKING, Literal

from labctl.errors import BadInput

if TYPE_CHECKING:
    import torch
    from lightning_fabric import Fabric

DeviceName = Literal["auto", "cpu", "cuda"]
"""`auto` takes a CUDA GPU when there is one."""

Precision = Literal["32-true", "bf16-mixed"]
"""`bf16-mixed` multiplies the matrices of the network in bfloat16; weights, light and losses stay float32."""


def check_accelerator(device: DeviceName, at: tuple[str | int, ...]) -> None:
    """Raise BadInput when `device` is asked for by name and is not there."""
    if device != "cuda":
        return
    import torch

    if not torch.cuda.is_available():
        raise BadInput("'cuda' is asked for, torch finds no CUDA GPU; use auto or cpu, or mend the driver", at=at)


def open_fabric(device: DeviceName, precision: Precision) -> Fabric:
    """One device, one process. On a GPU see `ask_for_determinism`."""
    import torch
    from lightning_fabric import Fabric

    cuda = device == "cuda" or (device == "auto" and torch.cuda.is_available())
    if cuda:
        ask_for_determinism()
    return Fabric(accelerator="cuda" if cuda else "cpu", devices=1, precision=precision)


def ask_for_determinism() -> None:
    """Take the deterministic CUDA kernels where torch has them; it warns in the log where it has none.

    It has none for the slope of `grid_sample` (the shadow of a mask) and of adaptive pooling, so a training that is
    resumed on a GPU may differ in the last bits. On a CPU, with one thread, it never does.
    """
    import torch

    os.environ.setdefault("CUBLAS_WORKSPACE_CONFIG", ":4096:8")  # cuBLAS refuses to be deterministic without
    torch.use_deterministic_algorithms(True, warn_only=True)


def generator_on(device: torch.device, seed: int) -> torch.Generator:
    """A generator for draws on `device`."""
    import torch

    return torch.Generator(device).manual_seed(seed)
