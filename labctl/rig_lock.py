"""One process at a time holds a rig, and the next one knows whether the last let go properly."""

from __future__ import annotations

import getpass
import json
import os
import socket
import time
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from filelock import FileLock, Timeout

from labctl.durable import write_json
from labctl.errors import RigBusy


@dataclass(frozen=True)
class LastHolder:
    """A holder that died without making the rig safe."""

    pid: int
    since: str
    run: str | None


class RigLock:
    """An advisory lock of the operating system: it falls when its process dies, however it dies.

    Beside it lies a note of who holds the rig; `release` removes it once the rig is safe. A note found on
    `acquire` therefore says that the last holder died, and the rig may be in any state.
    """

    def __init__(self, folder: Path, rig_name: str) -> None:
        folder.mkdir(parents=True, exist_ok=True)
        self.rig_name = rig_name
        self._lock = FileLock(folder / f"{rig_name}.lock", thread_local=False)
        self._note = folder / f"{rig_name}.holder.json"

    def acquire(self, *, run: str | None = None, wait_s: float = 0.0) -> LastHolder | None:
        """Take the lock; returns the last holder when it did not let go properly. Raises RigBusy after `wait_s`."""
        try:
            self._lock.acquire(timeout=wait_s)
        except Timeout:
            raise RigBusy(self._busy_text()) from None
        try:
            return self._take_over(run)
        except BaseException:
            self._lock.release()
            raise

    def _take_over(self, run: str | None) -> LastHolder | None:
        note = self._read_note()
        last = None
        if note is not None:
            last = LastHolder(int(note.get("pid", 0)), str(note.get("since", "an unknown time")), note.get("run"))
        write_json(
            self._note,
            {
                "pid": os.getpid(),
                "user": _user(),
                "host": socket.gethostname(),
                "since": time.strftime("%Y-%m-%d %H:%M:%S"),
                "run": run,
            },
        )
        return last

    def release(self, *, safe: bool) -> None:
        """Let go; the note stays when the rig could not be made safe."""
        if not self._lock.is_locked:
            return
        if safe:
            self._note.unlink(missing_ok=True)
        self._lock.release()

    def _read_note(self) -> dict[str, Any] | None:
        try:
            note = json.loads(self._note.read_text())
        except (OSError, ValueError):
            return None
        return note if isinstance(note, dict) else None

    def _busy_text(self) -> str:
        note = self._read_note()
        holder = "another process"
        if note is not None:
            run = f", run {note['run']}" if note.get("run") else ""
            who, where = note.get("user", "?"), note.get("host", "?")
            holder = f"process {note.get('pid', '?')} of {who} on {where} since {note.get('since', '?')}{run}"
        return f"rig '{self.rig_name}' is held by {holder}; wait for it, stop it, or use another rig"


def _user() -> str:
    """Name of the user; in a container that does not know it, the number."""
    try:
        return getpass.getuser()
    except (KeyError, OSError):
        return str(os.getuid())
