"""Decode and resize many pictures or clips into a store, several at a time, and go on where an earlier fill stopped."""

from __future__ import annotations

import hashlib
import os
from collections.abc import Sequence
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass, field
from functools import lru_cache
from pathlib import Path
from typing import Protocol

import numpy as np

from labctl.protocol import Progress
from protocols.data.scene_store import FileStore, Levels, MemoryStore, SceneStore, scenes_folder, to_levels
from protocols.images import Crop, Encoding, UnreadablePicture, has_colour, read_picture, resized

IN_MEMORY_BYTES = 64 * 2**20
"""Sets that take more than this as float32 scenes are decoded once into a file: 4200 pictures at 63x63, decoded in a
few seconds. Below, every process decodes them for itself."""

BLOCK_BYTES = 8 * 2**20
"""Scenes between two writes to the disk: at most so much work is lost by a kill."""

DECODERS = min(8, os.cpu_count() or 1)
"""Threads: Pillow and FFmpeg work without holding the interpreter."""

DECODING_VERSION = 2
"""Raise it when the same picture gives another scene, or another record of it."""


@dataclass(frozen=True)
class Decoded:
    """One picture on the scene grid. levels: (H, W). size: its own (rows, columns). coloured: it was no grey one."""

    levels: Levels
    size: tuple[int, int]
    coloured: bool


class Decoding(Protocol):
    """Which N scenes are made, and how. Equal keys give equal scenes; it can be hashed and compared."""

    def __hash__(self) -> int: ...

    @property
    def names(self) -> Sequence[str]:
        """(N,) what each scene is made of."""

    @property
    def scene_shape(self) -> tuple[int, int]:
        """(H, W) of every scene."""

    @property
    def key(self) -> str:
        """sha256 in hex of all that decides the scenes."""

    @property
    def progress(self) -> Progress:
        """Told of every block."""

    @property
    def unit(self) -> str:
        """What is decoded, in the plural."""

    def scene(self, row: int) -> Decoded:
        """One scene. Raises UnreadablePicture."""


@dataclass(frozen=True)
class PictureDecoding:
    """Pictures become scenes: a `Decoding`.

    names: (N,) paths inside `root`. stamp: changes when any of the pictures does.
    """

    root: Path = field(compare=False)
    names: Sequence[str] = field(compare=False)
    stamp: bytes
    scene_shape: tuple[int, int]
    crop: Crop
    encoding: Encoding
    progress: Progress = field(compare=False)
    unit: str = field(default="pictures", compare=False)

    @property
    def key(self) -> str:
        """sha256 in hex of all that decides the scenes."""
        said = f"{DECODING_VERSION}/{self.scene_shape}/{self.crop}/{self.encoding}/".encode()
        return hashlib.sha256(said + self.stamp).hexdigest()

    def scene(self, row: int) -> Decoded:
        """One picture. Raises UnreadablePicture."""
        path = self.root / self.names[row]
        radiance = read_picture(path, self.encoding)
        rows, columns = radiance.shape
        return Decoded(to_levels(resized(radiance, self.scene_shape, self.crop)), (rows, columns), has_colour(path))


def decoded(decoding: Decoding) -> tuple[SceneStore, dict[int, UnreadablePicture]]:
    """All scenes, and by row why there is none. What was decoded before is not decoded again.

    Large sets go through a file in the cache folder, see `IN_MEMORY_BYTES`; the scenes are the same to the bit.
    """
    n, (rows, columns) = len(decoding.names), decoding.scene_shape
    store: SceneStore
    if 4 * n * rows * columns <= IN_MEMORY_BYTES:
        store = _memory_of(decoding)
        return store, fill(store, decoding)
    store = FileStore(scenes_folder() / f"{decoding.key[:32]}.scenes", decoding.key, n, decoding.scene_shape)
    return store, fill(store, decoding)


def fill(store: SceneStore, decoding: Decoding) -> dict[int, UnreadablePicture]:
    """Decode what the store has not yet; returns by row why it cannot be read. Such are tried at every call.

    Blocks are kept as they come: an interrupt loses the block at hand.
    """
    if store.sizes.all():
        return {}
    causes: dict[int, UnreadablePicture] = {}
    total, (rows, columns) = len(decoding.names), decoding.scene_shape
    block = max(1, BLOCK_BYTES // (2 * rows * columns))
    with store.filling(), ThreadPoolExecutor(DECODERS, thread_name_prefix="decode") as threads:
        missing = np.flatnonzero(store.sizes[:, 0] == 0)
        for start in range(0, len(missing), block):
            part = missing[start : start + block]
            results = list(threads.map(lambda row: _scene_or_cause(decoding, row), part.tolist()))
            good = {
                int(row): made
                for row, made in zip(part, results, strict=True)
                if not isinstance(made, UnreadablePicture)
            }
            causes.update({int(part[i]): r for i, r in enumerate(results) if isinstance(r, UnreadablePicture)})
            if good:
                store.put(
                    np.array(list(good)),
                    np.stack([made.levels for made in good.values()]),
                    np.array([made.size for made in good.values()], dtype=np.int64),
                    np.array([made.coloured for made in good.values()]),
                )
            decoding.progress(total - len(missing) + start + len(part), total, decoding.unit)
    return causes


@lru_cache(maxsize=1)
def _memory_of(decoding: Decoding) -> MemoryStore:
    return MemoryStore(len(decoding.names), decoding.scene_shape)


def _scene_or_cause(decoding: Decoding, row: int) -> Decoded | UnreadablePicture:
    try:
        return decoding.scene(row)
    except UnreadablePicture as error:
        return error
