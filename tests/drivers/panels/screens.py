"""Private X servers for tests, and witnesses of what is on them that share no code with the drivers."""

from __future__ import annotations

import contextlib
import os
import shutil
import subprocess
import sys
import time
from collections.abc import Iterator, Sequence
from dataclasses import dataclass, field
from pathlib import Path

import numpy as np
import numpy.typing as npt
import pytest

XORG_WITH_TWO_MONITORS = """
Section "ServerFlags"
 Option "AutoAddDevices" "false"
 Option "AutoEnableDevices" "false"
EndSection
Section "Device"
 Identifier "card"
 Driver "dummy"
 VideoRam 65536
EndSection
Section "Monitor"
 Identifier "any"
 HorizSync 5-1000
 VertRefresh 5-200
EndSection
Section "Screen"
 Identifier "screen"
 Device "card"
 Monitor "any"
 DefaultDepth 24
 SubSection "Display"
  Depth 24
  Virtual 1600 600
  Modes "800x600"
 EndSubSection
EndSection
"""

COVERING_WINDOW = """
import os, sys
os.environ["PYGAME_HIDE_SUPPORT_PROMPT"] = "1"
left, top, width, height = map(int, sys.argv[1:])
os.environ.update(SDL_VIDEODRIVER="x11", SDL_FRAMEBUFFER_ACCELERATION="0", SDL_VIDEO_WINDOW_POS=f"{left},{top}")
import pygame
pygame.display.init()
screen = pygame.display.set_mode((width, height), pygame.NOFRAME)
screen.fill((200, 30, 30))
for _ in range(10):
    pygame.event.pump()
    pygame.display.flip()
    pygame.time.wait(20)
print("there", flush=True)
sys.stdin.read()
"""


@dataclass
class Screen:
    """A running X server. frame_buffer: the file that Xvfb keeps its pixels in."""

    display: str
    process: subprocess.Popen[bytes]
    frame_buffer: Path | None = None
    environment: dict[str, str] = field(default_factory=dict)

    def __post_init__(self) -> None:
        self.environment = {"DISPLAY": self.display, "XAUTHORITY": "/dev/null"}

    def run(self, *command: str) -> str:
        environment = {**os.environ, **self.environment}
        answer = subprocess.run(command, env=environment, capture_output=True, text=True, timeout=20, check=True)
        return answer.stdout

    def grab(self) -> npt.NDArray[np.uint8]:
        """(rows, columns, 3) blue, green, red of the whole screen, by mss."""
        mss = pytest.importorskip("mss")
        with mss.MSS(display=self.display) as screen:
            shot = screen.grab(screen.monitors[0])
            return np.frombuffer(shot.raw, dtype=np.uint8).reshape(shot.height, shot.width, 4)[..., :3].copy()

    def frame_buffer_pixels(self) -> npt.NDArray[np.uint8]:
        """The same from Xvfb's own file in XWD format; the mouse cursor is in it."""
        assert self.frame_buffer is not None
        data = self.frame_buffer.read_bytes()
        header = np.frombuffer(data, dtype=">u4", count=25)
        size, width, height, row_bytes, colours = (int(header[i]) for i in (0, 4, 5, 12, 19))
        pixels = np.frombuffer(data, dtype=np.uint8, offset=size + 12 * colours, count=height * row_bytes)
        return pixels.reshape(height, row_bytes)[:, : 4 * width].reshape(height, width, 4)[..., :3]

    @contextlib.contextmanager
    def covered(self, left: int, top: int, width: int, height: int) -> Iterator[None]:
        """Another program's window lies on top of everything."""
        command = [sys.executable, "-c", COVERING_WINDOW, *map(str, (left, top, width, height))]
        environment = {**os.environ, **self.environment}
        with subprocess.Popen(
            command, env=environment, stdin=subprocess.PIPE, stdout=subprocess.PIPE, stderr=subprocess.DEVNULL
        ) as other:
            assert other.stdin is not None
            assert other.stdout is not None
            try:
                assert b"there\n" in other.stdout, "the covering window did not come up"
                yield
            finally:
                other.stdin.close()
                other.wait(10)


@contextlib.contextmanager
def xvfb(folder: Path, size: str = "640x400") -> Iterator[Screen]:
    """One screen of `size`, which is one monitor."""
    need_program("Xvfb")
    command = ["Xvfb", "-screen", "0", f"{size}x24", "-noreset", "-nolisten", "tcp", "-fbdir", str(folder)]
    with _server(command, folder) as screen:
        screen.frame_buffer = folder / "Xvfb_screen0"
        yield screen


@contextlib.contextmanager
def xorg_with_two_monitors(folder: Path) -> Iterator[Screen]:
    """Two monitors of 800x600, DUMMY0 left and DUMMY1 right. Skips where Xorg cannot start."""
    need_program("Xorg")
    config = folder / "xorg.conf"
    config.write_text(XORG_WITH_TWO_MONITORS)
    command = ["Xorg", "-config", str(config), "-logfile", str(folder / "xorg.log"), "-noreset", "-nolisten", "tcp"]
    with _server([*command, "-novtswitch", "-sharevts"], folder) as screen:
        screen.run("xrandr", "--addmode", "DUMMY1", "800x600")
        screen.run("xrandr", "--output", "DUMMY0", "--mode", "800x600", "--primary")
        screen.run("xrandr", "--output", "DUMMY1", "--mode", "800x600", "--right-of", "DUMMY0")
        yield screen


def need_program(program: str) -> None:
    """Skip the test without it."""
    if shutil.which(program) is None:
        pytest.skip(f"{program} is not installed")


@contextlib.contextmanager
def _server(command: Sequence[str], folder: Path) -> Iterator[Screen]:
    reading, writing = os.pipe()
    with (folder / "server.log").open("wb") as log:
        process = subprocess.Popen([*command, "-displayfd", str(writing)], pass_fds=[writing], stdout=log, stderr=log)
    os.close(writing)
    try:
        with os.fdopen(reading) as pipe:
            number = pipe.readline().strip()
        if not number:
            pytest.skip(f"{command[0]} cannot start here: {(folder / 'server.log').read_text()[-300:]}")
        yield Screen(f":{number}", process)
    finally:
        process.terminate()
        process.wait(10)


def wait_until(condition: object, limit_s: float = 10.0) -> bool:
    """Whether `condition()` became true in time."""
    assert callable(condition)
    end = time.monotonic() + limit_s
    while not condition():
        if time.monotonic() > end:
            return False
        time.sleep(0.02)
    return True
