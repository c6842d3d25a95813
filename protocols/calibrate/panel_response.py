"""Panel response: from grey level to transmittance, for the whole mask and region by region."""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any, ClassVar

import numpy as np
import numpy.typing as npt
from annotated_types import Ge, Gt, Le

from labctl.calibration.record import ArrayNote, Calibration, Value
from labctl.errors import BadInput
from labctl.steps import StepSetting
from protocols.calibrate.brightness_ladder import Ladder, Levels, climb, dark_frame, signal_of, spread_levels
from protocols.calibrate.kind import DAY_S, Found, Kind
from protocols.calibrate.page import MEASURED, in_style, sheet
from protocols.calibrate.response_table import Response, check_rising, file_hash, read_table, response_from

if TYPE_CHECKING:
    from matplotlib.figure import Figure

    from protocols.calibrate.bench import Bench

Array = npt.NDArray[np.float64]

LEAST_CONTRAST = 1.5
"""Below it a panel hides no mask: nothing that stands on it would mean anything."""


class PanelResponse(Kind):
    """Frames of a white scene through the whole mask at one grey level after the other, the dim ones exposed longer."""

    name: ClassVar[str] = "panel_response"
    title: ClassVar[str] = "Panel response"
    after: ClassVar[tuple[str, ...]] = ("dark",)

    max_age_s: Annotated[float, Gt(0), Le(366 * DAY_S)] = 30 * DAY_S

    levels: Annotated[int, Ge(6), Le(256)] = 22
    """Grey levels that are measured, evenly spaced from 0 to 255."""

    regions: Annotated[int, Ge(1), Le(8)] = 2
    """Regions along each side of the mask that are measured apart; 1 leaves it at the whole mask."""

    region_levels: Annotated[int, Ge(4), Le(64)] = 8

    repeats: Annotated[int, Ge(1), Le(256)] = 2
    longest_s: Annotated[float, Gt(0), Le(60)] = 0.5
    """Exposures of the dim levels are no longer."""

    max_drift: Annotated[float, Gt(0), Le(0.5)] = 0.02
    """By how much the light may change meanwhile, relative."""

    table: Path | None = None
    """File with two or three columns: level 0..255, transmittance, its standard deviation. It is then taken instead of
    measuring: a table from the maker of the panel, or measured elsewhere."""

    def exposures(self, setting: StepSetting) -> int:
        """See `Kind.exposures`."""
        if self.table is not None:
            return 0
        by_region = (self.regions**2 * (self.region_levels - 1) + 1) if self.regions > 1 else 0
        return self.repeats * (self.levels + self.levels // 2 + 2 + by_region) + 8

    def exposure_seconds(self, setting: StepSetting) -> float:
        """See `Kind.exposure_seconds`."""
        return 0.005 * self.exposures(setting) + self.repeats * self.longest_s

    def measure(self, bench: Bench) -> Found:
        """See `Kind.measure`."""
        if self.table is not None:
            return _found_in_file(bench, self.table)
        levels = spread_levels(self.levels)
        ladder = climb(
            bench,
            "response",
            lambda shown: (bench.white(), _whole(bench, shown)),
            levels,
            repeats=self.repeats,
            longest_s=self.longest_s,
            max_drift=self.max_drift,
        )
        if ladder.relative[0] > 1 / LEAST_CONTRAST:
            bench.refuse(
                f"the panel does not modulate: level 0 lets through {100 * ladder.relative[0]:.1f} % of level 255 "
                f"(contrast {1 / ladder.relative[0]:.2f}, at least {LEAST_CONTRAST} is needed); check its cable, its "
                "polarisers, and that `mask` is the right display",
                lambda: _ladder_figure(ladder),
            )
        try:
            response = response_from(levels, ladder.relative, ladder.error)
        except BadInput as error:
            bench.refuse(str(error), lambda: _ladder_figure(ladder))
        tables, deviation = _by_region(bench, self, ladder, response)
        return _found(ladder, response, tables, deviation, self.regions)

    def method(self) -> dict[str, Any]:
        """See `Kind.method`. A table is told by its content: a changed file is another table."""
        told = super().method()
        if self.table is not None:
            told["table_sha256"] = file_hash(self.table)
        return told

    def draw(self, calibration: Calibration) -> Figure:
        """See `Kind.draw`."""
        from protocols.calibrate.response_page import response_page

        return response_page(calibration)


def _whole(bench: Bench, levels: Levels) -> Array:
    """(n, H, W) masks of one level each."""
    values = bench.rig.roads.mask.mask_of(levels)
    return np.broadcast_to(values[:, None, None], (len(levels), *bench.cells))


def region_of(cells: tuple[int, int], regions: int) -> npt.NDArray[np.int64]:
    """(H, W) number of the region that every cell belongs to, row by row."""
    row, column = (np.arange(n) * regions // n for n in cells)
    return row[:, None] * regions + column[None, :]


def _by_region(
    bench: Bench, kind: PanelResponse, ladder: Ladder, response: Response
) -> tuple[Array | None, tuple[float, float] | None]:
    """(regions^2, 256) tables, and the largest deviation of one from the table of the whole mask, with its error."""
    if kind.regions == 1:
        return None, None
    road = bench.rig.roads.mask
    levels = spread_levels(kind.region_levels)
    region = region_of(bench.cells, kind.regions)
    share = 1 / kind.regions**2
    exposure_s = min(ladder.rungs[0].exposure_s / (share + (1 - share) * ladder.relative[0]), kind.longest_s)
    closed_mask = np.full(bench.cells, float(road.mask_of(0)))
    none = {"level": [0], "region": [-1]}
    frames = bench.frames("regions", bench.white(), closed_mask, exposure_s, repeats=kind.repeats, **none)
    dark = dark_frame(bench, float(bench.took_s[-1]))
    closed, closed_error = (float(part[0]) for part in signal_of(frames, dark))
    floor = ladder.relative[0]
    tables, worst = [], (0.0, 0.0)
    for number in range(kind.regions**2):
        masks = np.where((region == number)[None], road.mask_of(levels[1:])[:, None, None], closed_mask)
        tells = {"level": levels[1:], "region": np.full(len(levels) - 1, number)}
        lit = bench.frames("regions", bench.white(), masks, exposure_s, repeats=kind.repeats, **tells)
        signal, error = signal_of(lit, dark)
        over = np.concatenate([[0.0], signal - closed])
        over_error = np.hypot(np.concatenate([[0.0], error]), closed_error)
        relative = floor + (1 - floor) * over / over[-1]
        relative_error = np.hypot(over_error, over / over[-1] * over_error[-1]) / over[-1]
        try:
            check_rising(levels.astype(np.float64), relative, relative_error, f"region {number} of the panel")
        except BadInput as problem:
            bench.refuse(str(problem), lambda: _ladder_figure(ladder))
        there = np.interp(levels, np.arange(256), response.table)
        # The curve is that of the whole mask; only what a region is off by is interpolated between its few levels.
        beside = np.interp(np.arange(256), levels, relative - there)
        tables.append(np.maximum.accumulate(np.clip(response.table + beside, 0.0, 1.0)))
        off = np.abs(relative - there)
        at = int(np.argmax(off))
        if off[at] > worst[0]:
            worst = (float(off[at]), float(relative_error[at]))
    return np.stack(tables), worst


def _found(
    ladder: Ladder, response: Response, tables: Array | None, deviation: tuple[float, float] | None, regions: int
) -> Found:
    share = ArrayNote(unit="1", text="Standard deviation")
    values = _summary(response)
    values["drift"] = Value(
        value=ladder.drift, error=ladder.drift_error, unit="1", text="Change of the light during the measurement"
    )
    arrays = {
        "levels": (ladder.levels, ArrayNote(unit="1", text="Measured levels, 0..255")),
        "transmittance": (ladder.relative, ArrayNote(unit="1", text="At these levels, relative to level 255")),
        "transmittance_error": (ladder.error, share),
        **_table(response),
    }
    warnings = list(ladder.warnings)
    if tables is not None and deviation is not None:
        values["regions"] = Value(
            value=deviation[0],
            error=deviation[1],
            unit="1",
            text="Largest deviation of a region from the whole mask, of full transmittance",
        )
        arrays["region_tables"] = (
            tables,
            ArrayNote(unit="1", text=f"The same by region, {regions}x{regions} over the mask, row by row"),
        )
        if deviation[0] > max(0.02, 5 * deviation[1]):
            warnings.append(
                f"regions differ by {100 * deviation[0]:.1f} % of full transmittance; one table for all leaves that"
            )
    return Found(values=values, arrays=arrays, warnings=tuple(warnings))


def _found_in_file(bench: Bench, path: Path) -> Found:
    levels, values, error = read_table(path)
    response = response_from(levels, values, error, what=f"the panel in '{path.name}'")
    full = values[-1]
    spread = np.zeros_like(values) if error is None else error
    arrays = {
        "levels": (levels, ArrayNote(unit="1", text=f"Levels in {path.name}")),
        "transmittance": (values / full, ArrayNote(unit="1", text="At these levels, relative to level 255")),
        "transmittance_error": (spread / full, ArrayNote(unit="1", text="Standard deviation, as the file claims")),
        **_table(response),
    }
    said = f"read from {path.name}, not measured on this bench"
    return Found(values=_summary(response), arrays=arrays, warnings=(said,))


def _summary(response: Response) -> dict[str, Value]:
    known = np.isfinite(response.contrast)
    text = "Transmittance at level 255 over that at level 0" + ("" if known else "; level 0 is not told from closed")
    return {
        "contrast": Value(
            value=response.contrast if known else 1e9,
            error=response.contrast_error if known else None,
            unit="1",
            text=text,
        ),
        "gamma": Value(
            value=response.gamma, error=response.gamma_error, unit="1", text="Of the best power law; a summary only"
        ),
        "gamma_misfit": Value(
            value=response.misfit, error=None, unit="1", text="Largest distance of that power law from the table"
        ),
    }


def _table(response: Response) -> dict[str, tuple[Array, ArrayNote]]:
    return {
        "table": (response.table, ArrayNote(unit="1", text="At levels 0..255, relative to level 255, monotone")),
        "table_error": (response.error, ArrayNote(unit="1", text="Standard deviation, interpolation included")),
    }


@in_style
def _ladder_figure(ladder: Ladder) -> Figure:
    figure, axes = sheet(3.5, 1, 1)
    axes[0, 0].errorbar(ladder.levels, ladder.relative, ladder.error, fmt="o", ms=3, color=MEASURED)
    top = 1.05 * float(np.max(ladder.relative))
    axes[0, 0].set(xlabel="level", ylabel="transmittance, level 255 = 1", ylim=(0, top), title="What was measured")
    return figure
