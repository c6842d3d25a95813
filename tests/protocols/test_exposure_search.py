from __future__ import annotations

from collections.abc import Callable

import pytest

from labctl.errors import HardwareError
from protocols.exposure_search import Pilot, search_exposure

DARK, TOP = 64.0, 4095.0


def camera(rate_dn_per_s: float, hot: float = 1.0) -> tuple[list[float], Callable[[float], Pilot]]:
    """A camera under light of so many DN per second, whose hottest pixel is `hot` times as bright."""
    asked: list[float] = []

    def pilot(time_s: float) -> Pilot:
        asked.append(time_s)
        level, peak = (min(TOP, round(DARK + rate_dn_per_s * time_s * gain)) for gain in (1.0, hot))
        return Pilot(level, peak)

    return asked, pilot


def search(pilot: Callable[[float], Pilot], high_s: float = 10.0) -> float:
    return search_exposure(pilot, target_dn=3500, dark_dn=DARK, top_dn=TOP, limits_s=(1e-5, high_s))


@pytest.mark.parametrize("rate", [5e2, 1e4, 3e6, 1.5e8])
def test_the_level_lands_on_the_target_whatever_the_light(rate: float) -> None:
    asked, pilot = camera(rate)
    time_s = search(pilot)
    assert DARK + rate * time_s == pytest.approx(3500, rel=0.02)
    assert len(asked) < 15


def test_the_exposure_is_shortened_until_no_pixel_saturates() -> None:
    _, pilot = camera(1e4, hot=1.3)
    time_s = search(pilot)
    assert pilot(time_s).peak_dn < TOP
    assert pilot(time_s / 0.9).peak_dn >= TOP, "not shorter than it must be"


def test_too_little_light_gives_the_longest_exposure() -> None:
    _, pilot = camera(1.0)
    assert search(pilot, high_s=2.0) == 2.0


def test_too_much_light_is_an_error_that_says_what_to_do() -> None:
    _, pilot = camera(1e12)
    with pytest.raises(HardwareError, match="dim the light"):
        search(pilot)
