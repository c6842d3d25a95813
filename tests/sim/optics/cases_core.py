"""The lensless optics, the separable camera, panel and monitor, each at one generic point."""

from __future__ import annotations

from collections.abc import Callable
from functools import partial

import torch
from torch import Tensor

from sim.monitor import monitor_radiance, scene_pixels
from sim.optics.blur import gaussian_blur
from sim.optics.convolution import Border, convolve, convolve_window
from sim.optics.magnify import growth_slope, magnified
from sim.optics.scene_grid import scene_on_sensor
from sim.optics.separable import (
    circulant_matrix,
    maximum_length_sequence,
    measure_separable,
    remove_row_column_means,
    separable_mask,
    tikhonov,
    toeplitz_matrix,
)
from sim.optics.shadow import Registration, shadow_psf
from sim.panel import panel_transmittance
from tests.sim.optics.contract import DOUBLE, OpticCase, random

GEOMETRY = {"pixel_pitch_m": 50e-6, "sensor_pitch_m": 208e-6, "gap_m": 10e-3, "scene_distance_m": 0.25, "cell_px": 4}


def value(*numbers: float) -> Tensor:
    return torch.tensor(numbers if len(numbers) > 1 else numbers[0], dtype=DOUBLE)


def shadow(transmittance: Tensor, shift_px: Tensor, rotation_rad: Tensor, scale: Tensor) -> Tensor:
    registration = Registration(shift_px, rotation_rad, scale)
    return shadow_psf(transmittance, registration=registration, size_px=(8, 7), **GEOMETRY)


def shadow_point() -> dict[str, Tensor]:
    return {
        "transmittance": random(12, 9),
        "shift_px": value(0.313, -0.471),
        "rotation_rad": value(0.0217),
        "scale": value(1.0173),
    }


def shadow_energy() -> tuple[float, float]:
    """The open area in sensor pixels, scale and magnification included; shifts move light, they lose none."""
    picture = random(16, 12)
    still = {"rotation_rad": value(0.0), "scale": value(1.0)}
    moved = shadow_psf(picture, registration=Registration(value(1.25, -0.5), **still), size_px=(12, 12), **GEOMETRY)
    return float(moved.sum()), float(picture.sum()) / 16


def shadow_of_a_wrong_gap(transmittance: Tensor, gap_error: Tensor, tilt_rad: Tensor) -> Tensor:
    still = {"shift_px": value(0.0, 0.0).to(transmittance), "rotation_rad": value(0.0).to(transmittance)}
    registration = Registration(**still, scale=value(1.0).to(transmittance), gap_error=gap_error, tilt_rad=tilt_rad)
    return shadow_psf(transmittance, registration=registration, size_px=(8, 7), **GEOMETRY)


def magnified_energy() -> tuple[float, float]:
    """Every point keeps its light where there is room for it."""
    scene = random(2, 9, 7)
    return float(magnified(scene, value(1.0413), 3).sum()), float(scene.sum())


def pair(scene: tuple[int, ...], psf: tuple[int, ...]) -> Callable[[], dict[str, Tensor]]:
    return lambda: {"scene": random(*scene, seed=1), "psf": random(*psf, seed=2)}


def convolution(name: str, border: Border, scene: tuple[int, ...], psf: tuple[int, ...], linear_in: str) -> OpticCase:
    return OpticCase(f"convolve {name}", partial(convolve, border=border), pair(scene, psf), linear_in)


def full_energy() -> tuple[float, float]:
    """Every scene pixel sends the light of one whole PSF."""
    scene, psf = random(2, 3, 9, 8, seed=1), random(2, 1, 5, 6, seed=2)
    expected = (scene.sum((-2, -1)) * psf.sum((-2, -1))).sum()
    return float(convolve(scene, psf, "full").sum()), float(expected)


def blur_energy() -> tuple[float, float]:
    picture = torch.zeros(31, 33, dtype=DOUBLE)
    picture[13:18, 12:19] = random(5, 7)
    return float(gaussian_blur(picture, 1.7).sum()), float(picture.sum())


def grid_energy() -> tuple[float, float]:
    scene = random(2, 1, 9, 11)
    return float(scene_on_sensor(scene, 0.83).sum()), float(scene.sum()) * 0.83**2


def blurred(image: Tensor, sigma_px: Tensor) -> Tensor:
    return gaussian_blur(image, sigma_px)


def separable_adjoint(frames: Tensor, left: Tensor, right: Tensor) -> Tensor:
    return measure_separable(frames, left.mT, right.mT)


def mls_camera(scene: Tensor) -> Tensor:
    code = maximum_length_sequence(3, dtype=scene.dtype)
    return measure_separable(scene, circulant_matrix(code, scene.shape[-2]), circulant_matrix(code, scene.shape[-1]))


def panel_energy() -> tuple[float, float]:
    """Neighbours exchange light, the panel as a whole keeps it."""
    levels = random(6, 7)
    shared, alone = (panel_transmittance(levels, gamma=2.2, contrast=300.0, crosstalk=c) for c in (0.2, 0.0))
    return float(shared.sum()), float(alone.sum())


CASES = [
    OpticCase("shadow", shadow, shadow_point, "transmittance", energy=shadow_energy, is_psf=True),
    OpticCase(
        "shadow of a wrong gap",
        shadow_of_a_wrong_gap,
        lambda: {"transmittance": random(12, 9), "gap_error": value(0.0371), "tilt_rad": value(0.0213, -0.0311)},
        "transmittance",
        is_psf=True,
    ),
    OpticCase(
        "magnified scene",
        partial(magnified, room_px=2),
        lambda: {"scene": random(2, 7, 6), "growth": value(1.0413)},
        "scene",
        energy=magnified_energy,
    ),
    OpticCase(
        "slope of a magnified scene",
        partial(growth_slope, room_px=2),
        lambda: {"scene": random(2, 7, 6), "growth": value(1.0413)},
        "scene",
    ),
    OpticCase(
        "blur",
        blurred,
        lambda: {"image": random(2, 7, 9), "sigma_px": value(0.63)},
        "image",
        energy=blur_energy,
        is_psf=True,
    ),
    convolution("valid, shared psf", "valid", (2, 1, 6, 7), (1, 3, 2), "scene"),
    convolution("same, one psf each", "same", (2, 1, 6, 5), (2, 4, 3), "scene"),
    OpticCase(
        "convolve full, grey psf on colour",
        partial(convolve, border="full"),
        pair((2, 3, 4, 5), (2, 1, 3, 2)),
        "psf",
        energy=full_energy,
    ),
    convolution("valid, colour psf shared", "valid", (2, 3, 5, 4), (1, 3, 2, 3), "psf"),
    convolution("same, colour psf each, by Fourier", "same", (2, 2, 3, 14), (2, 2, 2, 14), "scene"),
    convolution("valid, by Fourier", "valid", (2, 1, 3, 16), (1, 2, 15), "psf"),
    OpticCase(
        "window beyond the image",
        partial(convolve_window, start=(-2, 3), size=(9, 4)),
        pair((2, 1, 4, 5), (1, 3, 2)),
        "scene",
    ),
    OpticCase(
        "scene on sensor",
        partial(scene_on_sensor, scale=0.83),
        lambda: {"scene": random(2, 1, 5, 6)},
        "scene",
        energy=grid_energy,
    ),
    OpticCase("separable mask", separable_mask, lambda: {"rows": random(5), "columns": random(4, seed=1)}),
    OpticCase(
        "Toeplitz matrix", partial(toeplitz_matrix, scene_px=6, start=2, size=5), lambda: {"code": random(4)}, "code"
    ),
    OpticCase("circulant matrix", partial(circulant_matrix, scene_px=4), lambda: {"code": random(5)}, "code"),
    OpticCase("maximum-length camera", mls_camera, lambda: {"scene": random(1, 1, 7, 5)}, "scene"),
    OpticCase(
        "separable camera",
        measure_separable,
        lambda: {"scene": random(2, 3, 4, 5), "left": random(6, 4, seed=1), "right": random(3, 5, seed=2)},
        "scene",
        adjoint=separable_adjoint,
    ),
    OpticCase(
        "row and column means",
        remove_row_column_means,
        lambda: {"frames": random(2, 1, 4, 5)},
        "frames",
        adjoint=remove_row_column_means,
    ),
    OpticCase(
        "Tikhonov",
        tikhonov,
        lambda: {
            "frames": random(2, 1, 4, 6),
            "left": random(4, 5, seed=1),
            "right": random(6, 3, seed=2),
            "weight": value(0.03),
        },
        "frames",
        float32_rel=1e-4,
    ),
    OpticCase(
        "panel",
        panel_transmittance,
        lambda: {"share": random(5, 4), "gamma": value(2.2), "contrast": value(300.0), "crosstalk": value(0.13)},
        energy=panel_energy,
        is_psf=True,
    ),
    OpticCase(
        "panel by table",
        partial(panel_transmittance, gamma=1.0, contrast=300.0),
        lambda: {"share": random(5, 4), "lut": value(0.0, 0.11, 0.47, 1.0)},
    ),
    OpticCase(
        "monitor",
        partial(monitor_radiance, gamma=2.2, contrast=1000.0),
        lambda: {"levels": 255 * random(3, 4)},
        is_psf=True,
    ),
    OpticCase("scene pixels", partial(scene_pixels, pixel_px=2), lambda: {"radiance": random(2, 1, 6, 4)}, "radiance"),
]
