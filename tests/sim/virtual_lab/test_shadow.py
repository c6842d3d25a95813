"""The light of the bench: it agrees with the twin where both know the same, and knows what the twin does not."""

from __future__ import annotations

from typing import Any

import numpy as np
import numpy.typing as npt
import pytest
import torch

from sim.virtual_lab.bench.response import radiance, transmittance
from sim.virtual_lab.bench.settings import Truth
from sim.virtual_lab.bench.shadow import ShadowCaster
from sim.virtual_lab.bench.silicon import Chip
from tests.sim.virtual_lab.virtual_bench import (
    CELL_PX,
    MASK_CELLS,
    SCENE_PX,
    SENSOR_PX,
    a_mask,
    a_scene,
    mask_levels,
    roads,
    scene_levels,
    truth,
    twin_settings,
)

Array = npt.NDArray[np.float64]


def pinhole() -> Array:
    mask = np.zeros(MASK_CELLS)
    mask[15:17, 15:17] = 1
    return mask


def disc() -> Array:
    y, x = np.ogrid[:32, :32]
    return (((y - 15.5) ** 2 + (x - 15.5) ** 2) < 36).astype(np.float64)


MASKS = {"pinhole": pinhole(), "disc": disc(), "open": np.ones(MASK_CELLS), "random": a_mask()}
MASKS["grey"] = np.random.default_rng(5).random(MASK_CELLS)
SCENES = {"random": a_scene(), "white": np.ones(SCENE_PX), "edge": np.tri(63)}


def bench_photons(stands: Truth, mask: Array, scene: Array) -> Array:
    through = transmittance(mask_levels(mask), stands.panel)
    return ShadowCaster(stands).photons_per_s(through, radiance(scene_levels(scene), stands.monitor))


def twin_photons(mask: Array, scene: Array, **registration: Any) -> Array:
    twin = twin_settings(**registration).build(roads(), dtype=torch.float64)
    shown = twin.through_monitor(torch.from_numpy(scene)[None, None])
    return twin.irradiance(shown, twin.psf(torch.from_numpy(mask)), roi=SENSOR_PX)[0, 0].numpy()


@pytest.mark.parametrize("scene", SCENES)
@pytest.mark.parametrize("mask", MASKS)
def test_without_errors_the_bench_and_the_twin_give_the_same_light(mask: str, scene: str) -> None:
    bench = bench_photons(truth(), MASKS[mask], SCENES[scene])
    np.testing.assert_allclose(bench, twin_photons(MASKS[mask], SCENES[scene]), rtol=1e-9)


def test_without_errors_the_bench_and_the_twin_give_the_same_frame_from_levels_to_dn() -> None:
    stands = truth()
    frame = Chip(stands.silicon, seed=1, camera=0).read_out(
        bench_photons(stands, a_mask(), a_scene()), exposure_s=0.002, gain_db=6.0, black_level_dn=64.0, frame=None
    )
    twin = twin_settings().build(roads(), dtype=torch.float64)
    mask, scene = torch.from_numpy(a_mask()), torch.from_numpy(a_scene())[None, None]
    expected = twin.measure(twin.through_monitor(scene), mask, exposure_s=0.002, gain_db=6.0, roi=SENSOR_PX)
    assert 200 < frame.mean() < 4000
    assert np.abs(frame - expected[0, 0].numpy()).max() <= 1


@pytest.mark.parametrize(
    "errors",
    [
        {"shift_px": (1.3, -0.7)},
        {"shift_px": (-2.0, 0.4)},
        {"rotation_deg": 1.7},
        {"rotation_deg": -8.0},
        {"blur_px": 0.6},
        {"shift_px": (1.1, 0.3), "rotation_deg": -2.0, "blur_px": 0.8},
    ],
    ids=str,
)
def test_errors_that_both_know_mean_the_same_to_both(errors: dict[str, Any]) -> None:
    bench, twin = bench_photons(truth(**errors), a_mask(), a_scene()), twin_photons(a_mask(), a_scene(), **errors)
    unmoved = twin_photons(a_mask(), a_scene())
    # The twin integrates its blur over pixels twice, the bench once; that is 1 % of the mean.
    assert np.abs(bench - twin).max() < 0.015 * twin.mean()
    assert np.abs(bench - unmoved).max() > 0.03 * twin.mean()


def test_a_panel_shifted_by_whole_pixels_shifts_the_frame() -> None:
    straight = bench_photons(truth(), pinhole(), a_scene())
    shifted = bench_photons(truth(shift_px=(3.0, -2.0)), pinhole(), a_scene())
    np.testing.assert_allclose(shifted[3:, :-2], straight[:-3, 2:], rtol=1e-9)


def test_a_larger_gap_enlarges_the_image_of_the_scene() -> None:
    scene = np.zeros(SCENE_PX)
    scene[31, 21] = scene[31, 41] = 1.0

    def distance_px(gap_error: float) -> float:
        line = bench_photons(truth(gap_error=gap_error), pinhole(), scene).sum(axis=0)
        line = line - line.min()
        columns = np.arange(32)
        left, right = line[:16], line[16:]
        return float((right * columns[16:]).sum() / right.sum() - (left * columns[:16]).sum() / left.sum())

    assert distance_px(0.0) == pytest.approx(20.0, abs=0.05)
    assert distance_px(0.1) == pytest.approx(22.0, abs=0.05)


def test_stray_light_adds_the_same_to_every_pixel() -> None:
    more = bench_photons(truth(stray=0.05), a_mask(), a_scene()) - bench_photons(truth(), a_mask(), a_scene())
    np.testing.assert_allclose(more, more.mean(), rtol=1e-9)
    assert 0.02 < more.mean() / bench_photons(truth(), a_mask(), a_scene()).mean() < 0.05


def test_a_turned_panel_casts_what_single_rays_cast() -> None:
    """Against 40x40 rays into each of a few pixels, each followed from the scene point through the turned panel."""
    angle, side = np.deg2rad(5.0), 40
    stands = truth(rotation_deg=5.0)
    fine = transmittance(mask_levels(a_mask()), stands.panel)
    scene = radiance(scene_levels(a_scene()), stands.monitor)
    light = bench_photons(stands, a_mask(), a_scene()) / stands.light.photons_per_s
    sub_px = (np.arange(side) + 0.5) / side
    points_m = -(np.arange(63) - 31) * 5.2e-3
    for row, column in [(0, 0), (7, 20), (31, 16)]:
        y_m, x_m = ((place - 16 + sub_px) * 208e-6 for place in (row, column))
        total = 0.0
        for i, point_y_m in enumerate(points_m):
            my = (point_y_m * 0.01 + y_m * 0.25) / 0.26
            mx = (points_m[:, None] * 0.01 + x_m[None, :] * 0.25) / 0.26
            py = (np.cos(angle) * my[:, None, None] + np.sin(angle) * mx[None]) / 50e-6 + 64
            px = (np.cos(angle) * mx[None] - np.sin(angle) * my[:, None, None]) / 50e-6 + 64
            inside = (py >= 0) & (py < 128) & (px >= 0) & (px < 128)
            passed = fine[np.clip(py, 0, 127).astype(int), np.clip(px, 0, 127).astype(int)] * inside
            total += float((passed.mean(axis=(0, 2)) * scene[i]).sum())
        assert light[row, column] == pytest.approx(total, rel=2e-3)


def test_crosstalk_blurs_the_panel_and_keeps_its_light() -> None:
    levels = mask_levels(a_mask())
    sharp, mixed = (transmittance(levels, truth(crosstalk=share).panel) for share in (0.0, 0.2))
    assert mixed.sum() == pytest.approx(sharp.sum(), rel=1e-9)
    assert np.abs(np.diff(mixed)).max() < np.abs(np.diff(sharp)).max()
    inside = slice(CELL_PX, CELL_PX + 2)
    np.testing.assert_allclose(mixed[inside, inside], sharp[inside, inside], atol=0.11)


def test_a_mask_that_comes_again_gives_the_same_light_as_the_first_time() -> None:
    stands = truth(rotation_deg=1.0)
    caster, shining = ShadowCaster(stands), radiance(scene_levels(a_scene()), stands.monitor)
    first, other = (transmittance(mask_levels(a_mask(seed)), stands.panel) for seed in (0, 1))
    once = caster.photons_per_s(first, shining, b"first")
    between = caster.photons_per_s(other, shining, b"other")
    np.testing.assert_array_equal(caster.photons_per_s(first, shining, b"first"), once)
    np.testing.assert_array_equal(between, ShadowCaster(stands).photons_per_s(other, shining))
    assert np.abs(between - once).max() > 0.1 * once.mean()
