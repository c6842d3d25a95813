"""Which frames of a longer recording make a clip."""

from __future__ import annotations

from typing import Annotated, Literal

import numpy as np
from annotated_types import Ge, Le

from protocols.data.clips.clip_source import ClipSource
from protocols.splits import IntArray

Start = Literal["first", "centre"]
"""`first`: the window begins with the recording, as BDQ's code tests. `centre`: it lies in the middle."""

MAX_FRAMES = 1024


class WindowedSource(ClipSource):
    """A `ClipSource` that cuts one window of `frames` frames, every `stride`-th, out of each recording."""

    frames: Annotated[int, Ge(2), Le(MAX_FRAMES)] = 16
    stride: Annotated[int, Ge(1)] = 2
    """1 takes every frame, 2 every second one."""

    start: Start = "first"

    @property
    def clip_frames(self) -> int:
        """T."""
        return self.frames

    @property
    def window_span(self) -> int:
        """Frames of a recording from the first to the last of its window."""
        return (self.frames - 1) * self.stride + 1


def window_places(n: int, frames: int, stride: int, start: Start) -> IntArray:
    """(frames,) places in a recording of n frames. Short ones are gone through again from their first frame, as BDQ's
    code does; callers that do not want that ask for n >= (frames - 1) * stride + 1."""
    span = (frames - 1) * stride + 1
    first = max(0, (n - span) // 2) if start == "centre" else 0
    return (first + stride * np.arange(frames, dtype=np.int64)) % n
