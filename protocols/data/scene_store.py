"""Where decoded scenes are kept: in memory, or in one file per set that is filled once and read row by row."""

from __future__ import annotations

import json
import logging
import os
import shutil
import zlib
from collections.abc import Iterator
from contextlib import AbstractContextManager, contextmanager
from pathlib import Path
from typing import Any, BinaryIO, Protocol

import numpy as np
import numpy.typing as npt

from labctl.durable import write_whole
from labctl.errors import BadInput, RunFailed
from labctl.state import cache_folder
from protocols.data.image_set import Pictures
from protocols.images import Radiance
from protocols.splits import IntArray

log = logging.getLogger(__name__)

Levels = npt.NDArray[np.uint16]
"""Radiance times 65535, rounded: 16 bit keep the depth of any camera in half the space of float32."""

BoolArray = npt.NDArray[np.bool_]

FULL_LEVEL = 65535

RECORD = np.dtype([("rows", "<u4"), ("columns", "<u4"), ("coloured", "<u4"), ("checksum", "<u4")])
"""What the file says of one scene: size of its picture before resizing, 1 where that had colour, and CRC-32. Zero size:
not there yet."""

HEADER_BYTES = 4096


def to_levels(radiance: Radiance) -> Levels:
    """16-bit levels of radiance 0..1, rounded."""
    return np.round(radiance * np.float32(FULL_LEVEL)).astype(np.uint16)


def to_radiance(levels: Levels) -> Radiance:
    """Radiance 0..1 of 16-bit levels."""
    return np.divide(levels, np.float32(FULL_LEVEL), dtype=np.float32)


class SceneStore(Protocol):
    """Scenes by row, and size and kind of the picture that each was made of."""

    @property
    def sizes(self) -> IntArray:
        """(N, 2) rows and columns of the pictures; zero where no scene is there yet."""

    @property
    def coloured(self) -> BoolArray:
        """(N,) which pictures had colour; False where no scene is there yet."""

    def filling(self) -> AbstractContextManager[None]:
        """The time in which `put` may be called; one process at a time."""

    def put(self, rows: IntArray, scenes: Levels, sizes: IntArray, coloured: BoolArray) -> None:
        """Keep (n, H, W) scenes; they stay, whatever happens after. sizes: (n, 2), coloured: (n,) of their pictures."""

    def pictures(self, rows: IntArray) -> Pictures:
        """The scenes of some rows, in this order."""


class MemoryStore:
    """A `SceneStore` for sets that are quickly decoded anew by every process."""

    def __init__(self, n: int, scene_shape: tuple[int, int]) -> None:
        self.sizes = np.zeros((n, 2), dtype=np.int64)
        self.coloured = np.zeros(n, dtype=np.bool_)
        self._scenes = np.zeros((n, *scene_shape), dtype=np.uint16)

    @contextmanager
    def filling(self) -> Iterator[None]:
        """See `SceneStore.filling`."""
        yield

    def put(self, rows: IntArray, scenes: Levels, sizes: IntArray, coloured: BoolArray) -> None:
        """See `SceneStore.put`."""
        self._scenes[rows], self.sizes[rows], self.coloured[rows] = scenes, sizes, coloured

    def pictures(self, rows: IntArray) -> Pictures:
        """A float32 array."""
        return to_radiance(self._scenes[rows])[:, None]


class FileStore:
    """A `SceneStore` in one file: header, a record per scene, the scenes as little-endian 16-bit levels.

    Scenes reach the disk before their records do, so that a killed or cut-off fill goes on where it stopped. A file
    that is damaged or of another set is made anew, with a word in the log.
    """

    def __init__(self, path: Path, key: str, n: int, scene_shape: tuple[int, int]) -> None:
        self.path = path
        self.n = n
        self.scene_shape = scene_shape
        self._key = key
        self._fault = self._look()

    @property
    def sizes(self) -> IntArray:
        """See `SceneStore.sizes`."""
        return np.stack([self._records["rows"], self._records["columns"]], axis=1).astype(np.int64)

    @property
    def coloured(self) -> BoolArray:
        """See `SceneStore.coloured`."""
        return np.asarray(self._records["coloured"] != 0)

    @property
    def file_bytes(self) -> int:
        """What the whole file takes on the disk."""
        return self._place_of(self.n)

    @contextmanager
    def filling(self) -> Iterator[None]:
        """See `SceneStore.filling`; waits while another process fills the same file. Raises BadInput without space."""
        from filelock import FileLock, Timeout

        lock = FileLock(self.path.with_suffix(".lock"), thread_local=False)
        try:
            try:
                lock.acquire(timeout=0)
            except Timeout:
                log.warning("another process is filling %s; waiting for it", self.path)
                lock.acquire()
            self._fault = self._look()
            if self._fault is not None:
                self._make()
            yield
        except OSError as error:
            raise BadInput(_no_space(self.path, error)) from error
        finally:
            lock.release()

    def put(self, rows: IntArray, scenes: Levels, sizes: IntArray, coloured: BoolArray) -> None:
        """See `SceneStore.put`."""
        with self.path.open("r+b") as file:
            for row, scene in zip(rows, scenes, strict=True):
                content = scene.astype("<u2").tobytes()
                file.seek(self._place_of(int(row)))
                file.write(content)
                self._records[row] = (0, 0, 0, zlib.crc32(content))
            _to_disk(file)
            self._records["rows"][rows], self._records["columns"][rows] = sizes.T
            self._records["coloured"][rows] = coloured
            for row in rows:
                file.seek(HEADER_BYTES + int(row) * RECORD.itemsize)
                file.write(self._records[row].tobytes())
            _to_disk(file)

    def pictures(self, rows: IntArray) -> Pictures:
        """`StoredPictures`."""
        return StoredPictures(self, rows)

    def read(self, rows: IntArray) -> Levels:
        """(n, H, W) scenes from the disk. Raises RunFailed when the file is gone or one of them is damaged."""
        scenes = np.empty((len(rows), *self.scene_shape), dtype="<u2")
        try:
            with self.path.open("rb", buffering=0) as file:
                for scene, row in zip(scenes, rows, strict=True):
                    os.preadv(file.fileno(), [scene.data], self._place_of(int(row)))
                    if zlib.crc32(scene.data) != self._records["checksum"][row]:
                        self._forget(int(row))
        except OSError as error:
            raise RunFailed(
                f"scenes cannot be read from {self.path}: {error.strerror}; `labctl resume` makes the file anew"
            ) from error
        return scenes.astype(np.uint16, copy=False)

    def _place_of(self, row: int) -> int:
        scene_bytes = 2 * self.scene_shape[0] * self.scene_shape[1]
        return HEADER_BYTES + self.n * RECORD.itemsize + row * scene_bytes

    @property
    def _header(self) -> bytes:
        said = {"labctl": "scenes/2", "key": self._key, "scenes": self.n, "scene_px": self.scene_shape}
        return json.dumps(said).encode().ljust(HEADER_BYTES - 1) + b"\n"

    def _look(self) -> str | None:
        """Read the records; returns why the file cannot be used, or None."""
        self._records = np.zeros(self.n, dtype=RECORD)
        try:
            with self.path.open("rb") as file:
                header = file.read(HEADER_BYTES)
                records = np.frombuffer(file.read(self.n * RECORD.itemsize), dtype=RECORD)
                found = os.fstat(file.fileno()).st_size
        except FileNotFoundError:
            return ""
        except (OSError, ValueError) as error:
            return str(error)
        if header != self._header:
            return "its header is not that of this set"
        if found != self.file_bytes:
            return f"it has {found} bytes, {self.file_bytes} are needed"
        self._records = records.copy()
        return None

    def _make(self) -> None:
        if self._fault:
            log.warning("%s is damaged or foreign (%s); it is made anew", self.path, self._fault)
        free = shutil.disk_usage(self.path.parent).free
        if free < self.file_bytes:
            raise BadInput(
                _no_space(self.path, f"{free / 1e9:.2f} GB are free, {self.file_bytes / 1e9:.2f} are needed")
            )
        log.warning(
            "%d scenes are decoded once into %s (%.2f GB); remove the file whenever you need the space",
            self.n, self.path, self.file_bytes / 1e9,
        )  # fmt: skip
        write_whole(self.path, self._header)
        os.truncate(self.path, self.file_bytes)
        self._records = np.zeros(self.n, dtype=RECORD)

    def _forget(self, row: int) -> None:
        """Take the record of a damaged scene away, so that the next fill makes it anew."""
        with self.path.open("r+b") as file:
            file.seek(HEADER_BYTES + row * RECORD.itemsize)
            file.write(bytes(RECORD.itemsize))
        raise RunFailed(f"scene {row} of {self.path} is damaged; `labctl resume` decodes its picture anew")


class StoredPictures:
    """`Pictures` that are read from a `FileStore` when asked for, each held against its checksum."""

    ndim = 4

    def __init__(self, store: FileStore, rows: IntArray) -> None:
        self._store = store
        self._rows = rows

    @property
    def shape(self) -> tuple[int, ...]:
        """(N, 1, H, W)."""
        return len(self), 1, *self._store.scene_shape

    def __len__(self) -> int:
        return len(self._rows)

    def __getitem__(self, rows: Any) -> Radiance:
        picked = np.asarray(self._rows[rows])
        scenes = to_radiance(self._store.read(picked.reshape(-1)))
        return scenes.reshape(*picked.shape, 1, *self._store.scene_shape)


def scenes_folder() -> Path:
    """Where files of scenes are kept; see `labctl.state.cache_folder`."""
    return cache_folder("scenes")


def _no_space(path: Path, why: object) -> str:
    return (
        f"decoded pictures cannot be kept in {path}: {why}; free some space, or name another folder in LABCTL_CACHE, "
        "or ask for fewer identities"
    )


def _to_disk(file: BinaryIO) -> None:
    file.flush()
    os.fsync(file.fileno())
