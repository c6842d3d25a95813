"""What goes wrong with the panels while patterns are shown."""

from __future__ import annotations

import contextlib
import logging
from collections.abc import Callable, Iterator

import pytest

from labctl.errors import DeviceTimeout, HardwareError
from labctl.sync_proof import prove
from sim.virtual_lab.lab import VirtualLab
from tests.faults.captures import FaultyLab, Kind
from tests.faults.other_window import OtherWindow, other_window
from tests.faults.processes import freeze, kill, panel_child
from tests.faults.table import Row, keep

SCENE_PLACE, MASK_PLACE = (0, 0, 640, 480), (640, 0, 640, 480)
SMALL = (900, 200, 100, 60)


@pytest.fixture
def cover(faulty: FaultyLab) -> Iterator[Callable[[tuple[int, int, int, int]], OtherWindow]]:
    """Makes windows of another program, which are gone after the test."""
    with contextlib.ExitStack() as windows:
        yield lambda place: windows.enter_context(other_window(faulty.lab.environment["DISPLAY"], place))


@pytest.mark.parametrize("panel", ["scene", "mask"])
def test_a_covered_panel_ends_the_capture_before_a_wrong_frame_is_delivered(
    faulty: FaultyLab, cover: Callable[[tuple[int, int, int, int]], OtherWindow], panel: str
) -> None:
    other = cover(SCENE_PLACE if panel == "scene" else MASK_PLACE)
    taken = faulty.capture(faults={6: other.raise_it})
    assert isinstance(taken.error, HardwareError)
    assert "another window covers it" in str(taken.error)
    assert len(taken.frames) == 6
    other.lower_it()
    again = faulty.capture(start=6)
    faulty.resumed(f"window covered: {panel}", "another program's window over the whole panel", taken, again)


def test_a_part_that_was_covered_when_the_frame_was_taken_is_a_frame_taken_again(
    faulty: FaultyLab, cover: Callable[[tuple[int, int, int, int]], OtherWindow]
) -> None:
    other = cover(SMALL)

    class SomebodyReadsTheWarning(logging.Handler):
        def emit(self, record: logging.LogRecord) -> None:
            other.lower_it()

    path, reader = logging.getLogger("labctl.light_path"), SomebodyReadsTheWarning()
    path.addHandler(reader)
    try:
        taken = faulty.capture(faults={6: other.raise_it})
    finally:
        path.removeHandler(reader)
    assert "something covers that part; close or move the other window" in taken.retakes[0]
    faulty.recovered("window covered in part", "another program's window, until the warning comes", taken, retakes=1)


@pytest.mark.parametrize("panel", ["scene", "mask"])
def test_a_killed_panel_ends_the_capture_and_a_resumed_one_completes_it(faulty: FaultyLab, panel: str) -> None:
    kind: Kind = "live" if panel == "mask" else "scenes"
    taken = faulty.capture(kind, faults={5: lambda: kill(panel_child(panel))})
    assert isinstance(taken.error, HardwareError)
    assert "died (signal 9)" in str(taken.error)
    assert "the panel may show the desktop" in str(taken.error)
    assert taken.seconds < 10
    again = faulty.capture(kind, start=5)
    taken_safely = [error for error in taken.safe_errors if not error.startswith(f"{panel}: ")]
    assert taken_safely == [], "the other devices are made safe all the same"
    faulty.resumed(f"child killed: {panel} panel", "kill -9 of the panel's process", taken, again, kind=kind)


def test_a_panel_that_draws_late_is_waited_for(faulty: FaultyLab) -> None:
    taken = faulty.capture(faults={5: lambda: freeze(panel_child("scene"), 1.0)})
    assert taken.seconds > 1
    faulty.recovered("pattern shown late: the window hangs for 1 s", "SIGSTOP of the panel's process", taken, retakes=0)


def test_a_display_server_that_hangs_for_a_while_is_waited_for(faulty: FaultyLab) -> None:
    taken = faulty.capture(faults={5: lambda: freeze(faulty.lab.pids["x-server"], 1.0)})
    assert taken.seconds > 1
    faulty.recovered(
        "pattern shown late: the display server hangs for 1 s", "SIGSTOP of the X server", taken,
        retakes=len(taken.retakes),
    )  # fmt: skip


def test_a_panel_that_hangs_is_a_timeout_and_a_resumed_capture_is_whole(
    faulty: FaultyLab, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("drivers.panels.display.SHOW_LIMIT_S", 1.0)
    taken = faulty.capture(faults={5: lambda: freeze(panel_child("scene"), 60)})
    assert isinstance(taken.error, DeviceTimeout)
    assert "scene: no answer to 'show' within 1 s" in str(taken.error)
    assert taken.seconds < 15
    again = faulty.capture(start=5)
    faulty.resumed("child hangs: scene panel", "SIGSTOP of the panel's process", taken, again)


def test_a_panel_slower_than_its_settling_time_is_found_by_the_proof(
    faulty: FaultyLab, timed: Callable[[], float], monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("labctl.sync_proof.REST_S", 0.2)
    with faulty.open() as rig:
        faulty.lab.ask_bench("set", display="mask", latency_s=0.11, response_s=0.002)
        slow = prove(rig, pairs=12, patterns=3)
        mended = prove(rig, pairs=12, patterns=3, settle_s=0.2)
    assert len(slow.doubts) > 6
    assert mended.doubts == ()
    first = slow.doubts[0]
    saw = (
        f"labctl sync: {len(slow.doubts)} of 12 frames do not show their pattern; frame {first.frame_id} is "
        f"{first.verdict.word}; none once 0.2 s are waited for"
    )
    what = "bench: the mask panel takes 0.11 s, 0.06 s are waited for"
    keep(Row("pattern shown late: slower panel than measured", what, saw, "found by the proof", 0, 0, timed()))


def test_a_display_server_that_is_gone_ends_the_capture_and_the_next_lab_completes_it(
    faulty: FaultyLab, own_lab: Callable[[], VirtualLab]
) -> None:
    lab = own_lab()
    private = FaultyLab(lab, faulty.whole)
    taken = private.capture(faults={5: lambda: kill(lab.pids["x-server"])})
    assert isinstance(taken.error, HardwareError)
    assert "display server" in str(taken.error)
    assert "cannot be reached" in str(taken.error)
    assert len(taken.frames) == 5
    assert taken.seconds < 20
    assert lab.ask_instruments(None)["lamp"] == 0.0, "the lamp is made safe all the same"
    lab.stop()
    again = FaultyLab(own_lab(), faulty.whole).capture(start=5)
    faulty.resumed("display server gone", "kill -9 of the X server of a private lab", taken, again)
