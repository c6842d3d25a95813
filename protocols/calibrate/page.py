"""The look of the one-page plots of calibrations: readable at the width of a report, the same style for all."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from functools import wraps
from typing import TYPE_CHECKING, Any, ParamSpec

import numpy as np

from labctl.calibration.record import Calibration
from labctl.calibration.telling import told

if TYPE_CHECKING:
    from matplotlib.axes import Axes
    from matplotlib.figure import Figure

P = ParamSpec("P")

WIDTH_IN = 8.0
MEASURED, CONCLUDED, BESIDE, WARNED = "#0072B2", "#D55E00", "#009E73", "#CC79A7"
"""Distinguishable with every common colour-vision deficiency. [Okabe and Ito 2008]"""


def in_style(draw: Callable[P, Figure]) -> Callable[P, Figure]:
    """Draw with the letters, lines and colours that all figures of labctl share."""

    @wraps(draw)
    def drawn(*args: P.args, **kwargs: P.kwargs) -> Figure:
        from labctl.frames.figure_style import styled

        with styled():
            return draw(*args, **kwargs)

    return drawn


def sheet(height_in: float, rows: int, columns: int, **layout: Any) -> tuple[Figure, Any]:
    """An empty page with rows x columns axes, an array of that shape."""
    from matplotlib.figure import Figure

    figure = Figure(figsize=(WIDTH_IN, height_in), layout="constrained", facecolor="white")
    return figure, figure.subplots(rows, columns, squeeze=False, **layout)


def show_map(axes: Axes, picture: Any, title: str, unit: str, *, sigmas: float = 3.0) -> None:
    """A map (h, w) with its scale, `sigmas` below its median to as much above: outliers do not hide the rest."""
    values = np.asarray(picture, dtype=np.float64)
    centre, spread = float(np.median(values)), float(values.std()) or 1e-9
    low, high = max(values.min(), centre - sigmas * spread), min(values.max(), centre + sigmas * spread)
    shown = axes.imshow(values, cmap="viridis", vmin=low, vmax=max(high, low + 1e-12), interpolation="nearest")
    axes.grid(visible=False)
    axes.set_title(title)
    axes.set(xlabel="column (px)", ylabel="row (px)")
    figure: Any = axes.figure
    figure.colorbar(shown, ax=axes, label="relative" if unit == "1" else unit, shrink=0.85)


def list_values(axes: Axes, calibration: Calibration, names: Sequence[tuple[str, str]], title: str) -> None:
    """Values with their uncertainties as lines of text; names: (value, as it is called here)."""
    axes.set_axis_off()
    axes.set_title(title)
    there = [(text, calibration.record.values[name]) for name, text in names if name in calibration.record.values]
    step = 1.0 / max(len(there), 9)
    for number, (text, value) in enumerate(there):
        y = 1 - (number + 0.5) * step
        axes.text(0.0, y, text, transform=axes.transAxes, va="center")
        axes.text(1.0, y, told(value), transform=axes.transAxes, va="center", ha="right")
