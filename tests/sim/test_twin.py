from __future__ import annotations

import math

import numpy as np
import pytest
import scipy.signal
import torch
from torch import nn

from labctl.errors import BadInput
from labctl.exposure import Exposure, still_plan
from labctl.roads import MonitorRoad, PanelRoad, Roads
from sim.designs.masks import Disc
from sim.noise import TorchDraws
from sim.twin import Twin
from tests.sim.conftest import FRAME, MASK, SCENE, nominal_twin

DOUBLE = torch.float64
MOVED = {"shift_px": (1.3, -0.8), "rotation_deg": 1.1, "scale": 1.02, "blur_px": 0.6}


def twin_of(roads: Roads, dtype=DOUBLE, **changes) -> Twin:
    return nominal_twin(**changes).build(roads, dtype=dtype)


def random_mask(rng, share=0.3) -> torch.Tensor:
    return torch.from_numpy((rng.random(MASK) < share).astype(float))


def random_scene(rng, n=2) -> torch.Tensor:
    return torch.from_numpy(rng.random((n, 1, *SCENE)))


def test_a_nominal_shadow_is_the_mask_and_its_sum_the_open_area(roads, rng):
    mask = random_mask(rng)
    psf = twin_of(roads).psf(mask)
    assert psf.shape == MASK
    torch.testing.assert_close(psf, 1e-3 + 0.999 * mask, rtol=0, atol=1e-9)


def test_levels_and_their_mask_cast_the_same_shadow(roads, rng):
    twin = twin_of(roads, registration=MOVED, panel={"crosstalk": 0.1})
    mask = random_mask(rng)
    levels = torch.from_numpy(roads.mask.levels(mask.numpy()))
    assert torch.equal(twin.psf_from_levels(levels), twin.psf(mask))


def test_many_masks_at_once_are_the_masks_one_by_one(roads, rng):
    twin = twin_of(roads, registration=MOVED)
    masks = torch.stack([random_mask(rng), random_mask(rng)])
    torch.testing.assert_close(twin.psf(masks), torch.stack([twin.psf(mask) for mask in masks]), rtol=0, atol=1e-12)
    scene = random_scene(rng)
    both = twin.measure(scene, masks, exposure_s=0.01)
    torch.testing.assert_close(both[1:], twin.measure(scene[1:], masks[1], exposure_s=0.01))


def test_a_frame_is_scene_times_mask_in_photons_and_dn(roads, rng):
    twin = twin_of(roads)
    scene, mask = random_scene(rng, 1), random_mask(rng)
    dn = twin.measure(scene, mask, exposure_s=0.001, quantise=False)
    assert dn.shape[-2:] == FRAME == twin.frame_shape(MASK, SCENE)
    image = scipy.signal.convolve(scene[0, 0].numpy(), 1e-3 + 0.999 * mask.numpy(), mode="valid")
    np.testing.assert_allclose(dn[0, 0].numpy(), image * 15_000 * 0.001 * 0.6 * 1023 / 10_000, rtol=1e-8)


@pytest.mark.parametrize("registration", [{}, MOVED])
def test_all_light_that_passes_the_mask_lands_on_the_sensor(roads, rng, registration):
    twin = twin_of(roads, registration=registration)
    scene, psf = random_scene(rng), twin.psf(random_mask(rng))
    image = twin.irradiance(scene, psf, border="full")
    moved = twin.irradiance(scene, psf, roi=(128, 128))
    expected = float(scene.sum() * psf.sum()) * 15_000
    assert float(moved.sum()) == pytest.approx(expected, rel=1e-3)
    assert float(image.sum()) == pytest.approx(expected, rel=0.05 if registration else 1e-9)


def test_a_shifted_scene_shifts_the_frame(roads, rng):
    twin = twin_of(roads, registration=MOVED)
    scene, mask = random_scene(rng, 1), random_mask(rng)
    moved = torch.zeros_like(scene)
    moved[..., 3:, 2:] = scene[..., :-3, :-2]
    frame, frame_moved = (twin.measure(s, mask, exposure_s=0.001, quantise=False) for s in (scene, moved))
    inner = slice(8, -8)
    torch.testing.assert_close(frame_moved[..., 3:, 2:][..., inner, inner], frame[..., :-3, :-2][..., inner, inner])


def test_a_shifted_mask_shifts_the_frame_as_registration_does(roads, rng):
    scene, mask = random_scene(rng, 1), random_mask(rng)
    still = twin_of(roads).irradiance(scene, twin_of(roads).psf(mask), border="full")
    shifted = twin_of(roads, registration={"shift_px": (2.0, -1.0)})
    moved = shifted.irradiance(scene, shifted.psf(mask), border="full")
    torch.testing.assert_close(moved[..., 2:, :-1], still[..., :-2, 1:], rtol=0, atol=1e-5)


def test_the_valid_frame_keeps_its_size_when_the_shadow_needs_room(roads, rng):
    twin = twin_of(roads, registration=MOVED)
    assert twin.psf(random_mask(rng)).shape[0] == MASK[0] + 2 * twin.pad > MASK[0]
    assert twin.measure(random_scene(rng), random_mask(rng), exposure_s=0.1).shape == (2, 1, *FRAME)


@pytest.mark.parametrize("registration", [{}, MOVED])
def test_a_region_is_a_cut_of_the_whole_sensor(roads, rng, registration):
    sensor = {"vignetting": 0.3, "prnu": 0.02, "column_offset": 0.002}
    twin = twin_of(roads, registration=registration, sensor=sensor, light={"stray": 0.05})
    scene, mask = random_scene(rng), random_mask(rng)
    whole = twin.measure(scene, mask, exposure_s=1e-3, roi=(128, 128), quantise=False)
    part = twin.measure(scene, mask, exposure_s=1e-3, roi=(32, 20), quantise=False)
    torch.testing.assert_close(part, whole[..., 48:80, 54:74], rtol=1e-9, atol=1e-9)
    valid = twin.measure(scene, mask, exposure_s=1e-3, quantise=False)
    torch.testing.assert_close(valid, whole[..., 48:80, 48:80], rtol=1e-9, atol=1e-9)


def test_stray_light_is_an_even_share_of_the_mean(roads, rng):
    scene, mask = random_scene(rng), random_mask(rng)
    clean, veiled = twin_of(roads), twin_of(roads, light={"stray": 0.05})
    psf = clean.psf(mask)
    veil = veiled.irradiance(scene, psf) - clean.irradiance(scene, psf)
    expected = 0.05 * 15_000 * psf.sum() * scene.mean(dim=(-2, -1), keepdim=True)
    torch.testing.assert_close(veil, expected.expand_as(veil), rtol=1e-6, atol=1e-6)


def test_single_precision_follows_double_to_a_tenth_of_a_dn(roads, rng):
    scene, mask = random_scene(rng, 4), random_mask(rng)
    changes = {"registration": MOVED, "sensor": {"vignetting": 0.3, "prnu": 0.01}, "panel": {"gamma": 2.0}}
    double, single = (
        twin_of(roads, dtype, **changes).measure(scene, mask, exposure_s=3e-3, quantise=False)
        for dtype in (DOUBLE, torch.float32)
    )
    assert single.dtype == torch.float32
    assert float(double.max()) > 300
    assert float((single - double).abs().max()) < 0.1


@pytest.mark.parametrize("optics", [{"margin_px": 5}, {"margin_px": 6, "model": "fresnel", "fall_off": "cos4"}])
def test_the_frame_has_true_gradients_in_every_value_of_the_twin(rng, optics):
    small = Roads(PanelRoad(cell_px=4, gamma=1.6), MonitorRoad())
    settings = nominal_twin(
        registration={"shift_px": (0.31, -0.43), "rotation_deg": 0.7, "scale": 1.013, "blur_px": 0.57},
        panel={"gamma": 1.9, "contrast": 70, "crosstalk": 0.05, "stop_px": (20, 20)},
        sensor={"vignetting": 0.2, "dark_offset": 0.02, "shape": (16, 16)},
        light={"stray": 0.04},
        optics=optics,
    )
    names = (
        "shift_px", "rotation_rad", "scale", "blur_px", "panel_gamma", "log_contrast", "crosstalk", "stray",
        "vignetting", "dark_offset", "gain_dn_per_e",
    )  # fmt: skip
    mask = torch.from_numpy(rng.random((5, 5)))
    scene = torch.from_numpy(rng.random((1, 1, 9, 9)))
    nominal = settings.build(small, dtype=DOUBLE)
    start = [getattr(nominal if hasattr(nominal, name) else nominal.sensor, name) for name in names]

    def frame(*values):
        twin = settings.build(small, dtype=DOUBLE)
        for name, value in zip(names, values, strict=True):
            owner = twin if name in dict(twin.named_buffers(recurse=False)) else twin.sensor
            owner._buffers[name] = value
        return twin.measure(scene, mask, exposure_s=0.01, quantise=False)

    assert torch.autograd.gradcheck(frame, [value.clone().requires_grad_() for value in start], eps=1e-6, atol=1e-4)


def test_a_mask_gets_the_gradient_of_the_light_that_it_lets_through(roads, rng):
    twin = twin_of(roads)
    scene, mask = random_scene(rng, 1), torch.zeros(MASK, dtype=DOUBLE, requires_grad=True)
    twin.measure(scene, mask, exposure_s=0.01, quantise=False).sum().backward()
    per_cell = 0.999 * 15_000 * 0.01 * 0.6 * 1023 / 10_000
    expected = scipy.signal.convolve(scene[0, 0].numpy()[::-1, ::-1], np.ones(FRAME), mode="valid") * per_cell
    np.testing.assert_allclose(mask.grad.numpy(), expected, rtol=1e-9)


def test_a_parameter_that_comes_in_stays_one_and_all_else_is_a_buffer(roads):
    blur = nn.Parameter(torch.tensor(0.0))
    twin = nominal_twin().build(roads, values={"blur_px": blur, "stray": torch.tensor(0.1)})
    assert dict(twin.named_parameters()) == {"blur_px": blur}
    assert float(twin.stray) == pytest.approx(0.1)
    freed = twin.free("panel_gamma", "vignetting")
    assert [name for name, _ in twin.named_parameters()] == ["blur_px", "panel_gamma", "sensor.vignetting"]
    assert freed[1] is twin.sensor.vignetting
    with pytest.raises(BadInput, match=r"the twin has no value focus; it has blur_px, crosstalk, dark_current_e_per_s"):
        twin.free("focus")
    with pytest.raises(BadInput, match=r"stray has shape \(2,\); \(\) is needed"):
        nominal_twin().build(roads, values={"stray": torch.zeros(2)})


def test_a_fitted_registration_finds_the_true_shift(roads, rng):
    true = twin_of(roads, registration={"shift_px": (1.2, -0.7)})
    fitted = twin_of(roads, optics={"margin_px": 3})
    # A compact mask: the shadow of a random one resembles itself within one cell only, and a descent gets lost.
    scene, mask = random_scene(rng, 3), Disc().build(MASK, 0).mask().to(DOUBLE)
    wanted = true.measure(scene, mask, exposure_s=1e-3, quantise=False)
    optimiser = torch.optim.Adam(fitted.free("shift_px"), lr=0.05)
    for _ in range(120):
        optimiser.zero_grad()
        ((fitted.measure(scene, mask, exposure_s=1e-3, quantise=False) - wanted) ** 2).mean().backward()
        optimiser.step()
    assert fitted.shift_px.detach().numpy() == pytest.approx([1.2, -0.7], abs=0.03)


def test_a_shadow_that_leaves_its_canvas_is_refused(roads, rng):
    twin = twin_of(roads)
    twin.shift_px += 2.0
    with pytest.raises(BadInput, match=r"move the shadow by up to 2\.00 sensor pixels.*set optics\.margin_px to 2"):
        twin.psf(random_mask(rng))


def test_the_white_exposure_fills_the_well_as_asked_and_shrinks_with_the_open_area(roads):
    twin = twin_of(roads, light={"stray": 0.05})
    mask = torch.zeros(MASK, dtype=DOUBLE)
    mask[16, 16] = 1
    psf = twin.psf(mask)
    exposure = twin.white_exposure_s(psf.sum())
    white = torch.ones(1, 1, *SCENE, dtype=DOUBLE)
    frame = twin.measure(white, mask, exposure_s=exposure, quantise=False)
    assert float(frame.max()) == pytest.approx(0.9 * 1023, rel=1e-6)
    area = torch.tensor(2.0, dtype=DOUBLE, requires_grad=True)
    twin.white_exposure_s(area).backward()
    assert float(area.grad) == pytest.approx(-float(twin.white_exposure_s(2.0)) / 2)
    assert float(twin.white_exposure_s(1e-9)) == 10.0
    assert float(twin.white_exposure_s(1e9)) == pytest.approx(1e-5)


def test_the_pinhole_of_the_nominal_rig_needs_about_one_second(roads):
    assert float(twin_of(roads).white_exposure_s(1.0)) == pytest.approx(1.0)


def test_expose_follows_a_plan_through_the_monitor(roads, rng):
    twin = twin_of(roads)
    scenes, mask = random_scene(rng, 3), random_mask(rng)
    plan = still_plan(scenes.numpy(), mask.numpy(), Exposure(exposure_s=0.002, gain_db=6.0), exposure_ids=[4, 5, 6])
    frames = twin.expose(plan)
    shown = twin.through_monitor(scenes)
    assert not torch.equal(shown, scenes)
    torch.testing.assert_close(frames, twin.measure(shown, mask, exposure_s=0.002, gain_db=6.0))
    live = still_plan("live", mask.numpy(), Exposure(exposure_s=1), exposure_ids=[0])
    with pytest.raises(BadInput, match=r'plan\.scenes is "live"'):
        twin.expose(live)


def test_training_noise_leaves_gradients_in_the_mask(roads, rng):
    mask = random_mask(rng).requires_grad_()
    draws = TorchDraws(torch.Generator().manual_seed(0))
    twin_of(roads).measure(random_scene(rng), mask, exposure_s=1e-3, draws=draws).mean().backward()
    assert torch.isfinite(mask.grad).all()
    assert (mask.grad > 0).all()


@pytest.mark.parametrize("coarse", [1.5, 2.0])
def test_coarser_cells_and_scene_pixels_are_rendered_on_the_sensor_grid(roads, coarse):
    optics = {"mask_pitch_m": 200e-6 * coarse, "scene_pitch_m": 5.2e-3 * coarse}
    twin = twin_of(roads, optics=optics)
    frame = twin.measure(torch.ones(1, 1, 20, 20), torch.ones(8, 8), exposure_s=1e-4, quantise=False)
    size = math.ceil(20 * coarse) - math.ceil(8 * coarse) + 1
    assert frame.shape == (1, 1, size, size) == (1, 1, *twin.frame_shape((8, 8), (20, 20)))
    white = (8 * coarse) ** 2 * 15_000 * 1e-4 * 0.6 * 1023 / 10_000
    assert float(frame[0, 0, size // 2, size // 2]) == pytest.approx(white, rel=1e-6)


@pytest.mark.parametrize(
    ("changes", "mask", "scene", "problem"),
    [
        ({}, (64, 64), (63, 63), "mask larger than the scene: the shadow of 64x64 mask cells spans 64x64"),
        ({"sensor": {"shape": (31, 128)}}, MASK, SCENE, r"the frame needs 32x32 pixels, sensor.shape is 31x128"),
        ({"panel": {"shape": (120, 256)}}, MASK, SCENE, r"the mask needs 128x128 pixels, panel.shape is 120x256"),
        ({"monitor": {"shape": (60, 60)}}, MASK, SCENE, r"the scene needs 63x63 pixels, monitor.shape is 60x60"),
        ({"optics": {"mask_pitch_m": 100e-6}}, MASK, SCENE, r"a mask cell spans 0\.500 sensor pixels"),
        (
            {"optics": {"mask_pitch_m": 1e-4, "gap_m": 0.02}, "sensor": {"pitch_m": 5e-5}},
            MASK, SCENE, r"diffraction: gap_m \* wavelength_m is 1\.1e-08 m2, above mask_pitch_m squared",
        ),
        ({"panel": {"stop_px": None}}, MASK, SCENE, r"256x256 pass light.*set panel.stop_px to \[128, 128\]"),
        ({"monitor": {"view_px": None}}, MASK, SCENE, r"127x127 pass light.*set monitor.view_px to \[63, 63\]"),
    ],
)  # fmt: skip
def test_a_design_that_cannot_work_is_refused_with_the_way_out(roads, changes, mask, scene, problem):
    with pytest.raises(BadInput, match=problem):
        nominal_twin(**changes).check_design(mask, scene, roads)


def test_the_nominal_design_is_accepted(roads):
    nominal_twin().check_design(MASK, SCENE, roads)
    nominal_twin().check_design(MASK, SCENE)
