"""Find the exposure time for a whole capture from a few pilot frames: one time for all, never one per frame."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass

from labctl.errors import HardwareError

MAX_PILOTS = 40
GOOD_SHARE = 0.25
"""A level this far up from black to the top is measured well enough to extrapolate from."""

STEP_BACK = 0.93
"""What a found exposure is shortened by while single pixels still saturate."""


@dataclass(frozen=True, slots=True)
class Pilot:
    """One pilot frame: the level that is to be set, and its brightest pixel, both in DN."""

    level_dn: float
    peak_dn: float


def search_exposure(
    pilot: Callable[[float], Pilot],
    *,
    target_dn: float,
    dark_dn: float,
    top_dn: float,
    limits_s: tuple[float, float],
) -> float:
    """Exposure time in seconds, within `limits_s`, at which the level of the pilot is target_dn and no pixel saturates.

    pilot: captures a frame with the given exposure time. The search lengthens while the pilot is dim and shortens
    while it saturates, extrapolates once, linearly, and looks whether that saturates a pixel.
    Raises HardwareError when the pilot saturates at the shortest exposure.
    """
    low_s, high_s = limits_s
    time_s = min(max(high_s / 1024, low_s), high_s)
    too_long_s = high_s * 2
    found = False
    for _ in range(MAX_PILOTS):
        seen = pilot(time_s)
        if seen.peak_dn >= top_dn:
            if time_s <= low_s:
                raise HardwareError(
                    f"the pilot saturates ({seen.peak_dn:.0f} DN) at the shortest exposure, {low_s:g} s; dim the light"
                )
            too_long_s = time_s
            time_s = max(low_s, time_s * (STEP_BACK if found else 1 / 8))
            continue
        if found:
            return time_s
        signal = max(seen.level_dn - dark_dn, 1.0)
        wanted_s = time_s * (target_dn - dark_dn) / signal
        if signal >= GOOD_SHARE * (top_dn - dark_dn) or time_s >= high_s:
            time_s, found = min(max(wanted_s, low_s), high_s), True
        else:
            time_s = min(max(0.5 * wanted_s, 1.5 * time_s), 32 * time_s, high_s, 0.7 * too_long_s)
    raise HardwareError(f"no exposure found in {MAX_PILOTS} pilots; is the light steady?")
