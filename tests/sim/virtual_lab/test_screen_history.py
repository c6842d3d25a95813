"""What the bench remembers of a display: latency, settling, tearing, and what it could not see."""

from __future__ import annotations

from itertools import pairwise

import numpy as np
import numpy.typing as npt
import pytest

from sim.virtual_lab.bench.screen_history import KEPT_S, ScreenHistory, Unseen

BLACK, GREY, WHITE = (np.full((2, 2), level, dtype=np.uint8) for level in (0, 100, 200))


def mean_level(history: ScreenHistory, start_s: float, end_s: float) -> float:
    edges = [start_s, *history.cuts(start_s, end_s), end_s]
    total = 0.0
    for low, high in pairwise(edges):
        piece = history.piece(low, high)
        level = sum(weight * float(levels[0, 0]) for weight, levels in zip(piece.weights, piece.levels, strict=True))
        total += level * (high - low)
    return total / (end_s - start_s)


def test_a_change_reaches_the_light_after_the_latency() -> None:
    history = ScreenHistory(BLACK, latency_s=0.010, response_s=0.0)
    history.record(1.0, WHITE)
    assert mean_level(history, 0.9, 1.009) == 0
    assert mean_level(history, 1.011, 1.1) == pytest.approx(200)


def test_an_exposure_across_a_change_sees_the_mix_of_both_pictures() -> None:
    history = ScreenHistory(BLACK, latency_s=0.010, response_s=0.0)
    history.record(1.0, WHITE)
    assert mean_level(history, 1.0, 1.040) == pytest.approx(150)


def test_a_display_settles_exponentially() -> None:
    history = ScreenHistory(BLACK, latency_s=0.0, response_s=0.010)
    history.record(1.0, WHITE)
    mean = 200 * (1 - 0.010 / 0.030 * (1 - np.exp(-3)))
    assert mean_level(history, 1.0, 1.030) == pytest.approx(mean, rel=1e-5)


def test_a_display_that_is_changed_before_it_settled_starts_from_where_it_was() -> None:
    history = ScreenHistory(BLACK, latency_s=0.0, response_s=0.010)
    history.record(1.0, WHITE)
    history.record(1.010, BLACK)
    reached = 200 * (1 - np.exp(-1))
    mean = reached * 0.010 / 0.020 * (1 - np.exp(-2))
    assert mean_level(history, 1.010, 1.030) == pytest.approx(mean, rel=1e-5)


def test_a_settled_display_is_exactly_its_picture_and_has_its_name() -> None:
    history = ScreenHistory(BLACK, latency_s=0.0, response_s=0.010)
    history.record(1.0, WHITE)
    piece = history.piece(1.09, 1.2)
    assert piece.key == WHITE.tobytes()
    np.testing.assert_array_equal(piece.levels[0], WHITE)
    assert history.piece(1.0, 1.001).key is None


def test_what_was_drawn_too_fast_to_be_read_makes_an_exposure_fail_rather_than_lie() -> None:
    history = ScreenHistory(BLACK, latency_s=0.010, response_s=0.0)
    history.record_unseen(1.0, 1.030)
    history.record(1.030, WHITE)
    with pytest.raises(Unseen, match="faster than it was read"):
        history.piece(1.020, 1.025)
    assert history.piece(0.99, 1.005).key == BLACK.tobytes()
    assert history.piece(1.041, 1.1).key == WHITE.tobytes()


def test_ten_seconds_stay_and_older_pictures_go() -> None:
    history = ScreenHistory(BLACK, latency_s=0.0, response_s=0.0)
    pictures: list[npt.NDArray[np.uint8]] = [np.full((2, 2), index % 256, dtype=np.uint8) for index in range(400)]
    for index, picture in enumerate(pictures):
        history.record(index * 0.1, picture)
    assert len(history._changes) < 10 * (KEPT_S + 1)
    assert mean_level(history, 29.95, 29.96) == pictures[299][0, 0]
