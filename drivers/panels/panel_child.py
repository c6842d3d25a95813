"""A panel's child process: what both drivers do alike. Each driver brings a `Panel`, a window that covers one monitor.

Pictures come one at a time through shared memory: first `HEADER_BYTES`, of which the first byte stops a sequence, then
one picture.
"""

from __future__ import annotations

import time
from collections import deque
from collections.abc import Callable, Mapping
from typing import Any, Protocol

import numpy as np

from drivers.panels.monitors import Monitor
from drivers.panels.read_back import ScreenReader, difference
from labctl.device_child import Handler, serve
from labctl.devices import Levels
from labctl.errors import HardwareError
from labctl.shared_block import SharedBlock

HEADER_BYTES = 64
STOP_LOOK_S = 0.02
"""How often a waiting sequence looks whether it shall stop."""

REPAINT_S = 0.05
"""How long a repainted window may take until it is on the screen."""

STAYS_S = 0.2
"""A window that has been in its place for so long is taken to stay there."""

USUAL_PAINTINGS = 15
"""The median of so many times tells how long painting takes."""


class Panel(Protocol):
    """A full-screen window. Levels are (rows, columns) uint8, shown as grey, one level pixel on one panel pixel."""

    def prepare(self, levels: Levels) -> Any:
        """A copy of `levels` in the toolkit's own form."""

    def paint(self, picture: Any) -> None:
        """Show what `prepare` made. Returns when the display server has drawn it."""

    def place(self) -> tuple[int, int, int, int]:
        """(left, top, columns, rows) of the window on the screen."""

    def look_after(self) -> None:
        """See to the window's events."""


OpenPanel = Callable[[Monitor, Mapping[str, str]], Panel]


def serve_panel(open_panel: OpenPanel) -> None:
    """Obey the parent (`drivers.panels.display`) until it lets go or dies; then go blank and exit."""
    child = _PanelChild(open_panel)
    handlers: dict[str, Handler] = {
        "open": child.open, "show": child.show, "check": child.check, "blank": child.blank, "load": child.load,
        "play": child.play,
    }  # fmt: skip
    serve(handlers, at_end=child.end, idle=child.look_after)


def wrong_place(place: tuple[int, int, int, int], monitor: Monitor) -> str:
    """What is wrong with a window at `place` (left, top, columns, rows) that shall cover `monitor`; '' when nothing."""
    left, top, columns, rows = place
    if place == (monitor.left, monitor.top, monitor.columns, monitor.rows):
        return ""
    return f"the window lies at {columns}x{rows}{left:+d}{top:+d} and not on monitor {monitor}"


def stays_in_place(panel: Panel, monitor: Monitor, limit_s: float) -> bool:
    """Whether, within `limit_s`, the window covers `monitor` and stays there: window managers move it afterwards."""
    end, since_s = time.monotonic() + limit_s, time.monotonic()
    while time.monotonic() < end:
        panel.look_after()
        if wrong_place(panel.place(), monitor):
            since_s = time.monotonic()
        elif time.monotonic() - since_s > STAYS_S:
            return True
        time.sleep(0.02)
    return False


class _PanelChild:
    def __init__(self, open_panel: OpenPanel) -> None:
        self._open_panel = open_panel
        self._panel: Panel | None = None
        self._patterns: list[Levels] = []
        self._shown: Levels | None = None

    def open(
        self, fd: int, monitor: Mapping[str, Any], blank_level: int, verify: str, options: Mapping[str, str]
    ) -> None:
        """Open the window, blank it, and read a picture back that shows every wrong place, size or colour."""
        self._monitor = Monitor(**monitor)
        shape = self._monitor.shape
        block = SharedBlock.attach(fd)
        self._stop = block.array((1,), np.uint8)
        self._picture = block.array(shape, np.uint8, HEADER_BYTES)
        self._reader = None if verify == "off" else ScreenReader(self._monitor)
        panel = self._open_panel(self._monitor, options)
        self._blank = np.full(shape, blank_level, dtype=np.uint8)
        panel.paint(panel.prepare(self._blank))
        self._panel = panel
        if self._reader is not None:
            noise = np.random.default_rng(0).integers(0, 256, shape, dtype=np.uint8)
            self._paint_verified(noise)
            self._paint_verified(self._blank)
        if verify != "every":
            self._reader = None
        self._need_place()

    def show(self) -> dict[str, float]:
        return {"shown_s": self._paint_verified(np.asarray(self._picture))}

    def check(self) -> None:
        """Raises HardwareError when what was painted last does not stand there any more."""
        if self._reader is not None and self._shown is not None:
            wrong = difference(self._shown, self._reader.grab())
            if wrong:
                raise HardwareError(f"monitor {self._monitor} does not show any more what it was given: {wrong}")

    def blank(self) -> dict[str, float]:
        self._patterns = []
        return {"shown_s": self._paint_verified(self._blank)}

    def load(self, index: int) -> None:
        """Take one more pattern of a sequence; index 0 starts a new one."""
        self._shown = None  # it may lie where the pattern came in
        if index == 0:
            self._patterns = []
        self._patterns.append(np.array(self._picture, dtype=np.uint8))

    def play(self, slot_s: float) -> dict[str, Any]:
        """Play what was loaded; returns the dwell times, and fewer than patterns when it was stopped.

        Painting starts ahead of the end of a slot by the time that it usually takes here, counted from when the pattern
        before was really on the screen: a late pattern makes its predecessor stay longer and takes nothing from itself.
        """
        panel, patterns = self._need_panel(), self._patterns
        self._patterns = []
        shown_s: list[float] = []
        painting_s: deque[float] = deque(maxlen=USUAL_PAINTINGS)
        picture = panel.prepare(patterns[0])
        for following in [*patterns[1:], None]:
            begun_s = time.monotonic()
            panel.paint(picture)
            shown_s.append(time.monotonic())
            painting_s.append(shown_s[-1] - begun_s)
            end_s = shown_s[-1] + slot_s
            if following is not None:
                picture = panel.prepare(following)
                end_s -= float(np.median(painting_s))
            if not self._wait_until(end_s):
                break
        else:
            shown_s.append(time.monotonic())
        return {"dwell_s": np.diff(shown_s).tolist()}

    def look_after(self) -> None:
        if self._panel is not None:
            self._panel.look_after()

    def end(self) -> None:
        if self._panel is not None:
            self._panel.paint(self._panel.prepare(self._blank))

    def _wait_until(self, due_s: float) -> bool:
        """Whether the time came before the order to stop."""
        panel = self._need_panel()
        while not self._stop[0]:
            left_s = due_s - time.monotonic()
            if left_s <= 0:
                return True
            if left_s > 2 * STOP_LOOK_S:
                panel.look_after()
            time.sleep(min(STOP_LOOK_S, max(due_s - time.monotonic(), 0)))
        return False

    def _paint_verified(self, levels: Levels) -> float:
        """Paint; returns when, in seconds of the monotonic clock. Raises HardwareError when other pixels come back."""
        panel = self._need_panel()
        picture = panel.prepare(levels)
        self._shown = levels
        panel.paint(picture)
        shown_s = time.monotonic()
        if self._reader is None or not difference(levels, self._reader.grab()):
            return shown_s
        panel.look_after()
        time.sleep(REPAINT_S)
        panel.paint(picture)
        shown_s = time.monotonic()
        wrong = difference(levels, self._reader.grab())
        if wrong:
            self._need_place()
            raise HardwareError(f"monitor {self._monitor} does not show what it was given: {wrong}")
        return shown_s

    def _need_place(self) -> None:
        wrong = wrong_place(self._need_panel().place(), self._monitor)
        if wrong:
            raise HardwareError(
                f"{wrong}; close what moves windows (the window manager's tiling, docks), or use pygame"
            )

    def _need_panel(self) -> Panel:
        if self._panel is None:
            raise HardwareError("the window is not open")
        return self._panel
