"""What levels on a screen mean: transmittance behind the panel, radiance before the monitor, and how fast they come."""

from __future__ import annotations

import math

import numpy as np
import numpy.typing as npt

from sim.virtual_lab.bench.settings import Monitor, Panel

Array = npt.NDArray[np.float64]
AnyLevels = npt.NDArray[np.uint8] | Array

SETTLED_RESPONSES = 8.0
"""After so many response times a change is taken for complete: 255 levels then miss 0.09 of one."""


def transmittance(levels: AnyLevels, panel: Panel) -> Array:
    """(rows, columns) 0..1 of panel pixels at `levels` 0..255, which lie between whole levels while they settle."""
    share = np.asarray(levels, dtype=np.float64) / 255.0
    response = share**panel.gamma if panel.lut is None else _looked_up(share, panel.lut)
    leak = 1.0 / panel.contrast
    lit = (1.0 - leak) * panel.fill_factor * response
    if panel.crosstalk > 0:
        around = np.pad(lit, 1, mode="edge")
        four = around[:-2, 1:-1] + around[2:, 1:-1] + around[1:-1, :-2] + around[1:-1, 2:]
        lit = (1 - panel.crosstalk) * lit + panel.crosstalk * four / 4
    return leak + lit


def radiance(levels: AnyLevels, monitor: Monitor) -> Array:
    """(rows, columns) 0..1 of scene pixels, each the mean of the monitor pixels in it."""
    black = 1.0 / monitor.contrast
    fine = black + (1.0 - black) * (np.asarray(levels, dtype=np.float64) / 255.0) ** monitor.gamma
    side = monitor.pixel_px
    rows, columns = fine.shape[0] // side, fine.shape[1] // side
    return fine[: rows * side, : columns * side].reshape(rows, side, columns, side).mean(axis=(1, 3))


def left_to_go(since_s: float, response_s: float) -> float:
    """Share of a change that is still to come `since_s` after it began; 0 once it counts as settled."""
    if response_s <= 0 or since_s >= SETTLED_RESPONSES * response_s:
        return 0.0
    return math.exp(-since_s / response_s)


def _looked_up(share: Array, lut: tuple[float, ...]) -> Array:
    return np.interp(share, np.linspace(0.0, 1.0, len(lut)), np.asarray(lut))
