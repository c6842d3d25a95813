"""`python -m sim.virtual_lab.bench CONFIG.json`: the bench as a process. It ends when its standard input does.

CONFIG.json holds {"truth": ..., "places": ...} as in `sim.virtual_lab.bench.settings`. One line of JSON on standard
output says that the sockets are there: {"ready": true}, or {"error": "..."}.
"""

from __future__ import annotations

import json
import sys
from pathlib import Path

from sim.virtual_lab.bench.bench import Bench
from sim.virtual_lab.bench.control import ControlSocket
from sim.virtual_lab.bench.frame_link import FrameLink
from sim.virtual_lab.bench.screen_watch import ScreenGone
from sim.virtual_lab.bench.settings import places_from, truth_from


def main(config_path: Path) -> int:
    """Serve until the standard input ends."""
    config = json.loads(config_path.read_text())
    places = places_from(config["places"])
    try:
        bench = Bench(truth_from(config["truth"]), places)
    except (ScreenGone, ValueError) as error:
        print(json.dumps({"error": str(error)}), flush=True)  # noqa: T201 - the line that the lab waits for
        return 1
    FrameLink(Path(places.socket), Path(places.memory), shape=lambda: bench.shape, render=bench.frame)
    ControlSocket(Path(places.control), bench)
    print(json.dumps({"ready": True}), flush=True)  # noqa: T201 - the line that the lab waits for
    sys.stdin.read()
    return 0


if __name__ == "__main__":
    sys.exit(main(Path(sys.argv[1])))
