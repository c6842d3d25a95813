"""Optical values as buffers or parameters: a Parameter that comes in stays one, all else becomes a buffer."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

import torch
from torch import Tensor, nn

from labctl.errors import BadInput


def register_values(
    module: nn.Module, nominal: Mapping[str, Any], given: Mapping[str, Tensor], dtype: torch.dtype
) -> None:
    """Register every name of `nominal` on `module`, with the value in `given` where there is one.

    Raises BadInput for a given name that `module` does not have, or a given shape that differs from the nominal.
    """
    unknown = sorted(set(given) - set(nominal))
    if unknown:
        raise BadInput(f"{type(module).__name__} has no value {', '.join(unknown)}; it has {', '.join(nominal)}")
    for name, value in nominal.items():
        default = torch.as_tensor(value, dtype=dtype)
        chosen = given.get(name, default)
        if chosen.shape != default.shape:
            raise BadInput(f"{name} has shape {tuple(chosen.shape)}; {tuple(default.shape)} is needed")
        if isinstance(chosen, nn.Parameter):
            module.register_parameter(name, chosen)
        else:
            module.register_buffer(name, chosen.detach().to(dtype).clone())


def free_value(module: nn.Module, name: str) -> nn.Parameter:
    """Turn the buffer `name` of `module` into a parameter with the same value; returns it."""
    value = getattr(module, name)
    if isinstance(value, nn.Parameter):
        return value
    delattr(module, name)
    parameter = nn.Parameter(value.clone())
    module.register_parameter(name, parameter)
    return parameter


def moves(value: Tensor) -> bool:
    """Whether an error of nominally 0 is there, or may come by a fit: else what it does is left out, to the bit."""
    return value.requires_grad or bool(value.detach().any())
