"""Figures of a report that hold pictures: masks, shadows, scenes and frames."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass

import numpy as np
from matplotlib.axes import Axes
from matplotlib.figure import Figure
from matplotlib.lines import Line2D
from matplotlib.patches import PathPatch
from matplotlib.path import Path
from matplotlib.transforms import ScaledTranslation

from protocols.report.figures import COLUMN_IN, INK, PAGE_IN, Array, new_figure, styled, thin_bar, unique

VECTOR_POLYGONS = 5000
"""More are drawn as pixels inside SVG and PDF, which would else take seconds to open."""

BAR_BELOW_PT = 5.0
"""Distance of a scale bar from its picture, in points."""


@dataclass(frozen=True)
class CameraView:
    """One camera: mask (H, W) 0..1, SLM levels, shadow (h, w), optional white frame (DN), and pixel pitches in mm.

    Without levels the mask is no mask, but weights of optics that no panel shows.
    """

    name: str
    mask: Array
    levels: Array | None
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
    figure = new_figure(PAGE_IN, 1.22 * len(cameras) + 0.42)
    grid = figure.subplots(len(cameras), columns, squeeze=False)
    for row, camera in zip(grid, cameras, strict=True):
        cells: tuple[str, str, tuple[float | None, float | None]]
        cells = ("transmittance", "gray", (0, 1)) if camera.levels is not None else ("open cells", "gray", (0, None))
        panels: list[tuple[str, Array | None, float, str, str, tuple[float | None, float | None]]] = [
            ("mask", camera.mask, camera.mask_pitch_mm, *cells),
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
    width = COLUMN_IN if len(seeds) < 4 else PAGE_IN
    figure = new_figure(width, (width - 0.5) / max(len(seeds), 2) * 1.15 * len(designs) + 0.3)
    grid = figure.subplots(len(designs), len(seeds), squeeze=False, sharex=True, sharey=True)
    for row, design in zip(grid, designs, strict=True):
        for axes, seed in zip(row, seeds, strict=True):
            if (design, seed) not in masks:
                axes.axis("off")
                continue
            mask = masks[design, seed]
            axes.imshow(mask, cmap="gray", vmin=0, vmax=max(1, mask.max()), extent=_extent(mask.shape, pitch_mm))
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
    width, n = COLUMN_IN if half else PAGE_IN, len(scenes)
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
    figure = new_figure(COLUMN_IN if columns < 3 else PAGE_IN, 1.75 * rows + 0.2)
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


@dataclass(frozen=True)
class ExportedView:
    """What a file for printing draws: polygons (n, 2) in mm, y up, and the (height, width) of the drawing in mm."""

    name: str
    polygons: Sequence[Array]
    size_mm: tuple[float, float]
    drawn: str


@styled
def exported_figure(masks: Sequence[ExportedView]) -> Figure:
    """Masks as their files draw them, each with a scale bar."""
    columns = min(4, len(masks))
    rows = -(-len(masks) // columns)
    width = COLUMN_IN if columns < 3 else PAGE_IN
    figure = new_figure(width, rows * (width / columns + 0.35))
    grid = figure.subplots(rows, columns, squeeze=False)
    for axes in grid.flat[len(masks) :]:
        axes.axis("off")
    for axes, mask in zip(grid.flat, masks, strict=False):
        (height, wide), many = mask.size_mm, len(mask.polygons) > VECTOR_POLYGONS
        if mask.polygons:  # as one path: viewers smooth the edges of each, and neighbours would show hairlines
            outline = Path.make_compound_path(*(Path(polygon, closed=True) for polygon in _closed(mask.polygons)))
            axes.add_patch(PathPatch(outline, facecolor="black", linewidth=0, rasterized=many))
        axes.set(xlim=(0, wide), ylim=(0, height), aspect="equal", xticks=[], yticks=[])
        axes.set_title(f"{mask.name}: {mask.drawn}")
        _framed(axes)
        _scale_bar(axes, 1, wide, 7.0)
    return figure


def _closed(polygons: Sequence[Array]) -> Sequence[Array]:
    """Polygons with their first corner repeated at the end."""
    return [np.concatenate([polygon, polygon[:1]]) for polygon in polygons]


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
    below = axes.transAxes + ScaledTranslation(0, -BAR_BELOW_PT / 72, axes.get_figure(root=True).dpi_scale_trans)
    bar = Line2D([0, share], [0, 0], color=INK, linewidth=1.6, solid_capstyle="butt", transform=below, clip_on=False)
    axes.add_artist(bar)
    axes.annotate(
        f"{length:g} mm",
        (share, 0),
        xytext=(3, 0),
        textcoords="offset points",
        xycoords=below,
        va="center",
        fontsize=size - 0.5,
        color=INK,
        annotation_clip=False,
    )
