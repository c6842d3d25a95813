"""The grab thread: from the producer's buffers into the ring, and nothing else. Runs in the camera's process."""

from __future__ import annotations

import contextlib
import math
import threading
import time
from collections.abc import Callable
from contextlib import AbstractContextManager
from dataclasses import dataclass
from typing import Any

import numpy as np
from genicam import genapi, gentl

from drivers.genicam.drops import FrameIds
from drivers.genicam.ring import Flag, FrameRing, Policy, SlotFrame

FETCH_S = 0.02
"""How long one look for a frame lasts; a stop waits for it."""


@dataclass(frozen=True)
class ChunkNodes:
    """Where the camera's own word on a frame is found, as far as it gives one. gain in the unit of its gain feature.

    alone: held while a node is used; see `drivers.genicam.features`.
    """

    alone: AbstractContextManager[object]
    exposure_us: Any = None
    gain: Any = None

    def told_by(self, acquirer: Any, buffer: Any) -> tuple[float, float]:
        """Exposure time in microseconds and gain of the frame in `buffer`, NaN where it does not tell."""
        if self.exposure_us is None and self.gain is None:
            return math.nan, math.nan
        with self.alone:
            acquirer._update_chunk_data(buffer=buffer, is_manual=True)  # harvesters offers it for costly buffers only
            return _told(self.exposure_us), _told(self.gain)


class Grabber:
    """Grabs from `acquirer` until `end`. notice: called after every frame and whenever something went wrong."""

    def __init__(
        self,
        acquirer: Any,
        ring: FrameRing,
        policy: Policy,
        chunks: ChunkNodes,
        ticks_hz: float,
        notice: Callable[[], None],
    ) -> None:
        self._acquirer = acquirer
        self._ring = ring
        self._policy = policy
        self._chunks = chunks
        self._ticks_hz = ticks_hz
        self._notice = notice
        self.failure = ""
        """What ended the grabbing before `end` did."""
        self._ids = FrameIds()
        self._clock: Callable[[Any], int] | None = None
        self._underrun_before = self._underrun()
        self._ending = threading.Event()
        self._thread = threading.Thread(target=self._run, name="grab", daemon=True)
        self._thread.start()

    def end(self) -> None:
        """Stop grabbing and wait until the thread has let go of the camera."""
        self._ending.set()
        self._thread.join()
        self._count_underrun()

    def count_incomplete(self) -> None:
        """One more frame came with data missing; harvesters has given its buffer back."""
        self._ring.header["incomplete"] += 1
        self._notice()

    def _run(self) -> None:
        try:
            while not self._ending.is_set():
                buffer = self._acquirer.try_fetch(timeout=FETCH_S, is_raw=True)
                if buffer is not None:
                    self._ring.put(self._frame(buffer, time.monotonic_ns()), self._policy)
                    buffer.parent.queue_buffer(buffer, False)  # False: the binding shall not fill it with zeros
                    self._notice()
        except Exception as error:  # noqa: BLE001 - whatever ended it, nobody grabs any more, and that must be told
            self.failure = f"{type(error).__name__}: {error}"
            print(f"grabbing ended: {self.failure}", flush=True)  # noqa: T201 - goes to the log
            self._ring.header["failed"] = 1
            self._notice()

    def _frame(self, buffer: Any, host_ns: int) -> SlotFrame:
        flags = self._count(buffer)
        if self._clock is None:
            self._clock = self._clock_of(buffer)
        camera_ns = self._clock(buffer)
        exposure_us, gain = self._chunks.told_by(self._acquirer, buffer)
        if camera_ns == 0:
            flags |= Flag.NO_CAMERA_CLOCK
        if math.isnan(exposure_us):
            flags |= Flag.NO_CHUNKS
        data = np.frombuffer(buffer.raw_buffer, dtype=np.uint8)[_told_or_zero(buffer, "image_offset") :]
        return SlotFrame(
            data=data[: self._ring.slot_bytes],
            camera_id=self._ids.last,
            camera_ns=camera_ns,
            host_ns=host_ns,
            exposure_us=exposure_us,
            gain=gain,
            flags=flags,
            width=buffer.width,
            height=buffer.height,
            format_code=buffer.pixel_format,
            padding=_told_or_zero(buffer, "padding_x"),
        )

    def _count(self, buffer: Any) -> Flag:
        header, ids = self._ring.header, self._ids
        try:
            raw = int(buffer.frame_id)
        except gentl.GenericException:
            raw = ids.last + 1  # a camera that does not number its frames cannot show gaps
        step = ids.follow(raw)
        if step < 1:
            header["repeated"] += 1
            return Flag.REPEATED_ID
        header["received"] += 1
        header["first_id"], header["last_id"] = ids.first, ids.last
        if step > 1:
            header["missing"] += step - 1
            self._count_underrun()
        return Flag(0)

    def _clock_of(self, buffer: Any) -> Callable[[Any], int]:
        with contextlib.suppress(gentl.GenericException):
            if buffer.timestamp_ns > 0:
                return lambda frame: int(frame.timestamp_ns)
        with contextlib.suppress(gentl.GenericException):
            if buffer.timestamp > 0 and self._ticks_hz > 0:
                ticks_hz = self._ticks_hz
                return lambda frame: round(frame.timestamp * 1e9 / ticks_hz)
        return lambda frame: 0

    def _count_underrun(self) -> None:
        self._ring.header["underrun"] = max(0, self._underrun() - self._underrun_before)

    def _underrun(self) -> int:
        try:
            return int(self._acquirer.data_streams[0].num_underrun)
        except gentl.GenericException:
            return 0  # the producer does not count them: they show as missing ids


def _told_or_zero(buffer: Any, name: str) -> int:
    with contextlib.suppress(gentl.GenericException):
        return int(getattr(buffer, name))
    return 0  # a producer that does not tell has none


def _told(node: Any) -> float:
    try:
        return math.nan if node is None else float(node.value)
    except genapi.GenericException:
        return math.nan  # this frame carries no such chunk
