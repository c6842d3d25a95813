"""The link between camera and bench: whose pixels arrive, and what happens when the bench is late, wrong or dead."""

from __future__ import annotations

import time

import numpy as np
import pytest

WIDTH, HEIGHT = 40, 24


def bench_levels(frame_id: int, added: int = 64) -> np.ndarray:
    y, x = np.mgrid[:HEIGHT, :WIDTH]
    return (7 * x + 11 * y + frame_id + added) % 4096


@pytest.fixture
def camera(make_consumer, bench):
    grabber = make_consumer(LABCTL_PRODUCER_SENSOR="", **bench.variables).open()
    grabber.set(PixelFormat="Mono12", ExposureTime=1000, TriggerMode="On")
    return grabber


def shoot(camera, timeout_s=5.0):
    camera.trigger()
    return camera.try_fetch(timeout_s)


def levels(frame):
    return frame.data.view("<u2").reshape(frame.shape)


def test_the_sensor_and_its_pixels_are_the_bench_s(camera):
    camera.start()
    for index in range(4):
        frame = shoot(camera)
        assert frame.shape == (HEIGHT, WIDTH)
        np.testing.assert_array_equal(levels(frame), bench_levels(index))


def test_a_region_and_a_format_are_cut_by_the_camera(camera):
    camera.start(PixelFormat="Mono8", Width=16, OffsetX=8, Height=10, OffsetY=6)
    frame = shoot(camera)
    np.testing.assert_array_equal(frame.data.reshape(frame.shape), bench_levels(0)[6:16, 8:24] >> 4)


def test_the_bench_learns_exposure_gain_and_black_level(camera, bench):
    camera.start(ExposureTime=2500, Gain=12.3, BlackLevel=100)
    frame = shoot(camera)
    assert bench.tell("last") == f"0 0 {frame.timestamp_ns} 2500000 12.3 100 0"
    np.testing.assert_array_equal(levels(frame), bench_levels(0, 112))


def test_levels_beyond_twelve_bits_are_clipped(camera, bench):
    camera.start()
    bench.tell("bright")
    assert (levels(shoot(camera)) == 4095).all()


def test_a_larger_sensor_is_dark_right_and_below(make_consumer, bench):
    camera = make_consumer(LABCTL_PRODUCER_SENSOR="64x32", **bench.variables).open()
    camera.start(PixelFormat="Mono12", TriggerMode="On")
    seen = levels(shoot(camera))
    padded = np.zeros((32, 64), dtype=int)
    padded[:HEIGHT, :WIDTH] = bench_levels(0)
    np.testing.assert_array_equal(seen, padded)


@pytest.mark.parametrize("word", ["refuse", "astray"])
def test_a_frame_that_the_bench_fails_is_incomplete_and_the_next_is_right(camera, bench, word):
    camera.start()
    bench.tell(word)
    assert shoot(camera, 0.3) is None
    assert camera.incomplete == 1
    assert camera.statistic("BenchFailures") == 1
    np.testing.assert_array_equal(levels(shoot(camera)), bench_levels(1))


def test_an_answer_later_than_two_seconds_is_never_taken_for_another_frame(camera, bench):
    camera.start()
    bench.tell("late 2.3")
    begun = time.monotonic()
    assert shoot(camera, 2.2) is None
    assert camera.incomplete == 1
    assert 2 <= time.monotonic() - begun < 3
    for index in range(1, 4):
        np.testing.assert_array_equal(levels(shoot(camera)), bench_levels(index))
        time.sleep(0.1)


def test_stop_does_not_wait_for_a_silent_bench(camera, bench):
    camera.start()
    bench.tell("silent")
    camera.trigger()
    time.sleep(0.1)
    begun = time.monotonic()
    camera.stop()
    assert time.monotonic() - begun < 0.5
    camera.start()
    np.testing.assert_array_equal(levels(shoot(camera)), bench_levels(0))


def test_the_answer_to_an_exposure_that_was_stopped_is_never_taken_for_another_frame(camera):
    camera.start(ExposureTime=200_000, Gain=20)
    camera.trigger()
    time.sleep(0.05)
    camera.stop()
    camera.start(ExposureTime=1000, Gain=0)
    np.testing.assert_array_equal(levels(shoot(camera)), bench_levels(0))
    time.sleep(0.3)
    np.testing.assert_array_equal(levels(shoot(camera)), bench_levels(1))


def test_a_dead_bench_makes_incomplete_frames_and_a_new_one_is_found(camera, bench):
    camera.start()
    assert shoot(camera) is not None
    bench.kill()
    for _ in range(3):
        begun = time.monotonic()
        assert shoot(camera, 0.2) is None
        assert time.monotonic() - begun < 0.5
    assert camera.incomplete == 3
    bench.restart()
    np.testing.assert_array_equal(levels(shoot(camera)), bench_levels(4))


def test_a_camera_without_its_bench_does_not_open_and_says_why(make_consumer, bench):
    bench.kill()
    consumer = make_consumer(LABCTL_PRODUCER_SENSOR="", **bench.variables)
    with pytest.raises(Exception, match="no bench at"):
        consumer.open()
    bench.restart()
    assert consumer.open().nodes.SensorWidth.value == WIDTH


def test_two_cameras_have_a_connection_each(make_consumer, bench):
    consumer = make_consumer(LABCTL_PRODUCER_SENSOR="", **bench.variables)
    cameras = [consumer.open(serial) for serial in ("VLAB0001", "VLAB0002")]
    for number, camera in enumerate(cameras):
        camera.start(PixelFormat="Mono12", TriggerMode="On", ExposureTime=1000)
        np.testing.assert_array_equal(levels(shoot(camera)), bench_levels(0))
        assert bench.tell("last").startswith(f"{number} 0 ")
