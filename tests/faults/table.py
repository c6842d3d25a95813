"""The table of faults: one row for each test, kept while the tests run, written as Markdown afterwards."""

from __future__ import annotations

import json
import os
import re
from collections.abc import Iterable
from dataclasses import asdict, dataclass
from pathlib import Path

ROWS_VARIABLE = "LABCTL_FAULT_ROWS"
"""Names a file to which every test adds its row, as one line of JSON. Unset: nothing is kept."""

FIRST_PART, LAST_PART = 200, 130
"""Characters of a long text that are kept: it begins with what happened and ends with what to do."""

HEAD = """| # | fault | injected how | what the user saw | ended | retakes | frames lost | s |
|---|---|---|---|---|---|---|---|
"""


@dataclass(frozen=True)
class Row:
    """One fault. seconds: of everything after the rig was opened, or of the opening that failed."""

    fault: str
    injected: str
    saw: str
    ended: str
    retakes: int
    frames_lost: int
    seconds: float


def keep(row: Row) -> None:
    """Add `row` to the file that ROWS_VARIABLE names. Several processes may do so at once."""
    path = os.environ.get(ROWS_VARIABLE)
    if path:
        with Path(path).open("a", encoding="utf-8") as file:
            file.write(json.dumps(asdict(row)) + "\n")


def kept(path: Path) -> list[Row]:
    """All rows of a file, in the order of the tests."""
    return [Row(**json.loads(line)) for line in path.read_text(encoding="utf-8").splitlines()]


def markdown(rows: Iterable[Row]) -> str:
    """The table."""
    lines = [
        f"| {number} | {_cell(row.fault)} | {_cell(row.injected)} | {_cell(plain(row.saw))} | {_cell(row.ended)} "
        f"| {row.retakes} | {row.frames_lost} | {row.seconds:.1f} |\n"
        for number, row in enumerate(rows, 1)
    ]
    return HEAD + "".join(lines)


def plain(text: str) -> str:
    """`text` without what differs from one computer and run to the next: paths, process ids, ports."""
    for pattern, instead in _PRIVATE:
        text = pattern.sub(instead, text)
    if len(text) <= FIRST_PART + LAST_PART:
        return text
    return f"{text[:FIRST_PART].rpartition(' ')[0]} [...] {text[-LAST_PART:].partition(' ')[2]}"


_PRIVATE = (
    (re.compile(r"(?:/[\w.,+-]+)+/([\w.+-]+)"), r".../\1"),
    (re.compile(r"\bprocess \d+"), "process N"),
    (re.compile(r"127\.0\.0\.1::(hislip0,)?\d+"), r"127.0.0.1::\1PORT"),
    (re.compile(r"display server :\d\d?\b"), "display server :N"),
    (re.compile(r"open display :\d\d?\b"), "open display :N"),
)


def _cell(text: str) -> str:
    return " ".join(text.split()).replace("|", "\\|")
