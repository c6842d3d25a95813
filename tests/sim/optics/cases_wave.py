"""Diffraction, lens, pinhole, field, depth and colour, each at one generic point."""

from __future__ import annotations

from functools import partial

import torch
from torch import Tensor

from sim.optics.colour import bayer_planes, mosaic, mosaic_adjoint
from sim.optics.convolution import Border
from sim.optics.depth import convolve_depths, depth_psfs, visible_layers
from sim.optics.field import convolve_field, cos4_fall_off, field_weights
from sim.optics.fresnel import fresnel_number, fresnel_psf
from sim.optics.lens import blur_circle_m, coded_lens_psf, image_distance_m, jinc, lens_psf
from sim.optics.pinhole import pinhole_blur_m, pinhole_light_px, pinhole_psf, sharpest_pinhole_m
from sim.optics.shadow import Registration
from tests.sim.optics.contract import DOUBLE, OpticCase, random


def value(*numbers: float) -> Tensor:
    return torch.tensor(numbers if len(numbers) > 1 else numbers[0], dtype=DOUBLE)


def diffracted(
    transmittance: Tensor, shift_px: Tensor, rotation_rad: Tensor, scale: Tensor, tangent: Tensor, **lengths: Tensor
) -> Tensor:
    return fresnel_psf(
        transmittance,
        registration=Registration(shift_px, rotation_rad, scale),
        size_px=(6, 5),
        cell_px=2,
        field_tan=(tangent[0], tangent[1]),
        **lengths,
    )


def diffracted_point() -> dict[str, Tensor]:
    return {
        "transmittance": random(8, 6),
        "shift_px": value(0.313, -0.471),
        "rotation_rad": value(0.0217),
        "scale": value(1.0173),
        "tangent": value(0.11, -0.07),
        "pixel_pitch_m": value(50e-6),
        "sensor_pitch_m": value(104e-6),
        "gap_m": value(10e-3),
        "scene_distance_m": value(0.25),
        "wavelength_m": value(550e-9),
    }


def diffracted_energy() -> tuple[float, float]:
    """The open area; the canvas is 20 times as wide as the mask."""
    picture = random(8, 6)
    point = diffracted_point() | {"transmittance": picture, "tangent": value(0, 0), "scale": value(1.0)}
    lengths = {name: point[name] for name in point if name.endswith("_m")}
    registration = Registration(value(0.3, -0.2), value(0.0), value(1.0))
    psf = fresnel_psf(picture, registration=registration, size_px=(80, 60), cell_px=2, **lengths)
    return float(psf.sum()), float(picture.sum()) / 4


def hole_point() -> dict[str, Tensor]:
    return {
        "diameter_m": value(130e-6),
        "sensor_pitch_m": value(61e-6),
        "gap_m": value(10e-3),
        "scene_distance_m": value(0.25),
        "wavelength_m": value(550e-9),
    }


def hole_energy() -> tuple[float, float]:
    point = hole_point()
    light = {name: point[name] for name in ("diameter_m", "sensor_pitch_m", "gap_m", "scene_distance_m")}
    return float(pinhole_psf(size_px=(61, 61), **point).sum()), float(pinhole_light_px(**light))


def hole_with_estimates(**point: Tensor) -> Tensor:
    """PSF, blur, light and best diameter of one hole, each in its own unit."""
    geometry = {name: point[name] for name in ("gap_m", "scene_distance_m")}
    best = sharpest_pinhole_m(wavelength_m=point["wavelength_m"], **geometry)
    blur = pinhole_blur_m(diameter_m=point["diameter_m"], wavelength_m=point["wavelength_m"], **geometry)
    light = pinhole_light_px(diameter_m=point["diameter_m"], sensor_pitch_m=point["sensor_pitch_m"], **geometry)
    number = fresnel_number(point["diameter_m"], wavelength_m=point["wavelength_m"], **geometry)
    return torch.stack((best / point["diameter_m"], blur / point["diameter_m"], light, number))


def focus_point() -> dict[str, Tensor]:
    return {
        "focal_length_m": value(25e-3),
        "f_number": value(2.8),
        "focus_distance_m": value(0.6),
        "scene_distance_m": value(1.7),
    }


def defocused(focal_length_m: Tensor, f_number: Tensor, pitch_m: Tensor, wavelength_m: Tensor, **at: Tensor) -> Tensor:
    blur = blur_circle_m(focal_length_m=focal_length_m, f_number=f_number, **at)
    working = f_number * image_distance_m(focal_length_m, at["focus_distance_m"]) / focal_length_m
    return lens_psf(f_number=working, wavelength_m=wavelength_m, sensor_pitch_m=pitch_m, size_px=(19, 18), blur_m=blur)


def coded(transmittance: Tensor, **focus: Tensor) -> Tensor:
    return coded_lens_psf(
        transmittance, pixel_pitch_m=1e-3, sensor_pitch_m=8e-6, wavelength_m=550e-9, size_px=(12, 13), **focus
    )


def coded_point() -> dict[str, Tensor]:
    point = focus_point()
    del point["f_number"]
    return {"transmittance": random(5, 4), **point}


def coded_energy() -> tuple[float, float]:
    point = coded_point() | {"transmittance": random(5, 4)}
    psf = coded_lens_psf(pixel_pitch_m=1e-3, sensor_pitch_m=2e-6, wavelength_m=550e-9, size_px=(96, 96), **point)
    return float(psf.sum()), float(point["transmittance"].mean())


def at_depths(transmittance: Tensor, radiance: Tensor, opacity: Tensor) -> Tensor:
    psfs = depth_psfs(
        transmittance,
        scene_distances_m=(0.11, 0.25),
        pixel_pitch_m=200e-6,
        sensor_pitch_m=208e-6,
        gap_m=10e-3,
        registration=Registration.nominal(),
        size_px=(5, 5),
    )
    return convolve_depths(visible_layers(radiance, opacity), psfs)


def over_the_field(scene: Tensor, psfs: Tensor, border: Border) -> Tensor:
    return convolve_field(scene, psfs, field_weights((7, 8), (2, 3)), border)


CASES = [
    OpticCase(
        "fresnel",
        diffracted,
        diffracted_point,
        energy=diffracted_energy,
        energy_rel=0.01,
        is_psf=True,
    ),
    OpticCase(
        "pinhole",
        partial(pinhole_psf, size_px=(5, 6)),
        hole_point,
        energy=hole_energy,
        energy_rel=0.01,
        is_psf=True,
    ),
    OpticCase("pinhole estimates", hole_with_estimates, hole_point),
    OpticCase(
        "image distance", image_distance_m, lambda: {"focal_length_m": value(0.025), "object_distance_m": value(0.6)}
    ),
    OpticCase("blur circle", blur_circle_m, focus_point),
    OpticCase(
        "defocused lens",
        defocused,
        lambda: focus_point() | {"pitch_m": value(31e-6), "wavelength_m": value(5e-6)},
        energy=lambda: (
            float(lens_psf(f_number=4.0, wavelength_m=5e-6, sensor_pitch_m=7e-6, size_px=(30, 31), blur_m=80e-6).sum()),
            1.0,
        ),
        is_psf=True,
    ),
    OpticCase("jinc", jinc, lambda: {"x": torch.tensor([0.003, 0.4, 3.1, 11.7], dtype=DOUBLE)}),
    OpticCase(
        "coded lens", coded, coded_point, linear_in="transmittance", energy=coded_energy, energy_rel=1e-4, is_psf=True
    ),
    OpticCase(
        "cos4", partial(cos4_fall_off, shape=(4, 5)), lambda: {"pitch_m": value(5e-3), "distance_m": value(0.02)}
    ),
    OpticCase(
        "field, in the scene",
        partial(over_the_field, border="valid"),
        lambda: {"scene": random(2, 1, 7, 8, seed=1), "psfs": random(6, 3, 2, seed=2)},
        linear_in="scene",
    ),
    OpticCase(
        "field, in the blurs",
        partial(over_the_field, border="full"),
        lambda: {"scene": random(2, 3, 7, 8, seed=1), "psfs": random(6, 3, 2, seed=2)},
        linear_in="psfs",
    ),
    OpticCase(
        "depth",
        at_depths,
        lambda: {
            "transmittance": random(4, 4),
            "radiance": random(2, 2, 9, 8, seed=1),
            "opacity": random(2, 2, 9, 8, seed=2),
        },
        linear_in="radiance",
    ),
    OpticCase(
        "mosaic",
        partial(mosaic, pattern="grbg"),
        lambda: {"rgb": random(2, 3, 5, 6)},
        linear_in="rgb",
        adjoint=partial(mosaic_adjoint, pattern="grbg"),
    ),
    OpticCase(
        "Bayer planes", partial(bayer_planes, pattern="gbrg"), lambda: {"raw": random(2, 1, 4, 6)}, linear_in="raw"
    ),
]
