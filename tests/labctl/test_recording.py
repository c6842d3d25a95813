"""What was recorded plays back: the same frames for the same calls, and an error for other calls."""

from __future__ import annotations

import json
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pytest

import labctl
from labctl.clock import WallClock
from labctl.config import ConfigError
from labctl.devices import Camera, Display, Instrument
from labctl.errors import BadInput, DeviceTimeout, HardwareError, InterlockError
from labctl.exposure import Exposure, ExposurePlan, Frames, FrameTag
from labctl.frames.store import FrameStore
from labctl.recording.tape import TapeReader
from labctl.rig import Rig

ARRAYS = ("pixels", "exposure_ids", "frame_ids", "exposure_s", "gain_db", "camera_time_s", "host_time_s")


def plan(n: int = 40, seed: int = 0) -> ExposurePlan:
    rng = np.random.default_rng(seed)
    masks = (rng.random((n, 1, 32, 32)) < 0.5).astype(float)
    return ExposurePlan(rng.random((n, 1, 1, 63, 63)), masks, Exposure(exposure_s=0.002, roi=(32, 32)), np.arange(n))


def record(folder: Path, session: Callable[[Rig], Any], rig: str = "as-built") -> Any:
    with labctl.open_rig(rig, set={"light_path": "sequenced", "record": str(folder)}) as opened:
        return session(opened)


def replay(folder: Path, session: Callable[[Rig], Any], number: int = 1) -> Any:
    with labctl.open_rig(folder / f"{number:04d}" / "rig.yaml") as opened:
        result = session(opened)
    assert opened.safe_errors == []
    return result


def capture(rig: Rig) -> Frames:
    rig.devices().instruments["lamp"].set_quantity("power", 0.4)
    return rig.expose(plan())


def same(one: Frames, other: Frames) -> bool:
    told = (one.saturation_dn, one.attempt) == (other.saturation_dn, other.attempt)
    return told and all(np.array_equal(getattr(one, name), getattr(other, name)) for name in ARRAYS)


def test_a_replayed_capture_gives_the_same_frames_to_the_bit(tmp_path: Path) -> None:
    recorded = record(tmp_path, capture)
    assert same(replay(tmp_path, capture), recorded)
    assert same(replay(tmp_path, capture), recorded), "as often as one likes"


def test_recording_changes_nothing(tmp_path: Path) -> None:
    with labctl.open_rig("as-built", set={"light_path": "sequenced"}) as rig:
        plain, plain_hash = capture(rig), rig.spec.content_hash
    with labctl.open_rig("as-built", set={"light_path": "sequenced", "record": str(tmp_path)}) as rig:
        assert same(capture(rig), plain)
        assert rig.spec.content_hash == plain_hash


def test_a_replay_stands_for_the_rig_that_was_recorded(tmp_path: Path) -> None:
    recorded = record(tmp_path, lambda rig: (rig.spec.content_hash, rig.describe()["devices"]))
    found = replay(tmp_path, lambda rig: (rig.spec.content_hash, rig.describe()["devices"]))
    assert found[0] == recorded[0]
    assert found[1]["camera"] == {**recorded[1]["camera"], "replayed": True}


def test_replayed_devices_have_the_interfaces_of_the_real_ones(tmp_path: Path) -> None:
    def look(rig: Rig) -> tuple[Any, ...]:
        devices = rig.devices()
        assert isinstance(devices.mask, Display)
        assert isinstance(devices.camera, Camera)
        assert isinstance(devices.instruments["lamp"], Instrument)
        camera = devices.camera
        return (
            devices.mask.shape, devices.mask.settle_s, camera.shape, camera.saturation_dn, camera.exposure_limits_s,
            dict(devices.instruments["lamp"].quantities),
        )  # fmt: skip

    recorded = record(tmp_path, look)
    assert replay(tmp_path, look) == recorded


def test_every_opening_is_a_recording_of_its_own(tmp_path: Path) -> None:
    for _ in range(3):
        record(tmp_path / "kept", lambda rig: None)
    assert sorted(path.name for path in (tmp_path / "kept").iterdir()) == ["0001", "0002", "0003"]


@pytest.mark.parametrize(
    ("other", "told"),
    [
        (lambda rig: rig.expose(plan(seed=1)), r"mask: call \d+ of the recording is show\(.*now show\("),
        (lambda rig: rig.devices().camera.arm(3), r"camera: call 3 of the recording is configure\(.*now arm\(3\)"),
        (lambda rig: rig.devices().instruments["lamp"].set_quantity("power", 0.5), r"lamp: call 3 .*0\.4.*0\.5"),
    ],
)
def test_other_calls_than_those_recorded_are_refused_by_number(
    tmp_path: Path, other: Callable[[Rig], Any], told: str
) -> None:
    record(tmp_path, capture)
    with (
        labctl.open_rig(tmp_path / "0001" / "rig.yaml") as rig,
        pytest.raises(HardwareError, match=told),
    ):
        other(rig)


def test_more_calls_than_were_recorded_are_refused(tmp_path: Path) -> None:
    record(tmp_path, capture)
    with labctl.open_rig(tmp_path / "0001" / "rig.yaml") as rig:
        capture(rig)
        with pytest.raises(HardwareError, match="of the recording is safe"):
            rig.expose(plan())


def test_who_has_strayed_gets_no_further_answer_and_the_rig_can_still_be_closed(tmp_path: Path) -> None:
    record(tmp_path, capture)
    with labctl.open_rig(tmp_path / "0001" / "rig.yaml") as rig:
        devices = rig.devices()
        with pytest.raises(HardwareError, match="lamp: call 3"):
            devices.instruments["lamp"].set_quantity("power", 0.9)
        with pytest.raises(HardwareError, match="lamp: call 3"):
            devices.camera.configure(plan().exposure)
    assert rig.safe_errors == []


def test_errors_come_back_as_the_errors_that_they_were(tmp_path: Path) -> None:
    def trouble(rig: Rig) -> list[str]:
        devices, told = rig.devices(), []
        attempts: list[tuple[type[Exception], Callable[[], Any]]] = [
            (InterlockError, lambda: devices.camera.configure(Exposure(exposure_s=50))),
            (HardwareError, lambda: devices.camera.trigger(FrameTag(0))),
            (DeviceTimeout, lambda: devices.camera.fetch(0.1)),
            (BadInput, lambda: devices.mask.show(np.zeros((2, 2), dtype=np.uint8))),
            (InterlockError, lambda: devices.instruments["lamp"].set_quantity("power", float("nan"))),
        ]
        for expected, attempt in attempts:
            with pytest.raises(expected) as caught:
                attempt()
            assert type(caught.value) is expected
            told.append(str(caught.value))
        return told

    recorded = record(tmp_path, trouble)
    assert replay(tmp_path, trouble) == recorded


def test_a_sequence_replays_its_dwell_times(tmp_path: Path) -> None:
    def play(rig: Rig) -> list[float]:
        mask = rig.devices().mask
        patterns = np.zeros((3, *mask.shape), dtype=np.uint8)
        return [float(dwell) for dwell in mask.play(patterns, 0.1).wait(1.0)]

    recorded = record(tmp_path, play)
    assert len(recorded) == 3
    assert replay(tmp_path, play) == recorded


def test_readings_may_come_more_or_less_often_than_they_were_recorded(tmp_path: Path) -> None:
    def watch(rig: Rig, before: int, after: int) -> list[float]:
        lamp = rig.devices().instruments["lamp"]
        first = [lamp.read_quantity("power") for _ in range(before)]
        lamp.set_quantity("power", 0.4)
        return first[:1] + [lamp.read_quantity("power") for _ in range(after)][:1]

    assert record(tmp_path, lambda rig: watch(rig, 2, 2)) == [0.0, 0.4]
    assert replay(tmp_path, lambda rig: watch(rig, 1, 1)) == [0.0, 0.4]
    assert replay(tmp_path, lambda rig: watch(rig, 5, 7)) == [0.0, 0.4]


def test_whoever_watches_a_quantity_does_not_turn_back_the_time(tmp_path: Path) -> None:
    def session(rig: Rig) -> float:
        devices = rig.devices()
        devices.instruments["lamp"].read_quantity("power")
        rig.expose(plan(5))
        exposed_s = devices.clock.now()
        devices.instruments["lamp"].read_quantity("power")
        assert devices.clock.now() == exposed_s
        return exposed_s

    assert record(tmp_path, session) > 0
    assert replay(tmp_path, lambda rig: (session(rig), session_of_looks(rig))[1])


def session_of_looks(rig: Rig) -> bool:
    """Looks that nobody recorded find the last reading, and leave the time alone."""
    clock, lamp = rig.devices().clock, rig.devices().instruments["lamp"]
    clock.sleep(1.0)
    now_s = clock.now()
    return [lamp.read_quantity("power") for _ in range(3)] == [0.0] * 3 and clock.now() == now_s


def test_time_passes_in_a_replay_as_it_did(tmp_path: Path) -> None:
    def times(rig: Rig) -> float:
        begun_s = rig.devices().clock.now()
        rig.expose(plan(5))
        return rig.devices().clock.now() - begun_s

    recorded = record(tmp_path, times)
    assert replay(tmp_path, times) == pytest.approx(recorded, abs=1e-9)


def test_a_recording_without_its_folder_or_with_a_damaged_tape_says_so(tmp_path: Path) -> None:
    record(tmp_path, capture)
    rig_file = tmp_path / "0001" / "rig.yaml"
    (tmp_path / "0001" / "camera" / "about.json").unlink()
    with pytest.raises(BadInput, match="holds no recording"):
        labctl.open_rig(rig_file)
    moved = tmp_path / "elsewhere"
    (tmp_path / "0001").rename(moved)
    with pytest.raises(BadInput, match=r"there is no recording in .*world.folder"):
        labctl.open_rig(moved / "rig.yaml")
    record(tmp_path, capture)
    folder = next(path for path in sorted(tmp_path.iterdir()) if path.name.isdigit())
    arrays = folder / "camera" / "arrays.bin"
    arrays.write_bytes(arrays.read_bytes()[:1000])
    with labctl.open_rig(folder / "rig.yaml") as rig, pytest.raises(BadInput, match="is cut short"):
        capture(rig)


def test_the_batched_light_path_cannot_be_recorded_and_says_what_can(tmp_path: Path) -> None:
    with pytest.raises(ConfigError, match="light_path: sequenced"):
        labctl.open_rig("sim", set={"record": str(tmp_path)})


def test_a_tape_is_plain_files(tmp_path: Path) -> None:
    record(tmp_path, capture)
    lines = [json.loads(line) for line in (tmp_path / "0001" / "camera" / "calls.jsonl").read_text().splitlines()]
    names = [line["call"] for line in lines]
    assert names[:4] == ["open", "safe", "configure", "arm"]
    assert names.count("trigger") == names.count("fetch") == 40
    assert all(line["begun_s"] <= line["ended_s"] for line in lines)
    reader = TapeReader(tmp_path / "0001" / "mask")
    shown = next(call for call in reader.calls if call.name == "show")
    assert len(shown.arguments[0]["sha256"]) == 64
    assert WallClock().now() > 0


def test_a_whole_protocol_replays_to_the_same_frames(tmp_path: Path, configs: Path) -> None:
    short = {
        "steps.train.epochs": 1, "steps.capture.train": 40, "steps.capture.val": 10, "steps.capture.test": 20,
        "steps.capture.witness": "none",
        "steps.finetune": None, "steps.finetuned": None, "steps.report": None,
    }  # fmt: skip
    protocol, kept = configs / "protocols" / "quickstart.yaml", tmp_path / "kept"
    recording = {**short, "rig.light_path": "sequenced", "rig.record": str(kept)}
    first = labctl.run_protocol(protocol, rig="as-built", out=tmp_path / "first", set=recording)
    again = labctl.run_protocol(protocol, rig=kept / "0001" / "rig.yaml", out=tmp_path / "again", set=short)
    assert (first.status, again.status) == ("finished", "finished")
    (one,), (other,) = (
        [FrameStore.open(path) for path in run.path.glob("artifacts/capture/**/frames")] for run in (first, again)
    )
    assert np.array_equal(one.read(range(len(one))), other.read(range(len(other))))
    drop = {"unix_time_s", "run_id", "instruments", "calibrations"}
    for recorded, replayed in zip(one.records, other.records, strict=True):
        assert recorded.model_dump(exclude=drop) == replayed.model_dump(exclude=drop)
