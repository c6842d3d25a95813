"""What stood on a display and when, long enough for the longest exposure, and how its pixels moved in between."""

from __future__ import annotations

import bisect
import math
import threading
from dataclasses import dataclass

import numpy as np
import numpy.typing as npt

from sim.virtual_lab.bench.response import SETTLED_RESPONSES, left_to_go

Levels = npt.NDArray[np.uint8]

KEPT_S = 13.0
"""How far back the history reaches: the longest exposure, 10 s, and time to render it."""

STEPS_IN_RESPONSES = (0.25, 0.5, 1.0, 1.5, 2.0, 3.0, 4.0, 6.0, SETTLED_RESPONSES)
"""Where a change is cut into pieces within which two moving displays are taken for independent."""

NODES, NODE_WEIGHTS = np.polynomial.legendre.leggauss(3)


class Unseen(Exception):
    """Something stood on the display too briefly to be read."""


@dataclass(frozen=True, eq=False)
class Piece:
    """A display over a stretch of time. levels: one picture when settled, else at Gauss nodes with these weights."""

    levels: tuple[npt.NDArray[np.generic], ...]
    weights: tuple[float, ...]
    key: bytes | None
    """Names the picture of a settled display."""


@dataclass(frozen=True, eq=False)
class _Change:
    effect_s: float
    before: npt.NDArray[np.generic]
    after: Levels
    key: bytes
    response_s: float

    def left(self, time_s: float) -> float:
        return left_to_go(time_s - self.effect_s, self.response_s)

    def levels(self, time_s: float) -> npt.NDArray[np.generic]:
        left = self.left(time_s)
        return self.after if left == 0 else self.after + left * (self.before.astype(np.float64) - self.after)


class ScreenHistory:
    """Pictures of one display by the time at which the screen changed. Times are seconds of CLOCK_MONOTONIC.

    A change reaches the light `latency_s` later and then settles exponentially by `response_s`. Thread-safe.
    """

    def __init__(self, first: Levels, *, latency_s: float, response_s: float) -> None:
        self.latency_s, self.response_s = latency_s, response_s
        self._lock = threading.Lock()
        self._changes = [_Change(-math.inf, first, first, first.tobytes(), 0.0)]
        self._unseen: list[tuple[float, float]] = []

    @property
    def last(self) -> Levels:
        """The newest picture."""
        return self._changes[-1].after

    def record(self, time_s: float, levels: Levels) -> None:
        """The screen holds `levels` from `time_s` on."""
        with self._lock:
            effect_s = max(time_s + self.latency_s, self._changes[-1].effect_s)
            before = self._at(effect_s).levels(effect_s)
            self._changes.append(_Change(effect_s, before, levels, levels.tobytes(), self.response_s))
            self._forget(time_s - KEPT_S)

    def record_unseen(self, from_s: float, to_s: float) -> None:
        """The screen changed in between, and nobody knows to what."""
        with self._lock:
            self._unseen.append((from_s + self.latency_s, to_s + self.latency_s))

    def cuts(self, start_s: float, end_s: float) -> list[float]:
        """Times inside the exposure at which its pieces end."""
        with self._lock:
            steps = {
                change.effect_s + step * change.response_s
                for change in self._changes[1:]
                for step in (0.0, *STEPS_IN_RESPONSES)
            }
        return sorted(time_s for time_s in steps if start_s < time_s < end_s)

    def piece(self, start_s: float, end_s: float) -> Piece:
        """The display between two neighbouring cuts. Raises Unseen when what stood there was not read."""
        with self._lock:
            if any(low < end_s and start_s < high for low, high in self._unseen):
                raise Unseen(f"between {start_s:.4f} s and {end_s:.4f} s the screen changed faster than it was read")
            change = self._at((start_s + end_s) / 2)
            if change.left(start_s) == 0 or change.left((start_s + end_s) / 2) == 0:
                return Piece((change.after,), (1.0,), change.key)
            times = (start_s + end_s) / 2 + (end_s - start_s) / 2 * NODES
            levels = tuple(change.levels(float(time_s)) for time_s in times)
            return Piece(levels, tuple(float(weight) / 2 for weight in NODE_WEIGHTS), None)

    def _at(self, time_s: float) -> _Change:
        return self._changes[bisect.bisect_right(self._changes, time_s, key=lambda change: change.effect_s) - 1]

    def _forget(self, before_s: float) -> None:
        while len(self._changes) > 1 and self._changes[1].effect_s < before_s:
            self._changes.pop(0)
        self._unseen = [span for span in self._unseen if span[1] >= before_s]
