"""What software does to a finished picture to hide who is in it: blur, pixelation, fewer pixels.

Rivals of the optics, with the same slopes: but the sharp picture was there.
"""

from __future__ import annotations

import numpy as np
import torch
import torch.nn.functional as F
from scipy.ndimage import gaussian_filter1d
from torch import Tensor

from labctl.errors import BadInput

KEPT_SIGMA = 4.0
"""Half-width of the kernel in sigma, as in scipy and scikit-image."""


def smoothed(frames: Tensor, sigma_px: float) -> Tensor:
    """Frames (..., h, w) blurred by a Gaussian; beyond the edge the last pixel goes on, so that an even frame stays.

    The kernel is that of `scipy.ndimage`; the same as `skimage.filters.gaussian(mode="nearest")`.
    Raises BadInput unless sigma_px is above 0.
    """
    if not sigma_px > 0:
        raise BadInput(f"sigma_px is {sigma_px}; more than 0 is needed")
    radius = int(KEPT_SIGMA * sigma_px + 0.5)
    point = np.zeros(2 * radius + 1)
    point[radius] = 1.0
    kernel = torch.from_numpy(gaussian_filter1d(point, sigma_px, truncate=KEPT_SIGMA)).to(frames)
    wide = F.pad(_planes(frames), (radius, radius, radius, radius), mode="replicate")
    down = F.conv2d(wide, kernel.reshape(1, 1, -1, 1))
    return F.conv2d(down, kernel.reshape(1, 1, 1, -1)).reshape(frames.shape)


def downsampled(frames: Tensor, factor: int) -> Tensor:
    """Frames (..., h, w) as the means of blocks of `factor` pixels each way, (..., ceil(h / factor), ceil(w / factor)).

    A block at the edge is the mean of what there is of it. Raises BadInput for a factor below 1.
    """
    if factor < 1:
        raise BadInput(f"factor is {factor}; 1 or more pixels are needed")
    means = F.avg_pool2d(_planes(frames), factor, ceil_mode=True, count_include_pad=False)
    return means.reshape(*frames.shape[:-2], *means.shape[-2:])


def pixelated(frames: Tensor, block_px: int) -> Tensor:
    """Frames (..., h, w) with every block of `block_px` pixels each way at its mean: `downsampled`, shown as large."""
    means = downsampled(frames, block_px)
    large = means.repeat_interleave(block_px, dim=-2).repeat_interleave(block_px, dim=-1)
    return large[..., : frames.shape[-2], : frames.shape[-1]]


def _planes(frames: Tensor) -> Tensor:
    return frames.reshape(-1, 1, *frames.shape[-2:])
