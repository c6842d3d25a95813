"""Claiming a set for one writer."""

from __future__ import annotations

import getpass
import os
import socket
from pathlib import Path

from filelock import FileLock, Timeout

from labctl.errors import BadInput, RunFailed
from labctl.frames.layout import LOCK
from labctl.frames.refusals import refusal

PATIENCE_S = 1.0
"""Who only looks whether a set is being written holds its lock for a moment: a writer must not give up for that."""

POLL_S = 0.01


def claim(folder: Path) -> FileLock:
    """The lock of a set, taken; it ends with the process. Raises BadInput that names who has it, RunFailed."""
    try:
        folder.mkdir(parents=True, exist_ok=True)
        lock = FileLock(folder / LOCK, thread_local=False)
        lock.acquire(timeout=PATIENCE_S, poll_interval=POLL_S)
    except Timeout:
        holder = (folder / f"{LOCK}.who").read_text() if (folder / f"{LOCK}.who").exists() else "another process"
        raise BadInput(f"{folder} is being written by {holder}; wait for it, or capture into another folder") from None
    except OSError as error:
        raise RunFailed(refusal(folder, error)) from error
    try:
        (folder / f"{LOCK}.who").write_text(f"process {os.getpid()} of {_user()} on {socket.gethostname()}")
    except OSError as error:
        lock.release()
        raise RunFailed(refusal(folder, error)) from error
    return lock


def release(lock: FileLock) -> None:
    """Let go of a set. Who wrote it is nobody's business once it is done: sets are copied to others."""
    try:
        Path(f"{lock.lock_file}.who").unlink(missing_ok=True)
    finally:
        lock.release()


def _user() -> str:
    try:
        return getpass.getuser()
    except (KeyError, OSError):  # a container may have no name for its user
        return str(os.getuid())
