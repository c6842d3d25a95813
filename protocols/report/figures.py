"""Figures of a report: every function takes arrays and gives the same figure as PNG, SVG and PDF.

PNG is for the page, SVG and PDF are for papers, at the widths of their columns. No global figure, no window, no dates:
equal arrays give equal bytes.
"""

from __future__ import annotations

import io
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from typing import Any, ParamSpec

import matplotlib
import numpy as np
import numpy.typing as npt
from matplotlib.backends.backend_agg import FigureCanvasAgg
from matplotlib.figure import Figure

from labctl.frames.figure_style import COMMON, INK, SOFT

Array = npt.NDArray[Any]
P = ParamSpec("P")

PAGE_IN = 7.16
"""Width in inches of a figure across both columns of a paper, and of the text column of the page."""

COLUMN_IN = 3.5
"""Width in inches of one column of a paper."""

DPI = 170
VECTOR_DPI = 300
"""Resolution of pictures inside SVG and PDF. They are enlarged with hard edges, since viewers smooth small ones."""

STAGE_COLOURS = {"simulated": "#0072B2", "captured": "#D55E00", "finetuned": "#009E73"}
"""Distinguishable with every common colour-vision deficiency. [Okabe and Ito 2008]"""

STAGE_MARKS = {"simulated": "o", "captured": "s", "finetuned": "D"}

DESIGN_COLOURS = ("#332288", "#CC6677", "#117733", "#DDAA33", "#88CCEE", "#882255", "#44AA99", "#999933", "#AA4499")
"""Colour-blind safe, and no colour of a stage. [Tol 2021, "muted"]"""

LINES = ("-", "--", ":", "-.")

STYLE: dict[str, Any] = {
    **COMMON,
    "font.family": ["DejaVu Sans"],
    "axes.titlesize": 8,
    "axes.grid": False,
    "lines.linewidth": 1.3,
    "image.interpolation": "nearest",
    "axes.titlepad": 4.0,
    "svg.fonttype": "path",  # letters as outlines: the same on a computer without this font
    "svg.hashsalt": "labctl",  # ids inside the file are then the same each time
    "pdf.fonttype": 42,  # letters as TrueType text: embedded, searchable, and editable
}


@dataclass(frozen=True)
class Drawing:
    """One figure in three formats."""

    png: bytes
    svg: bytes
    pdf: bytes


def styled(draw: Callable[P, Figure]) -> Callable[P, Drawing]:
    """Draw in the common style and return the files."""

    def drawn(*args: P.args, **kwargs: P.kwargs) -> Drawing:
        with matplotlib.rc_context(STYLE):
            figure = draw(*args, **kwargs)
            FigureCanvasAgg(figure)
            for _ in range(2):  # pictures of fixed shape find their places in the second pass only
                figure.draw_without_rendering()
            figure.set_layout_engine("none")  # placed once for all formats: finding the places takes most of the time
            return Drawing(
                _saved(figure, "png", DPI, {"Software": None}),
                _saved(figure, "svg", VECTOR_DPI, {"Date": None, "Creator": None}),
                _saved(figure, "pdf", VECTOR_DPI, {"CreationDate": None, "Creator": None, "Producer": None}),
            )

    drawn.__doc__, drawn.__name__ = draw.__doc__, draw.__name__
    return drawn


@dataclass(frozen=True)
class Dot:
    """Accuracy of one design at one stage, all as shares of 1; seeds holds the accuracy of every seed."""

    design: str
    stage: str
    label: str
    mean: float
    low: float
    high: float
    seeds: tuple[float, ...]


@styled
def accuracy_figure(dots: Sequence[Dot], majority: Sequence[float]) -> Figure:
    """Dots with intervals: designs on the axis, stages by colour and mark, majority dashed."""
    designs, labels = unique(dot.design for dot in dots), unique(dot.label for dot in dots)
    figure = new_figure(PAGE_IN, 2.7)
    axes = figure.subplots()
    step = min(0.22, 0.66 / max(len(labels), 1))
    named: set[str] = set()
    for dot in dots:
        x = designs.index(dot.design) + step * (labels.index(dot.label) - (len(labels) - 1) / 2)
        colour = STAGE_COLOURS[dot.stage]
        error = 100 * np.array([[dot.mean - dot.low], [dot.high - dot.mean]]).clip(min=0)
        axes.errorbar(
            x,
            100 * dot.mean,
            error,
            fmt=STAGE_MARKS[dot.stage],
            color=colour,
            markersize=5.5,
            capsize=3,
            elinewidth=1.2,
            label=None if dot.label in named else dot.label,
            zorder=3,
        )
        if len(dot.seeds) > 1:
            axes.plot([x + step * 0.3] * len(dot.seeds), 100 * np.array(dot.seeds), ".", color=colour, alpha=0.55, ms=4)
        named.add(dot.label)
    for value in majority:
        axes.axhline(100 * value, color=SOFT, linestyle=(0, (4, 3)), linewidth=1, zorder=1)
    if majority:
        axes.annotate(
            "majority",
            (1, 100 * majority[0]),
            xycoords=("axes fraction", "data"),
            xytext=(-2, 2),
            textcoords="offset points",
            ha="right",
            va="bottom",
            fontsize=7,
            color=SOFT,
        )
    axes.set(xlim=(-0.6, len(designs) - 0.4), ylim=(0, 104), ylabel="test accuracy (%)")
    axes.set_xticks(range(len(designs)), designs, fontsize=8, color=INK)
    axes.tick_params(axis="x", length=0)
    axes.grid(axis="y")
    axes.set_axisbelow(True)
    figure.legend(loc="outside upper left", ncols=len(labels), handletextpad=0.2, columnspacing=1.4)
    return figure


@styled
def histogram_figure(pairs: Mapping[str, tuple[Array, Array]], full_dn: float) -> Figure:
    """Shares of pixels by DN of noise-free simulated and captured frames, one panel per design; means as ticks."""
    columns = min(3, len(pairs))
    rows = -(-len(pairs) // columns)
    figure = new_figure(PAGE_IN if columns > 1 else COLUMN_IN, 1.75 * rows + 0.45)
    grid = figure.subplots(rows, columns, squeeze=False)
    for axes in grid.flat[len(pairs) :]:
        axes.axis("off")
    for axes, (name, (simulated, captured)) in zip(grid.flat, pairs.items(), strict=False):
        top = float(max(simulated.max(), captured.max()))
        low = float(min(simulated.min(), captured.min()))
        bins = np.linspace(low, max(top, low + 1), 61)
        shown = ((simulated, "simulated", "simulated, noise-free"), (captured, "captured", "captured"))
        for values, stage, label in shown:
            weights = np.full(values.size, 100 / values.size)
            colour = STAGE_COLOURS[stage]
            axes.hist(values.ravel(), bins, weights=weights, histtype="stepfilled", color=colour, alpha=0.18)
            axes.hist(values.ravel(), bins, weights=weights, histtype="step", color=colour, linewidth=1.1)
            axes.axvline(
                values.mean(),
                color=colour,
                linewidth=1.1,
                linestyle=LINES[1 if stage == "captured" else 0],
                label=label,
            )
        axes.set_title(name, loc="left")
        axes.set_xlabel(f"pixel value (DN, full scale {full_dn:.0f})" if columns == 1 else "pixel value (DN)")
        axes.locator_params(axis="x", nbins=5)
    for row in grid:
        row[0].set_ylabel("pixels per bin (%)")
    handles, labels = grid[0][0].get_legend_handles_labels()
    figure.legend(handles, labels, loc="outside upper left", ncols=2, title=None)
    return figure


@dataclass(frozen=True)
class Curve:
    """One value of one training by epoch."""

    step: str
    design: str
    seed: int
    quantity: str
    epochs: Sequence[int]
    values: Sequence[float]


@styled
def curves_figure(curves: Sequence[Curve]) -> Figure:
    """One row per step, one column per quantity; designs by colour, seeds as repeated lines."""
    steps, quantities = unique(c.step for c in curves), unique(c.quantity for c in curves)
    designs = unique(c.design for c in curves)
    figure = new_figure(PAGE_IN, 1.85 * len(steps) + 0.35)
    grid = figure.subplots(len(steps), len(quantities), squeeze=False)
    handles: dict[str, Any] = {}
    for row, step in zip(grid, steps, strict=True):
        for axes, quantity in zip(row, quantities, strict=True):
            mine = [curve for curve in curves if (curve.step, curve.quantity) == (step, quantity)]
            if not mine:
                axes.axis("off")
                continue
            for curve in mine:
                colour, line = _line_of(designs.index(curve.design))
                mark = "o" if len(curve.values) < 15 else None
                handles[curve.design] = axes.plot(
                    curve.epochs, curve.values, color=colour, linestyle=line, marker=mark, markersize=2.6, alpha=0.85
                )[0]
            axes.set(title=step, xlabel="epoch", ylabel=quantity)
            axes.title.set_ha("left")
            axes.title.set_x(0)
            axes.xaxis.get_major_locator().set_params(integer=True, min_n_ticks=1)
            axes.grid(axis="y")
    if designs != ["–"]:
        figure.legend(handles.values(), handles, loc="outside upper left", ncols=min(len(handles), 6))
    return figure


@styled
def confusion_figure(matrices: Mapping[str, Array], names: Sequence[str], columns: int) -> Figure:
    """Confusion matrices (K, K) of counts, rows are true classes, in percent of their row; 1 or 2 side by side."""
    count = len(names)
    rows = -(-len(matrices) // columns)
    width = COLUMN_IN if columns == 1 and count <= 10 else PAGE_IN
    figure = new_figure(width, rows * (0.84 * width / columns) + 0.2)
    grid = figure.subplots(rows, columns, squeeze=False)
    size = min(7.0, 72 * 0.55 * width / columns / count * 0.42)
    for axes in grid.flat[len(matrices) :]:
        axes.axis("off")
    for axes, (title, counts) in zip(grid.flat, matrices.items(), strict=False):
        totals = counts.sum(axis=1, keepdims=True)
        shares = np.divide(100.0 * counts, totals, out=np.full(counts.shape, np.nan), where=totals > 0)
        image = axes.imshow(shares, cmap="Blues", vmin=0, vmax=100)
        for i, j in np.argwhere(counts > 0):
            colour = "white" if shares[i, j] > 55 else INK
            axes.text(j, i, f"{shares[i, j]:.0f}", ha="center", va="center", fontsize=size, color=colour)
        turned = max(len(name) for name in names) > 3
        axes.set_xticks(range(count), names, rotation=90 if turned else 0, fontsize=min(7, size + 1.5))
        axes.set_yticks(range(count), names, fontsize=min(7, size + 1.5))
        axes.tick_params(length=0)
        axes.set(title=title, xlabel="answered", ylabel="true class")
        axes.spines[:].set_visible(False)
        thin_bar(figure.colorbar(image, ax=axes, fraction=0.046, pad=0.03), "% of the true class")
    return figure


@styled
def timing_figure(seconds: Mapping[str, float]) -> Figure:
    """Seconds by step name as horizontal bars."""
    figure = new_figure(PAGE_IN, 0.24 * len(seconds) + 0.6)
    axes = figure.subplots()
    values = list(seconds.values())
    axes.barh(range(len(values)), values, color="#7a9cbf", height=0.62)
    for index, value in enumerate(values):
        axes.annotate(
            f"{value:.1f} s" if value >= 0.1 else f"{1000 * value:.0f} ms",
            (value, index),
            xytext=(3, 0),
            textcoords="offset points",
            va="center",
            fontsize=7,
        )
    axes.set_yticks(range(len(values)), list(seconds))
    axes.invert_yaxis()
    axes.set(xlabel="time (s), all designs and seeds together", xlim=(0, max([*values, 1e-3]) * 1.1))
    axes.tick_params(axis="y", length=0, labelcolor=INK)
    axes.spines["left"].set_visible(False)
    axes.grid(axis="x")
    axes.set_axisbelow(True)
    return figure


def new_figure(width: float, height: float) -> Figure:
    """An empty figure of this size in inches that places its parts itself."""
    return Figure(figsize=(width, height), layout="constrained")


def unique(values: Any) -> list[str]:
    """Each value once, in order."""
    return list(dict.fromkeys(values))


def _saved(figure: Figure, form: str, dpi: int, metadata: dict[str, None]) -> bytes:
    target = io.BytesIO()
    figure.savefig(target, format=form, dpi=dpi, facecolor="white", metadata=metadata)
    return target.getvalue()


def _line_of(index: int) -> tuple[str, str]:
    return DESIGN_COLOURS[index % len(DESIGN_COLOURS)], LINES[index // len(DESIGN_COLOURS) % len(LINES)]


def thin_bar(bar: Any, label: str, size: float = 6.0) -> None:
    """Make a colour bar quiet and say its unit."""
    bar.outline.set_visible(False)
    bar.ax.tick_params(labelsize=size, length=2)
    bar.ax.locator_params(nbins=4)
    bar.set_label(label, fontsize=size)
