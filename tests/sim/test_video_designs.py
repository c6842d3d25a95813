from __future__ import annotations

import math

import numpy as np
import pytest
import torch
import torch.nn.functional as F

from labctl.errors import BadInput
from labctl.rig_file import find_rig, load_rig
from protocols.simulation import ExposureRule, Simulation
from protocols.video.light import ClipExposer
from sim.designs.video.bdq import Bdq, BlurSettings, code_table
from sim.designs.video.cost import cost_of
from sim.designs.video.degrader import LearnedDegrader
from sim.designs.video.peers import DeadZone, VideoBlur, VideoDownsample, VideoOriginal
from sim.designs.video.quantiser import Quantiser, QuantiserSettings, hard_codes, in_light, positions, soft_codes

MASK = (5, 5)
STAIRS = QuantiserSettings(levels=4, low=0.0, high=3.0, thresholds=(0.5, 1.5, 2.5), temperature=5.0)


def clips(n: int = 3, frames: int = 6, side: int = 16, seed: int = 0) -> torch.Tensor:
    return torch.rand(n, frames, 1, side, side, generator=torch.Generator().manual_seed(seed))


def modules(blur: bool, difference: bool, quantise: bool) -> Bdq:
    return Bdq(
        blur=BlurSettings() if blur else None,
        difference=difference,
        quantise=QuantiserSettings() if quantise else None,
    )


ALL = [
    *(modules(b, d, q) for b in (0, 1) for d in (0, 1) for q in (0, 1) if b or d or q),
    VideoOriginal(),
    VideoDownsample(factor=4),
    VideoBlur(sigma_px=2),
    DeadZone(above=0.1),
    LearnedDegrader(),
]


def name_of(settings) -> str:
    if not isinstance(settings, Bdq):
        return settings.type
    kept = (("B", settings.blur), ("D", settings.difference), ("Q", settings.quantise))
    return "".join(letter for letter, there in kept if there)


# The equations of the authors, by hand


def test_the_soft_staircase_is_the_sum_of_sigmoids_of_the_paper():
    # x = 1 with thresholds 0.5, 1.5, 2.5 at temperature 5: sigmoid(2.5) + sigmoid(-2.5) + sigmoid(-7.5)
    #   = 0.92414182 + 0.07585818 + 0.00055278 = 1.00055278
    found = soft_codes(torch.tensor([1.0]), torch.tensor([0.5, 1.5, 2.5]), 5.0)
    assert float(found) == pytest.approx(1.00055278, abs=1e-7)


def test_range_and_rescaling_are_those_of_the_authors_code():
    # d = -0.2, 0.1, 0.4 of a batch that spans -0.2..0.4: x = 15 (d + 0.2) / 0.6001 = 0, 7.49875021, 14.99750042
    light = torch.tensor([-0.2, 0.1, 0.4], dtype=torch.float64)
    place = positions(light, light.min(), light.max(), 16)
    torch.testing.assert_close(place, torch.tensor([0.0, 7.49875021, 14.99750042], dtype=torch.float64))
    # out = q max(0.6 / 15, 1e-4) - 0.2, at q = 10: 0.2
    assert float(in_light(torch.tensor(10.0), -0.2, 0.4, 16)) == pytest.approx(0.2, abs=1e-6)
    # a batch without range: levels of 1e-4
    assert float(in_light(torch.tensor(10.0), 0.3, 0.3, 16)) == pytest.approx(0.301, abs=1e-6)


def test_at_its_start_the_soft_quantiser_of_the_authors_is_nearly_the_identity():
    place = torch.linspace(1, 14, 1301, dtype=torch.float64)
    thresholds = torch.arange(15, dtype=torch.float64) + 0.5
    assert float((soft_codes(place, thresholds, 5.0) - place).abs().max()) == pytest.approx(0.049, abs=0.001)
    assert float((hard_codes(place, thresholds) - place).abs().max()) == pytest.approx(0.5, abs=0.01)


def test_a_difference_is_later_minus_earlier_and_drops_the_first_frame():
    light = torch.tensor([0.1, 0.4, 0.2]).reshape(1, 3, 1, 1, 1).expand(1, 3, 1, 4, 4)
    read = modules(False, True, False).build(MASK, 0).read_clips(light)
    # +0.3 and -0.2 over half the range, 0.5
    torch.testing.assert_close(read[0, :, 0, 0, 0], torch.tensor([0.6, -0.4]))


def test_codes_are_read_from_minus_one_to_one():
    quantiser = Quantiser(STAIRS, difference=False)
    light = torch.tensor([-1.0, 0.4, 0.6, 1.6, 9.0])
    torch.testing.assert_close(quantiser(light, hard=True), torch.tensor([-1.0, -1.0, -1 / 3, 1 / 3, 1.0]))


# Staircases


def test_the_hard_staircase_is_the_soft_one_at_a_high_temperature():
    place = torch.rand(1000, dtype=torch.float64, generator=torch.Generator().manual_seed(1)) * 17 - 1
    thresholds = torch.arange(15, dtype=torch.float64) + 0.5
    off = (place[:, None] - thresholds).abs().min(dim=1).values
    apart = place[off > 0.01]
    soft, hard = soft_codes(apart, thresholds, 5000.0), hard_codes(apart, thresholds)
    torch.testing.assert_close(soft, hard, atol=1e-9, rtol=0)


def test_a_place_on_a_threshold_gets_the_code_above_it():
    assert hard_codes(torch.tensor([0.5]), torch.tensor([0.5, 1.5])).item() == 1


def test_thresholds_are_kept_in_the_range_and_in_order_and_refused_when_nothing_is_left():
    quantiser = Quantiser(STAIRS, difference=False)
    with torch.no_grad():
        quantiser.raw.copy_(torch.tensor([7.0, -2.0, 1.0]))
    assert quantiser.thresholds().tolist() == [0.0, 1.0, 3.0]
    with torch.no_grad():
        quantiser.raw.copy_(torch.tensor([7.0, 4.0, 3.1]))
    with pytest.raises(BadInput, match=r"left the range 0\.\.3 levels \(3\.1\.\.7\).*lower their `rate`"):
        quantiser.thresholds()
    with torch.no_grad():
        quantiser.raw[0] = math.nan
    with pytest.raises(BadInput, match="not finite"):
        quantiser.thresholds()
    with pytest.raises(ValueError, match=r"threshold 16 leaves the range 0\.\.15 levels"):
        QuantiserSettings(thresholds=(*range(14), 16.0))


@pytest.mark.parametrize("hard", [False, True])
def test_the_slopes_of_the_staircase_are_those_of_its_sum_of_sigmoids(hard):
    settings = STAIRS.model_copy(update={"evaluation": "exact"})
    quantiser = Quantiser(settings, difference=False).double()
    light = torch.rand(20, dtype=torch.float64, generator=torch.Generator().manual_seed(3)) * 3
    raw = quantiser.raw.detach().clone()

    def soft(light, raw):
        place = positions(light, quantiser.low, quantiser.high, 4)
        return 2 * soft_codes(place, raw, 5.0) / 3 - 1

    assert torch.autograd.gradcheck(soft, (light.requires_grad_(), raw.requires_grad_()))
    mine = torch.autograd.grad(quantiser(light, hard=hard).square().sum(), (light, quantiser.raw), retain_graph=True)
    values = quantiser(light, hard=hard).detach()
    theirs = torch.autograd.grad((2 * values * soft(light, raw)).sum(), (light, raw))
    for own, other in zip(mine, theirs, strict=True):
        torch.testing.assert_close(own, other)


def test_the_table_gives_the_exact_staircase_and_its_slopes():
    light = (torch.rand(50_000, generator=torch.Generator().manual_seed(5)) - 0.5) * 1.4
    found = []
    for evaluation in ("table", "exact"):
        quantiser = Quantiser(QuantiserSettings(evaluation=evaluation), difference=True)
        own = light.clone().requires_grad_()
        codes = quantiser(own)
        (codes * torch.sin(50 * light)).sum().backward()
        found.append((codes.detach(), own.grad, quantiser.raw.grad))
    (codes, slope, steps), (exact, exact_slope, exact_steps) = found
    assert float((codes - exact).abs().max()) < 1e-4
    assert float((slope - exact_slope).norm() / exact_slope.norm()) < 0.01
    assert float((steps - exact_steps).norm() / exact_steps.norm()) < 0.002


def test_with_a_fixed_range_a_clip_is_read_alike_whoever_is_beside_it_and_with_that_of_the_batch_not():
    light = clips(4)
    light[1] *= 0.2
    for kind, alone in (("fixed", True), ("batch", False)):
        camera = Bdq(quantise=QuantiserSettings(range=kind)).build(MASK, 0)
        together, single = camera.read_clips(light)[1], camera.read_clips(light[1:2])[0]
        assert torch.equal(together, single) is alone


def test_a_running_range_follows_in_training_and_stands_still_afterwards():
    camera = Bdq(quantise=QuantiserSettings(range="running")).build(MASK, 0)
    camera.train()
    for seed in range(60):
        camera.read_clips(0.4 * clips(seed=seed))
    low, high = float(camera.quantiser.low), float(camera.quantiser.high)
    # differences of two even numbers of 0..0.4: 0.5 % lie below -0.36
    assert low == pytest.approx(-0.36, abs=0.01)
    assert high == pytest.approx(0.36, abs=0.01)
    camera.eval()
    camera.read_clips(clips())
    assert (float(camera.quantiser.low), float(camera.quantiser.high)) == (low, high)


def test_the_temperature_is_brought_to_its_end():
    camera = Bdq(quantise=QuantiserSettings(temperature=5, temperature_end=80)).build(MASK, 0)
    found = []
    for progress in (0, 0.5, 1):
        camera.anneal(progress)
        found.append(camera.quantiser.temperature)
    assert found == pytest.approx([5, 20, 80])


def test_what_stands_still_lies_in_the_middle_of_a_step_unless_asked_otherwise():
    for start, flips in (("mid-step", False), ("on-threshold", True)):
        camera = Bdq(blur=None, quantise=QuantiserSettings(start=start)).build(MASK, 0)
        noise = 0.004 * torch.randn(1, 9, 1, 16, 16, generator=torch.Generator().manual_seed(2))
        assert (len(camera.read_clips(0.3 + noise, "hard").unique()) > 1) is flips


def test_the_table_for_the_sensor_codes_every_difference_as_the_camera_does():
    camera = Bdq(blur=None).build(MASK, 0)
    with torch.no_grad():
        camera.quantiser.raw += 0.31 * torch.randn(15, generator=torch.Generator().manual_seed(4))
    table = code_table(camera.electronics(), white_dn=200.0, top_dn=255)
    assert min(table) == -255
    assert max(table) == 255
    frames = torch.randint(0, 256, (1, 5, 1, 16, 16), generator=torch.Generator().manual_seed(6))
    read = camera.read_clips(frames / 200, "hard")
    codes = ((read + 1) * 7.5).round().int()
    expected = frames.diff(dim=1).clone().apply_(lambda dn: table[dn])
    assert torch.equal(codes, expected.int())


# Whole cameras


@pytest.mark.parametrize("settings", ALL, ids=name_of)
def test_every_camera_reads_clips_each_for_itself(settings):
    camera = settings.build(MASK, 0).eval()
    light = clips()
    span = 2 if getattr(settings, "difference", settings.type == "dead_zone") else 1
    for operator in ("soft", "hard"):
        read = camera.read_clips(light, operator)
        assert read.shape[:2] == (3, 6 - span + 1)
        assert camera.read_clip_shape((6, 16, 16)) == tuple(read.shape[1:])
        torch.testing.assert_close(read[1:2], camera.read_clips(light[1:2], operator))
        assert bool(torch.isfinite(read).all())
    assert camera.learnable == bool(list(camera.parameters()))
    assert {id(p) for group in camera.parameter_groups() for p in group["params"]} == set(map(id, camera.parameters()))
    with pytest.raises(BadInput, match=r"\(N, T, 1, h, w\) is needed"):
        camera.read_clips(light[0])
    if span == 2:
        with pytest.raises(BadInput, match="clips have 1 frames; this camera reads 2 or more"):
            camera.read_clips(light[:, :1])


def test_a_camera_with_nothing_in_it_is_refused():
    with pytest.raises(ValueError, match="use `type: video_original`"):
        Bdq(blur=None, difference=False, quantise=None)


def test_all_that_learns_is_reached_by_the_gradient():
    exposer = ClipExposer(Simulation(load_rig(find_rig("sim-video")), ExposureRule(0.9)))
    camera = Bdq().build(MASK, 0)
    light = exposer.light(clips(2, 4, 32), camera.mask())
    camera.read_clips(light).square().mean().backward()
    assert abs(float(camera.log_sigma.grad)) > 0
    assert float(camera.quantiser.raw.grad.abs().sum()) > 0
    assert camera.moving_optics


@pytest.mark.parametrize("sigma_px", [0.7, 3.0])
def test_the_blur_of_the_optics_is_a_gaussian_of_five_by_five_with_dark_beyond_the_rim(sigma_px):
    exposer = ClipExposer(Simulation(load_rig(find_rig("sim-video")), ExposureRule(0.9)))
    camera = Bdq(blur=BlurSettings(sigma_px=sigma_px)).build(MASK, 0)
    shown = exposer.shown(clips(2, 3, 32))
    light = exposer.light(shown, camera.mask().detach())
    levels = exposer.simulation.cast(camera.mask()).detach()  # what the panel makes of it, in 8 bit
    tap = np.exp(-np.square(np.arange(-2, 3)) / (2 * sigma_px**2))
    kernel = torch.from_numpy(np.outer(tap, tap) / np.outer(tap, tap).sum()).float()
    room = (levels.shape[0] - 5) // 2
    inner = levels[room : room + 5, room : room + 5]
    torch.testing.assert_close(inner / inner.sum(), kernel, atol=0.004, rtol=0)
    expected = F.conv2d(shown.flatten(0, 1), kernel.flip(0, 1)[None, None], padding=2).unflatten(0, (2, 3))
    torch.testing.assert_close(light, expected, atol=0.005, rtol=0)


def test_light_of_a_white_scene_is_one_and_of_a_black_one_nothing():
    exposer = ClipExposer(Simulation(load_rig(find_rig("sim-video")), ExposureRule(0.9)))
    for settings in (VideoOriginal(), Bdq()):
        mask = settings.build(MASK, 0).mask().detach()
        white, black = (exposer.light(exposer.shown(torch.full((1, 2, 1, 32, 32), v)), mask) for v in (1.0, 0.0))
        assert float(white[0, 0, 0, 16, 16]) == pytest.approx(1, abs=0.01)
        assert abs(float(black[0, 0, 0, 16, 16])) < 0.01


def test_an_ordinary_lens_blurs_alike_with_the_light_of_all_cells():
    panel, lens = (Bdq(optics=optics).build(MASK, 0) for optics in ("panel", "lens"))
    assert not lens.on_panel
    assert lens.settings() == {}
    assert float(lens.mask().detach().sum()) == pytest.approx(25)
    torch.testing.assert_close(lens.mask() / lens.mask().sum(), panel.mask() / panel.mask().sum())


def test_a_dead_zone_tells_what_gets_brighter_and_darker_by_more_than_it():
    light = torch.tensor([0.5, 0.59, 0.7, 0.45]).reshape(1, 4, 1, 1, 1)
    assert DeadZone(above=0.1).build(MASK, 0).read_clips(light).flatten().tolist() == [0, 1, -1]
    assert DeadZone(above=0.05, below=0.3).build(MASK, 0).read_clips(light).flatten().tolist() == [1, 1, 0]


# Cost


def test_the_cost_is_counted_as_in_the_seed():
    whole = cost_of(Bdq().build(MASK, 0), (16, 224, 224), channels=3)
    assert whole.parameters == 16
    assert whole.blur_flops == 16 * 3 * 224 * 224 * 25 * 2 == 120_422_400
    values = 15 * 3 * 224 * 224
    assert whole.soft_flops == values * (1 + 15 * 6)
    assert whole.hard_flops == values * (1 + 15 * 2)


def test_the_learned_degrader_costs_its_convolutions():
    camera = LearnedDegrader(width=2, blocks=0).build(MASK, 0)
    # stem 5x5x1x2, 3x3x2x4 at half size, 3x3x4x8 and 3x3x8x4 (at half size), 3x3x4x2 (full), last 5x5x2x1
    taps = 50 * 64 + 72 * 16 + 288 * 4 + 288 * 16 + 72 * 64 + 50 * 64
    assert cost_of(camera, (3, 8, 8)).soft_flops == 3 * 2 * taps
