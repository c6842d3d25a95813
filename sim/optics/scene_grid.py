"""From the scene grid to the sensor grid."""

from __future__ import annotations

import math

import torch
from torch import Tensor

from labctl.errors import BadInput


def scene_on_sensor(scene: Tensor, scale: float) -> Tensor:
    """Scene (N, 1, H, W) on the sensor grid when one scene pixel spans `scale` sensor pixels.

    Area mean, centre on centre, zero outside: radiance stays, light is conserved. Returns ceil(H scale) rows, and
    the scene itself when |scale - 1| < 1e-6.
    """
    if abs(scale - 1) < 1e-6:
        return scene
    if not (scale > 0 and math.isfinite(scale)):
        raise BadInput(f"a scene pixel spans {scale} sensor pixels; more than 0 is needed: check the pitches")
    rows = _area_mean(scene.shape[-2], scale, scene)
    columns = _area_mean(scene.shape[-1], scale, scene)
    return rows @ scene @ columns.T


def size_on_sensor(length: int, scale: float) -> int:
    """Sensor pixels that `length` pixels of `scale` sensor pixels each span, rounded up."""
    return math.ceil(length * scale - 1e-6 * max(1.0, length * scale))


def _area_mean(length: int, scale: float, like: Tensor) -> Tensor:
    """(out, length) share of every output pixel that each input pixel covers."""
    out = size_on_sensor(length, scale)
    low = torch.arange(out, dtype=torch.float64) - out / 2
    edge = (torch.arange(length, dtype=torch.float64) - length / 2) * scale
    overlap = torch.minimum(low[:, None] + 1, edge + scale) - torch.maximum(low[:, None], edge)
    return overlap.clamp_min(0).to(dtype=like.dtype, device=like.device)
