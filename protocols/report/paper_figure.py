"""Accuracy against blurriness, this run beside published numbers."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

from matplotlib.figure import Figure

from labctl.frames.figure_style import SOFT
from protocols.report.figures import DESIGN_COLOURS, PAGE_IN, new_figure, styled, unique


@dataclass(frozen=True)
class Point:
    """One design. blurriness 0..1; accuracy, low, high in percent. whose: `here` or `published`."""

    design: str
    whose: str
    blurriness: float
    accuracy: float
    low: float
    high: float


@styled
def trade_off_figure(points: Sequence[Point]) -> Figure:
    """One colour per design; filled with intervals for this run, hollow for published, a line between the two."""
    figure = new_figure(PAGE_IN, 3.2)
    axes = figure.subplots()
    designs = unique(point.design for point in points)
    for number, design in enumerate(designs):
        colour = DESIGN_COLOURS[number % len(DESIGN_COLOURS)]
        own = {point.whose: point for point in points if point.design == design}
        if len(own) == 2:
            ends = [own["here"], own["published"]]
            axes.plot([p.blurriness for p in ends], [p.accuracy for p in ends], color=colour, linewidth=0.6, alpha=0.5)
        for whose, point in own.items():
            here = whose == "here"
            axes.errorbar(
                point.blurriness,
                point.accuracy,
                [[point.accuracy - point.low], [point.high - point.accuracy]] if here else None,
                fmt="o" if here else "s",
                color=colour,
                markerfacecolor=colour if here else "white",
                markersize=5,
                capsize=2.5 if here else 0,
                elinewidth=1.0,
                label=design if here else None,
                zorder=3,
            )
    axes.set(xlabel="blurriness of noise-free frames (0 sharp, 1 nothing but blur)", ylabel="accuracy (%)")
    axes.set_xlim(left=0)
    axes.set_ylim(bottom=0, top=104)
    axes.grid(color=SOFT, alpha=0.25)
    axes.set_axisbelow(True)
    figure.legend(loc="outside upper left", ncols=5, handletextpad=0.2, columnspacing=1.2)
    return figure
