"""Captured frames as learning sees them: arrays with labels and splits, rungs merged, repeats averaged, corrected."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np
import numpy.typing as npt

from labctl.errors import RunFailed
from labctl.frames.alike import Offsets, check_alike, has_darks
from labctl.frames.closed import closed_places, has_closed
from labctl.frames.corrections import Merged, clipped, merge_rungs
from labctl.frames.store import FrameStore

if TYPE_CHECKING:
    from protocols.measurement import Measurement


@dataclass(frozen=True)
class LabelledFrames:
    """frames: (N, 1, h, w) float32 DN; labels, splits (0 train, 1 val, 2 test) and sample_ids: (N,) int64."""

    frames: npt.NDArray[np.float32]
    labels: npt.NDArray[np.int64]
    splits: npt.NDArray[np.int64]
    sample_ids: npt.NDArray[np.int64]
    exposure_s: npt.NDArray[np.float64]
    """(N,) of the first rung."""

    clipped_fraction: float
    """Of the pixels of the samples, those that are lower bounds: in a repeat, even the shortest exposure clipped."""

    def part(self, split: int) -> npt.NDArray[np.int64]:
        """Indices of the frames of one split."""
        return np.flatnonzero(self.splits == split)


def labelled_frames(folder: Path, class_names: Sequence[str], measurement: Measurement | None = None) -> LabelledFrames:
    """Read a finished capture. Rungs of a ladder are merged to DN of the first one, frames of one sample (repeats)
    are averaged; labels are places in `class_names`. Dark, background, sentinel and marked frames are left out, and
    with a ladder a repeat whose first rung is marked. Light is what stands above the mean dark frame of each rung, if
    the set has one at each exposure and gain, else above the black level of the camera.

    Of a set with frames through the closed mask, each is taken off the frame of its sample; a repeat that lost its own
    to a mark is left out. What is left is wanted light, to which the black level is added again.
    measurement: corrects the frames to DN of the nominal twin; None leaves them in DN of the bench.

    Raises RunFailed when the capture is not whole, holds a label that is none of the classes, or rungs whose black
    nobody knows; BadInput when frames of one sample were not taken alike.
    """
    captured = FrameStore.open(folder)
    captured.check_whole()
    places = captured.select(kind="scene")
    if has_closed(captured):
        places = places[closed_places(captured, places) >= 0]
    ids, repeats, rungs = (captured.column(name)[places] for name in ("sample_id", "repeat", "rung"))
    order = np.lexsort((rungs, repeats, ids))
    new = np.flatnonzero((np.diff(ids[order]) != 0) | (np.diff(repeats[order]) != 0)) + 1
    ladders = [places[members] for members in np.split(order, new) if len(members) and rungs[members[0]] == 0]
    if not ladders:
        raise RunFailed(f"{folder} holds no frames to learn from")
    first = np.array([members[0] for members in ladders])
    samples, of_sample, group = np.unique(captured.column("sample_id")[first], return_index=True, return_inverse=True)
    by_sample = [ladders[number] for number in np.argsort(group, kind="stable")]
    frames = np.bincount(group, weights=[len(ladder) for ladder in ladders]).astype(np.int64)
    check_alike(captured, np.concatenate(by_sample), np.append(0, np.cumsum(frames)))
    closed = _Closed(captured, np.concatenate(ladders)) if has_closed(captured) else None
    black: _Black | _Closed | None = closed
    if closed is None and frames.sum() > len(ladders):
        black = _Black(captured, np.concatenate(ladders))
    shape = (len(samples), *captured.header.frame_shape)
    sums, lost = np.zeros(shape, dtype=np.float64), np.zeros(shape, dtype=np.bool_)
    for number, members in zip(group, ladders, strict=True):
        merged = _merged(captured, members, black)
        sums[number] += merged.light if closed is None else merged.light - closed.of(members[:1])[0]
        lost[number] |= merged.clipped
    means = (sums / np.bincount(group)[:, None, None, None]).astype(np.float32)
    exposure_s = captured.column("exposure_s")[first[of_sample]]
    return LabelledFrames(
        frames=_as_measured(
            means, exposure_s, captured.column("black_level_dn")[first[of_sample]], closed, measurement
        ),
        labels=_class_numbers(captured.column("label_name")[first[of_sample]], class_names, folder),
        splits=captured.splits()[first[of_sample]],
        sample_ids=samples,
        exposure_s=exposure_s,
        clipped_fraction=float(lost.mean()),
    )


class _Black:
    """What frames show without light: the mean dark frame that was taken like each, or what its record says."""

    def __init__(self, captured: FrameStore, places: npt.NDArray[np.int64]) -> None:
        self._row = {place: row for row, place in enumerate(places.tolist())}
        self._darks = Offsets.of(captured, places, "dark") if has_darks(captured, places) else None
        self._levels = captured.column("black_level_dn")[places]
        if self._darks is None and np.isnan(self._levels).any():
            raise RunFailed(
                f"{captured.where}: the rungs of its ladder cannot be merged: nobody wrote down the black level, and "
                "not every exposure has a dark frame; capture with `dark_every`"
            )

    def of(self, places: npt.NDArray[np.int64]) -> npt.NDArray[Any]:
        """(k, C, h, w) or (k, 1, 1, 1) DN."""
        rows = [self._row[place] for place in places.tolist()]
        if self._darks is not None:
            return self._darks.frames[self._darks.which[rows]]
        return np.asarray(self._levels[rows][:, None, None, None])


class _Closed:
    """What frames show through the closed mask: the one of each."""

    def __init__(self, captured: FrameStore, places: npt.NDArray[np.int64]) -> None:
        self._captured = captured
        self._of = dict(zip(places.tolist(), closed_places(captured, places).tolist(), strict=True))

    def of(self, places: npt.NDArray[np.int64]) -> npt.NDArray[Any]:
        """(k, C, h, w) DN."""
        return self._captured.read([self._of[place] for place in places.tolist()]).astype(np.float32)


def _as_measured(
    means: npt.NDArray[np.float32],
    exposure_s: npt.NDArray[np.float64],
    black_dn: npt.NDArray[np.float64],
    closed: _Closed | None,
    measurement: Measurement | None,
) -> npt.NDArray[np.float32]:
    """(N, C, h, w) DN of the bench, or of the nominal twin with `measurement`. closed: then `means` are light alone."""
    if measurement is None:
        if closed is None:
            return means
        if np.isnan(black_dn).any():
            raise RunFailed(
                "nobody wrote down the black level, which light above a closed mask stands on; capture anew"
            )
        return means + black_dn[:, None, None, None].astype(np.float32)
    import torch

    frames, times = torch.from_numpy(means), torch.from_numpy(exposure_s)
    corrected = measurement.correct(frames, times) if closed is None else measurement.of_light(frames, times)
    return np.asarray(corrected.numpy(), dtype=np.float32)


def _merged(captured: FrameStore, places: npt.NDArray[np.int64], black: _Black | _Closed | None) -> Merged:
    """In DN of the first rung, from one scene's frames at all rungs."""
    frames, saturation_dn = captured.read(places), float(captured.column("saturation_dn")[places[0]])
    if black is not None and len(places) > 1:
        return merge_rungs(frames, captured.column("exposure_s")[places], black.of(places), saturation_dn)
    level_dn = captured.column("black_level_dn")[places[0]]
    return Merged(frames[0].astype(np.float32), clipped(frames[0], level_dn, saturation_dn))


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
