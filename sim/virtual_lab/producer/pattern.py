"""The test pattern that a virtual camera shows when no bench renders for it."""

from __future__ import annotations

import numpy as np
import numpy.typing as npt


def pattern_dn(
    shape: tuple[int, int], frame_id: int, *, offset_x: int = 0, offset_y: int = 0
) -> npt.NDArray[np.uint16]:
    """12-bit levels of frame `frame_id`: (x + 3 y + 16 frame_id) mod 4096, x and y counted on the sensor.

    shape: (height, width) of the region that begins at (offset_y, offset_x). A Mono8 frame is this >> 4, Mono10 >> 2,
    Mono16 << 4.
    """
    y = np.arange(offset_y, offset_y + shape[0], dtype=np.uint64)[:, None]
    x = np.arange(offset_x, offset_x + shape[1], dtype=np.uint64)[None, :]
    levels = (x + 3 * y + np.uint64(16 * frame_id % 4096)) % 4096
    return levels.astype(np.uint16)
