"""What the display server really has on a monitor, and how it differs from what was wanted.

Read by mss. It sees the frame buffer: another window on top, a wrong place or size, changed colours. It cannot see what
comes after it: gamma ramps, a colour range of the cable, scaling in the graphics card, the panel itself.
"""

from __future__ import annotations

import numpy as np
import numpy.typing as npt

from drivers.panels.monitors import Monitor
from labctl.devices import Levels

Colours = npt.NDArray[np.uint32]
"""(rows, columns), each 0xRRGGBB."""


class ScreenReader:
    """Reads the pixels of one monitor from the display server in DISPLAY."""

    def __init__(self, monitor: Monitor) -> None:
        import mss

        self._screen = mss.MSS()
        self._region = {
            "left": monitor.left,
            "top": monitor.top,
            "width": monitor.columns,
            "height": monitor.rows,
        }

    def grab(self) -> Colours:
        """What is on the monitor now. The mouse cursor is not in it."""
        shot = self._screen.grab(self._region)
        pixels: Colours = np.frombuffer(shot.raw, dtype="<u4").reshape(shot.height, shot.width)
        return pixels & np.uint32(0xFFFFFF)


def difference(wanted: Levels, seen: Colours) -> str:
    """How `seen` differs from the grey levels `wanted` (rows, columns), and what to do; '' when it does not."""
    if seen.shape != wanted.shape:
        return f"{seen.shape[1]}x{seen.shape[0]} pixels were read back, {wanted.shape[1]}x{wanted.shape[0]} were shown"
    wrong = seen != wanted * np.uint32(0x010101)
    count = int(wrong.sum())
    if count == 0:
        return ""
    rows, columns = np.flatnonzero(wrong.any(axis=1)), np.flatnonzero(wrong.any(axis=0))
    where = (
        f"{count} of {wrong.size} pixels differ, in rows {rows[0]}..{rows[-1]} and columns {columns[0]}..{columns[-1]}"
    )
    changed = _changed_level(wanted, seen)
    if changed:
        return f"{where}; {changed}; switch colour management and night light off"
    box = (rows[-1] - rows[0] + 1) * (columns[-1] - columns[0] + 1)
    if box < 0.9 * wrong.size and count > 0.5 * box:
        return f"{where}; something covers that part; close or move the other window"
    return f"{where}; another window covers it, or the desktop scales it; close the window, set the scaling to 100 %"


def _changed_level(wanted: Levels, seen: Colours) -> str:
    """The worst changed level, when every level of a picture of many became one other colour; else ''."""
    levels, first, of = np.unique(wanted, return_index=True, return_inverse=True)
    colours = seen.reshape(-1)
    mapped = colours[first]
    if len(np.unique(mapped)) < 8 or not (mapped[of.reshape(-1)] == colours).all():
        return ""
    channels = np.stack([mapped >> 16, mapped >> 8 & 0xFF, mapped & 0xFF], axis=1).astype(int)
    worst = int(np.abs(channels - levels[:, None]).max(axis=1).argmax())
    red, green, blue = channels[worst]
    return f"level {levels[worst]} comes back as red {red}, green {green}, blue {blue}"
