"""Diffraction behind an amplitude mask, in the Fresnel approximation: where the geometric shadow no longer holds.

A point at distance d lights a mask whose sensor stands a gap g behind it. What arrives is what a plane wave would make
at the distance z = g d / (g + d), magnified by M = 1 + g / d. A mask is made of rectangles, and the wave behind a
rectangle is a product of two Fresnel integrals. So the field is exact within the approximation: a panel picture between
two matrices, with nothing to sample in the mask plane and nothing that wraps round.
[Goodman, Introduction to Fourier Optics, 4.2 and 4.5]
"""

from __future__ import annotations

import math
from typing import Any

import numpy as np
import torch
import torch.nn.functional as F
from scipy.special import fresnel
from torch import Tensor

from labctl.errors import BadInput
from sim.optics.scalars import Scalar, double, like_inputs, number
from sim.optics.shadow import Registration

PARAXIAL_LIMIT_RAD = 0.1
"""Largest phase that the Fresnel approximation may drop."""

RIM_LIMIT = 0.25
"""Largest tangent under which a scene point may see the rim of the mask."""

SAMPLES_PER_FRINGE = 8.0
"""Intensity samples per sqrt(wavelength z), at least; and never below 4 per sensor pixel."""

MAX_SAMPLES = 64
"""Intensity samples along one sensor pixel, at most."""

DARK_SLOPE = 1 / 255
"""Transmittance below which the slope of its square root, infinite at 0, grows no further."""


def fresnel_psf(
    transmittance: Tensor,
    *,
    pixel_pitch_m: Scalar,
    sensor_pitch_m: Scalar,
    gap_m: Scalar,
    scene_distance_m: Scalar,
    wavelength_m: Scalar,
    registration: Registration,
    size_px: tuple[int, int],
    cell_px: int = 1,
    field_tan: tuple[Scalar, Scalar] = (0.0, 0.0),
) -> Tensor:
    """Light that a point at `scene_distance_m` sends through a panel picture, with diffraction.

    Stands for `shadow_psf`: same picture, same registration, same (h, w) or (N, h, w) in open sensor pixels. The sum is
    the open area, less what is diffracted off the canvas (see `diffraction_reach_m`).
    transmittance: of intensity, 0..1; the amplitude is its square root, the phase is flat.
    field_tan: tangents (rows, columns) of the angle of the point. It stretches the way of the light; the shift of the
    shadow is left to the convolution. Exact along an axis; off both, the mixed term is dropped.
    cell_px: panel pixels along one mask cell, for `check_fresnel`. Raises BadInput outside the range given there.

    Within 1 % of its light in L1 and 0.02 of an open pixel of the integral over the pixel, mostly in fringes finer than
    a sample, which the width of the scene pixel and of the spectrum would wash out.

    By this share of the light (L1) the geometric shadow is off, by the Fresnel number of a cell (measured, 32x32 cells,
    one sensor pixel per cell); for cells at random it is 0.5 / sqrt(Fresnel number) down to 1:

        Fresnel number       64    16     8     4     2     1   0.5
        half open, random  0.06  0.13  0.18  0.26  0.38  0.51  0.92
        disc of 11 cells   0.01  0.03  0.04  0.06  0.09  0.12  0.24
        a single cell      0.14  0.23  0.33  0.48  0.69  0.91  1.57
    """
    pitch, sensor, gap, distance, wavelength = (
        double(value) for value in (pixel_pitch_m, sensor_pitch_m, gap_m, scene_distance_m, wavelength_m)
    )
    rows, columns = transmittance.shape[-2:]
    z = effective_gap_m(gap, distance)
    check_fresnel(
        cell_pitch_m=number(pitch) * cell_px,
        aperture_m=(rows * number(pitch), columns * number(pitch)),
        sensor_pitch_m=number(sensor),
        gap_m=number(gap),
        scene_distance_m=number(distance),
        wavelength_m=number(wavelength),
    )
    sub = _samples_per_pixel(number(sensor), number(gap), number(distance), number(wavelength))
    pixel = sensor / ((1 + gap / distance) * double(registration.scale))
    shift = double(registration.shift_px)
    tan_y, tan_x = (double(value) for value in field_tan)
    square = 1 + tan_y**2 + tan_x**2
    waves = [
        rectangle_waves(
            (_middles(size, sub) - shift[axis]) * pixel,
            pitch_m=pitch,
            count=count,
            distance_m=z * torch.sqrt(square) * square / (square - tan**2),
            wavelength_m=wavelength,
        ).to(device=transmittance.device, dtype=_complex_of(transmittance.dtype))
        for axis, (size, count, tan) in enumerate(zip(size_px, (rows, columns), (tan_y, tan_x), strict=True))
    ]
    field = waves[0] @ _amplitude(transmittance).to(waves[0].dtype) @ waves[1].T
    intensity = (field.real**2 + field.imag**2).reshape(-1, 1, *field.shape[-2:])
    turned = _turned(intensity, registration, size_px, sub)
    return F.avg_pool2d(turned, sub).reshape(*transmittance.shape[:-2], *size_px)


def rectangle_waves(
    position_m: Tensor, *, pitch_m: Scalar, count: int, distance_m: Scalar, wavelength_m: Scalar
) -> Tensor:
    """(len(position_m), count) complex amplitude behind each of `count` adjoining slits of width `pitch_m`.

    position_m: (n,) from the middle of the row of slits, in a plane `distance_m` behind it. A plane wave of amplitude 1
    comes in, constant phases are left out. The waves of all slits of an endless row sum to 1 in magnitude.
    """
    edge = (torch.arange(count + 1, dtype=torch.float64) - count / 2) * double(pitch_m)
    v = (double(position_m)[:, None] - edge) * torch.sqrt(2 / (double(wavelength_m) * double(distance_m)))
    integral = fresnel_integral(v)
    return (integral[:, :-1] - integral[:, 1:]) / math.sqrt(2)


def fresnel_integral(v: Tensor) -> Tensor:
    """C(v) + i S(v), the integral of exp(i pi t^2 / 2) from 0 to v; float64, any shape, differentiable twice."""
    integral: Tensor = _FresnelIntegral.apply(v)
    return integral


def effective_gap_m(gap_m: Scalar, scene_distance_m: Scalar) -> Tensor:
    """Distance z = g d / (g + d) after which a plane wave makes the same pattern, in the scale of the mask."""
    gap, distance = double(gap_m), double(scene_distance_m)
    return like_inputs(gap * distance / (gap + distance), gap_m, scene_distance_m)


def fresnel_number(pitch_m: Scalar, *, gap_m: Scalar, scene_distance_m: Scalar, wavelength_m: Scalar) -> Tensor:
    """pitch^2 / (wavelength z) of one mask cell: far above 1 the shadow is geometric, far below it is a far field."""
    cells = double(pitch_m) ** 2 / (double(wavelength_m) * effective_gap_m(double(gap_m), double(scene_distance_m)))
    return like_inputs(cells, pitch_m, gap_m, scene_distance_m, wavelength_m)


def diffraction_reach_m(pitch_m: float, *, gap_m: float, scene_distance_m: float, wavelength_m: float) -> float:
    """How far beyond the shadow of one open cell, on the sensor, 1 % of its light is sent along one axis.

    From the far tail of a slit, where sin^2 has the mean 1/2: the share beyond x is wavelength z / (pi^2 pitch x).
    """
    z = number(effective_gap_m(gap_m, scene_distance_m))
    return (1 + gap_m / scene_distance_m) * wavelength_m * z / (math.pi**2 * pitch_m * 0.01)


def check_fresnel(
    *,
    cell_pitch_m: float,
    aperture_m: tuple[float, float],
    sensor_pitch_m: float,
    gap_m: float,
    scene_distance_m: float,
    wavelength_m: float,
) -> None:
    """Raises BadInput where `fresnel_psf` does not hold, or where it would be needlessly costly.

    Paraxial: the dropped phase pi r^4 / (4 wavelength z^3) must stay below 0.1 rad [Goodman 4.2.2]. r is how far a cell
    diffracts, wavelength z / pitch: light from further away cancels, so the rest of the mask does not count. And the
    rim of the mask must be seen under a tangent of at most 0.25, for the same fringes all over the shadow.
    """
    z = number(effective_gap_m(gap_m, scene_distance_m))
    phase = math.pi / 4 * wavelength_m**3 * z / cell_pitch_m**4
    if phase > PARAXIAL_LIMIT_RAD:
        raise BadInput(
            f"not paraxial: mask cells of {cell_pitch_m:.3g} m diffract so far over {z:.3g} m that the Fresnel "
            f"approximation drops {phase:.3g} rad, more than {PARAXIAL_LIMIT_RAD:g}; "
            "use a wider mask pitch or a smaller gap"
        )
    rim = math.hypot(*aperture_m) / 2 / scene_distance_m
    if rim > RIM_LIMIT:
        raise BadInput(
            f"not paraxial: a scene point {scene_distance_m:.3g} m away sees the rim of the mask under a tangent of "
            f"{rim:.3g}, more than {RIM_LIMIT:g}; use a smaller mask or a larger scene distance"
        )
    samples = _samples_per_pixel(sensor_pitch_m, gap_m, scene_distance_m, wavelength_m)
    if samples > MAX_SAMPLES:
        raise BadInput(
            f"a sensor pixel of {sensor_pitch_m:.3g} m needs {samples} samples for fringes of "
            f"{math.sqrt(wavelength_m * z):.3g} m, more than {MAX_SAMPLES}: diffraction hardly shows; "
            "use the geometric shadow (optics.model: shadow)"
        )


class _FresnelIntegral(torch.autograd.Function):
    @staticmethod
    def forward(ctx: Any, v: Tensor) -> Tensor:
        ctx.save_for_backward(v)
        sine, cosine = fresnel(v.detach().cpu().numpy().astype(np.float64))
        return torch.from_numpy(cosine + 1j * sine).to(v.device)

    @staticmethod
    def backward(ctx: Any, slope: Tensor) -> Tensor:
        (v,) = ctx.saved_tensors
        phase = math.pi / 2 * v**2
        return slope.real * torch.cos(phase) + slope.imag * torch.sin(phase)


def _amplitude(transmittance: Tensor) -> Tensor:
    """Square root, with a slope that stays finite in the dark."""
    root = transmittance.detach().clamp(min=0).sqrt()
    if not transmittance.requires_grad:
        return root
    slope = 0.5 / transmittance.detach().clamp(min=DARK_SLOPE).sqrt()
    return root + (transmittance - transmittance.detach()) * slope


def _turned(intensity: Tensor, registration: Registration, size_px: tuple[int, int], sub: int) -> Tensor:
    """`intensity` (N, 1, h sub, w sub), which is upright, turned about the middle of the shadow."""
    if number(registration.rotation_rad) == 0 and not registration.rotation_rad.requires_grad:
        return intensity  # exact, and half of the cost
    shift, angle = double(registration.shift_px), double(registration.rotation_rad)
    y = (_middles(size_px[0], sub) - shift[0])[:, None]
    x = (_middles(size_px[1], sub) - shift[1])[None, :]
    cos, sin = torch.cos(angle), torch.sin(angle)
    upright_y, upright_x = cos * y + sin * x + shift[0], cos * x - sin * y + shift[1]
    grid = torch.stack((upright_x * (2 / size_px[1]), upright_y * (2 / size_px[0])), dim=-1)
    grid = grid.to(dtype=intensity.dtype, device=intensity.device).expand(intensity.shape[0], *grid.shape)
    return F.grid_sample(intensity, grid, mode="bilinear", padding_mode="zeros", align_corners=False)


def _middles(size: int, sub: int) -> Tensor:
    """(size sub,) middles of the samples of `size` sensor pixels, from the middle of the canvas, in sensor pixels."""
    return (torch.arange(size * sub, dtype=torch.float64) + 0.5) / sub - size / 2


def _samples_per_pixel(sensor_pitch_m: float, gap_m: float, scene_distance_m: float, wavelength_m: float) -> int:
    fringe_m = math.sqrt(wavelength_m * number(effective_gap_m(gap_m, scene_distance_m)))
    return max(4, math.ceil(SAMPLES_PER_FRINGE * sensor_pitch_m / (1 + gap_m / scene_distance_m) / fringe_m))


def _complex_of(dtype: torch.dtype) -> torch.dtype:
    return torch.complex128 if dtype == torch.float64 else torch.complex64
