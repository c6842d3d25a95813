"""Where the clocks of a set began anew: a resumed capture is another process, a merged set has several parts."""

from __future__ import annotations

import json
from bisect import bisect_right
from dataclasses import dataclass
from typing import Any

from labctl.frames.layout import HISTORY
from labctl.frames.store import FrameStore


@dataclass(frozen=True)
class Sessions:
    """Ascending indices of the first frame of every session, and of every part of a merged set; the first is 0."""

    starts: tuple[int, ...] = (0,)
    parts: tuple[int, ...] = (0,)

    def session(self, index: int) -> int:
        """Number of the session in which frame `index` was taken."""
        return bisect_right(self.starts, index)

    def part(self, index: int) -> int:
        """Number of the set that frame `index` came from."""
        return bisect_right(self.parts, index)


def read_sessions(store: FrameStore) -> Sessions:
    """What the history of a set tells; a set without one is taken for a single session."""
    starts, parts = {0}, {0}
    for entry in read_history(store):
        if isinstance(entry.get("kept"), int):
            starts.add(entry["kept"])
        starts.update(entry.get("sessions", ()))
        parts.update(entry.get("parts", ()))
    return Sessions(tuple(sorted(starts | parts)), tuple(sorted(parts)))


def read_history(store: FrameStore) -> list[dict[str, Any]]:
    """What happened to a set, in order; lines that cannot be read are left out: nothing depends on them."""
    entries = []
    for line in (store.source.read(HISTORY) or b"").split(b"\n"):
        try:
            entry = json.loads(line)
        except ValueError:
            continue
        if isinstance(entry, dict):
            entries.append(entry)
    return entries
