"""Random reads for training, in batches of 32: pack and shards against a bare memory map, zarr, tensorstore and HDF5.

    python benchmarks/read_frames.py [--folder /tmp] [--cold]

Everything is measured in one run and interleaved. On a shared machine trust the ratio of CPU times: with files warm in
the page cache nothing waits for anything else. `--cold` drops them from it before every method, and so measures the
disk; then trust the clock. About 1.4 GB in `--folder`.
"""

from __future__ import annotations

import argparse
import os
import shutil
import statistics
import tempfile
import time
from collections.abc import Callable, Iterator, Sequence
from pathlib import Path
from typing import Any

import numpy as np

from labctl.frames.header import SetHeader
from labctl.frames.pack import Pack, write_pack
from labctl.frames.record import FrameRecord
from labctl.frames.store import FrameStore
from labctl.frames.torch_data import frame_dataset, frame_loader
from labctl.frames.writer import FrameWriter

SIZES = {(1, 1200, 1920): 96, (1, 256, 256): 3000}
"""Frames of each shape."""

BATCH = 32
ROUNDS = 3
BATCHES = {(1, 1200, 1920): 2, (1, 256, 256): 30}
"""Batches per round and method."""

BARE, BARE_TENSOR = "bare np.memmap", "bare np.memmap, float32 tensor"
PACK_DATA, SHARDS_DATA = "pack, data set", "shards, data set"
TENSORS = (BARE_TENSOR, PACK_DATA, SHARDS_DATA)
"""What gives float32 tensors, not uint16 arrays."""

Taken = tuple[float, float]
"""Seconds of one batch, by the clock and by the time of this process's cores."""

Reader = Callable[[Sequence[int]], Any]


def main() -> None:
    """Measure and print."""
    parser = argparse.ArgumentParser()
    parser.add_argument("--folder", type=Path, default=Path(tempfile.gettempdir()))
    parser.add_argument("--cold", action="store_true")
    chosen = parser.parse_args()
    print(f"page cache {'cold' if chosen.cold else 'warm'}, batches of {BATCH}, median of {ROUNDS} rounds")  # noqa: T201
    for shape, frames in SIZES.items():
        folder = Path(tempfile.mkdtemp(prefix="read-frames-", dir=chosen.folder))
        try:
            _make(folder, shape, frames)
            _measure(folder, shape, frames, chosen.cold)
        finally:
            shutil.rmtree(folder)


def _make(folder: Path, shape: tuple[int, int, int], frames: int) -> None:
    import h5py

    rng = np.random.default_rng(0)
    pool = rng.integers(0, 4096, (8, *shape), dtype=np.uint16)
    with (
        FrameWriter(folder / "set", SetHeader.new("bench", shape, planned=frames, sync="never")) as writer,
        h5py.File(folder / "frames.h5", "w") as file,
    ):
        data = file.create_dataset("frames", (frames, *shape), np.uint16, chunks=(1, *shape))
        for index in range(frames):
            image = pool[index % 8].copy()
            image[0, 0, 0] = index
            data[index] = image
            writer.append(image, _record(index))
        writer.finish()
    write_pack(FrameStore.open(folder / "set"))
    os.sync()


def _measure(folder: Path, shape: tuple[int, int, int], frames: int, cold: bool) -> None:
    methods: dict[str, Callable[[Path], Reader]] = {
        BARE: _bare,
        "pack": lambda folder: Pack.open(folder / "set" / "pack").read,
        "shards (FrameStore)": lambda folder: _sorted(FrameStore.open(folder / "set").read),
        "shards, zarr": lambda folder: _zarr(FrameStore.open(folder / "set")),
        "shards, tensorstore": _tensorstore,
        "h5py, chunk = frame": _h5py,
        BARE_TENSOR: _bare_tensor,
        PACK_DATA: lambda folder: Pack.open(folder / "set" / "pack").dataset().__getitem__,
        SHARDS_DATA: lambda folder: frame_dataset(FrameStore.open(folder / "set")).__getitem__,
    }
    _check(folder, methods, frames)
    taken: dict[str, list[Taken]] = {name: [] for name in methods}
    rng = np.random.default_rng(1)
    for _ in range(ROUNDS):
        batches = [rng.choice(frames, BATCH, replace=False).tolist() for _ in range(BATCHES[shape])]
        for name, make in methods.items():
            read = make(folder)
            if cold:
                _drop(folder)
            else:
                read(batches[0])
            began = _clocks()
            for batch in batches:
                read(batch)
            ended = _clocks()
            taken[name].append(((ended[0] - began[0]) / len(batches), (ended[1] - began[1]) / len(batches)))
            del read
    print(f"\n{shape[2]} x {shape[1]}, uint16, {frames} frames")  # noqa: T201
    for name, own in taken.items():
        _row(name, own, taken[BARE_TENSOR if name in TENSORS else BARE])
    _measure_loaders(folder, taken[BARE_TENSOR])


def _measure_loaders(folder: Path, bare: list[Taken]) -> None:
    """Whole epochs through the loader; the first one, in which the workers start, is not counted."""
    pack, store = Pack.open(folder / "set" / "pack"), FrameStore.open(folder / "set")
    for name, data in {"pack": pack.dataset(), "shards": frame_dataset(store)}.items():
        for workers in (0, 2):
            loader = frame_loader(data, BATCH, workers=workers)
            own = []
            for _ in range(1 + ROUNDS):
                began = _clocks()
                for _ in loader:
                    pass
                ended = _clocks()
                own.append(((ended[0] - began[0]) / len(loader), (ended[1] - began[1]) / len(loader)))
            del loader
            _row(f"{name}, loader, {workers} workers", own[1:], bare, cpu=workers == 0)


def _clocks() -> Taken:
    return time.perf_counter(), time.process_time()


def _row(name: str, own: list[Taken], bare: list[Taken], *, cpu: bool = True) -> None:
    """Frames per second, and how fast that is against `bare`: by the clock, and by the time of this process's cores."""
    wall, work = (statistics.median(b[clock] / o[clock] for o, b in zip(own, bare, strict=True)) for clock in (0, 1))
    rate = BATCH / statistics.median(wall_s for wall_s, _ in own)
    by_cpu = f"{work:6.2f} by CPU time" if cpu else ""
    print(f"{name:32s} {rate:8.0f} frames/s  {wall:6.2f} of bare {by_cpu}", flush=True)  # noqa: T201


def _bare(folder: Path) -> Reader:
    return np.load(folder / "set" / "pack" / "frames.npy", mmap_mode="r").__getitem__


def _bare_tensor(folder: Path) -> Reader:
    import torch

    frames = np.load(folder / "set" / "pack" / "frames.npy", mmap_mode="r")
    return lambda batch: torch.from_numpy(frames[batch].astype(np.float32))


def _zarr(store: FrameStore) -> Reader:
    array = store.zarr()
    # One by one, as with HDF5 below: for a list of rows zarr makes an index of every pixel.
    return _sorted(lambda rows: np.stack([np.asarray(array[int(row)]) for row in rows]))


def _tensorstore(folder: Path) -> Reader:
    import tensorstore

    path = str(folder / "set" / "frames.zarr" / "coded")
    spec = {"driver": "zarr3", "kvstore": {"driver": "file", "path": path}}
    array = tensorstore.open(spec, open=True, read=True).result()
    return _sorted(lambda rows: array.oindex[rows].read().result())


def _h5py(folder: Path) -> Reader:
    import h5py

    data = h5py.File(folder / "frames.h5", "r")["frames"]
    # For a list of rows HDF5 selects pixel by pixel, which takes seconds.
    return _sorted(lambda rows: np.stack([data[row] for row in rows]))


def _sorted(read: Callable[[Any], Any]) -> Reader:
    """Read in the order of the file and put back, as the pack does."""

    def one(batch: Sequence[int]) -> Any:
        order = np.argsort(batch)
        frames = read(np.asarray(batch)[order])
        return frames[np.argsort(order)]

    return one


def _check(folder: Path, methods: dict[str, Callable[[Path], Reader]], frames: int) -> None:
    """Every method gives the same pixels."""
    batch = [frames - 1, 0, 7]
    wanted = np.asarray(_bare(folder)(batch))
    for name, make in methods.items():
        found = make(folder)(batch)
        pixels = np.asarray(found["frame"] if isinstance(found, dict) else found)
        if not np.array_equal(pixels, wanted):
            raise SystemExit(f"{name} gives other pixels")


def _drop(folder: Path) -> None:
    for path in _files(folder):
        number = os.open(path, os.O_RDONLY)
        os.posix_fadvise(number, 0, 0, os.POSIX_FADV_DONTNEED)
        os.close(number)


def _files(folder: Path) -> Iterator[Path]:
    return (path for path in folder.rglob("*") if path.is_file())


def _record(index: int) -> FrameRecord:
    return FrameRecord(
        sample_id=index,
        label=index % 10,
        label_name=str(index % 10),
        split=0,
        exposure_s=0.01,
        gain_db=0.0,
        black_level_dn=64.0,
        saturation_dn=4095,
        saturated_fraction=0.0,
        camera_time_s=float(index),
        host_time_s=float(index),
        unix_time_s=float(index),
        frame_id=index,
        exposure_id=index,
    )


if __name__ == "__main__":
    main()
