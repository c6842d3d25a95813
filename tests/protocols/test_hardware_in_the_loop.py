"""One frame with a gradient: what is measured, and whose slope it carries."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from dataclasses import replace
from typing import Any

import numpy as np
import pytest
import torch

from labctl.errors import BadInput
from labctl.rig import Rig
from labctl.rig_file import find_rig, load_rig
from protocols.hardware_in_the_loop import (
    HardwareExposer,
    LoopCamera,
    LoopExposure,
    RunningNormalisation,
    valued,
)
from protocols.measurement import Measurement
from protocols.models import Normalisation
from protocols.simulation import ExposureRule, Simulation
from protocols.twin_fit.refit import TwinRefit
from tests.protocols.small_rig import SMALL_RIG

QUIET = [*SMALL_RIG, "world.noise=false"]
RULES = ("straight_through", "physics_aware", "learned_twin")
TIME_S = 0.004


@pytest.fixture
def opened() -> Iterator[Callable[..., Rig]]:
    """Opens small benches; they are closed again."""
    rigs: list[Rig] = []

    def go(name: str = "sim", *changes: str) -> Rig:
        rigs.append(Rig(load_rig(find_rig(name), overrides=[*QUIET, *changes])).open())
        rigs[-1].devices().instruments["lamp"].set_quantity("power", 1.0)
        return rigs[-1]

    yield go
    for rig in rigs:
        rig.close()


def scenes(n: int = 3, size: int = 31) -> torch.Tensor:
    return torch.from_numpy(np.random.default_rng(1).uniform(size=(n, 1, size, size)).astype(np.float32))


def grey_mask() -> torch.Tensor:
    return torch.from_numpy(np.random.default_rng(2).uniform(0.1, 0.9, size=(16, 16)).astype(np.float32))


def exposer(rig: Rig, rule: Any, mask: torch.Tensor, *, time_s: float = TIME_S, fill: float | None = None, **more: Any):
    twin = rig.spec.twin.build(rig.spec.roads)
    exposure = LoopExposure(time_s, mask.detach(), (1e-5, 10.0), fill)
    if rule == "learned_twin":
        more["refit"] = TwinRefit(twin)
    return HardwareExposer(LoopCamera(rig, (16, 16)), rule, exposure, nominal=twin, **{"fitted": twin, **more})


def slope(frames: torch.Tensor, mask: torch.Tensor) -> torch.Tensor:
    """Gradient in the mask of a fixed random weighting of the frames."""
    weights = torch.from_numpy(np.random.default_rng(3).standard_normal(frames.shape[1:]))
    (gradient,) = torch.autograd.grad((frames.double() * weights).sum(), mask)
    return gradient


@pytest.mark.parametrize("rule", RULES)
@pytest.mark.parametrize("fill", [None, 0.9])
def test_every_rule_is_the_simulator_where_twin_and_bench_are_the_same(rule, fill, opened):
    rig, mask = opened(), grey_mask().requires_grad_()
    simulation = Simulation(rig.spec, ExposureRule(fill or 0.9, "auto" if fill else TIME_S))
    time_s = TIME_S if fill is None else float(simulation.exposure_s(simulation.twin.psf(mask.detach())))
    by_sim = simulation.frames(simulation.shown(scenes()), mask)
    by_rule = exposer(rig, rule, mask, time_s=time_s, fill=fill)(scenes(), mask, [0, 1, 2])
    # The camera rounds its time to a microsecond, the bench computes in double precision: a count at most.
    assert (by_rule - by_sim).abs().max() <= 1
    expected, found = slope(by_sim, mask), slope(by_rule, mask)
    near = 0.05 if rule == "learned_twin" else 2e-3  # it also learns from the rounding of the frames
    assert torch.allclose(found, expected, rtol=near, atol=near * float(expected.abs().max()))
    assert float(expected.abs().max()) > 1


@pytest.mark.parametrize("rule", RULES)
def test_the_value_is_what_the_bench_measured_to_the_bit(rule, opened):
    rig, mask = opened("as-built"), grey_mask().requires_grad_()
    by_rule = exposer(rig, rule, mask)
    frames = by_rule(scenes(), mask, [5, 6, 7])
    assert by_rule.last is not None
    assert np.array_equal(frames.detach().numpy(), by_rule.last.pixels)
    assert by_rule.last.exposure_ids.tolist() == [5, 6, 7]


@pytest.mark.parametrize("rule", RULES)
def test_the_bench_is_asked_once_for_forward_and_backward(rule, opened, monkeypatch):
    rig, mask = opened(), grey_mask().requires_grad_()
    asked: list[int] = []
    expose = rig.expose
    monkeypatch.setattr(rig, "expose", lambda plan: asked.append(len(plan)) or expose(plan))
    by_rule = exposer(rig, rule, mask)
    slope(by_rule(scenes(), mask, [0, 1, 2]), mask)
    assert asked == [3]
    assert (by_rule.camera.exposures, by_rule.camera.mask_changes) == (3, 1)
    by_rule(scenes(), mask, [3, 4, 5])
    by_rule(scenes(), 1 - mask, [6, 7, 8])
    assert (by_rule.camera.exposures, by_rule.camera.mask_changes) == (9, 2)


def test_a_fitted_twin_gives_the_slope_of_the_bench_and_the_rig_file_does_not(opened):
    rig, mask = opened("as-built"), grey_mask().requires_grad_()
    bench = rig.spec.world.make(rig.spec.twin, rig.spec.roads, None).settings  # the truth: for tests alone
    true_twin = bench.build(rig.spec.roads)
    truth = slope(true_twin.measure(true_twin.through_monitor(scenes()), mask, exposure_s=TIME_S, roi=(16, 16)), mask)

    def closeness(rule: str) -> float:
        found = slope(exposer(rig, rule, mask, fitted=true_twin)(scenes(), mask, [0, 1, 2]), mask)
        return float(torch.cosine_similarity(found.flatten(), truth.flatten(), dim=0))

    assert closeness("physics_aware") > 0.999
    assert closeness("straight_through") < 0.9


def test_a_twin_that_learns_from_the_captures_comes_nearer_to_the_slope_of_the_bench(opened):
    rig, mask = opened("as-built"), grey_mask().requires_grad_()
    true_twin = rig.spec.world.make(rig.spec.twin, rig.spec.roads, None).settings.build(rig.spec.roads)
    by_rule = exposer(rig, "learned_twin", mask)
    found = []
    for step in range(12):
        light = torch.from_numpy(np.random.default_rng(step).uniform(size=(8, 1, 31, 31)).astype(np.float32)) ** 3
        truth = slope(true_twin.measure(true_twin.through_monitor(light), mask, exposure_s=TIME_S, roi=(16, 16)), mask)
        here = slope(by_rule(light, mask, list(range(8 * step, 8 * step + 8))), mask)
        found.append(float(torch.cosine_similarity(here.flatten(), truth.flatten(), dim=0)))
    assert found[-1] > max(found[0], 0.8)
    with torch.no_grad():
        before = by_rule.refit.updates
        by_rule(scenes(), mask, [200, 201, 202])
    assert by_rule.refit.updates == before == 12  # what is only looked at is not learned from


def test_saturated_pixels_have_a_slope_in_the_model_that_the_measured_frame_takes_away(opened):
    rig, mask = opened(), grey_mask().requires_grad_()
    bright = exposer(rig, "physics_aware", mask, time_s=0.0172)
    frames = bright(scenes(), mask, [0, 1, 2])
    saturated = frames.detach() >= 4095
    assert 0.05 < float(saturated.float().mean()) < 0.95
    (gradient,) = torch.autograd.grad(frames[saturated].sum(), mask, retain_graph=True)
    assert not gradient.any()
    # A bench that is dimmer than its twin believes is not saturated where the twin is: then the slope stays.
    dim = opened("sim", "name=dim", "world.seed=2")
    dim.devices().instruments["lamp"].set_quantity("power", 1.0)
    believed = dim.spec.twin.model_copy(
        update={"light": dim.spec.twin.light.model_copy(update={"photons_per_s": 15e5})}
    ).build(dim.spec.roads)
    frames = exposer(dim, "physics_aware", mask, fitted=believed)(scenes(), mask, [0, 1, 2])
    assert float(frames.detach().max()) < 4095
    assert slope(frames, mask).abs().min() > 0


def test_value_and_slope_pass_the_same_correction(opened):
    rig, mask = opened("as-built"), grey_mask().requires_grad_()
    ones = torch.ones(16, 16)
    measurement = Measurement(
        parts=("dark", "flat"),
        dark_dn=40 * ones,
        dark_rate_dn_per_s=0 * ones,
        response=3 * ones,
        places=None,
        brightness=1.0,
        black_dn=64 * ones,
        black_rate_dn_per_s=0 * ones,
        even=ones,
    )
    raw = exposer(rig, "physics_aware", mask)(scenes(), mask, [0, 1, 2])
    corrected = exposer(rig, "physics_aware", mask, measurement=measurement)(scenes(), mask, [0, 1, 2])
    assert torch.allclose(corrected, 3 * (raw - 40) + 64)
    of_bench = slope(raw, mask)
    assert torch.allclose(slope(corrected, mask), 3 * of_bench, rtol=1e-4)
    nominal = exposer(rig, "straight_through", mask, measurement=measurement)(scenes(), mask, [0, 1, 2])
    assert torch.equal(nominal, corrected)
    assert torch.allclose(slope(nominal, mask), of_bench, rtol=1e-3, atol=1)  # it is on that scale already


def test_a_more_open_mask_is_exposed_shorter_within_the_limits_of_the_camera(opened):
    rig = opened()
    half = torch.zeros(16, 16)
    half[:8] = 1.0
    by_rule = exposer(rig, "straight_through", half, time_s=0.02, fill=0.9)
    by_rule(scenes(1), torch.ones(16, 16), [0])
    assert by_rule.last.exposure_s[0] == pytest.approx(0.01, rel=1e-3)
    bounded = replace(by_rule.exposure, limits_s=(0.015, 1.0))
    assert float(bounded.time_s(by_rule.twin, by_rule.twin.psf(torch.ones(16, 16)))) == pytest.approx(0.015)


def test_a_rule_without_its_twin_is_refused(opened):
    with pytest.raises(BadInput, match="physics_aware needs a twin of this bench; fit one with a `fit_twin` step"):
        exposer(opened(), "physics_aware", grey_mask(), fitted=None)


def test_a_slope_does_not_change_a_value():
    value, model = torch.tensor([4095.0, 3.0]), torch.tensor([1e-8, 7e6], requires_grad=True)
    joined = valued(value, 2 * model)
    assert torch.equal(joined, value)
    (gradient,) = torch.autograd.grad(joined.sum(), model)
    assert gradient.tolist() == [2.0, 2.0]


def test_running_normalisation_is_that_of_all_frames_while_nothing_moves():
    frames = 500 + 40 * torch.randn(96, 1, 16, 16, generator=torch.Generator().manual_seed(1))
    once, running = Normalisation((16, 16)), Normalisation((16, 16))
    once.fit(frames)
    seen = RunningNormalisation(running)
    for part in frames.split(32):
        seen.see(part, moving=False)
    assert torch.allclose(running.mean_frame, once.mean_frame, rtol=1e-5)
    assert float(running.std) == pytest.approx(float(once.std), rel=1e-5)


def test_running_normalisation_forgets_masks_that_are_gone():
    seen = RunningNormalisation(Normalisation((16, 16)))
    noise = torch.randn(32, 1, 16, 16, generator=torch.Generator().manual_seed(1))
    for level in [100.0] * 20 + [400.0] * 40:
        seen.see(level + noise, moving=True)
    assert float(seen.normalisation.mean_frame.mean()) == pytest.approx(400, rel=0.01)


def test_frames_that_never_differ_are_named_with_what_to_look_at():
    with pytest.raises(BadInput, match=r"all measured frames are the same, .*look at the lamp, the lens cap"):
        RunningNormalisation(Normalisation((16, 16))).see(torch.full((4, 1, 16, 16), 64.0), moving=True)
