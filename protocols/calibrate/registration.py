"""Panel-to-sensor registration of a lensless bench, from the shadows of single open cells under a point of light."""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING, Annotated, ClassVar

import numpy as np
import numpy.typing as npt
from annotated_types import Ge, Gt, Le

from labctl.calibration.record import ArrayNote, Calibration, Value
from labctl.steps import StepSetting
from protocols.calibrate.brightness_ladder import exposure_up_to
from protocols.calibrate.dot_fitting import (
    NOT_MODELLED_PX,
    WIDTH_FLOOR_PX,
    half_pixels,
    noise_variance,
    plane_of,
    with_floor,
)
from protocols.calibrate.dot_geometry import Geometry, fit_geometry
from protocols.calibrate.dots import Dots, Spot, brightest_near, fit_dots, fit_sigma
from protocols.calibrate.kind import DAY_S, Found, Kind
from protocols.calibrate.orientation import Orientation, figure_points, orientation_figure, orientation_of

if TYPE_CHECKING:
    from matplotlib.figure import Figure

    from protocols.calibrate.bench import Bench, Pixels

Array = npt.NDArray[np.float64]

FILL = 0.6
FIRST_SIGMA_PX = 0.6
SEARCH_PX = 8.0
"""How far the shadow may lie from its nominal place."""

LEAST_DOTS = 12
ODD_CHI2 = 9.0
"""A dot that fits so many times worse than most is no dot."""

LEAST_SPAN = 0.6
"""Share of the mask, along both axes, that the dots must span."""


class Registration(Kind):
    """Single open cells under a point of light, several grids of them, from several places of the point."""

    name: ClassVar[str] = "registration"
    title: ClassVar[str] = "Registration of panel and sensor"
    after: ClassVar[tuple[str, ...]] = ("dark", "flat")
    beliefs: ClassVar[tuple[str, ...]] = ("optics", "roads")

    max_age_s: Annotated[float, Gt(0), Le(366 * DAY_S)] = 7 * DAY_S

    spacing_cells: Annotated[int, Ge(3), Le(64)] = 6
    """From one open cell to the next. The shadows must not run into each other."""

    source_px: Annotated[int, Ge(1), Le(15)] = 1
    """Side of the patch of scene pixels that serves as point of light; odd."""

    source_step_px: Annotated[int, Ge(0), Le(256)] = 5
    """How far the point goes from the centre to each corner, in scene pixels, so that all of the mask comes onto the
    sensor; 0 keeps it in the centre."""

    repeats: Annotated[int, Ge(2), Le(256)] = 2
    """Frames of each pattern."""

    longest_s: Annotated[float, Gt(0), Le(60)] = 0.4
    """Exposures are no longer, even when the dots are dim."""

    def exposures(self, setting: StepSetting) -> int:
        """See `Kind.exposures`."""
        places = 1 if self.source_step_px == 0 else 5
        return self.repeats * (2 + 3 + 2 * (places - 1) + places) + 12

    def exposure_seconds(self, setting: StepSetting) -> float:
        """See `Kind.exposure_seconds`."""
        return self.longest_s * self.exposures(setting)

    def measure(self, bench: Bench) -> Found:
        """See `Kind.measure`."""
        shots = _Shots(bench, self)
        _check_orientation(bench, shots)
        dots = shots.all_dots()
        if len(dots.seen) < LEAST_DOTS or _span(dots.nominal, shots.half_mask_px) < LEAST_SPAN:
            span = 100 * _span(dots.nominal, shots.half_mask_px)
            bench.refuse(
                f"too few dots: {len(dots.seen)} were found on {span:.0f} % of the mask, {LEAST_DOTS} on "
                f"{100 * LEAST_SPAN:.0f} % are needed; raise longest_s or repeats, or lower spacing_cells",
                lambda: _dots_figure(shots.last_image, dots.last),
            )
        geometry = fit_geometry(
            dots.nominal,
            dots.source,
            dots.seen - shots.twin_offset_px,
            np.hypot(dots.error, NOT_MODELLED_PX),
            source_pitch_px=bench.rig.spec.twin.scene_px,
            plane=plane_of(bench.rig.spec.twin, bench.cells),
        )
        return _found(bench, shots, dots, with_floor(geometry, float(shots.half_mask_px.min())))

    def draw(self, calibration: Calibration) -> Figure:
        """See `Kind.draw`."""
        from protocols.calibrate.registration_page import registration_page

        return registration_page(calibration)


@dataclass(frozen=True)
class _AllDots:
    nominal: Array
    source: Array
    seen: Array
    error: Array
    light: Array
    sigma_px: float
    sigma_error: float
    shot: Array
    lost: int
    last: Dots


class _Shots:
    """Frames of grids of open cells, and the dots in them."""

    def __init__(self, bench: Bench, kind: Registration) -> None:
        self.bench, self.kind = bench, kind
        twin = bench.rig.spec.twin
        self.cell_px = float(twin.cell_on_sensor_px)
        self.scene_px = float(twin.scene_px)
        self.half_mask_px = self.cell_px * np.array(bench.cells) / 2
        self.twin_offset_px = half_pixels(twin, bench.cells, bench.scene_px, bench.frame_shape)
        flat = bench.built_on["flat"].arrays["flat"] if "flat" in bench.built_on else np.ones(bench.frame_shape)
        self.flat = np.asarray(flat, dtype=np.float64)
        side = np.arange(kind.source_px) - (kind.source_px - 1) / 2
        self.spot = Spot(self.cell_px, FIRST_SIGMA_PX, tuple(side * self.scene_px))
        self.shift_px = np.zeros(2)
        self.last_image = np.zeros(bench.frame_shape)
        self._closed: dict[tuple[int, int], Pixels] = {}
        self.exposure_s = exposure_up_to(
            bench,
            self.source((0, 0)),
            self.open_cells(self.grid(0)),
            fill=FILL,
            longest_s=kind.longest_s,
        )

    def source(self, place: tuple[int, int]) -> Array:
        """(H, W) scene: the patch, `place` scene pixels from the centre."""
        scene = self.bench.black()
        half = self.kind.source_px // 2
        row, column = (n // 2 + offset for n, offset in zip(self.bench.scene_px, place, strict=True))
        scene[row - half : row - half + self.kind.source_px, column - half : column - half + self.kind.source_px] = 1.0
        return scene

    def source_offset(self, place: tuple[int, int]) -> Array:
        """(2,) centre of that patch from the centre of the scene, in scene pixels."""
        even = [n // 2 - (n - 1) / 2 for n in self.bench.scene_px]
        odd = 0.0 if self.kind.source_px % 2 else -0.5
        return np.array(place, dtype=np.float64) + even + odd

    def grid(self, number: int) -> npt.NDArray[np.int64]:
        """(n, 2) cells of grid `number`: the same spacing, begun elsewhere. Grids together touch every row."""
        step = self.kind.spacing_cells
        start = (number % step, (2 * number + number // step) % step)
        rows, columns = (np.arange(first, n, step) for first, n in zip(start, self.bench.cells, strict=True))
        return np.stack(np.meshgrid(rows, columns, indexing="ij"), axis=-1).reshape(-1, 2)

    def open_cells(self, cells: npt.NDArray[np.int64]) -> Array:
        """(H, W) mask."""
        return self.bench.some_cells([(int(row), int(column)) for row, column in cells])

    def nominal(self, cells: Array) -> Array:
        """(n, 2) nominal place of the shadows of `cells` for a point in the centre, in sensor pixels."""
        return (np.asarray(cells, dtype=np.float64) - (np.array(self.bench.cells) - 1) / 2) * self.cell_px

    def image(self, name: str, place: tuple[int, int], mask: Array) -> tuple[Array, Array]:
        """(h, w) light through the open cells alone, flat taken off, and its variance.

        The frame of the closed mask under the same light is taken off, and with it leak, dark frame and stray light.
        """
        scene = self.source(place)
        row, column = place
        tells = {"source_row": [row], "source_column": [column]}
        if place not in self._closed:
            self._closed[place] = self.bench.frames(
                "closed", scene, self.bench.closed_mask(), self.exposure_s, repeats=self.kind.repeats, **tells
            )[0]
        lit = self.bench.frames(name, scene, mask, self.exposure_s, repeats=self.kind.repeats, **tells)[0]
        dark = self._closed[place]
        variance = noise_variance(lit) + noise_variance(dark)
        self.last_image = (lit.mean(axis=0) - dark.mean(axis=0)) / self.flat
        return self.last_image, variance / self.flat**2

    def all_dots(self) -> _AllDots:
        """Every grid from every place of the point, the width of the dots found on the way."""
        step = self.kind.source_step_px
        corners = [(-step, -step), (-step, step), (step, -step), (step, step)] if step else []
        shots = [((0, 0), 0), ((0, 0), 1), ((0, 0), 2)]
        shots += [(corner, 3 + 2 * number + more) for number, corner in enumerate(corners) for more in (0, 1)]
        nominal, source, seen, error, light, shot = [], [], [], [], [], []
        lost, sigma_error = 0, np.inf
        dots: Dots | None = None
        for place, number in shots:
            cells = self.grid(number)
            image, variance = self.image("dots", place, self.open_cells(cells))
            expected = self.nominal(cells)
            offset = self.scene_px * self.source_offset(place)
            guesses = brightest_near(
                image,
                expected + offset + self.shift_px,
                search_px=max(1.0, (self.kind.spacing_cells * self.cell_px - 1) / 2),
                sigma_px=self.cell_px / 2,
            )
            if dots is None:
                self.spot, sigma_error = fit_sigma(image, variance, guesses, self.spot)
            dots = fit_dots(image, variance, guesses, self.spot)
            typical = float(np.median(dots.chi2[dots.seen])) if dots.seen.any() else 1.0
            good = dots.seen & (dots.chi2 < ODD_CHI2 * max(1.0, typical))
            lost += int(len(cells) - good.sum())
            nominal.append(expected[good])
            source.append(np.broadcast_to(self.source_offset(place), expected[good].shape))
            seen.append(dots.place[good])
            error.append(dots.error[good] * np.sqrt(np.maximum(1.0, dots.chi2[good]))[:, None])
            light.append(dots.light[good])
            shot.append(np.full(int(good.sum()), float(len(shot))))
        assert dots is not None
        joined = [np.concatenate(parts) for parts in (nominal, source, seen, error, light, shot)]
        *dotwise, shots_of = joined
        return _AllDots(*dotwise, self.spot.sigma_px, sigma_error, shots_of, lost, dots)


def _check_orientation(bench: Bench, shots: _Shots) -> None:
    """Show a figure that looks the same in no other way, find it, and take its shift for the first guess."""
    size = 0.6 * (np.array(bench.cells) - 4)
    cells = np.round(figure_points((float(size[0]), float(size[1]))) + (np.array(bench.cells) - 1) / 2).astype(np.int64)
    pairs = np.concatenate([cells + offset for offset in ((0, 0), (0, 1), (1, 0), (1, 1))])
    image, _ = shots.image("orientation", (0, 0), shots.open_cells(pairs))
    expected = shots.nominal(cells + 0.5) + shots.scene_px * shots.source_offset((0, 0)) + shots.twin_offset_px
    found = orientation_of(image, expected, sigma_px=shots.cell_px, search_px=SEARCH_PX)
    refuse_unless_as_shown(bench, found, image, expected, "the mask", "the panel")
    shots.shift_px = np.array(found.shift_px) + shots.twin_offset_px


def refuse_unless_as_shown(
    bench: Bench, found: Orientation, image: Array, expected: Array, picture: str, device: str
) -> None:
    """Refuse with the picture when no dots are seen, or when they come another way round than they were shown."""
    if not found.visible:
        bench.refuse(
            f"no dots are seen (best correlation {found.likeness[found.way]:.2f}): {device} does not modulate, is not "
            "in the light path, or there is no light; look with `labctl live`, check its polarisers and its cable",
            lambda: orientation_figure(image, expected, found),
        )
    if not found.as_shown:
        bench.refuse(
            f"the image of {picture} is {found.way} (correlation {found.likeness[found.way]:.2f}, as shown "
            f"{found.likeness['as shown']:.2f}); turn {device} or the camera, or its read-out, so that rows stay rows "
            "and left stays left",
            lambda: orientation_figure(image, expected, found),
        )


def _span(nominal: Array, half_mask_px: Array) -> float:
    return 0.0 if len(nominal) < 2 else float((np.ptp(nominal, axis=0) / (2 * half_mask_px)).min())


def _found(bench: Bench, shots: _Shots, dots: _AllDots, geometry: Geometry) -> Found:
    rms = float(np.sqrt((geometry.residual[geometry.used] ** 2).mean()))
    off = int((~geometry.used).sum())
    values = {
        "shift_px": Value(
            value=tuple(float(v) for v in geometry.shift_px),
            error=(geometry.error("shift_row"), geometry.error("shift_column")),
            unit="px",
            text="Shift of the shadow of the mask, rows and columns",
        ),
        "rotation_rad": _number(
            geometry, "rotation_rad", geometry.rotation_rad, "rad", "Rotation, from rows to columns"
        ),
        "scale": _number(geometry, "scale", geometry.scale, "1", "Size of the shadow over the nominal one"),
        "scene_pitch_px": Value(
            value=geometry.source_pitch_px,
            error=geometry.error("source_pitch") if shots.kind.source_step_px else None,
            unit="px",
            text="How far the shadow goes when the point goes one scene pixel",
        ),
        "gap_error": Value(
            value=geometry.source_pitch_px / bench.rig.spec.twin.scene_px - 1,
            error=geometry.error("source_pitch") / bench.rig.spec.twin.scene_px if shots.kind.source_step_px else None,
            unit="1",
            text="Of the gap, relative, by that; as far as pitch and distance of the scene are right",
        ),
        "tilt_rad": Value(
            value=tuple(float(v) for v in geometry.tilt_rad),
            error=tuple(float(v) for v in _tilt_error(geometry)),
            unit="rad",
            text="Tilt of the mask: how the gap grows along rows and along columns; "
            + ("asked for by the dots" if "tilt" in geometry.kept else "not asked for by the dots, left at 0"),
        ),
        "distortion": Value(
            value=geometry.distortion,
            error=geometry.error("distortion")
            if "distortion" in geometry.kept
            else float(geometry.extra_error.get("distortion", np.array([np.nan]))[0]),
            unit="1",
            text="Radial, at the corner of the mask; "
            + ("asked for by the dots" if "distortion" in geometry.kept else "not asked for by the dots, left at 0"),
        ),
        "blur_px": Value(
            value=dots.sigma_px,
            error=float(np.hypot(dots.sigma_error, WIDTH_FLOOR_PX)),
            unit="px",
            text="Sigma of the Gaussian that a dot is wider than the boxes of cell and pixel make it",
        ),
        "residual_px": Value(
            value=rms, error=rms / np.sqrt(2 * geometry.used.sum()), unit="px", text="RMS of residuals"
        ),
        "dots": Value(value=int(geometry.used.sum()), error=None, unit="1", text="Dots that the fit stands on"),
    }
    warnings = []
    if off > 0.05 * len(geometry.used):
        warnings.append(f"{off} of {len(geometry.used)} dots lie far off and were left out; look at the residual map")
    if geometry.chi2 > 3:
        warnings.append(
            f"dots scatter {np.sqrt(geometry.chi2):.1f} times as much as their noise; the errors are scaled by that"
        )
    warnings += [f"the dots ask for {name}; the twin must know it too" for name in geometry.kept]
    table = np.column_stack(
        [dots.nominal, dots.source, dots.seen, dots.error, geometry.residual, geometry.used, dots.light, dots.shot]
    )
    columns = "nominal, source (scene px), seen, its error, residual: row, column each; then used, light, shot"
    return Found(
        values=values,
        arrays={
            "covariance": (
                geometry.covariance[:5, :5],
                ArrayNote(unit="px, rad, 1", text="Of shift (rows, columns), rotation, scale, scene pitch"),
            ),
            "dots": (table, ArrayNote(unit="px", text=columns)),
        },
        warnings=tuple(warnings),
        holds_for={
            "frame_shape": list(bench.frame_shape),
            "mask_cells": list(bench.cells),
            "scene_px": list(bench.scene_px),
        },
    )


def _number(geometry: Geometry, name: str, value: float, unit: str, text: str) -> Value:
    return Value(value=value, error=geometry.error(name), unit=unit, text=text)


def _tilt_error(geometry: Geometry) -> Array:
    if "tilt" in geometry.kept:
        return np.array([geometry.error("tilt_row"), geometry.error("tilt_column")])
    return geometry.extra_error.get("tilt", np.full(2, 1.0))


def _dots_figure(image: Array, dots: Dots) -> Figure:
    from matplotlib.figure import Figure

    figure = Figure(figsize=(4.5, 3.8), layout="constrained")
    axes = figure.subplots()
    shown = axes.imshow(image, cmap="gray")
    at = dots.place + (np.array(image.shape) - 1) / 2
    axes.plot(at[dots.seen, 1], at[dots.seen, 0], "+", color="#D55E00", label="dots that count")
    axes.plot(at[~dots.seen, 1], at[~dots.seen, 0], "x", color="#56B4E9", label="not seen well enough")
    axes.set(xlabel="sensor column (px)", ylabel="sensor row (px)", xlim=(-2, image.shape[1] + 1))
    axes.legend(fontsize=7)
    figure.colorbar(shown, ax=axes, label="light over closed mask (DN)")
    return figure
