"""What changes over the field of view: less light from the side, and a blur that is not the same everywhere."""

from __future__ import annotations

import torch
from torch import Tensor

from labctl.errors import BadInput
from sim.optics.convolution import Border, convolve
from sim.optics.scalars import Scalar, double, like_inputs


def cos4_fall_off(shape: tuple[int, int], *, pitch_m: Scalar, distance_m: Scalar) -> Tensor:
    """(H, W) share of light from a flat scene parallel to the mask, 1 on the axis: cos^4 of the angle.

    pitch_m, distance_m: of the scene, or equally those of its image behind the mask: sensor pitch and gap. One cosine
    each for the tilt of scene and sensor, two for the longer way.
    """
    rows, columns = (torch.arange(n, dtype=torch.float64) - (n - 1) / 2 for n in shape)
    tangent_squared = (rows[:, None] ** 2 + columns**2) * (double(pitch_m) / double(distance_m)) ** 2
    return like_inputs((1 + tangent_squared) ** -2, pitch_m, distance_m)


def field_weights(shape: tuple[int, int], nodes: tuple[int, int]) -> Tensor:
    """(K, H, W) float64 shares of K = rows x columns field points in every scene pixel; they sum to 1 everywhere.

    The points stand on an even grid, the outermost on the border of the scene; shares are bilinear between them.
    """
    if min(nodes) < 1 or min(shape) < 1:
        raise BadInput(
            f"{nodes[0]}x{nodes[1]} field points on {shape[0]}x{shape[1]} pixels; 1 or more of each is needed"
        )
    rows, columns = (_hats(size, count) for size, count in zip(shape, nodes, strict=True))
    return (rows[:, None, :, None] * columns[None, :, None, :]).reshape(-1, *shape)


def field_tangents(
    shape: tuple[int, int], nodes: tuple[int, int], *, pitch_m: float, distance_m: float
) -> list[tuple[float, float]]:
    """Tangents (rows, columns) of the angle of every field point of `field_weights`, in its order.

    For `fresnel_psf(field_tan=...)`. pitch_m, distance_m: as for `cos4_fall_off`.
    """
    tangents = [
        torch.linspace(-(size - 1) / 2, (size - 1) / 2, count) if count > 1 else torch.zeros(1)
        for size, count in zip(shape, nodes, strict=True)
    ]
    rows, columns = ((values.double() * (pitch_m / distance_m)).tolist() for values in tangents)
    return [(row, column) for row in rows for column in columns]


def convolve_field(scene: Tensor, psfs: Tensor, weights: Tensor, border: Border = "valid") -> Tensor:
    """Image of (N, C, H, W) under a blur that changes over the field: the sum of (weights scene) * psf over K points.

    psfs: (K, h, w), one per field point, each about its own middle. weights: (K, H, W) of `field_weights`.
    Equals `convolve` when all are the same. Exact for a blur that is linear between the points. [Nagy and O'Leary 1998]
    """
    if psfs.ndim != 3 or psfs.shape[0] != weights.shape[0] or weights.shape[-2:] != scene.shape[-2:]:
        raise BadInput(
            f"psfs {tuple(psfs.shape)} and weights {tuple(weights.shape)} do not belong to a scene of "
            f"{tuple(scene.shape)}; (K, h, w) and (K, H, W) with the H and W of the scene are needed"
        )
    parts = [convolve(scene * share.to(scene), psf[None], border) for share, psf in zip(weights, psfs, strict=True)]
    return torch.stack(parts).sum(dim=0)


def _hats(size: int, count: int) -> Tensor:
    """(count, size) piecewise linear shares of `count` points spread from the first pixel to the last."""
    if count == 1:
        return torch.ones(1, size, dtype=torch.float64)
    place = torch.linspace(0, count - 1, size, dtype=torch.float64)
    return (1 - (place - torch.arange(count, dtype=torch.float64)[:, None]).abs()).clamp(min=0)
