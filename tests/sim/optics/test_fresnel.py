from __future__ import annotations

import math

import numpy as np
import pytest
import torch
from scipy.special import fresnel

from labctl.errors import BadInput
from sim.optics.fresnel import (
    check_fresnel,
    diffraction_reach_m,
    effective_gap_m,
    fresnel_number,
    fresnel_psf,
    rectangle_waves,
)
from sim.optics.pinhole import pinhole_blur_m, pinhole_light_px, pinhole_psf, sharpest_pinhole_m
from sim.optics.shadow import Registration, shadow_psf

DOUBLE = torch.float64
WAVELENGTH = 550e-9
GEOMETRY = {"pixel_pitch_m": 50e-6, "sensor_pitch_m": 208e-6, "gap_m": 10e-3, "scene_distance_m": 0.25, "cell_px": 4}


def registration(shift=(0.0, 0.0), rotation=0.0, scale=1.0) -> Registration:
    return Registration(*(torch.tensor(number, dtype=DOUBLE) for number in (shift, rotation, scale)))


def diffracted(picture, size_px, *, wavelength_m=WAVELENGTH, moved=None, **changes):
    geometry = GEOMETRY | changes
    return fresnel_psf(
        picture, wavelength_m=wavelength_m, registration=moved or registration(), size_px=size_px, **geometry
    )


def slit_intensity(x_m, width_m, z_m, wavelength_m=WAVELENGTH):
    """[Goodman 4.5.1]"""
    v = np.sqrt(2 / (wavelength_m * z_m)) * (np.asarray(x_m)[:, None] + width_m / 2 * np.array([1, -1]))
    sine, cosine = fresnel(v)
    return 0.5 * (np.diff(cosine)[:, 0] ** 2 + np.diff(sine)[:, 0] ** 2)


@pytest.mark.parametrize(("width_m", "gap_m"), [(400e-6, 3e-3), (200e-6, 0.03), (100e-6, 0.2)])
def test_a_rectangle_makes_the_pattern_of_the_fresnel_integrals(width_m, gap_m):
    scene_m, pitch = 0.5, 4e-6
    z, magnification = gap_m * scene_m / (gap_m + scene_m), 1 + gap_m / scene_m
    picture = torch.ones(8, 8, dtype=DOUBLE)
    geometry = {"pixel_pitch_m": width_m / 8, "sensor_pitch_m": pitch, "gap_m": gap_m, "scene_distance_m": scene_m}
    found = diffracted(picture, (151, 151), **geometry, cell_px=8)
    fine = (np.arange(151 * 20) + 0.5) / 20 - 151 / 2
    line = slit_intensity(fine * pitch / magnification, width_m, z).reshape(151, 20).mean(axis=1)
    np.testing.assert_allclose(found.numpy(), np.outer(line, line), atol=4e-3 * line.max() ** 2)


def test_many_narrow_slits_are_one_wide_one():
    x = torch.linspace(-3e-4, 3e-4, 50, dtype=DOUBLE)
    one = rectangle_waves(x, pitch_m=240e-6, count=1, distance_m=0.01, wavelength_m=WAVELENGTH)
    many = rectangle_waves(x, pitch_m=20e-6, count=12, distance_m=0.01, wavelength_m=WAVELENGTH)
    torch.testing.assert_close(many.sum(dim=1, keepdim=True), one, rtol=0, atol=1e-12)


@pytest.mark.parametrize("number", [1.0, 2.0, 2.7])
def test_the_middle_behind_a_round_hole_is_bright_and_dark_as_the_zones_say(number):
    """On the axis 4 sin^2(pi N / 2) with N = radius^2 / (wavelength z). [Goodman, chapter 4]"""
    radius_m, z = 200e-6, 200e-6**2 / (WAVELENGTH * number)
    axis = (torch.arange(400, dtype=DOUBLE) - 199.5) * 1e-6
    hole = (torch.hypot(axis[:, None], axis) <= radius_m).to(DOUBLE)
    wave = rectangle_waves(torch.zeros(1), pitch_m=1e-6, count=400, distance_m=z, wavelength_m=WAVELENGTH)
    found = float((wave @ hole.to(wave.dtype) @ wave.T).abs() ** 2)
    assert found == pytest.approx(4 * math.sin(math.pi * number / 2) ** 2, abs=0.02)


def test_far_behind_a_slit_the_pattern_is_sinc_squared():
    width, z = 100e-6, 2.0
    x = torch.linspace(-0.04, 0.04, 400, dtype=DOUBLE)
    wave = rectangle_waves(x, pitch_m=width, count=1, distance_m=z, wavelength_m=WAVELENGTH)[:, 0]
    expected = width**2 / (WAVELENGTH * z) * torch.special.sinc(width * x / (WAVELENGTH * z)) ** 2
    torch.testing.assert_close(wave.abs() ** 2, expected, rtol=0, atol=2e-3 * float(expected.max()))


def test_longer_waves_over_a_shorter_gap_make_the_same_pattern():
    x = torch.linspace(-3e-4, 3e-4, 50, dtype=DOUBLE)
    blue = rectangle_waves(x, pitch_m=80e-6, count=3, distance_m=0.012, wavelength_m=450e-9)
    red = rectangle_waves(x, pitch_m=80e-6, count=3, distance_m=0.008, wavelength_m=675e-9)
    torch.testing.assert_close(blue, red, rtol=0, atol=1e-12)


def test_a_near_point_is_a_plane_wave_over_the_effective_gap_magnified(rng):
    picture = torch.from_numpy(rng.random((6, 6)))
    z = float(effective_gap_m(0.02, 0.1))
    assert z == pytest.approx(1 / (1 / 0.02 + 1 / 0.1))
    near = diffracted(picture, (9, 9), gap_m=0.02, scene_distance_m=0.1, sensor_pitch_m=60e-6 * 1.2)
    plane = diffracted(picture, (9, 9), gap_m=z, scene_distance_m=1e6, sensor_pitch_m=60e-6)
    torch.testing.assert_close(near, plane, rtol=0, atol=1e-5)


def test_all_light_lands_within_the_reach_of_diffraction(rng):
    cell = torch.zeros(8, 8, dtype=DOUBLE)
    cell[2:6, 2:6] = 1
    reach_px = diffraction_reach_m(200e-6, gap_m=10e-3, scene_distance_m=0.25, wavelength_m=WAVELENGTH) / 208e-6
    near, far = (diffracted(cell, (size, size)) for size in (1 + 2 * math.ceil(reach_px), 61))
    assert 1 - float(near.sum()) < 0.02
    assert float(far.sum()) == pytest.approx(1, abs=2e-3)
    assert float(diffracted(cell, (1, 1)).sum()) < 0.9


def difference(picture, number):
    """L1 between diffraction and shadow, as a share of the light, at this Fresnel number of a cell."""
    cell_m, scene_m = 200e-6, 1.0
    z = cell_m**2 / (WAVELENGTH * number)
    gap_m = z * scene_m / (scene_m - z)
    geometry = {
        "pixel_pitch_m": cell_m,
        "sensor_pitch_m": cell_m * (1 + gap_m / scene_m),
        "gap_m": gap_m,
        "scene_distance_m": scene_m,
    }
    assert float(fresnel_number(cell_m, gap_m=gap_m, scene_distance_m=scene_m, wavelength_m=WAVELENGTH)) == (
        pytest.approx(number)
    )
    with_diffraction = diffracted(picture, (48, 48), cell_px=1, **geometry)
    shadow = shadow_psf(picture, registration=registration(), size_px=(48, 48), **geometry)
    return float((with_diffraction - shadow).abs().sum() / shadow.sum())


@pytest.mark.parametrize(("number", "stated"), [(16, 0.13), (4, 0.26), (1, 0.51)])
def test_the_shadow_is_off_by_what_the_table_says_and_less_for_larger_fresnel_numbers(rng, number, stated):
    half_open = torch.from_numpy((rng.random((32, 32)) < 0.5).astype(float))
    assert difference(half_open, number) == pytest.approx(stated, rel=0.15)


def test_registration_moves_turns_and_scales_the_pattern_as_it_does_the_shadow(rng):
    picture = torch.from_numpy((rng.random((16, 16)) < 0.4).astype(float))
    still = diffracted(picture, (16, 16))
    moved = diffracted(picture, (16, 16), moved=registration((2.0, -3.0)))
    torch.testing.assert_close(moved[2:, :-3], still[:-2, 3:], rtol=0, atol=1e-9)
    turned = diffracted(picture, (16, 16), moved=registration(rotation=math.pi / 2))
    torch.testing.assert_close(turned, still.rot90(1), rtol=0, atol=1e-9)
    both = registration((0.6, -1.2), 0.3, 1.1)
    near = GEOMETRY | {"gap_m": 2e-3, "sensor_pitch_m": 201e-6}
    shadow = shadow_psf(picture, registration=both, size_px=(16, 16), **near)
    pattern = diffracted(picture, (16, 16), moved=both, gap_m=2e-3, sensor_pitch_m=201e-6)
    assert float((pattern - shadow).abs().sum() / shadow.sum()) < 0.1
    assert float(diffracted(picture, (32, 32), moved=both).sum()) == pytest.approx(
        float(picture.sum()) / 16 * 1.21, rel=0.01
    )


def test_many_pictures_at_once_are_the_pictures_one_by_one(rng):
    pictures = torch.from_numpy(rng.random((3, 8, 8)))
    together = diffracted(pictures, (5, 5))
    torch.testing.assert_close(together, torch.stack([diffracted(one, (5, 5)) for one in pictures]))


def test_light_from_the_side_has_further_to_go_and_spreads_more(rng):
    """Across the plane of incidence by 1 / cos, along it by 1 / cos^3."""
    cell, tangent = torch.ones(4, 4, dtype=DOUBLE), 0.6
    cosine = 1 / math.hypot(1, tangent)
    geometry = {"scene_distance_m": 1e6, "sensor_pitch_m": 100e-6}
    slanted = diffracted(cell, (21, 21), field_tan=(tangent, 0.0), **geometry)
    along = diffracted(cell, (21, 21), gap_m=10e-3 / cosine**3, **geometry)
    across = diffracted(cell, (21, 21), gap_m=10e-3 / cosine, **geometry)
    torch.testing.assert_close(slanted.sum(1) / slanted.sum(), along.sum(1) / along.sum(), rtol=0, atol=1e-3)
    torch.testing.assert_close(slanted.sum(0) / slanted.sum(), across.sum(0) / across.sum(), rtol=0, atol=1e-3)


def test_a_closed_cell_still_gets_a_finite_gradient():
    picture = torch.zeros(8, 8, dtype=DOUBLE)
    picture[3:5, 3:5] = 1
    picture.requires_grad_()
    diffracted(picture, (4, 4)).square().sum().backward()
    assert torch.isfinite(picture.grad).all()
    assert float(picture.grad.abs().max()) < 100


@pytest.mark.parametrize(
    ("changes", "problem"),
    [
        ({"cell_pitch_m": 5e-6}, r"not paraxial: mask cells of 5e-06 m .* over 0\.0096\d* m .* rad, more than 0\.1"),
        ({"aperture_m": (0.2, 0.1)}, r"not paraxial: a scene point 0\.25 m away .* 0\.447, more than 0\.25"),
        ({"gap_m": 1e-5}, r"needs \d+ samples for fringes of 2\.\d+e-06 m, more than 64.*optics\.model: shadow"),
    ],
)  # fmt: skip
def test_outside_its_range_the_approximation_is_refused_with_the_numbers(changes, problem):
    good = {
        "cell_pitch_m": 200e-6,
        "aperture_m": (6.4e-3, 6.4e-3),
        "sensor_pitch_m": 208e-6,
        "gap_m": 10e-3,
        "scene_distance_m": 0.25,
        "wavelength_m": WAVELENGTH,
    }
    check_fresnel(**good)
    with pytest.raises(BadInput, match=problem):
        check_fresnel(**good | changes)


HOLE = {"gap_m": 10e-3, "scene_distance_m": 0.25}


def test_a_wide_pinhole_casts_its_shadow_and_a_narrow_one_an_airy_pattern():
    wide = pinhole_psf(diameter_m=2e-3, sensor_pitch_m=50e-6, wavelength_m=WAVELENGTH, size_px=(61, 61), **HOLE)
    radius = np.hypot(*np.mgrid[-30:31, -30:31]) * 50e-6
    assert float(wide[radius < 0.9e-3].mean()) == pytest.approx(1, abs=0.02)
    assert float(wide[radius > 1.2e-3].mean()) < 2e-3
    narrow = pinhole_psf(diameter_m=20e-6, sensor_pitch_m=20e-6, wavelength_m=WAVELENGTH, size_px=(61, 61), **HOLE)
    middle = narrow[30].numpy()
    first_dark_m = 20e-6 * (np.argmin(middle[30:50]))
    assert first_dark_m == pytest.approx(1.22 * WAVELENGTH * 10e-3 / 20e-6, rel=0.05)


def test_the_sharpest_pinhole_is_where_rayleigh_says():
    best = float(sharpest_pinhole_m(wavelength_m=WAVELENGTH, **HOLE))
    assert best == pytest.approx(1.9 * math.sqrt(WAVELENGTH * 9.615e-3), rel=1e-3)
    diameters = best * np.array([0.5, 0.7, 0.85, 0.95, 1.1, 1.3, 2.0])
    spots = [
        pinhole_psf(diameter_m=d, sensor_pitch_m=10e-6, wavelength_m=WAVELENGTH, size_px=(81, 81), **HOLE)
        for d in diameters
    ]
    sharpness = [float(spot.max() / spot.sum()) for spot in spots]
    assert diameters[int(np.argmax(sharpness))] == pytest.approx(best, rel=0.2)
    blur = [float(pinhole_blur_m(diameter_m=d, wavelength_m=WAVELENGTH, **HOLE)) for d in diameters]
    assert diameters[int(np.argmin(blur))] == pytest.approx(best, rel=0.25)


def test_a_pinhole_passes_the_light_of_its_area():
    light = pinhole_light_px(diameter_m=150e-6, sensor_pitch_m=20e-6, **HOLE)
    assert float(light) == pytest.approx(math.pi * 75e-6**2 * 1.04**2 / 20e-6**2)
    spot = pinhole_psf(diameter_m=150e-6, sensor_pitch_m=20e-6, wavelength_m=WAVELENGTH, size_px=(95, 95), **HOLE)
    assert float(spot.sum()) == pytest.approx(float(light), rel=0.01)
