"""Which set is meant: the folder of one, of a run or a step that made one, or an address; and who writes it."""

from __future__ import annotations

import os
from pathlib import Path

from filelock import FileLock, Timeout

from labctl.errors import BadInput
from labctl.frames.claim import POLL_S
from labctl.frames.layout import HEADER, LOCK, is_set
from labctl.frames.store import FrameStore

DEPTH = 8
"""How many folders deep sets are looked for; those of a run lie in RUN/artifacts/STEP/DESIGN/SEED/frames."""

LOOK_S = 0.1
"""A lock that is held for longer is that of a writer, not of somebody else who looks."""


def open_set(where: str | Path) -> FrameStore:
    """The set at `where`; see `find_set`."""
    return FrameStore.open(find_set(where))


def find_set(where: str | Path) -> str:
    """The address as it is, or the folder of the one set in `where`: itself, a step, a run.

    Raises BadInput when there is none, or when there are several: it names them.
    """
    text = str(where)
    if "://" in text:
        return text
    folder = Path(text).expanduser()
    if is_set(folder):
        return str(folder)
    if not folder.exists():
        raise BadInput(f"there is no '{where}'; give the folder of a captured set, or of a run that made one")
    found = sorted(sets_below(folder))
    if not found:
        raise BadInput(f"{where} is no captured set (it has no {HEADER}), and holds none; give the folder of one")
    if len(found) > 1:
        listed = "".join(f"\n  {path}" for path in found[:20])
        raise BadInput(f"{where} holds {len(found)} captured sets; give one of them:{listed}")
    return str(found[0])


def sets_below(folder: Path) -> list[Path]:
    """Folders of all sets in `folder`, at most DEPTH deep; nothing is looked for inside a set."""
    found = []
    for root, folders, _ in os.walk(folder):
        path = Path(root)
        if is_set(path):
            found.append(path)
        if is_set(path) or len(path.relative_to(folder).parts) >= DEPTH:
            folders.clear()
    return found


def writer_of(folder: Path) -> str | None:
    """Who writes the set now, in words; None when nobody does."""
    lock, who = folder / LOCK, folder / f"{LOCK}.who"
    if not lock.exists():  # a copy has none, and asking must not make one
        return None
    probe = FileLock(lock)
    try:
        probe.acquire(timeout=LOOK_S, poll_interval=POLL_S)  # another look ends sooner than a writer
    except Timeout:
        return who.read_text() if who.exists() else "another process"
    except OSError:  # a folder that cannot be written is not being written
        return None
    probe.release()
    return None
