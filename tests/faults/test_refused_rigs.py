"""Rig files and computers with which nothing can be exposed: said when the rig is opened, or before the exposure."""

from __future__ import annotations

import re
import shutil
from collections.abc import Callable, Mapping
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from labctl.errors import BadInput, HardwareError, InterlockError, LabctlError
from labctl.exposure import Exposure, still_plan
from tests.faults.captures import FaultyLab

LIMIT_S = 25.0

ALONE: Mapping[str, Mapping[str, Any]] = {
    "camera": {"mask": None, "scene": None, "instruments": {}, "safe_order": ["camera"]},
    "mask": {"camera": None, "scene": None, "instruments": {}, "safe_order": ["mask"]},
}
"""Rigs of one device, which open faster."""

Refused = Callable[..., LabctlError]


@pytest.fixture
def refused(faulty: FaultyLab, timed: Callable[[], float]) -> Refused:
    """Opens the rig with these changes; it must not open, and say `pattern`. Only one device where only that counts."""

    def refuse(fault: str, injected: str, pattern: str, **changes: Any) -> LabctlError:
        device = next(iter(changes)).partition("__")[0] if changes else ""
        alone = ALONE.get(device, {})
        with pytest.raises(LabctlError, match=pattern) as error:
            faulty.open(**{**alone, **changes})
        assert timed() < LIMIT_S
        faulty.refused(fault, injected, error.value, timed())
        return error.value

    return refuse


def test_a_producer_file_that_is_missing_is_named(refused: Refused, tmp_path: Path) -> None:
    where = tmp_path / "missing.cti"
    pattern = rf"camera: the producer {re.escape(str(where))} is not there; install it, or correct `producer`"
    error = refused("missing producer file", "`camera.producer` names no file", pattern, camera__producer=str(where))
    assert isinstance(error, HardwareError)


def test_a_producer_that_is_no_library_is_named(refused: Refused, tmp_path: Path) -> None:
    broken = tmp_path / "broken.cti"
    broken.write_bytes(b"\x7fELF, or so it seems")
    pattern = r"the producer .*broken\.cti cannot be used: .*; reinstall it"
    refused("broken producer file", "20 bytes of rubbish as `camera.producer`", pattern, camera__producer=str(broken))


def test_half_a_producer_file_is_named(refused: Refused, faulty: FaultyLab, tmp_path: Path) -> None:
    whole = producer_of(faulty).read_bytes()
    (tmp_path / "half.cti").write_bytes(whole[: len(whole) // 2])
    pattern = r"the producer .*half\.cti (cannot be used: .*|brings the camera's process down .*); reinstall it"
    refused("half a producer file", "its first half as `camera.producer`", pattern, camera__producer=str(tmp_path))


def test_no_producer_anywhere_says_where_it_was_looked_for(refused: Refused, tmp_path: Path) -> None:
    (tmp_path / "empty").mkdir()
    pattern = r"the folder .*empty holds no producer \(\.cti\); install one, or correct `producer`"
    refused("no producer", "`camera.producer` names an empty folder", pattern, camera__producer=str(tmp_path / "empty"))


def test_no_camera_says_what_to_check(refused: Refused, faulty: FaultyLab) -> None:
    for serial in ("VLAB0001", "VLAB0002"):
        faulty.lab.fault(serial, "FaultLost", 1)
    pattern = "the producer finds no camera; check cable, power and network"
    refused("no camera", "FaultLost 1 for all cameras in the producer's fault file", pattern)


def test_two_cameras_with_one_id_are_listed(refused: Refused, faulty: FaultyLab, tmp_path: Path) -> None:
    for name in ("one.cti", "other.cti"):
        shutil.copy(producer_of(faulty), tmp_path / name)
    pattern = r"2 cameras have serial VLAB0001: .*VLAB0001.*VLAB0001.*; add .*`index`"
    refused("two cameras with one id", "two producers, each with VLAB0001", pattern, camera__producer=str(tmp_path))


def test_several_cameras_that_fit_are_listed(refused: Refused) -> None:
    pattern = r"there are 2 cameras: .*VLAB0001.*VLAB0002.*; add `serial` or `index`"
    refused("several cameras fit", "no `camera.serial` in the rig file", pattern, camera__serial=None)


def test_a_camera_that_is_not_there_is_answered_with_those_that_are(refused: Refused) -> None:
    pattern = r"no camera has serial VLAB0009; there are .*VLAB0001.*VLAB0002"
    refused("no such camera", "`camera.serial` of none", pattern, camera__serial="VLAB0009")


def test_a_feature_that_is_absent_is_named(refused: Refused) -> None:
    changes = {"camera__features": {"AcquisitionFrameRat": 10.0}}
    error = refused("feature absent", "`camera.features: {AcquisitionFrameRat: 10}`", "AcquisitionFrameRat", **changes)
    assert "AcquisitionFrameRate" in str(error), "what there is instead"


def test_a_feature_out_of_range_is_answered_with_its_limits(refused: Refused) -> None:
    changes = {"camera__features": {"AcquisitionFrameRate": 1e9}}
    pattern = r"the feature AcquisitionFrameRate is 1000000000; 0\.1\.\.10000 Hz is allowed"
    refused("feature out of range", "`camera.features: {AcquisitionFrameRate: 1e9}`", pattern, **changes)


def test_a_pixel_format_that_the_camera_does_not_have_is_answered_with_those_it_has(refused: Refused) -> None:
    pattern = r"Mono14.*Mono12"
    refused("format not supported", "`camera.pixel_format: Mono14`", pattern, camera__pixel_format="Mono14")


def test_a_monitor_index_out_of_range_is_answered_with_those_that_are_there(refused: Refused) -> None:
    pattern = r"mask: there is no monitor 7; there are: 0 \(DUMMY0, .*1 \(DUMMY1, .*set `monitor` to one of them"
    refused("monitor index out of range", "`mask.monitor: 7`", pattern, mask__monitor=7)


def test_a_monitor_of_another_size_than_the_slm_is_refused(refused: Refused) -> None:
    pattern = r"has 480 rows and 640 columns, the rig file says shape \[1080, 1920\]; set its mode with xrandr"
    refused("panel of another size", "`mask.shape: [1080, 1920]`", pattern, mask__shape=[1080, 1920])


def test_no_display_server_is_named(refused: Refused) -> None:
    pattern = r"mask: the display server :4711 cannot be reached"
    refused("no display server", '`mask.display: ":4711"`', pattern, mask__display=":4711")


def test_an_instrument_that_refuses_the_connection_is_named_and_the_rig_opens_once_it_is_on(
    refused: Refused, faulty: FaultyLab
) -> None:
    faulty.lab.ask_instruments("lamp", fault="refuse")
    pattern = r"lamp: TCPIP.*check power, cable and address"
    refused("instrument refuses the connection", "its port is closed (instruments control: refuse)", pattern)
    faulty.lab.ask_instruments("lamp", fault="none")
    with faulty.open() as rig:
        assert rig.devices().instruments["lamp"].set_quantity("power", 0.5) == 0.5


def test_the_wrong_instrument_is_named(refused: Refused) -> None:
    pattern = r"lamp: 'labctl,Virtual shutter.*' answers at .*correct `resource`"
    swapped = {
        "instruments__lamp__resource": "$VIRTUAL_SHUTTER_HISLIP",
        "instruments__shutter__resource": "$VIRTUAL_LAMP",
    }
    refused("another instrument answers", "`lamp.resource` of the shutter", pattern, **swapped)


def test_levels_of_the_wrong_type_or_size_never_reach_a_panel(faulty: FaultyLab, timed: Callable[[], float]) -> None:
    with faulty.open() as rig:
        mask = rig.devices().mask
        for levels in (
            np.zeros(mask.shape, dtype=np.float32),
            np.zeros(mask.shape, dtype=bool),
            np.zeros(mask.shape[::-1], dtype=np.uint8),
            np.zeros((*mask.shape, 3), dtype=np.uint8),
        ):
            with pytest.raises(BadInput, match=r"mask takes uint8 levels of shape \(480, 640\), got ") as error:
                mask.show(levels)
        faulty.refused("wrong dtype or size", "bool, float, transposed and RGB levels", error.value, timed())


def test_masks_and_scenes_of_the_wrong_size_are_refused_before_anything_moves(
    faulty: FaultyLab, timed: Callable[[], float]
) -> None:
    with faulty.open() as rig:
        plan = still_plan(np.ones((1, 1, 40, 63)), np.ones((32, 32)), Exposure(exposure_s=1e-3), exposure_ids=[0])
        with pytest.raises(BadInput) as error:
            rig.expose(plan)
        faulty.refused("scene of the wrong size", "40x63 pixels into a plan", error.value, timed())


def test_an_exposure_out_of_range_is_answered_with_the_limits(faulty: FaultyLab, timed: Callable[[], float]) -> None:
    with faulty.open() as rig:
        plan = still_plan("live", np.ones((32, 32)), Exposure(exposure_s=59.0), exposure_ids=[0])
        with pytest.raises(InterlockError, match=r"59.*10") as error:
            rig.expose(plan)
        faulty.refused("exposure out of range", "59 s into a plan", error.value, timed())


def producer_of(faulty: FaultyLab) -> Path:
    (found,) = Path(faulty.lab.environment["GENICAM_GENTL64_PATH"]).glob("*.cti")
    return found
