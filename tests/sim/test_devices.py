from __future__ import annotations

import json

import numpy as np
import pytest

from labctl.devices import Camera, Display, Instrument, OpenContext
from labctl.errors import BadInput, DeviceTimeout, HardwareError, InterlockError
from labctl.exposure import Exposure, FrameTag
from sim.devices import (
    SimulatedCameraSettings,
    SimulatedLampSettings,
    SimulatedMonitorSettings,
    SimulatedPanelSettings,
)
from sim.world import NominalWorldSettings
from tests.sim.conftest import FRAME, open_devices

PICTURE = np.full((256, 256), 200, dtype=np.uint8)


@pytest.fixture
def devices(make_world):
    return open_devices(make_world())


@pytest.fixture
def camera(devices):
    devices.camera.configure(Exposure(exposure_s=0.01, roi=FRAME))
    return devices.camera


def lamp_in(world, **settings):
    return SimulatedLampSettings(**settings).make(OpenContext("lamp", "bench", world))


def test_simulated_devices_have_the_interfaces_of_all_devices(devices, make_world):
    assert isinstance(devices.mask, Display)
    assert isinstance(devices.scene, Display)
    assert isinstance(devices.camera, Camera)
    assert isinstance(lamp_in(make_world()), Instrument)
    for device in (devices.mask, devices.scene, devices.camera, lamp_in(make_world())):
        assert json.loads(json.dumps(device.describe_device()))["name"] == device.name


@pytest.mark.parametrize(
    "settings",
    [SimulatedPanelSettings(), SimulatedMonitorSettings(), SimulatedCameraSettings(), SimulatedLampSettings()],
)
def test_a_simulated_device_without_a_world_is_refused(settings):
    with pytest.raises(BadInput, match=f"dev: {settings.type} needs a simulated world"):
        settings.make(OpenContext("dev", "bench"))


def test_a_panel_settles_by_default_in_ten_response_times(devices):
    assert devices.mask.settle_s == pytest.approx(0.1)
    assert devices.scene.settle_s == pytest.approx(0.05)


def test_a_panel_goes_exponentially_from_picture_to_picture(devices):
    devices.mask.show(PICTURE)
    devices.clock.sleep(1.0)
    devices.mask.show(PICTURE * 0)
    devices.clock.sleep(0.01)
    devices.mask.show(PICTURE)
    shown = devices.mask.shown()
    assert shown.before == pytest.approx(np.full((256, 256), 200 / np.e))
    devices.clock.sleep(0.08)
    assert devices.mask.shown().before is None


@pytest.mark.parametrize("wrong", [PICTURE.astype(float), PICTURE[:, :5], PICTURE[None], [[0]]])
def test_a_display_refuses_other_shapes_and_types(devices, wrong):
    with pytest.raises(BadInput, match=r"mask takes uint8 levels of shape \(256, 256\), got"):
        devices.mask.show(wrong)


def test_a_closed_display_shows_nothing_and_still_can_be_made_safe(devices):
    devices.mask.show(PICTURE)
    devices.mask.close()
    devices.mask.close()
    with pytest.raises(HardwareError, match="mask is not open"):
        devices.mask.show(PICTURE)
    devices.mask.safe()
    devices.clock.sleep(1.0)
    assert devices.mask.shown() is None


def test_a_played_sequence_reports_its_dwell_in_virtual_time(devices):
    start_s = devices.clock.now()
    playback = devices.mask.play(np.stack([PICTURE, PICTURE // 2, PICTURE // 4]), 0.02)
    dwell_s = playback.wait(1.0)
    assert dwell_s == pytest.approx([0.02] * 3)
    assert devices.clock.now() - start_s == pytest.approx(0.06)
    assert np.array_equal(devices.mask.shown().levels, PICTURE // 4)
    with pytest.raises(DeviceTimeout, match="mask plays for 2 s, the limit is 1 s"):
        devices.mask.play(PICTURE[None], 2.0).wait(1.0)


def test_the_camera_rounds_exposures_to_microseconds_and_says_so(devices):
    taken = devices.camera.configure(Exposure(exposure_s=0.0123456789, gain_db=3.0))
    assert taken.exposure_s == pytest.approx(0.012346, abs=1e-12)
    assert taken.gain_db == 3.0
    assert taken.roi == (128, 128)


@pytest.mark.parametrize(
    ("exposure", "problem"),
    [
        (Exposure(exposure_s=20), r"exposure_s is 20 s, 1e-05\.\.10 s is allowed"),
        (Exposure(exposure_s=1e-6), r"exposure_s is 1e-06 s"),
        (Exposure(exposure_s=1, roi=(129, 8)), r"roi is 129x8, the sensor has 128x128"),
    ],
)
def test_the_camera_refuses_what_lies_beyond_its_limits(devices, exposure, problem):
    with pytest.raises(InterlockError, match=problem):
        devices.camera.configure(exposure)


def test_the_camera_refuses_gain_beyond_its_limit(make_world):
    camera = SimulatedCameraSettings(gain_limit_db=24).make(OpenContext("camera", "bench", make_world()))
    camera.open()
    with pytest.raises(InterlockError, match="gain_db is 30 dB, at most 24 dB"):
        camera.configure(Exposure(exposure_s=1, gain_db=30))


def test_a_camera_gives_frames_only_when_armed_and_triggered(camera):
    with pytest.raises(HardwareError, match="camera is not armed"):
        camera.trigger(FrameTag(0))
    camera.arm(1)
    with pytest.raises(DeviceTimeout, match=r"camera: no frame within 0\.5 s"):
        camera.fetch(0.5)
    camera.trigger(FrameTag(0))
    with pytest.raises(HardwareError, match="camera is not armed for another frame"):
        camera.trigger(FrameTag(1))
    assert len(camera.fetch(1.0)) == 1
    camera.arm(1)
    camera.trigger(FrameTag(1))
    camera.disarm()
    with pytest.raises(DeviceTimeout):
        camera.fetch(1.0)


def test_a_camera_that_was_not_configured_cannot_be_armed(make_world):
    camera = SimulatedCameraSettings().make(OpenContext("camera", "bench", make_world()))
    camera.open()
    with pytest.raises(HardwareError, match="camera is not configured"):
        camera.arm(1)


def test_frames_carry_tag_number_and_virtual_time(camera, devices):
    camera.arm(2)
    start_s = devices.clock.now()
    for exposure_id in (42, 7):
        camera.trigger(FrameTag(exposure_id, attempt=3))
        camera.finish_exposures()
    frames = camera.fetch_all()
    assert frames.exposure_ids.tolist() == [42, 7]
    assert frames.frame_ids.tolist() == [0, 1]
    assert frames.attempt == 3
    assert frames.camera_time_s == pytest.approx([start_s, start_s + 0.01])
    assert frames.host_time_s == pytest.approx([start_s + 0.01, start_s + 0.02])
    assert frames.saturation_dn == 1023
    camera.arm(1)
    camera.trigger(FrameTag(1))
    assert camera.fetch(1.0).frame_ids.tolist() == [0]


def test_a_frame_that_takes_longer_than_the_limit_times_out_and_can_still_be_fetched(devices):
    devices.camera.configure(Exposure(exposure_s=2.0, roi=FRAME))
    devices.camera.arm(1)
    devices.camera.trigger(FrameTag(0))
    with pytest.raises(DeviceTimeout, match=r"needs another 2 s, the limit was 0\.5 s"):
        devices.camera.fetch(0.5)
    assert len(devices.camera.fetch(2.0)) == 1


def test_a_lamp_stays_on_when_the_program_dies_and_is_found_so(make_world):
    lamp = lamp_in(make_world())
    lamp.open()
    assert lamp.set_quantity("power", 0.7) == 0.7
    survivor = lamp_in(make_world())
    survivor.open()
    assert survivor.found_power == 0.7
    assert survivor.read_quantity("power") == 0.0


def test_a_lamp_keeps_its_limits_and_its_names(make_world):
    lamp = lamp_in(make_world(), power_limit=0.5)
    lamp.open()
    with pytest.raises(InterlockError, match=r"power is 0\.6, 0\.\.0\.5 is allowed"):
        lamp.set_quantity("power", 0.6)
    with pytest.raises(BadInput, match="lamp has no quantity 'colour'; it has power"):
        lamp.read_quantity("colour")
    lamp.close()
    with pytest.raises(HardwareError, match="lamp is not open"):
        lamp.read_quantity("power")


def test_a_damaged_lamp_state_is_named(make_world):
    lamp = lamp_in(make_world())
    lamp.open()
    lamp.state_file.write_text("{")
    with pytest.raises(HardwareError, match=r"lamp: cannot read .*lamp-bench-lamp\.json"):
        lamp.read_quantity("power")


def test_a_lamp_lights_the_live_scene_and_safe_turns_it_dark(make_world):
    world = make_world(NominalWorldSettings(noise=False, live_scene=0.8))
    lamp, devices = lamp_in(world), open_devices(world)
    lamp.open()
    world.clock.sleep(1.0)
    devices.mask.show(np.full((256, 256), 255, dtype=np.uint8))
    world.clock.sleep(1.0)
    devices.camera.configure(Exposure(exposure_s=5e-4, roi=FRAME))

    def brightness() -> float:
        devices.camera.arm(1)
        devices.camera.trigger(FrameTag(0))
        return float(devices.camera.fetch(1.0).pixels.mean())

    lamp.set_quantity("power", 1.0)
    full = brightness()
    lamp.set_quantity("power", 0.5)
    assert brightness() == pytest.approx(full / 2, rel=0.01)
    lamp.safe()
    assert brightness() == 0 < full
