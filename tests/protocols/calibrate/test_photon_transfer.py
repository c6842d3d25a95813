"""Photon transfer on the as-built bench, and ladders that do not allow it."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import numpy as np
import pytest

from labctl.errors import RunFailed
from labctl.rig import Rig
from protocols.calibrate.photon_transfer import PhotonTransfer
from tests.protocols.calibrate.one_bench import calibration_bench

OTHER_SENSOR = {"world__gain_error": 0.08, "world__read_noise_e": 5.0, "world__seed": 4}


def brighten(rig: Rig, monkeypatch: pytest.MonkeyPatch, change: float, frames: int) -> None:
    """Let the light change by this share over so many frames."""
    world: Any = rig._world
    develop, steady, taken = world._frame, float(world._twin.photons_per_s), [0]

    def drifting(shot: Any) -> Any:
        taken[0] += 1
        world._twin.photons_per_s.fill_(steady * (1 + change * taken[0] / frames))
        return develop(shot)

    monkeypatch.setattr(world, "_frame", drifting)


def test_a_sensor_that_is_not_what_the_rig_file_says_is_measured(tmp_path: Path) -> None:
    with calibration_bench(tmp_path, **OTHER_SENSOR) as here:
        found = here.measure("photon_transfer")
        sensor = here.true_twin.sensor
        gain, pixel_offset = float(sensor.gain_dn_per_e), sensor.offset_dn(here.frame_shape).numpy()
        believed = here.rig.spec.twin.sensor.gain_dn_per_e
    assert gain == pytest.approx(1.08 * believed)
    for name, true in (("gain_dn_per_e", gain), ("gain_e_per_dn", 1 / gain), ("read_noise_e", 5.0)):
        assert abs(found.value(name) - true) < 3 * found.error(name), name
    assert found.error("gain_dn_per_e") < 0.01 * gain
    assert found.error("read_noise_e") < 0.03 * 5.0
    assert found.value("dsnu_dn") == pytest.approx(pixel_offset.std(), rel=0.01)
    assert found.value("dsnu_columns_dn") == pytest.approx(pixel_offset[0].std(ddof=1), rel=0.02)
    assert found.value("prnu") == pytest.approx(0.01, rel=0.15)
    assert found.value("linearity_error") < 5e-4
    assert found.value("full_well_e") == pytest.approx((4095 - pixel_offset.mean()) / gain, rel=0.02)
    assert found.record.warnings == ()
    assert found.raw["ladder"].dtype == np.uint16
    assert len(found.raw["ladder"]) == len(found.raw["ladder.exposure_s"]) == 2 * 4 * 12
    PhotonTransfer().draw(found).savefig(tmp_path / "page.png")


def test_a_ladder_of_saturated_frames_is_refused(tmp_path: Path) -> None:
    ladder = PhotonTransfer(exposures_s=(1e-4, 2e-3, 4e-3, 8e-3, 1.6e-2, 3.2e-2))
    with (
        calibration_bench(tmp_path, settings={"photon_transfer": ladder}) as here,
        pytest.raises(RunFailed, match=r"5 of 6 rungs .* saturated, 1 are left, at least 5 .* dim the light"),
    ):
        here.measure("photon_transfer")
    assert (tmp_path / "refused" / "photon_transfer.png").stat().st_size > 5000


def test_empty_frames_are_refused(tmp_path: Path) -> None:
    with (
        calibration_bench(tmp_path, twin__light__photons_per_s=1e-6) as here,
        pytest.raises(RunFailed, match=r"frames are empty.*look at the lamp"),
    ):
        here.measure("photon_transfer")
    assert (tmp_path / "refused" / "photon_transfer.png").exists()


def test_a_lamp_that_drifts_is_refused_by_how_much(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    with calibration_bench(tmp_path) as here:
        here.measure("dark")
        brighten(here.rig, monkeypatch, -0.10, 110)
        with pytest.raises(
            RunFailed, match=r"the light drifts: -(8|9|10)\.\d% .* 2% is allowed; let the lamp"
        ) as error:
            here.measure("photon_transfer")
    assert "photon_transfer.png" in str(error.value)


def test_a_small_drift_is_told_and_does_not_bend_the_sensor(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    with calibration_bench(tmp_path) as here:
        here.measure("dark")
        brighten(here.rig, monkeypatch, 0.015, 110)
        found = here.measure("photon_transfer")
    assert any("light changed by +1." in warning for warning in found.record.warnings)
    assert found.value("light_drift") == pytest.approx(0.013, abs=0.003)
    assert found.value("linearity_error") < 6e-4, "going up and down again takes it off"


def test_a_camera_whose_noise_does_not_grow_has_no_gain(tmp_path: Path) -> None:
    with (
        calibration_bench(tmp_path, world__noise=False) as here,
        pytest.raises(RunFailed, match="does not grow"),
    ):
        here.measure("photon_transfer")
