"""Captured frames as learning sees them: arrays with labels and splits, repeats averaged."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
import numpy.typing as npt

from labctl.errors import RunFailed
from labctl.frames.store import FrameStore


@dataclass(frozen=True)
class LabelledFrames:
    """frames: (N, 1, h, w) float32 DN; labels, splits (0 train, 1 val, 2 test) and sample_ids: (N,) int64."""

    frames: npt.NDArray[np.float32]
    labels: npt.NDArray[np.int64]
    splits: npt.NDArray[np.int64]
    sample_ids: npt.NDArray[np.int64]
    saturated_fraction: float

    def part(self, split: int) -> npt.NDArray[np.int64]:
        """Indices of the frames of one split."""
        return np.flatnonzero(self.splits == split)


def labelled_frames(folder: Path, class_names: Sequence[str]) -> LabelledFrames:
    """Read a finished capture. Frames of one sample (repeats) are averaged; labels are places in `class_names`.

    Raises RunFailed when the capture is not whole, or holds a label that is none of the classes.
    """
    captured = FrameStore.open(folder)
    captured.check_whole()
    places = captured.select(kind="scene")
    if len(places) == 0:
        raise RunFailed(f"{folder} holds no frames to learn from")
    samples, first, group = np.unique(captured.column("sample_id")[places], return_index=True, return_inverse=True)
    sums = np.zeros((len(samples), *captured.header.frame_shape), dtype=np.float64)
    done = 0
    for pixels in captured.parts(places):
        np.add.at(sums, group[done : done + len(pixels)], pixels)
        done += len(pixels)
    return LabelledFrames(
        frames=(sums / np.bincount(group)[:, None, None, None]).astype(np.float32),
        labels=_class_numbers(captured.column("label_name")[places[first]], class_names, folder),
        splits=captured.splits()[places[first]],
        sample_ids=samples,
        saturated_fraction=float(captured.column("saturated_fraction")[places].mean()),
    )


def _class_numbers(names: npt.NDArray[Any], class_names: Sequence[str], folder: Path) -> npt.NDArray[np.int64]:
    """Operators and data sets number their labels on their own; the name is what they share."""
    number = {name: place for place, name in enumerate(class_names)}
    unknown = sorted({str(name) for name in names} - set(number))
    if unknown:
        raise RunFailed(
            f"{folder} holds frames labelled {', '.join(unknown[:5])}, which the classifier does not know; "
            f"its classes are {', '.join(class_names[:10])}"
        )
    return np.array([number[str(name)] for name in names], dtype=np.int64)
