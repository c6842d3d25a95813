"""Errors of an as-built bench that are there only when the rig file names them."""

from __future__ import annotations

import numpy as np
import pytest
import torch

from labctl.exposure import Exposure, FrameTag
from sim.world import AsBuiltWorldSettings, Shot, Shown, World
from tests.sim.conftest import nominal_twin

RANGES = {
    "gain_error": (-0.1, 0.1), "read_noise_e": (2, 6), "crosstalk": (0, 0.1), "panel_response_s": (1e-3, 5e-3),
    "monitor_gamma": (2.0, 2.4), "gap_error": (-0.03, 0.03),
}  # fmt: skip


def white_frame(world: World, exposure_s: float) -> np.ndarray:
    shot = Shot(
        mask=Shown(np.full((256, 256), 255, dtype=np.uint8)), scene=None, live_radiance=1.0,
        exposure=Exposure(exposure_s=exposure_s, roi=(32, 32)), tag=FrameTag(1), start_s=0.0,
    )  # fmt: skip
    return world.expose([shot])


def test_what_the_file_does_not_name_is_as_the_twin_says(make_world):
    settings = AsBuiltWorldSettings(seed=4)
    assert not set(RANGES) & set(settings.errors())
    world = make_world(settings)
    assert world.settings.sensor.read_noise_e == nominal_twin().sensor.read_noise_e
    assert float(world._twin.gap_error) == 0 == float(world._twin.tilt_rad.abs().sum())


@pytest.mark.parametrize("name", RANGES)
def test_the_word_drawn_draws_from_the_range_by_the_seed_and_moves_nothing_else(name):
    low, high = RANGES[name]
    found = [AsBuiltWorldSettings(seed=seed, **{name: "drawn"}).errors()[name] for seed in range(60)]
    assert low <= min(found) < low + 0.15 * (high - low)
    assert high - 0.15 * (high - low) < max(found) <= high
    assert len(set(found)) == 60
    plain, drawn = AsBuiltWorldSettings(seed=7), AsBuiltWorldSettings(seed=7, **{name: "drawn"})
    assert {key: value for key, value in drawn.errors().items() if key != name} == plain.errors()


def test_a_tilt_is_drawn_within_a_radius():
    found = np.array([AsBuiltWorldSettings(seed=seed, tilt_deg="drawn").errors()["tilt_deg"] for seed in range(60)])
    radius = np.hypot(*found.T)
    assert 0.8 < radius.max() <= 1
    assert np.abs(found.mean(axis=0)).max() < 0.25


def test_numbers_stand_as_they_are_written_in_the_true_twin(make_world):
    named = {"gain_error": 0.08, "read_noise_e": 5.0, "crosstalk": 0.07, "panel_response_s": 0.004,
             "monitor_gamma": 2.3, "tilt_deg": (0.5, -1.0), "gap_error": -0.02}  # fmt: skip
    world = make_world(AsBuiltWorldSettings(seed=1, **named))
    true, believed = world.settings, nominal_twin()
    assert true.sensor.gain_dn_per_e == pytest.approx(1.08 * believed.sensor.gain_dn_per_e)
    assert (true.sensor.read_noise_e, true.panel.crosstalk, true.panel.response_s) == (5.0, 0.07, 0.004)
    assert (true.monitor.gamma, float(world._twin.gap_error)) == (2.3, -0.02)
    torch.testing.assert_close(torch.rad2deg(world._twin.tilt_rad), torch.tensor([0.5, -1.0], dtype=torch.float64))
    assert world.truth()["drawn"]["tilt_deg"] == (0.5, -1.0)


@pytest.mark.parametrize("gain_error", [-0.3, 0.3])
def test_a_pixel_of_any_gain_saturates_at_the_top_of_the_adc(make_world, gain_error):
    world = make_world(AsBuiltWorldSettings(seed=1, gain_error=gain_error))
    assert white_frame(world, 1.0).min() == world.settings.sensor.top_dn


def test_the_gain_is_in_the_frames(make_world):
    dark, frames = [], []
    for gain_error in (0.0, 0.1):
        world = make_world(AsBuiltWorldSettings(seed=1, noise=False, gain_error=gain_error))
        dark.append(white_frame(world, 1e-5).mean())
        frames.append(white_frame(world, 5e-4).mean())
    assert (frames[1] - dark[1]) / (frames[0] - dark[0]) == pytest.approx(1.1, rel=0.01)
