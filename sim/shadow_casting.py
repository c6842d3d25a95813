"""From the picture on the panel to the PSF on the sensor, by the optical model of a rig, and how far it spreads."""

from __future__ import annotations

import math
from typing import Any

import torch
import torch.nn.functional as F
from torch import Tensor

from labctl.errors import BadInput
from sim.optics.blur import gaussian_blur
from sim.optics.fresnel import diffraction_reach_m, fresnel_psf
from sim.optics.shadow import Registration, gap_growth, shadow_psf
from sim.twin_settings import TwinSettings

BLUR_KEPT_SIGMA = 4.0
"""The canvas of the PSF keeps this much of the blur on each side."""


def cast(
    picture: Tensor,
    settings: TwinSettings,
    *,
    cell_px: int,
    room_px: int,
    registration: Registration,
    blur_px: Tensor,
) -> Tensor:
    """PSF (..., h, w) of panel pictures (..., Hp, Wp), 0..1, with `room_px` sensor pixels of room all round.

    (..., 3, h, w) where diffraction gives each colour of the sensor its own. cell_px: panel pixels along a mask cell.
    Raises BadInput when the room does not hold what registration, blur and diffraction move.
    """
    panel_px = (picture.shape[-2], picture.shape[-1])
    reach = reach_px(settings, panel_px, cell_px=cell_px, registration=registration, blur_px=blur_px)
    if reach > room_px + 1e-3:
        raise BadInput(
            f"{settings.spreading} move the shadow by up to {reach:.2f} sensor pixels, the canvas has room for "
            f"{room_px}; set optics.margin_px to {math.ceil(reach)} or more"
        )
    optics = settings.optics
    if optics.model != "shadow" and registration.tilt_rad is not None:
        raise BadInput("a tilted mask is known to geometric shadows only; set tilt_rad to 0, or optics.model to shadow")
    height, width = settings.shadow_shape_px(panel_px, cell_px)
    geometry: dict[str, Any] = {
        "pixel_pitch_m": optics.mask_pitch_m / cell_px,
        "sensor_pitch_m": settings.sensor.pitch_m,
        "gap_m": optics.gap_m,
        "scene_distance_m": optics.scene_distance_m,
        "registration": registration,
        "size_px": (height + 2 * room_px, width + 2 * room_px),
        "cell_px": cell_px,
    }
    if optics.model == "shadow":
        return gaussian_blur(shadow_psf(picture, **geometry), blur_px)
    if registration.gap_error is not None:
        geometry["gap_m"] = optics.gap_m * (1 + registration.gap_error)
    colours = [fresnel_psf(picture, wavelength_m=wavelength_m, **geometry) for wavelength_m in settings.wavelengths_m]
    return gaussian_blur(torch.stack(colours, dim=-3) if len(colours) > 1 else colours[0], blur_px)


def reach_px(
    settings: TwinSettings, panel_px: tuple[int, int], *, cell_px: int, registration: Registration, blur_px: Tensor
) -> float:
    """How far registration, blur and diffraction can move light beyond the nominal shadow, in sensor pixels."""
    values = (registration.shift_px, registration.rotation_rad, registration.scale, blur_px)
    shift, rotation, scale, blur = (value.detach().double() for value in values)
    half = max(settings.shadow_shape_px(panel_px, cell_px)) / 2
    turn = abs(math.sin(float(rotation))) + abs(1 - math.cos(float(rotation)))
    growth = float(scale)
    if registration.gap_error is not None:
        lengths = {"gap_m": settings.optics.gap_m, "scene_distance_m": settings.optics.scene_distance_m}
        growth *= float(gap_growth(registration.gap_error.detach().double(), **lengths))
    if registration.tilt_rad is not None:
        slope = float(torch.tan(registration.tilt_rad.detach().double()).abs().sum())
        growth *= 1 + slope * half * settings.sensor.pitch_m / settings.optics.scene_distance_m
    grow = max(0.0, growth - 1)
    return float(shift.abs().max()) + half * (turn + grow) + BLUR_KEPT_SIGMA * float(blur) + _diffraction_px(settings)


def residual_on(psf: Tensor, residual: Tensor) -> Tensor:
    """`residual` (h', w') in the middle of the canvas of `psf` (..., h, w), in shares of the sum of the PSF.

    Raises BadInput unless the canvas is as large, with as many rows and columns more on each side.
    """
    more = [n - m for n, m in zip(psf.shape[-2:], residual.shape, strict=True)]
    if min(more) < 0 or any(each % 2 for each in more):
        raise BadInput(
            f"psf_residual has shape {tuple(residual.shape)}, the PSF {tuple(psf.shape[-2:])}; give one that is no "
            "larger, with as many rows and columns less on each side"
        )
    rows, columns = (each // 2 for each in more)
    return psf.sum(dim=(-2, -1), keepdim=True) * F.pad(residual, (columns, columns, rows, rows))


def _diffraction_px(settings: TwinSettings) -> float:
    optics = settings.optics
    if optics.model == "shadow":
        return 0.0
    reach_m = diffraction_reach_m(
        optics.mask_pitch_m,
        gap_m=optics.gap_m,
        scene_distance_m=optics.scene_distance_m,
        wavelength_m=max(settings.wavelengths_m),
    )
    return reach_m / settings.sensor.pitch_m
