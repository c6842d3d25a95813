"""Frames through the closed mask: of every sample the light that leaks through the panel, to be taken off."""

from __future__ import annotations

import numpy as np
import numpy.typing as npt

from labctl.frames.alike import exposure_keys
from labctl.frames.store import FrameStore

IntArray = npt.NDArray[np.int64]


def has_closed(store: FrameStore) -> bool:
    """Whether the set was captured with the closed mask too."""
    return bool((store.column("kind") == "closed").any())


def closed_places(store: FrameStore, places: IntArray) -> IntArray:
    """(n,) for each of the frames `places`, the place of the frame of the same sample through the closed mask.

    It is of the same repeat and rung, at the same exposure and gain, and not in doubt; -1 where there is none.
    """
    columns = [store.column(name) for name in ("sample_id", "repeat", "rung", "gain_db")]
    keys = list(zip(*(column.tolist() for column in (*columns, exposure_keys(store))), strict=True))
    closed = {keys[place]: place for place in store.select(kind="closed").tolist()}
    return np.array([closed.get(keys[place], -1) for place in places.tolist()], dtype=np.int64)
