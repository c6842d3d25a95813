"""Figures of the audit: utility against attack, the masks, and pictures that attackers made."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
from matplotlib.figure import Figure

from labctl.frames.figure_style import SOFT
from protocols.report.figures import (
    DESIGN_COLOURS,
    PAGE_IN,
    Array,
    new_figure,
    styled,
    unique,
)
from protocols.report.pictures import _framed

MARKS = ("o", "s", "D", "^", "v", "P", "X", "<", ">", "*")
"""One for each design, so that colours need not be told apart."""


@dataclass(frozen=True)
class Point:
    """One design: utility and what the strongest attacker gets, each (mean, low, high) in the unit of the axis."""

    design: str
    captured: bool
    utility: tuple[float, float, float]
    attack: tuple[float, float, float]


@dataclass(frozen=True)
class Panel:
    """One goal. chance: what needs no camera; clean: what the strongest attackers reach on the undegraded picture."""

    title: str
    label: str
    points: Sequence[Point]
    chance: float
    clean: float | None


@styled
def tradeoff_figure(panels: Sequence[Panel], utility: str) -> Figure:
    """One panel for each goal: to the right is useful, down is private; open marks are captured frames."""
    columns = min(3, len(panels))
    rows = -(-len(panels) // columns)
    figure = new_figure(PAGE_IN, 2.35 * rows + 0.55)
    grid = figure.subplots(rows, columns, squeeze=False)
    designs = unique(point.design for panel in panels for point in panel.points)
    handles: dict[str, Any] = {}
    for axes in grid.flat[len(panels) :]:
        axes.axis("off")
    for axes, panel in zip(grid.flat, panels, strict=False):
        for point in panel.points:
            number = designs.index(point.design)
            colour = DESIGN_COLOURS[number % len(DESIGN_COLOURS)]
            (x, x_low, x_high), (y, y_low, y_high) = point.utility, point.attack
            drawn = axes.errorbar(
                x,
                y,
                xerr=np.clip([[x - x_low], [x_high - x]], 0, None),
                yerr=np.clip([[y - y_low], [y_high - y]], 0, None),
                fmt=MARKS[number % len(MARKS)],
                color=colour,
                markerfacecolor="white" if point.captured else colour,
                markersize=5,
                elinewidth=0.9,
                zorder=3,
            )
            if not point.captured or point.design not in handles:
                handles[point.design] = drawn
        for value, name in ((panel.chance, "no camera"), (panel.clean, "undegraded")):
            if value is not None:
                axes.axhline(value, color=SOFT, linewidth=0.9, linestyle=(0, (4, 3)), zorder=1)
                axes.annotate(
                    name, (0, value), xycoords=("axes fraction", "data"), xytext=(2, 2), textcoords="offset points",
                    fontsize=6, color=SOFT, bbox={"facecolor": "white", "alpha": 0.7, "linewidth": 0, "pad": 0.6},
                )  # fmt: skip
        axes.set_title(panel.title, loc="left")
        axes.set(xlabel=utility, ylabel=panel.label)
        axes.set_ylim(0, 1.04 if panel.label == "SSIM" else 104)  # the same in all: a small gap shall look small
        axes.grid(zorder=0)
        axes.set_axisbelow(True)
        axes.margins(x=0.08)
    figure.legend(handles.values(), handles, loc="outside upper left", ncols=min(len(handles), 6), columnspacing=1.2)
    return figure


@styled
def gallery_figure(masks: Mapping[str, Array], words: Mapping[str, str]) -> Figure:
    """Masks (H, W) 0..1 by design, each with a line of words below it."""
    columns = min(6, max(len(masks), 5))
    rows = -(-len(masks) // columns)
    figure = new_figure(PAGE_IN, (PAGE_IN / columns + 0.34) * rows)
    grid = figure.subplots(rows, columns, squeeze=False)
    for axes in grid.flat[len(masks) :]:
        axes.axis("off")
    for axes, (name, mask) in zip(grid.flat, masks.items(), strict=False):
        axes.imshow(mask, cmap="gray", vmin=0, vmax=max(1.0, float(mask.max())))
        axes.set(xticks=[], yticks=[])
        _framed(axes)
        axes.set_title(name)
        axes.set_xlabel(words.get(name, ""), fontsize=6.3, linespacing=1.25)
    return figure


@styled
def reconstructions_figure(rows: Sequence[Sequence[Array]], heads: Sequence[str], names: Sequence[str]) -> Figure:
    """One row for each test picture: scene, frame, and every reconstruction. heads: above the columns.

    Scenes and reconstructions share the scale 0..1; each frame has its own.
    """
    count = len(heads)
    width = min(PAGE_IN, 0.92 * count + 0.3)
    figure = new_figure(width, (width - 0.25) / count * len(rows) + 0.62)
    figure.get_layout_engine().set(h_pad=0.01, w_pad=0.01, hspace=0.02, wspace=0.02)  # type: ignore[union-attr]
    grid = figure.subplots(len(rows), count, squeeze=False)
    for axes_row, pictures, name in zip(grid, rows, names, strict=True):
        for number, (axes, picture) in enumerate(zip(axes_row, pictures, strict=True)):
            frame = number == 1
            axes.imshow(picture, cmap="gray", vmin=None if frame else 0, vmax=None if frame else 1)
            axes.set(xticks=[], yticks=[])
            axes.spines[:].set_visible(False)
        axes_row[0].set_ylabel(name, fontsize=6.5)
    for axes, head in zip(grid[0], heads, strict=True):
        axes.set_title(head, fontsize=6, linespacing=1.15)
    return figure
