"""Figures of a report: every function takes arrays and gives the bytes of a PNG; no global figure, no window."""

from __future__ import annotations

import io
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from typing import Any, ParamSpec

import matplotlib
import numpy as np
import numpy.typing as npt
from matplotlib.axes import Axes
from matplotlib.backends.backend_agg import FigureCanvasAgg
from matplotlib.figure import Figure

Array = npt.NDArray[Any]
P = ParamSpec("P")

PAGE_IN = 7.2
"""Width of the text column in inches; a figure of this width fills it."""

DPI = 170
INK, SOFT, GRID = "#22272e", "#66707c", "#e4e7eb"

STAGE_COLOURS = {"simulated": "#0072B2", "captured": "#D55E00", "finetuned": "#009E73"}
"""Distinguishable with every common colour-vision deficiency. [Okabe and Ito 2008]"""

STAGE_MARKS = {"simulated": "o", "captured": "s", "finetuned": "D"}

DESIGN_COLOURS = ("#332288", "#CC6677", "#117733", "#DDAA33", "#88CCEE", "#882255", "#44AA99", "#999933", "#AA4499")
"""Colour-blind safe, and no colour of a stage. [Tol 2021, "muted"]"""

LINES = ("-", "--", ":", "-.")

STYLE: dict[str, Any] = {
    "font.family": ["DejaVu Sans"], "font.size": 7.5, "axes.titlesize": 8, "axes.labelsize": 7.5,
    "xtick.labelsize": 7, "ytick.labelsize": 7, "legend.fontsize": 7, "legend.frameon": False,
    "text.color": INK, "axes.labelcolor": INK, "axes.edgecolor": "#9aa3ad", "xtick.color": SOFT, "ytick.color": SOFT,
    "axes.linewidth": 0.6, "xtick.major.width": 0.6, "ytick.major.width": 0.6, "axes.spines.top": False,
    "axes.spines.right": False, "axes.grid": False, "grid.color": GRID, "grid.linewidth": 0.6, "lines.linewidth": 1.3,
    "image.interpolation": "nearest", "axes.titlepad": 4.0,
}  # fmt: skip


def styled(draw: Callable[P, Figure]) -> Callable[P, bytes]:
    """Draw in the common style and return the PNG."""

    def drawn(*args: P.args, **kwargs: P.kwargs) -> bytes:
        with matplotlib.rc_context(STYLE):
            figure = draw(*args, **kwargs)
            FigureCanvasAgg(figure)
            target = io.BytesIO()
            figure.savefig(target, format="png", dpi=DPI, facecolor="white", metadata={"Software": None})
        return target.getvalue()

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
    designs, labels = _unique(dot.design for dot in dots), _unique(dot.label for dot in dots)
    figure = _figure(PAGE_IN, 2.7)
    axes = figure.subplots()
    step = min(0.22, 0.66 / max(len(labels), 1))
    named: set[str] = set()
    for dot in dots:
        x = designs.index(dot.design) + step * (labels.index(dot.label) - (len(labels) - 1) / 2)
        colour = STAGE_COLOURS[dot.stage]
        error = 100 * np.array([[dot.mean - dot.low], [dot.high - dot.mean]]).clip(min=0)
        axes.errorbar(
            x, 100 * dot.mean, error, fmt=STAGE_MARKS[dot.stage], color=colour, markersize=5.5, capsize=3,
            elinewidth=1.2, label=None if dot.label in named else dot.label, zorder=3,
        )  # fmt: skip
        if len(dot.seeds) > 1:
            axes.plot([x + step * 0.3] * len(dot.seeds), 100 * np.array(dot.seeds), ".", color=colour, alpha=0.55, ms=4)
        named.add(dot.label)
    for value in majority:
        axes.axhline(100 * value, color=SOFT, linestyle=(0, (4, 3)), linewidth=1, zorder=1)
    if majority:
        axes.annotate("majority", (1, 100 * majority[0]), xycoords=("axes fraction", "data"), xytext=(-2, 2),
                      textcoords="offset points", ha="right", va="bottom", fontsize=7, color=SOFT)  # fmt: skip
    axes.set(xlim=(-0.6, len(designs) - 0.4), ylim=(0, 104), ylabel="test accuracy (%)")
    axes.set_xticks(range(len(designs)), designs, fontsize=8, color=INK)
    axes.tick_params(axis="x", length=0)
    axes.grid(axis="y")
    axes.set_axisbelow(True)
    figure.legend(loc="outside upper left", ncols=len(labels), handletextpad=0.2, columnspacing=1.4)
    return figure


@dataclass(frozen=True)
class CameraView:
    """One camera: mask (H, W) 0..1, SLM levels, shadow (h, w), optional white frame (DN), and pixel pitches in mm."""

    name: str
    mask: Array
    levels: Array
    psf: Array
    white: Array | None
    mask_pitch_mm: float
    panel_pitch_mm: float
    sensor_pitch_mm: float


@styled
def camera_figure(cameras: Sequence[CameraView]) -> Figure:
    """One row per camera: mask, picture on the SLM, shadow of a point, and the white frame where there is one."""
    whites = any(camera.white is not None for camera in cameras)
    columns = 4 if whites else 3
    figure = _figure(PAGE_IN, 1.72 * len(cameras) + 0.25)
    grid = figure.subplots(len(cameras), columns, squeeze=False)
    for row, camera in zip(grid, cameras, strict=True):
        panels: list[tuple[str, Array | None, float, str, str, tuple[float | None, float | None]]] = [
            ("mask", camera.mask, camera.mask_pitch_mm, "transmittance", "gray", (0, 1)),
            ("levels on the SLM", camera.levels, camera.panel_pitch_mm, "level", "gray", (0, 255)),
            ("shadow of a point (PSF)", camera.psf, camera.sensor_pitch_mm, "weight", "viridis", (0, None)),
            ("white frame, measured", camera.white, camera.sensor_pitch_mm, "DN", "gray", (None, None)),
        ]
        for axes, (title, picture, pitch, unit, colours, (low, high)) in zip(row, panels, strict=False):
            if picture is None:
                axes.axis("off")
                continue
            shown = axes.imshow(picture, cmap=colours, vmin=low, vmax=high, extent=_extent(picture.shape, pitch))
            bar = figure.colorbar(shown, ax=axes, fraction=0.046, pad=0.03)
            _thin(bar, unit)
            axes.locator_params(nbins=3)
            axes.tick_params(labelsize=6, length=2)
            if camera is cameras[0]:
                axes.set_title(title)
            if camera is cameras[-1]:
                axes.set_xlabel("x (mm)")
        row[0].set_ylabel(f"{camera.name}\ny (mm)")
    return figure


@styled
def masks_figure(masks: Mapping[tuple[str, int], Array], pitch_mm: float) -> Figure:
    """Masks (H, W) 0..1 of every seed, one row per design."""
    designs, seeds = _unique(name for name, _ in masks), sorted({seed for _, seed in masks})
    width = min(PAGE_IN, 1.15 * len(seeds) + 0.6)
    figure = _figure(width, 1.25 * len(designs) + 0.35)
    grid = figure.subplots(len(designs), len(seeds), squeeze=False, sharex=True, sharey=True)
    for row, design in zip(grid, designs, strict=True):
        for axes, seed in zip(row, seeds, strict=True):
            if (design, seed) not in masks:
                axes.axis("off")
                continue
            mask = masks[design, seed]
            axes.imshow(mask, cmap="gray", vmin=0, vmax=1, extent=_extent(mask.shape, pitch_mm))
            axes.locator_params(nbins=3)
            axes.tick_params(labelsize=6, length=2)
            axes.set_title(f"seed {seed}", fontsize=7)
        row[0].set_ylabel(f"{design}\ny (mm)")
    for axes in grid[-1]:
        axes.set_xlabel("x (mm)")
    return figure


@styled
def scenes_figure(
    scenes: Array, panels: Mapping[str, Array], names: Sequence[str], pitch_mm: float, scene_mm: float, half: bool
) -> Figure:
    """One row per scene: scenes (n, H, W) 0..1, then each of `panels` (n, h, w) in DN, one grey scale per row."""
    width, n = PAGE_IN / 2 if half else PAGE_IN, len(scenes)
    size = 5.2 if half else 7.5
    figure = _figure(width, width * 0.245 * n + 0.3)
    grid = figure.subplots(n, 1 + len(panels), squeeze=False)
    for index, row in enumerate(grid):
        row[0].imshow(scenes[index], cmap="gray", vmin=0, vmax=1)
        row[0].set_ylabel(names[index], fontsize=size)
        shown = [panel[index] for panel in panels.values()]
        low, high = min(float(p.min()) for p in shown), max(float(p.max()) for p in shown)
        for axes, picture in zip(row[1:], shown, strict=True):
            image = axes.imshow(picture, cmap="gray", vmin=low, vmax=high)
        bar = figure.colorbar(image, ax=row[-1], fraction=0.046, pad=0.04)
        _thin(bar, "DN", size=size - 0.7)
        for axes in row:
            axes.set(xticks=[], yticks=[])
            axes.spines[:].set_visible(False)
    for axes, title in zip(grid[0], ("scene", *panels), strict=True):
        axes.set_title(title, fontsize=size)
    _scale_bar(grid[-1][0], scenes.shape[-1], scene_mm, size)
    _scale_bar(grid[-1][1], next(iter(panels.values())).shape[-1], pitch_mm, size)
    return figure


@styled
def histogram_figure(pairs: Mapping[str, tuple[Array, Array]], full_dn: float) -> Figure:
    """Shares of pixels by DN of noise-free simulated and captured frames, one panel per design; means as ticks."""
    columns = min(3, len(pairs))
    rows = -(-len(pairs) // columns)
    figure = _figure(PAGE_IN if columns > 1 else 5.0, 1.75 * rows + 0.45)
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
            axes.axvline(values.mean(), color=colour, linewidth=1.1, linestyle=LINES[1 if stage == "captured" else 0],
                         label=label)  # fmt: skip
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
    steps, quantities = _unique(c.step for c in curves), _unique(c.quantity for c in curves)
    designs = _unique(c.design for c in curves)
    figure = _figure(PAGE_IN, 1.85 * len(steps) + 0.35)
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
            axes.xaxis.get_major_locator().set_params(integer=True)
            axes.grid(axis="y")
    if designs != ["–"]:
        figure.legend(handles.values(), handles, loc="outside upper left", ncols=min(len(handles), 6))
    return figure


@styled
def confusion_figure(matrices: Mapping[str, Array], names: Sequence[str]) -> Figure:
    """Confusion matrices (K, K) of counts, rows are true classes, shown in percent of their row."""
    count = len(names)
    columns = 1 if len(matrices) == 1 else 2
    rows = -(-len(matrices) // columns)
    width = 5.0 if columns == 1 else PAGE_IN
    figure = _figure(width, rows * (0.84 * width / columns) + 0.2)
    grid = figure.subplots(rows, columns, squeeze=False)
    size = max(3.6, min(7.0, 78 / count / columns))
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
        _thin(figure.colorbar(image, ax=axes, fraction=0.046, pad=0.03), "% of the true class")
    return figure


@styled
def timing_figure(seconds: Mapping[str, float]) -> Figure:
    """Seconds by step name as horizontal bars."""
    figure = _figure(PAGE_IN, 0.24 * len(seconds) + 0.6)
    axes = figure.subplots()
    values = list(seconds.values())
    axes.barh(range(len(values)), values, color="#7a9cbf", height=0.62)
    for index, value in enumerate(values):
        axes.annotate(f"{value:.1f} s" if value >= 0.1 else f"{1000 * value:.0f} ms", (value, index), xytext=(3, 0),
                      textcoords="offset points", va="center", fontsize=7)  # fmt: skip
    axes.set_yticks(range(len(values)), list(seconds))
    axes.invert_yaxis()
    axes.set(xlabel="time (s), all designs and seeds together", xlim=(0, max([*values, 1e-3]) * 1.1))
    axes.tick_params(axis="y", length=0, labelcolor=INK)
    axes.spines["left"].set_visible(False)
    axes.grid(axis="x")
    axes.set_axisbelow(True)
    return figure


@styled
def live_figure(frames: Mapping[str, Array], pitch_mm: float) -> Figure:
    """Live frames (h, w) in DN by label, all in one grey scale."""
    columns = min(4, len(frames))
    rows = -(-len(frames) // columns)
    figure = _figure(PAGE_IN * columns / 4 + 0.4, 1.75 * rows + 0.2)
    grid = figure.subplots(rows, columns, squeeze=False)
    low, high = min(float(f.min()) for f in frames.values()), max(float(f.max()) for f in frames.values())
    for axes in grid.flat[len(frames) :]:
        axes.axis("off")
    for axes, (label, frame) in zip(grid.flat, frames.items(), strict=False):
        image = axes.imshow(frame, cmap="gray", vmin=low, vmax=high, extent=_extent(frame.shape, pitch_mm))
        axes.set_title(label)
        axes.locator_params(nbins=3)
        axes.tick_params(labelsize=6, length=2)
    for row in grid:
        row[0].set_ylabel("y (mm)")
    for axes in grid[-1]:
        axes.set_xlabel("x (mm)")
    _thin(figure.colorbar(image, ax=grid, fraction=0.03, pad=0.02), "DN")
    return figure


def _figure(width: float, height: float) -> Figure:
    return Figure(figsize=(width, height), layout="constrained")


def _unique(values: Any) -> list[str]:
    return list(dict.fromkeys(values))


def _line_of(index: int) -> tuple[str, str]:
    return DESIGN_COLOURS[index % len(DESIGN_COLOURS)], LINES[index // len(DESIGN_COLOURS) % len(LINES)]


def _extent(shape: tuple[int, ...], pitch_mm: float) -> tuple[float, float, float, float]:
    half_y, half_x = shape[-2] * pitch_mm / 2, shape[-1] * pitch_mm / 2
    return -half_x, half_x, half_y, -half_y


def _thin(bar: Any, label: str, size: float = 6.0) -> None:
    bar.outline.set_visible(False)
    bar.ax.tick_params(labelsize=size, length=2)
    bar.ax.locator_params(nbins=4)
    bar.set_label(label, fontsize=size)


def _scale_bar(axes: Axes, width_px: int, pitch_mm: float, size: float) -> None:
    """A bar below the picture, about a third of it long, of a round length."""
    wanted = width_px * pitch_mm / 3
    scale = 10.0 ** np.floor(np.log10(wanted))
    length = scale * max(step for step in (1, 2, 5) if step * scale <= wanted)
    share = length / pitch_mm / width_px
    line = {"arrowstyle": "-", "color": INK, "linewidth": 1.6, "shrinkA": 0, "shrinkB": 0}
    axes.annotate("", (0, -0.05), (share, -0.05), xycoords="axes fraction", annotation_clip=False, arrowprops=line)
    axes.annotate(f"{length:g} mm", (share, -0.05), xytext=(3, 0), textcoords="offset points", xycoords="axes fraction",
                  va="center", fontsize=size - 0.5, color=INK, annotation_clip=False)  # fmt: skip
