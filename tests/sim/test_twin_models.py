"""Diffraction, colour, fall-off and surrogate slopes in the twin of a whole rig."""

from __future__ import annotations

import math

import pytest
import torch

from labctl.errors import BadInput
from labctl.exposure import Exposure, still_plan
from sim.optics.colour import bayer_planes, mosaic
from sim.twin import Twin
from tests.sim.conftest import FRAME, MASK, SCENE, nominal_twin

DOUBLE = torch.float64
FRESNEL = {"model": "fresnel"}
BAYER = {"colour": "grbg", "channel_response": (0.7, 1.0, 0.5)}


def twin_of(roads, dtype=DOUBLE, **changes) -> Twin:
    return nominal_twin(**changes).build(roads, dtype=dtype)


def random_mask(rng, share=0.3) -> torch.Tensor:
    return torch.from_numpy((rng.random(MASK) < share).astype(float))


def random_scene(rng, n=2, channels=1) -> torch.Tensor:
    return torch.from_numpy(rng.random((n, channels, *SCENE)))


def test_diffraction_changes_the_frame_by_what_the_fresnel_number_says_and_keeps_its_light(roads, rng):
    """Fresnel number 7.6: a random mask is off by about 0.5 / sqrt(7.6) of its light."""
    straight, bent = twin_of(roads), twin_of(roads, optics=FRESNEL)
    mask, scene = random_mask(rng, 0.5), random_scene(rng)
    shadow, psf = straight.psf(mask), bent.psf(mask)
    room = bent.pad - straight.pad
    assert room == 2
    inner = psf[room:-room, room:-room]
    assert float((inner - shadow).abs().sum() / shadow.sum()) == pytest.approx(0.18, rel=0.1)
    assert float(psf.sum()) == pytest.approx(float(shadow.sum()), rel=0.01)
    frame = bent.measure(scene, mask, exposure_s=1e-3, quantise=False)
    assert frame.shape == (2, 1, *FRAME)
    assert float(frame.mean()) == pytest.approx(
        float(straight.measure(scene, mask, exposure_s=1e-3, quantise=False).mean()), rel=0.01
    )


def test_levels_and_their_mask_are_diffracted_alike(roads, rng):
    twin = twin_of(roads, optics=FRESNEL, sensor=BAYER, registration={"shift_px": (0.4, 0.2), "blur_px": 0.3})
    mask = random_mask(rng)
    levels = torch.from_numpy(roads.mask.levels(mask.numpy()))
    assert torch.equal(twin.psf_from_levels(levels), twin.psf(mask))


def test_many_diffracting_masks_at_once_are_the_masks_one_by_one(roads, rng):
    twin = twin_of(roads, optics=FRESNEL, sensor=BAYER)
    masks, scene = torch.stack([random_mask(rng), random_mask(rng)]), random_scene(rng, 2, 3)
    assert twin.psf(masks).shape[:2] == (2, 3)
    both = twin.measure(scene, masks, exposure_s=0.01)
    torch.testing.assert_close(both[1:], twin.measure(scene[1:], masks[1], exposure_s=0.01))


def test_a_mask_learns_through_diffraction(roads, rng):
    mask = random_mask(rng).requires_grad_()
    twin_of(roads, torch.float32, optics=FRESNEL).measure(
        random_scene(rng), mask, exposure_s=1e-3
    ).square().mean().backward()
    assert torch.isfinite(mask.grad).all()
    assert float(mask.grad.abs().min()) > 0


def test_registration_and_diffraction_together_need_room(roads, rng):
    twin = twin_of(roads, optics=FRESNEL | {"margin_px": 1})
    with pytest.raises(BadInput, match=r"registration, blur and diffraction move the shadow by up to 1\.3\d sensor"):
        twin.psf(random_mask(rng))


def test_red_light_is_diffracted_further_than_blue(roads):
    twin = twin_of(roads, optics=FRESNEL, sensor=BAYER)
    mask = torch.zeros(MASK, dtype=DOUBLE)
    mask[16, 16] = 1
    red, green, blue = twin.psf(mask)
    middle = [float(colour.max()) for colour in (red, green, blue)]
    assert middle[0] < middle[1] < middle[2]
    assert float(twin.open_area(twin.psf(mask))) == pytest.approx(float((red + green + blue).sum()) / 3)
    white = twin.white_psf(mask)
    torch.testing.assert_close(white, (red + green + blue) / 3)
    assert float(twin.open_area(white)) == pytest.approx(float(white.sum()))
    grey = twin_of(roads, optics=FRESNEL)
    assert torch.equal(grey.white_psf(mask), grey.psf(mask))


@pytest.mark.parametrize("model", ["shadow", "fresnel"])
def test_a_bayer_frame_is_the_mosaic_of_three_grey_cameras(roads, rng, model):
    scene, mask = random_scene(rng, 2, 3), random_mask(rng)
    changes = {"light": {"stray": 0.05}, "optics": {"model": model, "margin_px": 3}}
    camera = twin_of(roads, sensor=BAYER, **changes)
    channels = []
    for channel, wavelength_m in enumerate(camera.settings.sensor.channel_wavelength_m):
        efficiency = {"quantum_efficiency": 0.6 * BAYER["channel_response"][channel]}
        grey = twin_of(
            roads, **changes | {"optics": changes["optics"] | {"wavelength_m": wavelength_m}, "sensor": efficiency}
        )
        channels.append(grey.measure(scene[:, [channel]], mask, exposure_s=1e-3, quantise=False))
    found = camera.measure(scene, mask, exposure_s=1e-3, quantise=False)
    assert found.shape == (2, 1, *FRAME)
    torch.testing.assert_close(found, mosaic(torch.cat(channels, dim=1), "grbg"))


def test_a_grey_scene_is_as_bright_in_all_colours(roads, rng):
    scene, mask = random_scene(rng), random_mask(rng)
    for optics in ({}, FRESNEL):
        twin = twin_of(roads, sensor=BAYER, optics=optics)
        torch.testing.assert_close(
            twin.measure(scene, mask, exposure_s=1e-3), twin.measure(scene.expand(-1, 3, -1, -1), mask, exposure_s=1e-3)
        )


def test_the_colours_of_a_scene_reach_the_planes_of_a_raw_frame(roads):
    scene = torch.tensor([0.2, 0.9, 0.5], dtype=DOUBLE).reshape(1, 3, 1, 1).expand(1, 3, *SCENE)
    frame = twin_of(roads, sensor={"colour": "rggb"}).measure(
        scene, torch.ones(MASK, dtype=DOUBLE), exposure_s=1e-4, quantise=False
    )
    means = bayer_planes(frame, "rggb").mean(dim=(0, 2, 3))
    torch.testing.assert_close(means / means[1], torch.tensor([2 / 9, 1, 1, 5 / 9], dtype=DOUBLE))


def test_a_plan_in_colour_is_exposed_in_colour_and_refused_by_a_grey_sensor(roads, rng):
    plan = still_plan(
        random_scene(rng, 2, 3).numpy(), random_mask(rng).numpy(), Exposure(exposure_s=1e-3), exposure_ids=[0, 1]
    )
    assert twin_of(roads, sensor=BAYER).expose(plan).shape == (2, 1, *FRAME)
    with pytest.raises(BadInput, match=r"this twin takes one scene of 1 channels and one mask per exposure"):
        twin_of(roads).expose(plan)
    with pytest.raises(BadInput, match=r"the light has 3 channels, a grey sensor takes 1; .* sensor\.colour"):
        twin_of(roads).measure(random_scene(rng, 1, 3), random_mask(rng), exposure_s=1e-3)


def test_the_white_exposure_fills_the_brightest_colour(roads):
    response = {"colour": "rggb", "channel_response": (0.4, 0.8, 0.2)}
    twin = twin_of(roads, sensor=response, optics=FRESNEL)
    mask = torch.ones(MASK, dtype=DOUBLE)
    exposure_s = twin.white_exposure_s(twin.open_area(twin.psf(mask)))
    frame = twin.measure(torch.ones(1, 1, *SCENE, dtype=DOUBLE), mask, exposure_s=exposure_s, quantise=False)
    middle = bayer_planes(frame, "rggb")[0, :, 7:9, 7:9].mean(dim=(1, 2)) / 1023
    torch.testing.assert_close(middle, 0.9 * torch.tensor([0.5, 1, 1, 0.25], dtype=DOUBLE), rtol=0.01, atol=0)


def test_through_a_pinhole_the_fall_off_of_the_scene_is_seen_as_it_is(roads):
    mask = torch.zeros(MASK, dtype=DOUBLE)
    mask[16, 16] = 1
    white = torch.ones(1, 1, *SCENE, dtype=DOUBLE)
    changes = {"panel": {"contrast": 1e9}}
    even, falling = (
        twin_of(roads, optics=optics, **changes).measure(white, mask, exposure_s=0.1, quantise=False)[0, 0]
        for optics in ({}, {"fall_off": "cos4"})
    )
    share = falling / even
    row, column = 3, 9
    scene_row, scene_column = row + 15 - 31, column + 15 - 31
    tangent = math.hypot(scene_row, scene_column) * 5.2e-3 / 0.25
    assert float(share[row, column]) == pytest.approx(math.cos(math.atan(tangent)) ** 4, rel=1e-6)
    assert float(share[16, 16]) == pytest.approx(1, abs=1e-6)


def test_the_surrogate_changes_the_slope_and_not_the_frame(roads, rng):
    scene = random_scene(rng, 1)
    frames, slopes = [], []
    for panel in ({}, {"surrogate": "sigmoid", "steepness": 16.0}, {"surrogate": "sigmoid", "steepness": 1e-3}):
        mask = torch.full(MASK, 0.4006, dtype=DOUBLE, requires_grad=True)  # on a level: there a staircase is flat
        frame = twin_of(roads, panel=panel).measure(scene, mask, exposure_s=1e-3, quantise=False)
        frame.sum().backward()
        frames.append(frame.detach())
        slopes.append(mask.grad)
    assert torch.equal(frames[0], frames[1])
    assert torch.equal(frames[0], frames[2])
    assert float((slopes[1] / slopes[0]).max()) < 0.05
    torch.testing.assert_close(slopes[0], slopes[2], rtol=1e-3, atol=0)


def test_training_may_anneal_the_steepness(roads, rng):
    twin = twin_of(roads, panel={"surrogate": "sigmoid"})
    mask = torch.full(MASK, 0.4017, dtype=DOUBLE, requires_grad=True)
    slopes = []
    for steepness in (1.0, 16.0):
        twin.steepness = steepness
        slopes.append(torch.autograd.grad(twin.psf(mask).sum(), mask)[0])
    assert float((slopes[0] / slopes[1] - 1).abs().min()) > 0.1


@pytest.mark.parametrize(
    ("changes", "problem"),
    [
        ({"optics": {"gap_m": 0.1, "scene_distance_m": 0.5}}, r"set optics\.model: fresnel, or use a wider mask pitch"),
        (
            {"sensor": {"colour": "rggb", "channel_wavelength_m": (9e-6, 5e-7, 4e-7)}},
            r"diffraction: gap_m \* wavelength_m is 9e-08 m2, above",
        ),
        (
            {"optics": FRESNEL | {"gap_m": 1e-4}, "sensor": {"pitch_m": 2e-4}},
            r"needs 216 samples for fringes of 7\.41e-06 m, more than 64: .* \(optics\.model: shadow\)",
        ),
        (
            {"optics": FRESNEL | {"scene_distance_m": 0.012}},
            r"not paraxial: a scene point 0\.012 m away sees the rim of the mask under a tangent of 0\.377",
        ),
        (
            {"optics": FRESNEL | {"mask_pitch_m": 5e-6}, "sensor": {"pitch_m": 5e-6}},
            r"not paraxial: mask cells of 5e-06 m .* more than 0\.1; use a wider mask pitch or a smaller gap",
        ),
    ],
)  # fmt: skip
def test_distances_for_which_a_model_does_not_hold_are_refused(roads, changes, problem):
    with pytest.raises(BadInput, match=problem):
        nominal_twin(**changes).check_design(MASK, SCENE, roads)


def test_what_the_shadow_cannot_do_diffraction_can(roads):
    optics = {"gap_m": 0.1, "scene_distance_m": 0.25, "scene_pitch_m": 0.52e-3}
    changes = {"optics": optics, "sensor": {"pitch_m": 208e-6, "shape": (256, 256)}, "panel": {"stop_px": (128, 128)}}
    with pytest.raises(BadInput, match="diffraction"):
        nominal_twin(**changes).check_design(MASK, SCENE, roads)
    nominal_twin(**changes | {"optics": optics | FRESNEL}).check_design(MASK, SCENE, roads)
