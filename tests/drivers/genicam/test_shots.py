"""Whose frame is it: the rules that keep a wrong one from being handed out."""

from __future__ import annotations

import math

import numpy as np
import pytest

from drivers.genicam.shots import (
    DRIFT_NS,
    FRAMES_IN_FLIGHT,
    CameraClock,
    Received,
    Settled,
    Shot,
    has_settled,
    judge_free,
    judge_triggered,
)  # fmt: skip
from labctl.exposure import FrameTag

SETTLED = Settled(exposure_us=1000.0, gain=2.0)
CLOCK = CameraClock(offset_ns=5_000_000, within_ns=100)
STARTED_NS = 10_000_000
EXPOSURE_S, EXPOSURE_NS = 1e-3, 1_000_000


def shot(passed: int = 0) -> Shot:
    return Shot(FrameTag(1), STARTED_NS, STARTED_NS, 0, passed)


def frame(
    camera_id: int = 4,
    previous_id: int | None = 3,
    begins_ns: int = STARTED_NS + 2 * DRIFT_NS,
    exposure_us: float = 1000.0,
    repeated: bool = False,
) -> Received:
    pixels = np.zeros((1, 1), dtype=np.uint16)
    stamp_ns = begins_ns + CLOCK.offset_ns
    return Received(pixels, camera_id, previous_id, camera_id, stamp_ns, 0, exposure_us, 2.0, repeated)


def test_the_frame_of_a_trigger_is_the_next_one_begun_after_it() -> None:
    assert judge_triggered(frame(), shot(), CLOCK, SETTLED).kind == "own"
    assert judge_triggered(frame(previous_id=None), shot(), CLOCK, SETTLED).kind == "own"
    assert judge_triggered(frame(), shot(), None, SETTLED).kind == "own"


@pytest.mark.parametrize("wrong", [frame(repeated=True), frame(begins_ns=STARTED_NS - 2 * DRIFT_NS)])
def test_a_repeated_or_older_frame_belongs_to_no_shot(wrong: Received) -> None:
    assert judge_triggered(wrong, shot(), CLOCK, SETTLED).kind == "foreign"


def test_a_jump_of_the_id_spoils_the_shot() -> None:
    assert judge_triggered(frame(camera_id=5), shot(), CLOCK, SETTLED) == (
        "spoilt", "frame id 5 came where 4 was due",
    )  # fmt: skip


def test_a_frame_that_was_not_exposed_as_set_spoils_the_shot() -> None:
    verdict = judge_triggered(frame(exposure_us=500.0), shot(), CLOCK, SETTLED)
    assert verdict == ("spoilt", "it was exposed for 500 us instead of 1000 us")


def test_in_free_run_the_frame_must_surely_have_begun_later() -> None:
    surely = frame(begins_ns=STARTED_NS + EXPOSURE_NS + 2 * DRIFT_NS)
    assert judge_free(surely, shot(), CLOCK, SETTLED, EXPOSURE_S).kind == "own"
    doubtful = frame(begins_ns=STARTED_NS + EXPOSURE_NS + DRIFT_NS)
    assert judge_free(doubtful, shot(), CLOCK, SETTLED, EXPOSURE_S).kind == "foreign"


def test_in_free_run_a_time_stamp_may_stand_for_the_end_of_the_exposure() -> None:
    stamped = frame(begins_ns=STARTED_NS + 5 * DRIFT_NS)
    assert judge_free(stamped, shot(), CLOCK, SETTLED, 1e-3).kind == "own"
    assert judge_free(stamped, shot(), CLOCK, SETTLED, 6e-3) == ("foreign", "may have begun before it was asked for")


def test_in_free_run_without_a_clock_the_frames_in_flight_are_passed_over() -> None:
    kinds = [
        judge_free(frame(), shot(passed), None, SETTLED, EXPOSURE_S).kind for passed in range(FRAMES_IN_FLIGHT + 1)
    ]
    assert kinds == ["foreign"] * FRAMES_IN_FLIGHT + ["own"]


def test_in_free_run_frames_that_have_not_settled_are_passed_over() -> None:
    verdict = judge_free(
        frame(begins_ns=STARTED_NS + 5 * DRIFT_NS, exposure_us=500.0), shot(), CLOCK, SETTLED, EXPOSURE_S
    )
    assert verdict == ("foreign", "has not settled")


def test_a_shot_says_how_many_frames_were_refused_and_why() -> None:
    assert shot().refused == ""
    passed = Shot(FrameTag(1), STARTED_NS, STARTED_NS, 0, 3, "has not settled")
    assert passed.refused == " but 3 refused as foreign (the last one has not settled)"


def test_a_frame_that_does_not_tell_its_exposure_proves_nothing() -> None:
    assert has_settled(frame(exposure_us=math.nan), SETTLED) is None
    assert has_settled(frame(exposure_us=np.float32(1000.0001)), SETTLED) is True
    assert has_settled(frame(), Settled(1000.0, 2.1)) is False
