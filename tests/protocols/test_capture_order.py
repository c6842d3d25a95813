from __future__ import annotations

import numpy as np
import pytest

from labctl.frames.record import KINDS
from protocols.capture.order import LADDER_BLOCK, CapturePlan, arrange, plan_capture

LABELS = np.repeat([0, 1, 2], [60, 30, 10])
SPLITS = np.tile([0, 0, 0, 1, 2], 20)
ROWS = np.arange(100, 200)


def kinds(plan: CapturePlan) -> str:
    """One letter per frame: s, d, b, and S for a sentinel."""
    letters = {"scene": "s", "dark": "d", "background": "b", "sentinel": "S"}
    return "".join(letters[plan.kind(index)] for index in range(len(plan)))


@pytest.mark.parametrize("order", ["shuffled", "interleaved", "as-is"])
def test_every_order_shows_every_row_once_and_the_same_way_each_time(order: str) -> None:
    once, again = (arrange(ROWS, LABELS, SPLITS, order=order, seed=3) for _ in range(2))  # type: ignore[arg-type]
    assert np.array_equal(once, again)
    assert np.array_equal(np.sort(once), ROWS)
    other = arrange(ROWS, LABELS, SPLITS, order=order, seed=4)  # type: ignore[arg-type]
    assert np.array_equal(once, other) == (order == "as-is")


def test_as_is_is_the_order_of_the_data() -> None:
    assert np.array_equal(arrange(ROWS, LABELS, SPLITS, order="as-is", seed=0), ROWS)


def test_interleaved_classes_and_splits_have_their_share_of_every_stretch_of_the_set() -> None:
    shown = arrange(ROWS, LABELS, SPLITS, order="interleaved", seed=0) - 100
    for values in (LABELS, SPLITS):
        for value in np.unique(values):
            so_far = np.cumsum(values[shown] == value)
            fair = (values == value).mean() * np.arange(1, 101)
            assert np.abs(so_far - fair).max() <= 2.5


def test_repeats_go_through_the_whole_order_again() -> None:
    plan = plan_capture(np.array([7, 5]), repeats=3)
    assert plan.rows.tolist() == [7, 5] * 3
    assert plan.repeats.tolist() == [0, 0, 1, 1, 2, 2]


def test_special_frames_stand_at_the_start_the_end_and_between() -> None:
    assert kinds(plan_capture(np.arange(5), dark_every=2, background_every=3, sentinel_every=4)) == "SdbssdsbsdSsdbS"


def test_a_special_frame_that_falls_on_the_end_is_not_taken_twice() -> None:
    assert kinds(plan_capture(np.arange(4), dark_every=2, sentinel_every=4)) == "SdssdssdS"


def test_without_special_frames_there_are_none() -> None:
    assert kinds(plan_capture(np.arange(3))) == "sss"


def test_a_ladder_takes_every_scene_at_every_rung_and_changes_the_exposure_rarely() -> None:
    plan = plan_capture(np.arange(100), rungs=3, dark_every=50)
    scenes = plan.kinds == KINDS.index("scene")
    for rung in range(3):
        assert np.array_equal(np.sort(plan.rows[scenes & (plan.rungs == rung)]), np.arange(100))
        assert (plan.kinds[plan.rungs == rung] == KINDS.index("dark")).sum() == 3, "start, middle, end"
    assert (np.diff(plan.rungs[scenes]) != 0).sum() == 3 * -(-100 // LADDER_BLOCK) - 1


def test_segments_share_mask_and_exposure_and_are_bounded() -> None:
    plan = plan_capture(np.arange(150), rungs=2, dark_every=40, background_every=30, sentinel_every=50)
    start, seen = 0, 0
    while start < len(plan):
        stop = plan.segment_end(start, 32)
        assert start < stop <= start + 32
        part = slice(start, stop)
        assert len(set(plan.rungs[part].tolist())) == 1
        assert len(set((plan.kinds[part] == KINDS.index("dark")).tolist())) == 1
        start, seen = stop, seen + 1
    assert seen < 40
