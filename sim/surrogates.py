"""Steps and staircases: hard in value, with a slope that training can follow.

A hard step has slope 0 nearly everywhere, so nothing could be learned through it. The slope of a surrogate stands in
for it in the backward pass alone; the value stays exactly what the hardware does.
"""

from __future__ import annotations

from typing import Literal

import torch
from torch import Tensor

from labctl.errors import BadInput

Surrogate = Literal["sigmoid", "straight-through"]
"""`sigmoid`: the slope of sigmoid(steepness x), highest at the threshold. `straight-through`: slope 1 wherever the
value may move. [Bengio et al. 2013]"""


def hard_step(x: Tensor, *, surrogate: Surrogate, steepness: float) -> Tensor:
    """1 where x > 0, else 0; any shape.

    Slope: steepness s (1 - s) with s = sigmoid(steepness x), or 1 where |x| <= 1 and 0 outside.
    Raises BadInput unless steepness > 0.
    """
    _check_steepness(steepness)
    soft = torch.sigmoid(steepness * x) if surrogate == "sigmoid" else x.clamp(-1, 1)
    return _value_of((x > 0).to(x.dtype), soft)


def staircase(share: Tensor, *, levels: int, surrogate: Surrogate, steepness: float) -> Tensor:
    """The nearest of `levels` equally spaced values 0..1 to every share 0..1; any shape.

    Slope: 1 inside 0..1 for straight-through. For sigmoid that of one sigmoid per step, placed at the middle between
    two levels: steepness, in units of one level, says how much of it gathers there; towards 0 it becomes even.
    Raises BadInput unless levels >= 2 and steepness > 0.
    """
    _check_steepness(steepness)
    if levels < 2:
        raise BadInput(f"levels is {levels}; a staircase has 2 or more")
    top = levels - 1
    place = share.clamp(0, 1) * top
    if surrogate == "straight-through":
        return _value_of(torch.round(place) / top, place / top)
    floor = place.detach().floor().clamp(max=top - 1)
    # Over one step the sigmoid rises by tanh(steepness / 4); divided by it, a whole step still sums to one level.
    rise = torch.tanh(torch.as_tensor(steepness / 4, dtype=share.dtype, device=share.device))
    step = (torch.sigmoid(steepness * (place - floor - 0.5)) - 0.5) / rise
    return _value_of(torch.round(place) / top, (floor + 0.5 + step) / top)


def _value_of(hard: Tensor, soft: Tensor) -> Tensor:
    """`hard` in value to the last bit, `soft` in slope."""
    return hard.detach() + (soft - soft.detach())


def _check_steepness(steepness: float) -> None:
    if not steepness > 0:
        raise BadInput(f"steepness is {steepness}; more than 0 is needed")
