from __future__ import annotations

import pytest

from labctl.errors import HardwareError
from protocols.exposure_search import search_exposure


def camera(rate_dn_per_s: float, dark: float = 64.0, top: float = 4095.0) -> tuple[list[float], object]:
    asked: list[float] = []

    def peak(time_s: float) -> float:
        asked.append(time_s)
        return min(top, round(dark + rate_dn_per_s * time_s))

    return asked, peak


@pytest.mark.parametrize("rate", [5e2, 1e4, 3e6, 2e8])
def test_the_peak_lands_on_the_target_whatever_the_light(rate: float) -> None:
    asked, peak = camera(rate)
    time_s = search_exposure(peak, target_dn=3500, dark_dn=64, top_dn=4095, limits_s=(1e-5, 10.0))  # type: ignore[arg-type]
    assert 64 + rate * time_s == pytest.approx(3500, rel=0.02)
    assert len(asked) < 15


def test_too_little_light_gives_the_longest_exposure() -> None:
    _, peak = camera(1.0)
    assert search_exposure(peak, target_dn=3500, dark_dn=64, top_dn=4095, limits_s=(1e-5, 2.0)) == 2.0  # type: ignore[arg-type]


def test_too_much_light_is_an_error_that_says_what_to_do() -> None:
    _, peak = camera(1e12)
    with pytest.raises(HardwareError, match="dim the light"):
        search_exposure(peak, target_dn=3500, dark_dn=64, top_dn=4095, limits_s=(1e-5, 2.0))  # type: ignore[arg-type]
