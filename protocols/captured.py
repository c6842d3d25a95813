"""Captured frames as learning sees them: arrays with labels and splits, repeats averaged."""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path

import numpy as np
import numpy.typing as npt

from labctl.errors import RunFailed
from labctl.frames.ledger import read_capture


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


def labelled_frames(folder: Path) -> LabelledFrames:
    """Read a finished capture. Frames of one sample (repeats) are averaged. Raises RunFailed when it is not whole."""
    captured = read_capture(folder)
    if len(captured.records) == 0:
        raise RunFailed(f"{folder} holds no frames")
    ids = captured.column("sample_id").astype(np.int64)
    samples, first, group = np.unique(ids, return_index=True, return_inverse=True)
    counts = np.bincount(group)
    sums = np.zeros((len(samples), *captured.pixels.shape[1:]), dtype=np.float64)
    np.add.at(sums, group, captured.pixels)
    return LabelledFrames(
        frames=(sums / counts[:, None, None, None]).astype(np.float32),
        labels=captured.column("label").astype(np.int64)[first],
        splits=captured.column("split").astype(np.int64)[first],
        sample_ids=samples,
        saturated_fraction=float(captured.column("saturated_fraction").mean()),
    )
