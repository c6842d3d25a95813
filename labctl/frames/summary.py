"""What a captured set is, in numbers and words: for `labctl dataset info` and for the data card."""

from __future__ import annotations

import math
from collections import Counter
from collections.abc import Collection, Iterable
from pathlib import Path
from typing import Any

import numpy as np
import numpy.typing as npt
from pydantic import ValidationError

from labctl.errors import RunFailed
from labctl.frames.finding import writer_of
from labctl.frames.layout import SPLITS
from labctl.frames.record import FrameRecord, Privacy
from labctl.frames.scenes import Scenes
from labctl.frames.sessions import read_history, read_sessions
from labctl.frames.source import FolderSource
from labctl.frames.splitting import PARTS
from labctl.frames.store import FrameStore

PRIVACY_IN_WORDS: dict[Privacy, str] = {
    "optical": "optical: the design is meant to protect before the sensor, so that the coded frames do not show the "
    "scene. How well it does is a matter of measurement, not of this label",
    "after-readout": "after read-out: the raw frames IDENTIFY what they show. The design protects only what is "
    "computed from them; treat the set as pictures of the people in it",
    "none": "none: the frames show the scene. Treat the set as pictures of the people in it",
    "unknown": "unknown: nobody said where the design protects. Treat the set as pictures of the people in it",
}


def summarize(store: FrameStore, places: npt.NDArray[np.int64] | None = None) -> dict[str, Any]:
    """All of it as JSON values; what is not known is None. Reads the whole ledger and no pixels.

    places: all that is said of frames is said of these alone. What is said of scenes and disk is of the whole set.
    Sizes in bytes, times in seconds since 1970, levels in DN. Raises RunFailed when a record cannot be read.
    """
    tally = _Tally()
    places = np.arange(len(store)) if places is None else places
    indices = store.column("index")[places]
    try:
        for place in places.tolist():
            tally.add(store.records[place])
        marks = [mark for mark in store.marks if ((mark.first <= indices) & (indices <= mark.last)).any()]
    except ValidationError as error:
        raise RunFailed(
            f"{store.where} does not hold to its schema ({error.errors()[0]['msg']}); see `labctl dataset verify`"
        ) from error
    head = store.header
    folder = store.source.path if isinstance(store.source, FolderSource) else None
    scenes = Scenes.open(store.where, **store.source.options)
    channels, rows, columns = head.frame_shape
    return {
        "where": store.where,
        "set_id": head.set_id,
        "title": head.title,
        "created": head.created or None,
        "labctl": head.labctl or None,
        "rig": {"name": head.rig_name, "nature": head.nature, "hash": head.rig_hash},
        "run_id": head.run_id,
        "design": head.design,
        "privacy": head.privacy,
        "privacy_of_frames": _plain(tally.privacy),
        "privacy_in_words": PRIVACY_IN_WORDS[worst_privacy({head.privacy, *tally.privacy})],
        "frames": len(places),
        "planned": head.planned,
        "finished": store.finished,
        "writer": writer_of(folder) if folder else None,
        "kinds": _plain(tally.kinds),
        "samples": len(tally.samples),
        "splits": {PARTS[number]: tally.splits[number] for number in sorted(tally.splits)},
        "labels": _plain(tally.labels),
        "repeats": len(tally.repeats),
        "ladder": list(head.ladder),
        "shape": {"channels": channels, "rows": rows, "columns": columns},
        "exposure_s": _span(tally.exposures),
        "gain_db": _span(tally.gains),
        "black_level_dn": _span(tally.black),
        "saturation_dn": _span(tally.saturation),
        "saturated_fraction": {
            "mean": tally.saturated / max(len(places), 1),
            "highest": tally.most_saturated,
            "rungs": tally.rungs(),
        },
        "taken": _span(tally.times) if tally.times[0] < math.inf else None,
        "masks": _plain(tally.masks),
        "instruments": {name: {"unit": head.units.get(name), **span} for name, span in tally.spans().items()},
        "calibrations": {name: sorted(ids) for name, ids in sorted(tally.calibrations.items())},
        "retaken": tally.retaken,
        "witnessed": _plain(tally.witnessed),
        "marks": {word: sum(mark.word == word for mark in marks) for word in sorted({mark.word for mark in marks})},
        "marked_frames": int(np.count_nonzero(store.marked[places])),
        "later_splits": _later_splits(store, folder, places),
        "scenes": None if scenes is None else {"kept": len(scenes), "shape": list(scenes.shape[1:])},
        "disk_bytes": _disk_bytes(folder) if folder else None,
        "pixel_bytes": len(places) * head.frame_bytes,
        "compression": head.compression,
        "sync": head.sync,
        "shard_frames": head.shard_frames,
        "sessions": len(read_sessions(store).starts),
        "last_recovery": next((e for e in reversed(read_history(store)) if e.get("did")), None),
        "merged_from": list(head.merged_from),
        "problems": list(store.problems),
        "about": dict(head.about),
    }


def worst_privacy(said: Collection[str]) -> Privacy:
    """A set protects no better than the least protecting of its frames; see `Privacy`.

    said: the levels of all frames of scenes, and, of a whole set, what its header says.
    """
    order: tuple[Privacy, ...] = ("none", "after-readout", "unknown", "optical")
    return next(word for word in order if word in said)


class _Tally:
    """Counts over all records, in one walk."""

    def __init__(self) -> None:
        self.kinds: Counter[str] = Counter()
        self.labels: Counter[str] = Counter()
        self.splits: Counter[int] = Counter()
        self.masks: Counter[str] = Counter()
        self.privacy: Counter[str] = Counter()
        self.witnessed: Counter[str] = Counter()
        self.samples: set[int] = set()
        self.repeats: set[int] = set()
        self.exposures: set[float] = set()
        self.gains: set[float] = set()
        self.black: set[float] = set()
        self.saturation: set[float] = set()
        self.calibrations: dict[str, set[str]] = {}
        self.times = (math.inf, -math.inf)
        self.saturated = self.most_saturated = 0.0
        self.retaken = 0
        self._saturated: dict[int, tuple[float, float, int]] = {}
        self._readings: dict[str, tuple[float, float, float, int]] = {}

    def add(self, record: FrameRecord) -> None:
        """Count one record."""
        self.kinds[record.kind] += 1
        self.masks[record.mask_hash or "unknown"] += 1
        self.exposures.add(record.exposure_s)
        self.gains.add(record.gain_db)
        self.saturation.add(float(record.saturation_dn))
        if record.black_level_dn is not None:
            self.black.add(record.black_level_dn)
        self.saturated += record.saturated_fraction
        self.most_saturated = max(self.most_saturated, record.saturated_fraction)
        self.retaken += bool(record.retries)
        if record.witness is not None:
            self.witnessed[record.witness.word] += 1
        if record.unix_time_s > 0:  # the older schema did not know it
            self.times = (min(self.times[0], record.unix_time_s), max(self.times[1], record.unix_time_s))
        for name, identity in record.calibrations.items():
            self.calibrations.setdefault(name, set()).add(identity)
        for name, value in record.instruments.items():
            if value is not None:
                low, high, total, count = self._readings.get(name, (value, value, 0.0, 0))
                self._readings[name] = (min(low, value), max(high, value), total + value, count + 1)
        if record.kind != "scene":
            return
        self.privacy[record.privacy] += 1
        total, highest, count = self._saturated.get(record.rung, (0.0, 0.0, 0))
        share = record.saturated_fraction
        self._saturated[record.rung] = (total + share, max(highest, share), count + 1)
        if record.sample_id is not None:
            self.samples.add(record.sample_id)
        if record.label_name is not None or record.label is not None:
            self.labels[record.label_name if record.label_name is not None else str(record.label)] += 1
        if record.split is not None:
            self.splits[record.split] += 1
        self.repeats.add(record.repeat)

    def rungs(self) -> dict[str, dict[str, float]]:
        """Mean and highest saturated share of the frames of scenes, by rung of the ladder."""
        return {
            str(rung): {"mean": total / count, "highest": highest}
            for rung, (total, highest, count) in sorted(self._saturated.items())
        }

    def spans(self) -> dict[str, dict[str, float]]:
        """Lowest, highest and mean of the readings of every instrument."""
        return {
            name: {"low": low, "high": high, "mean": total / count}
            for name, (low, high, total, count) in sorted(self._readings.items())
        }


def _plain(counter: Counter[str]) -> dict[str, int]:
    return {name: counter[name] for name in sorted(counter)}


def _span(values: Iterable[float]) -> dict[str, float] | None:
    listed = list(values)
    return {"low": min(listed), "high": max(listed)} if listed else None


def _later_splits(store: FrameStore, folder: Path | None, places: npt.NDArray[np.int64]) -> dict[str, dict[str, int]]:
    """Scene frames by part, of every later split. A folder behind an address cannot be listed."""
    found: dict[str, dict[str, int]] = {}
    scenes = np.intersect1d(store.select(marked=None), places)
    for file in sorted((folder / SPLITS).glob("*.json")) if folder else ():
        try:
            parts = store.splits(file.stem)[scenes]
        except RunFailed:
            found[file.stem] = {}  # damaged; `verify` says so
            continue
        found[file.stem] = {name: int(np.count_nonzero(parts == number)) for number, name in enumerate(PARTS)}
    return found


def _disk_bytes(folder: Path) -> int:
    return sum(file.stat().st_size for file in folder.rglob("*") if file.is_file())
