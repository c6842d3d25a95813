"""The figure of a study: accuracy by design, and against blurriness, as PNG for pages and SVG and PDF for papers."""

from __future__ import annotations

import io
from dataclasses import dataclass
from typing import Any

import matplotlib
from matplotlib.axes import Axes
from matplotlib.backends.backend_agg import FigureCanvasAgg
from matplotlib.figure import Figure

from labctl.frames.figure_style import COMMON, INK, SOFT
from labctl.study.analysis import Share, StudyAnalysis

COLOURS = ("#0072B2", "#D55E00", "#009E73", "#CC79A7", "#E69F00", "#56B4E9", "#332288", "#882255", "#999933")
"""Distinguishable with every common colour-vision deficiency. [Okabe and Ito 2008; Tol 2021]"""

MARKS = "osD^vPX<>"
WIDTH_IN = 7.16
"""Across both columns of a paper."""

STYLE: dict[str, Any] = {
    **COMMON,
    "font.family": ["DejaVu Sans"],
    "lines.linewidth": 1.3,
    "svg.fonttype": "path",
    "svg.hashsalt": "labctl",
    "pdf.fonttype": 42,
}


@dataclass(frozen=True)
class StudyDrawing:
    """One figure in three formats; equal analyses give equal bytes."""

    png: bytes
    svg: bytes
    pdf: bytes


def draw_study(found: StudyAnalysis) -> StudyDrawing:
    """Left: each design with its interval. Right: the same against blurriness, with the fitted curve and its band."""
    style: Any = STYLE
    with matplotlib.rc_context(style):
        figure = Figure(figsize=(WIDTH_IN, 3.0), layout="constrained", facecolor="white")
        FigureCanvasAgg(figure)
        left, right = figure.subplots(1, 2, sharey=True, width_ratios=(1, 1.25))
        _by_design(left, found)
        _by_blurriness(right, found)
        for axes in (left, right):
            axes.axhline(100 * found.chance, color=SOFT, linestyle=(0, (4, 3)), linewidth=1, zorder=1)
            axes.set_ylim(0, 104)
            axes.grid(axis="y")
            axes.set_axisbelow(True)
        left.set_ylabel("people right (%)")
        figure.draw_without_rendering()
        figure.set_layout_engine("none")  # placed once for all formats
        return StudyDrawing(
            _saved(figure, "png", {"Software": None}),
            _saved(figure, "svg", {"Date": None, "Creator": None}),
            _saved(figure, "pdf", {"CreationDate": None, "Creator": None, "Producer": None}),
        )


def _by_design(axes: Axes, found: StudyAnalysis) -> None:
    for place, one in enumerate(found.designs):
        _dot(axes, place, one.share, place)
    names = [one.design for one in found.designs]
    long = max(map(len, names)) * len(names) > 40
    axes.set_xticks(range(len(names)), names, rotation=35 if long else 0, ha="right" if long else "center", color=INK)
    axes.tick_params(axis="x", length=0)
    axes.set_xlim(-0.6, len(names) - 0.4)
    axes.annotate(
        f"chance 1/{found.choices}", (0, 100 * found.chance), xycoords=("axes fraction", "data"), xytext=(3, 2),
        textcoords="offset points", fontsize=7, color=SOFT,
    )  # fmt: skip
    people = f"{found.participants} participant{'s' if found.participants != 1 else ''}"
    axes.set_title(f"{people}, {found.answers} answers", fontsize=8, loc="left")


def _by_blurriness(axes: Axes, found: StudyAnalysis) -> None:
    axes.set_xlabel("blurriness of the captured frame (0 sharp, 1 blur)")
    if found.band is not None:
        at = found.band.blurriness
        share = [[100 * value for value in values] for values in (found.band.accuracy, found.band.low, found.band.high)]
        axes.fill_between(at, share[1], share[2], color=SOFT, alpha=0.16, linewidth=0, zorder=1)
        axes.plot(at, share[0], color=SOFT, zorder=2)
    for one in found.bins:
        _error(axes, one.blurriness, one.share, color="#9aa3ad", fmt=".", markersize=4, elinewidth=0.8, zorder=2)
    for place, design in enumerate(found.designs):
        if design.blurriness is not None:
            _dot(axes, design.blurriness, design.share, place)
    told = found.no_curve and f"no curve: {found.no_curve}"
    if told and not found.bins:
        axes.text(0.5, 0.6, "no blurriness", transform=axes.transAxes, ha="center", color=SOFT)
    title = "" if found.bins == [] else "grey: answers of like blurriness" + ("" if told else "; line: fitted curve")
    axes.set_title(title, fontsize=8, loc="left", color=SOFT)


def _dot(axes: Axes, x: float, share: Share, place: int) -> None:
    colour, mark = COLOURS[place % len(COLOURS)], MARKS[place % len(MARKS)]
    _error(axes, x, share, color=colour, fmt=mark, markersize=5.5, elinewidth=1.2, capsize=3, zorder=3)


def _error(axes: Axes, x: float, share: Share, **how: Any) -> None:
    ends = [[100 * max(share.accuracy - share.low, 0.0)], [100 * max(share.high - share.accuracy, 0.0)]]
    axes.errorbar(x, 100 * share.accuracy, ends, **how)


def _saved(figure: Figure, form: str, metadata: dict[str, None]) -> bytes:
    target = io.BytesIO()
    figure.savefig(target, format=form, dpi=170 if form == "png" else 300, metadata=metadata)
    return target.getvalue()
