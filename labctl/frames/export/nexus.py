"""NeXus, an HDF5 file whose groups say what they are: opens in h5py, silx, h5web, DAWN and MATLAB.

Classes and fields as the NeXus definitions name them, https://manual.nexusformat.org/classes/base_classes
"""

from __future__ import annotations

import io
import json
from collections.abc import Callable, Sequence
from datetime import UTC, datetime
from pathlib import Path
from types import UnionType
from typing import Annotated, Any, Union, get_args, get_origin

import h5py
import numpy as np

from labctl import __version__
from labctl.frames.export.choice import Choice, Item
from labctl.frames.record import FrameRecord

FILE = "frames.nxs"

IMAGE_KEY = {"scene": 0, "sentinel": 0, "dark": 2, "background": 4, "closed": 5}
"""What NXdetector calls the kinds of frames."""

INVALID = 3
"""The `image_key` of a frame that is marked."""


def write_nexus(choice: Choice, folder: Path, advance: Callable[[], None]) -> None:
    """frames.nxs, with one chunk per frame and no filter, so that every HDF5 library reads it.

    /entry/instrument/detector/data: (n, h, w) DN, or (n, C, h, w) for frames of several channels; beside it count_time,
    stop_time, sequence_number and image_key (0 scene, 2 dark, 4 background, 5 closed, 3 marked).
    /entry/records: every field of the records, (n,) each: NaN, -1 or "" where unknown, JSON where it is no one value.
    /entry/instrument/LOG: the readings of instruments. /entry/header: what holds for the whole set, as JSON.
    /entry/scenes: (m, C, H, W) radiance 0..1 and their sample_id, if asked for.
    """
    with _PatientFile(folder / FILE, "w+") as disk:
        try:
            with h5py.File(disk, "w") as file:
                entry = _entry(file, choice)
                tables = _Tables(entry, choice)
                waiting: list[Item] = []
                for place, item in enumerate(choice.items()):
                    tables.data[place] = item.pixels.reshape(tables.data.shape[1:])
                    waiting.append(item)
                    if len(waiting) == _PART or place == len(choice) - 1:
                        tables.fill(place + 1 - len(waiting), waiting)
                        waiting = []
                    disk.check()
                    advance()
                _default_plot(entry, tables)
                _write_scenes(entry, choice, disk)
        except OSError as error:
            raise (
                disk.refusal or error
            ) from None  # HDF5 says it in words of its own, when it reads what was not written
        disk.check()


_PART = 256
"""So many records are held in memory."""

_TEXT = h5py.string_dtype("utf-8")
_UNITS = {"_s": "s", "_db": "dB", "_dn": "counts"}


class _PatientFile(io.FileIO):
    """Keeps what the disk refused for `check`: HDF5 that meets an error while it closes a file ends the process."""

    refusal: OSError | None = None

    def check(self) -> None:
        """Raise the OSError of the first write that failed."""
        if self.refusal is not None:
            raise self.refusal

    def write(self, data: Any) -> int:
        rest = memoryview(data).cast("B")
        count = len(rest)
        try:
            while rest and self.refusal is None:
                rest = rest[super().write(rest) :]
        except OSError as error:
            self.refusal = error
        return count

    def truncate(self, size: int | None = None) -> int:
        try:
            return super().truncate(size)
        except OSError as error:
            self.refusal = self.refusal or error
            return size or 0


class _Tables:
    """The arrays that grow with the frames."""

    def __init__(self, entry: h5py.Group, choice: Choice) -> None:
        count, frame_shape = len(choice), choice.store.header.frame_shape
        shape: tuple[int, ...] = frame_shape[1:] if frame_shape[0] == 1 else frame_shape
        self._origin_s = float(choice.store.column("unix_time_s")[choice.places].min())
        instrument = _group(entry, "instrument", "NXinstrument")
        detector = self.detector = _group(instrument, "detector", "NXdetector")
        self.data = detector.create_dataset("data", (count, *shape), np.uint16, chunks=(1, *shape))
        self.data.attrs.update({"units": "counts", "long_name": "pixel value (DN)"})
        self._count_time = _column(detector, "count_time", count, np.float64, "s")
        self._stop_time = _column(detector, "stop_time", count, np.float64, "s")
        self._stop_time.attrs["start"] = _iso(self._origin_s)
        self._stop_time.attrs["long_name"] = "when the frame was handed over to be stored, soon after its exposure"
        self.sequence_number = _column(detector, "sequence_number", count, np.int64)
        self._image_key = _column(detector, "image_key", count, np.int8)
        saturation = np.unique(choice.store.column("saturation_dn")[choice.places])
        if len(saturation) == 1:
            detector["saturation_value"] = saturation.astype(np.uint32)[0]
        records = _group(entry, "records", "NXcollection")
        self._kinds = {name: _kind(field.annotation) for name, field in FrameRecord.model_fields.items()}
        self._records = {
            name: _column(records, name, count, _STORED[kind], _unit(name)) for name, kind in self._kinds.items()
        }
        self._marks = _column(records, "marks", count, _TEXT)
        self._logs: dict[str, h5py.Dataset] = {}
        self._instrument, self._units = instrument, choice.store.header.units

    def fill(self, start: int, items: Sequence[Item]) -> None:
        rows = slice(start, start + len(items))
        values = [item.values() for item in items]
        for name, kind in self._kinds.items():
            self._records[name][rows] = [_BY_KIND[kind](value[name]) for value in values]
        self._marks[rows] = [json.dumps(value["marks"]) for value in values]
        self._count_time[rows] = [value["exposure_s"] for value in values]
        self._stop_time[rows] = [value["unix_time_s"] - self._origin_s for value in values]
        self.sequence_number[rows] = [item.index for item in items]
        self._image_key[rows] = [INVALID if item.marks else IMAGE_KEY[item.record.kind] for item in items]
        for name in dict.fromkeys(name for value in values for name in value["instruments"]):
            readings = [value["instruments"].get(name) for value in values]
            self._log(name)[rows] = [np.nan if reading is None else reading for reading in readings]

    def _log(self, name: str) -> h5py.Dataset:
        if name not in self._logs:
            log = _group(self._instrument, name.replace("/", "_"), "NXlog")
            log["time"] = self._stop_time
            self._logs[name] = _column(log, "value", len(self.data), np.float64, self._units.get(name))
        return self._logs[name]


def _entry(file: h5py.File, choice: Choice) -> h5py.Group:
    header = choice.store.header
    times = choice.store.column("unix_time_s")[choice.places]
    file.attrs.update({"NX_class": "NXroot", "default": "entry", "creator": f"labctl {__version__}"})
    entry = _group(file, "entry", "NXentry")
    entry["title"] = header.title or header.set_id
    entry["entry_identifier"] = header.set_id
    entry["start_time"], entry["end_time"] = _iso(float(times.min())), _iso(float(times.max()))
    entry["program_name"] = "labctl"
    entry["program_name"].attrs["version"] = header.labctl
    note = _group(entry, "header", "NXnote")
    note["type"], note["description"] = "application/json", "what holds for the whole captured set"
    note["data"] = json.dumps(header.model_dump(mode="json"))
    return entry


def _default_plot(entry: h5py.Group, tables: _Tables) -> None:
    """A plot of the frames over their index, to which `default` leads from the root."""
    plot = _group(entry, "data", "NXdata")
    plot["data"], plot["sequence_number"] = tables.data, tables.sequence_number
    axes = ["sequence_number"] + ["."] * (tables.data.ndim - 1)
    plot.attrs.update({"signal": "data", "axes": axes, "sequence_number_indices": 0})
    entry.attrs["default"] = "data"


def _write_scenes(entry: h5py.Group, choice: Choice, disk: _PatientFile) -> None:
    samples = choice.scene_ids()
    if choice.scenes is None or not samples:
        return
    group = _group(entry, "scenes", "NXcollection")
    shape = choice.scenes.shape[1:]
    data = group.create_dataset("data", (len(samples), *shape), np.float32, chunks=(1, *shape))
    data.attrs.update({"units": "1", "long_name": "radiance of the scene, 0 to 1"})
    group["sample_id"] = np.array(samples)
    for place, sample in enumerate(samples):
        data[place] = choice.scenes.scene(sample)
        disk.check()


def _group(parent: h5py.Group, name: str, nexus_class: str) -> h5py.Group:
    group = parent.create_group(name)
    group.attrs["NX_class"] = nexus_class
    return group


def _column(group: h5py.Group, name: str, count: int, dtype: Any, unit: str | None = None) -> h5py.Dataset:
    fill = np.nan if dtype is np.float64 else None
    column = group.create_dataset(name, (count,), dtype, fillvalue=fill)
    if unit is not None:
        column.attrs["units"] = unit
    return column


def _unit(name: str) -> str | None:
    return next((unit for ending, unit in _UNITS.items() if name.endswith(ending)), None)


def _kind(annotation: Any) -> str:
    """Of which kind a field of a record is: `float`, `int`, `text`, or anything else: `json`."""
    origin, inner = get_origin(annotation), get_args(annotation)
    if origin is Annotated:
        return _kind(inner[0])
    if origin in (Union, UnionType):
        (only,) = (_kind(part) for part in inner if part is not type(None))
        return only
    if annotation in (float, int):
        return str(annotation.__name__)
    words = annotation is str or (inner and all(isinstance(word, str) for word in inner))
    return "text" if words else "json"


_STORED: dict[str, Any] = {"float": np.float64, "int": np.int64, "text": _TEXT, "json": _TEXT}
_BY_KIND: dict[str, Callable[[Any], Any]] = {
    "float": lambda value: np.nan if value is None else value,
    "int": lambda value: -1 if value is None else value,
    "text": lambda value: "" if value is None else value.replace("\0", "\ufffd"),  # HDF5 text ends at a zero
    "json": json.dumps,
}


def _iso(unix_time_s: float) -> str:
    return datetime.fromtimestamp(unix_time_s, UTC).isoformat()
