"""What goes wrong with the camera while it captures."""

from __future__ import annotations

from collections.abc import Callable
from functools import partial

import pytest

from labctl.errors import DeviceTimeout, HardwareError
from tests.faults.captures import FaultyLab
from tests.faults.processes import child_that_runs, freeze, kill

CAMERA, SERIAL = "drivers.genicam.child", "VLAB0001"
FILE = "a line in the producer's fault file"


def camera_fault(faulty: FaultyLab, name: str, value: float) -> Callable[[], object]:
    return partial(faulty.lab.fault, SERIAL, name, value)


def test_incomplete_frames_are_taken_again(faulty: FaultyLab) -> None:
    once = camera_fault(faulty, "FaultIncompleteNext", 1)
    taken = faulty.capture(faults={1: once, 4: once, 11: once})
    assert all("its frame came incomplete" in reason for reason in taken.retakes)
    assert taken.camera["drops"]["incomplete"] == 3
    faulty.recovered("incomplete buffers", f"{FILE}: FaultIncompleteNext 1, three times", taken, retakes=3)


def test_nothing_but_incomplete_frames_ends_the_capture(faulty: FaultyLab) -> None:
    taken = faulty.capture(faults={5: camera_fault(faulty, "FaultIncompleteNext", 2)})
    assert isinstance(taken.error, DeviceTimeout)
    assert "exposure 5 failed twice: camera: exposure 5 is lost: its frame came incomplete" in str(taken.error)
    assert len(taken.frames) == 5
    again = faulty.capture(start=5)
    faulty.resumed("incomplete buffers, two in a row", f"{FILE}: FaultIncompleteNext 2", taken, again)


def test_dropped_frames_are_taken_again(faulty: FaultyLab) -> None:
    once = camera_fault(faulty, "FaultDropNext", 1)
    taken = faulty.capture(faults={3: once, 8: once})
    assert all("no frame came within 1 s" in reason for reason in taken.retakes)
    assert taken.seconds < 20
    faulty.recovered("dropped frames", f"{FILE}: FaultDropNext 1, twice", taken, retakes=2)


def test_a_late_frame_is_waited_for(faulty: FaultyLab) -> None:
    taken = faulty.capture(faults={6: camera_fault(faulty, "FaultLateNext", 400)})
    assert taken.seconds > 0.4
    faulty.recovered("frame 0.4 s late", f"{FILE}: FaultLateNext 400", taken, retakes=0)


def test_a_frame_that_comes_after_its_limit_is_not_taken_for_the_next_one(faulty: FaultyLab) -> None:
    taken = faulty.capture(faults={6: camera_fault(faulty, "FaultLateNext", 1400)})
    faulty.recovered("frame 1.4 s late, 1 s is the limit", f"{FILE}: FaultLateNext 1400", taken, retakes=1)


def test_a_frame_id_that_comes_twice_is_taken_again(faulty: FaultyLab) -> None:
    taken = faulty.capture(faults={6: camera_fault(faulty, "FaultDuplicateId", 1)})
    assert taken.camera["drops"]["repeated"] == 1
    faulty.recovered("frame id that comes twice", f"{FILE}: FaultDuplicateId 1", taken, retakes=1)


def test_a_camera_that_is_gone_and_back_goes_on(faulty: FaultyLab) -> None:
    taken = faulty.capture(faults={7: camera_fault(faulty, "FaultLostSeconds", 1.5)})
    assert taken.camera["recoveries"] == 1
    assert taken.seconds < 20
    faulty.recovered("camera gone and back", f"{FILE}: FaultLostSeconds 1.5", taken, retakes=1)


def test_a_camera_that_stays_away_ends_the_capture_and_a_resumed_one_completes_it(faulty: FaultyLab) -> None:
    taken = faulty.capture(faults={7: camera_fault(faulty, "FaultLost", 1)}, camera__reopen_limit_s=1.0)
    assert isinstance(taken.error, HardwareError)
    assert "camera is lost" in str(taken.error)
    assert "did not come back within 1 s" in str(taken.error)
    assert "check its power and cable" in str(taken.error)
    assert taken.seconds < 30
    assert len(taken.frames) == 7
    faulty.lab.fault(SERIAL, "FaultLost", 0)
    again = faulty.capture(start=7)
    faulty.resumed("camera gone", f"{FILE}: FaultLost 1, later FaultLost 0", taken, again)


def test_a_producer_that_never_answers_is_killed_and_the_camera_opened_anew(faulty: FaultyLab) -> None:
    taken = faulty.capture(faults={5: camera_fault(faulty, "FaultNodeHangSeconds", 3600)})
    assert taken.camera["recoveries"] == 1
    assert taken.seconds < 20
    faulty.recovered("producer that never answers", f"{FILE}: FaultNodeHangSeconds 3600", taken, retakes=1)


def test_a_producer_that_never_answers_while_it_opens_is_given_up(
    faulty: FaultyLab, timed: Callable[[], float]
) -> None:
    faulty.lab.fault(SERIAL, "FaultNodeHangSeconds", 3600)
    with pytest.raises(HardwareError, match=r"camera: no answer to 'open' within 3 s") as error:
        faulty.open(camera__open_limit_s=3.0)
    assert timed() < 20
    faulty.refused("producer that never answers, at open", f"{FILE}: FaultNodeHangSeconds 3600", error.value, timed())


def test_a_camera_that_stands_still_is_a_lost_frame(faulty: FaultyLab) -> None:
    taken = faulty.capture(faults={5: camera_fault(faulty, "FaultStallSeconds", 1.5)})
    assert len(taken.retakes) <= 1
    faulty.recovered(
        "camera stands still for 1.5 s", f"{FILE}: FaultStallSeconds 1.5", taken, retakes=len(taken.retakes)
    )


def test_a_killed_camera_process_is_started_anew(faulty: FaultyLab) -> None:
    taken = faulty.capture(faults={5: lambda: kill(child_that_runs(CAMERA))})
    assert taken.camera["recoveries"] == 1
    assert taken.seconds < 20
    faulty.recovered("child killed: camera", "kill -9 of the camera's process", taken, retakes=1)


def test_a_camera_process_that_hangs_is_killed_and_started_anew(faulty: FaultyLab) -> None:
    taken = faulty.capture(faults={5: lambda: freeze(child_that_runs(CAMERA), 30)})
    assert taken.camera["recoveries"] == 1
    assert taken.seconds < 20
    faulty.recovered("child hangs: camera", "SIGSTOP of the camera's process", taken, retakes=1)
