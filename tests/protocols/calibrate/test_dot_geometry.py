"""The geometry of a grid of dots: what is asked for is kept, what is not is left at zero, with a true error."""

from __future__ import annotations

import numpy as np
import pytest

from protocols.calibrate.dot_geometry import Plane, fit_geometry

PLANE = Plane(distance_px=1250.0, gap_px=50.0, radius_px=22.6)
ERROR = 0.02


def dots(
    seed: int = 0, *, tilt: tuple[float, float] = (0, 0), distortion: float = 0, pitch: float = 1.0
) -> tuple[np.ndarray, np.ndarray, np.ndarray]:
    """(nominal, source, seen): shifted by (1.2, -0.7), turned by 0.02, enlarged by 1.01."""
    stream = np.random.default_rng(seed)
    nominal = stream.uniform(-16, 16, (250, 2))
    source = np.array([(0, 0), (-5, -5), (-5, 5), (5, -5), (5, 5)])[stream.integers(0, 5, 250)].astype(float)
    rise = (nominal @ np.array(tilt))[:, None]
    bent = nominal * (1 + distortion * (nominal**2).sum(axis=1, keepdims=True) / PLANE.radius_px**2)
    bent = bent / (1 - rise / PLANE.distance_px)
    turn = np.array([[np.cos(0.02), -np.sin(0.02)], [np.sin(0.02), np.cos(0.02)]])
    seen = np.array([1.2, -0.7]) + 1.01 * bent @ turn.T + pitch * source * (1 + rise / PLANE.gap_px)
    return nominal, source, seen + stream.normal(0, ERROR, seen.shape)


def fitted(nominal: np.ndarray, source: np.ndarray, seen: np.ndarray):
    return fit_geometry(nominal, source, seen, np.full(seen.shape, ERROR), source_pitch_px=1.0, plane=PLANE)


def test_the_geometry_is_found_within_its_errors():
    pulls = []
    for seed in range(12):
        found = fitted(*dots(seed, pitch=1.02))
        assert found.kept == ()
        pulls.append(
            [
                (found.shift_px[0] - 1.2) / found.error("shift_row"),
                (found.shift_px[1] + 0.7) / found.error("shift_column"),
                (found.rotation_rad - 0.02) / found.error("rotation_rad"),
                (found.scale - 1.01) / found.error("scale"),
                (found.source_pitch_px - 1.02) / found.error("source_pitch"),
            ]
        )
    assert np.sqrt(np.mean(np.square(pulls))) == pytest.approx(1, abs=0.35)


def test_tilt_and_distortion_are_kept_only_where_the_dots_ask_for_them():
    tilted = fitted(*dots(tilt=(0.0, 0.03)))
    assert tilted.kept == ("tilt",)
    assert tilted.tilt_rad == pytest.approx([0, 0.03], abs=4 * tilted.error("tilt_row"))
    bent = fitted(*dots(distortion=0.02))
    assert bent.kept == ("distortion",)
    assert bent.distortion == pytest.approx(0.02, abs=4 * bent.error("distortion"))
    plain = fitted(*dots())
    assert plain.distortion == 0
    assert plain.extra_error["distortion"][0] > 0


def test_wild_dots_are_left_out():
    nominal, source, seen = dots()
    seen[:20] += 3.0
    found = fitted(nominal, source, seen)
    assert not found.used[:20].any()
    assert found.shift_px == pytest.approx([1.2, -0.7], abs=0.01)


def test_it_places_what_it_was_fitted_to():
    nominal, source, seen = dots()
    found = fitted(nominal, source, seen)
    assert found.place(nominal, source) + found.residual == pytest.approx(seen)
