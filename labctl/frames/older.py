"""Reading sets of the older schema, labctl.frames/1, so that `labctl dataset merge` can make today's of them.

Such a set is header.json, frames.raw (little-endian uint16, back to back) and ledger.jsonl with a CRC-32 per frame.
"""

from __future__ import annotations

import json
import zlib
from collections.abc import Sequence
from dataclasses import dataclass
from functools import cached_property
from pathlib import Path
from typing import Any

import numpy as np
import numpy.typing as npt
from pydantic import ValidationError

from labctl.durable import read_lines
from labctl.errors import BadInput, RunFailed
from labctl.frames.header import SCHEMA_1, SetHeader
from labctl.frames.layout import HEADER, LEDGER
from labctl.frames.marks import Mark
from labctl.frames.record import FrameRecord

RAW = "frames.raw"
KNOWN = (
    "sample_id", "label", "label_name", "split", "repeat", "mask_hash", "design", "exposure_id", "frame_id", "attempt",
    "exposure_s", "gain_db", "camera_time_s", "host_time_s", "saturated_fraction",
)  # fmt: skip

FULL_SCALES = (*(2**bits - 1 for bits in (8, 10, 12, 14, 16)), 2**16)
"""Of cameras, in DN; the last is for frames that reach 65535 and do not call it saturated."""

ABOUT = {
    "older schema": f"taken over from {SCHEMA_1}, which knew neither wall time (0 here), nor black level, instruments, "
    "calibrations, rig and run; the saturation level was inferred from the pixels",
}


def is_older(folder: Path) -> bool:
    """Whether a folder holds a set of the older schema."""
    try:
        return bool(json.loads((folder / HEADER).read_bytes())["schema"] == SCHEMA_1)
    except (OSError, ValueError, KeyError, TypeError):
        return False


@dataclass(frozen=True)
class OlderSet:
    """A set of the older schema, read only; what it did not know is None. Has what `merge` needs of a `FrameStore`.

    The level of saturation was not written down. It is the level that agrees with every share of saturated pixels
    that was: the lowest of the pixels that were counted as saturated; where none was, the least of FULL_SCALES above
    all pixels.
    """

    folder: Path

    def __len__(self) -> int:
        return len(self._lines)

    @property
    def where(self) -> str:
        """The folder."""
        return str(self.folder)

    @property
    def finished(self) -> bool:
        """Whether all planned frames are there."""
        return len(self) == self.header.planned

    @property
    def problems(self) -> tuple[str, ...]:
        """What no crash explains."""
        wrong = [n for n, line in enumerate(self._lines) if line.get("index") != n]
        return (f"the ledger has no line for frame {wrong[0]}",) if wrong else ()

    @property
    def checksums(self) -> npt.NDArray[np.int64]:
        """(N,) CRC-32 of every frame."""
        return np.array([line["crc32"] for line in self._lines], dtype=np.int64)

    @property
    def marks(self) -> tuple[Mark, ...]:
        """None were known then."""
        return ()

    @cached_property
    def header(self) -> SetHeader:
        """What holds for the whole set, as far as it can be known. Raises BadInput when it cannot be read."""
        try:
            value = json.loads((self.folder / HEADER).read_bytes())
            shape = tuple(int(side) for side in value["frame_shape"])
            names = _class_names(self._lines)
            return SetHeader.new(
                str(value["capture_hash"]),
                (shape[0], shape[1], shape[2]),
                planned=int(value["planned"]),
                class_names=names,
                design=_one({line.get("design") for line in self._lines}),
                about=ABOUT,
            )
        except (ValueError, KeyError, TypeError, IndexError, ValidationError) as error:
            raise BadInput(f"{self.folder}: {HEADER} of {SCHEMA_1} cannot be read: {error}; restore it") from error

    @cached_property
    def records(self) -> Sequence[FrameRecord]:
        """What is known of every frame, in order. Raises RunFailed for a line that makes no sense."""
        found = []
        for index, line in enumerate(self._lines):
            known = {name: line[name] for name in KNOWN if name in line}
            try:
                found.append(FrameRecord(**known, saturation_dn=self._saturation_dn, unix_time_s=0.0))
            except ValidationError as error:
                raise RunFailed(f"{self.folder}: the line of frame {index} is damaged: {error}") from error
        return found

    def frame(self, place: int) -> npt.NDArray[np.uint16]:
        """(C, h, w) DN of one frame. Raises RunFailed when it does not match its checksum."""
        pixels = np.asarray(self._raw[place])
        if zlib.crc32(pixels.tobytes()) != self._lines[place]["crc32"]:
            raise RunFailed(
                f"{self.folder}: frame {place} does not match its checksum; the file was changed or is damaged; "
                "restore it from a copy"
            )
        return pixels

    @cached_property
    def _lines(self) -> list[dict[str, Any]]:
        try:
            return read_lines(self.folder / LEDGER)
        except ValueError as error:
            raise RunFailed(f"{self.folder}: {LEDGER} is damaged: {error}; restore it from a copy") from error

    @cached_property
    def _raw(self) -> npt.NDArray[np.uint16]:
        shape = (len(self), *self.header.frame_shape)
        try:
            return np.memmap(self.folder / RAW, dtype="<u2", mode="r", shape=shape)
        except (OSError, ValueError) as error:
            raise RunFailed(f"{self.folder}: {RAW} does not hold the {len(self)} frames of its ledger") from error

    @cached_property
    def _saturation_dn(self) -> int:
        lowest, top = None, 1
        for place, line in enumerate(self._lines):
            values = np.asarray(self._raw[place]).reshape(-1)
            top = max(top, int(values.max()))
            count = round(float(line["saturated_fraction"]) * values.size)
            if count:
                level = int(np.partition(values, values.size - count)[values.size - count])
                lowest = level if lowest is None else min(lowest, level)
        return lowest if lowest is not None else next(level for level in FULL_SCALES if level > top)


def _class_names(lines: Sequence[dict[str, Any]]) -> tuple[str, ...]:
    """Names by label; none when a label between has none."""
    names = {line["label"]: line["label_name"] for line in lines if line.get("label") is not None}
    return tuple(str(names[n]) for n in range(len(names))) if sorted(names) == list(range(len(names))) else ()


def _one(values: set[Any]) -> str | None:
    return str(values.pop()) if len(values) == 1 and None not in values else None
