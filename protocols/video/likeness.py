"""How like the true clip a reconstruction is, clip by clip, and where something moves in it."""

from __future__ import annotations

from typing import TYPE_CHECKING

import numpy as np
import numpy.typing as npt
import torch

from protocols.attack.likeness import MOST_DB, ssim_of

if TYPE_CHECKING:
    from torch import Tensor

MOVES = 0.05
"""A pixel is foreground when it ever differs by more from the static background of its clip; 1 is white."""


def static_background(clips: Tensor) -> Tensor:
    """(N, 1, 1, H, W) median over time of clips (N, T, 1, H, W): what stands still, or is seen most of the time."""
    return clips.median(dim=1, keepdim=True).values


def foreground(clips: Tensor, threshold: float = MOVES) -> Tensor:
    """(N, 1, 1, H, W) bool: pixels that ever differ from the static background by more than `threshold`."""
    return ((clips - static_background(clips)).abs() > threshold).any(dim=1, keepdim=True)


def clip_psnr(made: Tensor, truth: Tensor, where: Tensor | None = None) -> npt.NDArray[np.float64]:
    """(N,) PSNR in dB of clips (N, T, 1, H, W) 0..1, at most MOST_DB.

    where: (N, 1, 1, H, W) bool, only these pixels, of all frames; NaN for a clip that has none.
    """
    square = (made.clamp(0, 1).double() - truth.clamp(0, 1).double()).square()
    kept = torch.ones_like(square) if where is None else where.expand_as(square).double()
    error = ((square * kept).flatten(1).sum(1) / kept.flatten(1).sum(1)).numpy()
    return np.asarray(-10 * np.log10(np.maximum(error, 10 ** (-MOST_DB / 10))))


def clip_ssim(made: Tensor, truth: Tensor) -> npt.NDArray[np.float64]:
    """(N,) mean over frames of the structural similarity of clips (N, T, 1, H, W) 0..1."""
    frames = ssim_of(made.flatten(0, 1), truth.flatten(0, 1))
    return np.asarray(frames.reshape(made.shape[:2]).mean(axis=1))
