"""What benchmarks of many cells share: cells kept as JSON lines, a process that stays on one thread, and its words."""

from __future__ import annotations

import json
import os
import sys
import time
from collections.abc import Callable, Mapping, Sequence
from pathlib import Path
from typing import Any


class Cells:
    """Cells that are there, by the values of `keys`; kept in `path`, one line each, so that a stopped run goes on.

    Another process may have written more since: what is read is what was there when this was made.
    """

    def __init__(self, path: Path, keys: Sequence[str]) -> None:
        self.path, self.keys = path, tuple(keys)
        self.there: dict[tuple[Any, ...], dict[str, Any]] = {}
        for line in path.read_text().splitlines() if path.exists() else []:
            try:
                cell = json.loads(line)
            except ValueError:  # cut off when somebody stopped it
                continue
            self.there[self._key(cell)] = cell

    def missing(self, wanted: Sequence[Mapping[str, Any]]) -> list[dict[str, Any]]:
        """Of these, in order, those that are not there."""
        return [dict(cell) for cell in wanted if self._key(cell) not in self.there]

    def of(self, **values: Any) -> list[dict[str, Any]]:
        """Cells with these values, each as it was written last; without any, all."""
        return [cell for cell in self.there.values() if all(cell[key] == value for key, value in values.items())]

    def add(self, cell: Mapping[str, Any]) -> None:
        """Keep one more, on the disk before it counts."""
        with self.path.open("a") as file:
            file.write(json.dumps(cell) + "\n")
            file.flush()
            os.fsync(file.fileno())
        self.there[self._key(cell)] = dict(cell)

    def _key(self, cell: Mapping[str, Any]) -> tuple[Any, ...]:
        return tuple(cell[key] for key in self.keys)


def one_thread(state: Path) -> None:
    """Keep this process on one thread, with `state` as its state folder."""
    os.environ.setdefault("OMP_NUM_THREADS", "1")
    state.mkdir(parents=True, exist_ok=True)
    os.environ["LABCTL_STATE"] = str(state)
    import torch

    torch.set_num_threads(1)


def own_folder(out: Path) -> Path:
    """Where this process may work: several can fill one folder, each with cells of its own."""
    return out / "work" / f"cell-{os.getpid()}"


def until(minutes: float | None) -> Callable[[], bool]:
    """Whether the time is up; a cell that has begun is ended."""
    began = time.monotonic()
    return lambda: minutes is not None and time.monotonic() - began > 60 * minutes


def say(text: str) -> None:
    """One line for who waits."""
    sys.stderr.write(f"{time.strftime('%H:%M:%S')}  {text}\n")
    sys.stderr.flush()
