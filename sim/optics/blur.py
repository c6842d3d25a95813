"""Gaussian blur, with the slope in its width."""

from __future__ import annotations

import math

import torch
import torch.nn.functional as F
from torch import Tensor

from labctl.errors import BadInput

BLUR_REACH_SIGMA = 5.0
"""Half-width of the blur kernel in sigma; beyond it lie 6e-7 of the weight."""


def gaussian_blur(image: Tensor, sigma_px: Tensor | float) -> Tensor:
    """Blur (..., h, w) by a Gaussian integrated over pixels; zero outside, so what leaves the canvas is lost.

    sigma_px: () >= 0, in pixels. Sigma 0 returns the image itself; its slope there is 0, as that of the true blur.
    """
    sigma = torch.as_tensor(sigma_px, dtype=image.dtype, device=image.device)
    width = float(sigma.detach())
    if width == 0:
        return image
    if width < 0 or not math.isfinite(width):
        raise BadInput(f"blur sigma is {width} px; a finite value of 0 or more is needed")
    radius = math.ceil(BLUR_REACH_SIGMA * width)
    edges = torch.arange(-radius, radius + 2, dtype=image.dtype, device=image.device) - 0.5
    kernel = torch.erf(edges / (math.sqrt(2) * sigma)).diff()
    kernel = kernel / kernel.sum()
    flat = image.reshape(-1, 1, *image.shape[-2:])
    flat = F.conv2d(flat, kernel.reshape(1, 1, -1, 1), padding=(radius, 0))
    return F.conv2d(flat, kernel.reshape(1, 1, 1, -1), padding=(0, radius)).reshape(image.shape)
