"""A pinhole camera: one round hole, as sharp as the shadow of the hole and its diffraction allow."""

from __future__ import annotations

import math

import torch
from torch import Tensor

from sim.optics.fresnel import effective_gap_m, fresnel_psf
from sim.optics.scalars import Scalar, double, like_inputs
from sim.optics.shadow import Registration

HOLE_PX = 64
"""Pixels across the picture of the hole."""


def pinhole_psf(
    *,
    diameter_m: Scalar,
    sensor_pitch_m: Scalar,
    gap_m: Scalar,
    scene_distance_m: Scalar,
    wavelength_m: Scalar,
    size_px: tuple[int, int],
) -> Tensor:
    """PSF (h, w) = `size_px` in open sensor pixels of a round hole, with diffraction: from shadow to Airy pattern.

    The sum is the light that passes, `pinhole_light_px`, less what falls off the canvas. The hole is drawn in 64x64
    pixels. Raises BadInput as `fresnel_psf` does, with the hole as the cell.
    """
    psf = fresnel_psf(
        _hole(),
        pixel_pitch_m=double(diameter_m) / HOLE_PX,
        sensor_pitch_m=sensor_pitch_m,
        gap_m=gap_m,
        scene_distance_m=scene_distance_m,
        wavelength_m=wavelength_m,
        registration=Registration.nominal(),
        size_px=size_px,
        cell_px=HOLE_PX,
    )
    return like_inputs(psf, diameter_m, sensor_pitch_m, gap_m, scene_distance_m, wavelength_m)


def pinhole_light_px(*, diameter_m: Scalar, sensor_pitch_m: Scalar, gap_m: Scalar, scene_distance_m: Scalar) -> Tensor:
    """() area of the geometric spot of a scene point in sensor pixels: what the hole lets through, as PSFs count it."""
    spot_px = double(diameter_m) * (1 + double(gap_m) / double(scene_distance_m)) / double(sensor_pitch_m)
    return like_inputs(math.pi / 4 * spot_px**2, diameter_m, sensor_pitch_m, gap_m, scene_distance_m)


def pinhole_blur_m(*, diameter_m: Scalar, gap_m: Scalar, scene_distance_m: Scalar, wavelength_m: Scalar) -> Tensor:
    """() width of the spot on the sensor: geometric diameter and Airy diameter, added as squares. An estimate."""
    diameter, gap = double(diameter_m), double(gap_m)
    blur = torch.hypot(diameter * (1 + gap / double(scene_distance_m)), 2.44 * double(wavelength_m) * gap / diameter)
    return like_inputs(blur, diameter_m, gap_m, scene_distance_m, wavelength_m)


def sharpest_pinhole_m(*, gap_m: Scalar, scene_distance_m: Scalar, wavelength_m: Scalar) -> Tensor:
    """() diameter of the sharpest hole, 1.9 sqrt(wavelength z) with z = g d / (g + d). [Rayleigh 1891]"""
    diameter = 1.9 * torch.sqrt(double(wavelength_m) * effective_gap_m(double(gap_m), double(scene_distance_m)))
    return like_inputs(diameter, gap_m, scene_distance_m, wavelength_m)


def _hole() -> Tensor:
    """(64, 64) share of each pixel inside the hole, on a grid 16 times finer; the total is that of the true circle."""
    fine = 16
    axis = (torch.arange(HOLE_PX * fine, dtype=torch.float64) + 0.5) / (HOLE_PX * fine) - 0.5
    inside = (axis[:, None] ** 2 + axis**2 <= 0.25).to(torch.float64)
    return inside.reshape(HOLE_PX, fine, HOLE_PX, fine).mean(dim=(1, 3))
