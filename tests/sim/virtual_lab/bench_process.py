"""A bench in a process of its own, seen from outside: a camera on its socket, a painter on its screens."""

from __future__ import annotations

import json
import mmap
import os
import socket
import struct
import subprocess
import time
from typing import Any, cast

import numpy as np
import numpy.typing as npt
from Xlib import X
from Xlib.display import Display

Box = tuple[int, int, int, int]
Levels = npt.NDArray[np.uint8]


class RunningBench:
    """The process, its places, and its control socket."""

    def __init__(self, process: subprocess.Popen[bytes], places: dict[str, Any]) -> None:
        self.process, self.places = process, places

    def wait_until_ready(self) -> None:
        assert self.process.stdout is not None
        assert json.loads(self.process.stdout.readline()) == {"ready": True}

    def ask(self, **command: Any) -> dict[str, Any]:
        with socket.socket(socket.AF_UNIX) as connection:
            connection.settimeout(5)
            connection.connect(self.places["control"])
            with connection.makefile("rw") as lines:
                lines.write(json.dumps(command) + "\n")
                lines.flush()
                return cast(dict[str, Any], json.loads(lines.readline()))

    def end(self) -> None:
        if self.process.stdin is not None:
            self.process.stdin.close()
        try:
            self.process.wait(5)
        except subprocess.TimeoutExpired:
            self.process.kill()
            self.process.wait()
        if self.process.stdout is not None:
            self.process.stdout.close()


class Camera:
    """The producer's end of the frame link, written from the contract and not from the bench."""

    def __init__(self, places: dict[str, Any], number: int = 0) -> None:
        self.number = number
        self._socket = socket.socket(socket.AF_UNIX, socket.SOCK_SEQPACKET)
        self._socket.settimeout(10)
        self._socket.connect(places["socket"])
        self._socket.send(struct.pack("<4sI", b"LBH1", number))
        self.welcome = struct.unpack("<4sIIIIIQ", self._socket.recv(64))
        descriptor = os.open(places["memory"], os.O_RDONLY)
        self._memory = mmap.mmap(descriptor, 0, access=mmap.ACCESS_READ)
        os.close(descriptor)
        self._frame_id = 0

    def expose(self, exposure_s: float = 0.002, *, black_level_dn: float = 64.0) -> npt.NDArray[np.uint16] | None:
        """A frame that starts now; None when the bench says that there is none."""
        self._frame_id += 1
        start_ns = time.monotonic_ns()
        request = (self.number, self._frame_id, start_ns, int(exposure_s * 1e9), 0.0, black_level_dn, 0, 0)
        self._socket.send(struct.pack("<4sIQQQddII", b"LBX1", *request))
        magic, status, frame_id, offset, width, height = struct.unpack("<4sIQQII", self._socket.recv(64))
        assert (magic, frame_id) == (b"LBX1", self._frame_id)
        assert time.monotonic_ns() >= start_ns + int(exposure_s * 1e9), "a frame came before its exposure was over"
        if status:
            return None
        pixels = np.frombuffer(self._memory, np.dtype("<u2"), width * height, offset)
        return pixels.reshape(height, width).astype(np.uint16)

    def close(self) -> None:
        self._socket.close()
        self._memory.close()


class Painter:
    """An X client that draws levels in the centre of monitors, as a panel driver would."""

    def __init__(self, display: str) -> None:
        self._display = Display(display)
        self._windows: dict[Box, Any] = {}

    def show(self, monitor: Box, levels: Levels) -> float:
        """Returns the time at which the server had drawn it."""
        window = self._windows.get(monitor) or self._open(monitor)
        rows, columns = levels.shape
        left, top = (monitor[2] - columns) // 2, (monitor[3] - rows) // 2
        pixels = np.repeat(levels[:, :, None], 4, axis=2)
        graphics = window.create_gc()
        for row in range(0, rows, 64):  # larger requests than this do not pass
            part = pixels[row : row + 64]
            window.put_image(graphics, left, top + row, columns, len(part), X.ZPixmap, 24, 0, part.tobytes())
        self._display.sync()
        return time.monotonic()

    def close(self) -> None:
        self._display.close()

    def _open(self, monitor: Box) -> Any:
        window = self._display.screen().root.create_window(
            *monitor, 0, 24, X.InputOutput, X.CopyFromParent, override_redirect=1, background_pixel=0
        )
        window.map()
        self._display.sync()
        self._windows[monitor] = window
        return window
