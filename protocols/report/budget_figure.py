"""The figure of an error budget: what each error adds to the simulation, and what is lost without it."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any

from matplotlib.figure import Figure

from labctl.frames.figure_style import INK
from protocols.report.figures import PAGE_IN, STAGE_COLOURS, new_figure, styled

MARKS = {"noise floor": (INK, (0, (4, 3))), "captured": (INK, (0, (1, 1.2)))}
ALONE, WITHOUT = STAGE_COLOURS["simulated"], STAGE_COLOURS["captured"]


@dataclass(frozen=True)
class Bars:
    """One panel. alone, without: a value for each error; nominal, fitted: the ends that they start from."""

    label: str
    nominal: float
    fitted: float
    alone: Sequence[float]
    without: Sequence[float]
    marks: Mapping[str, float]
    """Other values that are drawn as lines, by name."""


def draw_budget(titles: Sequence[str], panels: Sequence[Bars]) -> Figure:
    """One row per error, one panel per quantity: from the nominal twin with it, and from the fitted twin without it."""
    figure = new_figure(PAGE_IN, 0.27 * len(titles) + 1.0)
    grid = figure.subplots(1, len(panels), sharey=True, squeeze=False)[0]
    handles: dict[str, Any] = {}
    rows = range(len(titles))
    for axes, panel in zip(grid, panels, strict=True):
        for values, start, colour, shift, label in (
            (panel.alone, panel.nominal, ALONE, -0.19, "nominal twin with this error alone"),
            (panel.without, panel.fitted, WITHOUT, 0.19, "fitted twin without it"),
        ):
            handles[label] = axes.barh(
                [row + shift for row in rows],
                [value - start for value in values],
                left=start,
                height=0.34,
                color=colour,
                zorder=3,
            )
            axes.plot(values, [row + shift for row in rows], "|", color=colour, markersize=7, zorder=4)
            axes.axvline(start, color=colour, linewidth=1, zorder=2)
        for name, value in panel.marks.items():
            handles[name] = axes.axvline(value, color=MARKS[name][0], linestyle=MARKS[name][1], linewidth=1.2, zorder=5)
        axes.set_xlabel(panel.label)
        axes.grid(axis="x")
        axes.set_axisbelow(True)
        axes.tick_params(axis="y", length=0, labelcolor=INK)
        axes.spines["left"].set_visible(False)
        axes.locator_params(axis="x", nbins=5)
        axes.use_sticky_edges = False
        axes.margins(x=0.06)
    grid[0].set_yticks(list(rows), titles)
    grid[0].invert_yaxis()
    figure.legend(handles.values(), handles, loc="outside upper left", ncols=len(handles), columnspacing=1.2)
    return figure


budget_figure = styled(draw_budget)
"""`draw_budget` as files."""
