"""A SQLite catalogue over run folders. The folders are the truth; the catalogue can be thrown away at any time."""

from __future__ import annotations

import contextlib
import json
import sqlite3
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from labctl.state import state_folder
from labctl.store import RunFolder

_TABLE = """
create table if not exists runs (
    path text primary key, name text, rig text, status text, reason text, began real, seconds real, stamp integer,
    summary text
)"""


@dataclass(frozen=True)
class RunRow:
    """One run as the catalogue knows it."""

    path: str
    name: str
    rig: str
    status: str
    reason: str
    began: float
    seconds: float
    metrics: dict[str, Any]


class Catalogue:
    """Runs known on this computer, brought up to date from their folders whenever it is read."""

    def __init__(self, file: Path | None = None) -> None:
        self._file = file if file is not None else state_folder() / "catalogue.sqlite"

    def add(self, run: Path) -> None:
        """Remember a run folder, or renew what is known of it."""
        with self._open() as database:
            _renew(database, run)

    def scan(self, root: Path) -> None:
        """Remember every run folder below `root`."""
        with self._open() as database:
            for summary in sorted(root.expanduser().absolute().glob("**/summary.json")):
                _renew(database, summary.parent)

    def runs(self) -> list[RunRow]:
        """All runs whose folders are still there, newest first."""
        with self._open() as database:
            for (path,) in database.execute("select path from runs").fetchall():
                _renew(database, Path(path))
            query = "select path, name, rig, status, reason, began, seconds, summary from runs order by began desc"
            rows = database.execute(query).fetchall()
        return [
            RunRow(p, n, r, s, why, b, t, json.loads(text).get("metrics", {})) for p, n, r, s, why, b, t, text in rows
        ]

    @contextlib.contextmanager
    def _open(self) -> Iterator[sqlite3.Connection]:
        self._file.parent.mkdir(parents=True, exist_ok=True)
        database = sqlite3.connect(self._file, timeout=10)
        try:
            with database:
                database.execute(_TABLE)
                yield database
        finally:
            database.close()


def _renew(database: sqlite3.Connection, run: Path) -> None:
    folder = RunFolder(run)
    try:
        stamp = folder.summary_file.stat().st_mtime_ns
        known = database.execute("select stamp, status from runs where path = ?", (str(run),)).fetchone()
        if known is not None and known[0] == stamp and known[1] != "running":
            return
        summary = folder.summary()
        status = summary["status"]
        if status == "running" and folder.holder() is None:
            status = "died"
        row = (
            str(run),
            summary["name"],
            summary["rig"],
            status,
            summary["reason"],
            summary["began"],
            summary["seconds"],
            stamp,
            json.dumps(summary),
        )
    except (OSError, ValueError, KeyError):
        database.execute("delete from runs where path = ?", (str(run),))
        return
    database.execute("insert or replace into runs values (?, ?, ?, ?, ?, ?, ?, ?, ?)", row)
