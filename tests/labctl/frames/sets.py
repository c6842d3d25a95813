"""Small captured sets for tests, written by the real writer."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from pathlib import Path
from typing import Any

import numpy as np
import numpy.typing as npt

from labctl.frames.header import SetHeader
from labctl.frames.record import FrameRecord
from labctl.frames.scenes import scene_hash
from labctl.frames.store import FrameStore
from labctl.frames.writer import FrameWriter

LABELS = ("anna", "ben", "chloé")
SHAPE = (1, 4, 6)
FULL_DN = 4095
BLACK_DN = 64

Frame = npt.NDArray[np.uint16]


def pixels(index: int, shape: tuple[int, int, int] = SHAPE, *, seed: int = 0) -> Frame:
    """(C, h, w) DN of frame `index`: noise between black and full scale, another one for every index and seed."""
    return np.random.default_rng([seed, index]).integers(BLACK_DN, FULL_DN - 100, shape, dtype=np.uint16)


def scene(index: int) -> npt.NDArray[np.float32]:
    """(1, 3, 5) radiance 0..1 of the scene of sample `index`."""
    return np.random.default_rng([7, index]).random((1, 3, 5), dtype=np.float32)


def record(index: int, **more: Any) -> FrameRecord:
    """What is known of frame `index`: samples take labels and splits in turn, and the clocks go on."""
    values: dict[str, Any] = {
        "sample_id": index,
        "label": index % len(LABELS),
        "label_name": LABELS[index % len(LABELS)],
        "split": index % 3,
        "scene_hash": scene_hash(scene(index)),
        "mask_hash": "mask",
        "levels_hash": "levels",
        "design": "disc",
        "privacy": "optical",
        "exposure_s": 0.002,
        "gain_db": 0.0,
        "black_level_dn": float(BLACK_DN),
        "saturation_dn": FULL_DN,
        "saturated_fraction": 0.0,
        "camera_time_s": 100.0 + 0.01 * index,
        "host_time_s": 5.0 + 0.01 * index,
        "unix_time_s": 1_800_000_000.0 + 0.01 * index,
        "frame_id": index,
        "exposure_id": 1000 + index,
        "instruments": {"lamp.power": 0.8},
        "calibrations": {"timing": "t1"},
        "rig_hash": "rig",
        "run_id": "run",
    }
    return FrameRecord.model_validate({**values, **more})


def header(frames: int | None = None, **more: Any) -> SetHeader:
    """Shards of four frames, so that a few frames make several."""
    values: dict[str, Any] = {
        "set_id": "set-1",
        "frame_shape": SHAPE,
        "planned": frames,
        "shard_frames": 4,
        "title": "a set for tests",
        "rig_name": "sim",
        "nature": "simulated",
        "design": "disc",
        "privacy": "optical",
        "data_id": "data-1",
        "class_names": LABELS,
        "units": {"lamp.power": "1"},
    }
    values.update(more)
    return SetHeader.new(values.pop("set_id"), values.pop("frame_shape"), **values)


def write_set(
    folder: Path,
    frames: int = 10,
    *,
    head: SetHeader | None = None,
    finish: bool = True,
    records: Callable[[int], FrameRecord] | Sequence[FrameRecord] = record,
    images: Callable[[int], Frame] | None = None,
) -> FrameStore:
    """A set of `frames` frames in `folder`; not finished when `finish` is False."""
    head = head or header(frames)
    image = images or (lambda index: pixels(index, head.frame_shape))
    with FrameWriter(folder, head) as writer:
        for index in range(writer.next_index, frames):
            writer.append(image(index), records(index) if callable(records) else records[index])
        if finish:
            writer.finish()
    return FrameStore.open(folder)
