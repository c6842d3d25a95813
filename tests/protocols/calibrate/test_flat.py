"""Flat field on the as-built bench: the map, the vignetting in it, and openings that are too wide for it."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest

from labctl.errors import RunFailed
from protocols.calibrate.flat import Flat, disc_of, vignetting_of
from protocols.calibrate.nonuniformity import middle
from tests.protocols.calibrate.one_bench import CalibrationBench, calibration_bench

SHIFTED = {"world__shift_px": [1.4, -1.4], "world__scale": 1.03, "world__vignetting": 0.3, "world__contrast": 30}


def true_flat(here: CalibrationBench) -> np.ndarray:
    flat = here.true_twin.sensor.flat(here.frame_shape).numpy()
    return flat / flat[middle(here.frame_shape, 0.5)].mean()


def test_flat_field_and_vignetting_are_those_of_the_sensor_in_spite_of_shift_and_leak(tmp_path: Path) -> None:
    with calibration_bench(tmp_path, **SHIFTED) as here:
        found, truth = here.measure("flat"), true_flat(here)
    pulls = (found.arrays["flat"] - truth) / found.arrays["flat_error"]
    assert 0.6 < np.mean(np.abs(pulls) < 1) < 0.76
    assert np.abs(found.arrays["flat"] - truth).max() < 0.02
    assert found.arrays["flat"][middle(truth.shape, 0.5)].mean() == pytest.approx(1.0)
    assert abs(found.value("vignetting") - 0.3) < 3 * found.error("vignetting") < 0.02
    assert found.value("prnu") == pytest.approx(0.01, rel=0.1)
    Flat().draw(found).savefig(tmp_path / "page.png")


def test_a_wide_opening_sees_the_edge_of_the_scene_and_that_is_why_the_disc_is_small(tmp_path: Path) -> None:
    wide = {"flat": Flat(radius_cells=23)}
    with calibration_bench(tmp_path, settings=wide, **SHIFTED) as here:
        found, truth = here.measure("flat"), true_flat(here)
    assert np.abs(found.arrays["flat"] - truth).max() > 0.05


def test_no_light_is_refused(tmp_path: Path) -> None:
    with (
        calibration_bench(tmp_path, twin__light__photons_per_s=1e-6) as here,
        pytest.raises(RunFailed, match="frames are empty"),
    ):
        here.measure("flat")
    assert (tmp_path / "refused" / "flat.png").exists()


def test_a_panel_that_hardly_modulates_is_refused(tmp_path: Path) -> None:
    with calibration_bench(tmp_path, world__contrast=1.05) as here, pytest.raises(RunFailed, match="modulates"):
        here.measure("flat")


def test_light_that_falls_off_about_another_point_is_noticed() -> None:
    y, x = np.mgrid[-15.5:16, -15.5:16]
    corner = 2 * 15.5**2
    error = np.full((32, 32), 0.002)
    noise = 0.002 * np.random.default_rng(0).standard_normal((32, 32))
    centred = vignetting_of(1 - 0.25 * (x**2 + y**2) / corner + noise, error, (32, 32))
    aside = vignetting_of(1 - 0.25 * ((x - 4) ** 2 + y**2) / corner + noise, error, (32, 32))
    assert abs(centred.share - 0.25) < 3 * centred.error < 0.01
    assert centred.off_axis < 4
    assert aside.off_axis > 20


def test_a_disc_has_at_least_its_middle_cell() -> None:
    assert disc_of((5, 5), 0.1).sum() == 1
    assert disc_of((4, 4), 0.1).sum() == 4, "an even grid has four middle cells"
