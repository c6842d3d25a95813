"""No doubtful frame is delivered: what is out of order is taken again, once, and counted."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import replace
from typing import Any

import numpy as np
import pytest

import labctl
from labctl.errors import DeviceTimeout, HardwareError, InterlockError
from labctl.exposure import Exposure, ExposurePlan, Frames, FrameTag
from labctl.frame_order import FrameOrder
from labctl.rig import Rig

SEQUENCED = {"light_path": "sequenced", "twin.monitor.response_s": 0.004}


@pytest.fixture
def rig() -> Iterator[Rig]:
    with labctl.open_rig("as-built", set=SEQUENCED) as opened:
        yield opened
    assert opened.safe_errors == []


def plan(n: int = 6) -> ExposurePlan:
    rng = np.random.default_rng(0)
    masks = (rng.random((n, 1, 32, 32)) < 0.5).astype(float)
    return ExposurePlan(rng.random((n, 1, 1, 63, 63)), masks, Exposure(exposure_s=0.002, roi=(32, 32)), np.arange(n))


class Faulty:
    """A camera that does something wrong with frame `at`, the first `times` times."""

    def __init__(self, rig: Rig, at: int, times: int = 1) -> None:
        self._camera: Any = rig.devices().camera
        self._at, self._left, self._waiting = at, times, None
        self._last: Frames | None = None
        self.armed: list[int] = []
        rig._devices["camera"] = self  # type: ignore[assignment]

    def __getattr__(self, name: str) -> Any:
        return getattr(self._camera, name)

    def arm(self, n: int) -> None:
        self.armed.append(n)
        self._camera.arm(n)

    def trigger(self, tag: FrameTag) -> None:
        self._tag = tag
        self._camera.trigger(tag)

    def fetch(self, timeout_s: float) -> Frames:
        frame: Frames = self._camera.fetch(timeout_s)
        last, self._last = self._last, frame
        if self._tag.exposure_id == self._at and self._left > 0:
            self._left -= 1
            frame = self.spoil(frame, last)
        return frame

    def spoil(self, frame: Frames, last: Frames | None) -> Frames:
        raise NotImplementedError


class Lost(Faulty):
    def spoil(self, frame: Frames, last: Frames | None) -> Frames:
        raise DeviceTimeout("camera: no frame came")


class Forbidden(Faulty):
    def spoil(self, frame: Frames, last: Frames | None) -> Frames:
        raise InterlockError("camera: too hot")


class Skipped(Faulty):
    def spoil(self, frame: Frames, last: Frames | None) -> Frames:
        return replace(frame, frame_ids=frame.frame_ids + 1)


class Stale(Faulty):
    """The frame before comes once more, under the name of the new one."""

    def spoil(self, frame: Frames, last: Frames | None) -> Frames:
        assert last is not None
        return replace(last, exposure_ids=frame.exposure_ids, frame_ids=frame.frame_ids)


class Mistaken(Faulty):
    def spoil(self, frame: Frames, last: Frames | None) -> Frames:
        return replace(frame, exposure_ids=frame.exposure_ids + 100)


@pytest.mark.parametrize("fault", [Lost, Skipped, Stale, Mistaken])
def test_a_lost_or_doubtful_frame_is_taken_again_and_counted(rig: Rig, fault: type[Faulty]) -> None:
    clean = rig.expose(plan())
    camera = fault(rig, at=3)
    frames = rig.expose(plan())
    assert np.array_equal(frames.pixels, clean.pixels), "the same noise: nobody has seen the first frame"
    assert frames.exposure_ids.tolist() == list(range(6))
    assert [retake.exposure_id for retake in rig.retakes] == [3]
    assert rig.retakes[0].reason.startswith("camera: ")
    assert rig.describe()["retakes"][0]["exposure_id"] == 3
    assert camera.armed == [6, 3], "armed anew for what is left"


def test_an_exposure_that_is_taken_again_shows_its_patterns_again(rig: Rig) -> None:
    Lost(rig, at=3)
    devices = rig.devices()
    shown = {"mask": 0, "scene": 0}

    def counted(name: str, show: Any) -> Any:
        def count(levels: np.ndarray) -> float:
            shown[name] += 1
            told: float = show(levels)
            return told

        return count

    for name in shown:
        display = getattr(devices, name)
        display.show = counted(name, display.show)
    rig.expose(replace(plan(6), masks=plan(1).masks))
    assert shown == {"mask": 2, "scene": 7}


@pytest.mark.parametrize("fault", [Lost, Skipped, Stale, Mistaken])
def test_a_fault_that_stays_ends_in_an_error_that_says_both(rig: Rig, fault: type[Faulty]) -> None:
    fault(rig, at=2, times=9)
    stream = rig.stream(plan())
    assert [int(next(stream).exposure_ids[0]) for _ in range(2)] == [0, 1]
    if fault is Skipped or fault is Stale:  # of one frame alone there is nothing that could be out of order
        next(stream)
        assert len(rig.retakes) == 1
        return
    with pytest.raises(HardwareError, match=r"exposure 2 failed twice: camera: "):
        next(stream)


def test_what_an_interlock_forbids_is_not_tried_again(rig: Rig) -> None:
    Forbidden(rig, at=2)
    with pytest.raises(InterlockError, match="too hot"):
        rig.expose(plan())
    assert rig.retakes == ()


def test_both_displays_settle_at_once_and_each_only_as_long_as_it_needs(rig: Rig) -> None:
    devices = rig.devices()
    assert devices.scene is not None
    devices.mask.settle_s, devices.scene.settle_s = 0.05, 0.2
    frames = rig.expose(plan(3))
    assert np.diff(frames.camera_time_s) == pytest.approx(0.202)
    same_scene = replace(plan(3), scenes=np.repeat(plan(1).scenes, 3, axis=0))
    assert np.diff(rig.expose(same_scene).camera_time_s) == pytest.approx(0.052)
    same_mask = replace(plan(3), masks=plan(1).masks)
    assert np.diff(rig.expose(same_mask).camera_time_s) == pytest.approx(0.202)
    nothing_new = replace(same_scene, masks=plan(1).masks)
    assert np.diff(rig.expose(nothing_new).camera_time_s) == pytest.approx(0.002)


def test_time_that_a_slow_show_has_used_up_is_not_waited_for_again(rig: Rig) -> None:
    devices = rig.devices()
    assert devices.scene is not None
    devices.mask.settle_s, devices.scene.settle_s = 0.05, 0.0
    show, clock = devices.scene.show, devices.clock

    def slow(levels: np.ndarray) -> float:
        clock.sleep(0.04)
        return show(levels)

    devices.scene.show = slow  # type: ignore[method-assign]
    assert np.diff(rig.expose(plan(3)).camera_time_s) == pytest.approx(0.052)


@pytest.mark.parametrize("clock_error_s", [-1e6, 1e6])
def test_a_display_with_a_wrong_clock_is_waited_for_all_the_same(rig: Rig, clock_error_s: float) -> None:
    devices = rig.devices()
    devices.mask.settle_s = 0.05
    show = devices.mask.show
    devices.mask.show = lambda levels: show(levels) + clock_error_s  # type: ignore[method-assign]
    still = replace(plan(3), scenes=np.repeat(plan(1).scenes, 3, axis=0))
    assert np.diff(rig.expose(still).camera_time_s) == pytest.approx(0.052)


def shot(frame_id: int, camera_s: float, exposure_s: float = 0.01) -> Frames:
    def one(value: float) -> np.ndarray:
        return np.array([value], dtype=np.float64)

    number = np.array([frame_id], dtype=np.int64)
    pixels = np.zeros((1, 1, 2, 2), dtype=np.uint16)
    return Frames(pixels, number, number, one(exposure_s), one(0), one(camera_s), one(0), 4095)


@pytest.mark.parametrize("drift", [0.0, 5e-5, -5e-5])
def test_hours_of_right_frames_pass_whatever_the_camera_calls_its_time(drift: float) -> None:
    order, rng = FrameOrder("camera"), np.random.default_rng(0)
    for number in range(20_000):
        triggered_s = 0.5 * number
        start_s = triggered_s + 0.001 + 0.0005 * rng.random()
        arrived_s = start_s + 0.01 + 0.002 + 0.01 * rng.random() ** 4
        order.check(shot(number, 1e5 + (1 + drift) * start_s), FrameTag(number), triggered_s, arrived_s)


@pytest.mark.parametrize("cycle_s", [0.02, 0.05])
def test_a_frame_of_the_trigger_before_is_told_by_the_clocks_alone(cycle_s: float) -> None:
    order = FrameOrder("camera")
    for number in range(20):
        start_s = cycle_s * number + 0.001
        order.check(shot(number, 77 + start_s), FrameTag(number), cycle_s * number, start_s + 0.013)
    late_s = cycle_s * 20
    with pytest.raises(HardwareError, match="out of step"):
        order.check(shot(20, 77 + late_s - cycle_s + 0.001), FrameTag(20), late_s, late_s + 0.014)


def test_a_frame_that_comes_before_its_exposure_can_be_over_is_another_one() -> None:
    with pytest.raises(HardwareError, match="belongs to an earlier trigger"):
        FrameOrder("camera").check(shot(0, 0.0, exposure_s=0.1), FrameTag(0), 5.0, 5.05)
