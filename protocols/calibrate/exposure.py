"""Exposure: how fast a white scene fills the sensor, through the open mask and through one cell."""

from __future__ import annotations

from typing import TYPE_CHECKING, Annotated, ClassVar

import numpy as np
from annotated_types import Ge, Gt, Le, Lt

from labctl.calibration.record import ArrayNote, Calibration, Value
from labctl.steps import StepSetting
from protocols.calibrate.dark import histogram, signal_of
from protocols.calibrate.kind import Found, Kind
from protocols.calibrate.nonuniformity import middle
from protocols.calibrate.page import CONCLUDED, MEASURED, in_style, list_values, sheet, show_map

if TYPE_CHECKING:
    from matplotlib.figure import Figure

    from protocols.calibrate.bench import Bench

LEAST_LIGHT = 0.2
"""Share of the wanted signal below which there is no light to speak of."""


class ExposureSearch(Kind):
    """White scene through the open and the closed mask, each at its own exposure; levels of the central quarter."""

    name: ClassVar[str] = "exposure"
    title: ClassVar[str] = "Exposure"
    after: ClassVar[tuple[str, ...]] = ("dark",)

    frames: Annotated[int, Ge(2), Le(1024)] = 16
    """Of each, open and closed."""

    fill: Annotated[float, Gt(0), Lt(1)] = 0.9
    """Between black and saturation, that the exposure is told for."""

    def exposures(self, setting: StepSetting) -> int:
        """See `Kind.exposures`."""
        return 2 * self.frames + 20

    def measure(self, bench: Bench) -> Found:
        """See `Kind.measure`."""
        dark = bench.built_on["dark"]
        black_dn = dark.value("black_level_dn")
        part = middle(bench.frame_shape, 0.5)
        rates, errors, taken = {}, {}, {}
        for name, mask in (("open", bench.open_mask()), ("closed", bench.closed_mask())):
            exposure_s = bench.exposure_for(bench.white(), mask, 0.9 * self.fill, black_dn=black_dn)
            frames = bench.frames(name, bench.white(), mask, exposure_s, repeats=self.frames)[0]
            exposure_s = float(bench.took_s.mean())
            light = signal_of(frames, exposure_s, dark)[(slice(None), *part)]
            if name == "open" and light.mean() < LEAST_LIGHT * self.fill * (bench.saturation_dn - black_dn):
                bench.refuse(
                    f"the frames are empty: a white scene through the open mask gives {light.mean():.3g} DN at the "
                    f"longest exposure, {exposure_s:.3g} s; look at the lamp, the shutter, the lens cap and the scene "
                    "display",
                    lambda frames=frames: histogram(frames, "White scene, open mask", mark=black_dn),  # type: ignore[misc]
                )
            pixels = light[0].size
            rates[name] = float(light.mean()) / exposure_s
            offset = float((dark.arrays["dark_dn_error"][part] ** 2).mean() / pixels)
            errors[name] = float(np.sqrt(light.var(axis=0, ddof=1).mean() / light.size + offset)) / exposure_s
            taken[name] = exposure_s
        cells = bench.cells[0] * bench.cells[1]
        white_s = self.fill * (bench.saturation_dn - black_dn) / rates["open"]
        leak = rates["closed"] / rates["open"]
        values = {
            "white_rate_dn_per_s": Value(
                value=rates["open"], error=errors["open"], unit="DN/s", text="White scene, open mask, central quarter"
            ),
            "white_rate_per_cell_dn_per_s": Value(
                value=(rates["open"] - rates["closed"]) / cells,
                error=float(np.hypot(errors["open"], errors["closed"])) / cells,
                unit="DN/s",
                text="What opening one cell adds",
            ),
            "white_exposure_s": Value(
                value=white_s,
                error=white_s * errors["open"] / rates["open"],
                unit="s",
                text=f"White scene through the open mask at {self.fill:.0%} between black and saturation",
            ),
            "closed_rate_dn_per_s": Value(
                value=rates["closed"], error=errors["closed"], unit="DN/s", text="White scene, closed mask"
            ),
        }
        return Found(
            values=values,
            arrays={
                name: (np.array([taken[name], rates[name]]), ArrayNote(unit="s, DN/s", text="Exposure taken, and rate"))
                for name in rates
            },
            warnings=("closed cells pass more than a tenth of the light of open ones",) if leak > 0.1 else (),
            holds_for={
                "frame_shape": list(bench.frame_shape),
                "mask_cells": list(bench.cells),
                "scene_px": list(bench.scene_px),
                "gain_db": 0.0,
            },
        )

    def draw(self, calibration: Calibration) -> Figure:
        """See `Kind.draw`."""
        return _page(calibration)


@in_style
def _page(calibration: Calibration) -> Figure:
    figure, axes = sheet(5.2, 2, 2)
    for place, name in enumerate(("open", "closed")):
        if name in calibration.raw:
            title = f"White scene, {name} mask, {1e3 * calibration.arrays[name][0]:.3g} ms"
            show_map(axes[0, place], calibration.raw[name].mean(axis=0), title, "DN", sigmas=6)
    for name, colour in (("open", MEASURED), ("closed", CONCLUDED)):
        exposure_s, rate = calibration.arrays[name]
        line = np.geomspace(exposure_s / 30, exposure_s * 1.1, 2)
        axes[1, 0].plot(1e3 * line, rate * line, color=colour, label=f"{name} mask")
        axes[1, 0].plot(1e3 * exposure_s, rate * exposure_s, "o", color=colour)
    axes[1, 0].set(xscale="log", yscale="log", xlabel="exposure (ms)", ylabel="signal above black (DN)")
    axes[1, 0].set_title("How a white scene fills the sensor")
    axes[1, 0].legend()
    names = (
        ("white_rate_dn_per_s", "open mask"),
        ("closed_rate_dn_per_s", "closed mask"),
        ("white_rate_per_cell_dn_per_s", "each open cell"),
        ("white_exposure_s", "exposure of the open mask"),
    )
    list_values(axes[1, 1], calibration, names, "Found, white scene")
    return figure
