"""Scenes with depth: a nearer point casts a larger shadow, and hides what stands behind it."""

from __future__ import annotations

from collections.abc import Sequence

import torch
from torch import Tensor

from labctl.errors import BadInput
from sim.optics.convolution import Border, convolve
from sim.optics.shadow import Registration, shadow_psf


def depth_psfs(
    transmittance: Tensor,
    *,
    scene_distances_m: Sequence[float],
    pixel_pitch_m: float,
    sensor_pitch_m: float,
    gap_m: float,
    registration: Registration,
    size_px: tuple[int, int],
    cell_px: int = 1,
) -> Tensor:
    """Shadows (D, h, w) that points at each distance cast through one panel picture (Hp, Wp); see `shadow_psf`.

    They differ by the magnification 1 + gap / distance, which is all that tells a bare sensor how far a point is.
    """
    psfs = [
        shadow_psf(
            transmittance,
            pixel_pitch_m=pixel_pitch_m,
            sensor_pitch_m=sensor_pitch_m,
            gap_m=gap_m,
            scene_distance_m=distance_m,
            registration=registration,
            size_px=size_px,
            cell_px=cell_px,
        )
        for distance_m in scene_distances_m
    ]
    return torch.stack(psfs)


def convolve_depths(layers: Tensor, psfs: Tensor, border: Border = "valid") -> Tensor:
    """Image (N, 1, h, w) of a scene in D layers (N, D, H, W), each blurred by its own of `psfs` (D, h, w), summed.

    layers: radiance, each on the sensor grid as its image behind a pinhole stands there. Nothing hides anything here:
    cut the layers with `visible_layers` first.
    """
    if layers.ndim != 4 or psfs.ndim != 3 or layers.shape[1] != psfs.shape[0]:
        raise BadInput(
            f"layers {tuple(layers.shape)} and psfs {tuple(psfs.shape)} do not belong together; "
            "(N, D, H, W) and (D, h, w) are needed"
        )
    return convolve(layers, psfs[None], border).sum(dim=1, keepdim=True)


def visible_layers(radiance: Tensor, opacity: Tensor) -> Tensor:
    """What the camera sees of layers (N, D, H, W), ordered from near to far, each with its opacity 0..1.

    Layer k counts with its opacity times the transparency of all before it, as seen from the middle of the mask. Right
    while the mask is small against the distances: seen from its rim, a near edge hides a little less or more.
    """
    clear = torch.cumprod(1 - opacity, dim=1)
    before = torch.cat((torch.ones_like(clear[:, :1]), clear[:, :-1]), dim=1)
    return radiance * opacity * before
