"""Which pattern a frame shows, proved from the frame itself by measured template frames.

A lensless frame looks like every other one: the patterns differ by a few percent of the light that they share. So
each frame is whitened by its noise, and what all templates have in common is projected out before it is compared.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Literal

import numpy as np
import numpy.typing as npt

from labctl.errors import BadInput
from labctl.exposure import Frames

FloatArray = npt.NDArray[np.float64]
Word = Literal["right", "stale", "torn", "wrong"]

TORN = 0.05
"""Share of the previous pattern from which on a frame is torn; from 1 - `TORN` on it is stale."""

TORN_SIGMAS = 5.0
"""That share must lie this many standard deviations above zero, so that no right frame of a million is called torn."""

LEAST_SEPARATION = TORN_SIGMAS / TORN
"""Least distance between two templates, in standard deviations of a single frame."""

LEAST_SCORE = 0.5
"""A frame that resembles no template better than this shows none of the patterns."""

ROUNDING_VARIANCE = 1 / 12
"""Of a pixel in whole DN: the least variance that any pixel can have."""


@dataclass(frozen=True)
class Match:
    """What a frame shows by itself. score: correlation with the nearest template, -1..1; margin: lead over the next."""

    index: int
    score: float
    margin: float


@dataclass(frozen=True)
class Verdict:
    """What a frame shows, against what was asked for. previous_share: of the pattern before, 0..1 but for noise."""

    word: Word
    match: Match
    previous_share: float


class Templates:
    """Template frames of P patterns on one rig.

    pictures: (P, R, h, w) in DN, R frames of each pattern at rest. Raises BadInput when two patterns cannot be told
    apart at the noise of a single frame, or when fewer than two patterns or frames are given.
    """

    def __init__(self, pictures: FloatArray) -> None:
        if pictures.ndim != 4 or pictures.shape[0] < 2 or pictures.shape[1] < 2:
            raise BadInput(f"template frames have shape {pictures.shape}; (P, R, h, w) with P, R >= 2 is needed")
        flat = pictures.reshape(*pictures.shape[:2], -1).astype(np.float64)
        variance = flat.var(axis=1, ddof=1).mean(axis=0)
        self.noise_dn = np.sqrt(np.maximum(variance, ROUNDING_VARIANCE))
        """(h w,) standard deviation of one frame."""
        self._whole = flat.mean(axis=1) / self.noise_dn
        common = self._whole.mean(axis=0)
        self._common = common / max(float(np.linalg.norm(common)), np.finfo(float).tiny)
        self._own = self._without_common(self._whole)
        self.separation, pair = _nearest_pair(self._own)
        """Distance of the two most similar patterns, in standard deviations of a single frame."""
        if self.separation < LEAST_SEPARATION:
            raise BadInput(
                f"patterns {pair[0]} and {pair[1]} cannot be told apart in a frame: they differ by "
                f"{self.separation:.3g} standard deviations of its noise, {LEAST_SEPARATION:.3g} are needed; "
                "use patterns that differ more, more light, or a longer exposure"
            )
        lengths = np.linalg.norm(self._own, axis=1)
        alike = (self._own @ self._own.T) / np.outer(lengths, lengths)
        self.margin = float(1 - (alike - 2 * np.eye(len(alike))).max())
        """Lead of the right pattern in a frame without noise, for the two most similar patterns."""

    def __len__(self) -> int:
        return len(self._whole)

    def match(self, frame: Frames) -> Match:
        """The pattern that a single frame shows. It may be brighter or darker than the templates by any factor."""
        return self._match(self._whitened(frame))

    def previous_share(self, frame: Frames, own: int, previous: int) -> float:
        """Share of pattern `previous` in a frame that should show `own`, by least squares on both templates."""
        return self._previous_share(self._whitened(frame), own, previous)

    def judge(self, frame: Frames, own: int, previous: int | None) -> Verdict:
        """Whether `frame` shows pattern `own`, and nothing of the pattern before (None: nothing stood there)."""
        white = self._whitened(frame)
        match = self._match(white)
        share = 0.0 if previous is None or previous == own else self._previous_share(white, own, previous)
        word: Word = "right"
        if match.index not in (own, previous) or match.score < LEAST_SCORE:
            word = "wrong"
        elif match.index != own or share >= TORN:
            word = "stale" if share >= 1 - TORN else "torn"
        return Verdict(word, match, share)

    def _whitened(self, frame: Frames) -> FloatArray:
        if len(frame) != 1 or frame.pixels.size != self.noise_dn.size:
            raise BadInput(f"a frame of {frame.pixels.shape} came, the templates have {self.noise_dn.size} pixels")
        return np.asarray(frame.pixels.reshape(-1) / self.noise_dn, dtype=np.float64)

    def _without_common(self, white: FloatArray) -> FloatArray:
        return np.asarray(white - (white @ self._common)[..., None] * self._common)

    def _match(self, white: FloatArray) -> Match:
        rest = self._without_common(white[None])[0]
        length = max(float(np.linalg.norm(rest)), np.finfo(float).tiny)
        scores = self._own @ rest / np.linalg.norm(self._own, axis=1) / length
        second, first = np.argsort(scores)[-2:]
        return Match(int(first), float(scores[first]), float(scores[first] - scores[second]))

    def _previous_share(self, white: FloatArray, own: int, previous: int) -> float:
        (one, other), *_ = np.linalg.lstsq(self._whole[[own, previous]].T, white, rcond=None)
        return float(other / (one + other)) if one + other > 0 else 0.0


def random_patterns(n: int, shape: tuple[int, int], rng: np.random.Generator, *, blocks: int = 16) -> FloatArray:
    """(n, H, W) of 0 and 1, half of them 1, in at most `blocks` x `blocks` fields: fine cells blur into one grey."""
    rows, columns = (-(-side // blocks) for side in shape)
    coarse = rng.permuted(
        np.tile(np.arange(-(-shape[0] // rows) * -(-shape[1] // columns)) % 2, (n, 1)).astype(np.float64), axis=1
    ).reshape(n, -(-shape[0] // rows), -(-shape[1] // columns))
    return np.asarray(coarse.repeat(rows, axis=1).repeat(columns, axis=2)[:, : shape[0], : shape[1]])


def random_order(n: int, patterns: int, rng: np.random.Generator) -> npt.NDArray[np.int64]:
    """(n,) patterns in random order, never the same twice in a row: what stays the same proves nothing."""
    steps = rng.integers(1, patterns, size=n)
    return np.asarray(np.cumsum(steps) % patterns, dtype=np.int64)


def _nearest_pair(white: FloatArray) -> tuple[float, Sequence[int]]:
    square = (white**2).sum(axis=1)
    distance = np.sqrt(np.maximum(square[:, None] + square[None] - 2 * white @ white.T, 0.0))
    np.fill_diagonal(distance, np.inf)
    first, second = np.unravel_index(int(distance.argmin()), distance.shape)
    return float(distance.min()), (int(first), int(second))
