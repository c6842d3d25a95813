"""Physical values: plain numbers, or tensors () that carry gradients. Geometry is computed in float64 either way."""

from __future__ import annotations

import torch
from torch import Tensor

Scalar = Tensor | float
"""A distance, a pitch, a wavelength, a ratio; a tensor () of it may carry gradients."""


def double(value: Scalar) -> Tensor:
    """The value in float64 on the CPU: wave phases need more digits than float32 has."""
    return torch.as_tensor(value, dtype=torch.float64, device="cpu")


def number(value: Scalar) -> float:
    """The value alone, for checks and for the choice of a grid; no gradient."""
    return float(double(value).detach())


def like_inputs(result: Tensor, *inputs: Scalar) -> Tensor:
    """`result` in the precision of the tensors among `inputs`; unchanged where all are plain numbers."""
    kinds = [value.dtype for value in inputs if isinstance(value, Tensor)]
    for kind in kinds[1:]:
        kinds[0] = torch.promote_types(kinds[0], kind)
    return result.to(kinds[0]) if kinds else result
