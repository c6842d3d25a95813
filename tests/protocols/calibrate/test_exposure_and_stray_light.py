"""How fast a white scene fills the sensor, and light where none is imaged."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest

from labctl.errors import RunFailed
from protocols.calibrate.exposure import ExposureSearch
from protocols.calibrate.stray_light import StrayLight
from tests.protocols.calibrate.one_bench import CELLS, calibration_bench


def test_a_white_scene_at_the_found_exposure_stands_where_it_shall(tmp_path: Path) -> None:
    with calibration_bench(tmp_path, world__seed=5) as here:
        found = here.measure("exposure")
        bench = here.bench("exposure")
        frame = bench.frames("white", bench.white(), bench.open_mask(), found.value("white_exposure_s"), repeats=8)
    black = here.made["dark"].value("black_level_dn")
    level = frame[0].mean(axis=0)[8:24, 8:24].mean()
    assert (level - black) / (4095 - black) == pytest.approx(0.9, abs=0.005)
    opened, closed = found.value("white_rate_dn_per_s"), found.value("closed_rate_dn_per_s")
    cells = CELLS[0] * CELLS[1]
    assert found.value("white_rate_per_cell_dn_per_s") == pytest.approx((opened - closed) / cells)
    ExposureSearch().draw(found).savefig(tmp_path / "page.png")


@pytest.mark.parametrize("stray", [0.0, 0.06])
def test_stray_light_and_leak_are_found_with_their_errors(tmp_path: Path, stray: float) -> None:
    with calibration_bench(tmp_path, world__stray=stray, world__contrast=40, world__seed=6) as here:
        found = here.measure("stray_light")
    assert abs(found.value("stray") - stray) < 3.5 * found.error("stray") < 0.002
    assert found.value("leak") == pytest.approx(1 / 40, rel=0.005)
    assert found.value("display_black") == pytest.approx(1e-3, rel=0.15)
    StrayLight().draw(found).savefig(tmp_path / "page.png")


@pytest.mark.parametrize("kind", ["exposure", "stray_light"])
def test_no_light_is_refused(tmp_path: Path, kind: str) -> None:
    with calibration_bench(tmp_path, twin__light__photons_per_s=1e-6) as here:
        here.made["flat"] = here.measure("dark")  # never asked: there is no light to divide
        with pytest.raises(RunFailed, match="frames are empty"):
            here.measure(kind)
    assert (tmp_path / "refused" / f"{kind}.png").exists()


def test_a_disc_too_large_for_a_black_middle_is_refused(tmp_path: Path) -> None:
    with calibration_bench(tmp_path) as here:
        here.settings["stray_light"] = StrayLight(radius_cells=18)
        with pytest.raises(RunFailed, match="choose a smaller `radius_cells`"):
            here.measure("stray_light")


def test_the_dark_part_of_the_scene_is_what_the_page_says(tmp_path: Path) -> None:
    with calibration_bench(tmp_path, world__stray=0.0, world__shift_px=[1.4, 1.4], world__noise=False) as here:
        found = here.measure("stray_light")
    part = slice(8, 24)
    assert found.arrays["ring"][part, part].max() < 3e-3, "no bright pixel of the scene is imaged there"
    assert np.unique(found.arrays["scene"]).size == 2
