"""A mask in front of a bare sensor: geometric shadow, blur, and the convolution that makes the image.

The scene is indexed as its image behind a pinhole stands on the sensor, so nothing is flipped here.
All functions are pure, keep the dtype of their input, and let gradients through.
"""

from __future__ import annotations

import math
from dataclasses import dataclass
from typing import Literal

import torch
import torch.nn.functional as F
from scipy.fft import next_fast_len
from torch import Tensor

from labctl.errors import BadInput

Border = Literal["valid", "same", "full"]

CELL_TOLERANCE = 1e-6
"""How far below one sensor pixel a mask cell may be before it counts as too small: rounding only."""

BLUR_REACH_SIGMA = 5.0
"""Half-width of the blur kernel in sigma; beyond it lie 6e-7 of the weight."""


@dataclass(frozen=True)
class Registration:
    """Where the shadow of the mask really falls. All three may carry gradients.

    shift_px: (2,) rows, columns, in sensor pixels. rotation_rad: (), positive from rows to columns.
    scale: (), on top of the magnification of the geometry.
    """

    shift_px: Tensor
    rotation_rad: Tensor
    scale: Tensor

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
    grid = _panel_grid(size_px, sub, pixel_px / repeat, (picture.shape[-2], picture.shape[-1]), registration)
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


def gaussian_blur(image: Tensor, sigma_px: Tensor | float) -> Tensor:
    """Blur (..., h, w) by a Gaussian integrated over pixels; zero outside, so what leaves the canvas is lost.

    sigma_px: () >= 0, in pixels. Sigma 0 returns the image itself; its slope there is 0, as that of the true blur.
    """
    sigma = torch.as_tensor(sigma_px, dtype=image.dtype, device=image.device)
    width = float(sigma.detach())
    if width == 0:
        return image
    if width < 0 or not math.isfinite(width):
        raise BadInput(f"blur sigma is {width} px; a finite value of 0 or more is needed")
    radius = math.ceil(BLUR_REACH_SIGMA * width)
    edges = torch.arange(-radius, radius + 2, dtype=image.dtype, device=image.device) - 0.5
    kernel = torch.erf(edges / (math.sqrt(2) * sigma)).diff()
    kernel = kernel / kernel.sum()
    flat = image.reshape(-1, 1, *image.shape[-2:])
    flat = F.conv2d(flat, kernel.reshape(1, 1, -1, 1), padding=(radius, 0))
    return F.conv2d(flat, kernel.reshape(1, 1, 1, -1), padding=(0, radius)).reshape(image.shape)


def convolve(scene: Tensor, psf: Tensor, border: Border = "valid") -> Tensor:
    """True convolution of (N, 1, H, W) with (1 or N, h, w), without wrap-around; the scene is zero outside.

    valid: (H - h + 1, W - w + 1); same: (H, W), centred as in scipy.signal; full: (H + h - 1, W + w - 1).
    Raises BadInput when a valid result would be empty.
    """
    (rows, columns), (height, width) = scene.shape[-2:], psf.shape[-2:]
    if border == "full":
        return convolve_window(scene, psf, (0, 0), (rows + height - 1, columns + width - 1))
    if border == "same":
        return convolve_window(scene, psf, ((height - 1) // 2, (width - 1) // 2), (rows, columns))
    if height > rows or width > columns:
        raise BadInput(
            f"mask larger than the scene: the mask shadow spans {height}x{width} sensor pixels, the scene "
            f"{rows}x{columns}; use fewer mask cells or a larger scene"
        )
    return convolve_window(scene, psf, (height - 1, width - 1), (rows - height + 1, columns - width + 1))


def convolve_window(scene: Tensor, psf: Tensor, start: tuple[int, int], size: tuple[int, int]) -> Tensor:
    """The window `start`..`start + size` of the full convolution; zero where the window reaches beyond it.

    scene: (N, 1, H, W). psf: (1 or N, h, w). start: (row, column) in the full convolution, may be negative.
    The cost depends on `size` and the PSF, not on the scene: only what reaches the window is transformed.
    """
    (rows, columns), (height, width) = scene.shape[-2:], psf.shape[-2:]
    top, left = height - 1 - start[0], width - 1 - start[1]
    need = (size[0] + height - 1, size[1] + width - 1)
    part = F.pad(scene, (left, need[1] - columns - left, top, need[0] - rows - top))
    fft_size = (next_fast_len(need[0], real=True), next_fast_len(need[1], real=True))
    spectrum = torch.fft.rfft2(part, s=fft_size) * torch.fft.rfft2(psf.unsqueeze(1), s=fft_size)
    image: Tensor = torch.fft.irfft2(spectrum, s=fft_size)
    return image[..., height - 1 : need[0], width - 1 : need[1]]


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


def _sub_samples(pixel_px: float) -> tuple[int, int]:
    """Sub-samples per sensor pixel and repeats per panel pixel that come closest to lining up."""
    first = max(4, math.ceil(1 / pixel_px - 1e-6))
    sub = min(range(first, first + 5), key=lambda s: (round(abs(pixel_px * s - max(1, round(pixel_px * s))), 6), s))
    return sub, max(1, round(pixel_px * sub))


def _panel_grid(
    size_px: tuple[int, int], sub: int, fine_px: float, fine_shape: tuple[int, int], registration: Registration
) -> Tensor:
    """(h sub, w sub, 2) panel position (x, y) of every sub-sample, in the units of `grid_sample`."""
    like = registration.shift_px
    rows, columns = ((torch.arange(n * sub, dtype=like.dtype, device=like.device) + 0.5) / sub - n / 2 for n in size_px)
    y = (rows - registration.shift_px[0])[:, None]
    x = (columns - registration.shift_px[1])[None, :]
    cos, sin = torch.cos(registration.rotation_rad), torch.sin(registration.rotation_rad)
    fine = fine_px * registration.scale
    panel_y, panel_x = (cos * y + sin * x) / fine, (cos * x - sin * y) / fine
    return torch.stack((panel_x * (2 / fine_shape[1]), panel_y * (2 / fine_shape[0])), dim=-1)
