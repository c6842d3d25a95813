"""Find the exposure time for a whole capture from a few pilot frames: one time for all, never one per frame."""

from __future__ import annotations

from collections.abc import Callable

from labctl.errors import HardwareError

MAX_PILOTS = 40
GOOD_SHARE = 0.25
"""A peak this far up from black to the top is measured well enough to extrapolate from."""


def search_exposure(
    peak_dn: Callable[[float], float],
    *,
    target_dn: float,
    dark_dn: float,
    top_dn: float,
    limits_s: tuple[float, float],
    start_s: float | None = None,
) -> float:
    """Exposure time in seconds at which the brightest pixel of the pilot reaches target_dn, within `limits_s`.

    peak_dn: captures a pilot with the given exposure time and returns its largest DN. The search lengthens step by
    step while the pilot is dim and shortens while it saturates, then extrapolates once, linearly.
    Raises HardwareError when the pilot saturates at the shortest exposure.
    """
    low_s, high_s = limits_s
    time_s = min(max(start_s if start_s is not None else high_s / 1024, low_s), high_s)
    too_long_s = high_s * 2
    for _ in range(MAX_PILOTS):
        peak = peak_dn(time_s)
        if peak >= top_dn:
            if time_s <= low_s:
                raise HardwareError(
                    f"the pilot saturates ({peak:.0f} DN) at the shortest exposure of {low_s:g} s; dim the light"
                )
            too_long_s = time_s
            time_s = max(low_s, time_s / 8)
            continue
        signal = peak - dark_dn
        if signal >= GOOD_SHARE * (top_dn - dark_dn) or time_s >= high_s:
            return min(max(time_s * (target_dn - dark_dn) / max(signal, 1.0), low_s), high_s)
        factor = min(max(0.5 * (target_dn - dark_dn) / max(signal, 1.0), 1.5), 32.0)
        time_s = min(time_s * factor, high_s, 0.7 * too_long_s)
    raise HardwareError(f"no exposure found in {MAX_PILOTS} pilots; is the light steady?")
