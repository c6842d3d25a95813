"""Mirrored, turned and transposed images are told apart and named."""

from __future__ import annotations

import numpy as np
import pytest

from protocols.calibrate.orientation import WAYS, figure_points, orientation_of


def seen(places: np.ndarray, noise: float = 0.1) -> np.ndarray:
    y, x = (np.arange(n) - (n - 1) / 2 for n in (32, 36))
    image = np.random.default_rng(5).normal(0, noise, (32, 36))
    for row, column in places:
        image += np.exp(-0.5 * ((y - row)[:, None] ** 2 + (x - column)[None, :] ** 2))
    return image


@pytest.mark.parametrize("way", WAYS)
def test_every_way_is_named_though_the_image_is_shifted(way: str):
    points = figure_points((18, 18))
    image = seen(points @ np.array(WAYS[way]).T + [2.3, -3.4])
    found = orientation_of(image, points, sigma_px=1.0, search_px=6)
    assert found.visible
    assert found.way == way
    assert sorted(found.likeness.values())[-2] < 0.75 < found.likeness[way]
    assert found.shift_px == pytest.approx((2.3, -3.4), abs=0.2)


TURNED = {
    "as shown": lambda picture: picture,
    "mirrored left to right": np.fliplr,
    "mirrored top to bottom": np.flipud,
    "turned by 180 degrees": lambda picture: np.rot90(picture, 2),
    "transposed": np.transpose,
    "turned by 90 degrees clockwise": lambda picture: np.rot90(picture, -1),
    "turned by 90 degrees anticlockwise": np.rot90,
    "transposed and turned by 180 degrees": lambda picture: np.rot90(picture.T, 2),
}


@pytest.mark.parametrize("way", WAYS)
def test_the_name_says_what_was_done_to_the_picture(way: str):
    points = figure_points((18, 18))
    image = TURNED[way](seen(points)[:, 2:-2])
    assert orientation_of(image, points, sigma_px=1.0, search_px=6).way == way


def test_noise_is_no_figure():
    assert not orientation_of(seen(np.zeros((0, 2))), figure_points((18, 18)), sigma_px=1.0, search_px=6).visible
    assert not orientation_of(np.zeros((32, 36)), figure_points((18, 18)), sigma_px=1.0, search_px=6).visible
