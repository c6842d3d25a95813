"""How commands speak: talk goes to stderr, data to stdout."""

from __future__ import annotations

import json
import sys
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
