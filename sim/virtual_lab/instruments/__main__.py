"""The process: serves all instruments, says where in one JSON line, ends with its standard input."""

from __future__ import annotations

import json
import sys
import tempfile
import threading
import time
from pathlib import Path
from typing import Any

from sim.virtual_lab.instruments.bench_light import BenchLight
from sim.virtual_lab.instruments.control import Control
from sim.virtual_lab.instruments.devices import (
    LightSource,
    PowerMeter,
    PowerSupply,
    Shutter,
    TranslationStage,
    VirtualInstrument,
)
from sim.virtual_lab.instruments.faults import Faults
from sim.virtual_lab.instruments.hislip import HislipServer
from sim.virtual_lab.instruments.raw_socket import RawSocketServer
from sim.virtual_lab.instruments.transport import Server

TICK_S = 0.005
"""How old the array may be: half of the travel of the shutter blade."""


def main(arguments: list[str]) -> int:
    """Serve until the standard input ends. Configuration: folder, array, seed; see the package."""
    config: dict[str, Any] = json.loads(Path(arguments[0]).read_text()) if arguments else {}
    folder = Path(config.get("folder") or tempfile.mkdtemp(prefix="labctl-instruments-"))
    folder.mkdir(parents=True, exist_ok=True)
    seed = int(config.get("seed", 1))
    light = BenchLight(Path(config.get("array") or folder / "instruments.array"))
    instruments: dict[str, VirtualInstrument] = {
        "lamp": LightSource(light, seed),
        "power_meter": PowerMeter(light, seed),
        "shutter": Shutter(light, seed),
        "supply": PowerSupply(light, seed),
        "stage": TranslationStage(light, seed),
    }
    faults = {name: Faults() for name in instruments}
    resources: dict[str, str] = {}
    servers: dict[str, list[Server]] = {}
    for name, instrument in instruments.items():
        raw, hislip = RawSocketServer(instrument, faults[name]), HislipServer(instrument, faults[name])
        servers[name] = [raw, hislip]
        for server in servers[name]:
            server.listen()
        resources[f"VIRTUAL_{name.upper()}"] = raw.resource
        resources[f"VIRTUAL_{name.upper()}_HISLIP"] = hislip.resource
    control = folder / "instruments.control"
    Control(instruments, faults, servers, light).serve(control)
    threading.Thread(target=_keep_up_to_date, args=(list(instruments.values()),), daemon=True).start()
    sys.stdout.write(json.dumps({"resources": resources, "control": str(control)}) + "\n")
    sys.stdout.flush()
    while sys.stdin.buffer.read(1 << 16):
        pass
    return 0


def _keep_up_to_date(instruments: list[VirtualInstrument]) -> None:
    while True:
        for instrument in instruments:
            with instrument.lock:
                instrument.tick()
        time.sleep(TICK_S)


if __name__ == "__main__":
    sys.exit(main(sys.argv[1:]))
