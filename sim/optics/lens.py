"""A lens in front of the sensor: where it is sharp, how it blurs what is not, and what a mask in its pupil does.

Defocus takes detail away before the sensor sees it: privacy by optics alone. [Pittaluga and Koppal 2015]
"""

from __future__ import annotations

import math
from typing import Any

import torch
from torch import Tensor

from labctl.errors import BadInput
from sim.optics.scalars import Scalar, double, like_inputs, number
from sim.optics.shadow import Registration, shadow_psf

MAX_GRID = 4096
"""Samples along one side of the canvas, at most."""


def image_distance_m(focal_length_m: Scalar, object_distance_m: Scalar) -> Tensor:
    """Distance behind a thin lens at which an object is sharp, 1 / (1 / f - 1 / d). Raises BadInput for d <= f."""
    focal, distance = double(focal_length_m), double(object_distance_m)
    if number(distance) <= number(focal):
        raise BadInput(
            f"an object {number(distance):.3g} m from a lens of {number(focal):.3g} m focal length has no real image; "
            "move it further away than the focal length"
        )
    return like_inputs(1 / (1 / focal - 1 / distance), focal_length_m, object_distance_m)


def blur_circle_m(
    *, focal_length_m: Scalar, f_number: Scalar, focus_distance_m: Scalar, scene_distance_m: Scalar
) -> Tensor:
    """Diameter on the sensor of the blur of a point at `scene_distance_m`, with the lens focused elsewhere.

    f_number: focal length / aperture. Geometric: the aperture times |1 - sensor distance / image distance|.
    """
    aperture = double(focal_length_m) / double(f_number)
    blur = aperture * _pupil_scale(focal_length_m, focus_distance_m, scene_distance_m).abs()
    return like_inputs(blur, focal_length_m, f_number, focus_distance_m, scene_distance_m)


def lens_psf(
    *,
    f_number: Scalar,
    wavelength_m: Scalar,
    sensor_pitch_m: Scalar,
    size_px: tuple[int, int],
    blur_m: Scalar = 0.0,
) -> Tensor:
    """PSF (h, w) = `size_px` of a round lens, integrated over sensor pixels; the sum is 1.

    f_number: working, sensor distance / aperture. blur_m: diameter of `blur_circle_m`; 0 is a plain lens in focus.
    The Airy pattern convolved with an even disc. Exact in focus; defocused it holds while the disc is much wider than
    the Airy disc, 2.44 wavelength f_number: near that, true defocus interferes. [Goodman, 6.4]
    Computed over the whole band of the lens, so nothing is aliased; what falls off the canvas comes back on its other
    side. Raises BadInput when the disc exceeds the canvas, or a pixel is too coarse for the band.
    """
    pitch = double(sensor_pitch_m)
    band_px, disc_px = double(wavelength_m) * double(f_number) / pitch, double(blur_m) / pitch
    if number(disc_px) > min(size_px):
        raise BadInput(
            f"the blur disc spans {number(disc_px):.3g} sensor pixels, the canvas {size_px[0]}x{size_px[1]}; "
            "use a larger canvas or less defocus"
        )
    orders = max(1, math.ceil(2 / number(band_px)))
    if orders * max(size_px) > MAX_GRID:
        raise BadInput(
            f"the Airy disc spans {2.44 * number(band_px):.3g} sensor pixels and needs a grid of "
            f"{orders * max(size_px)} on a canvas of {size_px[0]}x{size_px[1]}, more than {MAX_GRID}; "
            "use a smaller canvas, or a finer sensor binned afterwards"
        )
    # Frequencies in cycles per sensor pixel, over all orders that fold onto one of the canvas.
    y, x = (torch.fft.fftfreq(n * orders, d=1 / orders, dtype=torch.float64) for n in size_px)
    radius = torch.hypot(y[:, None], x)
    transfer = _diffraction_transfer(radius * band_px) * jinc(math.pi * radius * disc_px)
    pixel = torch.outer(
        *(torch.special.sinc(f) * torch.exp(-1j * math.pi * f * (len(f) // orders - 1)) for f in (y, x))
    )
    folded = (transfer * pixel).reshape(orders, size_px[0], orders, size_px[1]).sum(dim=(0, 2))
    return like_inputs(torch.fft.ifft2(folded).real, f_number, wavelength_m, sensor_pitch_m, blur_m)


def coded_lens_psf(
    transmittance: Tensor,
    *,
    pixel_pitch_m: float,
    sensor_pitch_m: float,
    focal_length_m: Scalar,
    focus_distance_m: Scalar,
    scene_distance_m: Scalar,
    wavelength_m: float,
    size_px: tuple[int, int],
    cell_px: int = 1,
) -> Tensor:
    """PSF (h, w) or (N, h, w) of a defocused lens with a mask in its pupil: the mask as its own blur disc.

    transmittance: (Hp, Wp) or (N, Hp, Wp), 0..1, in pixels of `pixel_pitch_m`; all of the pupil. It stands upright for
    a scene nearer than the focus and upside down beyond. The sum is the open share of the picture.
    Geometric, so one cell of `cell_px` pixels must not diffract further than it is wide on the sensor: raises BadInput
    when cell^2 |1 - sensor distance / image distance| < wavelength sensor distance, or a cell's blur is below a pixel.
    """
    sensor_m = image_distance_m(focal_length_m, focus_distance_m)
    scale = _pupil_scale(focal_length_m, focus_distance_m, scene_distance_m)
    blur_m, cell_m = abs(number(scale)) * pixel_pitch_m, pixel_pitch_m * cell_px
    fresnel = cell_m * blur_m * cell_px / (wavelength_m * number(sensor_m))
    if fresnel < 1:
        raise BadInput(
            f"diffraction: pupil cells of {cell_m:.3g} m have the Fresnel number {fresnel:.3g} on the sensor, below 1; "
            "use wider cells or more defocus"
        )
    picture = transmittance if number(scale) > 0 else transmittance.flip(-2, -1)
    nominal = Registration.nominal()
    shadow = shadow_psf(
        picture,
        pixel_pitch_m=blur_m,
        sensor_pitch_m=sensor_pitch_m,
        gap_m=0.0,
        scene_distance_m=math.inf,
        registration=Registration(nominal.shift_px, nominal.rotation_rad, scale / scale.detach()),
        size_px=size_px,
        cell_px=cell_px,
    )
    area_px = picture.shape[-2] * picture.shape[-1] * (scale.abs() * pixel_pitch_m / sensor_pitch_m) ** 2
    return shadow / area_px.to(shadow)


def jinc(x: Tensor) -> Tensor:
    """2 J1(x) / x, 1 at 0; any shape. The transform of an even disc, and the amplitude of an Airy pattern."""
    value: Tensor = _Jinc.apply(x)
    return value


class _Jinc(torch.autograd.Function):
    @staticmethod
    def forward(ctx: Any, x: Tensor) -> Tensor:
        ctx.save_for_backward(x)
        return torch.where(x.abs() < 1e-2, 1 - x**2 / 8, 2 * torch.special.bessel_j1(x) / torch.where(x == 0, 1.0, x))

    @staticmethod
    @torch.autograd.function.once_differentiable
    def backward(ctx: Any, slope: Tensor) -> Tensor:
        (x,) = ctx.saved_tensors
        far = torch.where(x == 0, 1.0, x)
        second = 2 * torch.special.bessel_j1(x) / far - torch.special.bessel_j0(x)
        return slope * torch.where(x.abs() < 1e-2, -x / 4, -2 * second / far)


def _diffraction_transfer(share_of_band: Tensor) -> Tensor:
    """Transfer function of a round aperture without aberration; 0 beyond the band."""
    # Just inside the end of the band, where the slopes of the two terms are still finite and cancel.
    nu = share_of_band.clamp(max=1 - 1e-12)
    return 2 / math.pi * (torch.acos(nu) - nu * torch.sqrt(1 - nu**2)) * (share_of_band < 1)


def _pupil_scale(focal_length_m: Scalar, focus_distance_m: Scalar, scene_distance_m: Scalar) -> Tensor:
    """Size of the blur relative to the pupil; positive for a scene nearer than the focus."""
    focal = double(focal_length_m)
    return 1 - image_distance_m(focal, double(focus_distance_m)) / image_distance_m(focal, double(scene_distance_m))
