"""How fast a captured set is written, what that costs, and whether it stays so over 100 000 frames.

    python benchmarks/write_frames.py [--parts ratios flat camera slow] [--rounds 7] [--mib 1024] [--folder .]

ratios: the writer of labctl against a raw sequential write of the same pixels with one fsync per equal block, against
HDF5 (a chunk per frame, flush and fsync per block) and against one TIFF per frame; 12-bit noise as uint16. Every round
runs all of them one after the other, every second round backwards: a disk that is shared or cached may change its speed
by a factor of two, the ratio of two neighbours does not. What is said is the median over the rounds, and the range.
What syncs nothing is held against what syncs nothing: `raw, no fsync` against `labctl, sync: never`.
flat: processor time and memory for every tenth of a long set of small frames, and of a plain file of the same bytes;
how long resuming and opening the set take.
camera: a camera at a fixed rate hands over large frames; how long that holds it up.
slow: the same with a disk that is slower than the camera (its fsync is made to wait): it must be said, nothing dropped.

Needs up to 14 GB in `--folder` and removes them; h5py and tifffile are needed for `ratios`.
"""

from __future__ import annotations

import argparse
import itertools
import multiprocessing
import os
import shutil
import statistics
import sys
import tempfile
import time
from collections.abc import Callable, Iterator, Sequence
from concurrent.futures import ProcessPoolExecutor
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Any
from unittest import mock

import numpy as np
import numpy.typing as npt

from labctl.frames.header import SetHeader
from labctl.frames.record import FrameRecord, WitnessScore
from labctl.frames.store import FrameStore
from labctl.frames.writer import BLOCK, BLOCK_BYTES, FrameWriter

Pixels = npt.NDArray[np.uint16]
LARGE, SMALL = (1, 1200, 1920), (1, 256, 256)
POOL_BYTES = 128 * 2**20
"""So many different frames are written again and again: more than a processor's cache, and never a whole set."""

LONG_SET = 100_000
CAMERA_HZ = (25.0, 50.0, 100.0)
CAMERA_S = 10.0
SLOW_MB_S = 20.0


@dataclass(frozen=True)
class Rate:
    """One writing of a set."""

    seconds: float
    cpu_s: float
    frames: int
    frame_bytes: int

    @property
    def mb_s(self) -> float:
        """Pixels on the disk."""
        return self.frames * self.frame_bytes / self.seconds / 1e6


def main(arguments: Sequence[str] | None = None) -> None:
    """Measure and print."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--parts", nargs="+", default=list(PARTS), choices=list(PARTS))
    parser.add_argument("--rounds", type=int, default=7)
    parser.add_argument("--mib", type=int, default=1024, help="pixels written each time by a fast writer")
    parser.add_argument("--folder", type=Path, default=Path(), help="on the disk to be measured")
    chosen = parser.parse_args(arguments)
    with tempfile.TemporaryDirectory(dir=chosen.folder) as folder:
        for part in chosen.parts:
            PARTS[part](Path(folder), chosen)


def write_set(folder: Path, pool: Sequence[Pixels], frames: int, **more: Any) -> Iterator[None]:
    """labctl's own writer. more: fields of the header.

    This and the writers below stop at two points: ready to take frames, and all frames on the disk.
    """
    records = [record(number) for number in range(frames)]
    header = SetHeader.new("benchmark", pool[0].shape, **more)  # type: ignore[arg-type]
    with FrameWriter(folder / "set", header) as writer:
        yield
        for number in range(frames):
            writer.append(pool[number % len(pool)], records[number])
        writer.flush()
        yield


def write_raw(folder: Path, pool: Sequence[Pixels], frames: int, *, sync: bool = True) -> Iterator[None]:
    """Frame after frame into one file, by the plain calls of the system."""
    block = frames_per_block(pool[0])
    number = os.open(folder / "frames.raw", os.O_WRONLY | os.O_CREAT)
    yield
    for frame in range(frames):
        os.write(number, pool[frame % len(pool)])
        if sync and ((frame + 1) % block == 0 or frame + 1 == frames):
            os.fsync(number)
    yield
    os.close(number)


def write_hdf5(folder: Path, pool: Sequence[Pixels], frames: int) -> Iterator[None]:
    """HDF5 with a chunk per frame and its length known beforehand; no checksums, no metadata."""
    import h5py

    block, shape = frames_per_block(pool[0]), pool[0].shape
    with h5py.File(folder / "frames.h5", "w", libver="latest") as file:
        stored = file.create_dataset("frames", (frames, *shape), chunks=(1, *shape), dtype="<u2")
        number = os.open(folder / "frames.h5", os.O_RDONLY)
        yield
        for frame in range(frames):
            stored[frame] = pool[frame % len(pool)]
            if (frame + 1) % block == 0 or frame + 1 == frames:
                file.flush()
                os.fsync(number)
        yield
        os.close(number)


def write_tiff(folder: Path, pool: Sequence[Pixels], frames: int, *, sync: bool = True) -> Iterator[None]:
    """One file per frame, written beside its place, synced and renamed."""
    import tifffile

    yield
    for frame in range(frames):
        with (folder / "part").open("wb") as file:
            tifffile.imwrite(file, pool[frame % len(pool)][0])
            file.flush()
            if sync:
                os.fsync(file.fileno())
        (folder / "part").rename(folder / f"{frame:06d}.tif")
    yield


WRITERS: dict[str, tuple[Callable[..., Iterator[None]], dict[str, Any], float]] = {
    "HDF5, chunk per frame": (write_hdf5, {}, 0.5),
    "raw": (write_raw, {}, 1.0),
    "labctl": (write_set, {}, 1.0),
    "labctl, zstd": (write_set, {"compression": "zstd"}, 0.25),
    "labctl, sync: never": (write_set, {"sync": "never"}, 1.0),
    "raw, no fsync": (write_raw, {"sync": False}, 1.0),
    "TIFF per frame": (write_tiff, {}, 0.125),
    "TIFF per frame, no fsync": (write_tiff, {"sync": False}, 0.25),
}
"""How, with what, and which share of `--mib`. Those that are compared stand side by side."""


def ratios(folder: Path, chosen: argparse.Namespace) -> None:
    """Every writer against labctl's, for large and small frames."""
    for shape in (LARGE, SMALL):
        pool = noise(shape)
        rounds: list[dict[str, Rate]] = []
        for number in range(chosen.rounds):
            names = list(WRITERS)[:: -1 if number % 2 else 1]
            rounds.append({name: measured(folder / "one", pool, name, chosen.mib) for name in names})
        say(f"\n{shape[2]}x{shape[1]} uint16, {chosen.rounds} rounds, blocks of {frames_per_block(pool[0])} frames")
        say(f"{'':26}{'MB/s':>8} {'min..max':>13}{'frames/s':>10}{'CPU ms/frame':>14}  labctl is so many times as fast")
        for name in WRITERS:
            rates = [one[name] for one in rounds]
            speed = [rate.mb_s for rate in rates]
            other = "labctl, sync: never" if name == "raw, no fsync" else "labctl"
            against = [one[other].mb_s / one[name].mb_s for one in rounds]
            cpu_ms = statistics.median(1e3 * rate.cpu_s / rate.frames for rate in rates)
            say(
                f"{name:26}{statistics.median(speed):8.0f} {span(speed, '.0f'):>13}"
                f"{statistics.median(speed) * 1e6 / rates[0].frame_bytes:10.0f}{cpu_ms:14.3f}"
                f"  {statistics.median(against):6.2f}  ({span(against, '.2f')})"
            )


def measured(folder: Path, pool: Sequence[Pixels], name: str, mib: int) -> Rate:
    """One writing, timed from the first frame until all are on the disk; the folder is removed afterwards."""
    write, how, share = WRITERS[name]
    frames = max(1, int(share * mib * 2**20) // pool[0].nbytes)
    folder.mkdir()
    os.sync()  # nothing of the one before may be left to do
    writing = write(folder, pool, frames, **how)
    next(writing)
    began, began_cpu = time.perf_counter(), time.process_time()
    next(writing)
    rate = Rate(time.perf_counter() - began, time.process_time() - began_cpu, frames, pool[0].nbytes)
    next(writing, None)
    shutil.rmtree(folder)
    return rate


def flat(folder: Path, chosen: argparse.Namespace) -> None:
    """A long set of small frames, and what comes after it; each in a process of its own, so that memory is its own."""
    try:
        for did in (long_raw, long_set, resume_long_set, open_long_set):
            say("\n" + "\n".join(apart(did, folder)))
    finally:
        shutil.rmtree(folder / "set", ignore_errors=True)


def long_raw(folder: Path) -> list[str]:
    """The same bytes into a plain file: what the system takes for itself."""
    pool = noise(SMALL)
    block = frames_per_block(pool[0])
    number = os.open(folder / "frames.raw", os.O_WRONLY | os.O_CREAT)

    def write(first: int, stop: int) -> None:
        for frame in range(first, stop):
            os.write(number, pool[frame % len(pool)])
            if (frame + 1) % block == 0 or frame + 1 == stop:
                os.fsync(number)

    lines = ["raw, one fsync per block", TENTH_HEAD, *in_tenths(write)]
    os.close(number)
    (folder / "frames.raw").unlink()
    return lines


def long_set(folder: Path) -> list[str]:
    """A set, and its ledger in MiB at the end."""
    pool = noise(SMALL)
    with FrameWriter(folder / "set", SetHeader.new("benchmark", SMALL)) as writer:

        def write(first: int, stop: int) -> None:
            for number in range(first, stop):
                writer.append(pool[number % len(pool)], record(number))
            writer.flush()

        lines = ["labctl", TENTH_HEAD, *in_tenths(write)]
    ledger = (folder / "set" / "ledger.jsonl").stat().st_size
    return [*lines, f"ledger: {ledger / LONG_SET:.0f} bytes per frame"]


def in_tenths(write: Callable[[int, int], None]) -> Iterator[str]:
    """`write(first, stop)` of a long set, part by part, and what each part took."""
    for first, stop in itertools.pairwise([0, 1_000, *range(LONG_SET // 10, LONG_SET + 1, LONG_SET // 10)]):
        began, before = time.perf_counter(), os.times()
        write(first, stop)
        took, after, frames = time.perf_counter() - began, os.times(), stop - first
        program, system = (1e3 * (getattr(after, who) - getattr(before, who)) / frames for who in ("user", "system"))
        yield f"{first:7d}..{stop:<7d}{frames / took:10.0f}{program:14.3f}{system:14.3f}{memory_mib():12.0f}"


TENTH_HEAD = f"{'frames':>16}{'frames/s':>10}{'program ms':>14}{'system ms':>14}{'memory MiB':>12}   (CPU per frame)"


def resume_long_set(folder: Path) -> list[str]:
    """Open it for writing again, as after a crash."""
    before, began = memory_mib(), time.perf_counter()
    with FrameWriter(folder / "set", SetHeader.new("benchmark", SMALL)) as writer:
        took, memory = time.perf_counter() - began, memory_mib() - before
        return [f"resuming at {writer.next_index} frames: {took:.2f} s, {memory:.0f} MiB"]


def open_long_set(folder: Path) -> list[str]:
    """Open it for reading."""
    before, began = memory_mib(), time.perf_counter()
    store = FrameStore.open(folder / "set")
    took = time.perf_counter() - began
    lines = [f"opening {len(store)} frames for reading: {took:.2f} s, {memory_mib() - before:.0f} MiB"]
    began = time.perf_counter()
    chosen = store.select(split="test")
    lines.append(
        f"selecting {len(chosen)} of them: {time.perf_counter() - began:.2f} s; {memory_mib() - before:.0f} MiB"
    )
    return lines


def camera(folder: Path, chosen: argparse.Namespace) -> None:
    """A camera that gives a large frame at every tick: how long `append` takes, and how late the ticks become."""
    pool = noise(LARGE)
    for rate_hz in CAMERA_HZ:
        frames = int(rate_hz * CAMERA_S)
        said: list[str] = []
        disk = measured(folder / "one", pool, "raw", chosen.mib)
        with FrameWriter(folder / "set", SetHeader.new("benchmark", LARGE), say=said.append) as writer:
            took, late = run_camera(writer.append, pool, frames, rate_hz)
            waited = writer.waited_s
        shutil.rmtree(folder / "set")
        _, late_alone = run_camera(lambda pixels, known: None, pool, frames, rate_hz)
        say(f"\ncamera at {rate_hz:.0f} Hz, {rate_hz * pool[0].nbytes / 1e6:.0f} MB/s, {frames} frames of 1920x1200")
        say(f"raw writing with one fsync per block, just before: {disk.mb_s:.0f} MB/s")
        say(f"{'':34}{'median':>9}{'99 %':>9}{'99.9 %':>9}{'longest':>9}")
        for name, values in (
            ("append, ms", took),
            ("frame handed over late by, ms", late),
            ("the same with nothing written, ms", late_alone),
        ):
            say(f"{name:34}" + "".join(f"{1e3 * np.quantile(values, q):9.2f}" for q in (0.5, 0.99, 0.999, 1.0)))
        say(f"append waited for the disk for {waited:.2f} s in all; said: {said}")


def run_camera(
    hand_over: Callable[[Pixels, FrameRecord], None], pool: Sequence[Pixels], frames: int, rate_hz: float
) -> tuple[list[float], list[float]]:
    """Seconds that every hand-over took, and how late it ended."""
    took, late = [], []
    began = time.perf_counter()
    for number in range(frames):
        due = began + (number + 1) / rate_hz
        time.sleep(max(0.0, due - time.perf_counter()))
        pixels, known = pool[number % len(pool)].copy(), record(number)
        start = time.perf_counter()
        hand_over(pixels, known)
        end = time.perf_counter()
        took.append(end - start)
        late.append(end - due)
    return took, late


def slow(folder: Path, chosen: argparse.Namespace) -> None:
    """A camera of twice the rate of the disk, for longer than the queue can hold it back."""
    pool = noise(SMALL)
    frames = int(30 * SLOW_MB_S * 1e6) // pool[0].nbytes
    said: list[str] = []
    with (
        slow_disk(SLOW_MB_S),
        FrameWriter(
            folder / "set", SetHeader.new("benchmark", SMALL, planned=frames), say=said.append, queue_bytes=64 * 2**20
        ) as writer,
    ):
        began = time.perf_counter()
        took, _ = run_camera(writer.append, pool, frames, 2 * SLOW_MB_S * 1e6 / pool[0].nbytes)
        captured = time.perf_counter() - began
        writer.finish()
    store = FrameStore.open(folder / "set")
    right = all(np.array_equal(store.frame(place), pool[place % len(pool)]) for place in range(len(store)))
    shutil.rmtree(folder / "set")
    say(f"\na disk of {SLOW_MB_S:.0f} MB/s, a camera of twice as much, {frames} frames of 256x256")
    say(f"captured in {captured:.0f} s; append waited {sum(took):.0f} s, at most {max(took):.2f} s at once")
    say(f"frames there: {len(store)} of {frames}, pixels and order {'right' if right else 'WRONG'}; said:")
    say("\n".join(f"  {one}" for one in said))


@contextmanager
def slow_disk(mb_s: float) -> Iterator[None]:
    """Every fsync takes as long as a disk of `mb_s` needs for what has been written since the last one."""
    write, fsync, written = os.writev, os.fsync, 0

    def counting(number: int, buffers: Sequence[Any], *more: Any) -> int:
        nonlocal written
        done = write(number, buffers, *more)
        written += done
        return done

    def waiting(number: int) -> None:
        nonlocal written
        waited, written = written / mb_s / 1e6, 0
        fsync(number)
        time.sleep(waited)

    with mock.patch.object(os, "writev", counting), mock.patch.object(os, "fsync", waiting):
        yield


PARTS = {"ratios": ratios, "flat": flat, "camera": camera, "slow": slow}


def noise(shape: tuple[int, int, int]) -> list[Pixels]:
    """Frames of 12-bit noise: what shot noise leaves of a scene cannot be compressed much."""
    rng = np.random.default_rng(0)
    count = POOL_BYTES // (2 * int(np.prod(shape)))
    return [rng.poisson(400, shape).astype(np.uint16).clip(0, 4095) for _ in range(count)]


def frames_per_block(frame: Pixels) -> int:
    """How many frames the writer of labctl makes safe at once."""
    return min(BLOCK, -(-BLOCK_BYTES // frame.nbytes))


def record(number: int) -> FrameRecord:
    """Everything that a capture knows of a frame."""
    return FrameRecord(
        sample_id=number,
        label=number % 10,
        label_name=f"class {number % 10}",
        split=number % 3,
        scene_hash=f"{number:064x}",
        mask_hash="1" * 64,
        levels_hash="2" * 64,
        design="learned",
        privacy="optical",
        exposure_s=2e-3,
        gain_db=0.0,
        black_level_dn=16.0,
        saturation_dn=4095,
        saturated_fraction=0.0,
        camera_time_s=number * 0.01,
        host_time_s=number * 0.01,
        unix_time_s=1.7e9 + number * 0.01,
        frame_id=number,
        exposure_id=number,
        instruments={"lamp.power": 1.0, "lamp.temperature": 30.5},
        calibrations={"dark": "3" * 64},
        rig_hash="4" * 64,
        run_id="2026-01-01T00-00-00-benchmark",
        witness=WitnessScore(own=0.93, previous_share=0.01, word="right"),
    )


def apart(work: Callable[[Path], list[str]], folder: Path) -> list[str]:
    """`work(folder)` in a fresh process."""
    with ProcessPoolExecutor(1, mp_context=multiprocessing.get_context("spawn")) as pool:
        return pool.submit(work, folder).result()


def memory_mib() -> float:
    """What this process holds in memory by itself, without the files it maps."""
    lines = Path("/proc/self/status").read_text().splitlines()
    return int(next(line for line in lines if line.startswith("RssAnon")).split()[1]) / 1024


def span(values: Sequence[float], form: str) -> str:
    """Smallest..largest."""
    return f"{min(values):{form}}..{max(values):{form}}"


def say(text: str) -> None:
    """Print at once: this takes minutes."""
    sys.stdout.write(text + "\n")
    sys.stdout.flush()


if __name__ == "__main__":
    main()
