"""What the kinds of calibration find on as-built rigs, held against what is true there, over many seeds.

    python benchmarks/calibration_truth.py [--seeds 20] [--kinds dark flat ...] [--rig as-built] [--out FILE.json]

Gain, read noise and panel response are drawn by the seed too, beside what `as-built` always draws. A calibration that
is honest about its uncertainty has the truth within one standard deviation in 68 % of all cases, within two in 95 %.
Every kind has a function `check(seed) -> rows` in CHECKS; a kind that stands on others has them measured once a seed.
"""

from __future__ import annotations

import argparse
import json
import math
import tempfile
import time
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
import numpy.typing as npt
import torch
from open_benches import CELLS, DRAWN, SCENE_PX, Lab, choose, close, lab

from labctl.calibration.record import Calibration
from labctl.step_response import SETTLED
from protocols.calibrate.nonuniformity import middle, without_trend
from protocols.calibrate.photon_transfer import MIDDLE, SURFACE_DEGREE

Array = npt.NDArray[np.float64]


@dataclass(frozen=True)
class Row:
    """One quantity of one bench. true, found, error: one number each, or arrays. goal: largest |found - true|."""

    name: str
    true: Any
    found: Any
    error: Any
    goal: float | None = None

    @property
    def away(self) -> Array:
        """(n,) found less true."""
        return np.atleast_1d(np.asarray(self.found, dtype=np.float64) - self.true).reshape(-1)

    @property
    def sigmas(self) -> Array:
        """(n,) the same in stated standard deviations; NaN where none is stated."""
        error = np.broadcast_to(np.asarray(self.error, dtype=np.float64), np.shape(self.found)).reshape(-1)
        with np.errstate(divide="ignore", invalid="ignore"):
            return np.where(error > 0, self.away / error, np.nan)


# What is true, kind by kind


def check_dark(seed: int) -> list[Row]:
    """Offsets of all pixels, black level, dark current."""
    here = lab(seed)
    found = here.calibration("dark")
    offset = here.sensor.offset_dn(here.frame_shape).numpy()
    rate = float(here.sensor.settings.dark_current_e_per_s * here.sensor.gain_dn_per_e)
    return [
        Row("dark_dn, every pixel (DN)", offset, found.arrays["dark_dn"], found.arrays["dark_dn_error"]),
        _row(found, "black_level_dn", float(offset.mean())),
        _row(found, "dark_current_dn_per_s", rate),
    ]


def check_photon_transfer(seed: int) -> list[Row]:
    """Gain within 3 %, read noise within 10 %, and what follows from them."""
    here = lab(seed)
    found = here.calibration("photon_transfer")
    sensor = here.sensor
    gain, noise_e = float(sensor.gain_dn_per_e), sensor.settings.read_noise_e
    offset = sensor.offset_dn(here.frame_shape).numpy()
    full_e = float(np.minimum(sensor.settings.full_well_e, (sensor.settings.top_dn - offset) / gain).mean())
    gains = sensor._cut(sensor.pixel_gain, here.frame_shape).numpy()[middle(here.frame_shape, MIDDLE)]
    rest, numbers = without_trend(gains, SURFACE_DEGREE)
    return [
        _row(found, "gain_dn_per_e", gain, goal=0.03 * gain),
        _row(found, "read_noise_e", noise_e, goal=0.10 * noise_e),
        _row(found, "read_noise_dn", noise_e * gain, goal=0.10 * noise_e * gain),
        _row(found, "full_well_e", full_e),
        _row(found, "prnu", float(np.sqrt((rest**2).sum() / (gains.size - numbers)))),
        _row(found, "dsnu_dn", float(offset.std(ddof=1))),
        _row(found, "light_drift", 0.0),
        Row("linearity_error (1)", 0.0, found.value("linearity_error"), math.nan),
    ]


def check_flat(seed: int) -> list[Row]:
    """Response of all pixels, vignetting, PRNU."""
    here = lab(seed)
    found = here.calibration("flat")
    flat = here.sensor.flat(here.frame_shape).numpy()
    flat = flat / flat[middle(here.frame_shape, 0.5)].mean()
    gains = here.sensor._cut(here.sensor.pixel_gain, here.frame_shape).numpy()
    return [
        Row("flat, every pixel (1)", flat, found.arrays["flat"], found.arrays["flat_error"]),
        _row(found, "vignetting", float(here.sensor.vignetting)),
        _row(found, "prnu", float(without_trend(gains, 4)[0].std(ddof=15))),
    ]


def check_exposure(seed: int) -> list[Row]:
    """Rates of a white scene through the open and through the closed mask."""
    here = lab(seed)
    found = here.calibration("exposure")
    rates = {name: _white_rate(here, level) for name, level in (("open", 255), ("closed", 0))}
    cells = CELLS[0] * CELLS[1]
    return [
        _row(found, "white_rate_dn_per_s", rates["open"]),
        _row(found, "closed_rate_dn_per_s", rates["closed"]),
        _row(found, "white_rate_per_cell_dn_per_s", (rates["open"] - rates["closed"]) / cells),
    ]


def check_stray_light(seed: int) -> list[Row]:
    """Stray light, leak, and the black of the scene display."""
    here = lab(seed)
    found = here.calibration("stray_light")
    settings = here.world.settings
    return [
        _row(found, "stray", settings.light.stray),
        _row(found, "leak", _white_rate(here, 0) / _white_rate(here, 255)),
        _row(found, "display_black", 1 / settings.monitor.contrast + 255.0**-settings.monitor.gamma),
    ]


def check_settling(seed: int) -> list[Row]:
    """Settling within a millisecond, on a clock that only sleeping moves."""
    here = lab(seed)
    found = here.calibration("settling")
    exposure_s = float(found.arrays["mask_exposure_s"][0])
    return [_row(found, "settle_mask_s", settled_s(here.world.settings.panel, exposure_s), goal=1e-3)]


def check_panel_response(seed: int) -> list[Row]:
    """The table within 1 % of full transmittance at every level, and the contrast."""
    here = lab(seed)
    found = here.calibration("panel_response")
    panel = here.world.settings.panel
    floor = 1 / panel.contrast
    table = floor + (1 - floor) * (np.arange(256) / 255) ** panel.gamma
    below = slice(0, 255)  # at level 255 the table is 1 by definition
    regions = found.arrays["region_tables"]
    return [
        Row(
            "table, levels 0..254 (1)",
            table[below],
            found.arrays["table"][below],
            found.arrays["table_error"][below],
            0.01,
        ),
        Row("region tables (1)", np.tile(table, (len(regions), 1)), regions, math.nan, 0.01),
        _row(found, "contrast", panel.contrast),
        _row(found, "gamma", panel.gamma),
    ]


def check_registration(seed: int) -> list[Row]:
    """All cells of the mask within 0.1 sensor pixels RMS, and the values of the fit."""
    here = lab(seed)
    found = here.calibration("registration")
    true = here.world.settings.registration
    turn = math.radians(true.rotation_deg)
    shift, error = found.vector("shift_px"), np.asarray(found.record.values["shift_px"].error)
    places = [
        _shadows(np.asarray(true.shift_px), turn, true.scale),
        _shadows(shift, found.value("rotation_rad"), found.value("scale")),
    ]
    rms = float(np.sqrt(((places[1] - places[0]) ** 2).sum(axis=-1).mean()))
    return [
        Row("shadows of all cells, RMS (px)", 0.0, rms, math.nan, 0.1),
        Row("shift_px (px)", np.asarray(true.shift_px), shift, error),
        _row(found, "rotation_rad", turn),
        _row(found, "scale", true.scale),
        _row(found, "scene_pitch_px", here.world.settings.scene_px),
    ]


def check_monitor(seed: int) -> list[Row]:
    """Gamma and contrast of the scene monitor, and the image of its pixels."""
    here = lab(seed)
    found = here.calibration("monitor")
    monitor = here.world.settings.monitor
    shift, error = found.vector("scene_shift_px"), np.asarray(found.record.values["scene_shift_px"].error)
    return [
        _row(found, "scene_gamma", monitor.gamma),
        _row(found, "scene_contrast", monitor.contrast),
        _row(found, "scene_pitch_px", here.world.settings.scene_px),
        _row(found, "scene_rotation_rad", 0.0),
        Row("scene_shift_px (px)", _pinhole_shift(here.world.settings.registration), shift, error),
    ]


def _shadows(shift: Array, turn: float, scale: float) -> Array:
    """(cells, 2) places of the shadows of all cells, in sensor pixels; a cell is one sensor pixel wide."""
    at = np.stack(np.meshgrid(*(np.arange(n) - (n - 1) / 2 for n in CELLS), indexing="ij"), axis=-1).reshape(-1, 2)
    turned = np.array([[math.cos(turn), -math.sin(turn)], [math.sin(turn), math.cos(turn)]])
    return np.asarray(shift + scale * at @ turned.T)


def _pinhole_shift(registration: Any) -> Array:
    """Where the cell beside the middle of the mask truly is, less where it would nominally be."""
    turn = math.radians(registration.rotation_deg)
    turned = np.array([[math.cos(turn), -math.sin(turn)], [math.sin(turn), math.cos(turn)]])
    half = np.array([0.5, 0.5])
    return np.asarray(np.asarray(registration.shift_px) + registration.scale * turned @ half - half)


Check = Callable[[int], list[Row]]
CHECKS: dict[str, Check] = {
    "settling": check_settling,
    "dark": check_dark,
    "photon_transfer": check_photon_transfer,
    "flat": check_flat,
    "exposure": check_exposure,
    "stray_light": check_stray_light,
    "panel_response": check_panel_response,
    "registration": check_registration,
    "monitor": check_monitor,
}


def settled_s(panel: Any, exposure_s: float) -> float:
    """When frames of so long an exposure show a full step of this panel to within SETTLED, and do from then on."""
    from sim.panel import ghost_weight

    delay_s = np.arange(0, 12 * panel.response_s, 1e-5)
    late = [0.0]
    for before, after in ((1, 255), (255, 1)):
        ghost = [ghost_weight(t, exposure_s, panel.response_s) for t in delay_s]
        level = after + np.array(ghost) * (before - after)
        response = (level / 255) ** panel.gamma
        ends = [(end / 255) ** panel.gamma for end in (before, after)]
        missing = np.abs(response - ends[1]) / abs(ends[1] - ends[0])
        late.append(float(delay_s[np.flatnonzero(missing > SETTLED)[-1] + 1]))
    return max(late)


def summary(rows: Mapping[str, Sequence[Sequence[Row]]]) -> str:
    """A table: per quantity the errors over all seeds, the share within 1 and 2 sigma, the worst against its goal."""
    heads = (
        "kind", "quantity", "truth, mean", "RMS error", "relative", "within 1 sigma", "within 2", "mean pull",
        "worst / goal",
    )  # fmt: skip
    lines = [heads, ("---",) * len(heads)]
    for kind, of_seeds in rows.items():
        for same in zip(*of_seeds, strict=True):
            away = np.concatenate([row.away for row in same])
            sigmas = np.concatenate([row.sigmas for row in same])
            known = sigmas[np.isfinite(sigmas)]
            truth = float(np.mean([np.mean(row.true) for row in same]))
            rms = float(np.sqrt((away**2).mean()))
            goals = [float(np.abs(row.away).max()) / row.goal for row in same if row.goal]
            shares = [f"{np.mean(np.abs(known) <= limit):.0%}" for limit in (1, 2)] if known.size else ["", ""]
            pull = f"{known.mean():+.2f}" if known.size else ""
            relative = f"{rms / abs(truth):.2%}" if truth else ""
            worst = f"{max(goals):.2f}" if goals else ""
            lines.append((kind, same[0].name, f"{truth:.5g}", f"{rms:.3g}", relative, *shares, pull, worst))
    return "\n".join(f"| {' | '.join(line)} |" for line in lines)


def main() -> None:
    """See the top of this file."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--seeds", type=int, default=20)
    parser.add_argument("--first", type=int, default=1, help="the first seed")
    parser.add_argument("--kinds", nargs="*", default=list(CHECKS), choices=list(CHECKS))
    parser.add_argument("--rig", default="as-built")
    parser.add_argument("--set", nargs="*", default=[], help="changes of the rig, KEY=VALUE")
    parser.add_argument("--out", type=Path, help="write all rows as JSON")
    asked = parser.parse_args()
    choose(asked.rig, {**DRAWN, **dict(text.split("=", 1) for text in asked.set)})
    rows: dict[str, list[list[Row]]] = {kind: [] for kind in asked.kinds}
    spent: dict[str, list[float]] = {}
    exposures: dict[str, int] = {}
    began = time.perf_counter()
    with tempfile.TemporaryDirectory() as state:
        import os

        os.environ["LABCTL_STATE"] = state
        try:
            for seed in range(asked.first, asked.first + asked.seeds):
                for kind in asked.kinds:
                    rows[kind].append(CHECKS[kind](seed))
                for name, seconds in lab(seed).seconds.items():
                    spent.setdefault(name, []).append(seconds)
                exposures = lab(seed).exposures
        finally:
            close()
    print(summary(rows))  # noqa: T201
    said = ", ".join(f"{name} {np.median(s):.2f} s ({exposures[name]} exposures)" for name, s in spent.items())
    ran = f"{asked.seeds} seeds of `{asked.rig}` in {time.perf_counter() - began:.0f} s"
    print(f"\n{ran}; median of a kind: {said}")  # noqa: T201
    if asked.out:
        plain = {kind: [[_plain(row) for row in each] for each in of_seeds] for kind, of_seeds in rows.items()}
        asked.out.write_text(json.dumps(plain))


def _plain(row: Row) -> dict[str, Any]:
    numbers = {key: np.asarray(getattr(row, key), dtype=float).tolist() for key in ("true", "found", "error")}
    return {"name": row.name, **numbers}


def _row(found: Calibration, name: str, true: float, goal: float | None = None) -> Row:
    return Row(f"{name} ({found.record.values[name].unit})", true, found.value(name), found.error(name), goal)


def _white_rate(here: Lab, level: int) -> float:
    """True DN per second in the central quarter, for a white scene through a mask that is `level` everywhere."""
    twin = here.world._twin
    with torch.no_grad():
        picture = torch.full(here.world.settings.panel.stop_px or here.world.settings.panel.shape, float(level))
        light = twin.irradiance(
            torch.ones(1, 1, *SCENE_PX, dtype=torch.float64), twin.psf_from_levels(picture), roi=here.frame_shape
        )
        frame = light[0, 0] * twin.sensor.settings.quantum_efficiency * twin.sensor.flat(here.frame_shape)
        rate = (frame * twin.sensor.gain_dn_per_e).numpy()
    return float(rate[middle(here.frame_shape, 0.5)].mean())


if __name__ == "__main__":
    main()
