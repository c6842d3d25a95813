"""What goes wrong with cameras: each ends in a named error or a counted recovery, never in a hang or a wrong frame."""

from __future__ import annotations

import os
import shutil
import signal
import subprocess
import sys
import time
from pathlib import Path

import numpy as np
import pytest

from drivers.genicam.camera import GenicamCamera
from labctl.errors import BadInput, DeviceTimeout, HardwareError
from labctl.exposure import Exposure, FrameTag
from tests.drivers.genicam.conftest import BRIEF, Fault, MakeCamera, children, id_shown, take

HANGING = "__attribute__((constructor)) static void load(void) { for (;;) __builtin_ia32_pause(); }"
CRASHING = "__attribute__((constructor)) static void load(void) { __builtin_trap(); }"


def armed(make_camera: MakeCamera, **settings: object) -> GenicamCamera:
    camera = make_camera(**settings)
    camera.configure(BRIEF)
    camera.arm(20)
    return camera


def take_all(camera: GenicamCamera) -> None:
    """Frames of a stream until one does not come; what lies in the ring is good even when the camera is gone."""
    while True:
        camera.latest(1)


def pid_of(camera: GenicamCamera) -> int:
    return int(camera.describe_device()["pid"])


def test_an_incomplete_frame_is_lost_in_words_and_the_exposure_can_be_taken_again(
    make_camera: MakeCamera, fault: Fault
) -> None:
    camera = armed(make_camera)
    take(camera, 1)
    fault("FaultIncompleteNext", 1)
    camera.trigger(FrameTag(2))
    with pytest.raises(DeviceTimeout, match=r"camera: exposure 2 is lost: its frame came incomplete; .*trigger it"):
        camera.fetch(20)
    assert take(camera, 2).exposure_ids.tolist() == [2]
    told = camera.stats()
    assert (told["drops"]["incomplete"], told["lost_exposures"], told["recoveries"]) == (1, 1, 0)


def test_a_dropped_frame_is_lost_and_never_mistaken_for_the_next(make_camera: MakeCamera, fault: Fault) -> None:
    camera = armed(make_camera, frame_limit_s=0.3)
    take(camera, 1)
    fault("FaultDropNext", 1)
    camera.trigger(FrameTag(2))
    with pytest.raises(DeviceTimeout, match=r"camera: exposure 2 is lost: no frame came within 0\.302 s"):
        camera.fetch(20)
    frames = [take(camera, exposure_id) for exposure_id in (2, 3)]
    assert [int(frame.exposure_ids[0]) for frame in frames] == [2, 3]
    assert camera.stats()["lost_exposures"] == 1


def test_a_late_frame_is_never_taken_for_that_of_the_next_trigger(make_camera: MakeCamera, fault: Fault) -> None:
    camera = armed(make_camera, frame_limit_s=0.3)
    take(camera)
    fault("FaultLateNext", 700)
    camera.trigger(FrameTag(2))
    with pytest.raises(DeviceTimeout, match="exposure 2 is lost"):
        camera.fetch(20)
    before_s = time.monotonic()
    frame = take(camera, 3)
    assert frame.exposure_ids.tolist() == [3]
    assert frame.camera_time_s[0] > before_s - 0.001


def test_a_frame_that_is_only_late_is_still_the_right_one(make_camera: MakeCamera, fault: Fault) -> None:
    camera = armed(make_camera)
    before = id_shown(take(camera, 1))
    fault("FaultLateNext", 400)
    assert id_shown(take(camera, 2)) == before + 1


def test_a_repeated_frame_id_is_counted_and_its_frame_not_handed_out(make_camera: MakeCamera, fault: Fault) -> None:
    camera = armed(make_camera, frame_limit_s=0.3)
    take(camera, 1)
    fault("FaultDuplicateId", 1)
    camera.trigger(FrameTag(2))
    said = r"exposure 2 is lost: no frame came within 0\.302 s but 1 refused as foreign \(the last one repeats frame id"
    with pytest.raises(DeviceTimeout, match=said):
        camera.fetch(20)
    assert camera.stats()["drops"]["repeated"] == 1
    assert take(camera, 3).exposure_ids.tolist() == [3]


def test_in_a_stream_every_missing_id_is_explained(make_camera: MakeCamera, fault: Fault) -> None:
    camera = make_camera(features={"AcquisitionFrameRate": 100.0})
    camera.configure(BRIEF)
    camera.start_stream("every")
    shown = [id_shown(camera.next_frame(5)) for _ in range(10)]
    fault("FaultDropNext", 3)
    fault("FaultIncompleteNext", 2)
    shown += [id_shown(camera.next_frame(5)) for _ in range(40)]
    camera.stop_stream()
    drops = camera.stats()["drops"]
    assert int(np.sum(np.diff(shown) - 1)) == 5
    assert (drops["missing"], drops["incomplete"], drops["lost_elsewhere"]) == (5, 2, 3)
    assert drops["spanned"] == drops["received"] + drops["missing"]


def test_starved_of_buffers_the_producer_counts_underruns_and_they_explain_the_gap(make_camera: MakeCamera) -> None:
    camera = make_camera(buffers=3, features={"AcquisitionFrameRate": 200.0})
    camera.configure(BRIEF)
    camera.start_stream("latest")
    camera.next_frame(5)
    os.kill(pid_of(camera), signal.SIGSTOP)  # its thread in the producer stops too: a pause, not yet a loss
    os.kill(pid_of(camera), signal.SIGCONT)
    for _ in range(50):
        camera.next_frame(5)
    camera.stop_stream()
    drops = camera.stats()["drops"]
    assert drops["spanned"] == drops["received"] + drops["missing"]
    assert drops["lost_elsewhere"] == 0
    assert drops["missing"] == drops["underrun"]


def test_a_camera_that_is_gone_for_a_while_is_reopened_as_it_was(make_camera: MakeCamera, fault: Fault) -> None:
    camera = make_camera(features={"BlackLevel": 100})
    taken = camera.configure(Exposure(exposure_s=0.003, gain_db=3.0, roi=(20, 20)))
    camera.arm(5)
    take(camera, 1)
    before = pid_of(camera)
    fault("FaultLostSeconds", 1.5)
    with pytest.raises(DeviceTimeout, match=r"camera: .*exposure 2 .*trigger it again"):
        take(camera, 2)
    frame = take(camera, 2)
    assert frame.exposure_s.tolist() == [taken.exposure_s]
    assert frame.gain_db.tolist() == [taken.gain_db]
    assert frame.pixels.shape[2:] == (20, 20)
    assert camera.get_feature("BlackLevel") == 100
    told = camera.describe_device()
    assert (told["recoveries"], told["lost_exposures"]) == (1, 1)
    assert pid_of(camera) != before
    assert len(children()) == 1


def test_a_camera_that_stays_away_is_an_error_until_it_is_back(make_camera: MakeCamera, fault: Fault) -> None:
    camera = armed(make_camera, reopen_limit_s=0.5)
    fault("FaultLost", 1)
    begun_s = time.monotonic()
    with pytest.raises(HardwareError, match=r"camera is lost .* did not come back within 0\.5 s: .*no camera.*check"):
        take(camera, 1)
    assert time.monotonic() - begun_s < 10
    fault("FaultLost", 0)
    camera.configure(BRIEF)
    camera.arm(1)
    assert take(camera, 2).exposure_ids.tolist() == [2]
    assert camera.stats()["recoveries"] == 1


def test_a_camera_that_stalls_loses_its_exposure_and_not_the_next(make_camera: MakeCamera, fault: Fault) -> None:
    camera = armed(make_camera, frame_limit_s=0.3)
    take(camera, 1)
    fault("FaultStallSeconds", 1.0)
    camera.trigger(FrameTag(2))
    with pytest.raises(DeviceTimeout, match="exposure 2 is lost"):
        camera.fetch(20)
    time.sleep(1.0)
    assert take(camera, 3).exposure_ids.tolist() == [3]


def test_a_producer_that_never_answers_is_killed_and_started_anew(make_camera: MakeCamera, fault: Fault) -> None:
    camera = make_camera(answer_limit_s=0.7)
    fault("FaultNodeHangSeconds", 3600)
    begun_s = time.monotonic()
    taken = camera.configure(BRIEF)
    assert time.monotonic() - begun_s < 10
    assert camera.stats()["recoveries"] == 1
    camera.arm(1)
    assert take(camera).exposure_s.tolist() == [taken.exposure_s]


def test_a_producer_that_hangs_in_a_trigger_loses_that_exposure_alone(make_camera: MakeCamera, fault: Fault) -> None:
    camera = armed(make_camera, answer_limit_s=0.7)
    take(camera, 1)
    fault("FaultNodeHangSeconds", 3600)
    with pytest.raises(DeviceTimeout, match=r"whether exposure 2 began is not known.*trigger it again"):
        camera.trigger(FrameTag(2))
    assert take(camera, 2).exposure_ids.tolist() == [2]


@pytest.mark.parametrize("moment", ["idle", "exposing", "stopped"])
def test_a_killed_child_is_replaced_and_counted(make_camera: MakeCamera, moment: str) -> None:
    camera = make_camera()
    camera.configure(Exposure(exposure_s=0.3))
    camera.arm(5)
    if moment == "exposing":
        camera.trigger(FrameTag(1))
        os.kill(pid_of(camera), signal.SIGKILL)
        with pytest.raises(DeviceTimeout, match="exposure 1 is lost: the camera was gone; it is back"):
            camera.fetch(20)
    elif moment == "stopped":
        camera.disarm()
        os.kill(pid_of(camera), signal.SIGKILL)
        camera.safe()
        camera.configure(Exposure(exposure_s=0.3))
        camera.arm(5)
    else:
        os.kill(pid_of(camera), signal.SIGKILL)
        with pytest.raises(DeviceTimeout, match="trigger it again"):
            camera.trigger(FrameTag(1))
    assert take(camera, 1).exposure_ids.tolist() == [1]
    assert camera.stats()["recoveries"] == 1


def test_a_stopped_child_is_noticed_within_its_limit(make_camera: MakeCamera) -> None:
    camera = make_camera(answer_limit_s=0.7)
    os.kill(pid_of(camera), signal.SIGSTOP)
    begun_s = time.monotonic()
    camera.configure(BRIEF)
    assert time.monotonic() - begun_s < 10
    assert camera.stats()["recoveries"] == 1


def test_a_stream_goes_on_after_the_camera_was_gone(make_camera: MakeCamera) -> None:
    camera = make_camera()
    camera.configure(BRIEF)
    camera.start_stream()
    camera.latest(5)
    os.kill(pid_of(camera), signal.SIGKILL)
    with pytest.raises(DeviceTimeout, match="the camera was gone and is back"):
        take_all(camera)
    id_shown(camera.latest(5))


def test_a_camera_set_behind_our_back_is_never_believed(make_camera: MakeCamera) -> None:
    camera = make_camera()
    camera._kept.process.ask("set_feature", 2.0, name="ExposureAuto", value="Continuous")
    with pytest.raises(HardwareError, match="the feature ExposureTime cannot be written now"):
        camera.configure(BRIEF)


def test_after_a_half_done_configure_nothing_is_configured_and_the_old_time_settles_again(
    make_camera: MakeCamera,
) -> None:
    camera = armed(make_camera, features={"ExposurePipelineDelay": 1})
    take(camera)
    camera._kept.process.ask("set_feature", 2.0, name="GainAuto", value="Continuous")
    with pytest.raises(HardwareError, match="the feature Gain cannot be written now"):
        camera.configure(Exposure(exposure_s=0.05))  # the camera has taken the time, and not the gain
    with pytest.raises(HardwareError, match="camera is not configured"):
        camera.arm(1)
    camera._kept.process.ask("set_feature", 2.0, name="GainAuto", value="Off")
    received = camera.stats()["drops"]["received"]
    camera.configure(BRIEF)
    camera.arm(1)
    take(camera)
    assert camera.stats()["drops"]["received"] > received + 1, "the time before must have left the camera"


def test_after_a_late_frame_settling_begins_anew_so_that_no_trigger_is_left_over(
    make_camera: MakeCamera, fault: Fault
) -> None:
    camera = make_camera(frame_limit_s=0.3)
    camera.configure(BRIEF)
    fault("FaultLateNext", 700)
    camera.arm(1)
    assert camera.get_feature("StatTriggersMissed") == 0
    assert camera.get_feature("StatTriggersAccepted") == 1
    id_shown(take(camera))


def test_a_child_that_dies_before_it_first_grabs_is_replaced(make_camera: MakeCamera) -> None:
    camera = make_camera()
    camera.configure(BRIEF)
    os.kill(pid_of(camera), signal.SIGKILL)
    while camera._kept.process.alive:
        time.sleep(0.01)
    camera.arm(1)
    take(camera)
    assert camera.stats()["recoveries"] == 1


@pytest.mark.parametrize(
    ("settings", "said"),
    [
        ({"producer": "/nowhere/maker.cti"}, "the producer /nowhere/maker.cti is not there; install it, or correct"),
        ({"producer": "$VENDOR/maker.cti"}, "needs the variable VENDOR, which is not set"),
        ({"serial": "X1"}, r"no camera has serial X1; there are labctl Virtual camera \(serial VLAB0001\), labctl"),
        ({"serial": None}, "there are 2 cameras: .*VLAB0001.*VLAB0002.*add `serial` or `index`"),
        ({"serial": None, "model": "Virtual camera"}, "2 cameras have model Virtual camera: "),
        ({"serial": None, "index": 2}, r"camera index is 2; 0\.\.1 fits"),
    ],
)
def test_what_cannot_be_opened_says_why(make_camera: MakeCamera, settings: dict[str, object], said: str) -> None:
    with pytest.raises(HardwareError, match=said):
        make_camera(**settings)
    assert children() == []


@pytest.mark.parametrize(
    ("settings", "said"),
    [
        ({"pixel_format": "Mono14"}, "camera: pixel_format is Mono14, but the camera does not offer it; did you mean"),
        ({"fixed_exposure_s": 0.1}, "camera: the camera sets its own exposure time; remove `fixed_exposure_s`"),
        ({"exposure_limits_s": (20.0, 30.0)}, "camera: exposure_limits_s is 20..30 s, the camera has 1e-05..10 s"),
    ],
)
def test_settings_that_do_not_fit_the_camera_are_bad_input(
    make_camera: MakeCamera, settings: dict[str, object], said: str
) -> None:
    with pytest.raises(BadInput, match=said):
        make_camera(**settings)
    assert children() == []


def test_no_producer_at_all_says_where_it_was_looked_for(make_camera: MakeCamera, tmp_path: Path) -> None:
    with pytest.raises(HardwareError, match=f"no GenTL producer .* was found in {tmp_path}"):
        make_camera(more={"GENICAM_GENTL64_PATH": str(tmp_path)})
    with pytest.raises(HardwareError, match="since GENICAM_GENTL64_PATH is not set"):
        make_camera(more={"GENICAM_GENTL64_PATH": ""})


def test_two_cameras_with_one_serial_number_are_told_apart_by_index(
    make_camera: MakeCamera, producer: Path, tmp_path: Path
) -> None:
    for name in ("one.cti", "two.cti"):
        shutil.copy(producer, tmp_path / name)
    with pytest.raises(HardwareError, match=r"2 cameras have serial VLAB0001: .*; add `serial` or `index`"):
        make_camera(producer=str(tmp_path))
    camera = make_camera(producer=str(tmp_path), index=1)
    camera.configure(BRIEF)
    camera.arm(1)
    take(camera)


def test_a_broken_producer_is_an_error_in_words(make_camera: MakeCamera, tmp_path: Path) -> None:
    (tmp_path / "broken.cti").write_bytes(b"no library")
    with pytest.raises(HardwareError, match=r"broken\.cti cannot be used: .*reinstall it"):
        make_camera(producer=str(tmp_path / "broken.cti"))


@pytest.mark.parametrize(("source", "said"), [(HANGING, "no answer to 'open' within 2 s"), (CRASHING, "died")])
def test_a_producer_that_hangs_or_crashes_takes_nobody_with_it(
    make_camera: MakeCamera, tmp_path: Path, source: str, said: str
) -> None:
    library = tmp_path / "bad.cti"
    subprocess.run(["cc", "-shared", "-fPIC", "-x", "c", "-", "-o", library], input=source.encode(), check=True)
    begun_s = time.monotonic()
    with pytest.raises(HardwareError, match=f"camera: .*{said}"):
        make_camera(producer=str(library), open_limit_s=2.0)
    assert time.monotonic() - begun_s < 8
    assert children() == []


def test_without_the_extra_it_says_which_to_install(make_camera: MakeCamera, tmp_path: Path) -> None:
    (tmp_path / "harvesters.py").write_text("raise ImportError('No module named harvesters')")
    with pytest.raises(HardwareError, match=r"GenICam cameras need harvesters.*pip install 'labctl\[genicam\]'"):
        make_camera(more={"PYTHONPATH": str(tmp_path)})


def test_a_camera_that_somebody_else_holds_says_so(producer: Path) -> None:
    script = (
        "from drivers.genicam.enumeration import create_camera, open_producers\n"
        f"harvester, cameras = open_producers([{str(producer)!r}])\n"
        "held = create_camera(harvester, 0, 4)\n"
        "try: create_camera(harvester, 0, 4)\n"
        "except Exception as error: print(type(error).__name__, error, flush=True)\n"
        "import os; os._exit(0)\n"
    )
    done = subprocess.run([sys.executable, "-c", script], capture_output=True, text=True, timeout=60, check=True)
    assert "HardwareError the camera labctl Virtual camera (serial VLAB0001) is in use; close" in done.stdout
