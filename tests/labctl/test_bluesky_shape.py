"""bluesky's plans drive labctl devices; without bluesky the adapters work all the same."""

from __future__ import annotations

import subprocess
import sys
import threading
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import event_model
import numpy as np
import pytest

import labctl
from labctl import bluesky_shape
from labctl.bluesky_shape import DeviceStatus, MovableDisplay, MovableQuantity, ReadableCamera
from labctl.errors import BadInput, DeviceTimeout, HardwareError, InterlockError
from labctl.exposure import Exposure
from labctl.light_path import RigDevices

EXPOSURE = Exposure(exposure_s=0.002, roi=(8, 8))


@pytest.fixture
def devices(configs: Path) -> Iterator[RigDevices]:
    with labctl.open_rig(configs / "rigs" / "sim.yaml", set={"world.noise": False}) as rig:
        yield rig.devices()


@pytest.fixture
def camera(devices: RigDevices) -> ReadableCamera:
    return ReadableCamera(devices.camera, EXPOSURE)


@pytest.fixture
def lamp(devices: RigDevices) -> MovableQuantity:
    return MovableQuantity(devices.instruments["lamp"], "power")


def run(plan: Any) -> list[tuple[str, dict[str, Any]]]:
    """Run `plan` in a RunEngine of its own; every document that it gave, checked against its schema."""
    from bluesky import RunEngine

    documents: list[tuple[str, dict[str, Any]]] = []
    engine = RunEngine({}, context_managers=[])
    engine.subscribe(lambda name, document: documents.append((name, document)))
    engine(plan)
    for name, document in documents:
        event_model.schema_validators[event_model.DocumentNames[name]].validate(document)
    return documents


def events(documents: list[tuple[str, dict[str, Any]]]) -> list[dict[str, Any]]:
    return [document["data"] for name, document in documents if name == "event"]


def open_mask(devices: RigDevices) -> None:
    devices.mask.show(np.full(devices.mask.shape, 255, dtype=np.uint8))
    devices.clock.sleep(1.0)


@pytest.mark.parametrize("protocols", [bluesky_shape, "bluesky.protocols"])
def test_the_adapters_have_the_shape_of_bluesky(protocols: Any, devices, camera, lamp) -> None:
    if isinstance(protocols, str):
        protocols = pytest.importorskip(protocols)
    display = MovableDisplay(devices.mask, devices.clock)
    for thing in (camera, display, lamp):
        assert isinstance(thing, protocols.Readable)
    for thing in (camera, display):
        assert isinstance(thing, protocols.Stageable)
    for thing in (display, lamp):
        assert isinstance(thing, protocols.Movable)
    assert isinstance(camera, protocols.Triggerable)
    assert not isinstance(lamp, protocols.Triggerable)
    assert isinstance(lamp.set(0.0), protocols.Status)
    if protocols is not bluesky_shape:
        for thing in (camera, display, lamp):
            assert isinstance(thing, protocols.HasHints)
            assert isinstance(thing, protocols.HasParent)
        for thing in (display, lamp):
            assert isinstance(thing, protocols.Checkable)


def test_a_scan_of_the_lamp_brightens_the_frames(devices, camera, lamp) -> None:
    plans = pytest.importorskip("bluesky.plans")
    open_mask(devices)
    documents = run(plans.scan([camera], lamp, 0.0, 1.0, 3))
    assert [name for name, _ in documents] == ["start", "descriptor", "event", "event", "event", "stop"]
    assert documents[-1][1]["exit_status"] == "success"
    data = events(documents)
    assert [row["lamp_power"] for row in data] == [0.0, 0.5, 1.0]
    dark, half, full = (row["camera_mean_dn"] for row in data)
    assert half - dark > 20
    assert full - dark == pytest.approx(2 * (half - dark), rel=0.05)
    assert [row["camera_exposure_id"] for row in data] == [0, 1, 2]
    assert all(row["camera_exposure_s"] == pytest.approx(0.002) for row in data)
    keys = documents[1][1]["data_keys"]
    assert keys["lamp_power"]["limits"]["control"] == {"low": 0.0, "high": 1.0}
    assert keys["camera_mean_dn"]["units"] == "DN"
    with pytest.raises(HardwareError):
        camera.trigger()


def test_counting_gives_numbered_frames_of_one_brightness(devices, lamp) -> None:
    plans = pytest.importorskip("bluesky.plans")
    open_mask(devices)
    lamp.set(0.5).wait(5.0)
    data = events(run(plans.count([ReadableCamera(devices.camera, EXPOSURE, frames_per_arm=3)], 3)))
    assert [row["camera_frame_id"] for row in data] == [0, 1, 2]
    assert len({row["camera_mean_dn"] for row in data}) == 1


def test_a_plan_moves_the_mask_and_the_camera_sees_it(devices, camera, lamp) -> None:
    stubs = pytest.importorskip("bluesky.plan_stubs")
    from bluesky.preprocessors import run_decorator, stage_decorator

    lamp.set(1.0).wait(5.0)
    display = MovableDisplay(devices.mask, devices.clock)
    closed = np.zeros(devices.mask.shape, dtype=np.uint8)

    @stage_decorator([camera, display])
    @run_decorator()
    def closed_open_closed() -> Iterator[Any]:
        for levels in (closed, closed + np.uint8(255), closed):
            yield from stubs.mv(display, levels)
            yield from stubs.trigger_and_read([camera, display])

    before, opened, after = events(run(closed_open_closed()))
    assert opened["camera_mean_dn"] > before["camera_mean_dn"] + 20
    assert after["camera_mean_dn"] == before["camera_mean_dn"]
    assert after["mask_picture"] == before["mask_picture"] != opened["mask_picture"]
    assert display.read()["mask_picture"]["value"] == "blank"


def test_a_scan_beyond_the_limits_of_the_lamp_is_foreseen_and_refused_at_the_limit(camera, lamp) -> None:
    plans = pytest.importorskip("bluesky.plans")
    from bluesky.simulators import check_limits

    with pytest.raises(InterlockError, match=r"lamp_power was asked for 1\.5, 0\.\.1"):
        check_limits(plans.scan([camera], lamp, 0.5, 1.5, 3))
    with pytest.raises(InterlockError, match=r"lamp_power was asked for 1\.5"):
        run(plans.scan([camera], lamp, 0.5, 1.5, 2))
    assert lamp.read()["lamp_power"]["value"] == 0.5
    with pytest.raises(HardwareError, match="not staged"):
        camera.trigger()


def test_an_exposure_beyond_the_limits_stops_the_plan_before_anything_moves(devices, lamp) -> None:
    plans = pytest.importorskip("bluesky.plans")
    camera = ReadableCamera(devices.camera, Exposure(exposure_s=30.0))
    lamp.set(0.25).wait(5.0)
    with pytest.raises(InterlockError, match="exposure_s is 30 s"):
        run(plans.scan([camera], lamp, 0.5, 1.0, 2))
    assert lamp.read()["lamp_power"]["value"] == 0.25


def test_it_works_without_bluesky(configs: Path) -> None:
    code = f"""
import sys
sys.modules["bluesky"] = None
import labctl
from labctl.bluesky_shape import MovableQuantity, ReadableCamera
from labctl.exposure import Exposure
with labctl.open_rig({str(configs / "rigs" / "sim.yaml")!r}) as rig:
    camera = ReadableCamera(rig.devices().camera, Exposure(exposure_s=0.002))
    MovableQuantity(rig.devices().instruments["lamp"], "power").set(0.5).wait(5.0)
    camera.stage()
    camera.trigger().wait(60.0)
    assert camera.read().keys() == camera.describe().keys()
    camera.unstage()
"""
    subprocess.run([sys.executable, "-c", code], check=True, timeout=120)


@pytest.mark.parametrize("value", [-0.1, 1.1, float("nan"), float("inf")])
def test_a_quantity_refuses_what_lies_beyond_its_limits(lamp, value: float) -> None:
    lamp.set(0.5).wait(5.0)
    for refuse in (lamp.check_value, lamp.set):
        with pytest.raises(InterlockError, match=r"0\.\.1 \(unit 1\) is allowed"):
            refuse(value)
    assert lamp.read()["lamp_power"]["value"] == 0.5


def test_bad_input_is_named(devices, camera) -> None:
    with pytest.raises(BadInput, match="lamp has no quantity 'colour'; it has power"):
        MovableQuantity(devices.instruments["lamp"], "colour")
    with pytest.raises(BadInput, match="frames_per_arm is 0"):
        ReadableCamera(devices.camera, EXPOSURE, frames_per_arm=0)
    with pytest.raises(BadInput, match=r"mask takes uint8 levels of shape \(128, 128\), got float64 \(2, 2\)"):
        MovableDisplay(devices.mask).set(np.zeros((2, 2)))
    with pytest.raises(HardwareError, match="camera has measured nothing yet"):
        camera.read()
    with pytest.raises(HardwareError, match="camera is not staged"):
        camera.trigger()


def test_a_status_tells_how_the_work_ended_and_keeps_the_order() -> None:
    gate, order = threading.Event(), []

    def fail() -> None:
        gate.wait(10.0)
        order.append("first")
        raise HardwareError("the shutter is stuck")

    first = DeviceStatus("shutter", fail)
    second = DeviceStatus("lamp", lambda: order.append("second"), after=first)
    first.add_callback(lambda status: order.append(status.success))
    with pytest.raises(DeviceTimeout, match=r"lamp has not ended after 0\.01 s"):
        second.wait(0.01)
    assert not first.done
    assert not first.success
    gate.set()
    second.wait(10.0)
    assert order.index("first") < order.index("second")
    assert (first.done, first.success, second.success, second.exception()) == (True, False, True, None)
    with pytest.raises(HardwareError, match="stuck"):
        first.wait(10.0)
    second.add_callback(lambda status: order.append("at once"))
    assert order[-1] == "at once"
    assert False in order
