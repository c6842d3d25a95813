"""The processes below ours, as the operating system sees them: drivers do not know that anybody looks."""

from __future__ import annotations

import contextlib
import os
import signal
import threading
import time
from collections.abc import Callable
from pathlib import Path


def children(pid: int | None = None) -> set[int]:
    """Process ids of all descendants of `pid`, by default ours, that have not ended."""
    parents = {}
    for entry in Path("/proc").iterdir():
        if entry.name.isdigit():
            try:
                state, parent = (entry / "stat").read_text().rpartition(")")[2].split()[:2]
            except OSError:  # it has ended just now
                continue
            if state != "Z":
                parents[int(entry.name)] = int(parent)
    found, edge = set(), {os.getpid() if pid is None else pid}
    while edge:
        edge = {child for child, parent in parents.items() if parent in edge}
        found |= edge
    return found


def child_that_runs(module: str) -> int:
    """Process id of the only child of ours that runs `python -m MODULE`."""
    found = [pid for pid in children() if f"\0{module}\0".encode() in _command(pid)]
    assert len(found) == 1, f"{len(found)} children run {module}"
    return found[0]


def panel_child(display: str) -> int:
    """Process id of the child that draws for `display`: its log is its standard error."""
    found = [pid for pid in children() if Path(f"/proc/{pid}/fd/2").readlink().name == f"virtual-{display}.log"]
    assert len(found) == 1, f"{len(found)} children draw for {display}"
    return found[0]


def kill(pid: int) -> None:
    """SIGKILL."""
    os.kill(pid, signal.SIGKILL)


def freeze(pid: int, seconds: float) -> None:
    """SIGSTOP, and SIGCONT after `seconds`. Returns at once."""
    os.kill(pid, signal.SIGSTOP)

    def thaw() -> None:
        with contextlib.suppress(ProcessLookupError):
            os.kill(pid, signal.SIGCONT)

    timer = threading.Timer(seconds, thaw)
    timer.daemon = True
    timer.start()


def wait_until(condition: Callable[[], object], limit_s: float = 10.0) -> bool:
    """Whether `condition` became true in time."""
    end_s = time.monotonic() + limit_s
    while not condition():
        if time.monotonic() > end_s:
            return False
        time.sleep(0.02)
    return True


def _command(pid: int) -> bytes:
    try:
        return Path(f"/proc/{pid}/cmdline").read_bytes()
    except OSError:  # it has ended just now
        return b""
