from __future__ import annotations

import hashlib
from dataclasses import replace

import numpy as np
import pytest
import torch

from labctl.errors import BadInput
from labctl.exposure import Exposure, ExposurePlan, Frames, join_frames, still_plan
from labctl.light_path import LightPath, RigDevices, SequencedLightPath
from labctl.roads import DevicePlan, to_device_plan
from sim.light_path import BLOCK, SimulatedLightPath
from sim.world import AsBuiltWorldSettings, NominalWorldSettings
from tests.sim.conftest import FRAME, MASK, SCENE, nominal_twin, open_devices

EXPOSURE = Exposure(exposure_s=0.0015, roi=FRAME)
RANGES = {
    "rotation_deg": (-2, 2), "scale": (0.97, 1.03), "blur_px": (0.3, 1.0), "panel_gamma": (1.8, 2.6),
    "contrast": (30, 300), "vignetting": (0.1, 0.4), "dark_offset": (0.01, 0.03), "stray": (0.02, 0.08),
}  # fmt: skip


BAYER_FRESNEL = {
    "optics": {"model": "fresnel", "fall_off": "cos4"},
    "sensor": {"colour": "gbrg", "channel_response": (0.7, 1.0, 0.6)},
}
FRAMES_OF_0_1 = {"nominal": "05584d1755bb1622", "as-built": "4b15181f708e8465"}
"""SHA-256 of what the rigs of version 0.1.0 measured."""


def plan_of(rng, n=5, masks=1, live=False) -> ExposurePlan:
    return ExposurePlan(
        scenes="live" if live else rng.random((n, 1, 1, *SCENE)),
        masks=(rng.random((masks, 1, *MASK)) < 0.3).astype(float),
        exposure=EXPOSURE,
        exposure_ids=np.arange(100, 100 + n),
    )


def device_plan(plan: ExposurePlan, devices: RigDevices) -> DevicePlan:
    return to_device_plan(plan, devices.world.roads, devices.mask.shape, devices.scene.shape)


def shoot(path: LightPath, plan: ExposurePlan, devices: RigDevices) -> Frames:
    return join_frames(list(path.stream(device_plan(plan, devices), devices)))


def same_frames(a: Frames, b: Frames) -> bool:
    names = ("pixels", "exposure_ids", "frame_ids", "exposure_s", "gain_db", "camera_time_s", "host_time_s")
    return all(np.array_equal(getattr(a, name), getattr(b, name)) for name in names)


@pytest.mark.parametrize("settings", [NominalWorldSettings(seed=3), AsBuiltWorldSettings(seed=3)])
@pytest.mark.parametrize("settle_s", [None, 0.004, 0.0])
@pytest.mark.parametrize("masks", [1, 5])
def test_both_light_paths_give_the_same_frames_bit_for_bit(rng, make_world, settings, settle_s, masks):
    plan = plan_of(rng, masks=masks)
    batched, stepped = (open_devices(make_world(settings), settle_s=settle_s) for _ in range(2))
    found = shoot(SimulatedLightPath(), plan, batched)
    assert same_frames(found, shoot(SequencedLightPath(), plan, stepped))
    assert batched.clock.now() == stepped.clock.now()
    for one, other in ((batched.mask, stepped.mask), (batched.scene, stepped.scene)):
        assert np.array_equal(one.shown().levels, other.shown().levels)
    again = plan_of(rng, n=3)
    assert same_frames(shoot(SimulatedLightPath(), again, batched), shoot(SequencedLightPath(), again, stepped))


@pytest.mark.parametrize("settings", [NominalWorldSettings(seed=3), AsBuiltWorldSettings(seed=3)])
def test_rigs_that_ask_for_no_new_physics_measure_the_frames_of_version_0_1(rng, make_world, settings):
    frames = shoot(SimulatedLightPath(), plan_of(rng), open_devices(make_world(settings)))
    assert hashlib.sha256(frames.pixels.astype("<u2").tobytes()).hexdigest()[:16] == FRAMES_OF_0_1[settings.type]


@pytest.mark.parametrize("settings", [NominalWorldSettings(seed=3), AsBuiltWorldSettings(seed=3)])
def test_both_light_paths_agree_on_diffraction_and_colour(rng, make_world, settings):
    plan, twin = plan_of(rng, n=3, masks=3), nominal_twin(**BAYER_FRESNEL)
    batched, stepped = (open_devices(make_world(settings, twin), settle_s=0.004) for _ in range(2))
    assert same_frames(shoot(SimulatedLightPath(), plan, batched), shoot(SequencedLightPath(), plan, stepped))


def test_blocks_do_not_show_in_the_frames(rng, make_world):
    plan = plan_of(rng, n=BLOCK + 3)
    found = shoot(SimulatedLightPath(), plan, open_devices(make_world(), settle_s=0.002))
    assert same_frames(found, shoot(SequencedLightPath(), plan, open_devices(make_world(), settle_s=0.002)))
    assert found.frame_ids.tolist() == list(range(BLOCK + 3))


def test_a_resumed_part_equals_the_same_part_of_the_whole(rng, make_world):
    plan = plan_of(rng, n=7, masks=7)
    whole = shoot(SimulatedLightPath(), plan, open_devices(make_world()))
    for path in (SimulatedLightPath(), SequencedLightPath()):
        part = shoot(path, plan.part(3, 7), open_devices(make_world()))
        assert np.array_equal(part.pixels, whole.pixels[3:])


def test_noise_hangs_on_the_exposure_id_and_attempt_and_not_on_order(rng, make_world):
    plan = plan_of(rng, n=4)
    order = np.array([2, 0, 3, 1])
    shuffled = replace(plan, scenes=plan.scenes[order], exposure_ids=plan.exposure_ids[order])
    frames = shoot(SimulatedLightPath(), plan, open_devices(make_world()))
    assert np.array_equal(
        shoot(SimulatedLightPath(), shuffled, open_devices(make_world())).pixels, frames.pixels[order]
    )
    again = shoot(SimulatedLightPath(), replace(plan, attempt=1), open_devices(make_world()))
    assert not np.array_equal(again.pixels, frames.pixels)


def test_a_short_settle_leaves_a_ghost_of_the_previous_mask_and_a_long_one_does_not(rng, make_world):
    scenes = np.ones((2, 1, 1, *SCENE))
    masks = np.zeros((2, 1, *MASK))
    masks[0] = 1.0
    masks[1, 0, 16, 16] = 1.0
    plan = ExposurePlan(scenes, masks, Exposure(exposure_s=5e-4, roi=FRAME), np.arange(2))

    def second_frame(settle_s):
        devices = open_devices(make_world(NominalWorldSettings(noise=False)), settle_s=settle_s)
        return float(shoot(SimulatedLightPath(), plan, devices).pixels[1].mean())

    assert second_frame(0.03) > 10 * second_frame(0.1) > 0
    assert second_frame(0.079) == second_frame(0.5)


@pytest.mark.parametrize("registration", [{}, {"shift_px": (1.3, -0.4), "rotation_deg": 1.0, "blur_px": 0.5}])
@pytest.mark.parametrize("kind", [{}, BAYER_FRESNEL])
def test_a_noise_free_world_measures_what_its_twin_predicts(rng, make_world, roads, registration, kind):
    sensor = {"vignetting": 0.2, "prnu": 0.01} | kind.get("sensor", {})
    settings = nominal_twin(
        registration=registration, light={"stray": 0.04}, sensor=sensor, optics=kind.get("optics", {})
    )
    plan = plan_of(rng)
    world = make_world(NominalWorldSettings(noise=False), settings)
    frames = shoot(SimulatedLightPath(), plan, open_devices(world))
    predicted = settings.build(roads, dtype=torch.float64).expose(plan)
    assert frames.pixels.mean() > 100
    assert np.abs(frames.pixels - predicted.numpy()).max() == 0


def test_the_world_is_noisy_as_physics_asks(rng, make_world):
    plan = plan_of(rng, n=1)
    plan = replace(plan, scenes=np.repeat(plan.scenes, 60, axis=0), exposure_ids=np.arange(60))
    noisy = shoot(SimulatedLightPath(), plan, open_devices(make_world())).pixels.astype(float)
    clean = shoot(SimulatedLightPath(), plan, open_devices(make_world(NominalWorldSettings(noise=False)))).pixels
    gain = 1023 / 10_000
    expected = clean[0].mean() * gain + (3 * gain) ** 2 + 1 / 12
    assert noisy.var(axis=0, ddof=1).mean() == pytest.approx(expected, rel=0.05)


def test_a_live_scene_stands_there_when_the_monitor_is_blank(rng, make_world):
    plan = plan_of(rng, n=2, live=True)
    bright, dim = (
        shoot(path, plan, open_devices(make_world(NominalWorldSettings(noise=False, live_scene=level)))).pixels
        for path, level in ((SimulatedLightPath(), 0.8), (SequencedLightPath(), 0.2))
    )
    assert bright.mean() == pytest.approx(4 * dim.mean(), rel=0.01)


def test_a_reader_that_stops_early_finds_the_displays_at_the_last_frame_read(rng, make_world):
    devices = open_devices(make_world())
    plan = device_plan(plan_of(rng, n=6, masks=6), devices)
    stream = SimulatedLightPath().stream(plan, devices)
    next(stream)
    next(stream)
    stream.close()
    assert np.array_equal(devices.mask.shown().levels, plan.mask_of(1)[0])
    assert np.array_equal(devices.scene.shown().levels, plan.scene_of(1)[0])


def test_the_simulated_path_refuses_what_it_cannot_do(rng, make_world):
    devices = open_devices(make_world())
    plan = device_plan(plan_of(rng), devices)
    real = replace(devices, world=None)
    with pytest.raises(BadInput, match="needs simulated devices; use light_path: sequenced"):
        next(SimulatedLightPath().stream(plan, real))
    clip = replace(plan, plan=replace(plan.plan, scenes=plan.plan.scenes.repeat(2, axis=1)))
    with pytest.raises(BadInput, match=r"Ts = Tm = 1"):
        next(SimulatedLightPath().stream(clip, devices))


def test_as_built_errors_lie_in_their_ranges_and_repeat_with_the_seed():
    drawn = [AsBuiltWorldSettings(seed=seed).errors() for seed in range(200)]
    for name, (low, high) in RANGES.items():
        values = np.array([errors[name] for errors in drawn])
        assert low <= values.min() < values.max() <= high
        assert values.max() - values.min() > 0.8 * (high - low)
    radius = np.array([np.hypot(*errors["shift_px"]) for errors in drawn])
    assert 1.8 < radius.max() <= 2.0
    assert np.median([errors["contrast"] for errors in drawn]) == pytest.approx(np.sqrt(30 * 300), rel=0.25)
    assert AsBuiltWorldSettings(seed=7).errors() == drawn[7]


@pytest.mark.parametrize(
    ("name", "value"),
    [("shift_px", (0.5, 0.5)), ("panel_gamma", 2.2), ("contrast", 50.0), ("stray", 0.0), ("blur_px", 0.0)],
)
def test_fixing_one_error_leaves_the_others(name, value):
    drawn = AsBuiltWorldSettings(seed=5).errors()
    fixed = AsBuiltWorldSettings.model_validate({"seed": 5, name: value}).errors()
    assert fixed.pop(name) == value != drawn.pop(name)
    assert fixed == drawn


def test_an_as_built_world_stands_by_its_truth_and_differs_from_the_twin(rng, make_world):
    world = make_world(AsBuiltWorldSettings(seed=1, noise=False))
    truth = world.truth()
    assert truth["drawn"]["panel_gamma"] == truth["twin"]["panel"]["gamma"] == world.settings.panel.gamma
    assert truth["twin"]["sensor"]["column_offset"] == 0.002
    plan = plan_of(rng)
    built = shoot(SimulatedLightPath(), plan, open_devices(world)).pixels.astype(float)
    nominal = shoot(SimulatedLightPath(), plan, open_devices(make_world(NominalWorldSettings(noise=False)))).pixels
    assert np.abs(built - nominal).mean() > 10


def test_still_plans_reach_the_world_with_their_ids(rng, make_world):
    devices = open_devices(make_world())
    plan = still_plan(rng.random((2, 1, *SCENE)), np.ones(MASK), EXPOSURE, exposure_ids=[11, 5])
    frames = shoot(SimulatedLightPath(), plan, devices)
    assert frames.exposure_ids.tolist() == [11, 5]
    assert frames.pixels.dtype == np.uint16
    assert frames.pixels.shape == (2, 1, *FRAME)
