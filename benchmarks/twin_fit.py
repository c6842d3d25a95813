"""The twin fit on as-built rigs, over many seeds: error on held-out frames before and after, next to the noise floor.

    python benchmarks/twin_fit.py [--seeds 20] [--kinds dark photon_transfer flat] [--set world.gap_error=drawn ...]
                                  [--profile] [--out FILE.json]

What was recovered stands next to what is true, with the coverage of the stated errors: an honest fit has the truth
within one standard deviation in 68 % of all cases, within two in 95 %. Seconds are those of the whole step, exposures
of the simulated bench included. --kinds none: the fit without any calibration.
"""

from __future__ import annotations

import argparse
import cProfile
import json
import math
import pstats
import tempfile
import time
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any

import numpy as np
from open_benches import CELLS, DRAWN, SCENE_PX, Lab, choose, close, lab

from labctl.errors import RunFailed
from labctl.steps import StepContext
from protocols.calibrate.bench import Bench
from protocols.twin_fit.fitted import posterior_of
from protocols.twin_fit.fitting import fit_bench

FIRST_ID = 1 << 50
GOAL = 1.2

PARTS = {
    "exposures of the bench": ("taking.py", "take"),
    "slopes of PSFs": ("prediction.py", "_difference"),
    "slopes of frames": ("prediction.py", "_light_of_slopes"),
    "image slopes": ("prediction.py", "_light_when_moved"),
    "frames": ("prediction.py", "_light"),
    "weights": ("noise.py", "__call__"),
    "least squares itself (SVD)": ("_decomp_svd.py", "svd"),
    "held-out error": ("validation.py", "held_out_error"),
}
"""Functions whose time with all that they call is told; the parts overlap where one calls another."""


@dataclass(frozen=True)
class Outcome:
    """One seed. away: found less true in stated standard deviations, by label. seconds: of the whole fit."""

    seed: int
    before: float
    after: float
    floor_dn: float
    exposures: int
    seconds: float
    cpu_seconds: float
    calibration_exposures: int
    away: dict[str, float]
    found: dict[str, float]
    errors: dict[str, float]
    true: dict[str, float]
    warnings: tuple[str, ...]


def fit_seed(seed: int, kinds: list[str]) -> Outcome:
    """Calibrate and fit the bench of one seed."""
    here = lab(seed)
    calibrations = {kind: here.calibration(kind) for kind in kinds}
    with tempfile.TemporaryDirectory() as folder:
        began, cpu = time.perf_counter(), time.process_time()
        twin = fit_bench(_bench(here, Path(folder)), calibrations)
        seconds, cpu_seconds = time.perf_counter() - began, time.process_time() - cpu
    labels, numbers, covariance = posterior_of(twin)
    errors = np.sqrt(np.diag(covariance))
    true = {label: value for label, value in true_values(here).items() if label in labels}
    at = {label: place for place, label in enumerate(labels)}
    return Outcome(
        seed=seed,
        before=twin.value("error_before"),
        after=twin.value("error_after"),
        floor_dn=twin.value("noise_floor_dn"),
        exposures=twin.record.exposures,
        seconds=seconds,
        cpu_seconds=cpu_seconds,
        calibration_exposures=sum(here.exposures.values()),
        away={label: float((numbers[at[label]] - value) / errors[at[label]]) for label, value in true.items()},
        found={label: float(numbers[at[label]]) for label in true},
        errors={label: float(errors[at[label]]) for label in true},
        true=true,
        warnings=twin.record.warnings,
    )


def true_values(here: Lab) -> dict[str, float]:
    """What is true of the bench, by label; photons_per_s is told on the scale of the flat, and left out."""
    settings, twin = here.world.settings, here.world._twin
    found: dict[str, float] = {
        "rotation_rad": math.radians(settings.registration.rotation_deg),
        "scale": settings.registration.scale,
        "blur_px": settings.registration.blur_px,
        "gap_error": float(twin.gap_error),
        "panel_gamma": settings.panel.gamma,
        "log_contrast": math.log(settings.panel.contrast),
        "crosstalk": settings.panel.crosstalk,
        "monitor_gamma": settings.monitor.gamma,
        "stray": settings.light.stray,
        "vignetting": settings.sensor.vignetting,
        "dark_offset": settings.sensor.dark_offset,
    }
    found |= {f"shift_px[{axis}]": float(settings.registration.shift_px[axis]) for axis in (0, 1)}
    return found | {f"tilt_rad[{axis}]": float(twin.tilt_rad[axis]) for axis in (0, 1)}


def _bench(here: Lab, folder: Path) -> Bench:
    context = StepContext(
        setting=None,  # type: ignore[arg-type]
        folder=folder,
        run_folder=folder,
        inputs={},
        report=lambda event: None,
        stop_asked=lambda: False,
        content_hash="0" * 16,
    )
    return Bench(
        rig=here.rig,
        kind="twin",
        scene_px=SCENE_PX,
        cells=CELLS,
        frame_shape=here.frame_shape,
        built_on={},
        context=context,
        first_id=FIRST_ID,
    )


def tell(outcomes: list[Outcome]) -> None:
    """The table of all seeds, and coverage by value."""
    say(f"\n{'seed':>4} {'before':>8} {'after':>7} {'floor DN':>9} {'exposures':>10} {'seconds':>8} {'CPU s':>7}")
    for each in outcomes:
        say(
            f"{each.seed:4d} {each.before:8.2f} {each.after:7.3f} {each.floor_dn:9.2f} {each.exposures:10d} "
            f"{each.seconds:8.1f} {each.cpu_seconds:7.1f}"
        )
    after = np.array([each.after for each in outcomes])
    before = np.array([each.before for each in outcomes])
    say(
        f"held-out error / noise: {before.mean():.2f} before, {after.mean():.3f} after "
        f"(least {after.min():.3f}, most {after.max():.3f}); {int((after <= GOAL).sum())} of {len(after)} within {GOAL}"
    )
    say(f"\n{'value':14s} {'RMS error':>11s} {'stated':>11s} {'RMS z':>7s} {'<1 sigma':>9s} {'<2 sigma':>9s}")
    everything: list[float] = []
    for label in outcomes[0].away:
        away = np.array([each.away[label] for each in outcomes if label in each.away])
        off = np.array([each.found[label] - each.true[label] for each in outcomes])
        stated = np.array([each.errors[label] for each in outcomes])
        everything += list(away)
        say(
            f"{label:14s} {np.sqrt((off**2).mean()):11.3g} {np.sqrt((stated**2).mean()):11.3g} "
            f"{np.sqrt((away**2).mean()):7.2f} {100 * (np.abs(away) < 1).mean():8.0f}% "
            f"{100 * (np.abs(away) < 2).mean():8.0f}%"
        )
    whole = np.abs(everything)
    say(f"{'all':14s} {'':11s} {'':11s} {np.sqrt((whole**2).mean()):7.2f} {100 * (whole < 1).mean():8.0f}% "
        f"{100 * (whole < 2).mean():8.0f}%")  # fmt: skip
    said = {warning.split(":")[0] for each in outcomes for warning in each.warnings}
    say("\nwarnings: " + ("; ".join(sorted(said)) or "none"))


def profiled(seed: int, kinds: list[str]) -> None:
    """Where the time of one fit goes."""
    here = lab(seed)
    calibrations = {kind: here.calibration(kind) for kind in kinds}
    profile = cProfile.Profile(time.process_time)
    with tempfile.TemporaryDirectory() as folder:
        bench = _bench(here, Path(folder))
        profile.enable()
        twin = fit_bench(bench, calibrations)
        profile.disable()
    stats: Any = pstats.Stats(profile)
    whole = stats.total_tt
    say(f"\nCPU seconds of one fit under the profiler: {whole:.1f}, {twin.record.exposures} exposures")
    for name, (file, function) in PARTS.items():
        spent = sum(
            cumulative
            for (path, _, called), (_, _, _, cumulative, _) in stats.stats.items()
            if path.endswith(file) and called == function
        )
        say(f"  {name:30s} {spent:6.2f} s {100 * spent / whole:5.0f} %")


def say(text: str) -> None:
    """To the terminal."""
    print(text, flush=True)  # noqa: T201


def main() -> None:
    """See the top of this file."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--seeds", type=int, default=20)
    parser.add_argument("--first", type=int, default=1)
    parser.add_argument("--kinds", nargs="*", default=["dark", "photon_transfer", "flat"])
    parser.add_argument("--set", nargs="*", default=[])
    parser.add_argument("--rig", default="as-built")
    parser.add_argument("--profile", action="store_true")
    parser.add_argument("--out", type=Path)
    given = parser.parse_args()
    kinds = [kind for kind in given.kinds if kind != "none"]
    further = dict(item.split("=", 1) for item in given.set)
    choose(given.rig, {**DRAWN, **further})
    if given.profile:
        profiled(given.first, kinds)
        close()
        return
    outcomes: list[Outcome] = []
    refused: list[str] = []
    for seed in range(given.first, given.first + given.seeds):
        try:
            outcomes.append(fit_seed(seed, kinds))
            say(f"seed {seed}: {outcomes[-1].before:.2f} → {outcomes[-1].after:.3f}, {outcomes[-1].cpu_seconds:.1f} s")
        except RunFailed as error:
            refused.append(f"seed {seed}: {error}")
            say(refused[-1])
    close()
    if outcomes:
        tell(outcomes)
    say(f"refused: {len(refused)} of {given.seeds}")
    if given.out is not None:
        given.out.write_text(json.dumps([asdict(each) for each in outcomes], indent=1))


if __name__ == "__main__":
    main()
