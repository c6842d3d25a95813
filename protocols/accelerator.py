"""Where a network trains and in which precision, through Lightning Fabric. Light is always computed in float32."""

from __future__ import annotations

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
    """One device, one process. On a GPU the deterministic kernels are asked for: a resumed run is bit-equal."""
    import torch
    from lightning_fabric import Fabric

    cuda = device == "cuda" or (device == "auto" and torch.cuda.is_available())
    if cuda:
        torch.use_deterministic_algorithms(True)  # on a CPU they are deterministic with one thread
    return Fabric(accelerator="cuda" if cuda else "cpu", devices=1, precision=precision)


def generator_on(device: torch.device, seed: int) -> torch.Generator:
    """A generator for draws on `device`."""
    import torch

    return torch.Generator(device).manual_seed(seed)
