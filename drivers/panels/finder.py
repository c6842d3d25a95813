"""Which monitors there are (`labctl devices`), and whether panels can be driven on them (`labctl doctor`)."""

from __future__ import annotations

import os
import subprocess
import sys
from collections.abc import Mapping
from dataclasses import asdict
from importlib.util import find_spec

from drivers.panels.display import need_extra
from drivers.panels.monitors import Monitor, list_monitors
from drivers.panels.settings import PygameSettings
from drivers.panels.slmpy_module import SLMPY_SOURCE
from labctl.errors import HardwareError
from labctl.findings import Check, Finding

IMPORT_LIMIT_S = 10.0
PLAIN = 0.01
"""How far from 1 a gamma or a scale may be and still leave levels and pixels as they are."""


def find_monitors(environment: Mapping[str, str]) -> list[Finding]:
    """One finding per monitor; `where` is what `monitor:` of a rig file takes. None without a display server.

    Raises HardwareError when the display server that DISPLAY names cannot be asked.
    """
    if not environment.get("DISPLAY"):
        return []
    return [
        Finding(
            "monitor",
            f"monitor {monitor.index}, {monitor.where}",
            monitor.name,
            {**asdict(monitor), "display": environment["DISPLAY"]},
        )
        for monitor in list_monitors(environment)
    ]


def check_monitors(environment: Mapping[str, str]) -> list[Check]:
    """The display server, every monitor's pixels on their way out, and the drivers' own packages."""
    return [*_check_screen(environment), _check_pygame(), _check_slmpy(environment)]


def _check_screen(environment: Mapping[str, str]) -> list[Check]:
    if not environment.get("DISPLAY"):
        return [Check("display server", "skipped", "DISPLAY is not set", "log in at a desktop to drive a panel")]
    try:
        monitors = list_monitors(environment)
    except HardwareError as error:
        seen, _, todo = str(error).rpartition("; ")
        return [Check("display server", "problem", seen, todo)]
    there = "; ".join(map(str, monitors)) or "no monitor"
    checks = [Check("display server", "ok" if monitors else "problem", f"{environment['DISPLAY']}: {there}")]
    if environment.get("WAYLAND_DISPLAY"):
        text = "this desktop runs Wayland: windows cannot be placed for sure, and pixels cannot be read back"
        checks.append(Check("desktop", "problem", text, "log in with an X11 ('Xorg') session"))
    return [*checks, *(_check_pixels(monitor) for monitor in monitors)]


def _check_pixels(monitor: Monitor) -> Check:
    """Everything after the frame buffer that the display server knows of."""
    name, wrong, todo = f"monitor {monitor.name}", [], []
    if any(abs(factor - 1) > PLAIN for factor in monitor.scale) or monitor.rotation != "normal":
        wrong.append(f"it is scaled by {monitor.scale[0]:g}x{monitor.scale[1]:g}, rotation {monitor.rotation}")
        todo.append(f"xrandr --output {monitor.name} --scale 1x1 --rotate normal")
    if monitor.gamma is not None and any(abs(gamma - 1) > PLAIN for gamma in monitor.gamma):
        wrong.append("its gamma ramps are {:.2g}, {:.2g}, {:.2g}".format(*monitor.gamma))
        todo.append(f"xrandr --output {monitor.name} --gamma 1:1:1 --brightness 1; switch night light and colours off")
    if wrong:
        return Check(name, "problem", "levels do not reach the panel as they are: " + "; ".join(wrong), "; ".join(todo))
    ramps = "gamma ramps not known" if monitor.gamma is None else "gamma ramps 1"
    refresh = "" if monitor.refresh_hz is None else f", {monitor.refresh_hz:.4g} Hz"
    return Check(name, "ok", f"{monitor.where}{refresh}, not scaled, {ramps}")


def _check_pygame() -> Check:
    try:
        need_extra("pygame driver", PygameSettings(monitor=0))
    except HardwareError as error:
        seen, _, todo = str(error).rpartition("; ")
        return Check("pygame driver", "warning", seen, todo)
    return Check("pygame driver", "ok", "pygame and mss are installed")


def _check_slmpy(environment: Mapping[str, str]) -> Check:
    """Imported in a process of its own: the wrong package or a broken wx must not hurt us."""
    if find_spec("slmpy") is None:
        return Check("slmpy driver", "skipped", "slmPy is not installed", f"if you want it: {SLMPY_SOURCE}")
    command = [sys.executable, "-P", "-m", "drivers.panels.slmpy_module"]
    try:
        answer = subprocess.run(
            command,
            env={**os.environ, **environment},
            capture_output=True,
            text=True,
            timeout=IMPORT_LIMIT_S,
            check=False,
        )
    except subprocess.TimeoutExpired:
        return Check(
            "slmpy driver", "warning", f"importing slmpy takes over {IMPORT_LIMIT_S:g} s", "reinstall wxPython"
        )
    if answer.returncode == 0:
        return Check("slmpy driver", "ok", "slmPy and wx are installed")
    seen, _, todo = (answer.stderr.strip().splitlines() or ["importing slmpy crashes; reinstall wxPython"])[
        -1
    ].rpartition("; ")
    return Check("slmpy driver", "warning", seen, todo)
