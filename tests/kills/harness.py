"""Kills one capture again and again, goes on with it each time, and holds the result against an undisturbed one."""

from __future__ import annotations

import os
import random
import shutil
import signal
import statistics
import time
from collections import Counter
from collections.abc import Callable
from dataclasses import dataclass, field
from pathlib import Path

from labctl.frames.store import FrameStore
from tests.kills.capture_run import differences, frames_of, go_on, without_capture
from tests.kills.lives import Board, begin, ended
from tests.kills.moments import PHASES, announce, next_moment, phase
from tests.kills.power import Disk, Mode

POLL_S = 0.0003


@dataclass
class Result:
    """What happened to one capture."""

    kills: Counter[str] = field(default_factory=Counter)
    """Number of kills by phase."""

    cuts: Counter[str] = field(default_factory=Counter)
    rolled_back: int = 0
    """Frames that were handed to the writer, never acknowledged, and taken again."""

    recoveries: int = 0
    """Openings that had something to mend."""

    lost: list[str] = field(default_factory=list)
    """Acknowledged frames that were gone, by kill."""

    different: list[str] = field(default_factory=list)
    captures: int = 0
    """How many were made to the end: another one is begun when kills are left."""

    @property
    def inside(self) -> int:
        """Kills that hit a living writer: after it was opened, before its set was finished."""
        return sum(self.kills[name] for name in PHASES[1:-1])

    def table(self) -> str:
        """Markdown."""
        rows = [f"| {name} | {self.kills[name]} |" for name in PHASES]
        total = sum(self.kills.values())
        cuts = ", ".join(f"{count} {name}" for name, count in sorted(self.cuts.items())) or "none"
        return "\n".join(
            [
                "| killed while | times |",
                "|---|---|",
                *rows,
                f"| **in all** | {total} |",
                "",
                f"{self.inside} of {total} kills hit an open set; power cuts: {cuts}; {self.recoveries} openings had "
                f"something to mend; {self.rolled_back} frames on their way were taken again",
                f"captures made to the end, proved by `verify` and held against an undisturbed one: {self.captures}",
                f"acknowledged frames lost: {len(self.lost)}; differences: {len(self.different)}",
                *(f"- {text}" for text in [*self.lost, *self.different][:20]),
            ]
        )


class Harness:
    """run: folder to be made; whole: the run, captured undisturbed. power: share of the kills that cut the power."""

    def __init__(self, run: Path, whole: Path, *, seed: int, power: float) -> None:
        self._run, self._whole = run, whole
        self._rng = random.Random(seed)
        self._board = Board()
        self._power = power
        self._disk = Disk(run, run.with_name("notes"))
        self._startups = [0.5]

    def kill(self, kills: int) -> Result:
        """Kill it so many times while its set is open, at last while that is finished; then compare."""
        result = Result()
        frames = len(FrameStore.open(frames_of(self._whole)))
        safe = self._begin_anew()
        while result.inside < kills:
            left = kills - result.inside - max(1, kills // 40)
            startup_s = statistics.median(self._startups[-9:])
            moment = next_moment(self._rng, frames=frames, safe=safe, kills_left=left, startup_s=startup_s)
            if not self._live(moment):
                self._compare(result)
                safe = self._begin_anew()
                continue
            name = phase(self._board)
            result.kills[name] += 1
            result.recoveries += self._board["said"] > 0
            safe = max(safe, self._board["safe"])
            if self._rng.random() < self._power:
                mode: Mode = self._rng.choice(("worst", "mixed"))
                result.cuts[mode] += 1
                self._disk.cut(mode, self._rng)
            there = self._there()
            result.rolled_back += max(0, self._board["appended"] - there)
            if there < safe:
                result.lost.append(
                    f"kill {result.inside}, while {name}: {safe} frames were acknowledged, {there} are there"
                )
            if result.inside % 20 == 0:
                print(f"{result.inside} kills, {safe} of {frames} frames", flush=True)
        if self._live(lambda board: False):
            raise RuntimeError("the last life was killed by somebody else")
        self._compare(result)
        return result

    def _begin_anew(self) -> int:
        shutil.rmtree(self._run, ignore_errors=True)
        without_capture(self._whole, self._run)
        if self._power:
            self._disk.all_is_safe()
        return 0

    def _compare(self, result: Result) -> None:
        result.recoveries += self._board["said"] > 0
        result.different += differences(self._run, self._whole)
        result.captures += 1

    def _live(self, moment: Callable[[Board], bool]) -> bool:
        """One life up to its moment, or its end; whether it was killed."""
        self._board.clear()
        began = time.monotonic()
        pid = begin(self._work)
        prepared = False
        while not moment(self._board):
            if os.waitid(os.P_PID, pid, os.WEXITED | os.WNOHANG | os.WNOWAIT) is not None:
                break
            if not prepared and self._board["phase"] >= PHASES.index("capturing") + 1:
                self._startups.append(time.monotonic() - began)
                prepared = True
            time.sleep(POLL_S)
        os.kill(pid, signal.SIGKILL)  # which does nothing to one that has ended
        return ended(pid)

    def _work(self) -> None:
        if self._power:
            with self._disk.watching():
                announce(self._board)
                go_on(self._run)
        else:
            announce(self._board)
            go_on(self._run)

    def _there(self) -> int:
        """How many frames can be read."""
        folder = frames_of(self._run)
        return len(FrameStore.open(folder)) if (folder / "header.json").exists() else 0
