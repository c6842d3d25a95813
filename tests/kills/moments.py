"""When a life is killed: at random moments, spread so that every phase of a capture is hit."""

from __future__ import annotations

import random
import time
from collections.abc import Callable
from typing import Any

from labctl.frames import blocks, writer
from labctl.frames.layout import SetFolder
from tests.kills.lives import Board

PHASES = (
    "starting",
    "opening the set",
    "recovery",
    "preparing",
    "capturing",
    "pixels being synced",
    "lines being written",
    "shard being made",
    "finishing",
    "after finishing",
)
"""What a life does, in this order. Two threads work at once: that of the disk counts when it is busy."""

DISK_PHASES = ("pixels being synced", "lines being written", "shard being made")
FINISHING_S = 0.003
LATEST_S = 0.01
"""A moment comes up to so long after what it waits for."""


def announce(board: Board) -> None:
    """Have this process write on the board what it does."""

    def during(owner: Any, name: str, field: str, phase: str, then: str) -> None:
        call = getattr(owner, name)

        def announced(*args: Any, **more: Any) -> Any:
            board[field] = PHASES.index(phase) + 1
            result = call(*args, **more)
            board[field] = PHASES.index(then) + 1 if then else 0
            return result

        setattr(owner, name, announced)

    append = writer.FrameWriter.append

    def counted(self: writer.FrameWriter, *frame: Any) -> None:
        board["phase"] = PHASES.index("capturing") + 1
        append(self, *frame)
        board["appended"], board["safe"] = self.next_index, self.acknowledged

    init = writer.FrameWriter.__init__

    def opened(self: writer.FrameWriter, *args: Any, **more: Any) -> None:
        init(self, *args, **more)
        board["said"] = len(self.recovery.did)
        board["safe"] = board["appended"] = self.acknowledged

    board["phase"] = 1
    writer.FrameWriter.append = counted  # type: ignore[method-assign]
    writer.FrameWriter.__init__ = opened  # type: ignore[method-assign]
    during(writer, "recover", "phase", "recovery", "opening the set")
    during(writer.FrameWriter, "__init__", "phase", "opening the set", "preparing")
    during(writer.FrameWriter, "finish", "phase", "finishing", "after finishing")
    during(blocks, "write_all", "disk", "lines being written", "lines being written")
    during(blocks.BlockKeeper, "_make_safe", "disk", "pixels being synced", "")
    during(SetFolder, "commit_shard", "disk", "shard being made", "")


def phase(board: Board) -> str:
    """What a life does just now, or did last."""
    number = board["disk"] or board["phase"]
    return PHASES[max(0, number - 1)]


Moment = Callable[[Board], bool]
"""Whether the moment has come; asked all the time."""


def next_moment(rng: random.Random, *, frames: int, safe: int, kills_left: int, startup_s: float) -> Moment:
    """Mostly after a random number of frames, so that all kills fall into the capture; else in a random phase.

    kills_left: before its end; when there are none, the moment comes while it is finished.
    """
    share = max(1.0, (frames - safe) / max(1, kills_left))
    kind = rng.random()
    if kills_left <= 0:
        return _later(rng, lambda board: board["phase"] >= PHASES.index("finishing") + 1, FINISHING_S)
    if kind < 0.12:
        until = time.monotonic() + rng.uniform(0, 1.2 * startup_s)
        return lambda board: time.monotonic() >= until
    if kind < 0.30:
        number = PHASES.index(rng.choice(("opening the set", "recovery", *DISK_PHASES))) + 1
        return _seen(number, rng.randrange(1, 3), until=safe + 3 * share)
    target = safe + rng.uniform(0, 2 * share)
    return _later(rng, lambda board: board["appended"] > target)


def _later(rng: random.Random, begun: Moment, latest_s: float = LATEST_S) -> Moment:
    """A random time, of at most `latest_s`, after something began."""
    delay, since = rng.uniform(0, latest_s), [0.0]

    def come(board: Board) -> bool:
        if not since[0] and begun(board):
            since[0] = time.monotonic()
        return bool(since[0]) and time.monotonic() >= since[0] + delay

    return come


def _seen(number: int, times: int, *, until: float) -> Moment:
    """When a phase has begun so many times, or frame `until` was captured before."""
    seen, inside = [0], [False]

    def come(board: Board) -> bool:
        now = number in (board["disk"], board["phase"])
        seen[0] += now and not inside[0]
        inside[0] = now
        return seen[0] >= times or board["appended"] > until

    return come
