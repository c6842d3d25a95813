from __future__ import annotations

import shutil
from collections.abc import Callable
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest

from labctl.errors import HardwareError, RunFailed, Stopped
from labctl.light_path import Retake
from labctl.rig import Rig
from protocols.captured import labelled_frames
from protocols.keys import EXPOSURES_PER_STEP
from sim.world import Shot
from tests.protocols.captures import Session, pixels
from tests.protocols.test_capture_drift import Drifting, dim, shift

DIGITS = tuple("0123456789")
SETTINGS = {"witness": "templates", "exposure_s": 0.012}
TRAINED = {"exposure_s": 0.012}


@pytest.fixture(scope="module")
def witness(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A capture on a good bench, with the witness that the other captures of this mask and exposure use, too."""
    folder = tmp_path_factory.mktemp("good")
    with pytest.MonkeyPatch.context() as patch:
        patch.setenv("LABCTL_STATE", str(folder / "state"))
        patch.setenv("LABCTL_CACHE", str(folder / "cache"))
        metrics = Session(folder, SETTINGS, train=TRAINED).run().metrics
    assert (metrics["frames"], metrics["retaken"], metrics["doubtful"]) == (18, 0, 0)
    return folder / "step" / "witness.npz"


@pytest.fixture
def session(tmp_path: Path, witness: Path) -> Callable[..., Session]:
    """A capture with the witness measured already."""

    def make(name: str = "session", **more: object) -> Session:
        (tmp_path / name / "step").mkdir(parents=True)
        shutil.copy(witness, tmp_path / name / "step")
        return Session(tmp_path / name, {**SETTINGS, **more}, train=TRAINED)

    return make


class Stale:
    """A scene display that still shows the picture before, at chosen frames and attempts."""

    def __init__(self, *at: tuple[int, int]) -> None:
        self.at = at
        self.shots: dict[int, Shot] = {}

    def __call__(self, rig: Rig) -> None:
        world = rig.devices().world
        frame = world._frame

        def hooked(shot: Shot) -> np.ndarray:
            index = shot.tag.exposure_id % EXPOSURES_PER_STEP
            self.shots[index] = shot
            if (index, shot.tag.attempt) in self.at:
                return frame(replace(shot, scene=self.shots[index - 1].scene))
            return frame(shot)

        world._frame = hooked


def test_a_stale_frame_is_taken_again_and_counted(session: Callable[..., Session], witness: Path) -> None:
    capture = session()
    capture.with_rig = Stale((7, 0), (11, 0), (11, 1))
    metrics = capture.run().metrics
    assert (metrics["retaken"], metrics["doubtful"], metrics["marked"]) == (2, 0, 0)
    store = capture.store()
    assert [len(record.retries) for record in store.records] == [0] * 7 + [1, 0, 0, 0, 2] + [0] * 6
    assert [record.attempt for record in store.records][6:13] == [0, 1, 0, 0, 0, 2, 0]
    assert store.records[11].retries[1].reason.startswith("witness: stale")
    assert {record.witness.word for record in store.records if record.witness} == {"right"}
    good = Session(witness.parent.parent).store()
    others = [place for place in range(18) if place not in (7, 11)]
    assert np.array_equal(store.read(others), good.read(others))
    difference = store.frame(7).astype(float) - good.frame(7)
    assert np.abs(difference).mean() < 60, "the scene that was asked for, with noise of its own"


def test_reasons_stand_in_the_order_of_attempts_whoever_took_the_frame_again(session: Callable[..., Session]) -> None:
    stale, capture = Stale((7, 0)), session()

    def losing_frames(rig: Rig) -> None:
        stale(rig)
        frame, rig._path.retakes = rig.devices().world._frame, []

        def hooked(shot: Shot) -> np.ndarray:
            if (shot.tag.exposure_id % EXPOSURES_PER_STEP, shot.tag.attempt) in ((3, 0), (7, 0)):
                rig._path.retakes.append(Retake(shot.tag.exposure_id, shot.tag.attempt, "its frame came incomplete"))
            return frame(shot)

        rig.devices().world._frame = hooked

    capture.with_rig = losing_frames
    assert capture.run().metrics["retaken"] == 2
    lost, doubted = capture.store().records[7].retries
    assert (lost.attempt, lost.reason) == (0, "its frame came incomplete")
    assert (doubted.attempt, doubted.reason[:14]) == (0, "witness: stale")
    assert [retry.attempt for retry in capture.store().records[3].retries] == [0]


def test_a_frame_that_never_shows_its_scene_is_kept_marked_and_not_learned_from(
    session: Callable[..., Session],
) -> None:
    capture = session(witness_attempts=2)
    capture.with_rig = Stale((5, 0), (5, 1))
    metrics = capture.run().metrics
    assert (metrics["retaken"], metrics["doubtful"], metrics["marked"]) == (1, 1, 1)
    store = capture.store()
    (mark,) = store.marks
    assert (mark.word, mark.first, mark.last) == ("doubtful", 5, 5)
    assert "stale" in mark.reason
    assert store.column("sample_id")[5] not in labelled_frames(capture.frames, DIGITS).sample_ids


def test_a_display_that_is_stuck_ends_the_capture_with_what_to_look_at(session: Callable[..., Session]) -> None:
    capture = session(witness_attempts=1)
    capture.with_rig = Stale(*((place, 0) for place in range(3, 18)))
    with pytest.raises(RunFailed, match=r"6 frames in a row, up to frame 8.*`labctl sync`.*witness: none"):
        capture.run()
    store = capture.store()
    assert store.marked.tolist() == [False] * 3 + [True] * 5
    with pytest.raises(RunFailed, match=r"6 frames in a row, up to frame 8.*remove .*witness.npz first"):
        capture.run()
    assert len(capture.store()) == 8, "a resume does not count from 0 again"
    capture.with_rig = lambda rig: None
    assert capture.run().metrics["doubtful"] == 5


def test_a_capture_killed_among_retakes_resumes_to_the_same_pixels(session: Callable[..., Session]) -> None:
    faults = Stale((2, 0), (6, 0), (7, 0), (8, 0), (8, 1), (8, 2), (12, 0), (14, 0), (14, 1))
    whole = session("whole", sentinel_every=5)
    whole.with_rig = faults
    whole.run()
    parts = session("parts", sentinel_every=5)
    for taken in (3, 1, 2, 2, 4, 9):

        def failing(rig: Rig, taken: int = taken) -> None:
            faults(rig)
            stream, left = rig.stream, [taken]

            def hooked(plan):  # type: ignore[no-untyped-def]
                for frame in stream(plan):
                    left[0] -= 1
                    if left[0] < 0:
                        raise HardwareError("the camera is gone")
                    yield frame

            rig.stream = hooked  # type: ignore[method-assign]

        parts.with_rig = failing
        with pytest.raises(HardwareError):
            parts.run()
    parts.with_rig = faults
    parts.run()
    assert np.array_equal(pixels(whole.store()), pixels(parts.store()))
    drop = {"camera_time_s", "host_time_s", "unix_time_s", "frame_id", "run_id"}
    for one, other in zip(whole.store().records, parts.store().records, strict=True):
        assert one.model_dump(exclude=drop) == other.model_dump(exclude=drop)
    for done in (whole, parts):
        assert {(mark.word, mark.first, mark.last) for mark in done.store().marks} == {("doubtful", 8, 8)}
    assert whole.store().records[6].kind == "sentinel"
    assert "shape" in whole.store().records[6].retries[0].reason, "a stale sentinel is no drift"


def test_frames_that_cannot_tell_scenes_apart_are_captured_without_witness_and_that_is_said_once(
    tmp_path: Path,
) -> None:
    hardly_any_light = {"exposure_s": 1e-5}
    capture = Session(tmp_path, {**SETTINGS, **hardly_any_light}, train=hardly_any_light, stop=True)
    with pytest.raises(Stopped):
        capture.run()
    assert len(capture.store()) == 4, "who stops at every occasion still gets on"
    capture.stop = False
    assert capture.run().metrics["frames"] == 18
    (said,) = [text for text in capture.said if "witness" in text]
    assert said.startswith("no witness proves which scene a frame shows: ")
    assert all(record.witness is None for record in capture.store().records)


def test_a_dead_bench_is_not_captured_and_the_witness_is_measured_once_it_lives(tmp_path: Path) -> None:
    capture = Session(tmp_path, SETTINGS, train=TRAINED, with_rig=lambda rig: dim(rig, 1e-9))
    with pytest.raises(RunFailed, match=r"no light reaches the camera: at 0.012 s a white scene gives .*lens cap"):
        capture.run()
    assert len(capture.store()) == 0
    capture.with_rig = lambda rig: None
    assert capture.run().metrics["witnessed"] == 18


def test_who_recalibrates_gets_a_witness_of_the_bench_as_it_stands_then(
    session: Callable[..., Session], witness: Path
) -> None:
    moved = Drifting(10, lambda rig: shift(rig, 2.0))
    capture = session(sentinel_every=6, drift_limit=0.02, witness_attempts=1)
    capture.with_rig, capture.answer = moved, lambda question, answers: "recalibrated"
    metrics = capture.run().metrics
    assert (metrics["frames"], metrics["witnessed"]) == (22, 18)
    words = [record.witness.word for record in capture.store().records if record.witness is not None]
    assert "right" not in words[8:12], "frames 10 to 13, taken by the moved mask"
    assert set(words[12:]) == {"right"}
    assert (capture.folder / "step" / "witness.npz").read_bytes() != witness.read_bytes()
    assert "a witness measured anew" in (capture.frames / "history.jsonl").read_text()
