"""What a camera tells of itself, and what the rig file adds to it: a gain is never taken for dB unless it says so."""

from __future__ import annotations

from typing import Any

import pytest

from drivers.genicam.sensor_settings import Sensor, sensor_of
from drivers.genicam.settings import GenicamSettings
from labctl.errors import BadInput, InterlockError
from labctl.exposure import Exposure

AXIS = {"low": 2, "high": 64, "step": 2, "offset_step": 2}


def sensor_with(gain: dict[str, Any], **settings: object) -> Sensor:
    told = {
        "axes": [AXIS, AXIS], "formats": ["Mono12"],
        "exposure": {"name": "ExposureTime", "low": 10.0, "high": 1e6, "unit": "us"}, "gain": gain,
    }  # fmt: skip
    return sensor_of("camera", told, GenicamSettings.model_validate(settings))


def gain_feature(unit: str, low: float = 0.0, high: float = 24.0) -> dict[str, Any]:
    return {"name": "Gain", "low": low, "high": high, "unit": unit}


@pytest.mark.parametrize("unit", ["dB", "DB", " db"])
def test_a_gain_in_db_is_set_as_it_is(unit: str) -> None:
    gain = sensor_with(gain_feature(unit, low=-3.0)).gain
    assert gain is not None
    assert (gain.limit_db, gain.to_camera(6.0), gain.to_db(6.0)) == (24.0, 6.0, 6.0)


@pytest.mark.parametrize(("unit", "said"), [("", "an unnamed unit"), ("x", "'x'")])
def test_a_gain_that_may_be_a_factor_stays_at_its_smallest(unit: str, said: str) -> None:
    sensor = sensor_with(gain_feature(unit, low=1.0, high=8.0))
    assert sensor.gain is not None
    assert (sensor.gain.limit_db, sensor.gain.to_camera(0.0), sensor.gain.to_db(1.0)) == (0.0, 1.0, 0.0)
    with pytest.raises(InterlockError, match=f"at most 0 dB is allowed; its gain counts in {said}: .*`gain_step_db`"):
        sensor.check("camera", Exposure(exposure_s=0.01, gain_db=6.0))


def test_the_rig_file_says_what_a_unit_of_gain_is_worth() -> None:
    gain = sensor_with(gain_feature("", high=240.0), gain_step_db=0.1).gain
    assert gain is not None
    assert gain.limit_db == 24
    assert gain.to_camera(6.0) == pytest.approx(60)


def test_a_step_for_a_gain_in_db_is_a_contradiction() -> None:
    with pytest.raises(BadInput, match="camera: the camera counts its gain in dB by itself; remove `gain_step_db`"):
        sensor_with(gain_feature("dB"), gain_step_db=0.1)


@pytest.mark.parametrize(
    ("name", "why"),
    [
        ("GainAuto", "kept off by the driver, for it changes frames"),
        ("LUTEnable", "kept off by the driver"),
        ("ChunkModeActive", "reads from chunks how a frame was exposed"),
        ("ChunkSelector", "reads from chunks"),
        ("AcquisitionMode", "set by the driver"),
        ("ExposureTime", "set by the exposure"),
        ("ExposureTimeRaw", "set by the exposure"),
        ("OffsetX", "set by the region of the exposure"),
    ],
)
def test_features_that_the_driver_needs_are_refused_in_the_rig_file(name: str, why: str) -> None:
    with pytest.raises(BadInput, match=f"the feature {name} is .*{why}.*leave it out"):
        GenicamSettings(features={"BinningHorizontal": 2, name: 0})
