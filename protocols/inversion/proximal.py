"""Accelerated proximal gradients for one window per frame, and the proximal map of total variation within limits."""

from __future__ import annotations

import math

import torch
from torch import Tensor

from protocols.cropped_deconvolution import Window, within
from sim.optics.convolution import Pair


def accelerated_descent(
    known: Tensor,
    frames: Tensor,
    *,
    shape: Pair,
    start: Pair,
    total_variation: float,
    sparsity: float,
    brightest: Tensor | None = None,
    iterations: int,
    inner_iterations: int,
) -> Tensor:
    """Light (C, *shape) within 0..brightest with the least |window(known * x) - frames|^2 / 2 + the priors.

    Each channel is for itself. known: (1, C, h, w). frames: (1, C, h, w) from `start` on. The priors are shares of the
    largest correlation, see `Prior`. brightest: (C, 1, 1), None for no limit. The monotone variant is left out: it
    would need the cost of every step.
    """
    window = Window(known, frames, shape, start)
    step = 1 / window.power.amax(dim=(-2, -1), keepdim=True)
    largest = window.adjoint(frames).abs().max()
    x = frames.new_zeros(frames.shape[1], *shape)
    smoother = VariationProx(x, brightest)
    ahead, momentum = x, 1.0
    for _ in range(iterations):
        down = ahead - step * window.adjoint(window.forward(ahead) - frames)
        if total_variation:
            new = smoother(down, total_variation * largest * step, inner_iterations)
        else:
            new = within(down - sparsity * largest * step, brightest)
        next_momentum = (1 + math.sqrt(1 + 4 * momentum**2)) / 2
        ahead = torch.lerp(x, new, 1 + (momentum - 1) / next_momentum)
        x, momentum = new, next_momentum
    return x


class VariationProx:
    """argmin of |x - v|^2 / 2 + threshold * (length of the gradient of x, summed) over x in 0..brightest.

    By the accelerated dual of Beck and Teboulle (2009, FGP), which goes on where the last call left it. No gradient
    crosses the rim of the picture.
    """

    def __init__(self, like: Tensor, brightest: Tensor | None = None) -> None:
        self.dual = like.new_zeros(2, *like.shape)
        self.brightest = brightest

    def __call__(self, v: Tensor, threshold: Tensor, iterations: int) -> Tensor:
        """Of (C, H, W); threshold: () or (C, 1, 1)."""
        threshold = threshold.clamp(min=1e-12)  # of a dark frame it is 0
        ahead, dual, momentum = self.dual, self.dual, 1.0
        for _ in range(iterations):
            x = within(v - threshold * gradient_adjoint(ahead), self.brightest)
            new = ahead + gradient(x) / (8 * threshold)
            new /= new.square().sum(dim=0).sqrt_().clamp_(min=1)
            next_momentum = (1 + math.sqrt(1 + 4 * momentum**2)) / 2
            ahead = torch.lerp(dual, new, 1 + (momentum - 1) / next_momentum)
            dual, momentum = new, next_momentum
        self.dual = dual
        return within(v - threshold * gradient_adjoint(dual), self.brightest)


def gradient(x: Tensor) -> Tensor:
    """(2, ..., H, W) differences to the next row and column; 0 at the last ones."""
    slopes = x.new_zeros(2, *x.shape)
    torch.sub(x[..., 1:, :], x[..., :-1, :], out=slopes[0, ..., :-1, :])
    torch.sub(x[..., 1:], x[..., :-1], out=slopes[1, ..., :-1])
    return slopes


def gradient_adjoint(slopes: Tensor) -> Tensor:
    """Transpose of `gradient`; what stands in the last row of the first part and the last column of the other is 0."""
    down, right = slopes[0], slopes[1]
    x = -down - right
    x[..., 1:, :] += down[..., :-1, :]
    x[..., 1:] += right[..., :-1]
    return x
