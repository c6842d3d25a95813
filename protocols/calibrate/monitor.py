"""Scene monitor: its gamma and contrast, where its pixels are imaged, and whether it flickers."""

from __future__ import annotations

from typing import TYPE_CHECKING, Annotated, ClassVar

import numpy as np
import numpy.typing as npt
from annotated_types import Ge, Gt, Le

from labctl.calibration.record import ArrayNote, Calibration, Value
from labctl.errors import BadInput
from labctl.roads import FULL_LEVEL
from labctl.steps import StepSetting
from protocols.calibrate.brightness_ladder import Ladder, Levels, climb, dark_frame, exposure_up_to, spread_levels
from protocols.calibrate.dot_fitting import NOT_MODELLED_PX, WIDTH_FLOOR_PX, noise_variance, plane_of, with_floor
from protocols.calibrate.dot_geometry import Geometry, fit_geometry
from protocols.calibrate.dots import Spot, fit_dots, fit_sigma
from protocols.calibrate.flicker import Flicker, flicker_of
from protocols.calibrate.kind import DAY_S, Found, Kind
from protocols.calibrate.orientation import figure_points, orientation_of
from protocols.calibrate.registration import refuse_unless_as_shown
from protocols.calibrate.response_table import Response, response_from

if TYPE_CHECKING:
    from matplotlib.figure import Figure

    from protocols.calibrate.bench import Bench

Array = npt.NDArray[np.float64]

LEAST_CONTRAST = 5.0
LEAST_DOTS = 6
FILL = 0.6
SEARCH_PX = 8.0
FIRST_SIGMA_PX = 0.6


class Monitor(Kind):
    """Uniform grey scenes through the open mask, then single bright scene pixels through one open cell, a pinhole."""

    name: ClassVar[str] = "monitor"
    title: ClassVar[str] = "Scene monitor"
    after: ClassVar[tuple[str, ...]] = ("dark", "flat")
    beliefs: ClassVar[tuple[str, ...]] = ("optics", "roads")

    max_age_s: Annotated[float, Gt(0), Le(366 * DAY_S)] = 30 * DAY_S

    levels: Annotated[int, Ge(6), Le(256)] = 14
    """Grey levels that are measured, evenly spaced from 1 to 255. Level 0 everywhere would stand for no monitor."""

    spacing_px: Annotated[int, Ge(4), Le(256)] = 6
    """From one bright scene pixel to the next."""

    repeats: Annotated[int, Ge(2), Le(256)] = 2
    longest_s: Annotated[float, Gt(0), Le(60)] = 0.5
    """Exposures are no longer, even when the dots are dim."""

    max_drift: Annotated[float, Gt(0), Le(0.5)] = 0.02
    flicker_frames: Annotated[int, Ge(8), Le(4096)] = 12
    """Frames of each exposure time."""

    def exposures(self, setting: StepSetting) -> int:
        """See `Kind.exposures`."""
        return self.repeats * (2 * self.levels + 8) + 3 * self.flicker_frames + 15

    def exposure_seconds(self, setting: StepSetting) -> float:
        """See `Kind.exposure_seconds`."""
        return 0.01 * self.exposures(setting) + self.repeats * 8 * self.longest_s

    def measure(self, bench: Bench) -> Found:
        """See `Kind.measure`."""
        ladder = climb(
            bench,
            "grey",
            lambda shown: (_uniform(bench, shown), bench.open_mask()),
            np.maximum(spread_levels(self.levels), 1),
            repeats=self.repeats,
            longest_s=self.longest_s,
            max_drift=self.max_drift,
        )
        if ladder.relative[0] > 1 / LEAST_CONTRAST:
            bench.refuse(
                f"the monitor does not modulate: its darkest grey is {100 * ladder.relative[0]:.0f} % of white, below "
                f"{100 / LEAST_CONTRAST:.0f} % is needed; check that `scene` is the display that the camera sees, and "
                "that no other light falls on it"
            )
        try:
            response = _response(ladder)
        except BadInput as error:
            bench.refuse(str(error))
        geometry, sigma = _geometry(bench, self)
        return _found(bench, ladder, response, geometry, sigma, _flicker(bench, self, ladder.rungs[0].exposure_s))

    def draw(self, calibration: Calibration) -> Figure:
        """See `Kind.draw`."""
        from protocols.calibrate.monitor_page import monitor_page

        return monitor_page(calibration)


def _response(ladder: Ladder) -> Response:
    """The response from level 0, which is not measured: level 1 less what the gamma of the others makes of it."""
    at = np.where(ladder.levels == 1, 0, ladder.levels)
    relative, error = ladder.relative.copy(), ladder.error.copy()
    gamma = response_from(at, relative, error, what="the monitor").gamma
    step = (1 / FULL_LEVEL) ** gamma
    relative[0], error[0] = max(relative[0] - step, 0.0), np.hypot(error[0], 0.1 * step)
    return response_from(at, relative, error, what="the monitor")


def _uniform(bench: Bench, levels: Levels) -> Array:
    """(n, H, W) scenes of one level each."""
    values = bench.rig.roads.scene.scene_of(levels)
    return np.broadcast_to(values[:, None, None], (len(levels), *bench.scene_px))


def _geometry(bench: Bench, kind: Monitor) -> tuple[Geometry, tuple[float, float]]:
    """How the image of the scene lies on the sensor behind a pinhole in the middle of the mask, and how wide its dots
    are, with an error."""
    twin = bench.rig.spec.twin
    pinhole = bench.some_cells([(bench.cells[0] // 2, bench.cells[1] // 2)])
    hole_px = (np.array(bench.cells) // 2 - (np.array(bench.cells) - 1) / 2) * twin.cell_on_sensor_px
    middle = (np.array(bench.scene_px) - 1) / 2
    half = np.minimum(np.array(bench.frame_shape) / 2 / twin.scene_px - 3, middle - 1)
    figure = np.round(figure_points((float(1.2 * half[0]), float(1.2 * half[1]))) + middle).astype(np.int64)
    count = np.floor(half / kind.spacing_px).astype(np.int64)
    rows, columns = (np.arange(-n, n + 1) * kind.spacing_px for n in count)
    grid = np.stack(np.meshgrid(rows, columns, indexing="ij"), axis=-1).reshape(-1, 2) + np.floor(middle).astype(int)
    flat = np.asarray(bench.built_on["flat"].arrays["flat"], dtype=np.float64)
    exposure_s = exposure_up_to(bench, _bright(bench, figure), pinhole, fill=FILL, longest_s=kind.longest_s)

    def image(name: str, pixels: npt.NDArray[np.int64]) -> tuple[Array, Array]:
        scene = _bright(bench, pixels)
        lit = bench.frames(name, scene, pinhole, exposure_s, repeats=kind.repeats)[0]
        closed = bench.frames(f"{name} closed", scene, bench.closed_mask(), exposure_s, repeats=kind.repeats)[0]
        difference = lit.astype(np.float64).mean(axis=0) - closed.astype(np.float64).mean(axis=0)
        return difference / flat, (noise_variance(lit) + noise_variance(closed)) / flat**2

    seen, variance = image("orientation", figure)
    expected = (figure - middle) * twin.scene_px + hole_px
    found = orientation_of(seen, expected, sigma_px=1.0, search_px=SEARCH_PX)
    refuse_unless_as_shown(bench, found, seen, expected, "the scene", "the monitor")
    seen, variance = image("pixels", grid)
    nominal = (grid - middle) * twin.scene_px
    guesses = nominal + hole_px + np.array(found.shift_px)
    spot, error = fit_sigma(seen, variance, guesses, Spot(twin.cell_on_sensor_px, FIRST_SIGMA_PX))
    dots = fit_dots(seen, variance, guesses, spot)
    if dots.seen.sum() < LEAST_DOTS:
        bench.refuse(
            f"too few dots: {int(dots.seen.sum())} of {len(grid)} scene pixels were seen through a pinhole, "
            f"{LEAST_DOTS} are needed; raise longest_s or repeats"
        )
    geometry = fit_geometry(
        nominal[dots.seen],
        np.zeros_like(nominal[dots.seen]),
        (dots.place - hole_px)[dots.seen],
        np.hypot(dots.error, NOT_MODELLED_PX)[dots.seen],
        source_pitch_px=0.0,
        plane=plane_of(twin, bench.cells),
        extras=(),
    )
    return with_floor(geometry, float(np.abs(nominal).max())), (spot.sigma_px, error)


def _bright(bench: Bench, pixels: npt.NDArray[np.int64]) -> Array:
    """(H, W) scene of which only these pixels shine."""
    scene = bench.black()
    scene[pixels[:, 0], pixels[:, 1]] = 1.0
    return scene


def _flicker(bench: Bench, kind: Monitor, white_s: float) -> list[tuple[float, Flicker]]:
    """Flicker at the exposure of the open mask, and at 4 and 16 times of it behind smaller openings."""
    made = []
    for number, side in enumerate((1.0, 0.5, 0.25)):
        size = [max(1, round(side * n)) for n in bench.cells]
        mask = bench.closed_mask()
        top, left = ((n - part) // 2 for n, part in zip(bench.cells, size, strict=True))
        mask[top : top + size[0], left : left + size[1]] = 1.0
        exposure_s = 0.8 * white_s * 4**number
        if number and exposure_s > kind.longest_s:
            break
        # Closed cells leak: a smaller opening gains less exposure than its area says.
        peak = bench.frames("pilot", bench.white(), mask, exposure_s, keep=False)
        while peak.max() >= bench.saturation_dn:
            exposure_s /= 1.5
            peak = bench.frames("pilot", bench.white(), mask, exposure_s, keep=False)
        frames = bench.frames("flicker", bench.white(), mask, exposure_s, repeats=kind.flicker_frames, opening=[number])
        taken_s = float(bench.took_s[-1])
        made.append((taken_s, flicker_of(frames[0], dark_frame(bench, taken_s))))
    return made


def _found(
    bench: Bench,
    ladder: Ladder,
    response: Response,
    geometry: Geometry,
    sigma: tuple[float, float],
    flicker: list[tuple[float, Flicker]],
) -> Found:
    twin = bench.rig.spec.twin
    shortest = flicker[0][1]
    values = {
        "scene_gamma": Value(
            value=response.gamma,
            error=response.gamma_error,
            unit="1",
            text="Of the best black + (1 - black) s^gamma",
        ),
        "scene_contrast": Value(
            value=response.contrast,
            error=response.contrast_error,
            unit="1",
            text="Radiance of white over black",
        ),
        "gamma_misfit": Value(
            value=response.misfit, error=None, unit="1", text="Largest distance of that curve from the measured one"
        ),
        "scene_pitch_px": Value(
            value=geometry.scale * twin.scene_px,
            error=geometry.error("scale") * twin.scene_px,
            unit="px",
            text="Image of one scene pixel on the sensor",
        ),
        "scene_rotation_rad": Value(
            value=geometry.rotation_rad,
            error=geometry.error("rotation_rad"),
            unit="rad",
            text="Of that image, from rows to columns",
        ),
        "scene_shift_px": Value(
            value=(float(geometry.shift_px[0]), float(geometry.shift_px[1])),
            error=(geometry.error("shift_row"), geometry.error("shift_column")),
            unit="px",
            text="Of that image behind a pinhole in the middle of the mask; the shift of the mask is in it",
        ),
        "dot_px": Value(
            value=sigma[0],
            error=float(np.hypot(sigma[1], WIDTH_FLOOR_PX)),
            unit="px",
            text="Sigma of a dot beyond the boxes of cell and sensor pixel",
        ),
        "flicker": Value(
            value=shortest.share,
            error=shortest.error,
            unit="1",
            text=f"Spread of the light from frame to frame at {1000 * flicker[0][0]:.3g} ms, photon noise taken off",
        ),
        "drift": Value(
            value=ladder.drift, error=ladder.drift_error, unit="1", text="Change of the light during the measurement"
        ),
    }
    warnings = list(ladder.warnings)
    warnings += [
        f"the light varies by {100 * each.share:.2f} % from frame to frame at {1000 * time_s:.3g} ms; expose for whole "
        "refreshes of the monitor"
        for time_s, each in flicker
        if each.sure and each.share > 1e-3
    ]
    arrays = {
        "levels": (ladder.levels, ArrayNote(unit="1", text="Measured levels; 1 stands for black")),
        "radiance": (ladder.relative, ArrayNote(unit="1", text="At these levels, relative to level 255")),
        "radiance_error": (ladder.error, ArrayNote(unit="1", text="Standard deviation")),
        "table": (response.table, ArrayNote(unit="1", text="At levels 0..255, monotone")),
        "table_error": (response.error, ArrayNote(unit="1", text="Standard deviation, interpolation included")),
        "pixel_residual": (geometry.residual, ArrayNote(unit="px", text="Dots less the fitted grid")),
        "flicker_exposure": (np.array([t for t, _ in flicker]), ArrayNote(unit="s", text="Exposure times")),
        "flicker_share": (
            np.array([[each.share, each.error, each.noise] for _, each in flicker]),
            ArrayNote(unit="1", text="At these: flicker, its standard deviation, and photon noise"),
        ),
    }
    return Found(values=values, arrays=arrays, warnings=tuple(warnings))
