"""The GenICam camera on our own producer: formats, regions, chunks, triggers, settling, streams, features."""

from __future__ import annotations

import threading
import time

import numpy as np
import pytest

from drivers.genicam.pixel_formats import FORMATS
from labctl.devices import Camera
from labctl.errors import BadInput, DeviceTimeout, HardwareError, InterlockError
from labctl.exposure import Exposure, FrameTag
from tests.drivers.genicam.conftest import BRIEF, SENSOR, MakeCamera, id_shown, pattern_of, take

OURS = ["Mono8", "Mono10", "Mono10p", "Mono12", "Mono12p", "Mono16", "BayerRG8", "BayerRG12", "BayerRG12p"]


def test_it_is_a_camera_and_says_who_and_what_it_is(make_camera: MakeCamera) -> None:
    camera = make_camera()
    assert isinstance(camera, Camera)
    told = camera.describe_device()
    assert told["identity"]["serial"] == "VLAB0001"
    assert told["shape"] == list(SENSOR)
    assert sorted(told["formats"]) == sorted(OURS)
    assert told["settable"] == {"exposure": True, "gain": True}
    assert 20 < told["temperature_c"] < 50
    assert told["stubborn"] == []


@pytest.mark.parametrize("name", OURS)
def test_every_pixel_format_is_bit_exact(make_camera: MakeCamera, name: str) -> None:
    camera = make_camera(pixel_format=name)
    known = FORMATS[name]
    assert camera.saturation_dn == known.saturation_dn
    assert camera.describe_device()["filter_pattern"] == ("RG" if name.startswith("Bayer") else "")
    camera.configure(BRIEF)
    camera.arm(3)
    shown = [id_shown(take(camera), shift=12 - known.bits) for _ in range(3)]
    assert np.diff(shown).tolist() == [1, 1]


@pytest.mark.parametrize("roi", [SENSOR, (32, 32), (31, 29), (2, 4), (1, 1), (47, 64)])
def test_the_region_is_centred_and_exactly_as_large_as_asked(make_camera: MakeCamera, roi: tuple[int, int]) -> None:
    camera = make_camera(pixel_format="Mono12p")
    assert camera.configure(BRIEF.model_copy(update={"roi": roi})).roi == roi
    camera.arm(1)
    frame = take(camera)
    assert frame.pixels.shape == (1, 1, *roi)
    top, left = (SENSOR[0] - roi[0]) // 2, (SENSOR[1] - roi[1]) // 2
    first = pattern_of(roi, 0, top, left, 0)
    ids = {int(step) for step in np.unique((frame.pixels[0, 0].astype(int) - first) % 4096)}
    assert len(ids) == 1, "every pixel lies where the centred region has it"
    assert ids.pop() % 16 == 0


def test_the_frame_says_what_was_taken_and_what_was_taken_can_be_taken_again(make_camera: MakeCamera) -> None:
    camera = make_camera()
    taken = camera.configure(Exposure(exposure_s=0.0012341, gain_db=6.04))
    assert taken.exposure_s == pytest.approx(0.0012341, abs=5e-6)
    assert taken.gain_db == pytest.approx(6.0)
    camera.arm(1)
    frame = take(camera)
    assert frame.exposure_s.tolist() == [taken.exposure_s]
    assert frame.gain_db.tolist() == [taken.gain_db]
    assert camera.configure(taken) == taken


@pytest.mark.parametrize(
    ("wrong", "said"),
    [
        (Exposure(exposure_s=20.0), "1e-05..10 s is allowed"),
        (Exposure(exposure_s=1e-6), "1e-05..10 s is allowed"),
        (BRIEF.model_copy(update={"gain_db": 25.0}), "at most 24 dB"),
        (BRIEF.model_copy(update={"roi": (49, 64)}), "the sensor has 48x64"),
    ],
)
def test_beyond_its_limits_it_refuses_and_keeps_what_it_had(
    make_camera: MakeCamera, wrong: Exposure, said: str
) -> None:
    camera = make_camera()
    taken = camera.configure(BRIEF)
    with pytest.raises(InterlockError, match=f"camera: .*{said}"):
        camera.configure(wrong)
    camera.arm(1)
    assert take(camera).exposure_s.tolist() == [taken.exposure_s]


def test_limits_of_the_rig_file_are_narrower_ones(make_camera: MakeCamera) -> None:
    camera = make_camera(exposure_limits_s=(0.001, 0.1))
    assert camera.exposure_limits_s == (0.001, 0.1)
    with pytest.raises(InterlockError):
        camera.configure(Exposure(exposure_s=0.2))
    for limit_s in camera.exposure_limits_s:
        assert camera.configure(Exposure(exposure_s=limit_s)).exposure_s == limit_s


def test_one_trigger_gives_one_frame_begun_after_it(make_camera: MakeCamera) -> None:
    camera = make_camera()
    camera.configure(BRIEF)
    camera.arm(20)
    shown, begun_s = [], []
    for exposure_id in range(20):
        before_s = time.monotonic()
        frame = take(camera, exposure_id)
        assert camera.clock is not None
        start_s = frame.camera_time_s[0] - camera.clock.offset_ns / 1e9
        assert before_s - camera.clock.within_ns / 1e9 < start_s < frame.host_time_s[0] <= time.monotonic()
        assert frame.exposure_ids.tolist() == [exposure_id]
        shown.append(id_shown(frame))
        assert frame.frame_ids.tolist() == [shown[-1]], "the id is the camera's own"
        begun_s.append(float(frame.camera_time_s[0]))
    assert np.diff(shown).tolist() == [1] * 19
    assert np.all(np.diff(begun_s) > BRIEF.exposure_s)
    assert camera.stats()["foreign_frames"] == 0
    assert camera.get_feature("StatTriggersMissed") == 0


def test_triggers_in_a_row_wait_for_each_other_and_none_is_lost(make_camera: MakeCamera) -> None:
    camera = make_camera(slots=4)
    camera.configure(Exposure(exposure_s=0.01))
    camera.arm(10)
    for exposure_id in range(10):
        camera.trigger(FrameTag(exposure_id))
    frames = [camera.fetch(10) for _ in range(10)]
    assert [int(frame.exposure_ids[0]) for frame in frames] == list(range(10))
    assert np.diff([id_shown(frame) for frame in frames]).tolist() == [1] * 9
    assert camera.get_feature("StatTriggersMissed") == 0
    assert camera.stats()["drops"]["not_taken"] == 0


@pytest.mark.parametrize("delay", [0, 1, 5])
def test_no_frame_is_handed_out_before_a_new_exposure_time_has_reached_it(make_camera: MakeCamera, delay: int) -> None:
    camera = make_camera(features={"ExposurePipelineDelay": delay})
    for exposure_s in (0.001, 0.02, 0.003):
        taken = camera.configure(Exposure(exposure_s=exposure_s))
        camera.arm(2)
        for _ in range(2):
            frame = take(camera)
            lasted_s = float(frame.host_time_s[0] - frame.camera_time_s[0])
            assert lasted_s >= taken.exposure_s - 1e-4, "the camera was still on the shorter time before"
            assert frame.exposure_s.tolist() == [taken.exposure_s]
    received = camera.stats()["drops"]["received"]
    assert received == 6 + 1 + 2 * (1 + delay), "as many as needed were thrown away, and no more"


def test_in_free_run_the_frame_begins_after_it_was_asked_for(make_camera: MakeCamera) -> None:
    camera = make_camera(trigger="free-run", features={"AcquisitionFrameRate": 100.0})
    camera.configure(BRIEF)
    camera.arm(5)
    for exposure_id in range(5):
        time.sleep(0.03)
        asked_s = time.monotonic()
        frame = take(camera, exposure_id)
        assert frame.camera_time_s[0] >= asked_s - 0.001
        id_shown(frame)


def test_two_cameras_work_at_once(make_camera: MakeCamera) -> None:
    cameras = [make_camera("left", pixel_format="Mono8"), make_camera("right", serial="VLAB0002")]
    shown: dict[str, list[int]] = {"left": [], "right": []}

    def work(place: int) -> None:
        camera, shift = cameras[place], 4 * (1 - place)
        camera.configure(BRIEF)
        camera.arm(30)
        shown[camera.name] += [id_shown(take(camera), shift=shift) for _ in range(30)]

    threads = [threading.Thread(target=work, args=(place,)) for place in (0, 1)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join(60)
    assert [np.diff(numbers).tolist() for numbers in shown.values()] == [[1] * 29] * 2
    assert [camera.describe_device()["identity"]["serial"] for camera in cameras] == ["VLAB0001", "VLAB0002"]


def test_a_camera_of_the_old_days_speaks_by_its_old_names(make_camera: MakeCamera) -> None:
    camera = make_camera(more={"LABCTL_PRODUCER_OLD_NAMES": "1"}, serial="VLAB0002", gain_step_db=0.1)
    taken = camera.configure(Exposure(exposure_s=0.0012, gain_db=6.0))
    assert (taken.exposure_s, taken.gain_db) == (0.0012, 6.0)
    assert camera.get_feature("GainRaw") == 60
    assert camera.get_feature("ExposureTimeAbs") == pytest.approx(1200)
    camera.arm(1)
    assert take(camera).gain_db.tolist() == [6.0]


def test_gain_in_steps_of_unknown_size_can_only_be_the_smallest(make_camera: MakeCamera) -> None:
    camera = make_camera(more={"LABCTL_PRODUCER_OLD_NAMES": "1"}, serial="VLAB0002")
    assert camera.configure(BRIEF).gain_db == 0
    with pytest.raises(InterlockError, match="at most 0 dB"):
        camera.configure(BRIEF.model_copy(update={"gain_db": 1.0}))


def test_the_stream_gives_the_newest_frame_or_every_one(make_camera: MakeCamera) -> None:
    camera = make_camera(features={"AcquisitionFrameRate": 200.0})
    camera.configure(BRIEF)
    camera.start_stream("latest")
    time.sleep(0.3)
    before_s = time.monotonic()
    newest = camera.latest(5)
    assert newest.host_time_s[0] > before_s - 0.1
    assert camera.stats()["drops"]["not_taken"] > 20
    camera.start_stream("every")
    shown = [id_shown(camera.next_frame(5)) for _ in range(100)]
    assert set(np.diff(shown) % 256) == {1}
    camera.stop_stream()
    with pytest.raises(HardwareError, match="not streaming"):
        camera.latest(1)
    camera.arm(1)
    id_shown(take(camera))


def test_when_nobody_takes_them_frames_are_refused_and_counted_and_none_is_overwritten(
    make_camera: MakeCamera,
) -> None:
    camera = make_camera(slots=4, features={"AcquisitionFrameRate": 200.0})
    camera.configure(BRIEF)
    camera.start_stream("every")
    time.sleep(0.5)
    shown = [id_shown(camera.next_frame(5)) for _ in range(4)]
    assert np.diff(shown).tolist() == [1, 1, 1]
    camera.stop_stream()
    drops = camera.stats()["drops"]
    assert drops["not_taken"] > 50
    assert drops["spanned"] == drops["received"] + drops["missing"]
    assert drops["missing"] == 0


def test_features_are_listed_read_and_written(make_camera: MakeCamera) -> None:
    camera = make_camera()
    listed = camera.features()
    assert listed["BlackLevel"] == {
        "kind": "float",
        "writable": True,
        "value": 64,
        "low": 0,
        "high": 1023,
        "unit": "DN",
    }
    assert "Software" in listed["TriggerSource"]["entries"]
    assert camera.set_feature("BlackLevel", 100) == 100
    assert camera.get_feature("BlackLevel") == 100
    assert camera.describe_device()["features"] == {"BlackLevel": 100}


@pytest.mark.parametrize(
    ("name", "value", "said"),
    [
        ("BlackLvel", 1, "camera: the camera has no feature BlackLvel; did you mean `BlackLevel`"),
        ("BlackLevel", 5000, "camera: the feature BlackLevel is 5000; 0..1023 DN is allowed"),
        ("BlackLevel", "dark", "a number is needed"),
        ("AcquisitionFrameRateEnable", 2, "true or false is allowed"),
    ],
)
def test_a_wrong_feature_or_value_is_refused_in_words(
    make_camera: MakeCamera, name: str, value: object, said: str
) -> None:
    camera = make_camera()
    with pytest.raises(BadInput, match=said):
        camera.set_feature(name, value)  # type: ignore[arg-type]
    with pytest.raises(BadInput, match=said):
        make_camera(features={name: value})


def test_features_of_the_driver_itself_cannot_be_set(make_camera: MakeCamera) -> None:
    camera = make_camera()
    for name, value in (("Width", 8), ("ExposureAuto", "Off"), ("ChunkModeActive", False)):
        with pytest.raises(BadInput, match=f"camera: the feature {name} is .* leave it out"):
            camera.set_feature(name, value)


def test_after_a_feature_was_set_the_camera_is_to_be_configured_anew(make_camera: MakeCamera) -> None:
    camera = make_camera()
    camera.configure(BRIEF)
    camera.set_feature("BlackLevel", 100)
    with pytest.raises(HardwareError, match=r"camera is not configured; call configure\(\)"):
        camera.arm(1)
    camera.configure(BRIEF)
    with pytest.raises(BadInput):
        camera.set_feature("BlackLevel", 5000)
    camera.arm(1)
    id_shown(take(camera))


def test_no_frame_id_comes_twice_however_often_the_camera_starts(make_camera: MakeCamera) -> None:
    camera = make_camera()
    ids = []
    for _ in range(3):
        camera.configure(BRIEF)
        camera.arm(3)
        ids.append([int(take(camera).frame_ids[0]) for _ in range(3)])
        camera.safe()
        camera.start_stream()
        ids.append([int(camera.next_frame(5).frame_ids[0])])
        camera.stop_stream()
    for armed in ids[::2]:
        assert np.diff(armed).tolist() == [1, 1]
    assert np.all(np.diff(np.concatenate(ids)) > 0)


def test_a_frame_that_nobody_asked_for_shows_as_a_gap_of_the_frame_ids(make_camera: MakeCamera) -> None:
    camera = make_camera()
    camera.configure(BRIEF)
    camera.arm(2)
    first = int(take(camera).frame_ids[0])
    camera._kept.process.ask("trigger", 2.0)  # somebody else's
    time.sleep(0.2)
    assert take(camera).frame_ids.tolist() == [first + 2]
    assert camera.stats()["foreign_frames"] == 1


def test_in_free_run_frame_ids_count_on_from_arm_to_arm(make_camera: MakeCamera) -> None:
    camera = make_camera(trigger="free-run", features={"AcquisitionFrameRate": 100.0})
    camera.configure(BRIEF)
    ids = []
    for _ in range(2):
        camera.arm(2)
        ids += [int(take(camera).frame_ids[0]) for _ in range(2)]
    assert ids == [0, 1, 2, 3]


def test_a_feature_that_cannot_be_written_says_so(make_camera: MakeCamera) -> None:
    with pytest.raises(HardwareError, match="SensorWidth cannot be written now: it is read-only"):
        make_camera().set_feature("SensorWidth", 8)


def test_states_are_kept_apart(make_camera: MakeCamera) -> None:
    camera = make_camera()
    for early in (lambda: camera.arm(1), camera.start_stream):
        with pytest.raises(HardwareError, match=r"camera is not configured; call configure\(\)"):
            early()
    camera.configure(BRIEF)
    with pytest.raises(HardwareError, match="camera is not armed"):
        camera.trigger(FrameTag(0))
    for n in (0, -1):
        with pytest.raises(BadInput, match="camera: cannot arm for"):
            camera.arm(n)
    camera.arm(1)
    with pytest.raises(DeviceTimeout, match="camera: no exposure is under way"):
        camera.fetch(0.1)
    camera.close()
    with pytest.raises(HardwareError, match="camera is not open"):
        camera.configure(BRIEF)


def test_a_frame_not_ready_in_time_can_still_be_fetched_and_disarm_drops_it(make_camera: MakeCamera) -> None:
    camera = make_camera()
    camera.configure(Exposure(exposure_s=0.4))
    camera.arm(2)
    camera.trigger(FrameTag(5))
    with pytest.raises(DeviceTimeout, match="camera: the frame of exposure 5"):
        camera.fetch(0.05)
    assert camera.fetch(5).exposure_ids.tolist() == [5]
    camera.trigger(FrameTag(6))
    begun_s = time.monotonic()
    camera.disarm()
    assert time.monotonic() - begun_s < 0.35, "a stop does not wait for the exposure"
    camera.arm(1)
    assert take(camera, 7).exposure_ids.tolist() == [7]


def test_features_can_be_used_while_frames_come_without_ever_locking_up(make_camera: MakeCamera) -> None:
    camera = make_camera(features={"AcquisitionFrameRate": 2000.0})
    camera.configure(Exposure(exposure_s=2e-5))
    camera.start_stream()
    for _ in range(100):
        assert len(camera.features()) > 50
    assert camera.latest(5).exposure_ids.tolist() == [0]
    assert camera.stats()["recoveries"] == 0
