"""What was started, finished, failed or stopped: the memory that `resume` goes by."""

from __future__ import annotations

import time
from collections.abc import Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any, Literal

from labctl.durable import append_line, read_lines

Word = Literal["waiting", "started", "finished", "failed", "stopped"]
"""`waiting` stands in no journal: it is what a step without a row is."""


@dataclass(frozen=True)
class Entry:
    """The last word on one step instance."""

    key: str
    word: Word
    hash: str
    seconds: float = 0.0
    outputs: Mapping[str, str] = field(default_factory=dict)
    """Output name to path, relative to the run folder."""

    metrics: Mapping[str, Any] = field(default_factory=dict)
    text: str = ""


class Journal:
    """Append-only rows on disk; the newest row of a step counts, and its seconds add up over attempts."""

    def __init__(self, path: Path) -> None:
        self._path = path
        self._last: dict[str, Entry] = {}
        self._spent: dict[str, float] = {}
        for row in read_lines(path):
            row.pop("time")
            self._remember(Entry(**row))

    def write(self, entry: Entry) -> None:
        """Append one row; it is on the disk on return."""
        append_line(
            self._path,
            {
                "time": time.time(),
                "key": entry.key,
                "word": entry.word,
                "hash": entry.hash,
                "seconds": entry.seconds,
                "outputs": dict(entry.outputs),
                "metrics": dict(entry.metrics),
                "text": entry.text,
            },
        )
        self._remember(entry)

    def last(self, key: str) -> Entry | None:
        """The last word on a step, or None."""
        return self._last.get(key)

    def seconds(self, key: str) -> float:
        """Time spent on a step in all attempts that could be closed."""
        return self._spent.get(key, 0.0)

    def finished(self, key: str, content_hash: str) -> Entry | None:
        """The entry of a step that finished with this very hash, or None."""
        entry = self._last.get(key)
        return entry if entry is not None and entry.word == "finished" and entry.hash == content_hash else None

    def _remember(self, entry: Entry) -> None:
        self._last[entry.key] = entry
        self._spent[entry.key] = self._spent.get(entry.key, 0.0) + entry.seconds
