"""What every camera promises. See `labctl.devices.Camera`."""

from __future__ import annotations

import time

import numpy as np
import pytest

from labctl.devices import Camera, Device
from labctl.errors import BadInput, DeviceTimeout, HardwareError, InterlockError
from labctl.exposure import Exposure, Frames, FrameTag
from labctl.light_path import FETCH_MARGIN_S, RigDevices
from tests.conformance.conftest import Lit, Look, settable

LONGEST_S = 60.0
"""What `Exposure` allows at all."""

GAIN_DB = 6.0
"""Brighter by a factor of two."""


def middle(camera: Camera) -> Exposure:
    """A time well within the limits."""
    low, high = camera.exposure_limits_s
    return Exposure(exposure_s=min(max(0.01, low), high))


def take(camera: Camera, tag: FrameTag) -> Frames:
    camera.trigger(tag)
    return camera.fetch(middle(camera).exposure_s + FETCH_MARGIN_S)


def test_it_is_a_camera_and_says_who_it_is(camera: Camera) -> None:
    assert isinstance(camera, Device)
    assert isinstance(camera, Camera)
    assert camera.describe_device()["name"] == camera.name
    low, high = camera.exposure_limits_s
    assert 0 < low < high if settable(camera, "exposure") else 0 < low == high
    assert 0 < camera.saturation_dn < 2**16


def test_configure_returns_what_was_taken_and_the_frame_says_the_same(camera: Camera) -> None:
    wanted = middle(camera)
    if settable(camera, "exposure"):
        wanted = wanted.model_copy(update={"exposure_s": wanted.exposure_s * 1.0001234567})
    taken = camera.configure(wanted)
    assert taken.exposure_s == pytest.approx(wanted.exposure_s, rel=0.05)
    assert taken.gain_db == wanted.gain_db
    camera.arm(1)
    frame = take(camera, FrameTag(0))
    assert frame.exposure_s.tolist() == [taken.exposure_s]
    assert frame.gain_db.tolist() == [taken.gain_db]
    assert frame.saturation_dn == camera.saturation_dn


def test_what_was_taken_can_be_taken_again(camera: Camera) -> None:
    taken = camera.configure(middle(camera))
    assert camera.configure(taken) == taken


def test_the_limits_themselves_are_allowed(camera: Camera) -> None:
    for limit_s in camera.exposure_limits_s:
        taken = camera.configure(Exposure(exposure_s=limit_s))
        assert camera.exposure_limits_s[0] <= taken.exposure_s <= camera.exposure_limits_s[1]


def test_a_time_beyond_the_limits_is_refused_and_the_last_settings_stay(camera: Camera) -> None:
    low, high = camera.exposure_limits_s
    taken = camera.configure(middle(camera))
    wrong_s = [low / 2] + ([2 * high] if 2 * high <= LONGEST_S else [])
    for exposure_s in wrong_s:
        with pytest.raises(InterlockError, match=camera.name):
            camera.configure(Exposure(exposure_s=exposure_s))
    camera.arm(1)
    assert take(camera, FrameTag(0)).exposure_s.tolist() == [taken.exposure_s]


def test_a_region_larger_than_the_sensor_is_refused(camera: Camera) -> None:
    rows, columns = camera.shape
    for roi in ((rows + 1, columns), (rows, columns + 1)):
        with pytest.raises(InterlockError, match=camera.name):
            camera.configure(middle(camera).model_copy(update={"roi": roi}))


def test_the_region_decides_the_shape_of_the_frame(camera: Camera) -> None:
    rows, columns = camera.shape
    for roi in (None, (rows, columns), (rows // 2, columns), (rows // 2, columns // 4)):
        taken = camera.configure(middle(camera).model_copy(update={"roi": roi}))
        camera.arm(1)
        frame = take(camera, FrameTag(0))
        assert frame.pixels.shape == (1, 1, *(roi or camera.shape))
        assert frame.pixels.dtype == np.uint16
        assert taken.roi in (roi, frame.pixels.shape[2:])


def test_without_arm_there_is_no_trigger(camera: Camera) -> None:
    camera.configure(middle(camera))
    with pytest.raises(HardwareError, match=camera.name):
        camera.trigger(FrameTag(0))


def test_it_cannot_be_armed_for_nothing(camera: Camera) -> None:
    camera.configure(middle(camera))
    for n in (0, -1):
        with pytest.raises(BadInput, match=camera.name):
            camera.arm(n)


def test_fetch_with_nothing_to_fetch_ends_within_its_limit(camera: Camera, devices: RigDevices) -> None:
    camera.configure(middle(camera))
    camera.arm(1)
    for limit_s in (0.0, 0.2):
        begun_s, wall_s = devices.clock.now(), time.monotonic()
        with pytest.raises(DeviceTimeout, match=camera.name):
            camera.fetch(limit_s)
        assert devices.clock.now() - begun_s < limit_s + 3.0
        assert time.monotonic() - wall_s < limit_s + 3.0


def test_armed_for_n_it_gives_n_frames_with_their_tags_and_ids_in_order(camera: Camera) -> None:
    camera.configure(middle(camera))
    camera.arm(3)
    frames = [take(camera, FrameTag(exposure_id, attempt)) for exposure_id, attempt in ((42, 0), (7, 2), (2**40, 1))]
    assert [len(frame) for frame in frames] == [1, 1, 1]
    assert [int(frame.exposure_ids[0]) for frame in frames] == [42, 7, 2**40]
    assert [frame.attempt for frame in frames] == [0, 2, 1]
    assert np.diff([int(frame.frame_ids[0]) for frame in frames]).tolist() == [1, 1]
    for clock in ("camera_time_s", "host_time_s"):
        times = [float(getattr(frame, clock)[0]) for frame in frames]
        assert times == sorted(times)
        assert len(set(times)) == 3
    with pytest.raises(HardwareError, match=camera.name):
        camera.trigger(FrameTag(1))


def test_a_frame_that_is_not_ready_in_time_can_still_be_fetched(camera: Camera) -> None:
    low, high = camera.exposure_limits_s
    taken = camera.configure(Exposure(exposure_s=min(max(0.5, low), high)))
    camera.arm(1)
    camera.trigger(FrameTag(5))
    with pytest.raises(DeviceTimeout, match=camera.name):
        camera.fetch(taken.exposure_s / 10 if settable(camera, "exposure") else 0.0)
    assert camera.fetch(taken.exposure_s + FETCH_MARGIN_S).exposure_ids.tolist() == [5]


def test_disarm_is_fine_in_any_state_and_drops_what_was_not_fetched(camera: Camera) -> None:
    camera.disarm()
    camera.configure(middle(camera))
    camera.arm(2)
    camera.trigger(FrameTag(1))
    camera.disarm()
    camera.disarm()
    with pytest.raises(DeviceTimeout, match=camera.name):
        camera.fetch(0.1)
    with pytest.raises(HardwareError, match=camera.name):
        camera.trigger(FrameTag(2))
    camera.arm(1)
    assert take(camera, FrameTag(3)).exposure_ids.tolist() == [3]


def test_a_longer_exposure_is_brighter(lit: Lit, look: Look, camera: Camera) -> None:
    exposure = lit()
    times = [exposure.exposure_s / 4, exposure.exposure_s / 2, exposure.exposure_s]
    means = [look(Exposure(exposure_s=max(time_s, camera.exposure_limits_s[0]))).pixels.mean() for time_s in times]
    assert means[0] < means[1] < means[2]


def test_more_gain_is_brighter(lit: Lit, look: Look, camera: Camera) -> None:
    if not settable(camera, "gain") or camera.describe_device().get("gain_limit_db", GAIN_DB) < GAIN_DB:
        pytest.skip(f"this camera has no {GAIN_DB:g} dB of gain")
    dim = Exposure(exposure_s=lit().exposure_s / 4)
    amplified = look(dim.model_copy(update={"gain_db": GAIN_DB}))
    assert amplified.gain_db[0] == pytest.approx(GAIN_DB, abs=0.5)
    assert amplified.pixels.mean() > 1.3 * look(dim).pixels.mean()


def test_no_pixel_exceeds_saturation_and_too_much_light_reaches_it(lit: Lit, look: Look, camera: Camera) -> None:
    exposure = lit()
    assert look(exposure).saturated_fraction[0] < 0.05
    low, high = camera.exposure_limits_s
    over = look(Exposure(exposure_s=min(max(50 * exposure.exposure_s, low), high)))
    assert over.pixels.max() == camera.saturation_dn
    assert over.saturated_fraction[0] > 0.5


def test_safe_twice_and_close_twice_is_fine(camera: Camera) -> None:
    camera.configure(middle(camera))
    camera.arm(1)
    camera.trigger(FrameTag(0))
    camera.safe()
    with pytest.raises(HardwareError, match=camera.name):
        camera.trigger(FrameTag(1))
    for act in (camera.safe, camera.close, camera.close):
        act()
    with pytest.raises(HardwareError, match=camera.name):
        camera.configure(middle(camera))
    camera.open()
    camera.configure(middle(camera))
    camera.arm(1)
    assert len(take(camera, FrameTag(2))) == 1
