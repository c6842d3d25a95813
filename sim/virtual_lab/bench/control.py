"""The control socket of the bench: one JSON object a line in, one a line out. Tests and the lab's owner use it.

{"op": "truth"}                                      everything that is true on the bench
{"op": "statistics"}                                 frames delivered and failed, pictures read, slowest reading
{"op": "rebuild", "truth": {...}}                    stand for another truth from the next exposure on
{"op": "set", "display": "mask", "latency_s": 0.01, "response_s": 0.002}
{"op": "fault", "name": "stall", "seconds": 3}       no frame for so long
{"op": "fault", "name": "fail_next", "count": 2}     the next exposures fail
{"op": "fault", "name": "die"}                       the process ends at once
"""

from __future__ import annotations

import json
import os
import socket
import threading
from pathlib import Path
from typing import Any

from sim.virtual_lab.bench.bench import Bench


class ControlSocket:
    """Answers on a Unix stream socket until the process ends. Every answer has `ok`, and `error` when it is false."""

    def __init__(self, path: Path, bench: Bench) -> None:
        self._bench = bench
        self._listener = socket.socket(socket.AF_UNIX, socket.SOCK_STREAM)
        self._listener.bind(str(path))
        self._listener.listen(8)
        threading.Thread(target=self._accept, name="control", daemon=True).start()

    def _accept(self) -> None:
        while True:
            connection, _ = self._listener.accept()
            threading.Thread(target=self._serve, args=(connection,), name="control", daemon=True).start()

    def _serve(self, connection: socket.socket) -> None:
        with connection, connection.makefile("rw", encoding="utf-8") as lines:
            for line in lines:
                lines.write(json.dumps(self._answer(line)) + "\n")
                lines.flush()

    def _answer(self, line: str) -> dict[str, Any]:
        try:
            return {"ok": True, **self._do(json.loads(line))}
        except (KeyError, TypeError, ValueError) as error:
            return {"ok": False, "error": f"{type(error).__name__}: {error}"}

    def _do(self, command: dict[str, Any]) -> dict[str, Any]:
        bench, op = self._bench, command["op"]
        if op == "truth":
            return bench.truth()
        if op == "statistics":
            return bench.statistics()
        if op == "rebuild":
            bench.rebuild(command["truth"])
        elif op == "set":
            timing = {"latency_s": command.get("latency_s"), "response_s": command.get("response_s")}
            bench.set_timing(command["display"], **timing)
        elif op == "fault":
            self._fault(command)
        else:
            raise ValueError(f"op is {op!r}; truth, statistics, rebuild, set or fault is needed")
        return {}

    def _fault(self, command: dict[str, Any]) -> None:
        name = command["name"]
        if name == "stall":
            self._bench.stall(float(command["seconds"]))
        elif name == "fail_next":
            self._bench.fail_next(int(command["count"]))
        elif name == "die":
            os._exit(1)
        else:
            raise ValueError(f"name is {name!r}; stall, fail_next or die is needed")
