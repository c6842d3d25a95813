"""Child processes: started, watched, stopped and reaped here and nowhere else.

A child reads one JSON line per command on its standard input and writes one JSON line per message on its
standard output; what it prints goes to a log file. It has a session of its own, so that the terminal's Ctrl-C
reaches only the parent, and it ends by itself when its parent is gone. Steps run in one such child, hardware devices
in one each; see `labctl.device_process`.
"""

from __future__ import annotations

import contextlib
import json
import os
import queue
import subprocess
import sys
import threading
import time
from collections.abc import Iterator, Mapping, Sequence
from pathlib import Path
from typing import IO, Any

from labctl.errors import RunFailed

HEARTBEAT_S = 1.0
SILENCE_LIMIT_S = 120.0
"""A child that sends nothing at all for so long is taken for dead. It beats every HEARTBEAT_S."""

ABORT_GRACE_S = 0.5
QUIT_GRACE_S = 3.0


class ChildDied(RunFailed):
    """A child process ended by itself."""


class Child:
    """One supervised child process: Python, running `module`.

    Messages are mappings with an `op`: `beat`, `progress`, `metric`, `log`, `done`, `stopped`, `failed`. environment:
    variables in addition to our own. inherit: file descriptors that the child shall have under the same numbers.
    """

    def __init__(
        self,
        log_path: Path,
        module: str = "labctl.child",
        *,
        environment: Mapping[str, str] | None = None,
        inherit: Sequence[int] = (),
    ) -> None:
        self.log_path = log_path
        self.heard_s = time.monotonic()
        """When the child last said anything, in seconds of the monotonic clock."""
        self._messages: queue.Queue[dict[str, Any] | None] = queue.Queue()
        with log_path.open("ab") as log:
            self._process = subprocess.Popen(
                [sys.executable, "-P", "-m", module],
                stdin=subprocess.PIPE,
                stdout=subprocess.PIPE,
                stderr=log,
                start_new_session=True,
                env={**os.environ, "PYTHONUNBUFFERED": "1", **(environment or {})},
                pass_fds=tuple(inherit),
            )
        self._reader = threading.Thread(target=self._read, name="labctl-child-reader", daemon=True)
        self._reader.start()

    @property
    def pid(self) -> int:
        """Process id of the child."""
        return self._process.pid

    @property
    def alive(self) -> bool:
        """Whether the process runs."""
        return self._process.poll() is None

    def send(self, command: dict[str, Any]) -> None:
        """Send one command. A child that is gone is noticed by `messages`."""
        stdin: IO[bytes] | None = self._process.stdin
        with contextlib.suppress(BrokenPipeError, ValueError, OSError):
            if stdin is not None:
                stdin.write(json.dumps(command).encode() + b"\n")
                stdin.flush()

    def messages(self, poll_s: float = 0.1) -> Iterator[dict[str, Any] | None]:
        """Yield messages as they come, and None every `poll_s` without one, so that the caller can look around.

        Raises RunFailed when the child dies or falls silent.
        """
        while True:
            try:
                message = self.next_message(poll_s)
            except ChildDied as died:
                raise RunFailed(f"{died}; `labctl resume` goes on at the last checkpoint") from None
            if message is None and time.monotonic() - self.heard_s > SILENCE_LIMIT_S:
                self.kill()
                raise RunFailed(
                    f"the child process {self.pid} was silent for {SILENCE_LIMIT_S:.0f} s and was killed; "
                    f"its log is {self.log_path}; `labctl resume` goes on at the last checkpoint"
                )
            yield message

    def next_message(self, limit_s: float) -> dict[str, Any] | None:
        """The next message, or None when none has come within `limit_s`. Raises ChildDied."""
        try:
            message = self._messages.get(timeout=max(limit_s, 0.0))
        except queue.Empty:
            return None
        if message is None:
            self._messages.put(None)  # whoever asks again shall be told again
            raise ChildDied(
                f"the child process {self.pid} died ({_death(self._process.wait())}); its log is {self.log_path}"
            )
        return message

    def kill(self) -> None:
        """SIGKILL, at once. May be called from a signal handler, and twice."""
        with contextlib.suppress(ProcessLookupError):
            self._process.kill()

    def end(self, *, grace_s: float) -> None:
        """Close its input, wait, then terminate, then kill. Always reaps."""
        if self._process.stdin is not None:
            with contextlib.suppress(OSError):
                self._process.stdin.close()
        try:
            self._process.wait(grace_s)
        except subprocess.TimeoutExpired:
            self._process.terminate()
            try:
                self._process.wait(ABORT_GRACE_S)
            except subprocess.TimeoutExpired:
                self.kill()
                self._process.wait()
        self._reader.join(1.0)
        if self._process.stdout is not None:
            self._process.stdout.close()

    def _read(self) -> None:
        stdout = self._process.stdout
        if stdout is not None:
            for line in stdout:
                with contextlib.suppress(ValueError):
                    message = json.loads(line)
                    self.heard_s = time.monotonic()
                    if message.get("op") != "beat":
                        self._messages.put(message)
        self._messages.put(None)


def _death(code: int) -> str:
    return f"signal {-code}" if code < 0 else f"exit code {code}"
