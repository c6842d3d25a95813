"""Panel response: the table within a part of a per cent of the truth, at the dark end too, or a refusal."""

from __future__ import annotations

import time
from pathlib import Path

import numpy as np
import pytest

from labctl.calibration.record import Calibration
from labctl.calibration.validity import bench_hash
from labctl.errors import BadInput, RunFailed
from labctl.rig_file import find_rig, load_rig
from protocols.calibrate.bench import Bench
from protocols.calibrate.panel_response import PanelResponse, region_of
from protocols.calibrate.roads import calibrated_roads, measured_roads
from tests.protocols.calibrate.benches import bench, calibration, found_as_calibration, world_of


def true_table(lab: Bench) -> np.ndarray:
    panel = world_of(lab).settings.panel
    return 1 / panel.contrast + (1 - 1 / panel.contrast) * (np.arange(256) / 255) ** panel.gamma


def test_table_and_contrast_are_those_of_the_panel(tmp_path: Path):
    with bench("panel_response", tmp_path, seed=7) as lab:
        found = PanelResponse().measure(lab)
        true, contrast = true_table(lab), world_of(lab).settings.panel.contrast
    table, _ = found.arrays["table"]
    assert np.abs(table - true).max() < 2e-3
    assert (np.diff(table) >= 0).all()
    assert found.values["contrast"].value == pytest.approx(contrast, abs=4 * found.values["contrast"].error)
    assert found.values["contrast"].error < 0.005 * contrast
    regions, _ = found.arrays["region_tables"]
    assert regions.shape == (4, 256)
    assert np.abs(regions - true).max() < 5e-3


def test_a_road_by_the_table_gives_the_transmittance_that_is_asked_for(tmp_path: Path):
    with bench("panel_response", tmp_path, seed=5) as lab:
        kind = PanelResponse(regions=1)
        made = found_as_calibration(kind, kind.measure(lab), lab)
        true = true_table(lab)
        road = calibrated_roads(lab.rig.spec, {"panel_response": made}).mask
        before = lab.rig.spec.roads.mask
        spec, said = lab.rig.spec, list[str]()
        mine = {"rig": spec.name, "bench_hash": bench_hash(spec), "made": time.time(), "max_age_s": 60.0}
        own = Calibration(made.record.model_copy(update=mine), made.arrays)
        shown_by = []
        with pytest.raises(ZeroDivisionError), measured_roads(lab.rig, {"panel_response": own}, said.append):
            shown_by.append(lab.rig.roads.mask) or 1 / 0
        assert shown_by == [road]
        assert (lab.rig.roads.mask, said) == (before, [])
        for wrong, words in (({"dark": own}, "`panel_response` or `monitor`"), ({"panel_response": made}, "by hand")):
            with pytest.raises(BadInput, match=words), measured_roads(lab.rig, wrong, said.append):
                pass
        assert lab.rig.roads.mask == before
    wanted = np.linspace(0.05, 1, 40)[None]
    shown = [true[each.levels(wanted)[0, :: each.cell_px]] for each in (road, before)]
    assert np.abs(shown[0] - wanted).max() < 6e-3  # half a level of 255 is 4e-3 at the bright end
    assert np.abs(shown[1] - wanted).max() > 0.03
    assert made.arrays["table"].shape == (256,)
    assert len(kind.draw(made).axes) >= 4


def test_roads_without_calibrations_are_those_of_the_rig_file():
    spec = load_rig(find_rig("as-built"))
    assert calibrated_roads(spec, {}) == spec.roads
    changed = calibrated_roads(spec, {"monitor": calibration("monitor", {"scene_gamma": 2.05})})
    assert changed.scene.gamma == pytest.approx(2.05)
    assert changed.mask == spec.roads.mask


def test_a_panel_that_does_not_modulate_is_refused_with_its_contrast(tmp_path: Path):
    with (
        bench("panel_response", tmp_path, changes=("world.contrast=1.1",)) as lab,
        pytest.raises(RunFailed, match=r"does not modulate.*contrast 1\.10.*polarisers.*panel_response\.png"),
    ):
        PanelResponse().measure(lab)
    assert (tmp_path / "refused" / "panel_response.png").is_file()


def test_a_bench_without_light_is_refused(tmp_path: Path):
    dark = ("twin.light.photons_per_s=0.001",)
    with bench("panel_response", tmp_path, changes=dark) as lab, pytest.raises(RunFailed, match=r"no light.*switch on"):
        PanelResponse().measure(lab)


def test_light_that_drifts_meanwhile_is_named_in_per_cent(tmp_path: Path, monkeypatch: pytest.MonkeyPatch):
    as_it_was = Bench.frames
    black = 64.0

    def fading(self: Bench, *args: object, **kwargs: object) -> np.ndarray:
        pixels = as_it_was(self, *args, **kwargs)  # type: ignore[arg-type]
        frame = self.taken - pixels[..., 0, 0].size + np.arange(pixels[..., 0, 0].size)
        light = 0.999 ** frame.reshape(*pixels.shape[:2], 1, 1)
        return (black + (pixels - black) * light).astype(np.uint16)

    monkeypatch.setattr(Bench, "frames", fading)
    with bench("panel_response", tmp_path) as lab, pytest.raises(RunFailed, match=r"drifted by -\d.*%.*warm up"):
        PanelResponse().measure(lab)


def test_a_table_from_a_file_is_taken_without_an_exposure_and_refused_where_it_falls(tmp_path: Path):
    levels = np.arange(0, 256, 15)
    np.save(tmp_path / "good.npy", np.column_stack([levels, 0.02 + 0.98 * (levels / 255) ** 1.8]))
    falling = 0.02 + 0.98 * (levels / 255) ** 1.8
    falling[10] -= 0.2
    np.save(tmp_path / "falls.npy", np.column_stack([levels, falling]))
    with bench("panel_response", tmp_path) as lab:
        found = PanelResponse(table=tmp_path / "good.npy").measure(lab)
        assert lab.taken == 0
        with pytest.raises(BadInput, match=r"not monotone.*from level 135 to level 150"):
            PanelResponse(table=tmp_path / "falls.npy").measure(lab)
    assert found.values["contrast"].value == pytest.approx(50)
    assert "not measured on this bench" in found.warnings[0]


def test_a_changed_file_is_another_method(tmp_path: Path):
    path = tmp_path / "table.npy"
    np.save(path, np.ones((4, 2)))
    before = PanelResponse(table=path).method()
    np.save(path, np.zeros((4, 2)))
    assert PanelResponse(table=path).method() != before


def test_regions_divide_the_mask():
    region = region_of((33, 32), 3)
    assert sorted(np.unique(region)) == list(range(9))
    assert min(np.bincount(region.ravel())) >= 10 * 11
