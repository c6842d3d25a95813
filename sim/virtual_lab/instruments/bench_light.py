"""What the instruments do to the light, in an array that the bench maps: one writer, any number of readers."""

from __future__ import annotations

import mmap
import struct
import threading
from enum import IntEnum
from pathlib import Path


class Slot(IntEnum):
    """Place of each value in the array."""

    LAMP = 0
    """Power of the lamp as a fraction of full power."""

    SHUTTER = 1
    """How far the shutter is open, 0..1."""

    STAGE = 2
    """Position of the stage in metres."""

    SUPPLY = 3
    """Voltage at the output of the supply in volts."""


class BenchLight:
    """The array: little-endian float64, one value per `Slot`. A value is written whole, at an aligned address."""

    def __init__(self, path: Path) -> None:
        path.parent.mkdir(parents=True, exist_ok=True)
        size = 8 * len(Slot)
        with path.open("ab") as file:
            file.truncate(max(size, file.tell()))
        with path.open("r+b") as file:
            self._memory = mmap.mmap(file.fileno(), size)
        self._lock = threading.Lock()

    def __getitem__(self, slot: Slot) -> float:
        return float(struct.unpack_from("<d", self._memory, 8 * slot)[0])

    def __setitem__(self, slot: Slot, value: float) -> None:
        with self._lock:
            struct.pack_into("<d", self._memory, 8 * slot, value)
