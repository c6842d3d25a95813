"""Lives of a process that is killed: forked from a parent that has loaded everything, so that a life begins at once."""

from __future__ import annotations

import mmap
import os
import signal
import struct
import sys
import traceback
from collections.abc import Callable

FIELDS = ("safe", "marks", "calls", "appended", "phase", "disk", "said")
"""What a life writes on the board: frames and marks that were acknowledged, calls to the system, frames handed to the
writer, what its capture and its disk do just now, and how many sentences of recovery it said."""

LONGEST_S = 120
"""A life that hangs is ended, and said to have failed."""


class Board:
    """Numbers that a life writes and its parent reads, also when it was killed."""

    def __init__(self) -> None:
        self._memory = mmap.mmap(-1, 8 * len(FIELDS))

    def __getitem__(self, field: str) -> int:
        return int(struct.unpack_from("<q", self._memory, 8 * FIELDS.index(field))[0])

    def __setitem__(self, field: str, value: int) -> None:
        struct.pack_into("<q", self._memory, 8 * FIELDS.index(field), value)

    def clear(self) -> None:
        for field in FIELDS:
            self[field] = 0


def begin(work: Callable[[], object]) -> int:
    """Process id of a new life that does `work`. It ends with 0, or with 1 and a trace on the standard error."""
    pid = os.fork()
    if pid:
        return pid
    code = 1
    signal.alarm(LONGEST_S)
    try:
        work()
        code = 0
    except BaseException:  # noqa: BLE001 - a fork must not go on as its parent
        traceback.print_exc()
        sys.stderr.flush()
    finally:
        os._exit(code)


def ended(pid: int) -> bool:
    """Wait for the end; whether it was killed. Raises RuntimeError when it failed by itself."""
    _, status = os.waitpid(pid, 0)
    if os.WIFSIGNALED(status) and os.WTERMSIG(status) == signal.SIGKILL:
        return True
    if status != 0:
        raise RuntimeError(f"a life ended with status {status}; its trace stands above")
    return False
