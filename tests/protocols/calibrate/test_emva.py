"""Photon transfer as a pure estimator: known sensors in, their numbers out."""

from __future__ import annotations

import numpy as np
import numpy.typing as npt
import pytest

from protocols.calibrate import emva
from protocols.calibrate.emva import Rung, RungSums, both, linearity, photon_transfer, rung_of

Pixels = npt.NDArray[np.uint16]

TOP_DN = 4095
SHAPE = (40, 50)
FILLS = (0.03, 0.08, 0.15, 0.25, 0.35, 0.5, 0.65, 0.8)


class Silicon:
    """A sensor of known numbers, with a strong fixed pattern."""

    def __init__(self, gain: float = 0.4, noise_e: float = 3.0, well_e: float = 9000.0, seed: int = 0) -> None:
        self.gain, self.noise_e, self.well_e = gain, noise_e, well_e
        self.rng = np.random.default_rng(seed)
        self.response = 1 + 0.03 * self.rng.standard_normal(SHAPE)
        self.offset = 150 + 8 * self.rng.standard_normal(SHAPE)

    def frames(self, electrons: float, count: int = 8, flicker: float = 0.0) -> Pixels:
        light = 1 + flicker * self.rng.standard_normal((count, 1, 1))
        seen = np.minimum(self.rng.poisson(electrons * self.response * light).astype(float), self.well_e)
        dn = self.gain * (seen + self.noise_e * self.rng.standard_normal(seen.shape)) + self.offset
        return np.clip(np.rint(dn), 0, TOP_DN).astype(np.uint16)

    def ladder(self, flicker: float = 0.0) -> tuple[list[Rung], Rung, Rung]:
        rungs = [rung_of(self.frames(fill * self.well_e, flicker=flicker), fill, TOP_DN) for fill in FILLS]
        dark = rung_of(self.frames(0.0, count=24), 0.0, TOP_DN)
        return rungs, dark, rung_of(self.frames(4 * self.well_e), 4.0, TOP_DN)


def test_gain_read_noise_and_full_well_are_recovered_within_their_errors() -> None:
    sensor = Silicon(seed=1)
    found = photon_transfer(*sensor.ladder())
    assert abs(found.gain_dn_per_e - 0.4) < 3 * found.gain_error < 0.03 * 0.4
    assert abs(found.read_noise_e - 3.0) < 3 * found.read_noise_e_error < 0.1 * 3.0
    assert abs(found.full_well_e - 9000) < 3 * found.full_well_e_error < 0.03 * 9000
    assert found.dynamic_range == pytest.approx(9000 / (np.sqrt(9 + 1 / 12 / 0.16 + 0.25) + 0.5), rel=0.03)
    assert found.snr(found.absolute_threshold_e) == pytest.approx(1.0, rel=1e-6)


def test_the_stated_errors_cover_the_truth_as_often_as_they_promise() -> None:
    pulls = []
    for seed in range(30):
        sensor = Silicon(gain=0.3 + 0.005 * seed, noise_e=2 + 0.05 * seed, well_e=6000, seed=seed)
        found = photon_transfer(*sensor.ladder())
        pulls.append(
            [
                (found.gain_dn_per_e - sensor.gain) / found.gain_error,
                (found.read_noise_e - sensor.noise_e) / found.read_noise_e_error,
            ]
        )
    within = np.mean(np.abs(pulls) < 1, axis=0)
    assert (within > 0.5).all(), "errors are too small"
    assert (within < 0.9).all(), "errors are too large"
    assert (np.mean(np.abs(pulls) < 2, axis=0) > 0.85).all()


def test_a_fixed_pattern_is_no_temporal_noise() -> None:
    pattern = np.random.default_rng(0).integers(100, 4000, SHAPE).astype(np.uint16)
    assert rung_of(np.stack([pattern, pattern]), 1.0, TOP_DN).variance_dn2 == 0.0


def test_a_light_that_flickers_from_frame_to_frame_leaves_the_gain_alone() -> None:
    found = photon_transfer(*Silicon(seed=1).ladder(flicker=0.01))
    assert found.gain_dn_per_e == pytest.approx(0.4, rel=0.03)


def test_sums_by_blocks_are_the_moments_of_all_pixels(monkeypatch: pytest.MonkeyPatch) -> None:
    frames = Silicon(seed=2).frames(3000.0, count=6)
    monkeypatch.setattr(emva, "BLOCK", 97)
    found = rung_of(frames, 1.0, TOP_DN)
    pairs = frames.astype(float).reshape(3, 2, -1)
    assert found.mean_dn == pytest.approx(frames.mean(), rel=1e-12)
    assert found.variance_dn2 == pytest.approx((pairs[:, 0] - pairs[:, 1]).var(axis=1, ddof=1).mean() / 2, rel=1e-9)
    squares = ((pairs[:, 0] - pairs[:, 1]) - (pairs[:, 0] - pairs[:, 1]).mean(axis=1, keepdims=True)) ** 2 / 2
    assert found.variance_error_dn2 == pytest.approx(squares.std() / np.sqrt(squares.size), rel=0.02)


def test_frames_are_summed_without_copies_of_the_whole() -> None:
    import tracemalloc

    frames = np.full((2, 1500, 2000), 7, dtype=np.uint16)
    sums = RungSums(TOP_DN)
    tracemalloc.start()
    sums.add(frames[0], frames[1])
    peak = tracemalloc.get_traced_memory()[1]
    tracemalloc.stop()
    assert peak < frames.nbytes / 4


def test_rounding_is_taken_off_the_read_noise_and_hides_what_is_below_it() -> None:
    fine = photon_transfer(*Silicon(gain=0.4, noise_e=2.0, seed=3).ladder())
    assert fine.read_noise_dn == pytest.approx(0.8, rel=0.03)
    assert not fine.read_noise_is_limit
    coarse = photon_transfer(*Silicon(gain=0.05, noise_e=2.0, seed=3).ladder())
    assert coarse.read_noise_is_limit
    assert coarse.read_noise_dn == pytest.approx(0.396, abs=0.001)


def test_saturated_rungs_do_not_count_for_the_gain() -> None:
    sensor = Silicon(gain=0.5, well_e=20_000)
    rungs = [rung_of(sensor.frames(electrons), electrons, TOP_DN) for electrons in (500, 1500, 3000, 4500, 7600, 9000)]
    dark, over = rung_of(sensor.frames(0.0, 24), 0.0, TOP_DN), rung_of(sensor.frames(40_000.0), 9.0, TOP_DN)
    found = photon_transfer(rungs, dark, over)
    assert found.for_gain.tolist() == [True] * 4 + [False] * 2
    assert found.gain_dn_per_e == pytest.approx(0.5, rel=0.03)
    assert found.full_well_dn == pytest.approx(TOP_DN - dark.mean_dn, abs=0.1)
    with pytest.raises(ValueError, match="2 are needed"):
        photon_transfer(rungs[-2:], dark, over)


@pytest.mark.parametrize("bend", [0.0, 0.02])
def test_a_bent_sensor_shows_its_bend_and_a_straight_one_only_noise(bend: float) -> None:
    time_s = np.linspace(0.05, 0.95, 12)
    rng = np.random.default_rng(4)
    error = np.full(12, 0.5)
    signal = 4000 * time_s * (1 - bend * time_s) + error * rng.standard_normal(12)
    found = linearity(time_s, signal, error, np.ones(12, dtype=bool))
    assert found is not None
    if bend:
        assert 0.001 < found.error < bend
        assert found.error > 5 * found.from_noise
    else:
        assert found.error == pytest.approx(found.from_noise, abs=5 * found.error_of_error)
        assert found.rate_dn_per_s == pytest.approx(4000, rel=1e-3)


def test_two_points_say_nothing_of_linearity() -> None:
    assert linearity([1.0, 2.0], [10.0, 20.0], [0.1, 0.1], [True, True]) is None


def test_two_visits_of_a_rung_count_by_their_frames() -> None:
    sensor = Silicon(seed=5)
    one, other = rung_of(sensor.frames(1000.0, 4), 1.0, TOP_DN), rung_of(sensor.frames(1100.0, 8), 1.0, TOP_DN)
    merged = both(one, other)
    assert merged.mean_dn == pytest.approx((one.mean_dn + 2 * other.mean_dn) / 3)
    assert merged.frames == 12
    with pytest.raises(ValueError, match="not visits of the same rung"):
        both(one, rung_of(sensor.frames(1000.0, 4), 2.0, TOP_DN))
