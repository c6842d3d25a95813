"""The socket over which a GenTL producer asks for frames, and the memory that carries their pixels.

All numbers are little-endian and packed. One SOCK_SEQPACKET connection for each opened camera:
  hello    producer -> bench  {char[4] "LBH1"; u32 camera}
  welcome  bench -> producer  {char[4] "LBH1"; u32 status; u32 width; u32 height; u32 bits; u32 slots; u64 slot_bytes}
  expose   producer -> bench  {char[4] "LBX1"; u32 camera; u64 frame_id; u64 start_ns; u64 exposure_ns; f64 gain_db;
                               f64 black_level_dn; u32 slot; u32 reserved}
  exposed  bench -> producer  {char[4] "LBX1"; u32 status; u64 frame_id; u64 offset; u32 width; u32 height}
Status 0 is good. Pixels are uint16 DN of the whole sensor, row by row, at `offset` in the memory file.
"""

from __future__ import annotations

import mmap
import os
import socket
import struct
import threading
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path

import numpy as np
import numpy.typing as npt

from sim.virtual_lab.bench.settings import ADC_BITS

HELLO = struct.Struct("<4sI")
WELCOME = struct.Struct("<4sIIIIIQ")
EXPOSE = struct.Struct("<4sIQQQddII")
EXPOSED = struct.Struct("<4sIQQII")

CAMERAS = 8
SLOTS = 4
"""Per camera: so many frames may wait in the memory for the producer to copy them."""

LARGEST_FRAME_BYTES = 256 * 256 * 2
MEMORY_BYTES = CAMERAS * SLOTS * LARGEST_FRAME_BYTES


@dataclass(frozen=True)
class ExposureRequest:
    """One exposure as a camera started it. Times are those of CLOCK_MONOTONIC."""

    camera: int
    frame_id: int
    start_ns: int
    exposure_ns: int
    gain_db: float
    black_level_dn: float


class FrameLink:
    """Serves cameras until the process ends. render: returns the pixels, or None when there is no good frame."""

    def __init__(
        self,
        socket_path: Path,
        memory_path: Path,
        *,
        shape: Callable[[], tuple[int, int]],
        render: Callable[[ExposureRequest], npt.NDArray[np.uint16] | None],
    ) -> None:
        self._shape, self._render = shape, render
        descriptor = os.open(memory_path, os.O_RDWR | os.O_CREAT, 0o600)
        os.ftruncate(descriptor, MEMORY_BYTES)
        self._memory = mmap.mmap(descriptor, MEMORY_BYTES)
        os.close(descriptor)
        self._listener = socket.socket(socket.AF_UNIX, socket.SOCK_SEQPACKET)
        self._listener.bind(str(socket_path))
        self._listener.listen(CAMERAS)
        threading.Thread(target=self._accept, name="cameras", daemon=True).start()

    def _accept(self) -> None:
        while True:
            connection, _ = self._listener.accept()
            threading.Thread(target=self._serve, args=(connection,), name="camera", daemon=True).start()

    def _serve(self, connection: socket.socket) -> None:
        try:
            with connection:
                if self._greet(connection):
                    while message := connection.recv(EXPOSE.size):
                        connection.send(self._answer(message))
        except (ConnectionError, struct.error):
            return  # the camera was closed, or is no camera; the others go on

    def _greet(self, connection: socket.socket) -> bool:
        magic, camera = HELLO.unpack(connection.recv(HELLO.size))
        rows, columns = self._shape()
        good = magic == b"LBH1" and camera < CAMERAS and rows * columns * 2 <= LARGEST_FRAME_BYTES
        connection.send(WELCOME.pack(b"LBH1", not good, columns, rows, ADC_BITS, SLOTS, LARGEST_FRAME_BYTES))
        return good

    def _answer(self, message: bytes) -> bytes:
        _, camera, frame_id, start_ns, exposure_ns, gain_db, black_level_dn, slot, _ = EXPOSE.unpack(message)
        request = ExposureRequest(camera, frame_id, start_ns, exposure_ns, gain_db, black_level_dn)
        pixels = self._render(request) if camera < CAMERAS else None
        if pixels is None:
            return EXPOSED.pack(b"LBX1", 1, frame_id, 0, 0, 0)
        offset = (camera * SLOTS + slot % SLOTS) * LARGEST_FRAME_BYTES
        self._memory[offset : offset + pixels.nbytes] = pixels.astype("<u2").tobytes()
        return EXPOSED.pack(b"LBX1", 0, frame_id, offset, pixels.shape[1], pixels.shape[0])
