"""The ring of frames that the camera's process fills and ours reads. It lies in one `SharedBlock`.

One writer, one reader. Every slot carries a stamp that is odd while it is written (a seqlock), so that half a frame is
never taken for a whole one. The writer tells the reader of each frame through a socket; that call also orders the
writes on processors that would reorder them.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from enum import IntFlag
from typing import Any, Literal, TypeVar

import numpy as np
import numpy.typing as npt

from labctl.shared_block import SharedBlock

Used = TypeVar("Used")

Policy = Literal["latest", "every"]
"""`latest`: a new frame takes the place of the oldest. `every`: when all slots are unread, the new frame is refused."""


class Flag(IntFlag):
    """What is odd about a frame."""

    REPEATED_ID = 1
    """Its id is not above that of the frame before."""

    NO_CAMERA_CLOCK = 2
    """`camera_ns` is not known."""

    NO_CHUNKS = 4
    """Exposure time and gain are not told by the frame itself."""


@dataclass(frozen=True)
class SlotFrame:
    """One frame as it came: bytes of the device's format and what is known of it.

    camera_id counts up without the wraps of the device's own; exposure_us and gain are the chunks of the frame;
    padding: bytes that the device appends to every row.
    """

    data: npt.NDArray[np.uint8]
    camera_id: int
    camera_ns: int
    host_ns: int
    exposure_us: float
    gain: float
    flags: Flag
    width: int
    height: int
    format_code: int
    padding: int = 0


HEADER = np.dtype([
    ("written", "<u8"), ("read", "<u8"),
    ("received", "<u8"), ("first_id", "<u8"), ("last_id", "<u8"),
    ("missing", "<u8"), ("repeated", "<u8"), ("incomplete", "<u8"), ("underrun", "<u8"), ("refused", "<u8"),
    ("failed", "<u8"),
])  # fmt: skip

SLOT = np.dtype([
    ("stamp", "<u8"), ("sequence", "<u8"), ("camera_id", "<u8"), ("camera_ns", "<u8"), ("host_ns", "<u8"),
    ("exposure_us", "<f8"), ("gain", "<f8"), ("size", "<u8"),
    ("flags", "<u4"), ("width", "<u4"), ("height", "<u4"), ("format_code", "<u4"),
    ("padding", "<u4"),
])  # fmt: skip

_PAGE = 4096


class FrameRing:
    """`slots` slots of `slot_bytes` bytes in `block`. Both sides make one over the same block."""

    def __init__(self, block: SharedBlock, slots: int, slot_bytes: int) -> None:
        self.slots = slots
        self.slot_bytes = slot_bytes
        self._headers: Any = block.array((1,), HEADER)
        self.header: Any = self._headers[0]
        self._slots: Any = block.array((slots,), SLOT, HEADER.itemsize)
        start, stride = _pages(HEADER.itemsize + slots * SLOT.itemsize), _pages(slot_bytes)
        self._pixels: list[Any] = [
            block.array((slot_bytes,), np.uint8, start + place * stride) for place in range(slots)
        ]

    @staticmethod
    def bytes_needed(slots: int, slot_bytes: int) -> int:
        """Size of the block for such a ring."""
        return _pages(HEADER.itemsize + slots * SLOT.itemsize) + slots * _pages(slot_bytes)

    def clear(self) -> None:
        """Forget all frames and counts. Only while nobody writes."""
        self._headers[:] = np.zeros((), HEADER)
        self._slots[:] = np.zeros((), SLOT)

    def put(self, frame: SlotFrame, policy: Policy) -> bool:
        """Copy a frame in; False when the policy is `every` and no slot is free."""
        written = int(self.header["written"])
        if policy == "every" and written - int(self.header["read"]) >= self.slots:
            self.header["refused"] += 1
            return False
        slot, place = self._slots[written % self.slots], written % self.slots
        slot["stamp"] = 2 * written + 1
        size = len(frame.data)
        np.copyto(self._pixels[place][:size], frame.data)
        slot["sequence"], slot["size"] = written, size
        slot["camera_id"], slot["camera_ns"], slot["host_ns"] = frame.camera_id, frame.camera_ns, frame.host_ns
        slot["exposure_us"], slot["gain"], slot["flags"] = frame.exposure_us, frame.gain, int(frame.flags)
        slot["width"], slot["height"], slot["format_code"] = frame.width, frame.height, frame.format_code
        slot["padding"] = frame.padding
        slot["stamp"] = 2 * written + 2
        self.header["written"] = written + 1
        return True

    @property
    def waiting(self) -> int:
        """Frames that can still be taken."""
        return min(int(self.header["written"]) - int(self.header["read"]), self.slots)

    def skip_to(self, left: int) -> int:
        """Leave only the newest `left` frames to be taken; returns how many were skipped."""
        before, newest = int(self.header["read"]), int(self.header["written"])
        self.header["read"] = max(before, newest - left)
        return int(self.header["read"]) - before

    def take(self, use: Callable[[SlotFrame], Used]) -> tuple[Used, int] | None:
        """The oldest frame that is still there: (`use(frame)`, frames lost before it), or None when there is none.

        `use` sees the slot itself and must copy what it keeps. What it made of a slot that was overwritten meanwhile is
        thrown away, and so is what it raised then. A whole frame that it raised for counts as taken.
        """
        lost = 0
        while True:  # the writer may overtake us at any line
            lost += self.skip_to(self.slots)
            sequence = int(self.header["read"])
            if sequence == int(self.header["written"]):
                return None
            slot, place = self._slots[sequence % self.slots], sequence % self.slots
            if int(slot["stamp"]) == 2 * sequence + 2:
                try:
                    used = use(_frame_in(slot, self._pixels[place]))
                except Exception:
                    if int(slot["stamp"]) == 2 * sequence + 2:
                        self.header["read"] = sequence + 1
                        raise
                    continue  # it stumbled over half of another frame
                if int(slot["stamp"]) == 2 * sequence + 2:
                    self.header["read"] = sequence + 1
                    return used, lost
            self.header["read"] = sequence + 1
            lost += 1


def _frame_in(slot: Any, pixels: npt.NDArray[np.uint8]) -> SlotFrame:
    return SlotFrame(
        data=pixels[: min(int(slot["size"]), len(pixels))],
        camera_id=int(slot["camera_id"]),
        camera_ns=int(slot["camera_ns"]),
        host_ns=int(slot["host_ns"]),
        exposure_us=float(slot["exposure_us"]),
        gain=float(slot["gain"]),
        flags=Flag(int(slot["flags"])),
        width=int(slot["width"]),
        height=int(slot["height"]),
        format_code=int(slot["format_code"]),
        padding=int(slot["padding"]),
    )


def _pages(size: int) -> int:
    return -(-size // _PAGE) * _PAGE
