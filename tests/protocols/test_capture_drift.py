from __future__ import annotations

import contextlib
import json
from collections.abc import Callable
from pathlib import Path

import numpy as np
import pytest
from scipy import ndimage

import labctl
from labctl.durable import read_lines
from labctl.errors import RunFailed, Stopped
from labctl.exposure import Exposure, Frames, still_plan
from labctl.rig import Rig
from protocols.capture.drift import change_between, sentinel_scene
from protocols.keys import EXPOSURES_PER_STEP
from sim.world import Shot
from tests.protocols.captures import DISC, Session, pixels

SENTINELS = {"sentinel_every": 6, "drift_limit": 0.02, "exposure_s": 0.012}
"""18 scenes: sentinels at 0, 7, 14, 21; frames 1-6, 8-13, 15-20 are scenes."""

TRAINED = {"exposure_s": 0.012}


def sentinels(rig: Rig, count: int, first_id: int = 0) -> Frames:
    scenes = np.repeat(sentinel_scene((63, 63))[None], count, axis=0)
    exposure = Exposure(exposure_s=0.012, roi=(32, 32))
    return rig.expose(still_plan(scenes, DISC, exposure, exposure_ids=range(first_id, first_id + count)))


def dim(rig: Rig, factor: float) -> None:
    """The light behind the scene display ages."""
    rig.devices().world._twin.photons_per_s.mul_(factor)


def shift(rig: Rig, pixels: float) -> None:
    """The mask moves sideways; towards the middle, where the twin of this rig has room."""
    world = rig.devices().world
    world._twin.shift_px[1] -= pixels
    world._last_mask = None


class Drifting:
    """Does something to the world behind an open rig, just before frame `at` of a capture is exposed."""

    def __init__(self, at: int, do: Callable[[Rig], None]) -> None:
        self.at, self.do, self.done = at, do, False

    def __call__(self, rig: Rig) -> None:
        world = rig.devices().world
        frame = world._frame

        def hooked(shot: Shot) -> np.ndarray:
            if not self.done and shot.tag.exposure_id % EXPOSURES_PER_STEP == self.at:
                self.done = True
                self.do(rig)
            return frame(shot)

        world._frame = hooked


def lose_frames_from(left: int, folder: Path) -> None:
    """A power cut takes the pixels of the frames from `left` on: they read as zeros, as far as they are there."""
    spool, records = folder / "spool" / "0.raw", (folder / "ledger.jsonl").read_bytes().splitlines()
    sizes = [json.loads(line)["nbytes"] for line in records]
    content = spool.read_bytes()
    spool.write_bytes(content[: sum(sizes[:left])] + bytes(sum(sizes[left:])))


# How far a change can be told from noise


def test_noise_alone_is_no_change() -> None:
    with labctl.open_rig("as-built") as rig:
        frames = sentinels(rig, 40)
    found = [change_between(frames.pixels[0], frame, black_dn=64.0, saturation_dn=4095) for frame in frames.pixels[1:]]
    assert not any(one.beyond(0.005) for one in found)
    errors = np.array([one.brightness / one.brightness_error for one in found])
    assert 0.5 < errors.std() < 1.5, "the error is the spread that is really seen"


@pytest.mark.parametrize("factor", [0.9, 0.97, 1.03])
def test_a_change_of_light_is_measured_as_brightness_and_not_as_shape(factor: float) -> None:
    with labctl.open_rig("as-built") as rig:
        before = sentinels(rig, 1)
        dim(rig, factor)
        found = change_between(before.pixels[0], sentinels(rig, 1, 9).pixels[0], black_dn=64.0, saturation_dn=4095)
    assert found.brightness == pytest.approx(factor - 1, abs=0.01)
    assert found.beyond(0.02)
    assert found.shape < 0.01


def test_a_moved_mask_is_seen_by_shape_and_more_the_further_it_moved() -> None:
    shapes = []
    for moved in (0.0, 0.5, 1.0, 2.0):
        with labctl.open_rig("as-built") as rig:
            before = sentinels(rig, 1)
            shift(rig, moved)
            after = sentinels(rig, 1, 9)
        shapes.append(change_between(before.pixels[0], after.pixels[0], black_dn=64.0, saturation_dn=4095).shape)
    assert shapes == sorted(shapes)
    assert shapes[0] < 0.01
    assert shapes[2] > 0.02


def test_many_noisy_pixels_tell_a_change_that_no_single_one_could() -> None:
    rng = np.random.default_rng(0)
    light = ndimage.gaussian_filter(rng.random((1, 256, 256)), (0, 16, 16))
    light = 100 + 900 * light / light.max()
    before, after = (rng.normal(64 + scale * light, 100.0) for scale in (1.0, 0.97))
    found = change_between(before, after, black_dn=64, saturation_dn=4095)
    assert found.brightness == pytest.approx(-0.03, abs=4 * found.brightness_error)
    assert found.beyond(0.02)
    assert not found.beyond(0.04)


def test_the_noise_of_a_dim_sentinel_is_not_taken_for_a_change_of_its_shape() -> None:
    rng = np.random.default_rng(0)
    frames = rng.normal(564, 1000.0, (20, 1, 256, 256))
    found = [change_between(frames[0], frame, black_dn=64, saturation_dn=1e9) for frame in frames[1:]]
    assert np.mean([one.shape for one in found]) < 0.05, "one tile alone scatters by 9 %"
    assert not any(one.beyond(0.02) for one in found)


def test_a_sentinel_without_light_and_one_that_saturates_are_refused() -> None:
    dark, full = np.full((1, 32, 32), 64, np.uint16), np.full((1, 32, 32), 4095, np.uint16)
    with pytest.raises(RunFailed, match="no light"):
        change_between(dark, dark, black_dn=64, saturation_dn=4095)
    with pytest.raises(RunFailed, match="saturated"):
        change_between(full, full, black_dn=64, saturation_dn=4095)


# What a capture does about it


def test_a_steady_bench_leaves_no_mark(tmp_path: Path) -> None:
    session = Session(tmp_path, SENTINELS, train=TRAINED)
    metrics = session.run().metrics
    assert (metrics["sentinel"], metrics["marked"]) == (4, 0)
    assert np.flatnonzero(session.store().column("kind") == "sentinel").tolist() == [0, 7, 14, 21]


def test_where_nobody_can_answer_a_drift_stops_the_capture_and_resume_goes_on_when_the_bench_is_right(
    tmp_path: Path,
) -> None:
    session = Session(tmp_path, SENTINELS, train=TRAINED, with_rig=Drifting(10, lambda rig: dim(rig, 0.9)))
    with pytest.raises(RunFailed, match=r"brightness -(9|10)\.\d%.*put the bench right, then `labctl resume`"):
        session.run()
    (mark,) = session.store().marks
    assert (mark.word, mark.first, mark.last) == ("drift", 8, 14)
    assert len(session.store()) == 15

    session.with_rig = lambda rig: dim(rig, 0.9)
    with pytest.raises(RunFailed, match="put the bench right"):
        session.run()
    assert len(session.store()) == 15, "still off: nothing was captured"

    session.with_rig = lambda rig: None
    assert session.run().metrics["marked"] == 7
    store = session.store()
    assert (len(store), store.finished) == (22, True)
    did = [text for line in read_lines(session.frames / "history.jsonl") for text in line.get("did", [])]
    assert sum("good" in text for text in did) == 1
    assert 6 <= len(store.select()) == 18 - 6


def test_an_operator_who_recalibrates_gets_a_new_reference_and_the_marks_stay(tmp_path: Path) -> None:
    asked: list[str] = []

    def answer(question: str, answers: tuple[str, ...]) -> str:
        asked.append(question)
        assert answers == ("recalibrated", "go on", "stop")
        return "recalibrated"

    drifting = Drifting(3, lambda rig: shift(rig, 2.0))
    session = Session(tmp_path, SENTINELS, train=TRAINED, with_rig=drifting, answer=answer)
    assert session.run().metrics["marked"] == 7
    assert len(asked) == 1
    assert "shape" in asked[0]
    (mark,) = session.store().marks
    assert (mark.first, mark.last) == (1, 7)


def test_who_goes_on_is_not_asked_again_and_all_that_follows_is_marked(tmp_path: Path) -> None:
    asked: list[str] = []
    session = Session(
        tmp_path, SENTINELS, train=TRAINED, with_rig=Drifting(3, lambda rig: dim(rig, 0.8)),
        answer=lambda question, answers: asked.append(question) or "go on",
    )  # fmt: skip
    session.run()
    assert len(asked) == 1
    assert session.store().marked.tolist() == [False] + [True] * 21


@pytest.mark.parametrize(("left", "factor", "marks"), [(12, 1.0, [(8, 11)]), (0, 0.9, [])])
def test_what_a_power_cut_took_is_judged_anew_by_the_sentinels_that_follow(
    tmp_path: Path, left: int, factor: float, marks: list[tuple[int, int]]
) -> None:
    settings = {**SENTINELS, "sync": "never"}
    session = Session(tmp_path, settings, train=TRAINED, with_rig=Drifting(10, lambda rig: dim(rig, 0.9)))
    with pytest.raises(RunFailed, match="drifted"):
        session.run()
    assert [(mark.first, mark.last) for mark in session.store().marks] == [(8, 14)]
    lose_frames_from(left, session.frames)

    session.with_rig = lambda rig: dim(rig, factor)
    session.run()
    assert [(mark.first, mark.last) for mark in session.store().marks] == marks
    assert len(session.store()) == 22


def test_a_bench_that_drifts_after_a_power_cut_is_noticed_like_any_other(tmp_path: Path) -> None:
    settings = {**SENTINELS, "sync": "never"}
    session = Session(tmp_path, settings, train=TRAINED, stop=True)
    while not session.frames.exists() or len(session.store()) < 16:
        with pytest.raises(Stopped):
            session.run()
    lose_frames_from(12, session.frames)

    session.stop, session.with_rig = False, Drifting(13, lambda rig: dim(rig, 0.9))
    with pytest.raises(RunFailed, match="drifted by frame 14"):
        session.run()
    assert [(mark.first, mark.last) for mark in session.store().marks] == [(12, 14)]


def test_an_operator_may_stop(tmp_path: Path) -> None:
    drifting = Drifting(3, lambda rig: dim(rig, 0.8))
    with pytest.raises(Stopped, match="8 frames are on the disk"):
        Session(tmp_path, SENTINELS, train=TRAINED, with_rig=drifting, answer=lambda *_: "stop").run()


def test_mark_asks_nobody_and_stop_asks_nobody(tmp_path: Path) -> None:
    def never(question: str, answers: tuple[str, ...]) -> str:
        raise AssertionError("nobody is to be asked")

    for word in ("mark", "stop"):
        drifting = Drifting(10, lambda rig: dim(rig, 0.9))
        settings = {**SENTINELS, "on_drift": word}
        session = Session(tmp_path / word, settings, train=TRAINED, with_rig=drifting, answer=never)
        if word == "stop":
            with pytest.raises(RunFailed, match="drifted"):
                session.run()
        else:
            assert session.run().metrics["marked"] == 14
    assert session.said == []


def test_a_capture_with_sentinels_resumes_to_the_same_pixels_wherever_it_was_stopped(tmp_path: Path) -> None:
    settings = {**SENTINELS, "dark_every": 5, "background_every": 7, "block": 3}
    whole = Session(tmp_path / "whole", settings, train=TRAINED)
    whole.run()
    parts = Session(tmp_path / "parts", settings, train=TRAINED, stop=True)
    stopped = 0
    while not parts.frames.exists() or not parts.store().finished:
        with contextlib.suppress(Stopped):
            parts.run()
        stopped += 1
    assert stopped == -(-len(whole.store()) // 3)
    assert np.array_equal(pixels(whole.store()), pixels(parts.store()))
    assert np.array_equal(whole.store().column("exposure_id"), parts.store().column("exposure_id"))
    assert parts.store().marks == ()
