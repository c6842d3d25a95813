"""A virtual lab as its user holds it: started or joined, its environment, its bench to talk to."""

from __future__ import annotations

import contextlib
import json
import os
import select
import shutil
import socket
import subprocess
import sys
import tempfile
from collections.abc import Mapping
from dataclasses import asdict, dataclass
from pathlib import Path
from types import TracebackType
from typing import Any, Self

from labctl.errors import BadInput, HardwareError
from sim.virtual_lab.keeper import LAB_FILE, LabPlan
from sim.virtual_lab.screens import DisplayChoice

JOIN_VARIABLE = "LABCTL_VIRTUAL_LAB"
"""Names the folder of a running lab; while it is set, that lab is joined and none is started."""

START_LIMIT_S = 90.0
"""Until the keeper says that all is ready; the first start also compiles the producer."""

STOP_LIMIT_S = 10.0
ANSWER_LIMIT_S = 5.0


@dataclass(frozen=True)
class LabSettings:
    """What a lab stands for. truth: of the bench, as JSON values. Shapes are (rows, columns) of the monitors."""

    truth: dict[str, Any]
    scene_shape: tuple[int, int]
    mask_shape: tuple[int, int]
    display: DisplayChoice = "auto"
    instruments_seed: int = 0
    logs: Path | None = None
    """Where the parts write their logs; by default they go with the lab."""


class VirtualLab:
    """Screens, camera producer, instruments and bench, as a context manager.

    All processes end at `stop`, and also when this process dies in whatever way. A lab that was running already when
    it was joined (see JOIN_VARIABLE) stays up; its bench then stands for the truth that is asked for here.
    """

    def __init__(self, settings: LabSettings) -> None:
        self._settings = settings
        self._keeper: subprocess.Popen[bytes] | None = None
        self._lab: dict[str, Any] = {}
        self.folder: Path | None = None

    @property
    def environment(self) -> Mapping[str, str]:
        """Variables that make drivers meet this lab: DISPLAY, GENICAM_GENTL64_PATH, VIRTUAL_LAMP and others."""
        return dict(self._lab.get("environment", {}))

    @property
    def display(self) -> str:
        """`xorg` or `xvfb`, and why when another one was asked for first."""
        note = self._lab.get("note", "")
        return f"{self._lab.get('display', 'none')}{f' ({note})' if note else ''}"

    @property
    def pids(self) -> Mapping[str, int]:
        """Process ids of the parts by name."""
        return dict(self._lab.get("pids", {}))

    def start(self) -> Self:
        """Start the lab, or join the one that JOIN_VARIABLE names. Raises HardwareError."""
        running = os.environ.get(JOIN_VARIABLE)
        if running:
            self._join(Path(running))
        else:
            self._start_own()
        return self

    def stop(self) -> None:
        """End what `start` started. May be called twice."""
        keeper, self._keeper = self._keeper, None
        if keeper is not None:
            with contextlib.suppress(OSError):
                keeper.stdin.close()  # type: ignore[union-attr]
            try:
                keeper.wait(STOP_LIMIT_S)
            except subprocess.TimeoutExpired:
                keeper.kill()
                keeper.wait()
            keeper.stdout.close()  # type: ignore[union-attr]
            if self.folder is not None:
                shutil.rmtree(self.folder, ignore_errors=True)

    def ask_bench(self, op: str, **what: Any) -> dict[str, Any]:
        """Send a command to the bench, see `sim.virtual_lab.bench.control`. Raises HardwareError when it fails."""
        return self._ask("bench", {"op": op, **what})

    def ask_instruments(self, instrument: str | None, **what: Any) -> dict[str, Any]:
        """Send a request to the instruments, see `sim.virtual_lab.instruments.control`. Raises HardwareError."""
        return self._ask("instruments", {"instrument": instrument, **what})

    def fault(self, serial: str, name: str, value: float) -> None:
        """Inject a fault into a camera from outside its driver: one line in the file that the producer watches."""
        with Path(self.environment["LABCTL_PRODUCER_FAULTS"]).open("a") as file:
            file.write(f"{serial} {name} {value:g}\n")

    def __enter__(self) -> Self:
        return self.start()

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self.stop()

    def _start_own(self) -> None:
        settings = self._settings
        # Paths of Unix sockets end at 107 bytes, so they do not go into the state folder of the rig.
        self.folder = Path(tempfile.mkdtemp(prefix="labctl-"))
        logs = settings.logs or self.folder
        logs.mkdir(parents=True, exist_ok=True)
        plan = LabPlan(
            folder=str(self.folder),
            logs=str(logs),
            display=settings.display,
            scene_shape=settings.scene_shape,
            mask_shape=settings.mask_shape,
            truth=settings.truth,
            instruments_seed=settings.instruments_seed,
        )
        (self.folder / "plan.json").write_text(json.dumps(asdict(plan)))
        self._keeper = subprocess.Popen(
            [sys.executable, "-P", "-m", "sim.virtual_lab.keeper", str(self.folder / "plan.json")],
            stdin=subprocess.PIPE,
            stdout=subprocess.PIPE,
            start_new_session=True,  # the terminal's Ctrl-C must leave the lab up until the rig is safe
        )
        try:
            self._lab = self._first_word(self._keeper)
        except BaseException:
            self.stop()
            raise

    def _first_word(self, keeper: subprocess.Popen[bytes]) -> dict[str, Any]:
        ready, _, _ = select.select([keeper.stdout], [], [], START_LIMIT_S)
        line = keeper.stdout.readline() if ready and keeper.stdout is not None else b""
        if not line:
            raise HardwareError(
                "the virtual lab did not start: its keeper ended or was silent; see the lines that it wrote above"
            )
        said: dict[str, Any] = json.loads(line)
        if "error" in said:
            raise HardwareError(f"the virtual lab did not start: {said['error']}")
        return said

    def _join(self, folder: Path) -> None:
        file = folder / LAB_FILE
        if not file.is_file():
            raise HardwareError(
                f"{JOIN_VARIABLE} names {folder}, where no virtual lab runs; start one with "
                "`python -m sim.virtual_lab up`, or unset the variable"
            )
        self._lab, self.folder = json.loads(file.read_text()), folder
        there = {name: tuple(self._lab["plan"][name]) for name in ("scene_shape", "mask_shape")}
        wanted = {"scene_shape": self._settings.scene_shape, "mask_shape": self._settings.mask_shape}
        if there != wanted:
            raise BadInput(f"the running lab has monitors {there}, {wanted} is needed; start one of that size")
        self.ask_bench("rebuild", truth=self._settings.truth)

    def _ask(self, part: str, command: Mapping[str, Any]) -> dict[str, Any]:
        try:
            with socket.socket(socket.AF_UNIX, socket.SOCK_STREAM) as connection:
                connection.settimeout(ANSWER_LIMIT_S)
                connection.connect(self._lab[f"{part}_control"])
                with connection.makefile("rw", encoding="utf-8") as lines:
                    lines.write(json.dumps(command) + "\n")
                    lines.flush()
                    answer: dict[str, Any] = json.loads(lines.readline() or '{"ok": false, "error": "it hung up"}')
        except OSError as error:
            raise HardwareError(
                f"the {part} of the virtual lab does not answer: {error}; start the lab anew"
            ) from error
        if not answer.pop("ok"):
            raise HardwareError(f"the {part} of the virtual lab refused {dict(command)}: {answer['error']}")
        return answer
