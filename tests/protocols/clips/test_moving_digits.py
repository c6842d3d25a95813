"""Digits that move: the motion can be seen, the digit is another one each time, and all comes from the seed."""

from __future__ import annotations

import numpy as np
import pytest
from pydantic import ValidationError

from labctl.errors import BadInput
from protocols.data.clips import MovingDigits
from protocols.data.clips.moving_digits import DIGITS, MOTIONS
from protocols.splits import Split

SCENE = (32, 32)
FEW = {"train": 80, "val": 16, "test": 40}


@pytest.fixture(scope="module")
def data():
    return MovingDigits(**FEW, background=0).load_clips(SCENE)


def middles(clip: np.ndarray) -> np.ndarray:
    """(T, 2) row and column of the middle of the light."""
    light = clip[:, 0] / clip[:, 0].sum(axis=(1, 2), keepdims=True)
    grid = np.arange(light.shape[1])
    return np.stack([(light.sum(2) * grid).sum(1), (light.sum(1) * grid).sum(1)], axis=1)


def clips_of(data, motion: str) -> list[np.ndarray]:
    return [data.clips[row] for row in np.flatnonzero(data.action == MOTIONS.index(motion))]


def test_by_default_700_train_200_choose_and_400_judge_with_motions_in_equal_numbers():
    source = MovingDigits()
    source.check()
    action, actor = source.labels()
    split = source._split()
    assert np.bincount(split).tolist() == [700, 200, 400]
    assert np.ptp(np.bincount(action[split == Split.TEST])) == 0
    for part in Split:
        assert len(np.unique(actor[split == part])) == 10
        assert np.bincount(action[split == part]).max() / (split == part).sum() < 0.13


def test_every_clip_shows_another_handwritten_digit():
    source = MovingDigits()
    assert len(set(source._instances().tolist())) == 1300


def test_the_motion_says_nothing_of_the_digit():
    action, actor = MovingDigits().labels()
    table = np.histogram2d(action, actor, bins=(8, 10))[0]
    expected = table.sum(1, keepdims=True) * table.sum(0, keepdims=True) / table.sum()
    chi_square = ((table - expected) ** 2 / expected).sum()
    assert chi_square < 92, "63 degrees of freedom, 99 %"


@pytest.mark.parametrize(
    ("motion", "direction"), [("left", (0, -1)), ("right", (0, 1)), ("up", (-1, 0)), ("down", (1, 0))]
)
def test_a_straight_motion_goes_its_way_at_the_speed_that_is_asked_for(data, motion, direction):
    for clip in clips_of(data, motion):
        steps = np.diff(middles(clip)[5:11], axis=0).mean(axis=0)  # in the middle of the path nothing is cut off
        speed_px = float(steps @ direction) * 48 / 32
        assert 0.6 < speed_px < 1.5
        assert abs(steps[0] * direction[1]) + abs(steps[1] * direction[0]) < 0.1


def test_the_two_circles_turn_opposite_ways(data):
    for motion, sign in (("circle clockwise", 1), ("circle anticlockwise", -1)):
        for clip in clips_of(data, motion):
            step = np.diff(middles(clip), axis=0)
            turn = step[:-1, 1] * step[1:, 0] - step[:-1, 0] * step[1:, 1]  # rows go down
            assert np.sign(turn.mean()) == sign


def test_a_growing_digit_gets_brighter_in_all_and_a_shrinking_one_darker(data):
    for motion, sign in (("grow", 1), ("shrink", -1)):
        for clip in clips_of(data, motion):
            assert (sign * np.diff(clip.sum(axis=(1, 2, 3))) > 0).all()


def test_a_digit_has_13_px_at_32_and_20_at_48():
    for side, wanted in ((32, 13.3), (48, 20)):
        clips = MovingDigits(**FEW, background=0).load_clips((side, side)).clips
        heights = (clips[0::8, 8, 0].max(axis=2) > 0.5).sum(axis=1)
        assert abs(np.median(heights) - wanted) <= 1.5


def test_the_background_stands_still_is_smooth_and_no_brighter_than_asked_for():
    data = MovingDigits(**FEW, background=0.25).load_clips(SCENE)
    bare = MovingDigits(**FEW, background=0).load_clips(SCENE)
    free = (bare.clips == 0).all(axis=1)  # where no digit ever comes
    assert free.mean() > 0.2
    texture = data.clips.transpose(0, 2, 3, 4, 1)[free]
    assert 0.2 < texture.max() <= 0.25
    assert np.ptp(texture, axis=1).max() < 1e-6
    beside = free[..., 1:] & free[..., :-1]
    assert np.abs(np.diff(data.clips[:, 0], axis=3))[beside].max() < 0.12
    assert data.clips.max() <= 1


def test_the_same_seed_gives_the_same_clips_and_another_one_others():
    first, again, other = (MovingDigits(**FEW, seed=seed).load_clips((16, 16)) for seed in (3, 3, 4))
    assert np.array_equal(first.clips, again.clips)
    assert not np.array_equal(first.actor, other.actor)
    assert not np.array_equal(first.clips[0], other.clips[0])


def test_two_sizes_of_scene_show_the_same_clips():
    large, small = (MovingDigits(**FEW, background=0).load_clips((side, side)) for side in (64, 32))
    assert np.allclose(middles(large.clips[5]) / 2, middles(small.clips[5]), atol=0.5)
    assert np.array_equal(large.actor, small.actor)


def test_frames_are_pictures_that_find_back_to_their_clips(data):
    pictures = MovingDigits(**FEW, background=0).load(SCENE)
    assert pictures.images.shape == (136 * 16, 1, 32, 32)
    assert np.array_equal(pictures.images[16 * 7 + 3], data.clips[7, 3])
    assert pictures.sample_ids[16 * 7 + 3] == 16 * 7 + 3
    labels, names = MovingDigits(**FEW).attribute("actor")
    assert names == DIGITS
    assert np.array_equal(labels, np.repeat(data.actor, 16))
    with pytest.raises(BadInput, match=r"say nothing of their pictures but their class"):
        MovingDigits().attribute("age")


def test_the_fingerprint_follows_the_settings():
    assert MovingDigits().fingerprint() == MovingDigits().fingerprint()
    assert len({MovingDigits(seed=seed, background=b).fingerprint() for seed in (0, 1) for b in (0.25, 0.1)}) == 4


def test_more_clips_than_digits_and_parts_without_a_digit_are_refused():
    with pytest.raises(BadInput, match=r"ask for 2100 clips; 1797 digits are there"):
        MovingDigits(train=1500).check()
    with pytest.raises(BadInput, match=r"has no test clip of action"):
        MovingDigits(train=100, test=5).check()
    with pytest.raises(ValidationError, match=r"least and greatest speed"):
        MovingDigits(speed_px=(2, 1))
