"""A power cut: what was synced stays, the rest is lost, or reaches the disk in part and in any order.

`Disk` notes what is on the disk for certain. A file is known by its inode: syncing it keeps its content, syncing a
folder keeps its list of names, and nothing else keeps anything. `Disk.cut` then makes the folder anew as a disk might
have it. Renames are one transaction, as on every file system with a journal.
"""

from __future__ import annotations

import contextlib
import json
import os
import random
import shutil
import stat
import threading
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Literal

Mode = Literal["worst", "mixed"]
"""`worst`: all that was not synced is lost. `mixed`: each folder has its old or its new names; each file has its synced
content and a random part of the rest, in which random sectors are zero."""

SECTOR = 512
ZEROED = 0.2
"""Share of the sectors of what was not synced that never reached the disk, though later ones did."""

Names = dict[str, int]
"""Inode by name; the name of a folder ends with a slash."""


class Disk:
    """What is on the disk of folder `root`, noted in folder `notes` of the same file system.

    The notes outlive the process that is killed, and each of them is whole or not there.
    """

    def __init__(self, root: Path, notes: Path) -> None:
        self._root, self._notes = root, notes
        self._lock = threading.Lock()

    def all_is_safe(self) -> None:
        """Take everything that is in the folder now as on the disk."""
        shutil.rmtree(self._notes, ignore_errors=True)
        for part in ("contents", "names", "held"):
            (self._notes / part).mkdir(parents=True)
        for folder, _, files in os.walk(self._root):
            self._keep_names(Path(folder).stat().st_ino, Path(folder))
            for path in (Path(folder) / name for name in files):
                self._hold(path.stat().st_ino, path)
                self._write("contents", path.stat().st_ino, path.read_bytes())

    def synced(self, number: int) -> None:
        """Note that what is open as `number` has been synced."""
        found = os.fstat(number)
        opened = Path(f"/proc/self/fd/{number}")
        path = opened.readlink()
        if not path.is_relative_to(self._root):
            return
        with self._lock:
            if stat.S_ISDIR(found.st_mode):
                self._keep_names(found.st_ino, path)
            else:
                self._hold(found.st_ino, path)
                self._write("contents", found.st_ino, opened.read_bytes())

    @contextmanager
    def watching(self, after: Callable[[], None] = lambda: None) -> Iterator[None]:
        """Note every sync of this process. after: called after each; the sync itself is left out, which is quicker."""

        def fsync(file: int | object) -> None:
            self.synced(file if isinstance(file, int) else file.fileno())  # type: ignore[attr-defined]
            after()

        there = os.fsync, os.fdatasync
        os.fsync = os.fdatasync = fsync
        try:
            yield
        finally:
            os.fsync, os.fdatasync = there

    def cut(self, mode: Mode, rng: random.Random) -> None:
        """Make the folder as a disk might have it after the power came back; all of that is safe then."""
        safe = {int(path.name): json.loads(path.read_text()) for path in (self._notes / "names").iterdir()}
        now = {Path(folder).stat().st_ino: _names(Path(folder)) for folder, _, _ in os.walk(self._root)}
        live = {path.stat().st_ino: path for path in self._root.rglob("*") if path.is_file()}
        live |= {int(path.name): path for path in (self._notes / "held").iterdir()}
        names = safe if mode == "worst" else _mixed_names(safe, now, rng)

        def content(inode: int) -> bytes:
            kept = self._notes / "contents" / str(inode)
            before = kept.read_bytes() if kept.exists() else b""
            after = live[inode].read_bytes() if inode in live else before
            return before if mode == "worst" else _mixed_content(before, after, rng)

        def make(path: Path, inode: int) -> None:
            path.mkdir()
            for name, child in names.get(inode, {}).items():
                if name.endswith("/"):
                    make(path / name, child)
                else:
                    (path / name).write_bytes(content(child))

        new = self._root.with_name(self._root.name + ".new")
        make(new, self._root.stat().st_ino)
        shutil.rmtree(self._root)
        new.rename(self._root)
        self.all_is_safe()

    def _keep_names(self, inode: int, folder: Path) -> None:
        names = _names(folder)
        for name, child in names.items():
            if not name.endswith("/"):
                self._hold(child, folder / name)
        self._write("names", inode, json.dumps(names).encode())

    def _hold(self, inode: int, path: Path) -> None:
        """A second name, so that no other file gets this inode as long as the notes speak of it."""
        with contextlib.suppress(FileExistsError, FileNotFoundError):  # another thread has renamed it just now
            os.link(path, self._notes / "held" / str(inode))

    def _write(self, part: str, inode: int, content: bytes) -> None:
        path = self._notes / part / str(inode)
        temporary = path.with_suffix(".tmp")
        temporary.write_bytes(content)
        temporary.replace(path)


def memory_folder() -> Path | None:
    """A folder in memory, where there is one: the syncs of a simulated disk need no real one."""
    folder = Path("/dev/shm")
    return folder if folder.is_dir() and os.access(folder, os.W_OK) else None


def _names(folder: Path) -> Names:
    with os.scandir(folder) as entries:
        return {entry.name + ("/" if entry.is_dir() else ""): entry.inode() for entry in entries}


def _mixed_names(safe: dict[int, Names], now: dict[int, Names], rng: random.Random) -> dict[int, Names]:
    """Old or new names for each folder, but a file that moved is at one of the two places."""
    chosen = {folder: dict(now[folder] if rng.random() < 0.5 else safe.get(folder, {})) for folder in now}
    there = {inode for names in chosen.values() for inode in names.values()}
    everywhere = {inode for names in now.values() for inode in names.values()}
    for folder, names in safe.items():
        for name, inode in names.items():
            if inode in everywhere and inode not in there:
                chosen.setdefault(folder, {})[name] = inode
    return chosen


def _mixed_content(before: bytes, after: bytes, rng: random.Random) -> bytes:
    if not after.startswith(before):
        return rng.choice((before, after))
    rest = bytearray(after[len(before) : rng.randint(len(before), len(after))])
    for start in range(-(len(before) % SECTOR), len(rest), SECTOR):
        if rng.random() < ZEROED:
            begin, end = max(start, 0), min(start + SECTOR, len(rest))
            rest[begin:end] = bytes(end - begin)
    return before + bytes(rest)
