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

AT_REST = 2
"""Last frames of a step that must show it."""

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
    begun_s: FloatArray | None = None
    """(n,) from the picture being on the panel to the beginning of the exposure, by the clock of the camera: triggers
    come early or late, exposures know when they were. None where nobody asked the camera."""


@dataclass(frozen=True)
class Response:
    """What one display does after `show`. Times in seconds."""

    latency_s: float
    """Until the light begins to change; the mean of both directions."""

    latency_spread_s: float
    """Standard deviation of the latency from step to step: a panel that waits for its refresh has a wide one."""

    rise_s: float
    """Time constant towards more light."""

    fall_s: float
    """Time constant towards less light."""

    settle_s: float
    """From here on a frame shows the step to within `SETTLED`, whatever the step was: latency included."""

    settle_error_s: float
    """Uncertainty of `settle_s`: spacing of the delays and spread of the latency."""


def response_of(steps: Sequence[Step], *, exposure_s: float, noise: float) -> Response:
    """The response that these steps show together; there must be some in each direction.

    noise: standard deviation of `fraction` at rest. `settle_s` is the later of what was seen, the last deviation
    beyond tolerance or noise in any step, and of what the fitted exponentials predict, plus the spread of the latency.
    Raises HardwareError when the noise hides the step, or when a step has not settled by its last delay.
    """
    if not noise < NOISIEST:
        raise HardwareError(
            f"the step is hidden in noise: one standard deviation is {noise:.0%} of it, {NOISIEST:.0%} is allowed; "
            "check that light reaches the camera (lamp on, shutter open, mask and scene in view), or expose longer"
        )
    seen_s, gap_s = settled_after(steps, noise)
    rise, fall = (
        _fit(*_pooled([step for step in steps if step.rise == way]), exposure_s, max(noise, 1e-3))
        for way in (True, False)
    )
    predicted_s = max(fit.latency_s + fit.response_s * math.log(1 / SETTLED) for fit in (rise, fall))
    spread_s = max(rise.spread_s, fall.spread_s)
    return Response(
        latency_s=max(0.0, (rise.latency_s + fall.latency_s) / 2),
        latency_spread_s=spread_s,
        rise_s=rise.response_s,
        fall_s=fall.response_s,
        settle_s=max(0.0, seen_s, predicted_s) + spread_s,
        settle_error_s=math.hypot(gap_s, spread_s),
    )


def settled_after(steps: Sequence[Step], noise: float) -> tuple[float, float]:
    """Delay of the first frame from which on all frames of all steps show the step, and the gap to the one before.

    Within `SETTLED`, or the noise where that is larger. Raises HardwareError when a step has not settled by its end.
    """
    tolerance = max(SETTLED, NOISE_SIGMAS * noise)
    for step in steps:
        if (np.abs(step.fraction[-AT_REST:] - 1) > tolerance).any():
            raise HardwareError(
                f"a step has not settled {step.delay_s[-1]:.3g} s after it: {step.fraction[-1]:.1%} of it is reached; "
                "allow more time (--longest), and look for flicker and for light that drifts"
            )
    delay_s, fraction = _pooled(steps)
    off = np.flatnonzero(np.abs(fraction - 1) > tolerance)
    if off.size == 0:
        return float(delay_s[0]), 0.0
    last = int(off[-1])
    return float(delay_s[last + 1]), float(delay_s[last + 1] - delay_s[last])


def step_fraction(delay_s: FloatArray, latency_s: float, response_s: float, exposure_s: float) -> FloatArray:
    """Mean of 1 - exp(-(t - latency_s) / response_s), 0 before, over exposures that begin `delay_s` after the step."""

    def integral(time_s: FloatArray) -> FloatArray:
        since_s = np.maximum(time_s - latency_s, 0.0)
        return np.asarray(since_s + response_s * np.expm1(-since_s / response_s))

    return np.asarray((integral(delay_s + exposure_s) - integral(delay_s)) / exposure_s)


@dataclass(frozen=True)
class _Fit:
    latency_s: float
    response_s: float
    spread_s: float


def _pooled(steps: Sequence[Step]) -> tuple[FloatArray, FloatArray]:
    """All frames of several steps in the order of their delays: a slow camera sees each step only here and there."""
    delay_s = np.concatenate([step.delay_s for step in steps])
    order = np.argsort(delay_s, kind="stable")
    return delay_s[order], np.concatenate([step.fraction for step in steps])[order]


def _fit(delay_s: FloatArray, fraction: FloatArray, exposure_s: float, noise: float) -> _Fit:
    """Latency and time constant. Robust: a few frames far off do not pull them along."""
    from scipy.optimize import least_squares

    half_s = float(delay_s[min(int((fraction < 0.5).sum()), len(delay_s) - 1)]) + exposure_s / 2
    shortest_s = exposure_s / 100

    def misfit(guess: FloatArray) -> FloatArray:
        return step_fraction(delay_s, guess[0], guess[1], exposure_s) - fraction

    found = [
        least_squares(
            misfit,
            (share * half_s, max((1 - share) * half_s / math.log(2), 2 * shortest_s)),
            bounds=([-exposure_s, shortest_s], [np.inf, np.inf]),
            x_scale=(half_s, half_s),
            loss="cauchy",
            f_scale=noise,
        )
        for share in (0.2, 0.8)
    ]
    latency_s, response_s = min(found, key=lambda result: float(result.cost)).x
    return _Fit(latency_s, response_s, _spread(delay_s, fraction, latency_s, response_s, exposure_s))


def _spread(delay_s: FloatArray, fraction: FloatArray, latency_s: float, response_s: float, exposure_s: float) -> float:
    """By how much the steps come earlier or later than the fit, from the frames taken in the middle of a step."""
    middle = np.flatnonzero((fraction > 0.1) & (fraction < 0.9))
    if middle.size < 2:
        return 0.0
    fine_s = np.linspace(latency_s - exposure_s, latency_s + 5 * response_s + exposure_s, 2000)
    fitted_s = np.interp(fraction[middle], step_fraction(fine_s, latency_s, response_s, exposure_s), fine_s)
    return float(np.std(delay_s[middle] - fitted_s))
