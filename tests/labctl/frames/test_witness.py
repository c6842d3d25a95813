"""A witness notices frames that show another scene, or parts of one, and leaves right ones alone."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from dataclasses import dataclass, replace
from pathlib import Path

import numpy as np
import pytest

import labctl
from labctl.errors import BadInput
from labctl.exposure import Exposure, Frames, still_plan
from labctl.frames.witness import (
    LEAST_CALIBRATION,
    BlockWitness,
    exposures_of_witness,
    load_witness,
    measure_witness,
)
from labctl.frames.witness_blocks import BlockGrid
from labctl.rig import Rig
from protocols.data import Digits
from protocols.twin_witness import twin_witness
from sim.designs.masks import Disc

SCENE_PX = (63, 63)
EXPOSURE = Exposure(exposure_s=0.015, roi=(32, 32))
MASK = Disc(type="disc").build((32, 32), 0).mask().numpy()
CALIBRATION = 40
BLOCKS = 8


@dataclass
class Trial:
    """An open rig, a witness of it, and scenes that the witness has never seen."""

    rig: Rig
    witness: BlockWitness
    scenes: np.ndarray

    def frames(self, scenes: np.ndarray, exposure: Exposure = EXPOSURE, first_id: int = 0) -> Frames:
        ids = first_id + np.arange(len(scenes))
        return self.rig.expose(still_plan(scenes, MASK, exposure, exposure_ids=ids))

    def words(self, shown: np.ndarray, own: np.ndarray, previous: np.ndarray) -> list[str]:
        frames = self.frames(shown)
        return [self.witness.judge(*one).word for one in zip(frames, own, previous, strict=True)]


@pytest.fixture(scope="module")
def digits() -> np.ndarray:
    images = np.asarray(Digits(type="digits").load(SCENE_PX).images)
    return images[np.random.default_rng(0).permutation(len(images))[:84]]


@pytest.fixture(scope="module")
def trial(digits: np.ndarray, tmp_path_factory: pytest.TempPathFactory) -> Iterator[Trial]:
    with pytest.MonkeyPatch.context() as patch:
        patch.setenv("LABCTL_STATE", str(tmp_path_factory.mktemp("state")))
        with labctl.open_rig("as-built") as rig:
            known, unknown = np.split(digits, [CALIBRATION])
            yield Trial(rig, witness_of(rig, known), unknown)


def witness_of(
    rig: Rig, scenes: np.ndarray, progress: Callable[[int, int], None] = lambda done, total: None
) -> BlockWitness:
    return measure_witness(
        rig, MASK, SCENE_PX, EXPOSURE, first_id=10**6, calibration_scenes=scenes, blocks=BLOCKS, progress=progress
    )


def torn(new: np.ndarray, old: np.ndarray, row: int) -> np.ndarray:
    """Upper part new, lower part old."""
    mixed = new.copy()
    mixed[..., row:, :] = old[..., row:, :]
    return mixed


def test_right_frames_are_left_alone_whatever_came_before(trial: Trial) -> None:
    own, previous = trial.scenes[1:], trial.scenes[:-1]
    assert set(trial.words(own, own, previous)) == {"right"}
    first = trial.witness.judge(trial.frames(own[:1]), own[0], None)
    assert first.word == "right"
    assert first.own > 0.99


def test_a_frame_of_the_previous_scene_is_stale(trial: Trial) -> None:
    own, previous = trial.scenes[1:], trial.scenes[:-1]
    assert set(trial.words(previous, own, previous)) == {"stale"}


def test_a_frame_of_a_third_scene_is_never_right(trial: Trial) -> None:
    previous, own, following = trial.scenes[:-2], trial.scenes[1:-1], trial.scenes[2:]
    words = trial.words(following, own, previous)
    assert "right" not in words
    assert words.count("wrong") > 0.9 * len(words)


@pytest.mark.parametrize("row", [25, 37])
def test_a_frame_torn_across_is_noticed_and_its_share_measured(trial: Trial, row: int) -> None:
    """The camera sees the middle 40 rows or so through this mask."""
    own, previous = trial.scenes[1:21], trial.scenes[:20]
    scores = [
        trial.witness.judge(*one) for one in zip(trial.frames(torn(own, previous, row)), own, previous, strict=True)
    ]
    assert np.median([score.previous_share for score in scores]) == pytest.approx((51 - row) / 40, abs=0.15)
    for mixed in (torn(own, previous, row), torn(previous, own, row)):
        words = trial.words(mixed, own, previous)
        seen = [trial.witness.tells_apart(*pair) for pair in zip(own, mixed, strict=True)]
        assert sum(seen) >= 15
        assert "right" not in [word for word, can_be_seen in zip(words, seen, strict=True) if can_be_seen]


@pytest.mark.parametrize("share", [0.15, 0.5, 0.85])
def test_a_picture_that_changes_during_the_exposure_is_noticed_and_its_share_measured(
    trial: Trial, share: float
) -> None:
    own, previous = trial.scenes[1:21], trial.scenes[:20]
    frames = trial.frames((1 - share) * own + share * previous)
    scores = [trial.witness.judge(*one) for one in zip(frames, own, previous, strict=True)]
    assert {score.word for score in scores} == {"torn"}
    assert np.median([score.previous_share for score in scores]) == pytest.approx(share, abs=0.05)


def test_a_trace_of_the_previous_scene_is_no_fault(trial: Trial) -> None:
    own, previous = trial.scenes[1:21], trial.scenes[:20]
    assert set(trial.words(0.995 * own + 0.005 * previous, own, previous)) == {"right"}


def test_scenes_that_are_alike_are_right_and_said_to_be_alike(trial: Trial) -> None:
    own, other = trial.scenes[:20], trial.scenes[20:40]
    nearly = 0.99 * own + 0.01 * other
    assert set(trial.words(nearly, own, nearly)) == {"right"}
    assert set(trial.words(own, own, own)) == {"right"}
    assert not any(trial.witness.tells_apart(*pair) for pair in zip(own, nearly, strict=True))
    assert all(trial.witness.tells_apart(*pair) for pair in zip(own, other, strict=True))


def test_a_lamp_that_drifts_is_no_fault_and_one_that_fails_is(trial: Trial) -> None:
    own, previous = trial.scenes[1:21], trial.scenes[:20]
    assert set(trial.words(0.85 * own, own, previous)) == {"right"}
    dark = trial.words(np.zeros_like(own), own, previous)
    assert set(dark) == {"wrong"}


def test_other_exposures_of_a_ladder_are_judged_by_the_same_witness(trial: Trial) -> None:
    own, previous = trial.scenes[1:21], trial.scenes[:20]
    for rung, saturated in ((0.25, 0.0), (2.0, 0.1)):
        exposure = EXPOSURE.model_copy(update={"exposure_s": rung * EXPOSURE.exposure_s})
        frames = trial.frames(own, exposure)
        assert frames.saturated_fraction.mean() >= saturated
        right = [trial.witness.judge(*one).word for one in zip(frames, own, previous, strict=True)]
        stale = [trial.witness.judge(*one).word for one in zip(frames, previous, own, strict=True)]
        assert set(right) == {"right"}
        assert "right" not in stale


def test_a_frame_without_a_pixel_below_saturation_says_nothing_and_is_not_doubted(trial: Trial) -> None:
    frame = trial.frames(trial.scenes[:1])
    white = replace(frame, pixels=np.full_like(frame.pixels, frame.saturation_dn))
    assert trial.witness.judge(white, trial.scenes[0], trial.scenes[1]).word == "right"


def test_black_scenes_are_judged_too(trial: Trial) -> None:
    black = np.zeros_like(trial.scenes[:1])
    assert trial.words(black, black, trial.scenes[:1]) == ["right"]
    assert trial.words(trial.scenes[:1], black, trial.scenes[:1]) == ["stale"]
    assert trial.words(trial.scenes[:1], trial.scenes[:1], black) == ["right"]


def test_a_witness_read_back_says_the_same(trial: Trial, tmp_path: Path) -> None:
    path = tmp_path / "witness.npz"
    trial.witness.save(path)
    again = load_witness(path)
    own, previous = trial.scenes[1:6], trial.scenes[:5]
    for frame, now, before in zip(trial.frames(torn(own, previous, 40)), own, previous, strict=True):
        assert again.judge(frame, now, before) == trial.witness.judge(frame, now, before)
    path.write_bytes(path.read_bytes()[:1000])
    with pytest.raises(BadInput, match="holds no witness"):
        load_witness(path)


def test_measuring_again_gives_the_same_witness_and_changes_no_settling_time(trial: Trial, digits: np.ndarray) -> None:
    devices = trial.rig.devices()
    assert devices.scene is not None
    before = devices.scene.settle_s, devices.mask.settle_s
    calls: list[tuple[int, int]] = []
    again = witness_of(trial.rig, digits[:CALIBRATION], lambda done, total: calls.append((done, total)))
    assert again.thresholds == trial.witness.thresholds
    assert (devices.scene.settle_s, devices.mask.settle_s) == before
    total = exposures_of_witness(SCENE_PX, CALIBRATION, blocks=BLOCKS)
    assert calls == [(done, total) for done in range(1, total + 1)]


def test_the_twin_of_a_rig_that_is_built_otherwise_makes_a_witness_as_well(trial: Trial, digits: np.ndarray) -> None:
    twin = trial.rig.spec.twin.build(trial.rig.spec.roads)
    witness = twin_witness(
        trial.rig, twin, MASK, SCENE_PX, EXPOSURE, first_id=2 * 10**6, calibration_scenes=digits[:64]
    )
    by_twin = replace(trial, witness=witness, scenes=digits[64:])
    own, previous = by_twin.scenes[1:], by_twin.scenes[:-1]
    assert set(by_twin.words(own, own, previous)) == {"right"}
    assert set(by_twin.words(previous, own, previous)) == {"stale"}
    assert "right" not in by_twin.words((own + previous) / 2, own, previous)


def test_frames_that_cannot_tell_scenes_apart_make_no_witness(digits: np.ndarray) -> None:
    faint = {"twin.light.photons_per_s": 1.0}
    with labctl.open_rig("as-built", set=faint) as dim, pytest.raises(BadInput, match=r"scenes apart|display lit"):
        witness_of(dim, digits[:CALIBRATION])


@pytest.mark.parametrize(
    ("scenes", "text"),
    [(slice(0, LEAST_CALIBRATION - 1), "a witness needs 32"), (slice(0, 0), "a witness needs 32")],
)
def test_too_few_scenes_are_refused_before_anything_is_exposed(
    trial: Trial, digits: np.ndarray, scenes: slice, text: str
) -> None:
    began_s = trial.rig.devices().clock.now()
    with pytest.raises(BadInput, match=text):
        witness_of(trial.rig, digits[scenes])
    assert trial.rig.devices().clock.now() == began_s


def test_frames_and_scenes_of_another_size_are_refused(trial: Trial) -> None:
    frame = trial.frames(trial.scenes[:1])
    with pytest.raises(BadInput, match="knows scenes of"):
        trial.witness.judge(frame, np.zeros((1, 32, 32)), None)
    with pytest.raises(BadInput, match="knows scenes of"):
        trial.witness.judge(frame, trial.scenes[0], np.zeros((63, 63)))
    smaller = replace(frame, pixels=frame.pixels[..., :16, :16])
    with pytest.raises(BadInput, match="knows frames of"):
        trial.witness.judge(smaller, trial.scenes[0], None)


@pytest.mark.parametrize(("shape", "blocks"), [((63, 63), (8, 8)), ((20, 33), (5, 8)), ((8, 8), (8, 8))])
def test_blocks_cover_the_scene_once_and_means_are_theirs(shape: tuple[int, int], blocks: tuple[int, int]) -> None:
    grid = BlockGrid(shape, blocks)
    patterns = grid.patterns()
    assert (patterns.sum(axis=0) == 1).all()
    assert grid.means(patterns) == pytest.approx(np.eye(len(grid)))
    scene = np.random.default_rng(0).random(shape)
    assert grid.means(scene[None])[0] == pytest.approx((patterns * scene).sum(axis=(1, 2)) / patterns.sum(axis=(1, 2)))


def test_mixed_pictures_are_old_as_a_whole_or_on_one_side_of_a_row() -> None:
    grid = BlockGrid((63, 63), (9, 9))
    whole, *parts = grid.mixed_means(np.zeros((63, 63)), np.ones((63, 63))).reshape(-1, 9, 9)
    assert (whole == 1).all()
    half = len(parts) // 2
    for below, above in zip(parts[:half], parts[half:], strict=True):
        assert below + above == pytest.approx(1)
        assert (np.diff(below[:, 0]) >= 0).all()
        assert 0 < below.mean() < 1
