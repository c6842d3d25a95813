"""How pixels differ: what is pattern, what is noise, what is uneven light."""

from __future__ import annotations

import numpy as np
import pytest

from protocols.calibrate.nonuniformity import middle, spread_of, without_trend

SHAPE = (60, 80)


def test_noise_of_the_map_is_taken_off_its_spread() -> None:
    rng = np.random.default_rng(0)
    pattern, noise = 2.0 * rng.standard_normal(SHAPE), 3.0 * rng.standard_normal(SHAPE)
    found = spread_of(pattern + noise, 9.0)
    assert abs(found.total - pattern.std(ddof=1)) < 3 * found.total_error < 1.0
    assert spread_of(noise, 9.5).total == 0.0


def test_stripes_are_told_from_pixels() -> None:
    rng = np.random.default_rng(1)
    columns = 5.0 * rng.standard_normal(80)
    found = spread_of(columns[None, :] + rng.standard_normal(SHAPE), 0.0)
    assert found.columns == pytest.approx(columns.std(ddof=1), rel=0.01)
    assert found.rows < 0.1
    assert found.pixels == pytest.approx(1.0, rel=0.05)


def test_uneven_light_is_a_smooth_surface_and_no_pattern() -> None:
    rng = np.random.default_rng(2)
    y, x = np.mgrid[-1:1:60j, -1:1:80j]
    pattern = 0.01 * rng.standard_normal(SHAPE)
    rest, numbers = without_trend(1 - 0.3 * (x - 0.2) ** 2 - 0.2 * y**2 + 0.1 * x**3 + pattern, 3)
    assert rest.std() == pytest.approx(pattern.std(), rel=0.01)
    assert numbers == 10
    assert without_trend(np.ones((3, 3)), 4)[1] == 1, "a small map has no room for a surface"


def test_the_middle_of_a_frame_is_centred() -> None:
    rows, columns = middle((32, 48), 0.5)
    assert (rows, columns) == (slice(8, 24), slice(12, 36))
