"""Corrections of frames, against frames made by the physics that they undo."""

from __future__ import annotations

import numpy as np
import pytest
import torch

from labctl.errors import BadInput
from labctl.exposure import FrameTag
from labctl.frames.corrections import clipped, divide, flat_response, mean_frame, merge_rungs, subtract
from sim.noise import KeyedDraws
from sim.sensor import Sensor, SensorSettings

SHAPE = (1, 24, 32)
BLACK, FULL = 64.0, 4095


def _exposed(light: np.ndarray, exposure_s: float, rng: np.random.Generator) -> np.ndarray:
    """(C, h, w) uint16 of a 12-bit sensor of one electron per DN. light: DN per second."""
    return np.clip(np.round(rng.poisson(light * exposure_s) + BLACK), 0, FULL).astype(np.uint16)


def test_the_mean_of_parts_is_the_mean_of_all() -> None:
    frames = np.random.default_rng(0).integers(0, 65536, (7, *SHAPE), dtype=np.uint16)
    np.testing.assert_allclose(mean_frame([frames[:3], frames[3:3], frames[3:]]), frames.mean(axis=0), rtol=1e-6)
    with pytest.raises(BadInput, match="no frames"):
        mean_frame([])


def test_noise_about_the_dark_level_keeps_its_zero_mean() -> None:
    rng = np.random.default_rng(0)
    dark = np.round(rng.normal(BLACK, 5, (400, *SHAPE))).astype(np.uint16)
    left = subtract(dark[:200], mean_frame([dark[200:]]))
    assert left.dtype == np.float32
    assert left.min() < 0
    assert abs(left.mean()) < 0.1


def test_a_flat_field_evens_out_vignetting() -> None:
    rng = np.random.default_rng(0)
    vignette = 1 - 0.5 * np.linspace(0, 1, SHAPE[-1])[None, None] * np.ones(SHAPE)
    scene = 200 + 100 * np.sin(np.arange(SHAPE[-2]))[None, :, None] * np.ones(SHAPE)
    flat = np.mean([_exposed(1000 * vignette, 1, rng) - BLACK for _ in range(200)], axis=0).astype(np.float32)
    frames = np.stack([_exposed(scene * vignette, 1, rng) for _ in range(200)])
    even = divide(subtract(frames, np.full(SHAPE, BLACK, np.float32)), flat_response(flat)).mean(axis=0)
    np.testing.assert_allclose(even / even.mean(), scene / scene.mean(), rtol=0.06)


def test_a_dead_pixel_gives_nothing_and_spoils_nothing() -> None:
    flat = np.full(SHAPE, 1000, np.float32)
    flat[0, 3, 4], flat[0, 5, 6], flat[0, 7, 8] = 0, np.nan, -3
    flat = np.nan_to_num(flat)
    even = divide(np.full((2, *SHAPE), 500, np.float32), flat_response(flat))
    assert np.isfinite(even).all()
    assert (even[:, 0, [3, 5, 7], [4, 6, 8]] == 0).all()
    with pytest.raises(BadInput, match="it needs light"):
        flat_response(np.zeros(SHAPE, np.float32))


def test_merged_rungs_follow_the_light_beyond_full_scale_with_the_noise_of_the_long_exposure() -> None:
    rng = np.random.default_rng(0)
    light = np.broadcast_to(np.geomspace(20, 60000, SHAPE[-1]), SHAPE)  # DN in the second of the first rung
    times = np.array([1.0, 1 / 16, 16.0])
    merged = np.stack(
        [merge_rungs(np.stack([_exposed(light, t, rng) for t in times]), times, BLACK, FULL).light for _ in range(100)]
    )
    assert merged.dtype == np.float32
    np.testing.assert_allclose(merged.mean(axis=(0, 2)) - BLACK, light[:, 0], rtol=0.02)
    dim = light[0, 0] * 16 < 3000
    noise = (merged - BLACK).std(axis=(0, 2))[0][dim]
    np.testing.assert_allclose(noise, np.sqrt(light[0, 0][dim] / times.sum()), rtol=0.15)


def test_one_rung_is_its_own_merger_and_a_pixel_that_every_rung_lost_is_a_lower_bound() -> None:
    frames = np.random.default_rng(0).integers(0, FULL + 1, (2, *SHAPE), dtype=np.uint16)
    np.testing.assert_array_equal(merge_rungs(frames[:1], [0.01], BLACK, FULL).light, frames[0])
    frames[:, 0, 0, 0] = FULL
    merged = merge_rungs(frames, [4.0, 1.0], BLACK, FULL)
    assert merged.light[0, 0, 0] == BLACK + 4 * (FULL - BLACK)
    assert merged.clipped[0, 0, 0]
    linear = (frames < 0.95 * FULL).any(axis=0)
    assert linear.any()
    assert not merged.clipped[linear].any()


WELL_E, READ_NOISE_E = 10_000.0, 3.0


def _ladder(times: list[float], light_e: np.ndarray, gain_dn_per_e: float) -> np.ndarray:
    """(R, C, h, w) uint16 of the simulated sensor, whose clipped pixels show full well, read noise and offset."""
    settings = SensorSettings(
        shape=SHAPE[1:], pitch_m=1e-5, quantum_efficiency=1.0, full_well_e=WELL_E, read_noise_e=READ_NOISE_E,
        black_level_dn=BLACK, bits=12, conversion_gain_dn_per_e=gain_dn_per_e, dsnu=5e-4,
    )  # fmt: skip
    photons = torch.from_numpy(np.broadcast_to(light_e, SHAPE).astype(np.float32)).expand(len(times), *SHAPE)
    draws = KeyedDraws(1, [FrameTag(exposure_id) for exposure_id in range(len(times))])
    return Sensor(settings).expose(photons, exposure_s=torch.tensor(times), draws=draws).numpy().astype(np.uint16)


@pytest.mark.parametrize(
    ("gain_dn_per_e", "saturation_dn"),
    [((FULL - BLACK) / WELL_E, FULL), (0.3, int(BLACK + 0.3 * WELL_E))],
    ids=["a well as deep as the converter", "a well that is full below the range of the converter"],
)
def test_clipped_pixels_do_not_all_read_saturation_and_count_for_nothing(
    gain_dn_per_e: float, saturation_dn: int
) -> None:
    times = [1.0, 4.0, 16.0]
    light_e = np.linspace(1000, 8000, SHAPE[-1])  # electrons in the second of the first rung
    frames = _ladder(times, light_e, gain_dn_per_e)
    assert (light_e * 16 > WELL_E).all()
    assert 0.2 < (frames[2] < saturation_dn).mean() < 0.8, "full wells with noise stand about the level, not at it"
    assert clipped(frames[2], BLACK, saturation_dn).all()
    merged = merge_rungs(frames, times, BLACK, saturation_dn)
    error = (merged.light - BLACK) / (light_e * gain_dn_per_e) - 1
    assert np.abs(error).max() < 0.15
    assert np.sqrt((error**2).mean()) < 0.025, "as good as the shortest rung alone"
    assert not merged.clipped.any()


def test_a_pixel_that_clips_at_the_shortest_exposure_keeps_its_value_and_is_counted() -> None:
    light_e = np.where(np.arange(SHAPE[-1]) < 8, 3 * WELL_E, 1000.0)
    frames = _ladder([1.0, 4.0], light_e, (FULL - BLACK) / WELL_E)
    merged = merge_rungs(frames, [1.0, 4.0], BLACK, FULL)
    np.testing.assert_array_equal(merged.light[..., :8], frames[0][..., :8])
    assert np.count_nonzero(merged.clipped) == 8 * SHAPE[1]
    assert merged.clipped[..., :8].all()


def test_every_rung_has_its_own_dark_frame() -> None:
    times = np.array([1.0, 8.0])
    current = np.random.default_rng(0).uniform(0, 50, SHAPE)  # DN per second
    dark = np.stack([BLACK + current * t for t in times]).astype(np.float32)
    frames = np.stack([BLACK + (current + 40) * t for t in times]).astype(np.float32)
    merged = merge_rungs(frames, times, dark, FULL)
    np.testing.assert_allclose(subtract(merged.light, dark[0]), 40, rtol=1e-4)


@pytest.mark.parametrize("times", [[1.0], [1.0, 0.0], [1.0, float("nan")]])
def test_rungs_without_their_exposures_are_refused(times: list[float]) -> None:
    with pytest.raises(BadInput, match="2 rungs come with exposures"):
        merge_rungs(np.zeros((2, *SHAPE), np.uint16), times, BLACK, FULL)
