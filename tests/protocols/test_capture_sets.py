from __future__ import annotations

import errno
import hashlib
import os
from itertools import count
from pathlib import Path
from typing import Any

import numpy as np
import pytest

import labctl
from labctl.config import ConfigError
from labctl.durable import append_line
from labctl.errors import BadInput, HardwareError, RunFailed, Stopped
from labctl.exposure import Exposure, still_plan
from labctl.frames.marks import Mark
from labctl.frames.scenes import Scenes
from labctl.frames.writer import FrameWriter
from labctl.rig import Rig
from protocols.capture.exposures import BLACK_FRAMES, scene_exposure
from protocols.captured import labelled_frames
from protocols.data import Digits
from tests.protocols.captures import DISC, Session, pixels

DIGITS = tuple("0123456789")


def mark_bad(session: Session, place: int) -> None:
    mark = Mark(word="bad", first=place, last=place, reason="somebody stood before the camera")
    append_line(session.frames / "marks.jsonl", mark.model_dump(mode="json"))


def test_every_frame_carries_all_that_is_known_of_it(tmp_path: Path) -> None:
    session = Session(tmp_path, {"dark_every": 9, "instruments": {"lamp": {"power": 0.7}}, "about": {"licence": "CC0"}})
    session.run()
    store = session.store()
    data = Digits().load((63, 63))
    header = store.header
    assert (header.design, header.privacy, header.nature, header.rig_name) == (
        "disc",
        "optical",
        "simulated",
        "as-built",
    )
    assert header.data_id == Digits().fingerprint()
    assert header.about == {"licence": "CC0"}
    assert header.planned == len(store) == 21
    for record in store.records:
        unknown = {name for name, value in record.model_dump().items() if value is None}
        assert unknown == (
            {"witness"} if record.kind == "scene" else {"witness", "sample_id", "label", "label_name", "split"}
        )
        assert record.instruments == {"lamp.power": 0.7}
        assert record.calibrations["settle.mask"] == "simulated: 0.02 s"
        assert record.black_level_dn == pytest.approx(158.2, abs=0.5), "64 DN are designed, the rig was built otherwise"
        assert record.saturation_dn == 4095
        assert (record.rig_hash, record.run_id) == (header.rig_hash, header.run_id)
        if record.kind == "scene":
            row = int(np.flatnonzero(data.sample_ids == record.sample_id)[0])
            assert record.scene_hash == hashlib.sha256(data.images[row].tobytes()).hexdigest()
            assert (record.label, record.split) == (data.labels[row], data.split[row])
    times = store.column("host_time_s")
    assert np.all(np.diff(times) > 0)


def test_dark_frames_have_a_closed_mask_and_background_frames_a_black_scene_only(tmp_path: Path) -> None:
    long = {"exposure_s": 0.1}
    session = Session(tmp_path, {"dark_every": 6, "background_every": 9, **long}, train=long)
    metrics = session.run().metrics
    assert (metrics["frames"], metrics["dark"], metrics["background"], metrics["sentinel"]) == (18 + 4 + 3, 4, 3, 0)
    store = session.store()
    mean = {kind: store.read(store.select(kind=kind)).mean() for kind in ("scene", "dark", "background")}
    assert mean["background"] - mean["dark"] > 10, "the scene display is not quite black"
    assert mean["scene"] - mean["background"] > 1000
    hashes = {kind: set(store.column("mask_hash")[store.select(kind=kind)]) for kind in mean}
    assert hashes["scene"] == hashes["background"] != hashes["dark"]
    assert len(set(store.column("levels_hash").tolist())) == 2


def test_what_is_learned_from_holds_no_special_and_no_marked_frame(tmp_path: Path) -> None:
    plain, special = Session(tmp_path / "plain"), Session(tmp_path / "special", {"dark_every": 5, "sentinel_every": 7})
    plain.run()
    special.run()
    learned = labelled_frames(special.frames, DIGITS)
    assert np.array_equal(learned.sample_ids, labelled_frames(plain.frames, DIGITS).sample_ids)
    store = special.store()
    assert len(store) == 18 + 5 + 4
    place = int(store.select()[3])
    (special.frames / "marks.jsonl").write_text(
        Mark(word="bad", first=place, last=place, reason="x").model_dump_json() + "\n"
    )
    left = labelled_frames(special.frames, DIGITS)
    assert set(learned.sample_ids) - set(left.sample_ids) == {int(store.column("sample_id")[place])}


# Ladders


def test_a_ladder_takes_every_scene_at_every_exposure_and_learning_sees_one_frame_without_saturation(
    tmp_path: Path,
) -> None:
    settings, train = {"exposure_s": 0.012, "dark_every": 2}, {"exposure_s": 0.012}
    one = Session(tmp_path / "one", settings, train=train)
    ladder = Session(tmp_path / "ladder", {**settings, "ladder": [1, 4, 0.25]}, train=train)
    one.run()
    metrics = ladder.run().metrics
    assert metrics["frames"] == 3 * (18 + 10)
    assert metrics["saturated_fraction"] == 0, "of the first rung: others saturate on purpose"
    store = ladder.store()
    assert store.header.ladder == (1.0, 4.0, 0.25)
    for rung, time_s in enumerate((0.012, 0.048, 0.003)):
        assert set(store.column("exposure_s")[store.column("rung") == rung]) == {time_s}
    assert store.column("saturated_fraction")[store.column("rung") == 1].max() > 0
    single, merged = (labelled_frames(session.frames, DIGITS) for session in (one, ladder))
    assert np.array_equal(single.sample_ids, merged.sample_ids)
    difference = merged.frames - single.frames
    assert single.frames.mean() > 500
    assert abs(difference.mean()) < 3, "the same brightness, in DN of the first rung"
    assert np.abs(difference).max() < 300, "a saturated rung says nothing"


def test_a_scene_whose_first_rung_is_marked_is_not_mistaken_for_its_neighbour(tmp_path: Path) -> None:
    session = Session(tmp_path, {"ladder": [1, 2]})
    session.run()
    store, before = session.store(), labelled_frames(session.frames, DIGITS)
    place = int(np.flatnonzero(store.column("rung") == 0)[5])
    sample = int(store.column("sample_id")[place])
    (session.frames / "marks.jsonl").write_text(
        Mark(word="bad", first=place, last=place, reason="x").model_dump_json() + "\n"
    )
    after = labelled_frames(session.frames, DIGITS)
    kept = before.sample_ids != sample
    assert np.array_equal(after.sample_ids, before.sample_ids[kept])
    assert np.array_equal(after.frames, before.frames[kept])


@pytest.mark.parametrize(("settings", "text"), [
    ({"ladder": [1, 10000]}, r"rung 10000 of the ladder is an exposure of 40 s"),
    ({"ladder": [2, 4]}, "starts with 1"),
    ({"ladder": [1, 4, 4]}, "names every rung once"),
    ({"exposure_s": 0.005}, "of another brightness"),
])  # fmt: skip
def test_what_the_camera_cannot_do_is_said_before_anything_moves(
    settings: dict[str, Any], text: str, tmp_path: Path
) -> None:
    with pytest.raises(ConfigError, match=text):
        Session(tmp_path, settings).run()
    assert not (tmp_path / "step").exists()


def test_a_found_exposure_that_leaves_no_room_for_the_ladder_is_refused_before_the_first_frame(tmp_path: Path) -> None:
    session = Session(tmp_path, {"exposure_s": "auto", "ladder": [1, 1000]}, train={"exposure_s": "auto"})
    with pytest.raises(BadInput, match=r"rung 1000 of the ladder"):
        session.run()
    assert len(session.store()) == 0


# Exposure from scenes


def test_pilot_scenes_let_the_brightest_of_them_fill_the_sensor() -> None:
    scenes = Digits().load((63, 63)).images[:32]
    with labctl.open_rig("as-built") as rig:
        found = scene_exposure(rig, DISC, scenes, (32, 32), 0.8, first_id=0)
        exposure = Exposure(exposure_s=found.exposure_s, roi=(32, 32))
        frames = rig.expose(still_plan(scenes, DISC, exposure, exposure_ids=range(900, 932))).pixels
    brightest = np.quantile(frames[:, 0], 0.998, axis=(1, 2)).max()
    assert (brightest - 64) / (4095 - 64) == pytest.approx(0.8, abs=0.05)
    assert found.brightest_fill == pytest.approx(0.8, abs=0.02)
    assert found.saturated_fraction == (frames >= 4095).mean() == 0


def test_an_exposure_from_scenes_is_kept_for_the_whole_set_and_its_brightness_is_said(tmp_path: Path) -> None:
    session = Session(
        tmp_path, {"exposure_s": "auto", "pilot": "scenes", "pilot_scenes": 8}, train={"exposure_s": "auto"}, stop=True
    )
    with pytest.raises(Stopped):
        session.run()
    assert any("from 8 scenes: the brightest fills 0.9" in text for text in session.said)
    assert any("until fine-tuned" in text for text in session.said)
    session.stop, session.said = False, []
    session.run()
    assert len(set(session.store().column("exposure_s"))) == 1
    assert not any("from 8 scenes" in text for text in session.said), "searched once"


# The scenes themselves


@pytest.mark.parametrize("keep", [False, True])
def test_scenes_are_kept_only_when_asked_for_and_apart(keep: bool, tmp_path: Path) -> None:
    session = Session(tmp_path, {"keep_scenes": keep})
    session.run()
    scenes = Scenes.open(session.frames)
    assert (scenes is not None) == keep
    if scenes is not None:
        record = session.store().records[3]
        data = Digits().load((63, 63))
        row = int(np.flatnonzero(data.sample_ids == record.sample_id)[0])
        assert np.array_equal(scenes.scene(record.sample_id), data.images[row])
        assert len(scenes) == 18


# Interrupted


def test_a_capture_that_fails_between_rungs_and_special_frames_resumes_to_the_same_set(tmp_path: Path) -> None:
    settings = {"ladder": [1, 0.5], "dark_every": 4, "background_every": 5, "sentinel_every": 6, "sync": "shard",
                "order": "interleaved", "compression": "zstd"}  # fmt: skip
    whole = Session(tmp_path / "whole", settings)
    whole.run()

    def fail_after(batches: int) -> Any:
        def prepare(rig: Rig) -> None:
            camera, left = rig.devices().camera, [batches]
            fetch_all = camera.fetch_all  # type: ignore[attr-defined]

            def hooked() -> Any:
                left[0] -= 1
                if left[0] < 0:
                    raise HardwareError("the camera is gone")
                return fetch_all()

            camera.fetch_all = hooked  # type: ignore[attr-defined]

        return prepare

    parts = Session(tmp_path / "parts", settings)
    for batches in (1, 2, 4, 3, 6):
        parts.with_rig = fail_after(batches)
        with pytest.raises(HardwareError):
            parts.run()
    parts.with_rig = lambda rig: None
    parts.run()
    assert np.array_equal(pixels(whole.store()), pixels(parts.store()))
    drop = {"camera_time_s", "host_time_s", "unix_time_s", "frame_id", "run_id"}
    for one, other in zip(whole.store().records, parts.store().records, strict=True):
        assert one.model_dump(exclude=drop) == other.model_dump(exclude=drop)


def test_what_the_light_path_took_twice_is_told_of_the_frame(tmp_path: Path) -> None:
    class Losing:
        def __call__(self, rig: Rig) -> None:
            camera, calls = rig.devices().camera, count()
            fetch = camera.fetch

            def hooked(timeout_s: float) -> Any:
                if next(calls) == BLACK_FRAMES + 7:
                    raise HardwareError("a frame was lost")
                return fetch(timeout_s)

            camera.fetch = hooked  # type: ignore[method-assign]

    session = Session(tmp_path, with_rig=Losing(), overrides=("rig.light_path=sequenced",))
    assert session.run().metrics["retaken"] == 1
    told = [(place, retry.reason) for place, record in enumerate(session.store().records) for retry in record.retries]
    assert told == [(7, "a frame was lost")]


def test_a_finished_set_needs_no_rig(tmp_path: Path) -> None:
    session = Session(tmp_path)
    first = session.run().metrics

    def gone(rig: Rig) -> None:
        rig.expose = rig.stream = None  # type: ignore[method-assign,assignment]

    session.with_rig = gone
    assert session.run().metrics == first


def test_a_full_disk_ends_the_capture_in_words_and_loses_nothing(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    session, write, calls = Session(tmp_path, {"sync": "never"}), os.writev, count()

    def full(number: int, pieces: Any) -> int:
        if next(calls) >= 5:
            raise OSError(errno.ENOSPC, "No space left on device")
        return write(number, pieces)

    monkeypatch.setattr(os, "writev", full)
    with pytest.raises(RunFailed, match=r"is full .* go on with `labctl resume`"):
        session.run()
    monkeypatch.undo()
    kept = len(session.store())
    before = pixels(session.store())
    assert kept > 0
    session.run()
    assert np.array_equal(pixels(session.store())[:kept], before)


def test_two_captures_cannot_write_one_set(tmp_path: Path) -> None:
    session = Session(tmp_path, stop=True)
    with pytest.raises(Stopped):
        session.run()
    with FrameWriter(session.frames, session.store().header), pytest.raises(BadInput, match="is being written by"):
        session.run()
