"""PSF on the bench: the shadow of the mask, where it should be, alike over the field."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest
import torch

from labctl.errors import BadInput, RunFailed
from protocols.calibrate.bench import Bench
from protocols.calibrate.point_spread import DepthScan, PointSpread, test_mask
from protocols.calibrate.psf_alignment import compare
from tests.protocols.calibrate.benches import bench, calibration, found_as_calibration, world_of

REGISTERED = {"registration": calibration("registration", {"scene_pitch_px": 1.0})}


def true_psf(lab: Bench) -> np.ndarray:
    """(h, w) of the middle of the field, in sensor pixels of opening, as the world casts it."""
    world = world_of(lab)
    levels = lab.rig.roads.mask.levels(test_mask(lab.cells))
    psf = world._twin.psf_from_levels(torch.from_numpy(levels)).detach().numpy()
    room = (np.array(psf.shape) - lab.frame_shape) // 2
    return psf[room[0] : room[0] + lab.frame_shape[0], room[1] : room[1] + lab.frame_shape[1]]


def test_the_psf_is_the_shadow_of_the_mask_and_the_same_over_the_field(tmp_path: Path):
    with bench("psf", tmp_path, seed=3, built_on=REGISTERED) as lab:
        found = PointSpread().measure(lab)
        true = true_psf(lab)
        page = PointSpread().draw(found_as_calibration(PointSpread(), found, lab))
    psf, _ = found.arrays["psf"]
    assert np.corrcoef(psf[0].ravel(), true.ravel())[0, 1] > 0.99
    assert found.values["field_correlation"].value > 0.98
    assert found.values["field_shift_px"].value < 0.1
    assert len(page.axes) >= 5


def test_random_scenes_give_the_same_psf(tmp_path: Path):
    with bench("psf", tmp_path, seed=3, built_on=REGISTERED) as lab:
        found = PointSpread(by="scenes").measure(lab)
        true = true_psf(lab)
    psf = found.arrays["psf"][0][0]
    room = (np.array(psf.shape) - true.shape) // 2
    inner = psf[room[0] : room[0] + true.shape[0], room[1] : room[1] + true.shape[1]]
    assert np.corrcoef(inner.ravel(), true.ravel())[0, 1] > 0.95
    assert found.values["prediction_error"].value < 0.2


def test_shift_sharpness_and_correlation_are_told_without_the_noise():
    stream = np.random.default_rng(2)
    fine = np.kron(stream.random((12, 12)) < 0.5, np.ones((2, 2))).astype(float)
    clean = np.zeros((40, 40))
    clean[8:32, 8:32] = fine

    def twice(picture: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
        return picture + 0.1 * stream.normal(size=picture.shape), picture + 0.1 * stream.normal(size=picture.shape)

    moved = np.roll(clean, (3, -2), axis=(0, 1))
    same = compare(twice(clean), twice(moved), np.array([3.0, -2.0]), 14)
    assert same.shift_px == pytest.approx([3, -2], abs=0.05)
    assert same.correlation > 0.97
    assert same.sharpness == pytest.approx(1, abs=0.1)
    elsewhere = compare(twice(clean), twice(moved), np.array([1.0, -1.0]), 14)
    assert elsewhere.shift_px == pytest.approx([3, -2], abs=0.05)
    assert elsewhere.correlation > 0.97, "compared where it lies, not where it should"
    assert compare(twice(clean), twice(0.5 * moved), np.array([3.0, -2.0]), 14).light == pytest.approx(0.5, rel=0.05)
    soft = (moved + np.roll(moved, 1, axis=0)) / 2
    assert compare(twice(clean), twice(soft), np.array([3.5, -2.0]), 14).sharpness < 0.9
    other = np.roll(np.rot90(clean), (3, -2), axis=(0, 1))
    assert compare(twice(clean), twice(other), np.array([3.0, -2.0]), 14).correlation < 0.7


def test_the_error_of_a_shift_is_the_spread_of_what_is_found():
    stream = np.random.default_rng(4)
    clean = np.zeros((40, 40))
    clean[10:30, 10:30] = np.kron(stream.random((10, 10)) < 0.5, np.ones((2, 2)))

    def twice() -> tuple[np.ndarray, np.ndarray]:
        return tuple(clean + 0.2 * stream.normal(size=clean.shape) for _ in range(2))  # type: ignore[return-value]

    found = [compare(twice(), twice(), np.zeros(2), 14) for _ in range(40)]
    away = np.array([each.shift_px for each in found])
    told = np.array([each.shift_error_px for each in found])
    assert np.sqrt((told**2).mean()) == pytest.approx(np.sqrt((away**2).mean()), rel=0.4)


def test_a_psf_off_the_middle_has_the_light_of_one_in_it(tmp_path: Path):
    with bench("psf", tmp_path, changes=("world.vignetting=0.5",), built_on=REGISTERED) as lab:
        light = PointSpread().measure(lab).values["field_light"].value
    assert light == pytest.approx((1, 1), abs=0.03), "the flat field is taken out"


def test_without_light_it_is_refused(tmp_path: Path):
    with (
        bench("psf", tmp_path, changes=("twin.light.photons_per_s=0.01",), built_on=REGISTERED) as lab,
        pytest.raises(RunFailed, match=r"not seen through the mask"),
    ):
        PointSpread().measure(lab)


def test_depth_needs_an_instrument_that_is_there(tmp_path: Path):
    scan = DepthScan(quantity="stage.position", values=(0.0, 1.0))
    with (
        bench("psf", tmp_path, built_on=REGISTERED) as lab,
        pytest.raises(BadInput, match=r"stage\.position.*this rig has lamp\.power"),
    ):
        PointSpread(depth=scan).measure(lab)


def test_depth_is_scanned_and_the_instrument_goes_back(tmp_path: Path):
    scan = DepthScan(quantity="lamp.power", values=(0.5, 0.9))
    with bench("psf", tmp_path, built_on=REGISTERED) as lab:
        lamp = lab.rig.devices().instruments["lamp"]
        lamp.set_quantity("power", 0.25)
        found = PointSpread(depth=scan).measure(lab)
        assert lamp.read_quantity("power") == pytest.approx(0.25)
    assert found.arrays["depth_table"][0].shape == (2, 7)
    assert found.values["depth_correlation"].value > 0.98
