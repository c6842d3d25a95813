"""The process that keeps a virtual lab: it starts screens, instruments and bench, and ends them when its owner is gone.

`python -m sim.virtual_lab.keeper CONFIG.json` with the fields of `LabPlan`. One line of JSON on standard output:
{"environment": {...}, "display": ..., "note": ...} when all is ready, or {"error": "..."}. It stops at the end of its
standard input, at SIGTERM, or when its parent has died; its children die with it even when it is killed.
"""

from __future__ import annotations

import ctypes
import json
import os
import select
import shutil
import signal
import struct
import subprocess
import sys
import time
from collections.abc import Callable
from dataclasses import asdict, dataclass
from pathlib import Path
from types import FrameType
from typing import Any

from labctl.errors import HardwareError, LabctlError
from sim.virtual_lab.screens import MASK_MONITOR, SCENE_MONITOR, DisplayChoice, Screens, end_server, start_screens

READY_LIMIT_S = 20.0
GRACE_S = 2.0
PR_SET_PDEATHSIG = 1
LAB_FILE = "lab.json"


@dataclass(frozen=True)
class LabPlan:
    """What to start. folder: for sockets and shared files, its path short. truth: of the bench, as JSON values."""

    folder: str
    logs: str
    display: DisplayChoice
    scene_shape: tuple[int, int]
    mask_shape: tuple[int, int]
    truth: dict[str, Any]
    instruments_seed: int = 0


class Stop(BaseException):
    """Somebody asked the keeper to end."""


class Keeper:
    """The parts of one lab. Single-threaded: a part dies with the thread that started it."""

    def __init__(self, plan: LabPlan) -> None:
        self._plan = plan
        self._folder, self._logs = Path(plan.folder), Path(plan.logs)
        self._parts: list[subprocess.Popen[bytes]] = []
        self._screens: Screens | None = None
        self._libc = ctypes.CDLL(None, use_errno=True)

    def start(self) -> dict[str, Any]:
        """Start all parts; returns what the lab tells its users. Raises HardwareError."""
        array = self._folder / "instruments"
        array.write_bytes(struct.pack("<4d", 0.0, 0.0, 0.0, 0.0))
        faults = self._folder / "faults"
        faults.touch()
        config = {"folder": str(self._folder), "array": str(array), "seed": self._plan.instruments_seed}
        instruments = self._start_part("instruments", config, {})
        self._screens = start_screens(
            self._plan.display,
            self._logs,
            scene_shape=self._plan.scene_shape,
            mask_shape=self._plan.mask_shape,
            before_exec=self._dying_by(signal.SIGTERM),
        )
        places = {
            "display": self._screens.display,
            "mask_monitor": list(self._screens.monitors[MASK_MONITOR]),
            "scene_monitor": list(self._screens.monitors[SCENE_MONITOR]),
            "socket": str(self._folder / "bench"),
            "memory": str(self._folder / "frames"),
            "control": str(self._folder / "bench-control"),
            "instruments": str(array),
        }
        # One thread: frames are small, and a lab shares its computer with the drivers that it is there to test.
        bench = self._start_part(
            "bench",
            {"truth": self._plan.truth, "places": places},
            {"OPENBLAS_NUM_THREADS": "1", "OMP_NUM_THREADS": "1"},
        )
        from sim.virtual_lab.producer.build import build_producer

        producer = build_producer()
        resources = self._ready("instruments", instruments)
        self._ready("bench", bench)
        environment = {
            "DISPLAY": self._screens.display,
            "GDK_BACKEND": "x11",
            "SDL_VIDEODRIVER": "x11",
            "GENICAM_GENTL64_PATH": str(producer.parent),
            "LABCTL_BENCH_SOCKET": places["socket"],
            "LABCTL_BENCH_MEMORY": places["memory"],
            "LABCTL_BENCH_INSTRUMENTS": places["instruments"],
            "LABCTL_PRODUCER_FAULTS": str(faults),
            **resources["resources"],
        }
        lab = {
            "environment": environment,
            "display": self._screens.kind,
            "note": self._screens.note,
            "bench_control": places["control"],
            "instruments_control": resources.get("control"),
            "plan": asdict(self._plan),
            "pids": {"x-server": self._screens.process.pid, "instruments": instruments.pid, "bench": bench.pid},
        }
        written = self._folder / f"{LAB_FILE}.new"
        written.write_text(json.dumps(lab))
        written.rename(self._folder / LAB_FILE)
        return lab

    def stop(self) -> None:
        """End all parts, remove sockets and shared files."""
        for part in self._parts:
            if part.stdin is not None:
                part.stdin.close()
        end_s = time.monotonic() + GRACE_S
        for part in self._parts:
            try:
                part.wait(max(0.0, end_s - time.monotonic()))
            except subprocess.TimeoutExpired:
                part.kill()
                part.wait()
        if self._screens is not None:
            end_server(self._screens.process)
        shutil.rmtree(self._folder, ignore_errors=True)

    def _start_part(self, name: str, config: dict[str, Any], environment: dict[str, str]) -> subprocess.Popen[bytes]:
        file = self._folder / f"{name}.json"
        file.write_text(json.dumps(config))
        with (self._logs / f"{name}.log").open("wb") as log:
            part = subprocess.Popen(
                [sys.executable, "-P", "-m", f"sim.virtual_lab.{name}", str(file)],
                stdin=subprocess.PIPE,
                stdout=subprocess.PIPE,
                stderr=log,
                env={**os.environ, **environment},
                preexec_fn=self._dying_by(signal.SIGKILL),
            )
        self._parts.append(part)
        return part

    def _ready(self, name: str, part: subprocess.Popen[bytes]) -> dict[str, Any]:
        """The first line that a part prints. Raises HardwareError when it ends, complains, or stays silent."""
        if part.stdout is None:
            raise HardwareError(f"the {name} of the virtual lab has no output")
        ready, _, _ = select.select([part.stdout], [], [], READY_LIMIT_S)
        line = part.stdout.readline() if ready else b""
        if not line:
            log = self._logs / f"{name}.log"
            said = log.read_text(errors="replace").strip().splitlines()[-3:]
            fate = f"was silent for {READY_LIMIT_S:g} s" if part.poll() is None else f"ended with {part.returncode}"
            raise HardwareError(f"the {name} of the virtual lab {fate}; its log says: {' | '.join(said) or 'nothing'}")
        said = json.loads(line)
        if "error" in said:
            raise HardwareError(f"the {name} of the virtual lab did not start: {said['error']}")
        return dict(said)

    def _dying_by(self, death: signal.Signals) -> Callable[[], None]:
        libc = self._libc

        def before_exec() -> None:
            libc.prctl(PR_SET_PDEATHSIG, int(death), 0, 0, 0)

        return before_exec


def main(config: Path) -> int:
    """Keep the lab until it is no longer wanted."""
    plan = LabPlan(**json.loads(config.read_text()))
    keeper, owner = Keeper(plan), os.getppid()
    for number in (signal.SIGTERM, signal.SIGINT, signal.SIGHUP):
        signal.signal(number, _stop)
    try:
        _say(keeper.start())
        while os.getppid() == owner:
            ready, _, _ = select.select([sys.stdin], [], [], 1.0)
            if ready and not os.read(sys.stdin.fileno(), 4096):
                break
    except Stop:
        pass
    except LabctlError as error:
        _say({"error": str(error)})
        return 1
    finally:
        for number in (signal.SIGTERM, signal.SIGINT, signal.SIGHUP):
            signal.signal(number, signal.SIG_IGN)
        keeper.stop()
    return 0


def _stop(_number: int, _frame: FrameType | None) -> None:
    raise Stop


def _say(message: dict[str, Any]) -> None:
    print(json.dumps(message), flush=True)  # noqa: T201 - the line that the owner waits for


if __name__ == "__main__":
    sys.exit(main(Path(sys.argv[1])))
