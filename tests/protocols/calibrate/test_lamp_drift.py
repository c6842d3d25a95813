"""Light that changes while a ladder goes up and down again."""

from __future__ import annotations

import numpy as np
import pytest

from protocols.calibrate.lamp_drift import drift_of

RUNGS = np.array([*range(10), *reversed(range(10))])
WHEN = np.arange(20.0)


def rates(drift: float, bend: float = 0.0, noise: float = 1e-4, seed: int = 0) -> np.ndarray:
    light = 1 + drift * WHEN / WHEN[-1]
    return 1000 * light * (1 - bend * RUNGS / 10) * (1 + noise * np.random.default_rng(seed).standard_normal(20))


@pytest.mark.parametrize("drift", [0.05, -0.01])
def test_the_drift_is_found_with_its_sign_and_size(drift: float) -> None:
    found = drift_of(WHEN, RUNGS, rates(drift), np.full(20, 0.1))
    assert found is not None
    assert found.sure
    assert found.change == pytest.approx(drift, rel=0.03)


def test_steady_light_on_a_bent_sensor_is_no_drift() -> None:
    found = drift_of(WHEN, RUNGS, rates(0.0, bend=0.2), np.full(20, 0.1))
    assert found is not None
    assert not found.sure
    assert abs(found.change) < 4 * found.error < 1e-3


def test_every_rung_that_is_seen_twice_tells_of_the_drift() -> None:
    all_but_the_first = np.arange(20) < 19
    error = rates(0.04) * 1e-3
    found = drift_of(WHEN[all_but_the_first], RUNGS[all_but_the_first], rates(0.04)[:19], error[:19])
    assert found is not None
    assert found.change == pytest.approx(0.04 * 18 / 19, rel=0.03)
    one = np.isin(RUNGS, 2)
    alone = drift_of(WHEN[one], RUNGS[one], rates(0.04)[one], error[one])
    assert alone is not None
    assert found.error / WHEN[18] < 0.6 * alone.error / np.ptp(WHEN[one])


def test_a_ladder_that_only_goes_up_tells_no_drift() -> None:
    assert drift_of(WHEN[:10], RUNGS[:10], np.full(10, 5.0), np.full(10, 0.1)) is None
