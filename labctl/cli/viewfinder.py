"""`labctl live`: what the camera sees right now, in numbers, a histogram and a picture file."""

from __future__ import annotations

import math
import time
from collections import deque
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import numpy as np
import numpy.typing as npt
from rich.console import Group
from rich.live import Live
from rich.table import Table
from rich.text import Text

from labctl.cli.histogram import BLOCKS, figures, figures_line, histogram
from labctl.cli.talk import console, say
from labctl.devices import Camera
from labctl.exposure import Exposure, Frames
from labctl.focus import focus_figure
from labctl.light_path import RigDevices
from labctl.live_frames import live_frames
from labctl.preview import write_preview

DRAWN_S, WRITTEN_S, LINE_S = 0.2, 0.25, 1.0
"""Between two drawings on a terminal, two previews, and two lines where there is no terminal."""

COURSE = 32
"""How many values of the focus figure are drawn."""

MOSTLY_SATURATED = 0.5
"""Share of saturated pixels from which on a frame shows nothing."""

RATE_FRAMES = 100
"""Over how many frames the frame rate is taken."""


def watch(
    devices: RigDevices, exposure: Exposure, *, preview: Path | None, seconds: float | None, frames: int | None
) -> dict[str, Any]:
    """Watch until Ctrl-C, or for so many `seconds` or `frames`; returns what was last seen, as plain JSON values."""
    screen = console(error=True)
    view = _View(devices.camera)
    drawn_every_s = DRAWN_S if screen.is_terminal else LINE_S
    ends_s = math.inf if seconds is None else time.monotonic() + seconds
    drawn_s = written_s = -math.inf
    with (
        live_frames(devices.camera, exposure) as next_frame,
        Live(console=screen, auto_refresh=False, transient=True) as drawing,
    ):
        try:
            while view.seen != frames and (now := time.monotonic()) < ends_s:
                view.see(next_frame())
                if now - drawn_s >= drawn_every_s:
                    drawn_s = now
                    view.measure()
                    if screen.is_terminal:
                        drawing.update(view.drawing(), refresh=True)
                    else:
                        say(view.line())
                if preview is not None and now - written_s >= WRITTEN_S:
                    written_s = now
                    _keep(preview, view)
        except KeyboardInterrupt:
            pass
    if view.seen:
        view.measure()
        if preview is not None:
            _keep(preview, view)
        screen.print(view.drawing())
    return view.told()


def _keep(preview: Path, view: _View) -> None:
    """A preview that cannot be written must not end the watching."""
    try:
        write_preview(view.pixels, view.saturation_dn, preview)
        view.preview = str(preview)
    except OSError as error:
        view.preview = f"not written: {error.strerror or error}"


class _View:
    """The last frame, and what a person wants to know of it and of those before it."""

    def __init__(self, camera: Camera) -> None:
        self.seen = 0
        self.preview = ""
        self.pixels: npt.NDArray[Any] = np.zeros(camera.shape, dtype=np.uint16)
        self.saturation_dn = camera.saturation_dn
        self._camera = camera
        self._last: Frames | None = None
        self._arrived_s: deque[float] = deque(maxlen=RATE_FRAMES)
        self._figures: dict[str, float] = {}
        self._focus: deque[float] = deque(maxlen=COURSE)
        self._best_focus = 0.0

    def see(self, frame: Frames) -> None:
        """The next frame."""
        self.seen += 1
        self._last = frame
        self.pixels = frame.pixels[0, 0]
        self._arrived_s.append(time.monotonic())

    def measure(self) -> None:
        """Look at the last frame; too costly for each one of a fast camera."""
        self._figures = figures(self.pixels, self.saturation_dn)
        self._focus.append(focus_figure(self.pixels, self.saturation_dn))
        self._best_focus = max(self._best_focus, self._focus[-1])

    def rate_hz(self) -> float | None:
        """Frames per second that reached us."""
        if len(self._arrived_s) < 2 or self._arrived_s[-1] == self._arrived_s[0]:
            return None
        return (len(self._arrived_s) - 1) / (self._arrived_s[-1] - self._arrived_s[0])

    def told(self) -> dict[str, Any]:
        """All of it as plain JSON values."""
        told: dict[str, Any] = {"frames": self.seen, "frames_per_s": self.rate_hz(), **self._figures}
        if self._last is not None:
            told |= {"exposure_s": float(self._last.exposure_s[0]), "gain_db": float(self._last.gain_db[0])}
            told |= {"focus": self._focus[-1], "best_focus": self._best_focus}
        return {**told, "counters": self._counters()}

    def line(self) -> str:
        """The most important in one line, for a log."""
        rate = self.rate_hz()
        counters = "".join(f"  {name} {value}" for name, value in self._counters().items() if value)
        return (
            f"{self.seen} frames  {'–' if rate is None else f'{rate:.1f}'}/s  mean {self._figures['mean_dn']:.4g} DN  "
            f"saturated {100 * self._figures['saturated_fraction']:.2f} %  focus {self._focus[-1]:.3g}{counters}"
        )

    def drawing(self) -> Group:
        """Numbers, histogram and the course of the focus figure."""
        last, rate = self._last, self.rate_hz()
        assert last is not None
        table = Table.grid(padding=(0, 2))
        table.add_column(style="dim", justify="right")
        table.add_column(no_wrap=True)
        shown_rate = "–" if rate is None else f"{rate:.1f} frames/s"
        rows, columns = self.pixels.shape
        table.add_row("  camera", f"{shown_rate}, {self.seen} seen, {rows}x{columns} px")
        table.add_row("exposure", f"{1e3 * last.exposure_s[0]:.4g} ms at {last.gain_db[0]:.3g} dB")
        table.add_row("focus", self._focus_line())
        counters = self._counters()
        if counters:
            said = "  ".join(f"{name} {value}" for name, value in counters.items() if value)
            table.add_row("counted", said or "nothing yet")
        if self.preview:
            table.add_row("preview", self.preview)
        values = figures_line(self._figures, self.saturation_dn)
        return Group(table, Text(), histogram(self.pixels, self.saturation_dn) + values)

    def _focus_line(self) -> Text:
        now, best = self._focus[-1], self._best_focus
        if self._figures["saturated_fraction"] > MOSTLY_SATURATED:
            return Text("nothing to see in a saturated frame; shorten the exposure")
        if best == 0:
            return Text("0, nothing to be sharp in this frame")
        course = "".join(BLOCKS[max(1, round(8 * value / best))] for value in self._focus)
        return Text.assemble(f"{now:.3g}  ", (course, "cyan"), f"  {now / best:.0%} of the best")

    def _counters(self) -> dict[str, int]:
        """What the camera counts, lost frames by cause above all; groups of counters in one list."""
        stats: Mapping[str, Any] = getattr(self._camera, "stats", dict)()
        groups = [value for value in stats.values() if isinstance(value, Mapping)]
        return {name: value for group in (*groups, stats) for name, value in group.items() if type(value) is int}
