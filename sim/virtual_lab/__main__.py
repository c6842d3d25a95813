"""`python -m sim.virtual_lab up`: keep a virtual lab up in the foreground, for several runs or tests to join."""

from __future__ import annotations

import argparse
import os
import shlex
import signal
import sys
import threading

from labctl.errors import BadInput, LabctlError
from labctl.rig_file import find_rig, load_rig
from sim.virtual_lab.lab import JOIN_VARIABLE, VirtualLab
from sim.virtual_lab.world import VirtualLabSettings, lab_settings


def main(arguments: list[str] | None = None) -> int:
    """Start the lab, print what a shell must export to join it, wait for Ctrl-C or SIGTERM, end the lab."""
    parser = argparse.ArgumentParser(prog="python -m sim.virtual_lab", description=__doc__)
    commands = parser.add_subparsers(required=True)
    up = commands.add_parser("up", help="start a lab and keep it up until Ctrl-C")
    up.add_argument("--display", choices=["auto", "xorg", "xvfb"], help="the X server; by default that of the rig file")
    up.add_argument("--rig", default="virtual", help="rig file or bare name whose twin and world the lab stands for")
    chosen = parser.parse_args(arguments)
    try:
        return _up(chosen.rig, chosen.display)
    except LabctlError as error:
        sys.stderr.write(f"{error}\n")
        return int(error.exit_code)


def _up(rig: str, display: str | None) -> int:
    spec = load_rig(find_rig(rig), overrides=[] if display is None else [f"world.display={display}"])
    if not isinstance(spec.world, VirtualLabSettings):
        raise BadInput(f"the rig {spec.name} has no world of type virtual-lab; give --rig virtual")
    os.environ.pop(JOIN_VARIABLE, None)  # of a lab that ended, left behind in this shell; `up` starts one of its own
    asked_to_end = threading.Event()
    for number in (signal.SIGINT, signal.SIGTERM):
        signal.signal(number, lambda *_: asked_to_end.set())
    with VirtualLab(lab_settings(spec.world, spec.twin, spec.roads)) as lab:
        for name, value in {**lab.environment, JOIN_VARIABLE: str(lab.folder)}.items():
            sys.stdout.write(f"export {name}={shlex.quote(value)}\n")
        sys.stdout.write(f"# ready on {lab.display}; Ctrl-C ends it\n")
        sys.stdout.flush()
        asked_to_end.wait()
    return 0


if __name__ == "__main__":
    sys.exit(main())
