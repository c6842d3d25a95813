"""Which monitor is which: its number and name, written large on it (`labctl devices --flash`)."""

from __future__ import annotations

import time
from collections.abc import Mapping
from contextlib import ExitStack

import numpy as np
from PIL import Image, ImageDraw, ImageFont

from drivers.panels.display import PanelDisplay
from drivers.panels.monitors import Monitor, list_monitors
from drivers.panels.settings import PygameSettings
from labctl.devices import Levels, OpenContext


def flash(environment: Mapping[str, str], seconds: float) -> list[Monitor]:
    """Show `label` on every monitor for `seconds`; returns the monitors. Nothing may be displayed on them meanwhile.

    Raises HardwareError as `PanelDisplay.open` does.
    """
    monitors = list_monitors(environment)
    with ExitStack() as opened:
        for monitor in monitors:
            context = OpenContext(f"monitor-{monitor.index}", "flash", environment=environment)
            display = PanelDisplay(context, PygameSettings(monitor=monitor.index, verify="off"))
            display.open()
            opened.callback(display.close)
            display.show(label(monitor))
        time.sleep(seconds)
    return monitors


def label(monitor: Monitor) -> Levels:
    """(rows, columns) levels: the monitor's number, and below it name, size and place, white on black with a frame."""
    picture = Image.new("L", (monitor.columns, monitor.rows), 0)
    draw = ImageDraw.Draw(picture)
    draw.rectangle((0, 0, monitor.columns - 1, monitor.rows - 1), outline=255, width=max(1, monitor.rows // 100))
    for text, height, middle in (
        (str(monitor.index), 0.5, 0.4),
        (f"{monitor.name}  {monitor.where}", min(0.08, 0.8 * monitor.columns / monitor.rows / 15), 0.82),
    ):
        font = ImageFont.load_default(max(8, round(height * monitor.rows)))
        draw.text((monitor.columns / 2, middle * monitor.rows), text, fill=255, font=font, anchor="mm")
    return np.asarray(picture, dtype=np.uint8)
