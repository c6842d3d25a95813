"""Flat field: how every pixel answers to the same light, and the vignetting in it."""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING, Annotated, ClassVar

import numpy as np
import numpy.typing as npt
from annotated_types import Ge, Gt, Le, Lt

from labctl.calibration.record import ArrayNote, Calibration, Value
from labctl.steps import StepSetting
from protocols.calibrate.kind import Found, Kind
from protocols.calibrate.nonuniformity import middle, spread_of, without_trend
from protocols.calibrate.page import BESIDE, CONCLUDED, MEASURED, in_style, list_values, sheet, show_map

if TYPE_CHECKING:
    from matplotlib.figure import Figure

    from protocols.calibrate.bench import Bench, Pixels

FloatArray = npt.NDArray[np.float64]

ROOM_PX = 6.0
"""What shift, scale and blur of the shadow may take of the scene's margin, in sensor pixels."""

LARGEST_SHARE = 0.2
"""Radius of the disc over the side of the mask, where the margin allows it."""

LEAST_LIGHT = 0.2
"""Share of the wanted signal below which the frames are too dark for a flat."""

DEGREE = 4
"""Of the smooth surface beside which single pixels are told."""

SURE = 5.0
"""Standard errors from which an axis beside the middle of the sensor is told."""


class Flat(Kind):
    """White scene through a small disc in the middle of the mask, less the same through the closed mask.

    What leaks through closed cells is in both and drops out. A small opening sees the same light everywhere on the
    sensor as long as the scene reaches beyond the frame; the whole mask would see the edge of the scene.
    """

    name: ClassVar[str] = "flat"
    title: ClassVar[str] = "Flat field"
    after: ClassVar[tuple[str, ...]] = ("dark",)
    beliefs: ClassVar[tuple[str, ...]] = ("sensor",)

    frames: Annotated[int, Ge(4), Le(4096)] = 48
    """Of each, open and closed."""

    radius_cells: Annotated[float, Gt(0), Le(256)] | None = None
    """Of the disc; None: as large as the margin of the scene allows, at most a fifth of the mask."""

    fill: Annotated[float, Gt(0), Lt(1)] = 0.8
    """Of the brightest pixels."""

    def exposures(self, setting: StepSetting) -> int:
        """See `Kind.exposures`."""
        return 2 * self.frames + 10

    def measure(self, bench: Bench) -> Found:
        """See `Kind.measure`."""
        radius = self.radius_cells or radius_that_fits(bench)
        disc = disc_of(bench.cells, radius)
        black_dn = bench.built_on["dark"].value("black_level_dn")
        exposure_s = bench.exposure_for(bench.white(), disc, self.fill, black_dn=black_dn)
        opened = bench.frames("open", bench.white(), disc, exposure_s, repeats=self.frames)[0]
        closed = bench.frames("closed", bench.white(), bench.closed_mask(), exposure_s, repeats=self.frames)[0]
        _refuse(bench, opened, closed, black_dn, self.fill)
        light, error = difference(opened, closed)
        part = middle(bench.frame_shape, 0.5)
        level = float(light[part].mean())
        flat, flat_error = light / level, error / level
        fall_off = vignetting_of(flat, flat_error, bench.rig.spec.twin.sensor.shape)
        smooth_off, numbers = without_trend(flat, DEGREE)
        surface = flat - smooth_off
        single = spread_of(smooth_off / surface, float(((flat_error / surface) ** 2).mean()), fitted=numbers)
        warnings = []
        if fall_off.off_axis > SURE:
            warnings.append(
                f"the light does not fall off about the middle of the sensor ({fall_off.off_axis:.0f} sigma); "
                "use the map, `vignetting` does not describe it"
            )
        values = {
            "vignetting": Value(
                value=fall_off.share,
                error=fall_off.error,
                unit="1",
                text="Share of light lost at the corner of the whole sensor, with the square of the radius",
            ),
            "prnu": Value(
                value=single.total,
                error=single.total_error,
                unit="1",
                text="Spread of the response of these pixels beside a smooth surface",
            ),
        }
        return Found(
            values=values,
            arrays={
                "flat": (flat, ArrayNote(unit="1", text="Relative response; 1 in the mean of the central quarter")),
                "flat_error": (flat_error, ArrayNote(unit="1", text="Standard error, temporal noise alone")),
                "fall_off": (fall_off.fitted, ArrayNote(unit="1", text="The vignetting that was fitted")),
                "mask": (disc, ArrayNote(unit="1", text="Transmittance of the mask that was shown")),
            },
            warnings=tuple(warnings),
            holds_for={"frame_shape": list(bench.frame_shape), "gain_db": 0.0},
        )

    def draw(self, calibration: Calibration) -> Figure:
        """See `Kind.draw`."""
        return _page(calibration)


@dataclass(frozen=True)
class FallOff:
    """Vignetting as the twin has it. off_axis: standard errors by which a gradient across the sensor differs from 0."""

    share: float
    error: float
    fitted: FloatArray
    off_axis: float


def vignetting_of(flat: FloatArray, error: FloatArray, sensor_shape: tuple[int, int]) -> FallOff:
    """Fit flat (h, w) = level (1 - share r^2), with r = 1 at the corner of a sensor of `sensor_shape` px about it.

    The pixels differ by more than the noise; their scatter about the fit decides the errors.
    """
    height, width = flat.shape
    y, x = (np.arange(n) - (n - 1) / 2 for n in (height, width))
    corner = ((sensor_shape[0] - 1) ** 2 + (sensor_shape[1] - 1) ** 2) / 4
    radius2 = (y[:, None] ** 2 + x[None, :] ** 2) / max(corner, 1e-12)
    weight = 1 / (error**2 + float(np.var(flat - without_trend_surface(flat))))
    linear = [np.ones_like(flat), radius2]
    fit, covariance, scatter = _least_squares(linear, flat, weight)
    share = -fit[1] / fit[0]
    # by how level and slope enter their ratio
    slopes = np.array([fit[1] / fit[0] ** 2, -1 / fit[0]])
    tilted, tilted_covariance, _ = _least_squares(
        [*linear, np.broadcast_to(y[:, None], flat.shape), np.broadcast_to(x, flat.shape)], flat, weight
    )
    away = np.abs(tilted[2:]) / np.sqrt(np.diag(tilted_covariance)[2:] * scatter)
    return FallOff(
        share=float(share),
        error=float(np.sqrt(slopes @ covariance @ slopes * scatter)),
        fitted=fit[0] + fit[1] * radius2,
        off_axis=float(away.max()),
    )


def without_trend_surface(flat: FloatArray) -> FloatArray:
    """The smooth surface under a flat field (h, w)."""
    return flat - without_trend(flat, DEGREE)[0]


def difference(opened: Pixels, closed: Pixels) -> tuple[FloatArray, FloatArray]:
    """(h, w) mean of the frames (n, h, w) with light less that of those without, and its standard error.

    Temporal noise grows with the mean of a pixel along one line for all: the line is fitted, since the variance of a
    single pixel over few frames is known badly.
    """
    light = opened.mean(axis=0, dtype=np.float64) - closed.mean(axis=0, dtype=np.float64)
    return light, np.sqrt(_variance(opened) / len(opened) + _variance(closed) / len(closed))


def radius_that_fits(bench: Bench) -> float:
    """Radius in cells of the largest disc whose image of the scene is even all over the frame."""
    twin = bench.rig.spec.twin
    cell_px, scene_px = float(twin.cell_on_sensor_px), float(twin.scene_px)
    margin_px = min(
        (scene * scene_px - frame) / 2 for scene, frame in zip(bench.scene_px, bench.frame_shape, strict=True)
    )
    return float(max(0.5, min((margin_px - ROOM_PX) / cell_px, LARGEST_SHARE * min(bench.cells))))


def disc_of(cells: tuple[int, int], radius: float) -> FloatArray:
    """(H, W) mask that is open within `radius` cells of its middle; one cell at least."""
    y, x = (np.arange(n) - (n - 1) / 2 for n in cells)
    away = np.hypot(y[:, None], x[None, :])
    return (away <= max(radius, float(away.min()))).astype(np.float64)


def _variance(frames: Pixels) -> FloatArray:
    seen, mean = frames.var(axis=0, ddof=1, dtype=np.float64), frames.mean(axis=0, dtype=np.float64)
    slope, offset = np.polyfit(mean.reshape(-1), seen.reshape(-1), 1)
    return np.maximum(offset + slope * mean, 0.25 * float(seen.mean()))


def _least_squares(
    terms: list[FloatArray], values: FloatArray, weight: FloatArray
) -> tuple[FloatArray, FloatArray, float]:
    """Coefficients, their covariance for variances 1 / weight, and the reduced chi squared of what is left."""
    design = np.stack([term.reshape(-1) for term in terms], axis=1)
    normal = design.T @ (design * weight.reshape(-1, 1))
    fit = np.linalg.solve(normal, design.T @ (weight * values).reshape(-1))
    left = values.reshape(-1) - design @ fit
    return fit, np.linalg.inv(normal), float((weight.reshape(-1) * left**2).sum()) / (values.size - len(terms))


def _refuse(bench: Bench, opened: Pixels, closed: Pixels, black_dn: float, fill: float) -> None:
    from protocols.calibrate.dark import histogram

    saturated = float((opened >= bench.saturation_dn).mean())
    if saturated > 0.01:
        bench.refuse(
            f"{saturated:.1%} of the pixels are saturated; choose a smaller `fill`, or see whether the light is steady",
            lambda: histogram(opened, f"{saturated:.1%} saturated", mark=bench.saturation_dn),
        )
    wanted = fill * (bench.saturation_dn - black_dn)
    light = float(opened.mean()) - float(closed.mean())
    if float(opened.mean()) - black_dn < LEAST_LIGHT * wanted:
        bench.refuse(
            f"the frames are empty: a white scene through the disc gives {float(opened.mean()) - black_dn:.3g} DN at "
            "the longest exposure; look at the lamp, the shutter, the lens cap and the scene display",
            lambda: histogram(opened, "Frames through the disc", mark=black_dn),
        )
    if light < 0.05 * wanted:
        bench.refuse(
            f"the disc gives {light:.3g} DN more than the closed mask, {0.05 * wanted:.3g} DN are needed: the panel "
            "hardly modulates; look at its polarisers and its input, or give a larger `radius_cells`",
            lambda: histogram(opened, f"Disc and closed mask differ by {light:.3g} DN"),
        )


@in_style
def _page(calibration: Calibration) -> Figure:
    flat, error, fitted = (calibration.arrays[name] for name in ("flat", "flat_error", "fall_off"))
    figure, axes = sheet(5.2, 2, 2)
    show_map(axes[0, 0], flat, "Relative response", "1", sigmas=6)
    show_map(axes[0, 1], 100 * (flat - fitted), "Less the fitted vignetting", "%")
    height, width = flat.shape
    y, x = (np.arange(n) - (n - 1) / 2 for n in (height, width))
    radius = np.hypot(y[:, None], x[None, :]).reshape(-1)
    order = np.argsort(radius)
    axes[1, 0].errorbar(
        radius,
        flat.reshape(-1),
        error.reshape(-1),
        fmt=".",
        markersize=2,
        elinewidth=0.4,
        color=MEASURED,
        label="pixels",
    )
    axes[1, 0].plot(radius[order], fitted.reshape(-1)[order], color=CONCLUDED, label="vignetting")
    axes[1, 0].axhline(1, color=BESIDE, linewidth=0.6)
    axes[1, 0].set(xlabel="from the middle of the sensor (px)", ylabel="relative response", title="Fall-off")
    axes[1, 0].legend()
    names = (("vignetting", "lost at the corner"), ("prnu", "PRNU beside a smooth surface"))
    list_values(axes[1, 1], calibration, names, "Found")
    return figure
