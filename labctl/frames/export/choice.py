"""Which frames of a set leave it, which stay and why, and what goes along with each."""

from __future__ import annotations

from collections import Counter
from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from typing import Any

import numpy as np
import numpy.typing as npt

from labctl.errors import BadInput
from labctl.frames.record import FrameRecord, Kind
from labctl.frames.scenes import Scenes
from labctl.frames.store import FrameStore

SPLIT_NAMES = ("train", "val", "test")
NO_SPLIT = "unsplit"

SHOWS_NOBODY = ("dark", "background")
"""Kinds of frames of a black scene: they identify nobody, whatever the design."""

IntArray = npt.NDArray[np.int64]


@dataclass(frozen=True)
class Item:
    """One frame that leaves the set."""

    index: int
    """In the ledger of the set."""

    pixels: npt.NDArray[np.uint16]
    """(C, h, w) DN."""

    record: FrameRecord
    """Its split is the one that was asked for."""

    marks: tuple[str, ...]

    @property
    def group(self) -> str:
        """`train`, `val`, `test` or `unsplit` for a scene, else the kind of the frame."""
        if self.record.kind != "scene":
            return self.record.kind
        return NO_SPLIT if self.record.split is None else SPLIT_NAMES[self.record.split]

    def values(self) -> dict[str, Any]:
        """All that is known of the frame, as JSON values."""
        return {"index": self.index, **self.record.model_dump(mode="json"), "marks": list(self.marks)}


@dataclass(frozen=True)
class Choice:
    """Frames that leave a set. Make one by `choose`."""

    store: FrameStore
    places: IntArray
    splits: IntArray
    """(n,) split of each: 0 train, 1 val, 2 test, -1 none."""

    left_out: Mapping[str, int]
    """How many of those asked for stay, by reason."""

    scenes: Scenes | None
    """Ground truth that goes along."""

    def __len__(self) -> int:
        return len(self.places)

    def items(self) -> Iterator[Item]:
        """The frames one by one, in order. Raises RunFailed at one that is damaged."""
        marks = self.store.marks
        indices = self.store.column("index")
        for place, split in zip(self.places.tolist(), self.splits.tolist(), strict=True):
            index = int(indices[place])
            record = self.store.records[place].model_copy(update={"split": None if split < 0 else split})
            said = tuple(f"{mark.word}: {mark.reason}" for mark in marks if mark.first <= index <= mark.last)
            yield Item(index, self.store.frame(place), record, said)

    def scene_ids(self) -> list[int]:
        """Samples whose ground truth goes along, each once."""
        if self.scenes is None:
            return []
        samples = np.unique(self.store.column("sample_id")[self.places])
        return [int(sample) for sample in samples if sample >= 0 and self.scenes.has(int(sample))]

    @property
    def privacy_levels(self) -> dict[str, int]:
        """Frames that show a scene, by their privacy level."""
        levels = self.store.column("privacy")[self.places][~_shows_nobody(self.store)[self.places]]
        return {str(level): count for level, count in Counter(levels.tolist()).items()}

    @property
    def identifying(self) -> dict[str, int]:
        """Those of them that the optics do not protect."""
        return {level: count for level, count in self.privacy_levels.items() if level != "optical"}


def choose(
    store: FrameStore,
    *,
    kind: Kind | None = None,
    split: str | None = None,
    splitting: str | None = None,
    label: str | None = None,
    marked: bool = False,
    coded_only: bool = False,
    scenes: bool = False,
) -> Choice:
    """Choose as `FrameStore.select` does; marked: frames in doubt too.

    coded_only: neither scenes, nor frames of a design whose raw frames identify, or may identify.
    Raises BadInput when nothing that shows a scene is left of what was asked for, or when there is nothing;
    RunFailed when the ledger has lost lines.
    """
    if coded_only and scenes:
        raise BadInput("coded frames only, and scenes too, cannot both be had; leave out --coded-only or --scenes")
    store.check_ledger()
    asked = store.select(kind=kind, split=split, splitting=splitting, label=label, marked=None)
    if not len(asked):
        raise BadInput(f"{store.where} has no frame that was asked for; see `labctl dataset info`")
    nobody = _shows_nobody(store)[asked]
    left_out: dict[str, int] = {}
    keep = np.ones(len(asked), dtype=np.bool_)
    if not marked:
        keep = ~store.marked[asked]
        left_out["marked as in doubt"] = int((~keep).sum())
    if coded_only:
        levels = store.column("privacy")[asked]
        for level in np.unique(levels):
            reveals = keep & (levels == level) & ~nobody & (level != "optical")
            left_out[f"{_WHY[str(level)]}"] = int(reveals.sum())
            keep &= ~reveals
    left_out = {reason: count for reason, count in left_out.items() if count}
    gone = "; ".join(f"{count} are {reason}" for reason, count in left_out.items())
    if not keep.any() or (not nobody.all() and not (keep & ~nobody).any()):
        raise BadInput(f"nothing is left of {len(asked)} frames of {store.where}: {gone}; {_way_out(left_out)}")
    places = asked[keep]
    return Choice(store, places, store.splits(splitting)[places], left_out, _scenes(store) if scenes else None)


_WHY = {
    "optical": "protected by the optics",
    "after-readout": "protected only after the read-out, so that raw frames identify",
    "none": "not protected",
    "unknown": "of a design of unknown privacy",
}


def _shows_nobody(store: FrameStore) -> npt.NDArray[np.bool_]:
    return np.isin(store.column("kind"), SHOWS_NOBODY)


def _scenes(store: FrameStore) -> Scenes:
    scenes = Scenes.open(store.where, **store.source.options)
    if scenes is None:
        raise BadInput(f"{store.where} keeps no scenes; leave --scenes out")
    return scenes


def _way_out(left_out: Mapping[str, int]) -> str:
    if "marked as in doubt" in left_out:
        return "look at them with `labctl dataset view --marked`, or take them along with --marked"
    return "whoever may have identifying frames exports without --coded-only"
