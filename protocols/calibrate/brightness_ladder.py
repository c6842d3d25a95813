"""How bright a display is at each of its levels: frames of several exposures, joined where they overlap."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from itertools import pairwise
from typing import TYPE_CHECKING, Any

import numpy as np
import numpy.typing as npt

from protocols.exposure_search import Pilot, search_exposure

if TYPE_CHECKING:
    from matplotlib.figure import Figure

    from labctl.exposure import FloatArray
    from protocols.calibrate.bench import Bench, Pixels

Array = npt.NDArray[np.float64]
Levels = npt.NDArray[np.int64]

FILL = 0.8
"""Of the brightest level."""

STEP = 8.0
"""How much longer the exposures of the next rung are."""

ROOM = 0.9
"""Of a rung: levels that would fill more of the range than this are left out."""

LEAST_SIGNAL = 0.02
"""Of the range of the sensor: a full level that gives less at the longest exposure is no light."""

LINEARITY_TOLERANCE = 0.01


@dataclass(frozen=True)
class Rung:
    """Frames of one exposure time. signal_dn, error_dn: (n,) mean over the pixels, black taken off."""

    exposure_s: float
    levels: Levels
    signal_dn: Array
    error_dn: Array


@dataclass(frozen=True)
class Ladder:
    """Brightness (n,) at each level relative to the last one, with its error, the rungs, and what is odd about them.

    drift: change of the brightest level from before the first rung to after it, relative; drift_error: its error.
    """

    levels: Levels
    relative: Array
    error: Array
    rungs: tuple[Rung, ...]
    drift: float
    drift_error: float
    warnings: tuple[str, ...]


def spread_levels(count: int) -> Levels:
    """(count,) levels from 0 to 255, evenly spaced."""
    return np.unique(np.round(np.linspace(0, 255, count)).astype(np.int64))


def climb(
    bench: Bench,
    name: str,
    pictures: Callable[[Levels], tuple[FloatArray, FloatArray]],
    levels: Levels,
    *,
    repeats: int,
    longest_s: float,
    max_drift: float,
) -> Ladder:
    """Measure `levels` (n,), rising, the last one the brightest.

    pictures: levels (k,) to scenes and masks, as `Bench.frames` takes them. The first rung is exposed for the last
    level; each further one eight times as long, for the levels that were dim, until the dimmest is well seen.
    Refuses without light, and when the light drifts by more than max_drift.
    """
    full = levels[-1:]
    scene, mask = pictures(full)
    first_s = exposure_up_to(bench, _one(scene), _one(mask), fill=FILL, longest_s=longest_s)
    span_dn = bench.saturation_dn - float(dark_frame(bench, first_s).mean())
    begun = _rung(bench, name, pictures, full, first_s, repeats)
    rungs = [_rung(bench, name, pictures, levels, first_s, repeats)]
    if rungs[0].signal_dn[-1] < LEAST_SIGNAL * span_dn:
        bench.refuse(
            f"no light: the brightest level gives {rungs[0].signal_dn[-1]:.1f} DN over dark at {first_s:g} s; "
            "switch on lamp and monitor, open the shutter, take the cap off",
            lambda: _rungs_figure(rungs),
        )
    again = _rung(bench, name, pictures, full, first_s, repeats)
    drift = float(again.signal_dn[0] / begun.signal_dn[0] - 1)
    drift_error = float(np.hypot(again.error_dn[0], begun.error_dn[0]) / begun.signal_dn[0])
    if abs(drift) > max_drift + 3 * drift_error:
        bench.refuse(
            f"the light drifted by {100 * drift:+.2f} % during the ladder, {100 * max_drift:g} % is allowed; "
            "let lamp and monitor warm up, then calibrate again",
            lambda: _rungs_figure([begun, *rungs, again]),
        )
    while True:
        last = rungs[-1]
        longer_s = min(STEP * last.exposure_s, longest_s)
        grow = longer_s / last.exposure_s
        dim = last.levels[last.signal_dn * grow < ROOM * FILL * span_dn]
        if grow < 1.5 or len(dim) == 0 or last.signal_dn[0] > 0.25 * span_dn:
            break
        rungs.append(_rung(bench, name, pictures, dim, longer_s, repeats))
    relative, error, warnings = join_rungs(rungs)
    if abs(drift) > 3 * drift_error:
        warnings += (f"the light drifted by {100 * drift:+.2f} % meanwhile; half of it is in the errors",)
    return Ladder(
        levels, relative, np.hypot(error, relative * abs(drift) / 2), tuple(rungs), drift, drift_error, warnings
    )


def join_rungs(rungs: list[Rung]) -> tuple[Array, Array, tuple[str, ...]]:
    """Brightness (n,) relative to the last level of the first rung, its error, and warnings.

    Levels of a rung are the first ones of the rung before. What longer exposures are worth is taken from the levels
    that both saw, so that a delay of the shutter does not matter; that the sensor is linear does.
    """
    full, full_error = rungs[0].signal_dn[-1], rungs[0].error_dn[-1]
    relative, error = rungs[0].signal_dn / full, rungs[0].error_dn / full
    warnings: list[str] = []
    worth, worth_error = 1.0, 0.0
    for before, rung in pairwise(rungs):
        n = len(rung.levels)
        x, y = before.signal_dn[:n], rung.signal_dn
        ratio = float((x * y).sum() / (x * x).sum())
        weights = 1 / (rung.error_dn**2 + (ratio * before.error_dn[:n]) ** 2)
        ratio = float((weights * x * y).sum() / (weights * x * x).sum())
        ratio_error = float(1 / np.sqrt((weights * x * x).sum()))
        asked = rung.exposure_s / before.exposure_s
        if abs(ratio / asked - 1) > LINEARITY_TOLERANCE + 3 * ratio_error / ratio:
            warnings.append(
                f"{asked:.2f} times the exposure gave {ratio:.2f} times the signal; see `photon_transfer` for linearity"
            )
        worth_error = float(np.hypot(worth_error, ratio_error / ratio))
        worth *= ratio
        relative[:n] = y / (worth * full)
        error[:n] = np.hypot(rung.error_dn / (worth * full), relative[:n] * worth_error)
    error[:-1] = np.hypot(error[:-1], relative[:-1] * full_error / full)
    error[-1] = full_error / full
    return relative, error, tuple(warnings)


def exposure_up_to(bench: Bench, scene: FloatArray, mask: FloatArray, *, fill: float, longest_s: float) -> float:
    """Exposure in seconds, at most longest_s, that fills the brightest pixels of a frame to `fill` of the range."""
    low_s, high_s = bench.exposure_limits_s
    dark_dn = float(dark_frame(bench, low_s).mean())

    def pilot(exposure_s: float) -> Pilot:
        peak = float(np.quantile(bench.frames("pilot", scene, mask, exposure_s, keep=False), 0.999))
        return Pilot(peak, peak)

    return search_exposure(
        pilot,
        target_dn=dark_dn + fill * (bench.saturation_dn - dark_dn),
        dark_dn=dark_dn,
        top_dn=bench.saturation_dn,
        limits_s=(low_s, min(high_s, max(longest_s, 2 * low_s))),
    )


def dark_frame(bench: Bench, exposure_s: float) -> Array:
    """(h, w) DN without light at this exposure, by the calibration `dark`."""
    arrays = bench.built_on["dark"].arrays
    dark = np.asarray(arrays["dark_dn"], dtype=np.float64)
    rate = arrays.get("dark_rate_dn_per_s")
    return dark if rate is None else dark + np.asarray(rate, dtype=np.float64) * exposure_s


def signal_of(frames: Pixels, dark: Array) -> tuple[Array, Array]:
    """(n,) mean signal in DN and its standard deviation, of frames (n, repeats, h, w) over dark (h, w).

    The noise is that of the frames themselves, from the differences of repeats, so fixed pattern stays out of it.
    """
    repeats = frames.shape[1]
    values = frames.astype(np.float64)
    signal = (values - dark).mean(axis=(1, 2, 3))
    if repeats > 1:
        variance = values.var(axis=1, ddof=1).mean(axis=(1, 2))
    else:
        variance = np.maximum(values.var(axis=(1, 2, 3)), 1.0)
    return signal, np.sqrt((variance + 1 / 12) / (repeats * values[0, 0].size))


def _rung(
    bench: Bench, name: str, pictures: Callable[[Levels], Any], levels: Levels, exposure_s: float, repeats: int
) -> Rung:
    scenes, masks = pictures(levels)
    frames = bench.frames(name, scenes, masks, exposure_s, repeats=repeats, level=levels)
    taken_s = float(bench.took_s[-1])
    signal, error = signal_of(frames, dark_frame(bench, taken_s))
    return Rung(taken_s, levels, signal, error)


def _one(pictures: FloatArray) -> FloatArray:
    return pictures[0] if pictures.ndim == 3 else pictures


def _rungs_figure(rungs: list[Rung]) -> Figure:
    from matplotlib.figure import Figure

    figure = Figure(figsize=(6, 3.5), layout="constrained")
    axes = figure.subplots()
    for rung in rungs:
        axes.errorbar(rung.levels, rung.signal_dn, rung.error_dn, fmt="o-", ms=3, label=f"{rung.exposure_s:.3g} s")
    axes.set(xlabel="level", ylabel="mean signal over dark (DN)")
    axes.legend(frameon=False)
    return figure
