"""The image of a scene, enlarged a little about its middle, with the slope in the enlargement."""

from __future__ import annotations

import torch
from torch import Tensor


def magnified(scene: Tensor, growth: Tensor, room_px: int) -> Tensor:
    """Scene (..., H, W) enlarged by `growth` () about its middle; returns (..., H + 2 room_px, W + 2 room_px).

    Every pixel is a point that keeps its light and lands between pixels, shared out by cubic convolution, which adds no
    width [Keys 1981]. Twice differentiable almost everywhere; exact at growth 1. Light beyond the room is lost.
    """
    rows = _spread(scene.shape[-2], growth, room_px, scene)
    columns = _spread(scene.shape[-1], growth, room_px, scene)
    return rows @ scene @ columns.T


def growth_slope(scene: Tensor, growth: Tensor, room_px: int) -> Tensor:
    """Slope of `magnified` in `growth`, in the same shape."""
    (rows, row_slope), (columns, column_slope) = (
        (_spread(n, growth, room_px, scene), _spread_slope(n, growth, room_px, scene)) for n in scene.shape[-2:]
    )
    return row_slope @ scene @ columns.T + rows @ scene @ column_slope.T


def _spread(length: int, growth: Tensor, room_px: int, like: Tensor) -> Tensor:
    """(length + 2 room_px, length) share of the light of every pixel that lands in every pixel."""
    distance, _ = _distances(length, growth, room_px, like)
    far = distance.abs()
    near = (1.5 * far - 2.5) * far**2 + 1
    wide = ((-0.5 * far + 2.5) * far - 4) * far + 2
    return torch.where(far <= 1, near, torch.where(far < 2, wide, torch.zeros_like(far)))


def _spread_slope(length: int, growth: Tensor, room_px: int, like: Tensor) -> Tensor:
    distance, inputs = _distances(length, growth, room_px, like)
    far = distance.abs()
    near = (4.5 * far - 5) * far
    wide = (-1.5 * far + 5) * far - 4
    slope = torch.where(far <= 1, near, torch.where(far < 2, wide, torch.zeros_like(far)))
    return -inputs * distance.sign() * slope


def _distances(length: int, growth: Tensor, room_px: int, like: Tensor) -> tuple[Tensor, Tensor]:
    """(out, length) from every point to every pixel, and (length,) the points before they moved."""
    wide = length + 2 * room_px
    points = torch.arange(length, dtype=like.dtype, device=like.device) - (length - 1) / 2
    pixels = torch.arange(wide, dtype=like.dtype, device=like.device) - (wide - 1) / 2
    return pixels[:, None] - growth.to(like.dtype) * points, points
