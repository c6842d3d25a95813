"""The monitors of a display server: where each lies, what it is called, and what is done to its pixels on the way out.

They are asked of `xrandr` in a process with a time limit: a display server that hangs must not hang us.
"""

from __future__ import annotations

import re
import subprocess
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace

from labctl.errors import DeviceTimeout, HardwareError

ANSWER_LIMIT_S = 5.0


@dataclass(frozen=True)
class Monitor:
    """One monitor, in pixels of its display server's screen. refresh_hz and gamma: None where the server hides them."""

    index: int
    name: str
    left: int
    top: int
    columns: int
    rows: int
    primary: bool = False
    refresh_hz: float | None = None
    gamma: tuple[float, float, float] | None = None
    scale: tuple[float, float] = (1.0, 1.0)
    rotation: str = "normal"

    @property
    def shape(self) -> tuple[int, int]:
        """(rows, columns)."""
        return self.rows, self.columns

    @property
    def where(self) -> str:
        """Size and place as X writes them, 1920x1080+1920+0."""
        return f"{self.columns}x{self.rows}{self.left:+d}{self.top:+d}"

    def __str__(self) -> str:
        return f"{self.index} ({self.name}, {self.where}{', primary' if self.primary else ''})"


def list_monitors(environment: Mapping[str, str]) -> list[Monitor]:
    """All monitors of the display server that `environment` names, by index.

    Raises HardwareError without DISPLAY, without `xrandr`, or when the server cannot be reached; DeviceTimeout when it
    does not answer.
    """
    monitors = parse_monitors(_ask(environment, "xrandr", "--listmonitors"))
    outputs = parse_outputs(_ask(environment, "xrandr", "--verbose"))
    return [_with_output(monitor, outputs.get(output)) for monitor, output in monitors]


def choose_monitor(monitors: Sequence[Monitor], wanted: int | str) -> Monitor:
    """The monitor called `wanted`: an index, a name, `left`, `right`, `primary`, or a place such as `+1920+0`.

    Raises HardwareError with the list of what is there.
    """
    if isinstance(wanted, int):
        found = [monitor for monitor in monitors if monitor.index == wanted]
    else:
        found = [m for m in monitors if wanted in (m.name, f"{m.left:+d}{m.top:+d}")]
        if not found and monitors and wanted in ("left", "right"):
            edge = (min if wanted == "left" else max)(monitor.left for monitor in monitors)
            found = [monitor for monitor in monitors if monitor.left == edge]
        elif not found and wanted == "primary":
            found = [monitor for monitor in monitors if monitor.primary]
    there = "; ".join(map(str, monitors)) or "none"
    if not found:
        raise HardwareError(f"there is no monitor {wanted!r}; there are: {there}; set `monitor` to one of them")
    if len(found) > 1:
        raise HardwareError(f"monitor {wanted!r} may be any of {'; '.join(map(str, found))}; set `monitor` to an index")
    return found[0]


def keep_awake(environment: Mapping[str, str]) -> None:
    """Switch screen saver and power saving of the display server off, for as long as that server runs."""
    _ask(environment, "xset", "s", "off", "s", "noblank")
    if "DPMS is" in _ask(environment, "xset", "q"):
        _ask(environment, "xset", "-dpms")


def parse_monitors(text: str) -> list[tuple[Monitor, str]]:
    """(monitor, its first output or '') from what `xrandr --listmonitors` says."""
    found = []
    for line in text.splitlines():
        match = _MONITOR.match(line)
        if match:
            index, marks, name, columns, rows, left, top, outputs = match.groups()
            place = (int(left), int(top), int(columns), int(rows))
            output = outputs.split()[0] if outputs.split() else ""
            found.append((Monitor(int(index), name, *place, primary="*" in marks), output))
    return found


@dataclass(frozen=True)
class Output:
    """What `xrandr --verbose` says of one connected output."""

    refresh_hz: float | None
    gamma: tuple[float, float, float] | None
    scale: tuple[float, float]
    rotation: str


def parse_outputs(text: str) -> dict[str, Output]:
    """Connected outputs by name from what `xrandr --verbose` says."""
    found = {}
    for part in re.split(r"^(?=\S+ (?:dis)?connected)", text, flags=re.MULTILINE):
        head = re.match(r"(\S+) connected (?:primary )?\d+x\d+[+-]\d+[+-]\d+ \(\w+\) (\w+)", part)
        if head:
            found[head[1]] = Output(_refresh_hz(part), _gamma(part), _scale(part), head[2])
    return found


_MONITOR = re.compile(r"\s*(\d+): ([+*]*)(\S+) (\d+)/\d+x(\d+)/\d+([+-]\d+)([+-]\d+)\s*(.*)$")


def _with_output(monitor: Monitor, output: Output | None) -> Monitor:
    if output is None:
        return monitor
    return replace(
        monitor, refresh_hz=output.refresh_hz, gamma=output.gamma, scale=output.scale, rotation=output.rotation
    )


def _refresh_hz(text: str) -> float | None:
    match = re.search(r"\*current.*\n.*\n.*clock\s+([\d.]+)Hz", text)
    return (float(match[1]) or None) if match else None


def _gamma(text: str) -> tuple[float, float, float] | None:
    """Exponents times brightness, so that a dimmed ramp shows too. Brightness 0 means that there is no ramp."""
    exponents = re.search(r"Gamma:\s+([\d.]+):([\d.]+):([\d.]+)", text)
    brightness = re.search(r"Brightness:\s+([\d.]+)", text)
    if not exponents or not brightness or float(brightness[1]) == 0:
        return None
    red, green, blue = (float(value) * float(brightness[1]) for value in exponents.groups())
    return red, green, blue


def _scale(text: str) -> tuple[float, float]:
    match = re.search(r"Transform:\s+([-\d.]+)\s+\S+\s+\S+\s+\S+\s+([-\d.]+)", text)
    return (float(match[1]), float(match[2])) if match else (1.0, 1.0)


def _ask(environment: Mapping[str, str], *command: str) -> str:
    display = environment.get("DISPLAY", "")
    if not display:
        raise HardwareError(
            "DISPLAY is not set, so there is no screen to draw on; log in at the desktop that drives the panel, or "
            'name its display server in the rig file, `display: ":0"`'
        )
    try:
        answer = subprocess.run(
            command, env=dict(environment), capture_output=True, text=True, timeout=ANSWER_LIMIT_S, check=False
        )
    except FileNotFoundError:
        raise HardwareError(
            f"the program '{command[0]}' is not there; install x11-xserver-utils (Debian, Ubuntu) or xrandr and xset"
        ) from None
    except subprocess.TimeoutExpired:
        raise DeviceTimeout(
            f"the display server {display} does not answer within {ANSWER_LIMIT_S:g} s; restart it"
        ) from None
    if answer.returncode != 0:
        said = answer.stderr.strip().splitlines()[-1:] or [f"exit code {answer.returncode}"]
        raise HardwareError(
            f"the display server {display} cannot be reached ({said[0]}); check that it runs and that DISPLAY and "
            "XAUTHORITY are those of its desktop"
        )
    return answer.stdout
