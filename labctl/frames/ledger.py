"""A captured data set in two append-only files: raw pixels, and one checked line per frame.

`frames.raw` holds frames of one size back to back; `ledger.jsonl` says what each of them is, with a checksum.
Pixels are on the disk before their lines are, so every line that can be read names pixels that can be read.
"""

from __future__ import annotations

import json
import os
import zlib
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from types import TracebackType
from typing import Any, BinaryIO, Self

import numpy as np
import numpy.typing as npt

from labctl.durable import read_lines, write_json
from labctl.errors import BadInput, RunFailed

RAW, LEDGER, HEADER = "frames.raw", "ledger.jsonl", "header.json"
SCHEMA = "labctl.frames/1"


@dataclass(frozen=True)
class Recovery:
    """What opening after a crash found and cut off."""

    kept: int
    dropped_lines: int
    dropped_bytes: int


class FrameLedger:
    """Writes frames in order and resumes at the first that is missing. Use as a context manager.

    frame_shape: (C, h, w), uint16. `capture_hash` names the capture; another capture's folder is refused.
    """

    def __init__(self, folder: Path, *, frame_shape: tuple[int, int, int], capture_hash: str, planned: int) -> None:
        self.folder = folder
        self.frame_shape = frame_shape
        self._frame_bytes = 2 * int(np.prod(frame_shape))
        self._pending: list[tuple[bytes, dict[str, Any]]] = []
        header = {"schema": SCHEMA, "frame_shape": list(frame_shape), "capture_hash": capture_hash, "planned": planned}
        folder.mkdir(parents=True, exist_ok=True)
        header_path = folder / HEADER
        if header_path.exists() and json.loads(header_path.read_text()) != header:
            raise BadInput(f"{folder} holds frames of another capture; give the run another folder")
        if not header_path.exists():
            write_json(header_path, header)
        self.recovery = self._recover()
        self._raw: BinaryIO = (folder / RAW).open("ab")
        self._lines: BinaryIO = (folder / LEDGER).open("ab")

    @property
    def next_index(self) -> int:
        """Index of the next missing frame, pending ones included."""
        return self.recovery.kept + self._appended

    def append(self, pixels: npt.NDArray[np.uint16], record: dict[str, Any]) -> None:
        """Take one (C, h, w) frame; it is safe after the next `commit`."""
        if pixels.shape != self.frame_shape or pixels.dtype != np.uint16:
            raise RunFailed(f"frame is {pixels.dtype} {pixels.shape}; this capture holds uint16 {self.frame_shape}")
        data = np.ascontiguousarray(pixels).astype("<u2", copy=False).tobytes()
        line = {"index": self.next_index, "crc32": zlib.crc32(data), **record}
        self._pending.append((data, line))
        self._appended += 1

    def commit(self) -> None:
        """Bring all appended frames to the disk: pixels first, then their lines."""
        pending, self._pending = self._pending, []  # a write that fails half-way must never be repeated behind itself
        if not pending:
            return
        self._raw.write(b"".join(data for data, _ in pending))
        _sync(self._raw)
        self._lines.write(b"".join(json.dumps(line, allow_nan=False).encode() + b"\n" for _, line in pending))
        _sync(self._lines)

    def close(self) -> None:
        """Commit and close. May be called twice."""
        if not self._raw.closed:
            self.commit()
            self._raw.close()
            self._lines.close()

    def __enter__(self) -> Self:
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self.close()

    def _recover(self) -> Recovery:
        self._appended = 0
        raw_path, ledger_path = self.folder / RAW, self.folder / LEDGER
        lines = read_lines(ledger_path)
        raw_size = raw_path.stat().st_size if raw_path.exists() else 0
        kept = 0
        if lines:
            with raw_path.open("rb") as raw:
                for index, line in enumerate(lines):
                    data = raw.read(self._frame_bytes)
                    if len(data) < self._frame_bytes:
                        break
                    if line["index"] != index or zlib.crc32(data) != line["crc32"]:
                        raise RunFailed(
                            f"{self.folder}: frame {index} does not match its checksum, which no crash explains; "
                            "restore the folder from a copy, or remove it to capture anew"
                        )
                    kept += 1
        if raw_size > kept * self._frame_bytes:
            os.truncate(raw_path, kept * self._frame_bytes)
        if ledger_path.exists():
            whole = ledger_path.read_bytes().splitlines(keepends=True)
            os.truncate(ledger_path, sum(len(line) for line in whole[:kept]))
        return Recovery(kept, len(lines) - kept, raw_size - kept * self._frame_bytes)


@dataclass(frozen=True)
class CapturedSet:
    """A finished capture. pixels: (N, C, h, w) uint16 in DN, memory-mapped; records: one mapping per frame."""

    pixels: npt.NDArray[np.uint16]
    records: Sequence[dict[str, Any]]

    def column(self, name: str) -> npt.NDArray[Any]:
        """Value `name` of every record, as an array of length N."""
        return np.asarray([record[name] for record in self.records])


def read_capture(folder: Path) -> CapturedSet:
    """Open a finished capture and prove it: count, order and checksum of every frame.

    Raises RunFailed that names the first frame that does not hold.
    """
    header_path = folder / HEADER
    if not header_path.exists():
        raise RunFailed(f"{folder} holds no capture")
    header = json.loads(header_path.read_text())
    records = read_lines(folder / LEDGER)
    if len(records) != header["planned"]:
        raise RunFailed(
            f"{folder}: {len(records)} of {header['planned']} frames captured; `labctl resume` the run first"
        )
    shape = (len(records), *header["frame_shape"])
    pixels = np.memmap(folder / RAW, dtype="<u2", mode="r", shape=shape)
    for index, record in enumerate(records):
        if record["index"] != index or zlib.crc32(pixels[index].tobytes()) != record["crc32"]:
            raise RunFailed(f"{folder}: frame {index} does not match its checksum; the file was changed or is damaged")
    return CapturedSet(pixels, records)


def _sync(file: BinaryIO) -> None:
    file.flush()
    os.fsync(file.fileno())
