"""Drift of the bench, seen by a sentinel: the same scene through the same mask, again and again during a capture."""

from __future__ import annotations

import io
import math
import time
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
import numpy.typing as npt

from labctl.durable import append_line, read_lines, write_whole
from labctl.errors import RunFailed
from labctl.frames.marks import Mark

SENTINEL_BLOCKS = 8
"""Blocks along each side of the sentinel scene."""

SENTINEL_RADIANCE = (0.1, 0.8)
"""Of its blocks: never white, so that it stays below saturation where a white scene does."""

TILES = 8
"""Tiles along each side of the frame whose means are compared."""

SURE = 3.0
"""A change counts when it is beyond the limit by so many standard errors."""

EVENTS_FILE, REFERENCE_FILE = "drift.jsonl", "sentinel-reference.npy"

Pixels = npt.NDArray[np.uint16] | npt.NDArray[np.float64]


@dataclass(frozen=True)
class Change:
    """How a sentinel differs from its reference; see `change_between`. All are shares of the light."""

    brightness: float
    brightness_error: float
    shape: float

    shape_least: float
    """What of `shape` remains after SURE standard errors."""

    def beyond(self, limit: float) -> bool:
        """Whether brightness or shape changed by more than `limit`, noise accounted for."""
        return abs(self.brightness) - SURE * self.brightness_error > limit or self.shape_least > limit

    def __str__(self) -> str:
        return f"brightness {self.brightness:+.1%}, shape {self.shape:.1%}"


def sentinel_scene(scene_px: tuple[int, int]) -> npt.NDArray[np.float32]:
    """(1, H, W) radiance of a fixed pattern of blocks at random levels, whose frame moves when anything moves."""
    rows, columns = (np.arange(side) * SENTINEL_BLOCKS // side for side in scene_px)
    low, high = SENTINEL_RADIANCE
    blocks = np.random.default_rng(20).uniform(low, high, (SENTINEL_BLOCKS, SENTINEL_BLOCKS))
    return blocks[np.ix_(rows, columns)][None].astype(np.float32)


def change_between(reference: Pixels, frame: Pixels, *, black_dn: float, saturation_dn: float) -> Change:
    """Relative change of brightness, and of the shape that is left when the frame is scaled to the reference.

    reference, frame: (C, h, w) DN of one exposure time; pixels that are saturated in either are left out.
    With r, f: light in DN above black. Brightness: a - 1, a = sum(f) / sum(r). Shape: rms over TILES x TILES tiles
    of the mean of d = f - a r, less what noise alone gives, over the mean of r: shifts and turns are seen by it. The
    noise of a pixel of d is taken from d itself: the mean square of its second differences along the rows, over 6, to
    which smooth changes add next to nothing. The error of a follows from it, that of the mean square of T tiles is
    sqrt(2 / T) times their noise.
    Raises RunFailed when the reference holds no light, or hardly anything unsaturated.
    """
    good = (reference < saturation_dn) & (frame < saturation_dn)
    r = np.where(good, reference.astype(np.float64) - black_dn, 0.0)
    f = np.where(good, frame.astype(np.float64) - black_dn, 0.0)
    if good.mean() < 0.5:
        raise RunFailed(f"{1 - good.mean():.0%} of the sentinel is saturated; expose less, or set sentinel_every to 0")
    count, total = int(good.sum()), float(r.sum())
    scale = float(f.sum()) / total if total > 0 else 0.0
    d = np.where(good, f - scale * r, 0.0)
    second = d[..., :-2] - 2 * d[..., 1:-1] + d[..., 2:]
    inside = good[..., :-2] & good[..., 1:-1] & good[..., 2:]
    variance = float((second[inside] ** 2).mean()) / 6 if inside.any() else 0.0
    if total <= SURE * math.sqrt(variance * count):
        raise RunFailed("the sentinel scene gives no light above black; is the lamp on, and the mask open?")
    sums, counts = _tiles(d), _tiles(good.astype(np.float64))
    kept = counts > 0
    noise = variance / counts[kept]
    excess = float(((sums[kept] / counts[kept]) ** 2 - noise).mean())
    sure = excess - SURE * math.sqrt(2 / kept.sum()) * float(noise.mean())
    return Change(
        brightness=scale - 1,
        brightness_error=math.sqrt(variance * count) / total,
        shape=math.sqrt(max(excess, 0.0)) * count / total,
        shape_least=math.sqrt(max(sure, 0.0)) * count / total,
    )


class DriftWatch:
    """Compares each sentinel with the reference, and marks the frames that no good sentinel vouches for.

    The reference is the first sentinel, or the frame that was taken after the last recalibration. What came of each is
    kept in `folder`, so that a resumed capture knows it. mark: puts a mark on frames that are on the disk. kept: frames
    that are there from before; a power cut may have taken others that were judged already.
    """

    def __init__(
        self,
        folder: Path,
        mark: Callable[[Mark], None],
        *,
        limit: float,
        black_dn: float,
        saturation_dn: float,
        kept: int,
    ) -> None:
        self._folder, self._mark, self._limit = folder, mark, limit
        self._black_dn, self._saturation_dn = black_dn, saturation_dn
        self._reference_index = -1  # of the reference in the plan; -1 when it was taken beside the plan
        self._has_reference = False
        self._vouched = -1  # the last frame that is vouched for, or marked already
        self.judged = -1
        """All sentinels of the plan up to this index were judged."""

        self.tolerated = False
        """Whether somebody said to go on although it drifts; ends when a sentinel is good again."""

        self.checks = 0
        """Sentinels that were taken beside the plan."""

        for event in read_lines(folder / EVENTS_FILE):
            self._apply(event)
        if max(self._vouched, self.judged) >= kept:
            self._note("gone", kept - 1, False, None)
        self._reference = np.load(folder / REFERENCE_FILE) if self._has_reference else None

    @property
    def has_reference(self) -> bool:
        """Whether there is anything to compare with."""
        return self._has_reference

    def compare(self, pixels: npt.NDArray[np.uint16]) -> Change | None:
        """The change of a sentinel (C, h, w) if it is too much."""
        if self._reference is None:
            return None
        change = change_between(self._reference, pixels, black_dn=self._black_dn, saturation_dn=self._saturation_dn)
        return change if change.beyond(self._limit) else None

    def see(self, index: int, pixels: npt.NDArray[np.uint16], *, planned: bool = True) -> Change | None:
        """Compare a sentinel (C, h, w) for good; marks, and returns the change, if it is too much.

        index: its own one, or, of one beside the plan, that of the frame before; all frames up to it are on the disk.
        The very first sentinel becomes the reference.
        """
        if self._reference is None:
            self.take_reference(index, pixels, planned=planned)
            return None
        change = self.compare(pixels)
        if change is not None and self._vouched < index:
            reason = f"sentinel: {change}, beyond {self._limit:.1%}"
            self._mark(Mark(word="drift", first=self._vouched + 1, last=index, reason=reason, unix_time_s=time.time()))
        self._note("good" if change is None else "drift", index, planned, change)
        return change

    def take_reference(self, index: int, pixels: npt.NDArray[np.uint16], *, planned: bool = False) -> None:
        """Compare with this sentinel (C, h, w) from now on."""
        stored = io.BytesIO()
        np.save(stored, pixels)
        write_whole(self._folder / REFERENCE_FILE, stored.getvalue())
        self._reference = pixels.copy()
        self._note("reference", index, planned, None)

    def tolerate(self, index: int) -> None:
        """Ask nobody again until a sentinel is good; frames are marked all the same."""
        self._note("tolerated", index, False, None)

    def _note(self, word: str, index: int, planned: bool, change: Change | None) -> None:
        event = {"time": time.time(), "index": index, "word": word, "planned": planned}
        if change is not None:
            event |= {"brightness": change.brightness, "shape": change.shape}
        append_line(self._folder / EVENTS_FILE, event)
        self._apply(event)

    def _apply(self, event: dict[str, Any]) -> None:
        if event["word"] == "tolerated":
            self.tolerated = True
            return
        if event["word"] == "gone":  # the frames behind this index; they will be taken anew
            self._vouched, self.judged = min(self._vouched, event["index"]), min(self.judged, event["index"])
            self._has_reference = self._has_reference and self._reference_index <= event["index"]
            return
        if event["word"] == "reference":
            self._has_reference, self._reference_index = True, event["index"] if event["planned"] else -1
        self._vouched = max(self._vouched, event["index"])
        if event["planned"]:
            self.judged = event["index"]
        else:
            self.checks += 1
        if event["word"] != "drift":
            self.tolerated = False


def _tiles(values: npt.NDArray[np.float64]) -> npt.NDArray[np.float64]:
    """Sums of (C, h, w) in TILES x TILES tiles, or as many as there are pixels: (C, rows, columns)."""
    rows, columns = (np.arange(min(TILES, side)) * side // min(TILES, side) for side in values.shape[-2:])
    return np.asarray(np.add.reduceat(np.add.reduceat(values, rows, axis=-2), columns, axis=-1))
