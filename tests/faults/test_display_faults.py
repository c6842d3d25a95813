"""What goes wrong with the panels while patterns are shown."""

from __future__ import annotations

import contextlib
import threading
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
SMALL = (200, 200, 100, 60)


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


def test_a_part_covered_for_a_moment_is_a_frame_taken_again(
    faulty: FaultyLab, cover: Callable[[tuple[int, int, int, int]], OtherWindow]
) -> None:
    other = cover(SMALL)

    def for_a_moment() -> None:
        other.raise_it()
        threading.Timer(0.4, other.lower_it).start()

    taken = faulty.capture(faults={6: for_a_moment})
    assert taken.error is None
    faulty.recovered(
        "window covered in part, 0.4 s", "another program's window, 100x60 pixels", taken, retakes=len(taken.retakes)
    )


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


def test_a_panel_that_hangs_is_a_timeout_and_a_resumed_capture_is_whole(faulty: FaultyLab) -> None:
    taken = faulty.capture(faults={5: lambda: freeze(panel_child("scene"), 60)})
    assert isinstance(taken.error, DeviceTimeout)
    assert "scene: no answer to 'show' within 5 s" in str(taken.error)
    assert taken.seconds < 15
    again = faulty.capture(start=5)
    faulty.resumed("child hangs: scene panel", "SIGSTOP of the panel's process", taken, again)


def test_a_panel_slower_than_its_settling_time_is_found_by_the_proof(
    faulty: FaultyLab, timed: Callable[[], float]
) -> None:
    with faulty.open(scene__verify="off") as rig:
        as_it_was = prove(rig, pairs=12, patterns=3)
        faulty.lab.ask_bench("set", display="mask", latency_s=0.11, response_s=0.002)
        slow = prove(rig, pairs=12, patterns=3)
        mended = prove(rig, pairs=12, patterns=3, settle_s=0.2)
    assert as_it_was.doubts == mended.doubts == ()
    assert len(slow.doubts) > 6
    first = slow.doubts[0]
    saw = (
        f"{len(slow.doubts)} of 12 frames found by labctl sync: frame {first.frame_id} is {first.verdict.word}, "
        f"{first.verdict.previous_share:.0%} of it the pattern before; none once it waits for 0.2 s"
    )
    keep(Row("pattern shown late: the panel got slower", "bench: mask latency 0.11 s, 0.06 s are waited for",
             saw, "found by the proof", 0, 0, timed()))  # fmt: skip


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
