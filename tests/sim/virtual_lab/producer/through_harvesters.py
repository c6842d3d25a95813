"""Cameras through harvesters as it is: a consumer per Harvester, a grabber per camera."""

from __future__ import annotations

import signal
import time
import warnings
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np

# harvesters changes the process-wide filter of warnings when it is imported.
_filters = warnings.filters[:]
import harvesters.core as harvesters_core  # noqa: E402
from genicam import genapi, gentl  # noqa: E402

warnings.filters[:] = _filters

SERIAL = "VLAB0001"
SENSOR = (96, 160)


@dataclass
class Frame:
    """One fetched frame: bytes of the image, and what the buffer says."""

    id: int
    timestamp_ns: int
    data: np.ndarray
    shape: tuple[int, int]
    offset: tuple[int, int]
    chunks: dict[str, float]


class Grabber:
    """One camera through harvesters: nodes, start, fetch, stop."""

    def __init__(self, acquirer: Any) -> None:
        self.acquirer = acquirer
        self.nodes = acquirer.remote_device.node_map
        self.stream = acquirer.data_streams[0]
        self.incomplete = 0
        acquirer.num_buffers = 8
        acquirer.add_callback(acquirer.Events.INCOMPLETE_BUFFER, self._OnIncomplete(self))

    class _OnIncomplete(harvesters_core.Callback):
        def __init__(self, grabber: Grabber) -> None:
            super().__init__()
            self.grabber = grabber

        def emit(self, context: Any) -> None:
            self.grabber.incomplete += 1

    def set(self, **features: Any) -> None:
        for name, value in features.items():
            self.nodes.get_node(name).value = value

    def start(self, **features: Any) -> None:
        self.set(**features)
        self.acquirer.start()

    def stop(self) -> None:
        self.acquirer.stop()

    def trigger(self) -> None:
        self.nodes.TriggerSoftware.execute()

    def statistic(self, name: str) -> int:
        return self.nodes.get_node(f"Stat{name}").value

    def try_fetch(self, timeout_s: float) -> Frame | None:
        """The next complete frame, or None when there is none in time."""
        deadline = time.monotonic() + timeout_s
        while time.monotonic() < deadline:
            buffer = self.acquirer.try_fetch(timeout=max(deadline - time.monotonic(), 0.001), is_raw=True)
            if buffer is not None:
                return self._copied(buffer)
        return None

    def fetch(self) -> Frame:
        frame = self.try_fetch(10)
        assert frame is not None, "no frame came"
        return frame

    def fetch_many(self, count: int) -> list[Frame]:
        return [self.fetch() for _ in range(count)]

    def _copied(self, buffer: Any) -> Frame:
        chunks = {}
        if buffer.is_containing_chunk_data():
            self.acquirer._chunk_adapter.attach_buffer(buffer.raw_buffer, buffer.chunk_data_info_list)
            chunks = {
                name: self.nodes.get_node(f"Chunk{name}").value
                for name in ("ExposureTime", "Gain", "FrameID", "Timestamp")
                if genapi.is_readable(self.nodes.get_node(f"Chunk{name}"))
            }
        frame = Frame(
            buffer.frame_id,
            buffer.timestamp_ns,
            np.frombuffer(buffer.raw_buffer, np.uint8)[: buffer.size_filled].copy(),
            (buffer.height, buffer.width),
            (buffer.offset_y, buffer.offset_x),
            chunks,
        )
        buffer.parent.queue_buffer(buffer, False)
        return frame


class Consumer:
    """One Harvester for as long as it is open; opens cameras."""

    def __init__(self, producer: Path) -> None:
        self.harvester = harvesters_core.Harvester()
        self.harvester.add_file(str(producer))
        self.harvester.update()
        self.grabbers: list[Grabber] = []

    @property
    def serials(self) -> list[str]:
        return [info.serial_number for info in self.harvester.device_info_list]

    def open(self, serial: str = SERIAL) -> Grabber:
        # create() replaces the handler of Ctrl-C by one that only destroys the camera.
        handler = signal.getsignal(signal.SIGINT)
        try:
            grabber = Grabber(self.harvester.create({"serial_number": serial}))
        finally:
            signal.signal(signal.SIGINT, handler)
        self.grabbers.append(grabber)
        return grabber

    def close(self) -> None:
        for step in [grabber.acquirer.destroy for grabber in self.grabbers] + [self.harvester.reset]:
            try:
                step()
            except gentl.GenericException:  # a lost camera cannot say good-bye
                continue
