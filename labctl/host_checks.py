"""Is this computer fit to run a rig: versions, processor, memory, clock, and a disk that keeps up."""

from __future__ import annotations

import os
import platform
import shutil
import subprocess
import tempfile
import time
from collections.abc import Iterator
from importlib.metadata import PackageNotFoundError, version
from pathlib import Path

from labctl import __version__
from labctl.findings import Check

PACKAGES = ("numpy", "torch", "harvesters", "genicam", "pygame", "slmpy", "pyvisa", "pyvisa-py")
"""Whose versions a bug report needs."""

SPARE_MEMORY_BYTES = 2**30
"""What training and capture take together on small grids."""

COARSE_CLOCK_S = 1e-3

TEST_BYTES = 64 * 2**20
TEST_LIMIT_S = 2.0
"""The disk is written for so many bytes or so long, whichever ends first."""

SMALL_WRITES = 10

HEADROOM = 2.0
"""How many times faster than planned the disk must be, since it is not always at its best."""


def computer_checks() -> Iterator[Check]:
    """Versions, processor, memory, clock. None of them keeps a protocol from running."""
    yield _versions()
    yield _processor()
    yield _memory()
    yield _clock()


def disk_check(folder: Path, *, planned_bytes: int, planned_bytes_per_s: float) -> Check:
    """Room and speed of the disk that holds `folder`, measured by writing to a nameless file and syncing it.

    A problem when `planned_bytes` do not fit, or when it writes slower than `planned_bytes_per_s`; a warning when it
    is not HEADROOM times as fast.
    """
    there = next(parent for parent in (folder.absolute(), *folder.absolute().parents) if parent.exists())
    free = shutil.disk_usage(there).free
    wanted = f", {_size(planned_bytes)} planned" if planned_bytes else ""
    if free < planned_bytes:
        text = f"{_size(free)} free in {there}{wanted}"
        return Check("disk", "problem", text, "free some space, or give another folder with --out")
    try:
        rate, sync_s = write_speed(there, most=free // 2)
    except OSError as error:
        text = f"{there} cannot be written: {error.strerror or error}"
        return Check("disk", "problem", text, "give another folder with --out")
    text = f"{_size(free)} free in {there}{wanted}; writes {_size(rate)}/s, one commit takes {1e3 * sync_s:.1f} ms"
    if not planned_bytes_per_s:
        return Check("disk", "ok", text)
    text += f", the capture needs {_size(planned_bytes_per_s)}/s"
    if rate < planned_bytes_per_s:
        return Check("disk", "problem", text, "capture to a faster disk: give another folder with --out")
    slow = rate < HEADROOM * planned_bytes_per_s
    return Check("disk", "warning" if slow else "ok", text, "stop what else writes to this disk" if slow else "")


def write_speed(folder: Path, *, most: int = TEST_BYTES) -> tuple[float, float]:
    """(bytes per second, seconds of one small synced write) of the disk under `folder`, really on the disk.

    Writes at most `most` bytes and leaves nothing behind. Raises OSError.
    """
    block = os.urandom(2**20)  # a disk that compresses would else look faster than it is
    with tempfile.TemporaryFile(dir=folder) as file:
        began, written = time.monotonic(), 0
        while written < min(TEST_BYTES, max(most, len(block))) and time.monotonic() - began < TEST_LIMIT_S:
            written += file.write(block)
        file.flush()
        os.fsync(file.fileno())
        rate = written / (time.monotonic() - began)
        began = time.monotonic()
        for _ in range(SMALL_WRITES):
            file.write(block[:512])
            file.flush()
            os.fsync(file.fileno())
        return rate, (time.monotonic() - began) / SMALL_WRITES


def _versions() -> Check:
    found = []
    for name in PACKAGES:
        try:
            found.append(f"{name} {version(name)}")
        except PackageNotFoundError:
            continue
    text = f"labctl {__version__}, Python {platform.python_version()}, {', '.join(found)}; {platform.platform()}"
    return Check("versions", "ok", text)


def _processor() -> Check:
    cores = len(os.sched_getaffinity(0)) if hasattr(os, "sched_getaffinity") else os.cpu_count() or 1
    if not hasattr(os, "getloadavg"):
        return Check("processor", "skipped", f"{cores} cores; this system does not tell its load")
    load = os.getloadavg()[0]
    text = f"{cores} core{'s' if cores > 1 else ''}, load {load:.1f}"
    if load > cores:
        return Check("processor", "warning", text, "stop other work: late frames and slow displays come from it")
    return Check("processor", "ok", text)


def _memory() -> Check:
    try:
        lines = Path("/proc/meminfo").read_text().splitlines()
        kibibytes = {key: int(rest.split()[0]) for key, rest in (line.split(":", 1) for line in lines)}
        free = 1024 * kibibytes["MemAvailable"]
    except (OSError, ValueError, KeyError, IndexError):
        return Check("memory", "skipped", "this system does not tell its free memory")
    text = f"{_size(free)} available"
    if free < SPARE_MEMORY_BYTES:
        return Check("memory", "warning", text, f"close other programs: below {_size(SPARE_MEMORY_BYTES)} it gets slow")
    return Check("memory", "ok", text)


def _clock() -> Check:
    tick_s = time.get_clock_info("monotonic").resolution
    text = f"the clock that orders exposures has a resolution of {tick_s * 1e9:.3g} ns"
    if tick_s > COARSE_CLOCK_S:
        return Check("clock", "warning", text, "waits are no finer than that: use settle times well above it")
    synchronised = _clock_synchronised()
    if synchronised is None:
        return Check("clock", "ok", f"{text}; whether the time of day is synchronised is not told here")
    if not synchronised:
        todo = "switch it on (`timedatectl set-ntp true`) where runs of several computers are compared"
        return Check("clock", "warning", f"{text}; the time of day is not synchronised", todo)
    return Check("clock", "ok", f"{text}; the time of day is synchronised")


def _clock_synchronised() -> bool | None:
    """As systemd tells it; None where it does not run."""
    try:
        asked = subprocess.run(
            ["timedatectl", "show", "--property=NTPSynchronized", "--value"],
            capture_output=True, text=True, timeout=3, check=True,
        )  # fmt: skip
    except (OSError, subprocess.SubprocessError):
        return None
    return {"yes": True, "no": False}.get(asked.stdout.strip())


def _size(count: float) -> str:
    for unit in ("B", "KiB", "MiB"):
        if count < 1024:
            return f"{count:.3g} {unit}"
        count /= 1024
    return f"{count:.1f} GiB"
