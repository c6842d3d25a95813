"""Removing a set, or its ground truth: never what is being written, and never so that a part passes for the whole."""

from __future__ import annotations

import shutil
from pathlib import Path

from filelock import FileLock, Timeout

from labctl.durable import sync_folder
from labctl.errors import BadInput, RunFailed
from labctl.frames.card import write_card
from labctl.frames.claim import PATIENCE_S, POLL_S
from labctl.frames.finding import writer_of
from labctl.frames.layout import (
    CARD,
    FINISHED,
    GROUP,
    HEADER,
    HISTORY,
    LEDGER,
    LOCK,
    MARKS,
    SCENES,
    SPLITS,
    SPOOL,
    is_set,
)
from labctl.frames.older import RAW
from labctl.frames.scenes import remove_scenes

REMOVED = ".header.removed.json"
"""What `header.json` is called from the first moment of a removal: the folder is no set any more."""

PARTS = (FINISHED, LEDGER, MARKS, HISTORY, CARD, GROUP, SPOOL, SCENES, SPLITS, RAW, "pack", f"{LOCK}.who")


def remove_set(folder: Path) -> list[str]:
    """Remove all that belongs to a set. Returns the names of files that do not, which are left with their folder.

    A removal that was killed is ended by another one. Raises BadInput when the folder is no set or is being written,
    RunFailed when the disk refuses.
    """
    check_removable(folder)
    lock = FileLock(folder / LOCK)
    try:
        lock.acquire(timeout=PATIENCE_S, poll_interval=POLL_S)
    except Timeout:
        raise BadInput(f"{folder} is being written by {writer_of(folder)}; stop it first") from None
    try:
        if is_set(folder):
            (folder / HEADER).replace(folder / REMOVED)
            sync_folder(folder)
        for name in PARTS:
            _remove(folder / name)
        for path in (*folder.glob(f".{SCENES}.*"), *folder.glob(".*.tmp")):
            _remove(path)
        _remove(folder / REMOVED)
    except OSError as error:
        raise RunFailed(
            f"{folder} cannot be removed ({error.strerror or error}); it is no set any more; give it again"
        ) from error
    finally:
        lock.release()
    _remove(folder / LOCK)
    left = sorted(path.name for path in folder.iterdir())
    if not left:
        folder.rmdir()
    return left


def remove_ground_truth(folder: Path) -> bool:
    """Remove the scenes of a set and renew its card; the coded frames stay. Returns whether any were kept.

    Raises BadInput when the folder is no set or is being written, RunFailed when the disk refuses.
    """
    if not is_set(folder):
        raise BadInput(f"{folder} is no captured set (it has no {HEADER}); nothing was removed")
    check_removable(folder)
    removed = remove_scenes(folder)
    if removed and (folder / CARD).exists():
        write_card(folder)
    return removed


def check_removable(folder: Path) -> None:
    """Raise BadInput when a folder is no set, nor the rest of one, or when somebody writes it."""
    if not is_set(folder) and not (folder / REMOVED).exists():
        raise BadInput(f"{folder} is no captured set (it has no {HEADER}); nothing was removed")
    writer = writer_of(folder)
    if writer:
        raise BadInput(f"{folder} is being written by {writer}; stop it first")


def _remove(path: Path) -> None:
    if path.is_dir() and not path.is_symlink():
        shutil.rmtree(path)
    else:
        path.unlink(missing_ok=True)
