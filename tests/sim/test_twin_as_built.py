"""What a fitted twin knows beyond the rig file: tilt and gap of the mask, measured maps, response of the monitor."""

from __future__ import annotations

import math

import numpy as np
import pytest
import torch

from labctl.errors import BadInput
from labctl.roads import MonitorRoad, PanelRoad, Roads
from sim.noise import TorchDraws
from sim.optics.magnify import growth_slope, magnified
from sim.twin import Twin
from tests.sim.conftest import MASK, SCENE, nominal_twin

DOUBLE = torch.float64
SMALL = {"panel": {"contrast": 70, "stop_px": (20, 20)}, "sensor": {"shape": (16, 16)}, "monitor": {"view_px": (9, 9)}}


def twin_of(roads: Roads, values: dict[str, object] | None = None, **changes) -> Twin:
    given = {name: torch.as_tensor(value, dtype=DOUBLE) for name, value in (values or {}).items()}
    return nominal_twin(**changes).build(roads, dtype=DOUBLE, values=given)


def one_cell(row: int, column: int) -> torch.Tensor:
    mask = torch.zeros(MASK, dtype=DOUBLE)
    mask[row, column] = 1.0
    return mask


def one_point(row: int, column: int) -> torch.Tensor:
    scene = torch.zeros((1, 1, *SCENE), dtype=DOUBLE)
    scene[..., row, column] = 1.0
    return scene


def centre_of(frame: torch.Tensor) -> np.ndarray:
    light = frame[0, 0].numpy()
    y, x = np.mgrid[: light.shape[0], : light.shape[1]]
    return np.array([(y * light).sum(), (x * light).sum()]) / light.sum()


def test_values_that_say_no_error_leave_every_frame_as_it_is_to_the_bit(roads, rng):
    scene, mask = torch.from_numpy(rng.random((2, 1, *SCENE))), torch.from_numpy(rng.random(MASK))
    settings = nominal_twin(sensor={"read_noise_e": 2.7, "prnu": 0.01, "dark_current_e_per_s": 1.3})
    said = {
        "tilt_rad": torch.zeros(2), "gap_error": torch.zeros(()), "monitor_gamma": torch.tensor(2.2),
        "read_noise_e": torch.tensor(2.7), "dark_current_e_per_s": torch.tensor(1.3),
    }  # fmt: skip
    frames = [
        twin.measure(
            twin.through_monitor(scene), mask, exposure_s=2e-3, draws=TorchDraws(torch.Generator().manual_seed(1))
        )
        for twin in (settings.build(roads), settings.build(roads, values=said))
    ]
    assert torch.equal(*frames)


def test_a_wider_gap_enlarges_the_image_about_the_middle_and_keeps_its_light(roads):
    scene, mask = one_point(31 + 12, 31 - 8), one_cell(16, 16)
    near, far = (twin_of(roads, {"gap_error": error}, panel={"contrast": 1e9}) for error in (0.0, 0.05))
    frames = [twin.light(scene, twin.psf(mask)[None, None], roi=(96, 96)) for twin in (near, far)]
    centre = np.array([47.5, 47.5])
    cell = 0.5  # the open cell stands half a cell off the middle; the point of the scene is imaged at 12, -8
    at_first, at_last = (centre_of(frame) - centre for frame in frames)
    assert at_first == pytest.approx([12 + cell, -8 + cell], abs=1e-6)
    assert at_last - at_first == pytest.approx([0.05 * 12, -0.05 * 8], abs=2e-3)
    assert float(frames[1].sum()) == pytest.approx(float(frames[0].sum()), rel=5e-3)


def test_each_cell_of_a_tilted_mask_images_the_scene_as_its_own_gap_does(roads):
    tilt = (math.radians(1.5), math.radians(-0.5))
    scene = one_point(31 - 14, 31 + 10)
    flat = twin_of(roads, panel={"contrast": 1e9})
    tilted = twin_of(roads, {"tilt_rad": tilt}, panel={"contrast": 1e9})
    for row, column in ((2, 3), (29, 12), (16, 30)):
        off_m = (np.array([row, column]) - 15.5) * 200e-6
        gap_error = float(off_m @ np.tan(tilt)) / 10e-3
        alone = twin_of(roads, {"gap_error": gap_error}, panel={"contrast": 1e9})
        mask = one_cell(row, column)
        seen, expected, level = (
            centre_of(twin.light(scene, twin.psf(mask)[None, None], roi=(96, 96))) for twin in (tilted, alone, flat)
        )
        assert np.abs(expected - level).max() > 0.025
        assert seen == pytest.approx(expected, abs=0.005)


def test_a_tilted_mask_is_foreshortened_and_nearer_where_its_gap_is_wide(roads):
    tilt = math.radians(8)
    still = twin_of(roads, optics={"margin_px": 4})
    tilted = twin_of(roads, {"tilt_rad": (tilt, 0.0)}, optics={"margin_px": 4})
    for row in (1, 30):
        before, after = (centre_of(twin.psf(one_cell(row, 15))[None, None] - twin.psf(torch.zeros(MASK, dtype=DOUBLE)))
                         for twin in (still, tilted))  # fmt: skip
        middle = (tilted.psf(one_cell(row, 15)).shape[0] - 1) / 2
        at_m = (row - 15.5) * 200e-6 * math.cos(tilt)
        gap_m = 10e-3 + (row - 15.5) * 200e-6 * math.sin(tilt)
        expected_px = at_m * (0.26 / (0.26 - gap_m)) / 208e-6
        assert before[0] - middle == pytest.approx(row - 15.5, abs=1e-3)
        assert after[0] - middle == pytest.approx(expected_px, abs=0.02)


def test_frames_have_the_slopes_of_tilt_gap_and_monitor(rng):
    small = Roads(PanelRoad(cell_px=4), MonitorRoad(pixel_px=1))
    settings = nominal_twin(**SMALL, optics={"margin_px": 4}, registration={"blur_px": 0.5})
    mask, scene = torch.from_numpy(rng.random((5, 5))), torch.from_numpy(rng.random((1, 1, 9, 9)))
    names = ("tilt_rad", "gap_error", "monitor_gamma")
    start = [torch.tensor(v, dtype=DOUBLE, requires_grad=True) for v in ((0.013, -0.021), 0.017, 2.05)]

    def frame(*values):
        twin = settings.build(small, dtype=DOUBLE)
        for name, value in zip(names, values, strict=True):
            twin._buffers[name] = value
        return twin.measure(twin.through_monitor(scene), mask, exposure_s=0.01, quantise=False)

    assert torch.autograd.gradcheck(frame, start, eps=1e-6, atol=1e-3, rtol=1e-3)


def test_light_slopes_are_those_of_the_light(roads, rng):
    scene, mask = torch.from_numpy(rng.random((1, 1, *SCENE))), torch.from_numpy(rng.random(MASK))
    values = {"tilt_rad": (0.004, -0.003), "gap_error": 0.01}
    twin = twin_of(roads, values)
    kernel = twin.psf(mask)[None, None]
    slopes = twin.light_slopes(scene, kernel)
    step = 1e-5
    for channel, (name, index) in enumerate((("gap_error", ...), ("tilt_rad", 0), ("tilt_rad", 1))):
        ends = []
        for sign in (1, -1):
            getattr(twin, name)[index] += sign * step
            ends.append(twin.light(scene, kernel))
            getattr(twin, name)[index] -= sign * step
        found = (ends[0] - ends[1]) / (2 * step)
        # The slope in the gap leaves out that a tilt tilts more at another gap: second order.
        torch.testing.assert_close(slopes[:, [channel]], found, rtol=0, atol=0.05 * float(found.abs().max()))


def test_magnifying_by_one_is_exact_and_by_more_keeps_the_light(rng):
    scene = torch.from_numpy(rng.random((1, 1, 12, 15)))
    assert torch.equal(magnified(scene, torch.ones((), dtype=DOUBLE), 0), scene)
    grown = magnified(scene, torch.tensor(1.04, dtype=DOUBLE), 3)
    assert grown.shape[-2:] == (18, 21)
    assert float(grown.sum()) == pytest.approx(float(scene.sum()), rel=1e-9)
    growth, step = torch.tensor(1.03, dtype=DOUBLE), 1e-6
    difference = (magnified(scene, growth + step, 3) - magnified(scene, growth - step, 3)) / (2 * step)
    torch.testing.assert_close(growth_slope(scene, growth, 3), difference, rtol=1e-5, atol=1e-5)


def test_measured_maps_stand_in_for_what_they_measured(roads, rng):
    sensor = {"vignetting": 0.3, "prnu": 0.02, "column_offset": 0.002, "dark_offset": 0.02, "shape": (40, 40)}
    true = twin_of(roads, sensor=sensor)
    maps = {"flat_map": true.sensor.flat((32, 34)), "dark_map_dn": true.sensor.offset_dn((32, 34))}
    mapped = twin_of(roads, maps, sensor={"shape": (40, 40)})
    scene, mask = torch.from_numpy(rng.random((2, 1, *SCENE))), torch.from_numpy(rng.random(MASK))
    for roi in ((32, 34), (20, 31)):
        frames = [twin.measure(scene, mask, exposure_s=1e-3, roi=roi, quantise=False) for twin in (true, mapped)]
        torch.testing.assert_close(*frames, rtol=1e-12, atol=1e-9)
    with pytest.raises(BadInput, match="the frame needs 33x32 pixels, flat_map was measured on 32x34; calibrate"):
        mapped.measure(scene, mask, exposure_s=1e-3, roi=(33, 32))
    with pytest.raises(BadInput, match=r"flat_map has shape \(50, 50\); \(h, w\) within the sensor of 40x40"):
        twin_of(roads, {"flat_map": np.ones((50, 50))}, sensor={"shape": (40, 40)})
    with pytest.raises(BadInput, match="dark_map_dn holds values that are not finite; calibrate anew"):
        twin_of(roads, {"dark_map_dn": np.full((4, 4), np.nan)})


def test_read_noise_is_a_value_of_the_twin(roads):
    dark, mask = torch.zeros((1, 1, *SCENE), dtype=DOUBLE), torch.zeros(MASK, dtype=DOUBLE)
    for read_noise_e in (0.0, 20.0):
        values = {"read_noise_e": read_noise_e, "gain_dn_per_e": 2.0}
        twin = twin_of(roads, values, sensor={"black_level_dn": 500, "bits": 16}, panel={"contrast": 1e9})
        draws = TorchDraws(torch.Generator().manual_seed(0))
        frame = twin.measure(dark, mask, exposure_s=1e-5, draws=draws, quantise=False)
        assert float(frame.std()) == pytest.approx(2 * read_noise_e, rel=0.1, abs=1e-9)


def test_a_rest_of_the_psf_is_added_in_shares_of_its_light(roads, rng):
    mask, rest = torch.from_numpy((rng.random(MASK) < 0.3).astype(float)), torch.from_numpy(rng.random((5, 5)))
    plain = twin_of(roads, optics={"margin_px": 2})
    even = torch.zeros((6, 6), dtype=DOUBLE)
    even[:5, :5] = rest
    with_rest = twin_of(roads, {"psf_residual": even}, optics={"margin_px": 2})
    added = with_rest.psf(mask) - plain.psf(mask)
    assert float(added.sum()) == pytest.approx(float(even.sum() * plain.psf(mask).sum()), rel=1e-9)
    torch.testing.assert_close(added[15:21, 15:21], plain.psf(mask).sum() * even, rtol=1e-9, atol=1e-9)
    with pytest.raises(BadInput, match=r"psf_residual has shape \(5, 5\), the PSF \(36, 36\)"):
        twin_of(roads, {"psf_residual": rest}, optics={"margin_px": 2}).psf(mask)


def test_a_tilt_needs_a_geometric_shadow(roads):
    with pytest.raises(BadInput, match="a tilted mask is known to geometric shadows only; set tilt_rad to 0"):
        twin_of(roads, {"tilt_rad": (0.01, 0.0)}, optics={"model": "fresnel"}).psf(torch.ones(MASK, dtype=DOUBLE))
