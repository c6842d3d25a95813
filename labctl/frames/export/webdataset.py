"""WebDataset: tar files that are read from end to end, for training from slow or far storage."""

from __future__ import annotations

import io
import json
import tarfile
from collections.abc import Callable
from contextlib import ExitStack
from pathlib import Path
from typing import Any

import numpy as np
import numpy.typing as npt

from labctl.frames.export.choice import Choice, Item

SHARD_BYTES = 256 * 2**20
"""A tar file ends with the frame that reaches this size."""


def write_webdataset(
    choice: Choice, folder: Path, advance: Callable[[], None], *, shard_bytes: int = SHARD_BYTES
) -> None:
    """GROUP-NUMBER.tar with groups train, val, test, unsplit, dark, background and sentinel, numbered from 000000.

    Each sample holds INDEX.frame.npy (uint16 DN, (C, h, w)), INDEX.json (its record), INDEX.cls (its label, if any) and
    INDEX.scene.npy (float32 radiance 0..1, if asked for): webdataset decodes all of them with `.decode()`.
    Samples follow each other as they were captured: shuffle when reading.
    """
    with ExitStack() as stack:
        shards: dict[str, _Shards] = {}
        for item in choice.items():
            if item.group not in shards:
                shards[item.group] = _Shards(folder, item.group, shard_bytes, stack)
            shards[item.group].add(f"{item.index:08d}", _files(choice, item))
            advance()


def _files(choice: Choice, item: Item) -> dict[str, bytes]:
    files = {"frame.npy": _npy(item.pixels), "json": json.dumps(item.values(), allow_nan=False).encode()}
    if item.record.label is not None:
        files["cls"] = str(item.record.label).encode()
    sample = item.record.sample_id
    if choice.scenes is not None and sample is not None and choice.scenes.has(sample):
        files["scene.npy"] = _npy(choice.scenes.scene(sample))
    return files


class _Shards:
    """The tar files of one group."""

    def __init__(self, folder: Path, group: str, shard_bytes: int, stack: ExitStack) -> None:
        self._folder, self._group, self._shard_bytes, self._stack = folder, group, shard_bytes, stack
        self._number = -1
        self._tar: tarfile.TarFile | None = None

    def add(self, key: str, files: dict[str, bytes]) -> None:
        if self._tar is None or self._tar.offset >= self._shard_bytes:
            self._next()
        assert self._tar is not None
        for ending, data in files.items():
            entry = tarfile.TarInfo(f"{key}.{ending}")  # no times, no owner: equal frames give equal files
            entry.size = len(data)
            self._tar.addfile(entry, io.BytesIO(data))

    def _next(self) -> None:
        if self._tar is not None:
            self._tar.close()
        self._number += 1
        path = self._folder / f"{self._group}-{self._number:06d}.tar"
        tar = tarfile.open(path, "w", format=tarfile.USTAR_FORMAT)  # noqa: SIM115 - the stack closes it
        self._tar = self._stack.enter_context(tar)


def _npy(values: npt.NDArray[Any]) -> bytes:
    file = io.BytesIO()
    np.save(file, values, allow_pickle=False)
    return file.getvalue()
