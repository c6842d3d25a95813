"""What a camera for clips costs: numbers to be set, bytes, arithmetic, counted as in the seed."""

from __future__ import annotations

from dataclasses import dataclass

import torch
from torch import nn

from sim.designs.video.base import VideoDesign
from sim.designs.video.bdq import BdqCamera

PER_SIGMOID = 6
"""Operations of one term of the soft staircase: difference, product, exponential, sum, quotient, sum."""

PER_STEP = 2
"""Operations of one term of the hard staircase: a comparison and a sum."""


@dataclass(frozen=True)
class Cost:
    """Of one clip. parameters: numbers that are learned. flops: of all that is computed after the sensor; a blur by the
    optics costs none. blur_flops: what that blur would cost in software, two for each tap: the seed counts this and
    nothing else. [paper: talk; inferred: 120.4 M for 16 frames of 224x224 in three colours]"""

    parameters: int
    bytes: int
    blur_flops: int
    soft_flops: int
    hard_flops: int


def cost_of(design: VideoDesign, clip: tuple[int, int, int], channels: int = 1) -> Cost:
    """Of a clip of (T, h, w) in so many channels."""
    frames, height, width = clip
    values = frames * channels * height * width
    parameters = sum(parameter.numel() for parameter in design.parameters())
    size = sum(parameter.numel() * parameter.element_size() for parameter in design.parameters())
    blur = soft = hard = 0
    if isinstance(design, BdqCamera):
        if design.kept.blur is not None:
            blur = 2 * values * design.shape[0] * design.shape[1]
        if design.kept.difference:
            values = (frames - 1) * channels * height * width
            soft = hard = values
        if design.quantiser is not None:
            soft += PER_SIGMOID * (design.quantiser.levels - 1) * values
            hard += PER_STEP * (design.quantiser.levels - 1) * values
    else:
        soft = hard = channels * convolution_flops(design, clip)
    return Cost(parameters, size, blur, soft, hard)


def convolution_flops(design: VideoDesign, clip: tuple[int, int, int]) -> int:
    """Two for each product of all convolutions that reading one clip takes."""
    counted: list[int] = []

    def count(module: nn.Module, given: tuple[torch.Tensor, ...], found: torch.Tensor) -> None:
        assert isinstance(module, nn.Conv2d)
        taps = module.weight[0].numel()
        counted.append(2 * taps * found.numel())

    hooks = [m.register_forward_hook(count) for m in design.modules() if isinstance(m, nn.Conv2d)]
    try:
        with torch.no_grad():
            design.read_clips(torch.zeros(1, clip[0], 1, *clip[1:]))
    finally:
        for hook in hooks:
            hook.remove()
    return sum(counted)
