"""Figures of a report that hold pictures: masks, shadows, scenes and frames."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass

import numpy as np
from matplotlib.axes import Axes
from matplotlib.figure import Figure

from protocols.report.figures import INK, PAGE_IN, Array, new_figure, styled, thin_bar, unique


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
    figure = new_figure(PAGE_IN, 1.36 * len(cameras) + 0.42)
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
            thin_bar(figure.colorbar(shown, ax=axes, fraction=0.046, pad=0.03), unit)
            _framed(axes)
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
    designs, seeds = unique(name for name, _ in masks), sorted({seed for _, seed in masks})
    width = min(PAGE_IN, 1.15 * len(seeds) + 0.6)
    figure = new_figure(width, 1.25 * len(designs) + 0.35)
    grid = figure.subplots(len(designs), len(seeds), squeeze=False, sharex=True, sharey=True)
    for row, design in zip(grid, designs, strict=True):
        for axes, seed in zip(row, seeds, strict=True):
            if (design, seed) not in masks:
                axes.axis("off")
                continue
            mask = masks[design, seed]
            axes.imshow(mask, cmap="gray", vmin=0, vmax=1, extent=_extent(mask.shape, pitch_mm))
            _framed(axes)
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
    figure = new_figure(width, width * (0.2 if half else 0.219) * n + 0.3)
    figure.get_layout_engine().set(h_pad=0.03, hspace=0)  # type: ignore[union-attr]
    grid = figure.subplots(n, 1 + len(panels), squeeze=False)
    for index, row in enumerate(grid):
        row[0].imshow(scenes[index], cmap="gray", vmin=0, vmax=1)
        row[0].set_ylabel(names[index], fontsize=size)
        shown = [panel[index] for panel in panels.values()]
        low, high = min(float(p.min()) for p in shown), max(float(p.max()) for p in shown)
        for axes, picture in zip(row[1:], shown, strict=True):
            image = axes.imshow(picture, cmap="gray", vmin=low, vmax=high)
        bar = figure.colorbar(image, ax=row[-1], fraction=0.046, pad=0.04)
        thin_bar(bar, "DN", size=size - 0.7)
        for axes in row:
            axes.set(xticks=[], yticks=[])
            axes.spines[:].set_visible(False)
    for axes, title in zip(grid[0], ("scene", *panels), strict=True):
        axes.set_title(title, fontsize=size)
    _scale_bar(grid[-1][0], scenes.shape[-1], scene_mm, size)
    _scale_bar(grid[-1][1], next(iter(panels.values())).shape[-1], pitch_mm, size)
    return figure


@styled
def live_figure(frames: Mapping[str, Array], pitch_mm: float) -> Figure:
    """Live frames (h, w) in DN by label, all in one grey scale."""
    columns = min(4, len(frames))
    rows = -(-len(frames) // columns)
    figure = new_figure(PAGE_IN * columns / 4 + 0.4, 1.75 * rows + 0.2)
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
    thin_bar(figure.colorbar(image, ax=grid, fraction=0.03, pad=0.02), "DN")
    return figure


def _extent(shape: tuple[int, ...], pitch_mm: float) -> tuple[float, float, float, float]:
    half_y, half_x = shape[-2] * pitch_mm / 2, shape[-1] * pitch_mm / 2
    return -half_x, half_x, -half_y, half_y


def _framed(axes: Axes) -> None:
    """A thin line all round, so that a white picture does not melt into the page."""
    for spine in axes.spines.values():
        spine.set(visible=True, linewidth=0.5, color="#9aa3ad")


def _scale_bar(axes: Axes, width_px: int, pitch_mm: float, size: float) -> None:
    """A bar below the picture, about a third of it long, of a round length."""
    wanted = width_px * pitch_mm / 3
    scale = 10.0 ** np.floor(np.log10(wanted))
    length = scale * max(step for step in (1, 2, 5) if step * scale <= wanted)
    share = length / pitch_mm / width_px
    line = {"arrowstyle": "-", "color": INK, "linewidth": 1.6, "shrinkA": 0, "shrinkB": 0}
    axes.annotate("", (0, -0.05), (share, -0.05), xycoords="axes fraction", annotation_clip=False, arrowprops=line)
    axes.annotate(
        f"{length:g} mm",
        (share, -0.05),
        xytext=(3, 0),
        textcoords="offset points",
        xycoords="axes fraction",
        va="center",
        fontsize=size - 0.5,
        color=INK,
        annotation_clip=False,
    )
