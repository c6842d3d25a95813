"""Random changes of scenes: shifts, mirror images, small turns, zoom and brightness, from a given generator."""

from __future__ import annotations

import math
from typing import TYPE_CHECKING, Annotated

from annotated_types import Ge, Le, Lt

from labctl.frozen import Frozen

if TYPE_CHECKING:  # settings are read where torch is not needed
    import torch
    from torch import Tensor


class Augmentation(Frozen):
    """How training scenes are changed at random, each on its own; all off by default. Edges repeat outwards."""

    shift_px: Annotated[int, Ge(0), Le(64)] = 0
    """Shifted by up to so many scene pixels each way."""

    flip: bool = False
    """Mirrored left to right with chance 1/2. Leave off where handedness means something (digits)."""

    rotation_deg: Annotated[float, Ge(0), Le(45)] = 0.0
    """Turned about the centre by up to so many degrees each way."""

    zoom: Annotated[float, Ge(0), Le(1)] = 0.0
    """Enlarged by a factor between 1 / (1 + zoom) and 1 + zoom, evenly in its logarithm."""

    brightness: Annotated[float, Ge(0), Lt(1)] = 0.0
    """Radiance is multiplied by a factor between 1 - brightness and 1 + brightness. White is the most a scene has."""


def augment(scenes: Tensor, augmentation: Augmentation, generator: torch.Generator) -> Tensor:
    """(N, 1, H, W) scenes 0..1, each changed on its own.

    generator: on the CPU, wherever the scenes are, so that a seed means the same on every machine. What is off draws
    nothing. Turns and zoom interpolate bilinearly, once for both.
    """
    changed = shift_and_flip(scenes, augmentation.shift_px, flip=augmentation.flip, generator=generator)
    if augmentation.rotation_deg or augmentation.zoom:
        changed = _turned_and_zoomed(changed, augmentation, generator)
    if augmentation.brightness:
        factor = 1 + augmentation.brightness * _symmetric(len(scenes), generator)
        changed = (changed * factor.to(changed)[:, None, None, None]).clamp(0, 1)
    return changed


def shift_and_flip(scenes: Tensor, shift_px: int, *, flip: bool, generator: torch.Generator) -> Tensor:
    """(N, 1, H, W) scenes, each shifted by up to `shift_px` each way (edges repeat), mirrored with chance 1/2."""
    import torch
    from torch.nn import functional

    n, _, height, width = scenes.shape
    if shift_px:
        padded = functional.pad(scenes, (shift_px,) * 4, mode="replicate")
        offsets = torch.randint(0, 2 * shift_px + 1, (n, 2), generator=generator)
        rows = (offsets[:, :1] + torch.arange(height)).to(scenes.device)
        columns = (offsets[:, 1:] + torch.arange(width)).to(scenes.device)
        places = torch.arange(n, device=scenes.device)
        scenes = padded[places[:, None, None], 0, rows[:, :, None], columns[:, None, :]][:, None]
    if flip:
        mirrored = (torch.rand(n, generator=generator) < 0.5).to(scenes.device)
        scenes = torch.where(mirrored[:, None, None, None], scenes.flip(-1), scenes)
    return scenes


def _turned_and_zoomed(scenes: Tensor, augmentation: Augmentation, generator: torch.Generator) -> Tensor:
    import torch
    from torch.nn import functional

    n, _, height, width = scenes.shape
    angle, magnification = torch.zeros(n), torch.ones(n)
    if augmentation.rotation_deg:
        angle = math.radians(augmentation.rotation_deg) * _symmetric(n, generator)
    if augmentation.zoom:
        magnification = (math.log1p(augmentation.zoom) * _symmetric(n, generator)).exp()
    cosine, sine, zero = angle.cos() / magnification, angle.sin() / magnification, torch.zeros(n)
    # Where each pixel comes from, in units of half the picture: these differ along the two sides.
    along_x = torch.stack([cosine, -sine * height / width, zero], dim=1)
    along_y = torch.stack([sine * width / height, cosine, zero], dim=1)
    source = torch.stack([along_x, along_y], dim=1).to(scenes)
    grid = functional.affine_grid(source, list(scenes.shape), align_corners=False)
    return functional.grid_sample(scenes, grid, mode="bilinear", padding_mode="border", align_corners=False)


def _symmetric(n: int, generator: torch.Generator) -> Tensor:
    """(n,) numbers spread evenly over -1..1."""
    import torch

    return 2 * torch.rand(n, generator=generator) - 1
