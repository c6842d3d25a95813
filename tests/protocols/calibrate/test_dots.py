"""Dots are found to a small part of a pixel, with errors that are true, and never where there are none."""

from __future__ import annotations

import numpy as np
import pytest

from protocols.calibrate.dots import Spot, fit_dots, fit_sigma


def picture(places: np.ndarray, spot: Spot, *, shape: tuple[int, int] = (40, 44), light: float = 1500.0) -> np.ndarray:
    """Noise-free dots on an even background of 20."""
    image = np.full(shape, 20.0)
    rows, columns = (np.arange(n) - (n - 1) / 2 for n in shape)
    for row, column in places:
        image += light * spot.profile(rows - row)[0][:, None] * spot.profile(columns - column)[0]
    return image


def grid(step: float = 6.0, shift: tuple[float, float] = (0.31, -0.27)) -> np.ndarray:
    places = np.stack(np.meshgrid(np.arange(-2, 3) * step, np.arange(-2, 3) * step, indexing="ij"), axis=-1)
    return places.reshape(-1, 2) * 1.013 + shift


def test_a_spot_keeps_its_light_and_its_centre():
    spot = Spot(box_px=1.3, sigma_px=0.6, copies_px=(-1.0, 0.0, 1.0))
    at = np.arange(-12, 13) + 0.37
    shape, slope = spot.profile(at)
    assert shape.sum() == pytest.approx(1)
    assert (shape * at).sum() == pytest.approx(0, abs=1e-3)
    step = 1e-5
    assert slope == pytest.approx((spot.profile(at + step)[0] - spot.profile(at - step)[0]) / (2 * step), abs=1e-7)


def test_dots_without_noise_are_found_to_a_thousandth_of_a_pixel():
    spot, places = Spot(1.0, 0.7), grid()
    found = fit_dots(picture(places, spot), np.ones((40, 44)), np.round(places), spot)
    assert found.seen.all()
    assert np.abs(found.place - places).max() < 1e-3
    assert found.light == pytest.approx(1500, rel=1e-3)


def test_a_wrong_width_does_not_move_them():
    places = grid()
    found = fit_dots(picture(places, Spot(1.0, 0.7)), np.ones((40, 44)), places + 0.3, Spot(1.0, 0.6))
    assert np.abs(found.place - places).max() < 0.03


def test_errors_are_as_large_as_they_say():
    spot, places = Spot(1.0, 0.7), grid()
    clean = picture(places, spot)
    pulls = []
    for seed in range(20):
        noisy = clean + np.random.default_rng(seed).normal(0, 1, clean.shape) * np.sqrt(clean / 2 + 9)
        found = fit_dots(noisy, clean / 2 + 9, places + 0.2, spot)
        pulls.append(((found.place - places) / found.error)[found.seen])
    assert np.std(np.concatenate(pulls)) == pytest.approx(1, abs=0.12)


def test_the_width_is_found():
    places = grid()
    clean = picture(places, Spot(1.0, 0.85))
    noisy = clean + np.random.default_rng(1).normal(0, 3, clean.shape)
    spot, error = fit_sigma(noisy, np.full(clean.shape, 9.0), places, Spot(1.0, 0.5))
    assert spot.sigma_px == pytest.approx(0.85, abs=4 * error)
    assert error < 0.02


def test_dots_off_the_sensor_or_not_there_are_not_seen_and_spoil_no_others():
    spot, places = Spot(1.0, 0.7), grid()
    there, guesses = places[1:], np.concatenate([places, [[-25.0, 3.0], [0.0, 23.5]]])
    clean = picture(there, spot)
    noisy = clean + np.random.default_rng(2).normal(0, 3, clean.shape)
    found = fit_dots(noisy, np.full(clean.shape, 9.0), guesses, spot)
    assert not found.seen[[0, -1, -2]].any()
    assert found.seen[1:-2].all()
    assert np.abs(found.place[1:-2] - there).max() < 0.1


def test_noise_alone_holds_no_dots():
    noise = np.random.default_rng(4).normal(0, 3, (40, 44))
    assert fit_dots(noise, np.full(noise.shape, 9.0), grid(), Spot(1.0, 0.7)).seen.sum() <= 1
