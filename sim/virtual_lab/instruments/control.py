"""The hidden hand: a Unix socket on which faults are injected, one JSON line for each request and each answer.

{"instrument": "lamp", "fault": "late", "n": 1, "seconds": 0.5}     see `faults.Kind`; n answers are spoiled
{"instrument": "lamp", "fault": "refuse"}        switched off, until "none"
{"instrument": "lamp", "fault": "error", "number": -310, "text": "System error"}      an entry in the error queue
{"instrument": "lamp", "fault": "mains_off"}     it goes dark, the controller still answers; back with "mains_on"
{"instrument": "lamp", "fault": "heat", "degrees": 50}         that much hotter than it should be
{"instrument": "stage", "fault": "stuck"}        it does not move any more
{"instrument": "lamp", "fault": "none"}          all is well again, except that a lamp stays as it is
{"instrument": null}                             the values in the array, by name
"""

from __future__ import annotations

import json
import socket
import threading
from collections.abc import Mapping
from pathlib import Path
from typing import Any

from sim.virtual_lab.instruments.bench_light import BenchLight, Slot
from sim.virtual_lab.instruments.devices import LightSource, TranslationStage, VirtualInstrument
from sim.virtual_lab.instruments.faults import KINDS, Fault, Faults
from sim.virtual_lab.instruments.transport import Server


class Control:
    """Does what comes over the control socket to the instruments. faults and servers go by the instrument's name."""

    def __init__(
        self,
        instruments: Mapping[str, VirtualInstrument],
        faults: Mapping[str, Faults],
        servers: Mapping[str, list[Server]],
        light: BenchLight,
    ) -> None:
        self._instruments, self._faults, self._servers, self._light = instruments, faults, servers, light

    def serve(self, path: Path) -> None:
        """Listen at `path`, in a thread."""
        listener = socket.socket(socket.AF_UNIX, socket.SOCK_STREAM)
        path.unlink(missing_ok=True)
        listener.bind(str(path))
        listener.listen()

        def accept() -> None:
            while True:
                connection, _ = listener.accept()
                threading.Thread(target=self._converse, args=(connection,), daemon=True).start()

        threading.Thread(target=accept, daemon=True).start()

    def do(self, request: Mapping[str, Any]) -> dict[str, Any]:
        """Carry out one request. Raises KeyError, ValueError or TypeError for one that makes no sense."""
        name = request["instrument"]
        if name is None:
            return {slot.name.lower(): self._light[slot] for slot in Slot}
        instrument, kind = self._instruments[name], request["fault"]
        if kind in KINDS:
            fault = Fault(kind, float(request.get("seconds", 0.0)), str(request.get("text", "")))
            self._faults[name].inject(fault, int(request.get("n", 1)))
        elif kind == "refuse":
            for server in self._servers[name]:
                server.refuse()
        elif kind == "error":
            instrument.complain(int(request.get("number", -310)), str(request.get("text", "System error")))
        elif kind == "none":
            self._mend(name, instrument)
        elif isinstance(instrument, LightSource) and kind in ("mains_off", "mains_on"):
            with instrument.lock:
                instrument.lose_mains() if kind == "mains_off" else instrument.regain_mains()
        elif isinstance(instrument, LightSource) and kind == "heat":
            instrument.extra_heat_c = float(request["degrees"])
        elif isinstance(instrument, TranslationStage) and kind == "stuck":
            with instrument.lock:
                instrument.stuck = True
                instrument.axis.stop()
        else:
            raise ValueError(f"{name} has no fault '{kind}'")
        return {}

    def _mend(self, name: str, instrument: VirtualInstrument) -> None:
        self._faults[name].clear()
        for server in self._servers[name]:
            if not server.listening:
                server.listen()
        if isinstance(instrument, LightSource):
            instrument.extra_heat_c = 0.0
        if isinstance(instrument, TranslationStage):
            instrument.stuck = False

    def _converse(self, connection: socket.socket) -> None:
        with connection, connection.makefile("rwb") as lines:
            for line in lines:
                try:
                    answer = {"ok": True, **self.do(json.loads(line))}
                except (KeyError, ValueError, TypeError) as error:
                    answer = {"ok": False, "error": f"{type(error).__name__}: {error}"}
                lines.write(json.dumps(answer).encode() + b"\n")
                lines.flush()


def request(path: Path | str, **what: Any) -> dict[str, Any]:
    """Send one request to the control socket at `path`. Raises ValueError when it makes no sense there."""
    with socket.socket(socket.AF_UNIX, socket.SOCK_STREAM) as connection:
        connection.settimeout(10.0)
        connection.connect(str(path))
        with connection.makefile("rwb") as lines:
            lines.write(json.dumps(what).encode() + b"\n")
            lines.flush()
            answer: dict[str, Any] = json.loads(lines.readline())
    if not answer.pop("ok"):
        raise ValueError(answer["error"])
    return answer
