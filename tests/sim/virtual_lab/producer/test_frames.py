"""Frames through harvesters: pixel formats, regions, limits, chunks, pace, old names."""

from __future__ import annotations

import time

import numpy as np
import pytest

from sim.virtual_lab.producer.camera_features import CHUNKS, PIXEL_FORMATS
from sim.virtual_lab.producer.pattern import pattern_dn


def depth_of(pixel_format: str) -> int:
    return int("".join(letter for letter in pixel_format if letter.isdigit()))


def levels_in(data: np.ndarray, pixel_format: str, shape: tuple[int, int]) -> np.ndarray:
    """Levels of a frame, unpacked bit by bit from the definition: pixel i has bits i*depth ... of the byte stream."""
    depth = depth_of(pixel_format)
    if not pixel_format.endswith("p"):
        return data.view(np.uint8 if depth == 8 else "<u2").reshape(shape).astype(np.int64)
    bits = np.unpackbits(data, bitorder="little")[: shape[0] * shape[1] * depth].reshape(-1, depth)
    return (bits.astype(np.int64) << np.arange(depth)).sum(axis=1).reshape(shape)


def expected(pixel_format: str, dn12: np.ndarray) -> np.ndarray:
    shift = depth_of(pixel_format) - 12
    dn12 = dn12.astype(np.int64)
    return dn12 << shift if shift > 0 else dn12 >> -shift


@pytest.mark.parametrize("pixel_format", PIXEL_FORMATS)
def test_every_pixel_format_is_bit_exact(camera, pixel_format):
    camera.start(PixelFormat=pixel_format)
    for frame in camera.fetch_many(3):
        levels = levels_in(frame.data, pixel_format, frame.shape)
        np.testing.assert_array_equal(levels, expected(pixel_format, pattern_dn(frame.shape, frame.id)))
    assert camera.nodes.PayloadSize.value == frame.data.size


@pytest.mark.parametrize("pixel_format", ["Mono8", "Mono10p", "Mono12p"])
def test_a_region_shows_its_part_of_the_sensor(camera, pixel_format):
    camera.start(PixelFormat=pixel_format, Width=52, Height=30, OffsetX=12, OffsetY=18)
    frame = camera.fetch()
    assert (frame.shape, frame.offset) == ((30, 52), (18, 12))
    levels = levels_in(frame.data, pixel_format, frame.shape)
    whole = pattern_dn((96, 160), frame.id)
    np.testing.assert_array_equal(levels, expected(pixel_format, whole[18:48, 12:64]))


def test_a_wide_sensor_is_bit_exact_too(make_consumer):
    camera = make_consumer(LABCTL_PRODUCER_SENSOR="5472x8").open()
    camera.start(PixelFormat="Mono10p")
    frame = camera.fetch()
    np.testing.assert_array_equal(levels_in(frame.data, "Mono10p", (8, 5472)), pattern_dn((8, 5472), frame.id) >> 2)


def test_gamma_bends_the_levels_by_its_formula(camera):
    camera.start(PixelFormat="Mono12", GammaEnable=True, Gamma=0.5)
    frame = camera.fetch()
    bent = np.floor(4095 * (pattern_dn(frame.shape, frame.id) / 4095) ** 0.5 + 0.5)
    np.testing.assert_array_equal(frame.data.view("<u2").reshape(frame.shape), bent)


def test_limits_and_increments_are_told_and_kept(camera):
    nodes = camera.nodes
    assert (nodes.Width.min, nodes.Width.max, nodes.Width.inc) == (4, 160, 4)
    assert (nodes.Height.min, nodes.Height.max, nodes.Height.inc) == (2, 96, 2)
    camera.set(Width=100, OffsetX=40)
    assert nodes.OffsetX.max == 60
    assert nodes.Width.max == 120
    assert nodes.WidthMax.value == 160
    for name, value in {"Width": 124, "Height": 3, "OffsetX": 64, "Gain": 24.1, "ExposureTime": 9.0}.items():
        before = nodes.get_node(name).value
        with pytest.raises(Exception, match=name):
            nodes.get_node(name).value = value
        assert nodes.get_node(name).value == before


def test_the_region_is_locked_while_acquiring_and_free_afterwards(camera):
    camera.start()
    for name in ("Width", "OffsetX", "PixelFormat", "ChunkModeActive"):
        with pytest.raises(Exception, match=r"not writ(e)?able"):
            camera.nodes.get_node(name).value = camera.nodes.get_node(name).value
    camera.set(ExposureTime=500, Gain=3)
    camera.stop()
    camera.set(Width=80)


def test_exposure_and_gain_are_rounded_and_read_back(camera):
    camera.set(ExposureTime=1003.2, Gain=3.26)
    assert camera.nodes.ExposureTime.value == 1005
    assert camera.nodes.Gain.value == pytest.approx(3.3, abs=1e-9)


def test_an_automatic_function_takes_the_node_over(camera):
    camera.set(ExposureAuto="Continuous")
    with pytest.raises(Exception, match=r"not writ(e)?able"):
        camera.nodes.ExposureTime.value = 2000
    camera.start()
    camera.fetch_many(6)
    assert camera.nodes.ExposureTime.value > 4000, "a mean below the target lengthens the exposure"


def test_chunks_tell_what_each_frame_was_made_with(camera):
    camera.start(ChunkModeActive=True, ExposureTime=1500, Gain=2.5)
    frame = camera.fetch()
    assert frame.chunks == {"ExposureTime": 1500, "Gain": 2.5, "FrameID": frame.id, "Timestamp": frame.timestamp_ns}
    np.testing.assert_array_equal(frame.data[: 96 * 160].reshape(96, 160), pattern_dn((96, 160), frame.id) >> 4)


def test_a_chunk_that_is_off_is_not_sent(camera):
    whole = camera.nodes.PayloadSize.value
    camera.set(ChunkModeActive=True)
    assert camera.nodes.PayloadSize.value == whole + 8 * len(CHUNKS)
    camera.set(ChunkSelector="Gain", ChunkEnable=False)
    assert camera.nodes.PayloadSize.value == whole + 8 * (len(CHUNKS) - 1)
    camera.set(ChunkSelector="FrameID")
    assert camera.nodes.ChunkEnable.value
    camera.start()
    assert set(camera.fetch().chunks) == {"ExposureTime", "FrameID", "Timestamp"}


@pytest.mark.parametrize("delay", [0, 3])
def test_a_new_exposure_acts_so_many_frames_later_as_the_pipeline_is_deep(camera, delay):
    camera.set(TriggerMode="On", ExposurePipelineDelay=delay, ExposureTime=1000)
    camera.start(ChunkModeActive=True)
    exposures = []
    for index in range(8):
        if index == 2:
            camera.set(ExposureTime=2000)
        camera.trigger()
        exposures.append(camera.fetch().chunks["ExposureTime"])
    assert exposures == [1000] * (2 + delay) + [2000] * (6 - delay)


def test_frame_ids_begin_at_zero_with_each_start_and_rise_by_one(camera):
    for _ in range(2):
        camera.start()
        assert [frame.id for frame in camera.fetch_many(5)] == [0, 1, 2, 3, 4]
        camera.stop()


def test_timestamps_are_the_host_clock_at_the_start_of_the_exposure(camera):
    before = time.monotonic_ns()
    camera.start(TriggerMode="On", ExposureTime=20_000)
    camera.trigger()
    frame = camera.fetch()
    assert before < frame.timestamp_ns < time.monotonic_ns() - 20_000_000
    camera.nodes.TimestampLatch.execute()
    assert frame.timestamp_ns < camera.nodes.TimestampLatchValue.value < time.monotonic_ns()


def test_free_run_keeps_its_pace(camera):
    camera.start(AcquisitionFrameRate=50)
    frames = camera.fetch_many(11)
    assert (frames[10].timestamp_ns - frames[0].timestamp_ns) / 1e9 == pytest.approx(0.2, rel=0.25)


def test_without_a_frame_rate_only_the_exposure_sets_the_pace(camera):
    camera.start(AcquisitionFrameRateEnable=False, AcquisitionFrameRate=1, ExposureTime=2000)
    frames = camera.fetch_many(11)
    assert 0.02 <= (frames[10].timestamp_ns - frames[0].timestamp_ns) / 1e9 < 0.5


@pytest.mark.parametrize(("mode", "count"), [("SingleFrame", 1), ("MultiFrame", 3)])
def test_a_counted_acquisition_ends_by_itself(camera, mode, count):
    camera.start(AcquisitionMode=mode, AcquisitionFrameCount=3)
    assert [frame.id for frame in camera.fetch_many(count)] == list(range(count))
    assert camera.try_fetch(0.1) is None
    camera.stop()
    camera.start()
    assert camera.fetch().id == 0


def test_a_camera_of_old_speaks_in_old_names(make_consumer):
    consumer = make_consumer(LABCTL_PRODUCER_OLD_NAMES="1")
    new, old = consumer.open("VLAB0001"), consumer.open("VLAB0002")
    for name in ("ExposureTimeAbs", "GainRaw", "AcquisitionFrameRateAbs"):
        assert old.nodes.has_node(name)
        assert not new.nodes.has_node(name)
    for name in ("ExposureTime", "Gain", "AcquisitionFrameRate"):
        assert new.nodes.has_node(name)
        assert not old.nodes.has_node(name)
    old.start(ExposureTimeAbs=1234, GainRaw=35, ChunkModeActive=True)
    assert old.fetch().chunks["Gain"] == 3.5
    assert old.nodes.ExposureTimeAbs.value == 1235


def test_a_reset_puts_everything_back(camera):
    camera.set(Width=32, Gain=5, PixelFormat="Mono12", DeviceUserID="left")
    camera.nodes.DeviceReset.execute()
    nodes = camera.nodes
    assert (nodes.Width.value, nodes.Gain.value, nodes.PixelFormat.value) == (160, 0, "Mono8")
    assert nodes.DeviceSerialNumber.value == "VLAB0001"
    assert nodes.DeviceUserID.value == ""
