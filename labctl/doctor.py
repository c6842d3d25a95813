"""Preflight: what must be right before a rig is used or a protocol is run, one line per check, all of them every time.

Files first, then the computer, what the drivers check of themselves, and every device of the rig, each on its own.
"""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import cast

from labctl.api import RIG_PREFIX
from labctl.device_checks import look_at_device
from labctl.device_round import DeviceRound
from labctl.devices import Instrument
from labctl.discovery import run_checks
from labctl.errors import BadInput, ExitCode, LabctlError
from labctl.findings import Check
from labctl.host_checks import computer_checks, disk_check
from labctl.interlocks import Interlock
from labctl.protocol import Protocol, RunPlan, load_protocol, plan_run
from labctl.rig_file import RigSpec, find_rig, load_rig
from labctl.store import SPARE_BYTES


@dataclass(frozen=True)
class Verdict:
    """A check, and whether it keeps the rig or the protocol from running: with which exit code, OK if not."""

    check: Check
    stops: ExitCode = ExitCode.OK


def examine(
    protocol: Path | None,
    rig: str | None,
    *,
    overrides: Sequence[str] = (),
    out: Path = Path("runs"),
    wait_s: float = 0.0,
) -> Iterator[Verdict]:
    """All checks, each as soon as it is made. Devices are opened one by one, and each is made safe before the next.

    rig: goes before the rig that the protocol names; without both, only the computer and its drivers are looked at.
    out: folder of runs. Raises nothing of what it looks at: that becomes a verdict.
    """
    paper = _Paper(protocol, rig, overrides)
    yield from paper.read()
    for check in computer_checks():
        yield Verdict(check)
    yield _disk(out, paper.plan)
    if paper.rig is None:
        yield from (Verdict(check) for check in run_checks({}))
        return
    yield from _at_the_rig(paper.rig, paper.protocol, wait_s)


def exit_code(verdicts: Iterable[Verdict]) -> ExitCode:
    """How `labctl doctor` ends: wrong files before failing hardware before all else; OK when all can run."""
    found = {verdict.stops for verdict in verdicts}
    order = (ExitCode.BAD_INPUT, ExitCode.HARDWARE, ExitCode.RUN_FAILED)
    return next((code for code in order if code in found), ExitCode.OK)


class _Paper:
    """Protocol and rig file, as far as they can be read."""

    def __init__(self, path: Path | None, rig: str | None, overrides: Sequence[str]) -> None:
        self._path, self._rig_name = path, rig
        self._overrides = overrides
        self.protocol: Protocol | None = None
        self.rig: RigSpec | None = None
        self.plan: RunPlan | None = None

    def read(self) -> Iterator[Verdict]:
        """A verdict for each file and one for both together."""
        if self._path is not None:
            yield self._protocol(self._path)
        if self._rig_name is None and self.protocol is not None:
            self._rig_name = self.protocol.file.rig
        if self._rig_name is not None:
            yield self._rig(self._rig_name)
        if self.protocol is not None and self.rig is not None:
            yield self._both(self.protocol, self.rig)
        elif self.protocol is not None and self._rig_name is None:
            yield _stopping("rig file", "the protocol names no rig", "add `rig: sim` to it, or give --rig sim")

    def _protocol(self, path: Path) -> Verdict:
        own = [text for text in self._overrides if not text.startswith(RIG_PREFIX)]
        try:
            self.protocol = load_protocol(path, overrides=own)
        except BadInput as error:
            return _stopping("protocol", str(error), "correct what is named, then run this again")
        return _fine("protocol", f"{path}: {len(self.protocol.instances())} steps")

    def _rig(self, name: str) -> Verdict:
        if self._path is None:
            wrong = [text for text in self._overrides if not text.startswith(RIG_PREFIX)]
            if wrong:
                todo = f"give a protocol, or a key of the rig file: --set rig.{wrong[0]}"
                return _stopping("rig file", f"--set {wrong[0]}: there is no protocol to change", todo)
        overrides = [text for text in self._overrides if text.startswith(RIG_PREFIX)]
        try:
            path = find_rig(name, beside=self._path)
            self.rig = load_rig(path, overrides=overrides, prefix=RIG_PREFIX.removesuffix("."))
        except BadInput as error:
            return _stopping("rig file", str(error), "correct what is named, then run this again")
        return _fine("rig file", f"{path}: {', '.join(self.rig.devices)} ({self.rig.nature_in_words})")

    def _both(self, protocol: Protocol, rig: RigSpec) -> Verdict:
        try:
            self.plan = plan_run(protocol, rig)
        except BadInput as error:
            return _stopping("plan", str(error), "correct what is named, then run this again")
        frames = sum(step.estimate.frames for step in self.plan)
        return _fine("plan", f"{protocol.name} on '{rig.name}': {len(self.plan.steps)} steps, {frames} frames")


def _disk(out: Path, plan: RunPlan | None) -> Verdict:
    if plan is None:
        return Verdict(disk_check(out, planned_bytes=0, planned_bytes_per_s=0.0))
    captures = [step.estimate for step in plan if step.estimate.frames > 1 and step.estimate.seconds > 0]
    rate = max((capture.disk_bytes / capture.seconds for capture in captures), default=0.0)
    check = disk_check(out, planned_bytes=plan.disk_bytes + SPARE_BYTES, planned_bytes_per_s=rate)
    return Verdict(check, ExitCode.RUN_FAILED if check.status == "problem" else ExitCode.OK)


def _at_the_rig(rig: RigSpec, protocol: Protocol | None, wait_s: float) -> Iterator[Verdict]:
    try:
        with DeviceRound(rig, wait_s=wait_s) as devices:
            if devices.recovered_from is not None:
                last = devices.recovered_from
                text = f"its last holder, process {last.pid} since {last.since}, ended without making all of it safe"
                yield Verdict(Check("rig", "warning", text, "look at the bench; what opens here is made safe"))
            for check in run_checks(devices.environment):
                yield Verdict(check)
            for name in rig.safe_order:
                yield _device(devices, name, protocol)
            for interlock in rig.file.interlocks:
                yield _interlock(devices, interlock)
    except LabctlError as error:
        todo = "wait for it with --wait, or start what it needs; no device was looked at"
        yield Verdict(Check("rig", "problem", str(error), todo), ExitCode.HARDWARE)


def _device(devices: DeviceRound, name: str, protocol: Protocol | None) -> Verdict:
    needs_px = _needed_px(name, devices.spec, protocol)
    try:
        check = devices.look_at(name, lambda device: look_at_device(device, needs_px=needs_px))
    except Exception as error:  # noqa: BLE001 - the other devices must have their turn
        text = _in_words(error)
        # Drivers name the next action after a semicolon; where one did not, say the usual.
        usual = "check power, cable and the entry in the rig file; `labctl devices` lists what is found"
        check = Check(name, "problem", text, "" if ";" in text else usual)
    return Verdict(check, ExitCode.HARDWARE if check.status == "problem" else ExitCode.OK)


def _interlock(devices: DeviceRound, interlock: Interlock) -> Verdict:
    """Whether its quantity can be read. Whether it holds is told too, but the bench is dark and at rest now."""
    name, _, what = interlock.quantity.partition(".")
    try:
        value = devices.look_at(name, lambda device: float(cast(Instrument, device).read_quantity(what)))
    except Exception as error:  # noqa: BLE001 - the other checks must have their turn
        text = f"{interlock.quantity} cannot be read, so it would {interlock.action}: {_in_words(error)}"
        check = Check("interlock", "problem", text, f"repair '{name}', or take the interlock out of the rig file")
        return Verdict(check, ExitCode.HARDWARE)
    broken = interlock.broken_by(value, None)
    if broken is not None and interlock.when == "open":
        todo = interlock.message or "bring it back within its limits"
        return Verdict(Check("interlock", "problem", f"{broken}; it would {interlock.action}", todo), ExitCode.HARDWARE)
    return Verdict(Check("interlock", "ok", f"{interlock.quantity} reads {value:.6g}"))


def _in_words(error: Exception) -> str:
    """What labctl raises on purpose speaks for itself; anything else needs its name."""
    return str(error) if isinstance(error, LabctlError) else f"{type(error).__name__}: {error}"


def _needed_px(name: str, rig: RigSpec, protocol: Protocol | None) -> tuple[int, int] | None:
    """(rows, columns) of a display that the grids of the protocol take."""
    if protocol is None or name not in ("mask", "scene"):
        return None
    if name == "mask":
        grid, side_px = protocol.file.mask_cells, rig.roads.mask.cell_px
    else:
        grid, side_px = protocol.file.scene_px, rig.roads.scene.pixel_px
    return None if grid is None else (grid[0] * side_px, grid[1] * side_px)


def _fine(name: str, text: str) -> Verdict:
    return Verdict(Check(name, "ok", text))


def _stopping(name: str, text: str, todo: str) -> Verdict:
    return Verdict(Check(name, "problem", text, todo), ExitCode.BAD_INPUT)
