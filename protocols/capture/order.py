"""What is captured in which order: scenes, repeats, rungs of a ladder, and special frames between them.

Everything here is decided before the first exposure and depends on settings alone, so that a resumed capture goes on
with the very plan of the interrupted one.
"""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass
from typing import Literal

import numpy as np
import numpy.typing as npt

from labctl.frames.record import KINDS, Kind
from protocols.splits import IntArray

OrderName = Literal["shuffled", "interleaved", "as-is"]

LADDER_BLOCK = 64
"""Scenes that are taken at one rung before the camera is set to the next: few changes, and rungs of a scene close in
time."""

CLOSED_BLOCK = 64
"""Scenes that are taken through the mask before the same ones are taken with the mask closed: two changes of the SLM
for all of them, and the two frames of a scene close in time."""


MASK_CLOSED: tuple[Kind, ...] = ("dark", "closed")
"""Kinds of frames that are taken with the mask closed."""


@dataclass(frozen=True)
class CapturePlan:
    """What every frame of a set is, in order. All arrays are (N,)."""

    kinds: npt.NDArray[np.int8]
    """Place in `labctl.frames.record.KINDS`."""

    rows: IntArray
    """Row of the image set; -1 for special frames."""

    repeats: IntArray
    rungs: IntArray

    def __len__(self) -> int:
        return len(self.kinds)

    def kind(self, index: int) -> Kind:
        """What frame `index` is."""
        return KINDS[self.kinds[index]]

    def segment_end(self, start: int, most: int) -> int:
        """Where the frames from `start` on end that share mask and exposure, `most` at most: they make one plan."""
        stop = min(start + most, len(self))
        closed = np.isin(self.kinds[start:stop], [KINDS.index(kind) for kind in MASK_CLOSED])
        differs = (closed != closed[0]) | (self.rungs[start:stop] != self.rungs[start])
        return start + int(differs.argmax()) if differs.any() else stop


def arrange(
    rows: IntArray, labels: IntArray, splits: npt.NDArray[np.integer], *, order: OrderName, seed: int
) -> IntArray:
    """The order in which `rows` are shown: slow drifts of the bench shall not fall on one class or one split.

    rows, labels, splits: (n,). `shuffled` by seed; `interleaved`: classes and splits take turns, each spread evenly
    over the whole set and shuffled within itself by seed; `as-is`: as given.
    """
    if order == "as-is":
        return rows.copy()
    shuffled = np.random.default_rng(seed).permutation(len(rows))
    if order == "shuffled":
        return rows[shuffled]
    groups = np.unique(np.stack([splits[shuffled], labels[shuffled]]), axis=1, return_inverse=True)[1].reshape(-1)
    turn = np.empty(len(rows))
    for group in range(groups.max(initial=-1) + 1):
        members = np.flatnonzero(groups == group)
        turn[members] = (np.arange(len(members)) + 0.5) / len(members)
    return rows[shuffled][np.lexsort((groups, turn))]


def with_followers(first: IntArray, together: int) -> IntArray:
    """(n * together,) each of the rows `first` (n,) and those that follow it in the data: the frames of its clip."""
    return (first[:, None] + np.arange(together)).reshape(-1).astype(np.int64)


def plan_capture(
    rows: IntArray,
    *,
    repeats: int = 1,
    rungs: int = 1,
    dark_every: int = 0,
    background_every: int = 0,
    sentinel_every: int = 0,
    closed: bool = False,
) -> CapturePlan:
    """All frames of a set. rows: (n,) in the order of `arrange`; the whole order is gone through `repeats` times.

    Dark and background frames come at the start, at the end, and after every so many scene frames of a rung, at that
    rung: what the sensor adds depends on the exposure. Sentinels come at the start, at the end, and after every so many
    scene frames of whatever rung, at the first rung. 0 means none. closed: every block of CLOSED_BLOCK scenes is taken
    again with the mask closed, at all rungs.
    """
    every: dict[Kind, int] = {"dark": dark_every, "background": background_every}
    made = list(_frames(rows, repeats, rungs, every, sentinel_every, closed))
    kinds, places, repeated, rung = np.array(made, dtype=np.int64).reshape(-1, 4).T
    return CapturePlan(kinds.astype(np.int8), places, repeated, rung)


def _frames(
    rows: IntArray, repeats: int, rungs: int, every: dict[Kind, int], sentinel_every: int, closed: bool
) -> Iterator[tuple[int, int, int, int]]:
    every = {kind: count for kind, count in every.items() if count}
    since = {(kind, rung): 0 for kind in every for rung in range(rungs)}
    since_sentinel = 0
    if sentinel_every:
        yield _special("sentinel", 0)
    for rung in range(rungs):
        yield from (_special(kind, rung) for kind in every)
    for kind_of_sample, row, repeat, rung in _samples(rows, repeats, rungs, closed):
        yield KINDS.index(kind_of_sample), row, repeat, rung
        if kind_of_sample == "closed":
            continue
        for kind, count in every.items():
            since[kind, rung] += 1
            if since[kind, rung] == count:
                since[kind, rung] = 0
                yield _special(kind, rung)
        since_sentinel += 1
        if since_sentinel == sentinel_every:
            since_sentinel = 0
            yield _special("sentinel", 0)
    for rung in range(rungs):
        yield from (_special(kind, rung) for kind in every if since[kind, rung])
    if sentinel_every and since_sentinel:
        yield _special("sentinel", 0)


def _samples(rows: IntArray, repeats: int, rungs: int, closed: bool) -> Iterator[tuple[Kind, int, int, int]]:
    shown = [(int(row), repeat) for repeat in range(repeats) for row in rows]
    block = max(len(shown), 1)
    if rungs > 1 or closed:
        block = CLOSED_BLOCK if closed else LADDER_BLOCK
    kinds: tuple[Kind, ...] = ("scene", "closed") if closed else ("scene",)
    for start in range(0, len(shown), block):
        for kind in kinds:
            for rung in range(rungs):
                for row, repeat in shown[start : start + block]:
                    yield kind, row, repeat, rung


def _special(kind: Kind, rung: int) -> tuple[int, int, int, int]:
    return KINDS.index(kind), -1, 0, rung
