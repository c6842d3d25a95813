"""Figures of cameras for clips: strips of frames over time, what the read-out does to light, and moving pictures."""

from __future__ import annotations

import io
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING

import numpy as np
from matplotlib.figure import Figure

from labctl.frames.figure_style import INK, SOFT
from protocols.report.figures import COLUMN_IN, PAGE_IN, Array, new_figure, styled

if TYPE_CHECKING:
    from protocols.video.transfer import TransferCurve

OPERATOR_COLOURS = {"soft": "#0072B2", "hard": "#D55E00"}
"""Distinguishable with every common colour-vision deficiency. [Okabe and Ito 2008]"""

GAP = 0.06
"""Between neighbouring frames of a strip, in frames."""

GIF_FRAME_MS = 120
GIF_PICTURE_PX = 160
"""Frames of a moving picture are enlarged by a whole number to about this height."""


@dataclass(frozen=True)
class Strip:
    """Frames (T, h, w) of one clip. first: frame of the clip that the first of them was read out at.

    signed: values span -1..1 with 0 in mid-grey; else 0..1.
    """

    name: str
    frames: Array
    first: int = 0
    signed: bool = False


@styled
def strips_figure(groups: Mapping[str, Sequence[Strip]], shown: Sequence[int], frame_s: float | None) -> Figure:
    """One block of strips for each clip, each frame at its time on the common axis.

    shown: frames of the clip that are drawn. frame_s: time from frame to frame; None: the axis counts frames.
    """
    rows = sum(len(strips) for strips in groups.values())
    wide = (PAGE_IN - 1.0) / len(shown)
    figure = new_figure(PAGE_IN, rows * wide * 1.02 + 0.34 + 0.2 * len(groups))
    figure.get_layout_engine().set(h_pad=0.02, hspace=0.02)  # type: ignore[union-attr]
    axes_of = iter(figure.subplots(rows, 1, squeeze=False)[:, 0])
    for title, strips in groups.items():
        for number, strip in enumerate(strips):
            axes = next(axes_of)
            for place, frame in enumerate(shown):
                at = frame - strip.first
                if not 0 <= at < len(strip.frames):
                    continue
                extent = (place - 0.5 + GAP / 2, place + 0.5 - GAP / 2, 0.0, 1.0 - GAP)
                axes.imshow(
                    strip.frames[at], cmap="gray", vmin=-1 if strip.signed else 0, vmax=1, extent=extent, aspect="auto"
                )
            axes.set(xlim=(-0.5, len(shown) - 0.5), ylim=(0, 1 - GAP), yticks=[], aspect="equal")
            axes.set_ylabel(strip.name, rotation=0, ha="right", va="center", fontsize=6.5)
            axes.spines[:].set_visible(False)
            last = number == len(strips) - 1
            times = [f"{f}" if frame_s is None else f"{1e3 * f * frame_s:.3g}" for f in shown]
            axes.set_xticks(range(len(shown)), times if last else [""] * len(shown))
            axes.tick_params(axis="x", length=2 if last else 0, labelsize=6)
            if number == 0:
                axes.set_title(title, loc="left", fontsize=7)
            if last:
                axes.set_xlabel("frame" if frame_s is None else "time (ms)", fontsize=6.5, labelpad=1)
    return figure


@styled
def transfer_figure(curves: Mapping[str, Mapping[str, TransferCurve]]) -> Figure:
    """What comes out for what light goes in, one panel for each design: soft, hard, thresholds as ticks, zero marked.

    curves: by design, then by operator.
    """
    columns = min(3, len(curves))
    rows = -(-len(curves) // columns)
    figure = new_figure(PAGE_IN if columns > 1 else COLUMN_IN, 2.0 * rows + 0.4)
    grid = figure.subplots(rows, columns, squeeze=False)
    for axes in grid.flat[len(curves) :]:
        axes.axis("off")
    handles: dict[str, object] = {}
    for axes, (name, by_operator) in zip(grid.flat, curves.items(), strict=False):
        for operator, curve in by_operator.items():
            (line,) = axes.plot(
                curve.inputs,
                curve.outputs,
                color=OPERATOR_COLOURS.get(operator, INK),
                linewidth=1.1,
                linestyle="-" if operator == "hard" else (0, (5, 2)),
                zorder=3 if operator == "soft" else 2,
            )
            handles.setdefault(operator, line)
            for edge in curve.edges if operator == "hard" else ():
                axes.plot([edge, edge], [0, 0.04], color=INK, linewidth=0.8, transform=axes.get_xaxis_transform())
        of_change = next(iter(by_operator.values())).of_change
        handles.setdefault(
            "no change" if of_change else "no light", axes.axvline(0, color=SOFT, linewidth=0.9, zorder=1)
        )
        axes.set_title(name, loc="left")
        axes.set_xlabel("change of light (white = 1)" if of_change else "light (white = 1)")
        axes.locator_params(axis="x", nbins=5)
        axes.grid(zorder=0)
        axes.set_axisbelow(True)
    for row in grid:
        row[0].set_ylabel("read value")
    figure.legend(handles.values(), handles, loc="outside upper left", ncols=len(handles))  # type: ignore[arg-type]
    return figure


def moving_picture(strips: Sequence[Strip]) -> bytes:
    """A GIF that loops through strips side by side, with a line between them. A frame that one lacks stays mid-grey."""
    from PIL import Image

    last = max(strip.first + len(strip.frames) for strip in strips)
    pictures = [Image.fromarray(np.hstack(_side_by_side(strips, time))) for time in range(last)]
    content = io.BytesIO()
    pictures[0].save(
        content, "GIF", save_all=True, append_images=pictures[1:], duration=GIF_FRAME_MS, loop=0, optimize=False
    )
    return content.getvalue()


def _side_by_side(strips: Sequence[Strip], time: int) -> list[Array]:
    tall = GIF_PICTURE_PX
    parts: list[Array] = []
    for strip in strips:
        side = max(1, round(tall / strip.frames.shape[1]))
        at, low = time - strip.first, -1.0 if strip.signed else 0.0
        if 0 <= at < len(strip.frames):
            grey = np.clip((strip.frames[at].astype(np.float64) - low) / (1 - low), 0, 1)
        else:
            grey = np.full(strip.frames.shape[1:], 0.5)
        large = np.kron(np.round(255 * grey).astype(np.uint8), np.ones((side, side), dtype=np.uint8))
        fitted = np.full((tall, large.shape[1]), 255, dtype=np.uint8)
        fitted[: min(tall, len(large))] = large[:tall]
        parts += [fitted, np.full((tall, 4), 255, dtype=np.uint8)]
    return parts[:-1]
