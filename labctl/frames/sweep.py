"""One walk through all frames of a set: every record by schema, every pixel against its checksum."""

from __future__ import annotations

from collections import Counter
from collections.abc import Callable
from contextlib import suppress
from typing import NamedTuple

import numpy as np
import numpy.typing as npt
from pydantic import ValidationError

from labctl.errors import RunFailed
from labctl.frames.record import FrameRecord
from labctl.frames.store import FrameStore

EVERY = 16
"""Frames between two words on the progress."""

OF_SCENES = ("sample_id", "label", "label_name", "split", "scene_hash")
"""Only frames of scenes can have these."""

OF_ALL = (
    "mask_hash", "levels_hash", "design", "privacy", "black_level_dn", "rig_hash", "run_id", "witness", "instruments",
    "calibrations",
)  # fmt: skip


class Seen(NamedTuple):
    """What a walk keeps of a record: little, since a set may have millions of frames."""

    place: int
    number: int
    """Index in the set."""

    kind: str
    sample_id: int | None
    label: int | None
    label_name: str | None
    split: int | None
    repeat: int
    rung: int
    scene_hash: str | None
    mask_hash: str | None
    levels_hash: str | None
    exposure_id: int
    attempt: int
    frame_id: int
    camera_time_s: float
    host_time_s: float
    unix_time_s: float
    saturated_fraction: float
    run_id: str | None


class Sweep:
    """Walks once, by `go`. pixels: whether to read them; without, the findings on pixels stay empty."""

    def __init__(self, store: FrameStore, *, pixels: bool) -> None:
        self.store, self._pixels = store, pixels
        self.indices: npt.NDArray[np.int64] = np.asarray(store.column("index"), dtype=np.int64)
        self.seen: list[Seen] = []
        self.proven = 0
        self.damaged: list[int] = []
        """Indices of frames that do not match their checksum, or are gone."""

        self.constant: list[int] = []
        self.missaid: list[int] = []
        """Indices whose saturated share is not what their record says."""

        self.unlawful: dict[int, str] = {}
        """What is wrong with records that do not hold to the schema, by index."""

        self.doubted: set[int] = set()
        """Indices of marked frames: what is wrong with them is known, and they are left out of learning."""

        with suppress(RunFailed):  # damaged marks are a finding of their own
            self.doubted = set(self.indices[store.marked].tolist())
        self._known: Counter[str] = Counter()
        self._scenes = 0

    def go(self, progress: Callable[[int, int], None]) -> None:
        """Walk. progress: hears how many of how many frames are done."""
        total = len(self.store)
        for place, index in enumerate(self.indices.tolist()):
            record = self._record(place, index)
            if self._pixels:
                self._prove(place, index, record)
            if place % EVERY == 0:
                progress(place, total)
        progress(total, total)

    def known(self) -> dict[str, float]:
        """By quantity, for which share of the frames it is known."""
        total = len(self.seen)
        names = [*OF_SCENES, *OF_ALL, *sorted(name for name in self._known if "." in name)]
        shares = {name: (self._known[name], self._scenes if name in OF_SCENES else total) for name in names}
        return {name: count / of for name, (count, of) in shares.items() if of}

    def _record(self, place: int, index: int) -> FrameRecord | None:
        try:
            record: FrameRecord = self.store.records[place]
        except ValidationError as error:
            first = error.errors()[0]
            self.unlawful[index] = f"{'.'.join(map(str, first['loc']))}: {first['msg']}"
            return None
        self.seen.append(Seen(place, index, *(getattr(record, name) for name in Seen._fields[2:])))
        self._scenes += record.kind == "scene"
        names = (*OF_SCENES, *OF_ALL) if record.kind == "scene" else OF_ALL
        self._known.update(name for name in names if getattr(record, name) not in (None, "unknown", {}))
        self._known.update(f"instruments.{name}" for name, value in record.instruments.items() if value is not None)
        self._known.update(f"calibrations.{name}" for name in record.calibrations)
        return record

    def _prove(self, place: int, index: int, record: FrameRecord | None) -> None:
        try:
            frame = self.store.frame(place)
        except RunFailed:
            self.damaged.append(index)
            return
        self.proven += 1
        top = int(frame.max())
        if frame.size > 1 and int(frame.min()) == top:
            self.constant.append(index)
        if record is None:
            return
        count = 0 if top < record.saturation_dn else int(np.count_nonzero(frame >= record.saturation_dn))
        if abs(count - record.saturated_fraction * frame.size) > 0.5:
            self.missaid.append(index)
