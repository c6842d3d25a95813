"""Whether the virtual rig leaks: open/close cycles, and a capture for minutes, with everything counted all the time.

    python benchmarks/soak.py [--cycles 100] [--anew 5] [--minutes 10] [--out soak]

Counted: memory of this process, of the drivers' children and of the lab (proportional share of anonymous and shared
memory, without the files of programs); open files, threads and processes; windows on the lab's X server; System V
shared memory that any of these processes has made, and the files in /dev/shm of the whole computer, so leave it alone
meanwhile. After every cycle the rig is closed when they are counted, in a capture it is open.

A quantity grows when the 95 % interval of its slope lies above 0 and the growth over the whole is above its limit. The
interval takes the samples for independent; memory that goes up in steps makes it too narrow, never too wide.
"""

from __future__ import annotations

import argparse
import gc
import json
import logging
import os
import sys
import tempfile
import time
from collections.abc import Iterator, Sequence
from dataclasses import dataclass, fields
from pathlib import Path
from typing import Any

import numpy as np
from scipy.stats import linregress, t

import labctl
from labctl.exposure import Exposure, still_plan
from labctl.rig_file import find_rig, load_rig
from sim.virtual_lab.lab import JOIN_VARIABLE, VirtualLab
from sim.virtual_lab.world import lab_settings

SETTLED_CYCLES = 10
"""Cycles, and SETTLED_S of a capture, that are not judged: caches fill, allocators reach their working size."""
SETTLED_S = 60.0

SAMPLE_S = 2.0
PLAN_FRAMES = 64

UNITS = {
    "parent_mib": "MiB", "children_mib": "MiB", "lab_mib": "MiB", "files": "", "lab_files": "", "threads": "",
    "children": "", "lab_processes": "", "shared_memory": "", "windows": "",
}  # fmt: skip

LIMITS = {
    "parent_mib": 8.0, "children_mib": 8.0, "lab_mib": 8.0, "files": 2.0, "lab_files": 2.0, "threads": 2.0,
    "children": 0.5, "lab_processes": 0.5, "shared_memory": 0.5, "windows": 0.5,
}  # fmt: skip
"""What each may grow by over the whole measurement and still count as flat."""


@dataclass(frozen=True)
class Sample:
    """Everything that can leak, at one moment. at: cycle, or hours."""

    at: float
    parent_mib: float
    children_mib: float
    lab_mib: float
    files: int
    lab_files: int
    threads: int
    children: int
    lab_processes: int
    shared_memory: int
    windows: int


@dataclass(frozen=True)
class Slope:
    """Straight line through the samples, and half of its 95 % interval, per unit of `at`."""

    name: str
    first: float
    last: float
    slope: float
    half: float
    growth: float
    """Of the line over the whole measurement."""

    @property
    def flat(self) -> bool:
        """See the head of this file."""
        return self.slope - self.half <= 0 or self.growth <= LIMITS[self.name]


def main(arguments: Sequence[str] | None = None) -> int:
    """Measure, print, draw. Exit code 1 when something grows."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--cycles", type=int, default=100, help="open/close cycles on a lab that stays up")
    parser.add_argument("--anew", type=int, default=5, help="open/close cycles that start the lab anew each time")
    parser.add_argument("--minutes", type=float, default=10.0, help="how long to capture")
    parser.add_argument("--out", type=Path, default=Path("soak"), help="folder for the samples and the drawings")
    chosen = parser.parse_args(arguments)
    chosen.out.mkdir(parents=True, exist_ok=True)
    logging.getLogger("labctl").setLevel(logging.ERROR)  # each opening would say that settling is not measured
    with tempfile.TemporaryDirectory() as state:
        os.environ["LABCTL_STATE"] = state
        return 1 if _soak(chosen.cycles, chosen.anew, chosen.minutes, chosen.out) else 0


def slopes_of(samples: Sequence[Sample]) -> list[Slope]:
    """One for each quantity. Three samples or more are needed."""
    at = np.array([sample.at for sample in samples])
    found = []
    for name in UNITS:
        values = np.array([getattr(sample, name) for sample in samples], dtype=np.float64)
        line = linregress(at, values)
        half = 0.0 if np.ptp(values) == 0 else float(line.stderr * t.ppf(0.975, len(at) - 2))
        growth = float(line.slope * (at[-1] - at[0]))
        found.append(Slope(name, values[0], values[-1], float(line.slope), half, growth))
    return found


def _soak(cycles: int, anew: int, minutes: float, out: Path) -> bool:
    leaks = False
    before = _below(os.getpid())
    spec = load_rig(find_rig("virtual"))
    settings: Any = lab_settings(spec.world, spec.twin, spec.roads)  # type: ignore[arg-type]
    with VirtualLab(settings) as lab:
        os.environ[JOIN_VARIABLE] = str(lab.folder)
        if cycles:
            samples = list(_cycles(lab, cycles))
            leaks |= _report("cycles", samples, samples[min(SETTLED_CYCLES, cycles // 2) :], "cycle", out)
        if minutes:
            samples, frames = _capture(lab, minutes)
            judged = [sample for sample in samples if sample.at * 3600 >= min(SETTLED_S, minutes * 30)]
            print(f"capture: {frames}")  # noqa: T201
            leaks |= _report("capture", samples, judged, "hour", out)
        del os.environ[JOIN_VARIABLE]
    for number in range(anew):
        begun_s = time.monotonic()
        with labctl.open_rig("virtual"):
            opened_s = time.monotonic() - begun_s
        print(f"lab anew {number + 1}: open in {opened_s:.1f} s, closed after {time.monotonic() - begun_s:.1f} s")  # noqa: T201
    left = _below(os.getpid()) - before
    print(f"processes left at the end: {len(left)}")  # noqa: T201
    return leaks or bool(left)


def _cycles(lab: VirtualLab, cycles: int) -> Iterator[Sample]:
    makers: set[int] = set()
    for cycle in range(cycles):
        with labctl.open_rig("virtual") as rig:
            for _ in rig.stream(_plan(2)):
                pass
            makers |= _below(os.getpid())
        if rig.safe_errors:
            raise SystemExit(f"cycle {cycle}: {rig.safe_errors}")
        yield _sample(float(cycle), lab, makers)


def _capture(lab: VirtualLab, minutes: float) -> tuple[list[Sample], str]:
    samples: list[Sample] = []
    frames = 0
    with labctl.open_rig("virtual") as rig:
        begun_s, due_s = time.monotonic(), 0.0
        while (now_s := time.monotonic() - begun_s) < 60 * minutes:
            for frame in rig.stream(_plan(PLAN_FRAMES, first=frames)):
                if int(frame.exposure_ids[0]) != frames:
                    raise SystemExit(f"frame {int(frame.exposure_ids[0])} came where {frames} was due")
                frames += 1
                if (now_s := time.monotonic() - begun_s) >= due_s:
                    samples.append(_sample(now_s / 3600, lab, set()))
                    due_s = now_s + SAMPLE_S
        stats, retakes = rig.devices().camera.describe_device()["drops"], len(rig.retakes)
    said = f"{frames} frames in {now_s:.0f} s ({frames / now_s:.1f}/s), {retakes} taken twice; camera {stats}"
    return samples, said


def _plan(frames: int, first: int = 0) -> Any:
    rng = np.random.default_rng(first)
    scenes = rng.random((frames, 1, 63, 63), dtype=np.float32)
    exposure = Exposure(exposure_s=2e-3, roi=(32, 32))
    return still_plan(scenes, np.ones((32, 32)), exposure, exposure_ids=first + np.arange(frames))


def _sample(at: float, lab: VirtualLab, makers: set[int]) -> Sample:
    """makers: process ids that have been there, beside those that are."""
    gc.collect()
    below = {child: {child} | _below(child) for child in _children_of(os.getpid())}
    others = next(processes for processes in below.values() if lab.pids["bench"] in processes)  # with their keeper
    children = set().union(*below.values()) - others
    return Sample(
        at=at,
        parent_mib=_memory_mib(os.getpid()),
        children_mib=sum(map(_memory_mib, children)),
        lab_mib=sum(map(_memory_mib, others)),
        files=_count(f"/proc/{os.getpid()}/fd"),
        lab_files=sum(_count(f"/proc/{pid}/fd") for pid in others),
        threads=_count(f"/proc/{os.getpid()}/task"),
        children=len(children),
        lab_processes=len(others),
        shared_memory=_count("/dev/shm") + _segments(makers | others | children),
        windows=_windows(lab.environment["DISPLAY"]),
    )


def _below(pid: int) -> set[int]:
    found: set[int] = set()
    edge = {pid}
    while edge:
        edge = {child for parent in edge for child in _children_of(parent)} - found
        found |= edge
    return found


def _children_of(pid: int) -> list[int]:
    found = []
    for task in Path(f"/proc/{pid}/task").glob("*/children"):
        try:
            found += [int(word) for word in task.read_text().split()]
        except OSError:  # the thread has ended just now
            continue
    return found


def _memory_mib(pid: int) -> float:
    try:
        lines = Path(f"/proc/{pid}/smaps_rollup").read_text().splitlines()
    except OSError:  # it has ended just now
        return 0.0
    return sum(int(line.split()[1]) for line in lines if line.startswith(("Pss_Anon:", "Pss_Shmem:"))) / 1024


def _segments(makers: set[int]) -> int:
    """System V shared memory that one of `makers` has made and that is still there."""
    head, *rows = (line.split() for line in Path("/proc/sysvipc/shm").read_text().splitlines())
    return sum(int(row[head.index("cpid")]) in makers for row in rows)


def _count(folder: str) -> int:
    return sum(1 for _ in Path(folder).iterdir())


def _windows(display: str) -> int:
    """All windows below the root of the lab's X server."""
    from Xlib import display as xlib
    from Xlib.error import BadWindow

    server = xlib.Display(display)
    try:
        count, edge = 0, [server.screen().root]
        while edge:
            below = []
            for window in edge:
                try:
                    below += window.query_tree().children
                except BadWindow:  # it has gone just now
                    continue
            count, edge = count + len(below), below
        return count
    finally:
        server.close()


def _report(title: str, samples: Sequence[Sample], judged: Sequence[Sample], per: str, out: Path) -> bool:
    """Print and draw; returns whether something grows."""
    names = [field.name for field in fields(Sample)]
    (out / f"{title}.json").write_text(json.dumps({name: [getattr(s, name) for s in samples] for name in names}))
    slopes = slopes_of(judged)
    head = f"{'':16}{'first':>10}{'last':>10}   slope per {per} (95 %)      growth   limit"
    lines = [f"{title}: {len(samples)} samples, {len(judged)} judged", head]
    lines += [
        f"{one.name:16}{one.first:10.1f}{one.last:10.1f}{one.slope:12.4f} ± {one.half:<10.4f}{one.growth:9.2f}"
        f"{LIMITS[one.name]:8.1f} {UNITS[one.name]:4}{'flat' if one.flat else 'GROWS'}"
        for one in slopes
    ]
    print("\n".join(lines), flush=True)  # noqa: T201
    _draw(title, samples, per, out / f"{title}.png")
    return not all(one.flat for one in slopes)


def _draw(title: str, samples: Sequence[Sample], per: str, path: Path) -> None:
    from matplotlib.figure import Figure

    at = [60 * sample.at if per == "hour" else sample.at for sample in samples]
    label = "time in minutes" if per == "hour" else "open/close cycle"
    figure = Figure(figsize=(9, 7), layout="constrained")
    memory, counts = figure.subplots(2, 1, sharex=True)
    for name, unit in UNITS.items():
        axes = memory if unit else counts
        axes.plot(at, [getattr(sample, name) for sample in samples], label=name.removesuffix("_mib").replace("_", " "))
    memory.set(ylabel="memory in MiB", title=f"{title}: {len(samples)} samples")
    counts.set(ylabel="count", xlabel=label)
    for axes in (memory, counts):
        axes.set_ylim(bottom=0)
        axes.grid(alpha=0.3)
        axes.legend(loc="center left", bbox_to_anchor=(1.0, 0.5), frameon=False)
    figure.savefig(path, dpi=120)


if __name__ == "__main__":
    sys.exit(main())
