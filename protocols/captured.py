"""Captured frames as learning sees them: arrays with labels and splits, rungs merged, repeats averaged."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
import numpy.typing as npt

from labctl.errors import RunFailed
from labctl.frames.corrections import mean_frame, merge_rungs
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
    """Read a finished capture. Rungs of a ladder are merged to DN of the first one, frames of one sample (repeats)
    are averaged; labels are places in `class_names`. Dark, background, sentinel and marked frames are left out, and
    with a ladder a repeat whose first rung is marked. Light is what stands above the mean dark frame of each rung, if
    the set has one for each, else above the black level of the camera.

    Raises RunFailed when the capture is not whole, or holds a label that is none of the classes.
    """
    captured = FrameStore.open(folder)
    captured.check_whole()
    places = captured.select(kind="scene")
    ids, repeats, rungs = (captured.column(name)[places] for name in ("sample_id", "repeat", "rung"))
    order = np.lexsort((rungs, repeats, ids))
    new = np.flatnonzero((np.diff(ids[order]) != 0) | (np.diff(repeats[order]) != 0)) + 1
    ladders = [places[members] for members in np.split(order, new) if len(members) and rungs[members[0]] == 0]
    if not ladders:
        raise RunFailed(f"{folder} holds no frames to learn from")
    first = np.array([members[0] for members in ladders])
    samples, of_sample, group = np.unique(captured.column("sample_id")[first], return_index=True, return_inverse=True)
    black_dn = _black(captured) if captured.header.ladder != (1.0,) else np.zeros(0)
    sums = np.zeros((len(samples), *captured.header.frame_shape), dtype=np.float64)
    for number, members in zip(group, ladders, strict=True):
        sums[number] += _merged(captured, members, black_dn)
    return LabelledFrames(
        frames=(sums / np.bincount(group)[:, None, None, None]).astype(np.float32),
        labels=_class_numbers(captured.column("label_name")[first[of_sample]], class_names, folder),
        splits=captured.splits()[first[of_sample]],
        sample_ids=samples,
        saturated_fraction=float(captured.column("saturated_fraction")[places].mean()),
    )


def _black(captured: FrameStore) -> npt.NDArray[np.float32]:
    """(R, C, h, w) DN without light, of every rung of the ladder."""
    shape = (len(captured.header.ladder), *captured.header.frame_shape)
    darks = captured.select(kind="dark")
    of_rung = [darks[captured.column("rung")[darks] == rung] for rung in range(shape[0])]
    if all(len(own) for own in of_rung):
        return np.stack([mean_frame(captured.parts(own)) for own in of_rung])
    level_dn = float(captured.column("black_level_dn")[0])
    return np.full(shape, 0.0 if np.isnan(level_dn) else level_dn, dtype=np.float32)


def _merged(captured: FrameStore, places: npt.NDArray[np.int64], black_dn: npt.NDArray[np.float32]) -> npt.NDArray[Any]:
    """(C, h, w) DN of the first rung, from one scene's frames at all rungs."""
    if len(places) == 1:
        return captured.frame(int(places[0]))
    return merge_rungs(
        captured.read(places),
        captured.column("exposure_s")[places],
        black_dn[captured.column("rung")[places]],
        float(captured.column("saturation_dn")[places[0]]),
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
