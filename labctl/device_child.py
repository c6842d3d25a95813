"""A hardware device in a process of its own: the child's side. The parent's side is `labctl.device_process`."""

from __future__ import annotations

import contextlib
import json
import os
import queue
import signal
import sys
import threading
import time
import traceback
from collections.abc import Callable, Mapping
from typing import Any

from labctl.errors import LabctlError
from labctl.process import HEARTBEAT_S

Handler = Callable[..., Mapping[str, Any] | None]
Command = dict[str, Any]

LAST_WORDS_S = 2.0
"""What a child may take to make its device safe once its parent is gone. Then it ends, whatever it is doing."""


def serve(
    handlers: Mapping[str, Handler],
    *,
    at_end: Callable[[], None],
    idle: Callable[[], None] | None = None,
    idle_s: float = 0.05,
) -> None:
    """Obey the parent's commands, one by one, in this thread; call `at_end` when the parent lets go or dies. Then exit.

    handlers: by `op`; each gets the command's arguments by name and returns a mapping of JSON values or None. idle is
    called every `idle_s` while no command comes, for toolkits that must see their events.
    """
    signal.signal(signal.SIGINT, signal.SIG_IGN)  # Ctrl-C is the parent's to handle
    out = _Out()
    commands: queue.Queue[Command | None] = queue.Queue()
    for work in (lambda: _listen(commands), lambda: _beat(out)):
        threading.Thread(target=work, daemon=True).start()
    while True:
        try:
            command = commands.get(timeout=idle_s if idle is not None else None)
        except queue.Empty:
            if idle is not None:
                _in_words(idle)
            continue
        if command is None:
            _in_words(at_end)
            sys.stderr.flush()
            os._exit(0)  # vendor libraries may hang or crash in their own clean-up
        _obey(command, handlers, out)


class _Out:
    """The pipe to the parent. What libraries print goes to the log."""

    def __init__(self) -> None:
        self._file = os.fdopen(os.dup(1), "wb")
        os.dup2(2, 1)
        self._lock = threading.Lock()

    def send(self, message: Mapping[str, Any]) -> None:
        with contextlib.suppress(OSError), self._lock:  # a parent that is gone is noticed by `_listen`
            self._file.write(json.dumps(message).encode() + b"\n")
            self._file.flush()


def _listen(commands: queue.Queue[Command | None]) -> None:
    for line in sys.stdin.buffer:
        commands.put(json.loads(line))
    commands.put(None)
    time.sleep(LAST_WORDS_S)
    os._exit(1)


def _beat(out: _Out) -> None:
    while True:
        out.send({"op": "beat"})
        time.sleep(HEARTBEAT_S)


def _obey(command: Command, handlers: Mapping[str, Handler], out: _Out) -> None:
    op, serial = command.pop("op"), command.pop("serial")
    try:
        answer = handlers[op](**command)
        out.send({"op": "answer", "serial": serial, "answer": dict(answer or {})})
    except LabctlError as error:
        out.send({"op": "failed", "serial": serial, "error": type(error).__name__, "text": str(error)})
    except Exception as error:  # noqa: BLE001 - whatever a vendor library raises must reach the parent in words
        traceback.print_exc()
        text = f"{type(error).__name__}: {error}"
        out.send({"op": "failed", "serial": serial, "error": "HardwareError", "text": text})


def _in_words(work: Callable[[], None]) -> None:
    try:
        work()
    except Exception:  # noqa: BLE001 - nobody is there to raise it to; the log has it
        traceback.print_exc()
