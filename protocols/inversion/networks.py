"""Networks that make a picture of a first estimate: a U-shaped one, and a few steps of an iteration made learnable."""

from __future__ import annotations

import math
from itertools import pairwise
from typing import cast

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from protocols.cropped_deconvolution import part_of_inverse
from protocols.inversion.problem import LinearCamera
from sim.optics.convolution import Pair, transform_shape

FIRST_WEIGHT = 1.0
"""Of the unrolled steps, before they learn; as a share of the energy of the PSF."""

PROXIMAL_LEVELS = 1
"""Halvings in the networks between the steps: what a window leaves open is wider than a few pixels."""

MOVE = 10.0
"""How much faster weights and steps learn than the rest: each of them alone matters more."""


class UNetwork(nn.Module):
    """U-shaped network with a residual output: (N, channels_in, H, W) to (N, 1, H, W), added to the first channel.

    Each level halves the picture and doubles the width. The last layer starts at zero: untrained, it changes nothing.
    [Ronneberger et al. 2015]
    """

    def __init__(self, channels_in: int, width: int, levels: int) -> None:
        super().__init__()
        widths = [width * 2**level for level in range(levels + 1)]
        self.down = nn.ModuleList(_two(a, b) for a, b in zip([channels_in, *widths], widths, strict=False))
        self.up = nn.ModuleList(_two(a + b, a) for a, b in pairwise(widths))
        self.last = nn.Conv2d(width, 1, 1)
        nn.init.zeros_(self.last.weight)
        nn.init.zeros_(cast(Tensor, self.last.bias))

    def forward(self, images: Tensor) -> Tensor:
        """See the class. Sizes need not be multiples of anything."""
        kept = [self.down[0](images)]
        for block in list(self.down)[1:]:
            kept.append(block(F.max_pool2d(kept[-1], 2, ceil_mode=True)))
        x = kept.pop()
        for block in reversed(self.up):
            beside = kept.pop()
            x = F.interpolate(x, size=beside.shape[-2:], mode="bilinear", align_corners=False)
            x = block(torch.cat((beside, x), dim=1))
        return images[:, :1] + cast(Tensor, self.last(x))


class UnrolledNetwork(nn.Module):
    """Gradient steps with the exact window, each followed by a small U-shaped network; steps and networks are learned.

    A step is x + D A^T (y - A x), with D = 1 / (|H|^2 + weight) in the Fourier domain and a learned weight, without
    which the mean would outrun the details by far. The estimate starts as the mean picture (H, W).
    [Monakhova et al. 2019 unroll ADMM in the same way]
    """

    mean_picture: Tensor

    def __init__(self, steps: int, width: int, mean_picture: Tensor) -> None:
        super().__init__()
        self.register_buffer("mean_picture", mean_picture)
        self.log_weight = nn.Parameter(torch.full((steps,), math.log(FIRST_WEIGHT) / MOVE))
        self.log_step = nn.Parameter(torch.zeros(steps))
        self.proximal = nn.ModuleList(UNetwork(1, width, PROXIMAL_LEVELS) for _ in range(steps))

    def forward(self, frames: Tensor, camera: LinearCamera) -> Tensor:
        """Pictures (N, 1, H, W), not limited to 0..1, of frames (N, 1, h, w)."""
        precondition = Preconditioner(camera)
        x = self.mean_picture.expand(len(frames), 1, -1, -1)
        for number, refine in enumerate(self.proximal):
            misfit = camera.adjoint(frames - camera.forward(x))
            x = x + (MOVE * self.log_step[number]).exp() * precondition(misfit, (MOVE * self.log_weight[number]).exp())
            x = refine(x)
        return x


class Preconditioner:
    """Division by the power of the transfer function and a weight, in shares of the energy of the PSF."""

    def __init__(self, camera: LinearCamera) -> None:
        self.shape = camera.scene_shape
        psf = camera.psf
        self.grid = transform_shape(self.shape, (psf.shape[-2], psf.shape[-1]), camera.start, camera.frame_shape)
        self.power = _spectrum_of(psf, self.grid).abs().square()
        self.energy = psf.square().sum(dim=(-2, -1), keepdim=True)

    def __call__(self, images: Tensor, weight: Tensor) -> Tensor:
        """Of (N, C, H, W)."""
        spectrum = _spectrum_of(images, self.grid) / (self.power + weight * self.energy)
        return part_of_inverse(spectrum, self.grid, (0, 0), self.shape)


def _spectrum_of(images: Tensor, grid: Pair) -> Tensor:
    """`rfft2` on a larger grid, in two steps: the way back through them is a sixth faster."""
    spectrum: Tensor = torch.fft.fft(torch.fft.rfft(images, n=grid[1]), n=grid[0], dim=-2)
    return spectrum


def _two(channels_in: int, channels_out: int) -> nn.Sequential:
    return nn.Sequential(
        nn.Conv2d(channels_in, channels_out, 3, padding=1),
        nn.ReLU(),
        nn.Conv2d(channels_out, channels_out, 3, padding=1),
        nn.ReLU(),
    )
