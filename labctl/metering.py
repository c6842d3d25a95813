"""Which exposure time fills the sensor: what a light meter is for."""

from __future__ import annotations

import math
from collections.abc import Callable

import numpy as np

from labctl.errors import HardwareError
from labctl.exposure import Frames

FILL = 0.6
"""Share of saturation that the bright pixels shall reach."""

NEAR = 0.15
"""How far from `FILL` is near enough."""

LARGEST_STEP = 8.0
"""Factor between two trials at most: black level and saturation hide how far off a trial is."""

TRIALS = 16


def filling_exposure(take: Callable[[float], Frames], limits_s: tuple[float, float], *, start_s: float) -> float:
    """Exposure time in seconds at which the 95th percentile of the pixels stands near `FILL` of saturation.

    take: makes one frame at a time within `limits_s`. Where there is too little light, the upper limit is the answer.
    Raises HardwareError when the shortest exposure still saturates.
    """
    low_s, high_s = limits_s
    time_s = min(max(start_s, low_s), high_s)
    for _ in range(TRIALS):
        frame = take(time_s)
        share = max(float(np.percentile(frame.pixels, 95)) / frame.saturation_dn, 1e-3)
        if abs(share - FILL) <= NEAR or (share < FILL and time_s >= high_s):
            return time_s
        if share > FILL and time_s <= low_s:
            raise HardwareError(
                f"the shortest exposure, {low_s:g} s, already fills {share:.0%} of the sensor; use less light"
            )
        step = 1 / LARGEST_STEP if share >= 0.95 else min(FILL / share, LARGEST_STEP)
        time_s = math.exp(min(max(math.log(time_s * step), math.log(low_s)), math.log(high_s)))
    raise HardwareError(f"no exposure fills the sensor after {TRIALS} trials; does the light flicker?")
