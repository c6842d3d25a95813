"""The child's side of `labctl.process`: run steps of a run folder on command, one after the other."""

from __future__ import annotations

import json
import os
import sys
import threading
import time
import traceback
from collections.abc import Callable
from pathlib import Path
from typing import Any

from labctl.errors import LabctlError, Stopped
from labctl.process import HEARTBEAT_S


class Parent:
    """The pipe to the parent. Messages of all threads go out line by line."""

    def __init__(self) -> None:
        self._out = os.fdopen(os.dup(1), "wb")
        os.dup2(2, 1)  # what libraries print belongs in the log, not in the pipe
        self._lock = threading.Lock()
        self.stop_asked = threading.Event()
        self.commands: list[dict[str, Any]] = []
        self._answers: list[dict[str, Any]] = []
        self._arrived = threading.Condition()

    def send(self, message: dict[str, Any]) -> None:
        """Send one message; a parent that is gone ends this process."""
        try:
            with self._lock:
                self._out.write(json.dumps(message).encode() + b"\n")
                self._out.flush()
        except OSError:
            os._exit(1)

    def listen(self) -> None:
        """Read commands until the parent closes the pipe or dies; then end this process, whatever it is doing."""
        for line in sys.stdin.buffer:
            command = json.loads(line)
            if command["op"] == "stop":
                self.stop_asked.set()
                continue
            with self._arrived:
                (self._answers if command["op"] == "answer" else self.commands).append(command)
                self._arrived.notify_all()
        os._exit(0)

    def next_command(self) -> dict[str, Any]:
        """Wait for the next command."""
        with self._arrived:
            while not self.commands:
                self._arrived.wait()
            return self.commands.pop(0)

    def ask(self, message: dict[str, Any]) -> dict[str, Any]:
        """Send a question and wait for its answer. One question at a time; see `labctl.rig_proxy`."""
        with self._arrived:
            self.send(message)
            while not self._answers:
                self._arrived.wait()
            return self._answers.pop(0)

    def beat(self) -> None:
        """Say every HEARTBEAT_S that this process lives."""
        while True:
            self.send({"op": "beat"})
            time.sleep(HEARTBEAT_S)


def main() -> None:
    """Obey commands `warm` (import what the steps need) and `step` (run one step) until the parent lets go."""
    parent = Parent()
    for work in (parent.listen, parent.beat):
        threading.Thread(target=work, daemon=True).start()
    while True:
        command = parent.next_command()
        _guarded(parent, lambda command=command: _obey(command, parent))  # type: ignore[misc]


def _obey(command: dict[str, Any], parent: Parent) -> None:
    from labctl.child_step import run_step_of, warm_up

    if command["op"] == "warm":
        warm_up(command["modules"])
        return
    result = run_step_of(Path(command["run"]), command["key"], command["hash"], parent)
    parent.send({"op": "done", **result})


def _guarded(parent: Parent, work: Callable[[], None]) -> None:
    try:
        work()
    except Stopped as stopped:
        parent.stop_asked.clear()
        parent.send({"op": "stopped", "text": str(stopped)})
    except LabctlError as error:
        traceback.print_exc()
        parent.send({"op": "failed", "text": str(error), "exit_code": int(error.exit_code)})
    except Exception as error:  # noqa: BLE001 - whatever a step raises must reach the parent in words
        traceback.print_exc()
        parent.send({"op": "failed", "text": f"{type(error).__name__}: {error}", "exit_code": 1})


if __name__ == "__main__":
    main()
