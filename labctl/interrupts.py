"""Ctrl-C in three levels: finish the block and stop, abort with clean-up, kill the children."""

from __future__ import annotations

import contextlib
import signal
import threading
from collections.abc import Callable, Iterator
from enum import IntEnum
from types import FrameType, TracebackType
from typing import Self

from labctl.errors import Stopped


class StopLevel(IntEnum):
    """How urgently the user wants the run to end."""

    NONE = 0
    AFTER_BLOCK = 1
    ABORT = 2
    KILL = 3


REASONS = {
    StopLevel.AFTER_BLOCK: "stopped by the user after the current block",
    StopLevel.ABORT: "aborted by the user",
    StopLevel.KILL: "aborted by the user, children killed",
}


WORDS = {
    StopLevel.AFTER_BLOCK: "stopping after the current block; Ctrl-C again aborts",
    StopLevel.ABORT: "aborting, making the rig safe; Ctrl-C again kills the children",
    StopLevel.KILL: "killing the children",
}


class Aborted(Stopped):
    """The user does not want to wait for the current block."""


class Interrupts:
    """Counts requests to stop. As a context manager in the main thread it listens to SIGINT, SIGTERM and SIGHUP.

    SIGINT raises the level by one; SIGTERM and SIGHUP abort at once. From ABORT on, `Aborted` is raised in the main
    thread wherever it is, but only inside `exposed()`, and there not inside `shield()`; and by a signal only once, so
    that whatever unwinds can finish unwinding.
    """

    def __init__(self, say: Callable[[str], None] | None = None) -> None:
        self.level = StopLevel.NONE
        self.on_kill: Callable[[], None] | None = None
        self._say = say
        self._shields = 1
        self._raised = False
        self._old: dict[int, object] = {}

    @property
    def reason(self) -> str:
        """Why the run ended, in words."""
        return REASONS.get(self.level, "")

    def request(self, level: StopLevel) -> None:
        """Ask to stop at `level`; never lowers it."""
        self.level = max(self.level, level)
        if self.level == StopLevel.KILL and self.on_kill is not None:
            self.on_kill()
        if self._say is not None:
            with contextlib.suppress(OSError, ValueError):  # the terminal may be gone: that is why we are called
                self._say(WORDS[self.level])

    def check(self) -> None:
        """Raise `Aborted` when an abort was asked for and may be raised here."""
        if self.level >= StopLevel.ABORT and self._shields <= 0:
            self._raised = True
            raise Aborted(self.reason)

    @contextlib.contextmanager
    def exposed(self) -> Iterator[None]:
        """The part that an abort may end anywhere. Everything outside, such as making the rig safe, is left alone."""
        self._shields -= 1
        try:
            self.check()
            yield
        finally:
            self._shields += 1

    @contextlib.contextmanager
    def shield(self) -> Iterator[None]:
        """A short part inside `exposed()` that an abort must not tear: it is raised when the part is done."""
        self._shields += 1
        try:
            yield
        finally:
            self._shields -= 1
        self.check()

    def __enter__(self) -> Self:
        if threading.current_thread() is threading.main_thread():
            numbers = [signal.SIGINT, signal.SIGTERM]
            if signal.getsignal(signal.SIGHUP) != signal.SIG_IGN:  # under nohup, a closed terminal must not end a run
                numbers.append(signal.SIGHUP)
            for number in numbers:
                self._old[number] = signal.signal(number, self._on_signal)
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        for number, old in self._old.items():
            signal.signal(number, old)  # type: ignore[arg-type]
        self._old.clear()

    def _on_signal(self, number: int, frame: FrameType | None) -> None:
        step = StopLevel(min(self.level + 1, StopLevel.KILL))
        self.request(step if number == signal.SIGINT else max(step, StopLevel.ABORT))
        if not self._raised:
            self.check()
