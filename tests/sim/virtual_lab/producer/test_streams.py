"""Streams through harvesters: discovery, triggers, statistics, two cameras, reopening."""

from __future__ import annotations

import threading
import time

import pytest

from sim.virtual_lab.producer.pattern import pattern_dn


def test_the_cameras_are_found_with_their_serial_numbers(make_consumer):
    assert make_consumer().serials == ["VLAB0001", "VLAB0002"]


def test_there_are_as_many_cameras_as_asked_for(make_consumer):
    assert make_consumer(LABCTL_PRODUCER_CAMERAS="5").serials[-1] == "VLAB0005"


def test_a_camera_that_is_open_is_in_use(make_consumer):
    from genicam import gentl

    consumer = make_consumer()
    consumer.open()
    with pytest.raises(gentl.ResourceInUseException):
        consumer.open()


def test_the_ports_of_the_host_have_nodes_too(camera):
    stream = camera.stream.node_map
    camera.start()
    camera.fetch_many(3)
    assert stream.StreamDeliveredFrameCount.value >= 3
    assert stream.StreamID.value == "VLAB0001-stream"
    assert camera.acquirer.device.node_map.DeviceSerialNumber.value == "VLAB0001"
    assert camera.acquirer.system.node_map.TLVendorName.value == "labctl"


def test_one_software_trigger_makes_one_frame(camera):
    camera.start(TriggerMode="On")
    assert camera.try_fetch(0.05) is None
    for index in range(20):
        camera.trigger()
        assert camera.fetch().id == index
    assert camera.try_fetch(0.05) is None
    assert camera.statistic("TriggersAccepted") == 20
    assert camera.statistic("TriggersMissed") == 0


def test_triggers_during_an_exposure_are_lost_and_counted(camera):
    camera.start(TriggerMode="On", ExposureTime=100_000)
    for _ in range(4):
        camera.trigger()
    assert camera.fetch().id == 0
    assert camera.try_fetch(0.15) is None
    assert camera.statistic("TriggersMissed") == 3


def test_a_trigger_to_a_line_without_cable_or_to_a_stopped_camera_does_nothing(camera):
    camera.trigger()
    camera.start(TriggerMode="On", TriggerSource="Line0")
    camera.trigger()
    assert camera.try_fetch(0.1) is None
    assert camera.statistic("TriggersMissed") == 1, "counted since AcquisitionStart"


def test_the_trigger_delay_comes_before_the_exposure(camera):
    camera.start(TriggerMode="On", TriggerDelay=50_000)
    triggered = time.monotonic_ns()
    camera.trigger()
    assert camera.fetch().timestamp_ns >= triggered + 50_000_000


def test_switching_the_trigger_off_lets_the_camera_run(camera):
    camera.start(TriggerMode="On")
    assert camera.try_fetch(0.03) is None
    camera.set(TriggerMode="Off")
    camera.fetch_many(3)


def test_without_free_buffers_frames_are_lost_and_counted_and_their_ids_are_used_up(camera):
    camera.acquirer.num_buffers = 3
    camera.start()
    time.sleep(0.2)
    frames = camera.fetch_many(6)
    camera.set(TriggerMode="On")
    while (last := camera.try_fetch(0.1)) is not None:
        frames.append(last)
    started, lost = camera.statistic("FramesStarted"), camera.statistic("Underrun")
    assert lost > 10
    assert len(frames) + lost == started
    assert frames[-1].id == started - 1, "every id is a frame or an underrun"
    assert camera.stream.num_underrun == lost
    assert camera.stream.num_delivered == len(frames)


def test_stop_does_not_wait_for_a_long_exposure(camera):
    camera.start(ExposureTime=10_000_000)
    time.sleep(0.05)
    begun = time.monotonic()
    camera.stop()
    assert time.monotonic() - begun < 1


def test_two_cameras_run_side_by_side(make_consumer):
    consumer = make_consumer()
    first, second = consumer.open("VLAB0001"), consumer.open("VLAB0002")
    first.start(PixelFormat="Mono8", AcquisitionFrameRate=100, ExposureTime=1000)
    second.start(PixelFormat="Mono12", Width=64, AcquisitionFrameRate=60, ExposureTime=1000)
    for index in range(20):
        one, two = first.fetch(), second.fetch()
        assert one.id == two.id == index
        assert (one.data.reshape(one.shape) == pattern_dn(one.shape, index) >> 4).all()
        assert (two.data.view("<u2").reshape(two.shape) == pattern_dn(two.shape, index)).all()


def test_a_camera_opens_and_closes_thirty_times(make_consumer):
    threads = threading.active_count()
    for _ in range(30):
        consumer = make_consumer()
        camera = consumer.open()
        camera.start(ExposureTime=100, AcquisitionFrameRate=1000)
        assert [frame.id for frame in camera.fetch_many(2)] == [0, 1]
        consumer.close()
    assert threading.active_count() == threads


def test_a_camera_opens_again_under_the_same_harvester(make_consumer):
    consumer = make_consumer()
    for _ in range(3):
        camera = consumer.open()
        camera.start(ExposureTime=100)
        camera.fetch()
        camera.stop()
        camera.acquirer.destroy()


def test_closing_in_the_middle_of_everything_leaves_a_camera_that_opens_again(make_consumer):
    for _ in range(3):
        consumer = make_consumer()
        consumer.open().start(ExposureTime=10, AcquisitionFrameRateEnable=False)
        time.sleep(0.02)
        consumer.close()
    assert make_consumer().open().nodes.ExposureTime.value == 10_000, "a new library begins anew"
