from __future__ import annotations

import math

import numpy as np
import pytest
import torch
from scipy.special import j0, j1

from labctl.errors import BadInput
from sim.optics.lens import blur_circle_m, coded_lens_psf, image_distance_m, jinc, lens_psf

DOUBLE = torch.float64
GREEN = 550e-9


def radius_px(size: int) -> np.ndarray:
    return np.hypot(*(np.mgrid[:size, :size] - (size - 1) / 2))


def test_a_thin_lens_images_twice_the_focal_length_onto_twice_the_focal_length():
    assert float(image_distance_m(0.05, 0.1)) == pytest.approx(0.1)
    assert float(image_distance_m(0.05, 1e9)) == pytest.approx(0.05)
    with pytest.raises(BadInput, match=r"an object 0\.04 m from a lens of 0\.05 m focal length has no real image"):
        image_distance_m(0.05, 0.04)


def test_the_blur_circle_is_that_of_similar_triangles_and_nothing_in_focus():
    lens = {"focal_length_m": 0.05, "f_number": 2.0}
    found = float(blur_circle_m(**lens, focus_distance_m=1.0, scene_distance_m=3.0))
    textbook = 0.05 / 2.0 * abs(3.0 - 1.0) / 3.0 * 0.05 / (1.0 - 0.05)
    assert found == pytest.approx(textbook)
    assert float(blur_circle_m(**lens, focus_distance_m=1.0, scene_distance_m=1.0)) == 0
    stopped = float(blur_circle_m(focal_length_m=0.05, f_number=4.0, focus_distance_m=1.0, scene_distance_m=3.0))
    assert stopped == pytest.approx(found / 2)


def test_a_lens_in_focus_makes_the_airy_pattern():
    pitch = 0.4e-6
    psf = lens_psf(f_number=8.0, wavelength_m=GREEN, sensor_pitch_m=pitch, size_px=(101, 101))
    x = math.pi * np.maximum(radius_px(101), 1e-9) * pitch / (GREEN * 8.0)
    airy = (2 * j1(x) / x) ** 2 * math.pi / 4 * (pitch / (GREEN * 8.0)) ** 2
    np.testing.assert_allclose(psf.numpy(), airy, atol=0.02 * airy.max())
    first_dark_px = np.argmin(psf[50, 50:70].numpy())
    assert first_dark_px * pitch == pytest.approx(1.22 * GREEN * 8.0, abs=pitch)


@pytest.mark.parametrize("radius_airy", [1.0, 2.0, 4.0])
def test_as_much_light_is_encircled_as_rayleigh_found(radius_airy):
    """1 - J0^2 - J1^2. [Born and Wolf, 8.5.2]"""
    pitch = 0.2e-6
    psf = lens_psf(f_number=8.0, wavelength_m=GREEN, sensor_pitch_m=pitch, size_px=(401, 401)).numpy()
    inside = radius_px(401) * pitch <= radius_airy * 1.22 * GREEN * 8.0
    x = math.pi * radius_airy * 1.22
    assert psf[inside].sum() == pytest.approx(1 - j0(x) ** 2 - j1(x) ** 2, abs=0.01)


def test_longer_waves_and_smaller_apertures_spread_alike():
    one = lens_psf(f_number=8.0, wavelength_m=700e-9, sensor_pitch_m=2e-6, size_px=(15, 15))
    other = lens_psf(f_number=16.0, wavelength_m=350e-9, sensor_pitch_m=2e-6, size_px=(15, 15))
    torch.testing.assert_close(one, other)


@pytest.mark.parametrize("size", [(64, 64), (65, 64)])
def test_a_defocused_lens_spreads_its_light_evenly_over_the_blur_circle(size):
    psf = lens_psf(f_number=4.0, wavelength_m=GREEN, sensor_pitch_m=4e-6, size_px=size, blur_m=160e-6).numpy()
    rows, columns = (np.arange(n) - (n - 1) / 2 for n in size)
    radius = np.hypot(rows[:, None], columns)
    assert psf.sum() == pytest.approx(1, abs=1e-12)
    assert psf[radius < 17] * math.pi * 20**2 == pytest.approx(np.ones((radius < 17).sum()), abs=0.03)
    assert psf[radius > 23].sum() < 0.01
    assert np.abs(psf - psf[::-1, ::-1]).max() < 1e-15
    assert psf.min() >= 0


def test_binned_pixels_see_what_their_parts_see():
    lens = {"f_number": 4.0, "wavelength_m": GREEN, "blur_m": 30e-6}
    fine = lens_psf(sensor_pitch_m=2e-6, size_px=(60, 60), **lens)
    coarse = lens_psf(sensor_pitch_m=6e-6, size_px=(20, 20), **lens)
    torch.testing.assert_close(coarse, fine.reshape(20, 3, 20, 3).sum(dim=(1, 3)), rtol=0, atol=1e-12)


@pytest.mark.parametrize(
    ("changes", "problem"),
    [
        ({"blur_m": 50e-6}, r"the blur disc spans 12\.5 sensor pixels, the canvas 12x12; use a larger canvas"),
        (
            {"sensor_pitch_m": 500e-6},
            r"the Airy disc spans 0\.0107 sensor pixels and needs a grid of 5460.*more than 4096",
        ),
    ],
)
def test_what_the_canvas_cannot_hold_is_refused(changes, problem):
    lens = {"f_number": 4.0, "wavelength_m": GREEN, "sensor_pitch_m": 4e-6, "size_px": (12, 12)}
    with pytest.raises(BadInput, match=problem):
        lens_psf(**lens | changes)


def test_jinc_is_the_bessel_function_it_says_on_both_sides_of_its_series():
    x = np.array([0.0, 1e-6, 9.99e-3, 1.001e-2, 0.5, 3.8317, 20.0])
    expected = np.where(x == 0, 1.0, 2 * j1(x) / np.where(x == 0, 1.0, x))
    np.testing.assert_allclose(jinc(torch.from_numpy(x)).numpy(), expected, atol=1e-9)


CODED = {"pixel_pitch_m": 0.5e-3, "cell_px": 4, "sensor_pitch_m": 5e-6, "focal_length_m": 0.05, "wavelength_m": GREEN}


def coded(picture, scene_m, size=(64, 64), **changes):
    return coded_lens_psf(picture, focus_distance_m=1.0, scene_distance_m=scene_m, size_px=size, **CODED | changes)


def test_a_mask_in_the_pupil_is_the_shape_of_its_blur_upright_before_the_focus_and_turned_behind():
    corner = torch.zeros(16, 16, dtype=DOUBLE)
    corner[:8, :8] = 1
    near, far = coded(corner, 0.8), coded(corner, 1.4)
    assert float(near[:32, :32].sum()) == pytest.approx(0.25, abs=1e-3)
    assert float(far[32:, 32:].sum()) == pytest.approx(0.25, abs=1e-3)


def test_an_open_pupil_blurs_over_the_width_that_the_blur_circle_says():
    psf = coded(torch.ones(16, 16, dtype=DOUBLE), 0.8, size=(96, 96))
    width_px = float(
        blur_circle_m(focal_length_m=0.05, f_number=0.05 / 8e-3, focus_distance_m=1.0, scene_distance_m=0.8)
    )
    assert float(psf.sum()) == pytest.approx(1, abs=1e-3)
    assert float(psf.max()) == pytest.approx((5e-6 / width_px) ** 2, rel=1e-6)


def test_too_little_defocus_for_a_geometric_shadow_of_the_pupil_is_refused():
    picture = torch.ones(16, 16, dtype=DOUBLE)
    with pytest.raises(
        BadInput, match=r"pupil cells of 0\.002 m have the Fresnel number 0\.\d+ on the sensor, below 1"
    ):
        coded(picture, 1.01)
    with pytest.raises(BadInput, match=r"a mask cell spans 0\.\d+ sensor pixels"):
        coded(picture, 0.8, sensor_pitch_m=50e-6)
