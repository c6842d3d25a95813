"""A writer that dies between any two calls to the system, and again while it mends: python -m tests.kills.every_call.

Each case: a capture dies at call k, the next life dies at a random call, the third one finishes. It is done without a
power cut, with one that takes all that was not synced, and with one that takes some of it.
"""

from __future__ import annotations

import argparse
import os
import random
import shutil
import signal
import sys
import tempfile
import threading
from collections.abc import Callable
from dataclasses import dataclass
from functools import partial
from pathlib import Path
from typing import Any, Literal

import numpy as np

from labctl.errors import LabctlError
from labctl.frames.header import Sync
from labctl.frames.marks import Mark
from labctl.frames.store import FrameStore
from labctl.frames.verify import verify
from labctl.frames.writer import FrameWriter
from tests.kills.lives import Board, begin, ended
from tests.kills.power import Disk, memory_folder
from tests.labctl.frames.sets import header, pixels, record

FRAMES = 7
"""A shard of four and one of three; blocks of two."""

CALLS = ("open", "write", "writev", "fsync", "fdatasync", "replace", "rename", "unlink", "mkdir")
"""What changes a disk, by name in `os`. What is written through file objects is synced or renamed by one of these."""

NEVER = 10**9

Fault = Literal["kill", "worst", "mixed"]
FAULTS: tuple[Fault, ...] = ("kill", "worst", "mixed")


def capture(folder: Path, board: Board, sync: Sync) -> None:
    """Take what is missing and finish."""
    with FrameWriter(folder, header(FRAMES, sync=sync), block=2, say=print) as writer:
        board["safe"] = writer.acknowledged
        for index in range(writer.next_index, FRAMES):
            writer.append(pixels(index), record(index))
            if index in (0, 4):
                writer.flush()
                writer.mark(Mark(word="drift", first=index, last=index, reason="here"))
                board["marks"] += 1
            board["safe"] = writer.acknowledged
        writer.finish()
        board["safe"] = FRAMES


def count_calls(board: Board, last: int, rng: random.Random) -> None:
    """Count the calls of this process from now on, and kill it at number `last`, in the middle when it writes."""
    lock = threading.RLock()
    write = os.write
    within = []

    def counted(name: str, call: Callable[..., Any], *args: Any, **more: Any) -> Any:
        with lock:
            if within:  # what notes a sync makes calls of its own
                return call(*args, **more)
            board["calls"] += 1
            if board["calls"] == last:
                if name in ("write", "writev"):
                    data = args[1] if name == "write" else b"".join(bytes(piece) for piece in args[1])
                    write(args[0], bytes(data)[: rng.randrange(len(data) + 1)])
                os.kill(os.getpid(), signal.SIGKILL)
            within.append(name)
            try:
                return call(*args, **more)
            finally:
                within.pop()

    for name in CALLS:
        setattr(os, name, partial(counted, name, getattr(os, name)))


@dataclass
class Bench:
    """One folder in which one case after the other is tried."""

    folder: Path
    sync: Sync = "block"

    def __post_init__(self) -> None:
        self.board = Board()
        self.root = self.folder / "disk"
        self.disk = Disk(self.root, self.folder / "notes")
        self.set = self.root / "runs" / "set"
        self.safe = self.marks = 0

    def live(self, fault: Fault, last: int, rng: random.Random) -> bool:
        """One life that dies at call `last`, if it comes so far, and what happens to its disk; whether it died."""

        def work() -> None:
            with self.disk.watching():
                count_calls(self.board, last, rng)
                capture(self.set, self.board, self.sync)

        self.board.clear()
        died = ended(begin(work))
        if self.sync == "block" or fault == "kill":
            self.safe = max(self.safe, self.board["safe"])
            self.marks += self.board["marks"]  # a power cut may take frames otherwise, and with them their marks
        if died and fault != "kill" and rng.random() < 0.8:  # else it is only killed, and its power may go later
            self.disk.cut(fault, rng)
        return died

    def case(self, fault: Fault, last: int, seed: int) -> str:
        """What is wrong after a capture died at call `last` and the next one at a random call; empty: nothing."""
        rng = random.Random(seed)
        shutil.rmtree(self.root, ignore_errors=True)
        self.root.mkdir()
        self.disk.all_is_safe()
        self.safe = self.marks = 0
        second = rng.randrange(1, 60)
        for call in (last, second, NEVER):
            try:
                finished = not self.live(fault, call, rng)
                problem = self.look(finished)
            except (RuntimeError, LabctlError) as error:
                problem = str(error)
            if problem:
                return f"{problem} (died at call {last}, then {second})"
            if finished:
                return ""
        return "the last life died, too"

    def look(self, finished: bool) -> str:
        """What is wrong with the set as it lies there."""
        folder = self.set
        if not (folder / "header.json").exists():
            return "the set is gone" if self.safe else ""
        store = FrameStore.open(folder)
        if len(store) < self.safe:
            return f"{self.safe} frames were acknowledged, {len(store)} are there"
        if len(store.marks) < self.marks:
            return f"{self.marks} marks were written, {len(store.marks)} are there"
        good = range(len(store) if self.sync == "block" or finished else self.safe)
        if not all(np.array_equal(store.frame(place), pixels(place)) for place in good):
            return "a frame is not what was captured"
        if finished:
            report = verify(store)
            wrong = report.missing or report.duplicated or report.corrupt or not report.ok
            if wrong or [row.sample_id for row in store.records] != list(range(FRAMES)):
                return f"the finished set is not whole: {report.findings}"
        return ""


def main() -> int:
    """Try all calls, or every n-th; returns how many cases went wrong."""
    parser = argparse.ArgumentParser(prog="python -m tests.kills.every_call", description=__doc__.splitlines()[0])
    parser.add_argument("--every", type=int, default=1, metavar="N", help="only every N-th call")
    parser.add_argument("--seed", type=int, default=0)
    parser.add_argument("--sync", choices=("block", "shard", "never"), default="block")
    chosen = parser.parse_args()
    with tempfile.TemporaryDirectory(dir=memory_folder()) as folder:
        bench = Bench(Path(folder), chosen.sync)
        bench.case("kill", NEVER, 0)
        calls = bench.board["calls"]
        wrong = tried = 0
        for offset, fault in enumerate(FAULTS):
            for last in range(1 + offset % chosen.every, calls + 1, chosen.every):
                problem = bench.case(fault, last, chosen.seed * 10**6 + last)
                tried += 1
                if problem:
                    wrong += 1
                    print(f"{fault}: {problem}")
        print(f"sync {chosen.sync}: {tried} deaths at {calls} calls, {wrong} went wrong")
    return wrong


if __name__ == "__main__":
    sys.exit(1 if main() else 0)
