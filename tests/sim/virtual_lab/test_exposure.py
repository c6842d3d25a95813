"""What one exposure collects while displays move and lamps change."""

from __future__ import annotations

from dataclasses import replace

import numpy as np
import numpy.typing as npt
import pytest

from sim.virtual_lab.bench.exposure import Illumination, mean_photons_per_s
from sim.virtual_lab.bench.response import radiance, transmittance
from sim.virtual_lab.bench.screen_history import ScreenHistory
from sim.virtual_lab.bench.settings import Truth
from sim.virtual_lab.bench.shadow import ShadowCaster
from tests.sim.virtual_lab.virtual_bench import a_mask, a_scene, mask_levels, scene_levels, truth

Array = npt.NDArray[np.float64]


def settled(seed: int) -> tuple[ScreenHistory, ScreenHistory]:
    """Mask and scene that have stood for ever."""
    return (
        ScreenHistory(mask_levels(a_mask(seed)), latency_s=0, response_s=0),
        ScreenHistory(scene_levels(a_scene(seed)), latency_s=0, response_s=0),
    )


def light_on(mask: ScreenHistory, scene: ScreenHistory, start_s: float, end_s: float, stands: Truth) -> Array:
    return mean_photons_per_s(
        stands, ShadowCaster(stands), mask, scene, start_s=start_s, end_s=end_s, light=Illumination()
    )


def test_an_exposure_across_a_change_is_the_time_weighted_mean_of_both_frames() -> None:
    stands = truth()
    before, after = (light_on(*settled(seed), 0.0, 1.0, stands) for seed in (0, 1))
    mask, scene = settled(0)
    mask.record(0.3, mask_levels(a_mask(1)))
    scene.record(0.3, scene_levels(a_scene(1)))
    torn = light_on(mask, scene, 0.0, 1.0, stands)
    np.testing.assert_allclose(torn, 0.3 * before + 0.7 * after, rtol=1e-9)


def test_a_pattern_that_comes_back_within_the_exposure_counts_for_all_its_time() -> None:
    stands = truth()
    first, other = (light_on(*settled(seed), 0.0, 1.0, stands) for seed in (0, 1))
    mask, scene = settled(0)
    for time_s, seed in ((0.2, 1), (0.7, 0)):
        mask.record(time_s, mask_levels(a_mask(seed)))
        scene.record(time_s, scene_levels(a_scene(seed)))
    np.testing.assert_allclose(light_on(mask, scene, 0.0, 1.0, stands), 0.5 * first + 0.5 * other, rtol=1e-9)


@pytest.mark.parametrize("moving", ["mask", "scene", "both"])
def test_the_light_of_moving_displays_is_that_of_many_instants(moving: str) -> None:
    stands = truth(sensor_px=(8, 8))
    mask, scene = settled(0)
    new_mask, new_scene = mask_levels(a_mask(1)), scene_levels(a_scene(1))
    response_s = 0.004
    if moving != "scene":
        mask.response_s = response_s
        mask.record(0.002, new_mask)
    if moving != "mask":
        scene.response_s = response_s
        scene.record(0.005, new_scene)
    light = light_on(mask, scene, 0.0, 0.020, stands)

    caster, total, instants = ShadowCaster(stands), np.zeros((8, 8)), 100

    def levels(first: Array, then: Array, since_s: float) -> Array:
        return first if since_s < 0 else then + (first - then) * np.exp(-since_s / response_s)

    for time_s in (np.arange(instants) + 0.5) * 0.020 / instants:
        mask_now, scene_now = mask_levels(a_mask(0)).astype(float), scene_levels(a_scene(0)).astype(float)
        if moving != "scene":
            mask_now = levels(mask_now, new_mask.astype(float), time_s - 0.002)
        if moving != "mask":
            scene_now = levels(scene_now, new_scene.astype(float), time_s - 0.005)
        total += caster.photons_per_s(transmittance(mask_now, stands.panel), radiance(scene_now, stands.monitor))
    np.testing.assert_allclose(light, total / instants, rtol=3e-3)


def dark_monitor() -> tuple[ScreenHistory, ScreenHistory]:
    mask, scene = settled(0)
    scene.record(0.0, np.zeros((252, 252), dtype=np.uint8))
    return mask, scene


@pytest.mark.parametrize(
    ("lamp", "shutter", "share"), [(1.0, 1.0, 0.5), (0.4, 1.0, 0.2), (1.0, 0.0, 0.0), (0.0, 1.0, 0.0)]
)
def test_before_a_blank_monitor_stands_the_live_scene_lit_by_the_lamp(
    lamp: float, shutter: float, share: float
) -> None:
    stands = truth(live_scene=0.5)
    caster, (mask, scene) = ShadowCaster(stands), dark_monitor()
    light = mean_photons_per_s(stands, caster, mask, scene, start_s=1.0, end_s=1.1, light=Illumination(lamp, shutter))
    through = transmittance(mask_levels(a_mask(0)), stands.panel)
    np.testing.assert_allclose(light, caster.photons_per_s(through, np.full((63, 63), share)), atol=1e-9)


def test_a_shutter_before_the_lamp_leaves_the_monitor_and_one_before_the_camera_takes_it() -> None:
    stands = truth()
    mask, scene = settled(0)
    open_light = light_on(mask, scene, 0.0, 0.1, stands)
    for place, expected in (("lamp", open_light), ("camera", 0 * open_light)):
        closed = replace(stands, light=replace(stands.light, shutter_before=place))
        got = mean_photons_per_s(
            closed, ShadowCaster(closed), mask, scene, start_s=0, end_s=0.1, light=Illumination(1.0, 0.0)
        )
        np.testing.assert_allclose(got, expected)
