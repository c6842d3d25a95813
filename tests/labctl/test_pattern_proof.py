"""Frames prove their pattern: right ones pass, stale, torn and wrong ones are named."""

from __future__ import annotations

import dataclasses

import numpy as np
import pytest

import labctl
from labctl.errors import BadInput
from labctl.exposure import Frames
from labctl.pattern_proof import LEAST_SEPARATION, Templates, random_order, random_patterns
from labctl.sync_proof import prove

SEQUENCED = {"light_path": "sequenced", "twin.panel.response_s": 0.004, "twin.monitor.response_s": 0.004}
SHAPE = (24, 24)


def frame_of(picture: np.ndarray) -> Frames:
    one = np.zeros(1)
    pixels = np.clip(np.round(picture), 0, 4095).astype(np.uint16).reshape(1, 1, *SHAPE)
    return Frames(pixels, np.zeros(1, dtype=np.int64), np.zeros(1, dtype=np.int64), one, one, one, one, 4095)


class Bench:
    """Lensless-like frames: a large common part, a few percent that differ, shot noise."""

    def __init__(self, patterns: int = 8, contrast: float = 0.05) -> None:
        self.rng = np.random.default_rng(1)
        common = 2000 * (1 + 0.2 * self.rng.standard_normal(SHAPE))
        self.clean = common + 2000 * contrast * self.rng.standard_normal((patterns, *SHAPE))

    def noisy(self, picture: np.ndarray) -> np.ndarray:
        return np.asarray(picture + 5.0 * self.rng.standard_normal(picture.shape))

    def templates(self, repeats: int = 4) -> Templates:
        return Templates(np.stack([self.noisy(np.stack([picture] * repeats)) for picture in self.clean]))


def test_every_pattern_is_recognised_whatever_the_brightness() -> None:
    bench = Bench()
    templates = bench.templates()
    for index, picture in enumerate(bench.clean):
        for brightness in (0.7, 1.0, 1.3):
            match = templates.match(frame_of(bench.noisy(brightness * picture)))
            assert match.index == index
            assert match.margin > 0.5
    assert 0.5 < templates.margin < 2


@pytest.mark.parametrize("share", [0.0, 0.1, 0.3, 0.5, 0.9, 1.0])
def test_the_share_of_the_previous_pattern_is_measured(share: float) -> None:
    bench = Bench()
    mixed = frame_of(bench.noisy((1 - share) * bench.clean[2] + share * bench.clean[5]))
    assert bench.templates().previous_share(mixed, 2, 5) == pytest.approx(share, abs=0.02)


@pytest.mark.parametrize(
    ("share", "word"), [(0.0, "right"), (0.1, "torn"), (0.5, "torn"), (0.9, "torn"), (1.0, "stale")]
)
def test_stale_and_torn_frames_are_named(share: float, word: str) -> None:
    bench = Bench()
    mixed = frame_of(bench.noisy((1 - share) * bench.clean[2] + share * bench.clean[5]))
    assert bench.templates().judge(mixed, 2, 5).word == word


def test_a_frame_torn_across_is_no_right_frame() -> None:
    bench = Bench()
    torn = bench.clean[2].copy()
    torn[18:] = bench.clean[5][18:]
    verdict = bench.templates().judge(frame_of(bench.noisy(torn)), 2, 5)
    assert verdict.word == "torn"
    assert verdict.previous_share == pytest.approx(0.25, abs=0.1)


def test_another_pattern_and_no_pattern_at_all_are_wrong() -> None:
    bench = Bench()
    templates = bench.templates()
    assert templates.judge(frame_of(bench.noisy(bench.clean[7])), 2, 5).word == "wrong"
    assert templates.judge(frame_of(bench.noisy(bench.clean.mean(axis=0))), 2, 5).word != "right"
    assert templates.judge(frame_of(np.zeros(SHAPE)), 2, 5).word == "wrong"


def test_of_a_thousand_right_frames_none_is_doubted_at_the_least_separation() -> None:
    bench = Bench(patterns=4, contrast=0.009)
    templates = bench.templates(repeats=8)
    assert LEAST_SEPARATION < templates.separation < 1.6 * LEAST_SEPARATION
    order = random_order(1000, 4, bench.rng)
    words = [
        templates.judge(frame_of(bench.noisy(bench.clean[own])), int(own), int(before)).word
        for own, before in zip(order[1:], order, strict=False)
    ]
    assert set(words) == {"right"}


def test_patterns_that_cannot_be_told_apart_are_refused_by_number() -> None:
    bench = Bench()
    bench.clean[6] = bench.clean[3] + 0.1
    with pytest.raises(BadInput, match="patterns 3 and 6 cannot be told apart"):
        bench.templates()
    with pytest.raises(BadInput, match="P, R >= 2"):
        Templates(np.zeros((1, 4, *SHAPE)))


def test_random_patterns_are_half_open_differ_and_never_come_twice_in_a_row() -> None:
    rng = np.random.default_rng(0)
    patterns = random_patterns(16, (32, 48), rng)
    assert patterns.shape == (16, 32, 48)
    assert set(np.unique(patterns)) == {0.0, 1.0}
    assert patterns.mean(axis=(1, 2)) == pytest.approx(0.5, abs=0.05)
    assert len(np.unique(patterns.reshape(16, -1), axis=0)) == 16
    order = random_order(500, 16, rng)
    assert (np.diff(order) != 0).all()
    assert set(order) == set(range(16))
    assert random_patterns(2, (63, 63), rng).shape == (2, 63, 63)


@pytest.mark.parametrize("rig", ["sim", "as-built"])
@pytest.mark.parametrize("which", ["mask", "scene"])
def test_a_rig_that_waits_gives_every_frame_its_own_pattern(rig: str, which: str) -> None:
    with labctl.open_rig(rig, set=SEQUENCED) as opened:
        proof = prove(opened, which, pairs=150)  # type: ignore[arg-type]
    assert proof.doubts == ()
    assert proof.pairs == 150
    assert proof.least_margin > 0.1
    assert proof.retakes == 0


@pytest.mark.parametrize("which", ["mask", "scene"])
@pytest.mark.parametrize("settle_s", [0.0, 0.004])
def test_a_rig_that_does_not_wait_is_found_out(which: str, settle_s: float) -> None:
    with labctl.open_rig("as-built", set=SEQUENCED) as opened:
        devices = opened.devices()
        display = devices.mask if which == "mask" else devices.scene
        assert display is not None
        before_s = display.settle_s
        proof = prove(opened, which, pairs=60, settle_s=settle_s)  # type: ignore[arg-type]
        assert display.settle_s == before_s, "only for the proof"
    assert len(proof.doubts) > 50
    assert proof.settle_s == settle_s
    doubt = proof.doubts[0]
    assert doubt.verdict.word in ("torn", "stale")
    assert doubt.frame_id == doubt.number
    assert sum(proof.count(word) for word in ("wrong", "stale", "torn")) == len(proof.doubts)


def test_a_display_that_shows_the_wrong_picture_is_found_out() -> None:
    with labctl.open_rig("sim", set=SEQUENCED) as opened:
        mask = opened.devices().mask
        honest, shown = mask.show, []

        def show(levels: np.ndarray) -> float:
            shown.append(levels.copy())
            late = len(shown) > 20 and len(shown) % 10 == 0
            return honest(shown[-2] if late else levels)

        mask.show = show  # type: ignore[method-assign]
        proof = prove(opened, pairs=100, patterns=8)
    assert 5 <= proof.count("stale") <= 15
    assert proof.count("wrong") == 0


def test_a_proof_of_nothing_is_refused() -> None:
    with labctl.open_rig("sim", set=SEQUENCED) as opened:
        for wrong in ({"pairs": 0}, {"patterns": 1}):
            with pytest.raises(BadInput, match="at least 1 of 2"):
                prove(opened, **wrong)  # type: ignore[arg-type]
    faint = {**SEQUENCED, "twin.light.photons_per_s": 1.0}
    with labctl.open_rig("sim", set=faint) as opened, pytest.raises(BadInput, match="cannot be told apart"):
        prove(opened, pairs=1)


def test_a_proof_is_a_plain_record() -> None:
    with labctl.open_rig("sim", set=SEQUENCED) as opened:
        proof = prove(opened, pairs=3, patterns=2)
    assert dataclasses.asdict(proof)["pairs"] == 3
    assert proof.pairs_per_s == pytest.approx(3 / proof.seconds)
