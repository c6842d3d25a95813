from __future__ import annotations

import numpy as np
import pytest
from scipy import ndimage, stats

from labctl.errors import BadInput
from protocols.metrics import (
    accuracy_interval,
    aperture_ratio,
    blurriness,
    light_throughput,
    majority_baseline,
    paired_difference_interval,
)


def answers(rng: np.random.Generator, accuracy: float, n: int) -> np.ndarray:
    return rng.random(n) < accuracy


def test_the_interval_holds_the_truth_as_often_as_it_says():
    rng = np.random.default_rng(0)
    tries = 600
    held = 0
    for trial in range(tries):
        interval = accuracy_interval([answers(rng, 0.7, 200) for _ in range(3)], resamples=400, seed=trial)
        held += interval.low <= 0.7 <= interval.high
    # Three standard errors of a share of 600; percentile ends of a discrete share lose about one point.
    assert 0.915 <= held / tries <= 0.98


def test_the_paired_interval_holds_the_true_difference_as_often_as_it_says():
    rng = np.random.default_rng(1)
    tries = 400
    held = 0
    for trial in range(tries):
        hardness = rng.random((2, 200))
        interval = paired_difference_interval(list(hardness < 0.7), list(hardness < 0.6), resamples=400, seed=trial)
        held += interval.low <= 0.1 <= interval.high
    assert 0.91 <= held / tries <= 0.985


def test_the_interval_is_that_of_an_item_by_item_bootstrap():
    rng = np.random.default_rng(2)
    seeds = [answers(rng, 0.8, 60), answers(rng, 0.6, 45)]
    replicates = [np.mean([rng.choice(items, items.size).mean() for items in seeds]) for _ in range(20_000)]
    interval = accuracy_interval(seeds, resamples=20_000)
    assert interval.mean == pytest.approx(np.mean([items.mean() for items in seeds]))
    assert [interval.low, interval.high] == pytest.approx(np.quantile(replicates, [0.025, 0.975]), abs=0.01)


def test_seeds_that_fail_on_the_same_items_do_not_narrow_the_interval():
    answers = np.arange(200) % 4 > 0
    alone, together = accuracy_interval([answers]), accuracy_interval([answers] * 5)
    assert together.high - together.low == pytest.approx(alone.high - alone.low, rel=0.1)
    shuffled = [np.random.default_rng(s).permutation(answers) for s in range(5)]
    apart = accuracy_interval(shuffled)
    assert apart.high - apart.low < 0.7 * (alone.high - alone.low)


def test_the_interval_of_one_seed_agrees_with_the_normal_approximation():
    correct = np.arange(1000) < 700
    interval = accuracy_interval([correct])
    half = stats.norm.ppf(0.975) * np.sqrt(0.7 * 0.3 / 1000)
    assert interval.high - interval.low == pytest.approx(2 * half, rel=0.06)


def test_the_same_answers_give_the_same_interval():
    rng = np.random.default_rng(3)
    seeds = [answers(rng, 0.5, n) for n in (997, 991)]
    assert accuracy_interval(seeds, seed=4) == accuracy_interval(seeds, seed=4)
    assert accuracy_interval(seeds, seed=4) != accuracy_interval(seeds, seed=5)


def test_a_higher_level_gives_a_wider_interval_and_more_items_a_narrower_one():
    correct = np.tile([True, True, False], 50)
    narrow, wide = accuracy_interval([correct], level=0.8), accuracy_interval([correct], level=0.99)
    assert wide.low < narrow.low < narrow.mean < narrow.high < wide.high
    more = accuracy_interval([np.tile(correct, 16)], level=0.99)
    assert more.high - more.low == pytest.approx((wide.high - wide.low) / 4, rel=0.15)


def test_each_seed_counts_equally_whatever_its_number_of_items():
    assert accuracy_interval([np.ones(10, bool), np.zeros(1000, bool)]).mean == 0.5


def test_pairs_make_a_small_steady_difference_certain():
    rng = np.random.default_rng(5)
    b = answers(rng, 0.5, 400)
    a = b.copy()
    a[np.flatnonzero(~b)[:12]] = True
    paired = paired_difference_interval([a], [b])
    assert paired.mean == pytest.approx(0.03)
    assert paired.low > 0
    assert accuracy_interval([a]).low < accuracy_interval([b]).high


def test_the_difference_changes_sign_with_the_order():
    rng = np.random.default_rng(6)
    a, b = [answers(rng, 0.8, 300)], [answers(rng, 0.5, 300)]
    forward, backward = paired_difference_interval(a, b), paired_difference_interval(b, a)
    assert forward.mean == pytest.approx(-backward.mean)
    assert forward.low == pytest.approx(-backward.high, abs=0.02)
    assert paired_difference_interval(a, a).low == paired_difference_interval(a, a).high == 0


@pytest.mark.parametrize(
    ("arguments", "text"),
    [
        ({"correct_by_seed": []}, "no seeds were given"),
        ({"correct_by_seed": [np.zeros(0, bool)]}, r"correct_by_seed\[0\] has shape \(0,\)"),
        ({"correct_by_seed": [np.ones((2, 2), bool)]}, r"has shape \(2, 2\); \(n_items,\)"),
        ({"correct_by_seed": [np.array([3, 7])]}, "has type int64; bool is needed"),
        ({"correct_by_seed": [np.ones(3, bool)], "level": 95}, "level is 95"),
        ({"correct_by_seed": [np.ones(3, bool)], "resamples": 5}, "resamples is 5; at least 100"),
    ],
)
def test_answers_that_have_no_interval_are_refused(arguments, text):
    with pytest.raises(BadInput, match=text):
        accuracy_interval(**arguments)


def test_answers_that_are_no_pairs_are_refused():
    with pytest.raises(BadInput, match="a has 1 seeds and b has 2"):
        paired_difference_interval([np.ones(3, bool)], [np.ones(3, bool)] * 2)
    with pytest.raises(BadInput, match="seed 0: a has 3 items and b has 4"):
        paired_difference_interval([np.ones(3, bool)], [np.ones(4, bool)])


def test_the_baseline_names_the_largest_training_class_not_the_largest_test_class():
    assert majority_baseline([0, 0, 0, 1, 1], [1, 1, 1, 0]) == 0.25
    assert majority_baseline([2, 1, 2, 1], [1, 1, 2, 2, 2]) == 0.4
    with pytest.raises(BadInput, match=r"test_labels has shape \(0,\)"):
        majority_baseline([0], [])


def test_more_blur_gives_a_higher_value_and_scale_gives_the_same():
    sharp = np.random.default_rng(7).random((3, 40, 40))
    values = [blurriness(ndimage.gaussian_filter(sharp, (0, s, s))) for s in (0, 1, 2, 4)]
    assert values == sorted(values)
    assert values[-1] - values[0] > 0.3
    assert blurriness(1000 * sharp + 64) == pytest.approx(values[0], rel=1e-6)
    assert blurriness(np.round(60_000 * sharp).astype(np.uint16)) == pytest.approx(values[0], rel=1e-3)


def test_only_the_first_frames_are_judged_and_a_flat_frame_is_all_blur():
    frames = np.random.default_rng(8).random((6, 20, 20))
    frames[3:] = 0.25
    assert blurriness(frames, limit=3) == blurriness(frames[:3])
    assert blurriness(frames) > blurriness(frames, limit=3)
    assert blurriness(frames[3:]) == 1


@pytest.mark.parametrize(
    ("frames", "text"),
    [
        (np.zeros((2, 10, 40)), "frames of 10x40 px are too small to judge blur; at least 11 px"),
        (np.zeros((40, 40)), r"frames have shape \(40, 40\)"),
        (np.full((1, 20, 20), np.nan), "frames hold NaN"),
    ],
)
def test_frames_that_have_no_blur_value_are_refused(frames, text):
    with pytest.raises(BadInput, match=text):
        blurriness(frames)


def test_the_aperture_ratio_is_the_mean_transmittance():
    mask = np.zeros((32, 32))
    mask[8:16, 8:16] = 1
    assert aperture_ratio(mask) == 64 / 1024
    assert aperture_ratio(np.full((4, 4), 0.3)) == pytest.approx(0.3)
    with pytest.raises(BadInput, match=r"mask spans 0\.\.255; transmittance lies in 0\.\.1"):
        aperture_ratio(255 * mask)
    with pytest.raises(BadInput, match=r"mask has shape \(32,\)"):
        aperture_ratio(mask[0])


def test_light_is_counted_against_the_open_mask():
    mask = np.zeros((8, 8))
    mask[2:4, 2:4] = 0.5
    assert light_throughput(mask) == pytest.approx(2 / 64)
    padded, fully_open = np.pad(4 * mask, 3), np.pad(4 * np.ones((8, 8)), 3)
    assert light_throughput(padded, fully_open) == pytest.approx(2 / 64)
    with pytest.raises(BadInput, match="both need the same"):
        light_throughput(mask, fully_open)
    with pytest.raises(BadInput, match="the open mask must give light"):
        light_throughput(mask, np.zeros((8, 8)))
