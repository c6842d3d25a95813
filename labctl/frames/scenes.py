"""The ground-truth scenes of a set: kept apart from its coded frames, only when asked for, and removable on their own.

A set that holds the sharp scenes protects nobody, whatever its design: so they lie in one group, `scenes.zarr`, that
nothing else needs. They are float32, bit for bit what was shown, so that one hash serves both: `FrameRecord.scene_hash`
of a frame is the hash that its scene is held against when it is read.
"""

from __future__ import annotations

import hashlib
import shutil
from collections.abc import Iterable
from pathlib import Path
from typing import Any, Protocol

import numpy as np
import numpy.typing as npt

from labctl.durable import sync_folder, sync_tree
from labctl.errors import BadInput, RunFailed
from labctl.frames.fetching import fetch_all
from labctl.frames.layout import SCENES
from labctl.frames.source import open_source

FloatArray = npt.NDArray[np.float32]

SHARD_BYTES = 64 * 2**20
"""Aim for the size of a shard, which is also what is read and written at a time."""


class SceneRows(Protocol):
    """Scenes that need not fit in memory: (n, C, H, W) radiance 0..1, of which slices of rows are read."""

    @property
    def shape(self) -> tuple[int, ...]:
        """(n, C, H, W)."""

    def __getitem__(self, rows: Any) -> Any:
        """The scenes of a slice of rows, as an array."""


def scene_hash(scene: npt.ArrayLike) -> str:
    """sha256 of the radiance (C, H, W) of a scene as little-endian float32: what `FrameRecord.scene_hash` holds."""
    return _hash(np.asarray(scene, dtype="<f4"))


def write_scenes(folder: Path, sample_ids: Iterable[int] | npt.NDArray[np.integer[Any]], scenes: SceneRows) -> None:
    """Keep the scenes of a set, whole or not at all; scenes that were kept before are replaced.

    sample_ids: (n,), each once. scenes: (n, C, H, W) radiance 0..1, an array or what else is read by slices of rows.
    Raises BadInput for scenes that do not fit their ids or leave 0..1, RunFailed when the disk refuses.
    """
    import zarr

    ids = np.asarray(list(sample_ids), dtype=np.int64)
    shape = tuple(scenes.shape)
    if len(shape) != 4 or shape[0] != len(ids) or len(ids) == 0:
        raise BadInput(f"scenes are {shape}, with {len(ids)} sample ids; give (n, C, H, W) scenes and n ids, n > 0")
    if len(np.unique(ids)) != len(ids):
        raise BadInput("a sample id stands twice among the scenes; give every scene once")
    temporary = folder / _NEW
    try:
        shutil.rmtree(temporary, ignore_errors=True)  # of a writer that was killed
        group = zarr.open_group(
            temporary, mode="w", attributes={"labctl": "scenes of a labctl set", "unit": "radiance"}
        )
        per_shard = max(1, min(len(ids), SHARD_BYTES // (4 * int(np.prod(shape[1:])))))
        shards: Any = {"shape": (per_shard, *shape[1:]), "index_location": "start"}  # found without the file's size
        kept = group.create_array(
            "scenes",
            shape=shape,
            chunks=(1, *shape[1:]),
            shards=shards,
            dtype="float32",
            compressors=None,  # 10 % would be gained
            config={"write_empty_chunks": True},
            dimension_names=("scene", "channel", "row", "column"),
        )
        hashes = np.empty((len(ids), 32), dtype=np.uint8)
        for start in range(0, len(ids), per_shard):
            part = np.asarray(scenes[start : start + per_shard], dtype="<f4")
            _check_range(part, ids[start : start + per_shard])
            kept[start : start + per_shard] = part
            for row, scene in enumerate(part, start):
                hashes[row] = np.frombuffer(bytes.fromhex(_hash(scene)), dtype=np.uint8)
        group.create_array("sample_id", data=ids)
        group.create_array("sha256", data=hashes)
        sync_tree(temporary)
        _put_aside(folder)
        temporary.replace(folder / SCENES)
        sync_folder(folder)
        shutil.rmtree(folder / _OLD, ignore_errors=True)
    except OSError as error:
        shutil.rmtree(temporary, ignore_errors=True)
        raise RunFailed(
            f"the scenes cannot be kept in {folder}: {error.strerror or error}; free some space or make the folder "
            "writable, or do without them"
        ) from error
    except BaseException:
        shutil.rmtree(temporary, ignore_errors=True)
        raise


def remove_scenes(folder: Path) -> bool:
    """Remove the ground truth of a set, also what a killed writer left of it. Returns whether any was there.

    Raises RunFailed when the disk refuses. Copies of the set, and the free blocks of the disk, may still hold it.
    """
    try:
        _put_aside(folder)
        there = [folder / name for name in (_NEW, _OLD) if (folder / name).exists()]
        for path in there:
            shutil.rmtree(path)
        sync_folder(folder)
    except OSError as error:
        raise RunFailed(
            f"the scenes in {folder} cannot be removed: {error.strerror or error}; remove {SCENES} by hand"
        ) from error
    return bool(there)


class Scenes:
    """The kept scenes of a set. Make one by `Scenes.open`; goes to worker processes as its address."""

    def __init__(self, where: str, options: dict[str, Any]) -> None:
        self.where, self._options = where, options
        self._source = open_source(where, **options)
        self._connect()

    @classmethod
    def open(cls, where: str | Path, **options: Any) -> Scenes | None:
        """Those of the set at a folder or address; None when it keeps none. options: what fsspec needs to reach it.

        Raises RunFailed when they are there and cannot be read.
        """
        source = open_source(where, **options)
        return cls(source.where, options) if source.read(f"{SCENES}/zarr.json") is not None else None

    @property
    def sample_ids(self) -> npt.NDArray[np.int64]:
        """(n,) in the order of writing."""
        return self._ids

    @property
    def shape(self) -> tuple[int, ...]:
        """(n, C, H, W)."""
        return self._shape

    def __len__(self) -> int:
        return len(self._ids)

    def has(self, sample_id: int) -> bool:
        """Whether the scene of a sample is kept."""
        return sample_id in self._row

    def scene(self, sample_id: int) -> FloatArray:
        """(C, H, W) radiance 0..1.

        Raises BadInput for a sample whose scene is not kept, RunFailed for one that does not match its hash.
        """
        row = self._row.get(sample_id)
        if row is None:
            raise BadInput(f"{self.where} keeps no scene of sample {sample_id}; it keeps those of {len(self)} samples")
        stored = self._stored(row)
        if hashlib.sha256(stored).digest() != self._hashes[row].tobytes():
            raise RunFailed(
                f"{self.where}: the scene of sample {sample_id} does not match its hash; the file was changed or is "
                "damaged; restore it from a copy"
            )
        return np.frombuffer(stored, dtype="<f4").reshape(self.shape[1:])

    def read(self, sample_ids: Iterable[int] | npt.NDArray[np.integer[Any]]) -> FloatArray:
        """(n, C, H, W) radiance 0..1, in the order asked for; see `scene`."""
        ids = [int(sample_id) for sample_id in sample_ids]
        scenes = np.empty((len(ids), *self.shape[1:]), dtype=np.float32)

        def fetch(number: int) -> None:
            scenes[number] = self.scene(ids[number])

        fetch_all(fetch, sorted(range(len(ids)), key=lambda number: self._row.get(ids[number], -1)), self._source)
        return scenes

    def _connect(self) -> None:
        import zarr

        address = f"{self.where}/{SCENES}"
        options = self._options if "://" in self.where and self._options else None
        try:
            group: Any = zarr.open_group(address, mode="r", storage_options=options)
            self._ids: npt.NDArray[np.int64] = np.asarray(group["sample_id"][:])
            self._hashes: npt.NDArray[np.uint8] = np.asarray(group["sha256"][:])
            self._shape: tuple[int, ...] = tuple(group["scenes"].shape)
            self._per_shard = int(group["scenes"].shards[0])
        except Exception as error:  # zarr and every storage have errors of their own
            raise RunFailed(
                f"{address} cannot be read ({type(error).__name__}: {error}); restore it from a copy, or remove it "
                "with `labctl dataset rm --scenes`"
            ) from error
        self._row = {int(sample_id): row for row, sample_id in enumerate(self._ids)}
        self._indices: dict[int, npt.NDArray[np.uint64]] = {}

    def _stored(self, row: int) -> bytes:
        """The bytes of a scene. Read here, since zarr takes 3 ms for one scene and, for a list, an index per pixel."""
        shard, place = divmod(row, self._per_shard)
        name = f"{SCENES}/scenes/c/{shard}/0/0/0"
        if shard not in self._indices:
            index = self._range(name, 0, 16 * self._per_shard)
            self._indices[shard] = np.frombuffer(index, dtype="<u8").reshape(-1, 2)
        start, size = (int(value) for value in self._indices[shard][place])
        return self._range(name, start, start + size)

    def _range(self, name: str, start: int, stop: int) -> bytes:
        data = self._source.read_range(name, start, stop)
        if data is None or len(data) != stop - start:
            raise RunFailed(f"{self.where}/{name} is missing or cut off; restore it from a copy")
        return data

    def __getstate__(self) -> dict[str, Any]:
        return {"where": self.where, "options": self._options}

    def __setstate__(self, state: dict[str, Any]) -> None:
        self.__init__(**state)  # type: ignore[misc]


def _hash(scene: npt.NDArray[np.float32]) -> str:
    return hashlib.sha256(np.ascontiguousarray(scene).data).hexdigest()


def _check_range(scenes: FloatArray, ids: npt.NDArray[np.int64]) -> None:
    wrong = ~((scenes >= 0) & (scenes <= 1)).all(axis=(1, 2, 3))
    if wrong.any():
        row = int(np.flatnonzero(wrong)[0])
        raise BadInput(
            f"the scene of sample {ids[row]} has radiance {scenes[row].min():g} to {scenes[row].max():g}; 0 to 1 is "
            "needed: scale it before it is shown"
        )


_NEW, _OLD = f".{SCENES}.new", f".{SCENES}.old"


def _put_aside(folder: Path) -> None:
    """From here on the set keeps no scenes: a group that is half removed must not be taken for a whole one."""
    if (folder / SCENES).exists():
        shutil.rmtree(folder / _OLD, ignore_errors=True)
        (folder / SCENES).replace(folder / _OLD)
        sync_folder(folder)
