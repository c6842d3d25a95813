"""Latency, response and settling of a display, from frames taken at growing delays after a step."""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
import numpy.typing as npt

from labctl.errors import HardwareError

FloatArray = npt.NDArray[np.float64]

SETTLED = 0.005
"""Share of a step that may be missing from a picture that counts as reached."""

NOISE_SIGMAS = 4.0
"""A deviation below this many standard deviations of the noise is not seen as one."""

NOISIEST = 0.05
"""Standard deviation, as a share of the step, above which a single frame says too little."""


@dataclass(frozen=True)
class Step:
    """Frames after one change of picture.

    delay_s: (n,) rising, from the picture being on the panel to the trigger. fraction: (n,) how much of the step the
    frame shows, 0 as before, 1 as after.
    """

    rise: bool
    delay_s: FloatArray
    fraction: FloatArray


@dataclass(frozen=True)
class Response:
    """What one display does after `show`. Times in seconds."""

    latency_s: float
    """Until the light begins to change, median over all steps."""

    latency_spread_s: float
    """Standard deviation of the latency over steps one way: a panel that waits for its refresh has a wide one."""

    rise_s: float
    """Time constant towards more light."""

    fall_s: float
    """Time constant towards less light."""

    settle_s: float
    """From here on a frame shows the step to within `SETTLED`, whatever the step was: latency included."""

    settle_error_s: float
    """Uncertainty of `settle_s`: spacing of the delays and spread of the latency."""


def response_of(steps: Sequence[Step], *, exposure_s: float, noise: float) -> Response:
    """The response that these steps show.

    noise: standard deviation of `fraction` at rest. `settle_s` is the longest of what was seen, the last deviation
    beyond tolerance or noise in any step, and of what the fitted exponentials predict, plus the spread of the latency.
    Raises HardwareError when the noise hides the step, or when a step has not settled by its last delay.
    """
    if not noise < NOISIEST:
        raise HardwareError(
            f"the step is hidden in noise: one standard deviation is {noise:.0%} of it, {NOISIEST:.0%} is allowed; "
            "check that light reaches the camera (lamp on, shutter open, mask and scene in view), or expose longer"
        )
    tolerance = max(SETTLED, NOISE_SIGMAS * noise)
    seen = [_settled_at(step, tolerance) for step in steps]
    fits = [_fit(step, exposure_s, max(noise, 1e-3)) for step in steps]
    latencies = np.array([latency_s for latency_s, _ in fits])
    predicted = [latency_s + response_s * math.log(1 / SETTLED) for latency_s, response_s in fits]
    rising = np.array([step.rise for step in steps])
    spread_s = max(float(latencies[way].std()) for way in (rising, ~rising) if way.any())
    return Response(
        latency_s=max(0.0, float(np.median(latencies))),
        latency_spread_s=spread_s,
        rise_s=_median([fit[1] for fit, step in zip(fits, steps, strict=True) if step.rise]),
        fall_s=_median([fit[1] for fit, step in zip(fits, steps, strict=True) if not step.rise]),
        settle_s=max(0.0, *(at_s for at_s, _ in seen), *predicted) + spread_s,
        settle_error_s=math.hypot(max(gap_s for _, gap_s in seen), spread_s),
    )


def step_fraction(delay_s: FloatArray, latency_s: float, response_s: float, exposure_s: float) -> FloatArray:
    """Mean of 1 - exp(-(t - latency_s) / response_s), 0 before, over exposures that begin `delay_s` after the step."""

    def integral(time_s: FloatArray) -> FloatArray:
        since_s = np.maximum(time_s - latency_s, 0.0)
        return np.asarray(since_s + response_s * np.expm1(-since_s / response_s))

    return np.asarray((integral(delay_s + exposure_s) - integral(delay_s)) / exposure_s)


def _settled_at(step: Step, tolerance: float) -> tuple[float, float]:
    """Delay of the first frame from which on all are within `tolerance`, and its distance from the one before."""
    off = np.flatnonzero(np.abs(step.fraction - 1) > tolerance)
    if off.size == 0:
        return float(step.delay_s[0]), 0.0
    last = int(off[-1])
    if last + 1 >= len(step.delay_s) * 0.9:
        raise HardwareError(
            f"a step has not settled {step.delay_s[-1]:.3g} s after it: {step.fraction[-1]:.1%} of it is reached; "
            "allow more time (--longest), and look for flicker and for light that drifts"
        )
    return float(step.delay_s[last + 1]), float(step.delay_s[last + 1] - step.delay_s[last])


def _fit(step: Step, exposure_s: float, noise: float) -> tuple[float, float]:
    """Latency and time constant of one step. Robust: a few frames far off do not pull it along."""
    from scipy.optimize import least_squares  # type: ignore[import-untyped]

    reached = np.flatnonzero(step.fraction > 0.5)
    half_s = float(step.delay_s[reached[0]]) + exposure_s / 2 if reached.size else float(step.delay_s[-1])
    shortest_s = exposure_s / 100

    def misfit(guess: FloatArray) -> FloatArray:
        return step_fraction(step.delay_s, guess[0], guess[1], exposure_s) - step.fraction

    found = [
        least_squares(
            misfit,
            (share * half_s, max((1 - share) * half_s / math.log(2), 2 * shortest_s)),
            bounds=([-exposure_s, shortest_s], [np.inf, np.inf]),
            x_scale=(half_s, half_s),
            loss="soft_l1",
            f_scale=noise,
        )
        for share in (0.2, 0.8)
    ]
    best = min(found, key=lambda result: float(result.cost))
    return float(best.x[0]), float(best.x[1])


def _median(values: Sequence[float]) -> float:
    return float(np.median(values)) if values else 0.0
