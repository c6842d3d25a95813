"""The chip of the bench: noise as silicon makes it, the same for the same exposure, and the 12-bit ADC."""

from __future__ import annotations

from dataclasses import replace
from typing import Any

import numpy as np
import numpy.typing as npt
import pytest

from sim.virtual_lab.bench.settings import Silicon
from sim.virtual_lab.bench.silicon import Chip

SILICON = Silicon(
    shape=(64, 64), pixel_m=208e-6, quantum_efficiency=0.5, full_well_e=10_000, read_noise_e=4.0, gain_dn_per_e=0.4
)


def frame(
    photons_per_s: float, silicon: Silicon = SILICON, *, camera: int = 0, seed: int = 3, **changes: Any
) -> npt.NDArray[np.uint16]:
    wanted = {"exposure_s": 0.01, "gain_db": 0.0, "black_level_dn": 64.0, "frame": (1, 123_456_789)} | changes
    light = np.full(silicon.shape, photons_per_s)
    return Chip(silicon, seed=seed, camera=camera).read_out(light, **wanted)


@pytest.mark.parametrize("electrons", [0, 100, 4000])
def test_noise_is_shot_noise_and_read_noise(electrons: int) -> None:
    frames = np.stack([frame(electrons / 0.5 / 0.01, frame=(number, 0)) for number in range(20)]).astype(float)
    variance_e = (frames.var() - 1 / 12) / 0.4**2
    assert (frames.mean() - 64) / 0.4 == pytest.approx(electrons, abs=2)
    assert variance_e == pytest.approx(electrons + 16, rel=0.03)


def test_the_same_exposure_has_the_same_noise_and_another_has_another() -> None:
    np.testing.assert_array_equal(frame(1e5), frame(1e5))
    for other in ({"frame": (2, 123_456_789)}, {"frame": (1, 123_456_790)}, {"camera": 1}, {"seed": 4}):
        assert (frame(1e5) != frame(1e5, **other)).mean() > 0.5


def test_black_level_gain_and_full_well_act_as_the_camera_is_set() -> None:
    assert frame(0, black_level_dn=200.0, frame=None).mean() == 200
    assert frame(2e5, frame=None).mean() == 64 + 400
    assert frame(2e5, gain_db=20.0, frame=None).mean() == 64 + 4000
    assert frame(1e9, frame=None).max() == 64 + 4000, "the full well ends it, not the ADC"
    assert frame(1e9, gain_db=20.0, frame=None).max() == 4095


def test_the_fixed_pattern_is_that_of_the_camera_and_stays() -> None:
    silicon = replace(SILICON, prnu=0.02, column_offset=0.005, dsnu=0.002)
    flat = frame(1e6, silicon, frame=None).astype(float) - frame(0, silicon, frame=None)
    assert flat.std() / flat.mean() == pytest.approx(0.02, rel=0.1)
    dark = frame(0, silicon, frame=None, black_level_dn=1000.0).astype(float)
    assert dark.mean(axis=0).std() == pytest.approx(0.005 * 4095, rel=0.3)
    assert (dark != frame(0, silicon, frame=None, black_level_dn=1000.0, camera=1)).any()


def test_vignetting_takes_its_share_at_the_corner_of_the_named_centre() -> None:
    silicon = replace(SILICON, vignetting=0.3, vignetting_px=(32, 32))
    light = frame(1e6, silicon, frame=None).astype(float) - 64
    assert light[16, 16] / light[32, 32] == pytest.approx(0.7, abs=0.005)
