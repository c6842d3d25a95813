"""Dark frames on the as-built bench: offsets, dark current, and a sensor that is cut off at 0."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest

from labctl.errors import BadInput, RunFailed
from protocols.calibrate.dark import Dark, signal_of
from tests.protocols.calibrate.one_bench import calibration_bench

NO_LIGHT = {"lamp": {"power": 0.0}}


def test_offsets_and_dark_current_are_those_of_the_sensor(tmp_path: Path) -> None:
    with calibration_bench(tmp_path, settings={"dark": Dark(darken=NO_LIGHT)}, world__seed=3) as here:
        lamp = here.rig.devices().instruments["lamp"]
        lamp.set_quantity("power", 0.7)
        found = here.measure("dark")
        assert lamp.read_quantity("power") == 0.7, "what was set for darkness is set back"
        offset = here.true_twin.sensor.offset_dn(here.frame_shape).numpy()
        rate = float(here.true_twin.sensor.gain_dn_per_e)  # 1 electron per second
    pulls = (found.arrays["dark_dn"] - offset) / found.arrays["dark_dn_error"]
    assert 0.6 < np.mean(np.abs(pulls) < 1) < 0.76
    assert abs(found.value("black_level_dn") - offset.mean()) < 4 * found.error("black_level_dn")
    assert abs(found.value("dark_current_dn_per_s") - rate) < 3 * found.error("dark_current_dn_per_s") < rate
    smooth = found.arrays["dark_rate_dn_per_s"]
    assert smooth.std() < 0.3, "single pixels differ by noise alone, and the map does not keep it"


def test_light_that_is_left_is_not_called_dark_current(tmp_path: Path) -> None:
    with calibration_bench(tmp_path, world__contrast=30) as here:
        found = here.measure("dark")
    assert "dark_current_dn_per_s" not in found.record.values
    assert "dark_rate_dn_per_s" not in found.arrays
    assert found.value("residual_light_dn_per_s") > 50


def test_signal_is_told_from_offset_and_dark_current(tmp_path: Path) -> None:
    with calibration_bench(tmp_path, settings={"dark": Dark(darken=NO_LIGHT)}, world__noise=False) as here:
        found = here.measure("dark")
    frame = found.arrays["dark_dn"] + 2.0 * found.arrays.get("dark_rate_dn_per_s", 0.0) + 5.0
    assert signal_of(frame, 2.0, found) == pytest.approx(5.0)


def test_a_sensor_clipped_at_zero_is_refused_with_its_picture(tmp_path: Path) -> None:
    dark = {"twin__sensor__black_level_dn": 0, "world__dark_offset": 0.0}
    with calibration_bench(tmp_path, **dark) as here, pytest.raises(RunFailed, match="raise the black level") as error:
        here.measure("dark")
    assert (tmp_path / "refused" / "dark.png").stat().st_size > 5000
    assert "refused/dark.png" in str(error.value)


def test_a_bright_dark_frame_is_refused(tmp_path: Path) -> None:
    with (
        calibration_bench(tmp_path, twin__sensor__black_level_dn=3000) as here,
        pytest.raises(RunFailed, match="bright"),
    ):
        here.measure("dark")


def test_darkness_by_an_instrument_that_is_not_there_is_bad_input(tmp_path: Path) -> None:
    settings = {"dark": Dark(darken={"shutter": {"open": 0.0}})}
    with calibration_bench(tmp_path, settings=settings) as here, pytest.raises(BadInput, match=r"no shutter\.open"):
        here.measure("dark")
