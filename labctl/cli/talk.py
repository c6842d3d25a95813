"""How commands speak: talk goes to stderr, data to stdout."""

from __future__ import annotations

import json
import sys
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from rich.console import Console

WIDTH = 100
"""Columns of what is drawn where the output is no terminal."""


def say(text: str) -> None:
    """Tell the person at the terminal."""
    print(text, file=sys.stderr, flush=True)  # noqa: T201


def print_json(value: Any) -> None:
    """One JSON object as the last line of stdout."""
    print(json.dumps(value, allow_nan=False))  # noqa: T201


def console(*, error: bool = False) -> Console:
    """Where tables and drawings go: as wide as the terminal, or WIDTH."""
    from rich.console import Console

    made = Console(stderr=error, highlight=False)
    return made if made.is_terminal else Console(stderr=error, highlight=False, width=WIDTH)


@contextmanager
def shown_progress(what: str) -> Iterator[Callable[[int, int], None]]:
    """A function that takes how many of how many are done, and shows it on a terminal; elsewhere nothing is shown."""
    from rich.progress import BarColumn, MofNCompleteColumn, Progress, TextColumn, TimeRemainingColumn

    columns = (TextColumn(what), BarColumn(), MofNCompleteColumn(), TimeRemainingColumn())
    screen = console(error=True)
    with Progress(*columns, console=screen, transient=True, disable=not screen.is_terminal) as bar:
        task = bar.add_task(what, total=None)
        yield lambda done, total: bar.update(task, completed=done, total=total)
