"""Random shifts and mirror images of scenes, drawn from a given generator."""

from __future__ import annotations

import torch
from torch import Tensor
from torch.nn import functional


def shift_and_flip(scenes: Tensor, shift_px: int, *, flip: bool, generator: torch.Generator) -> Tensor:
    """(N, 1, H, W) scenes, each shifted by up to `shift_px` each way (edges repeat), mirrored with chance 1/2."""
    n, _, height, width = scenes.shape
    if shift_px:
        padded = functional.pad(scenes, (shift_px,) * 4, mode="replicate")
        offsets = torch.randint(0, 2 * shift_px + 1, (n, 2), generator=generator)
        rows = offsets[:, :1] + torch.arange(height)
        columns = offsets[:, 1:] + torch.arange(width)
        scenes = padded[torch.arange(n)[:, None, None], 0, rows[:, :, None], columns[:, None, :]][:, None]
    if flip:
        mirrored = torch.rand(n, generator=generator) < 0.5
        scenes = torch.where(mirrored[:, None, None, None], scenes.flip(-1), scenes)
    return scenes
