"""The ring of frames: nothing torn, nothing lost without being counted."""

from __future__ import annotations

import math
import threading
from collections.abc import Iterator
from dataclasses import replace

import numpy as np
import pytest

from drivers.genicam.ring import Flag, FrameRing, SlotFrame
from labctl.shared_block import SharedBlock

SLOTS, SIZE = 4, 100_000


@pytest.fixture
def ring() -> Iterator[FrameRing]:
    block = SharedBlock.make(FrameRing.bytes_needed(SLOTS, SIZE))
    yield FrameRing(block, SLOTS, SIZE)
    block.close()


def frame(number: int, size: int = SIZE) -> SlotFrame:
    data = np.full(size, number % 251, dtype=np.uint8)
    return SlotFrame(data, number, 10 * number, 20 * number, 5.0, 1.5, Flag.REPEATED_ID, 10, 20, 0x01080001)


def number_of(taken: SlotFrame) -> int:
    assert set(np.unique(taken.data)) == {taken.camera_id % 251}, "half of another frame is in this slot"
    return taken.camera_id


def test_a_frame_comes_out_as_it_went_in(ring: FrameRing) -> None:
    put = frame(7, size=300)
    assert ring.put(put, "every")
    taken = ring.take(lambda got: (got.data.copy(), got))
    assert taken is not None
    (data, got), lost = taken
    np.testing.assert_array_equal(data, put.data)
    told = (got.camera_id, got.camera_ns, got.host_ns, got.exposure_us, got.gain, got.flags)
    assert told == (7, 70, 140, 5.0, 1.5, Flag.REPEATED_ID)
    assert (got.width, got.height, got.format_code, lost) == (10, 20, 0x01080001, 0)
    assert ring.take(number_of) is None


def test_every_refuses_what_does_not_fit_and_keeps_what_waits(ring: FrameRing) -> None:
    assert [ring.put(frame(number), "every") for number in range(6)] == [True] * SLOTS + [False] * 2
    assert [ring.take(number_of) for _ in range(SLOTS)] == [(number, 0) for number in range(SLOTS)]
    assert ring.header["refused"] == 2
    assert ring.put(frame(9), "every")


def test_latest_keeps_the_newest_and_says_how_many_are_gone(ring: FrameRing) -> None:
    for number in range(10):
        assert ring.put(frame(number), "latest")
    assert ring.take(number_of) == (10 - SLOTS, 10 - SLOTS)
    assert ring.skip_to(1) == SLOTS - 2
    assert ring.take(number_of) == (9, 0)
    assert ring.take(number_of) is None


def test_what_does_not_tell_its_exposure_says_so(ring: FrameRing) -> None:
    ring.put(SlotFrame(np.zeros(1, np.uint8), 0, 0, 0, math.nan, math.nan, Flag.NO_CHUNKS, 1, 1, 0), "every")
    taken = ring.take(lambda got: got.exposure_us)
    assert taken is not None
    assert math.isnan(taken[0])


def test_a_frame_overwritten_while_it_is_read_is_never_handed_out(ring: FrameRing) -> None:
    ring.put(frame(0), "latest")

    def overtaken(got: SlotFrame) -> int:
        if got.camera_id == 0:
            for number in range(1, SLOTS + 2):
                ring.put(frame(number), "latest")
        return got.camera_id

    assert ring.take(overtaken) == (2, 2), "0 and 1 are overwritten; 2 is the oldest that is whole"


def test_a_frame_that_cannot_be_used_is_not_met_again(ring: FrameRing) -> None:
    for number in range(2):
        ring.put(frame(number), "every")

    def unusable(got: SlotFrame) -> int:
        raise ValueError(got.camera_id)

    with pytest.raises(ValueError, match=r"^0$"):
        ring.take(unusable)
    assert ring.take(number_of) == (1, 0)


def test_what_is_raised_for_half_a_frame_is_not_told(ring: FrameRing) -> None:
    ring.put(frame(0), "latest")

    def overtaken(got: SlotFrame) -> int:
        if got.camera_id == 0:
            for number in range(1, SLOTS + 1):
                ring.put(frame(number), "latest")
            raise ValueError(got.camera_id)
        return got.camera_id

    assert ring.take(overtaken) == (1, 1)


def test_padding_of_the_rows_is_told(ring: FrameRing) -> None:
    ring.put(replace(frame(1), padding=12), "every")
    assert ring.take(lambda got: got.padding) == (12, 0)


def test_a_fast_writer_never_tears_a_frame(ring: FrameRing) -> None:
    count = 3000

    def write() -> None:
        for number in range(count):
            ring.put(frame(number), "latest")

    writer = threading.Thread(target=write)
    writer.start()
    taken: list[int] = []
    lost = 0
    while writer.is_alive() or ring.waiting:
        got = ring.take(number_of_copy)
        if got is not None:
            whole, gone = got
            assert whole[1] == {whole[0] % 251}
            taken.append(whole[0])
            lost += gone
    writer.join()
    assert taken == sorted(set(taken))
    assert len(taken) + lost == count
    assert taken[-1] == count - 1


def number_of_copy(got: SlotFrame) -> tuple[int, set[int]]:
    data = got.data.copy()
    return got.camera_id, {int(data[0]), int(data[SIZE // 2]), int(data[-1])}
