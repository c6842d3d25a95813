"""An X server with two monitors side by side: DUMMY0, which plays the scene, and DUMMY1, which carries the mask."""

from __future__ import annotations

import os
import select
import shutil
import subprocess
import time
from collections.abc import Callable, Mapping
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Literal

from labctl.errors import BadInput, HardwareError

DisplayChoice = Literal["auto", "xorg", "xvfb"]

SCENE_MONITOR, MASK_MONITOR = "DUMMY0", "DUMMY1"
START_LIMIT_S = 15.0
ATTEMPTS = 3
"""Servers that start at the same moment may want the same display number; the loser tries again."""

Box = tuple[int, int, int, int]


@dataclass(frozen=True)
class Screens:
    """A running X server. monitors: (left, top, width, height) of each by name."""

    display: str
    kind: Literal["xorg", "xvfb"]
    monitors: Mapping[str, Box]
    process: subprocess.Popen[bytes]
    note: str = ""
    """Why it is not the kind that was asked for first."""


def start_screens(
    choice: DisplayChoice,
    folder: Path,
    *,
    scene_shape: tuple[int, int],
    mask_shape: tuple[int, int],
    before_exec: Callable[[], None] | None = None,
) -> Screens:
    """Start the server; its configuration and log lie in `folder`. Shapes are (rows, columns) of the monitors.

    xorg: Xorg with the dummy driver, two true outputs. xvfb: one screen on which RANDR names two monitors; toolkits
    that ask for outputs see one. auto: xorg, else xvfb, and `note` says why. before_exec: runs in the new process.
    Raises HardwareError when the server does not start or its package is missing.
    """
    if choice == "xvfb":
        return _start_xvfb(folder, scene_shape, mask_shape, before_exec)
    try:
        return _start_xorg(folder, scene_shape, mask_shape, before_exec)
    except HardwareError as error:
        if choice == "xorg":
            raise
        why = str(error)
    try:
        screens = _start_xvfb(folder, scene_shape, mask_shape, before_exec)
    except HardwareError as error:
        raise HardwareError(f"neither X server starts: {why}; {error}") from error
    return replace(screens, note=why)


def _start_xorg(
    folder: Path, scene_shape: tuple[int, int], mask_shape: tuple[int, int], before_exec: Callable[[], None] | None
) -> Screens:
    xorg = _program("Xorg", "xserver-xorg-core xserver-xorg-video-dummy")
    _program("xrandr", "x11-xserver-utils")
    config, log = folder / "xorg.conf", folder / "xorg.log"
    config.write_text(_xorg_config(scene_shape, mask_shape))
    options = ["-config", str(config), "-logfile", str(log), "-novtswitch", "-sharevts", "-keeptty"]
    try:
        process, display = _start([xorg, *options], folder, before_exec)
    except HardwareError as error:
        if log.is_file() and 'Failed to load module "dummy"' in log.read_text(errors="replace"):
            raise HardwareError("Xorg has no dummy driver; run: apt-get install xserver-xorg-video-dummy") from error
        raise
    (_, scene_mode), (_, mask_mode) = _modes(scene_shape, mask_shape)
    try:
        _xrandr(display, "--output", SCENE_MONITOR, "--mode", scene_mode, "--pos", "0x0")
        _xrandr(display, "--addmode", MASK_MONITOR, mask_mode)
        _xrandr(display, "--output", MASK_MONITOR, "--mode", mask_mode, "--pos", f"{scene_shape[1]}x0")
    except HardwareError:
        end_server(process)
        raise
    return Screens(display, "xorg", _side_by_side(scene_shape, mask_shape), process)


def _start_xvfb(
    folder: Path, scene_shape: tuple[int, int], mask_shape: tuple[int, int], before_exec: Callable[[], None] | None
) -> Screens:
    xvfb = _program("Xvfb", "xvfb")
    _program("xrandr", "x11-xserver-utils")
    monitors = _side_by_side(scene_shape, mask_shape)
    width, height = scene_shape[1] + mask_shape[1], max(scene_shape[0], mask_shape[0])
    process, display = _start([xvfb, "-screen", "0", f"{width}x{height}x24"], folder, before_exec)
    try:
        for name, output in ((SCENE_MONITOR, "screen"), (MASK_MONITOR, "none")):
            left, top, wide, high = monitors[name]
            _xrandr(display, "--setmonitor", name, f"{wide}/{wide // 4}x{high}/{high // 4}+{left}+{top}", output)
    except HardwareError:
        end_server(process)
        raise
    return Screens(display, "xvfb", monitors, process)


def end_server(process: subprocess.Popen[bytes]) -> None:
    """Let the server remove its sockets and locks, or kill it. Reaps it."""
    process.terminate()
    try:
        process.wait(3)
    except subprocess.TimeoutExpired:
        process.kill()
        process.wait()


def _start(
    command: list[str], folder: Path, before_exec: Callable[[], None] | None
) -> tuple[subprocess.Popen[bytes], str]:
    output = folder / "x-server.log"
    for _ in range(ATTEMPTS):
        reader, writer = os.pipe()
        try:
            with output.open("ab") as log:
                process = subprocess.Popen(
                    [*command, "-displayfd", str(writer), "-noreset", "-nolisten", "tcp"],
                    stdin=subprocess.DEVNULL,
                    stdout=log,
                    stderr=log,
                    pass_fds=(writer,),
                    preexec_fn=before_exec,
                )
            os.close(writer)
            number = _number_from(reader, process)
        finally:
            os.close(reader)
        if number is not None:
            return process, f":{number}"
        end_server(process)
    said = output.read_text(errors="replace").strip().splitlines()[-4:]
    root = "" if os.geteuid() == 0 else " (as this user; some systems let only root start Xorg: use display: xvfb)"
    raise HardwareError(f"{Path(command[0]).name} did not start{root}; it said: {' | '.join(said) or 'nothing'}")


def _number_from(reader: int, process: subprocess.Popen[bytes]) -> str | None:
    """The display number that the server writes once it answers; None when it ends or stays silent."""
    text, end_s = b"", time.monotonic() + START_LIMIT_S
    while not text.endswith(b"\n") and time.monotonic() < end_s:
        ready, _, _ = select.select([reader], [], [], 0.1)
        if ready:
            read = os.read(reader, 16)
            if not read:
                return None
            text += read
        elif process.poll() is not None:
            return None
    return text.decode().strip() or None


def _program(name: str, packages: str) -> str:
    found = shutil.which(name)
    if found is None:
        raise HardwareError(f"{name} is not installed; run: apt-get install {packages}")
    return found


def _xrandr(display: str, *arguments: str) -> None:
    command = ["xrandr", "-display", display, *arguments]
    try:
        done = subprocess.run(command, capture_output=True, text=True, timeout=10, check=False)
    except subprocess.TimeoutExpired as error:
        raise HardwareError(f"`{' '.join(command)}` did not answer within 10 s; try display: xvfb") from error
    if done.returncode != 0:
        raise HardwareError(f"`{' '.join(command)}` failed: {done.stderr.strip()}; try display: xvfb")


def _side_by_side(scene_shape: tuple[int, int], mask_shape: tuple[int, int]) -> dict[str, Box]:
    return {
        SCENE_MONITOR: (0, 0, scene_shape[1], scene_shape[0]),
        MASK_MONITOR: (scene_shape[1], 0, mask_shape[1], mask_shape[0]),
    }


def _modes(*shapes: tuple[int, int]) -> list[tuple[str, str]]:
    """(modeline, name) for each shape at 60 Hz; the dummy driver takes any timing."""
    modes = []
    for rows, columns in shapes:
        if min(rows, columns) < 64:
            raise BadInput(f"a virtual monitor of {rows}x{columns} pixels is too small for X; 64x64 or more is needed")
        total_h, total_v = columns + 160, rows + 45
        timing = f"{columns} {columns + 16} {columns + 112} {total_h} {rows} {rows + 10} {rows + 12} {total_v}"
        name = f"lab-{columns}x{rows}"
        modes.append((f'Modeline "{name}" {total_h * total_v * 60 / 1e6:.3f} {timing}', name))
    return modes


def _xorg_config(scene_shape: tuple[int, int], mask_shape: tuple[int, int]) -> str:
    modes = _modes(scene_shape, mask_shape)
    lines = "\n  ".join(dict.fromkeys(line for line, _ in modes))
    names = " ".join(dict.fromkeys(f'"{name}"' for _, name in modes))
    width, height = scene_shape[1] + mask_shape[1], max(scene_shape[0], mask_shape[0])
    return f"""Section "ServerFlags"
  Option "AutoAddDevices" "false"
  Option "AutoAddGPU" "false"
  Option "DontVTSwitch" "true"
  Option "BlankTime" "0"
  Option "StandbyTime" "0"
  Option "SuspendTime" "0"
  Option "OffTime" "0"
EndSection
Section "Device"
  Identifier "dummy"
  Driver "dummy"
  VideoRam {max(16384, 8 * width * height // 1024)}
EndSection
Section "Monitor"
  Identifier "both"
  HorizSync 1-2000
  VertRefresh 1-500
  {lines}
EndSection
Section "Screen"
  Identifier "screen"
  Device "dummy"
  Monitor "both"
  DefaultDepth 24
  SubSection "Display"
    Depth 24
    Modes {names}
    Virtual {width} {height}
  EndSubSection
EndSection
"""
