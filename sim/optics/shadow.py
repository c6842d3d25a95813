"""The geometric shadow of a mask in front of a bare sensor, and where it really falls."""

from __future__ import annotations

import math
from dataclasses import dataclass

import torch
import torch.nn.functional as F
from torch import Tensor

from labctl.errors import BadInput

CELL_TOLERANCE = 1e-6
"""How far below one sensor pixel a mask cell may be before it counts as too small: rounding only."""


@dataclass(frozen=True)
class Registration:
    """Where the shadow of the mask really falls. All of it may carry gradients.

    shift_px: (2,) rows, columns, in sensor pixels. rotation_rad: (), positive from rows to columns.
    scale: (), on top of the magnification of the geometry.
    tilt_rad: (2,) of the mask plane: from its middle, the gap grows by tan(tilt) along rows and along columns of the
    mask. None is a mask that stands parallel to the sensor.
    gap_error: () relative error of the gap, which magnifies the shadow. None is no error.
    """

    shift_px: Tensor
    rotation_rad: Tensor
    scale: Tensor
    tilt_rad: Tensor | None = None
    gap_error: Tensor | None = None

    @staticmethod
    def nominal(dtype: torch.dtype = torch.float64) -> Registration:
        """No shift, no rotation, scale one."""
        return Registration(torch.zeros(2, dtype=dtype), torch.zeros((), dtype=dtype), torch.ones((), dtype=dtype))


def shadow_psf(
    transmittance: Tensor,
    *,
    pixel_pitch_m: float,
    sensor_pitch_m: float,
    gap_m: float,
    scene_distance_m: float,
    registration: Registration,
    size_px: tuple[int, int],
    cell_px: int = 1,
) -> Tensor:
    """Geometric shadow that a point at `scene_distance_m` casts through a panel picture.

    transmittance: (Hp, Wp) or (N, Hp, Wp), 0..1, one value per panel pixel; closed outside (a field stop of its size).
    cell_px: panel pixels along one mask cell, for the check below.
    Returns (h, w) = `size_px`, or (N, h, w): open share of every sensor pixel, so the sum is the open area in sensor
    pixels. Exact where panel pixels line up with sub-samples, else interpolated over a quarter sensor pixel or less.
    Raises BadInput when one mask cell spans less than one sensor pixel: the shadow would alias.
    Valid while gap_m * wavelength << mask pitch squared; beyond that diffraction spreads the shadow.
    """
    pixel_px = projected_px(pixel_pitch_m, sensor_pitch_m, gap_m, scene_distance_m)
    check_cell(pixel_px * cell_px)
    sub, repeat = _sub_samples(pixel_px)
    picture = transmittance.reshape(-1, 1, *transmittance.shape[-2:])
    if repeat > 1:
        picture = picture.repeat_interleave(repeat, dim=-2).repeat_interleave(repeat, dim=-1)
    geometry = Geometry(sensor_pitch_m, gap_m, scene_distance_m)
    fine_shape = (picture.shape[-2], picture.shape[-1])
    grid = _panel_grid(size_px, sub, pixel_px / repeat, fine_shape, registration, geometry)
    grid = grid.to(picture.dtype).expand(picture.shape[0], *grid.shape)
    fine = F.grid_sample(picture, grid, mode="bilinear", padding_mode="zeros", align_corners=False)
    return F.avg_pool2d(fine, sub).reshape(*transmittance.shape[:-2], *size_px)


def projected_px(pitch_m: float, sensor_pitch_m: float, gap_m: float, scene_distance_m: float) -> float:
    """Sensor pixels that the shadow of a length `pitch_m` on the mask spans."""
    return pitch_m * (1 + gap_m / scene_distance_m) / sensor_pitch_m


def check_cell(cell_on_sensor_px: float) -> None:
    """Raises BadInput when a mask cell spans less than one sensor pixel."""
    if cell_on_sensor_px < 1 - CELL_TOLERANCE:
        raise BadInput(
            f"a mask cell spans {cell_on_sensor_px:.3f} sensor pixels; at least 1 is needed: "
            "use a wider mask pitch or a finer sensor"
        )


def gap_growth(gap_error: Tensor, *, gap_m: float, scene_distance_m: float) -> Tensor:
    """() by how much a wrong gap magnifies the shadow: 1 where `gap_error` is 0."""
    return (1 + gap_m * (1 + gap_error) / scene_distance_m) / (1 + gap_m / scene_distance_m)


@dataclass(frozen=True)
class Geometry:
    """Nominal lengths in metres."""

    sensor_pitch_m: float
    gap_m: float
    scene_distance_m: float


def _sub_samples(pixel_px: float) -> tuple[int, int]:
    """Sub-samples per sensor pixel and repeats per panel pixel that come closest to lining up."""
    first = max(4, math.ceil(1 / pixel_px - 1e-6))
    sub = min(range(first, first + 5), key=lambda s: (round(abs(pixel_px * s - max(1, round(pixel_px * s))), 6), s))
    return sub, max(1, round(pixel_px * sub))


def _panel_grid(
    size_px: tuple[int, int],
    sub: int,
    fine_px: float,
    fine_shape: tuple[int, int],
    registration: Registration,
    geometry: Geometry,
) -> Tensor:
    """(h sub, w sub, 2) panel position (x, y) of every sub-sample, in the units of `grid_sample`."""
    like = registration.shift_px
    rows, columns = ((torch.arange(n * sub, dtype=like.dtype, device=like.device) + 0.5) / sub - n / 2 for n in size_px)
    y = (rows - registration.shift_px[0])[:, None]
    x = (columns - registration.shift_px[1])[None, :]
    cos, sin = torch.cos(registration.rotation_rad), torch.sin(registration.rotation_rad)
    fine = fine_px * registration.scale
    if registration.gap_error is not None:
        lengths = {"gap_m": geometry.gap_m, "scene_distance_m": geometry.scene_distance_m}
        fine = fine * gap_growth(registration.gap_error, **lengths)
    panel_y, panel_x = (cos * y + sin * x) / fine, (cos * x - sin * y) / fine
    if registration.tilt_rad is not None:
        panel_y, panel_x = _on_tilted(panel_y, panel_x, registration.tilt_rad, fine_px, geometry)
    return torch.stack((panel_x * (2 / fine_shape[1]), panel_y * (2 / fine_shape[0])), dim=-1)


def _on_tilted(y: Tensor, x: Tensor, tilt_rad: Tensor, fine_px: float, geometry: Geometry) -> tuple[Tensor, Tensor]:
    """Where the rays that would cross a parallel mask at (y, x), in fine pixels, cross the tilted one.

    A ray from the point above the middle meets the plane z = gap + u tan(tilt) at u = y / (cos(tilt) (1 + q)), with
    q = (y tan + x tan) / scene distance: a homography.
    """
    fine_m = fine_px * geometry.sensor_pitch_m / (1 + geometry.gap_m / geometry.scene_distance_m)
    tangent, cosine = torch.tan(tilt_rad), torch.cos(tilt_rad)
    nearer = 1 + (y * tangent[0] + x * tangent[1]) * (fine_m / geometry.scene_distance_m)
    return y / (cosine[0] * nearer), x / (cosine[1] * nearer)
