"""Clips with two labels each: what is done, and by whom."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any, Protocol

import numpy as np

from labctl.errors import BadInput
from protocols.data.image_set import ImageSet
from protocols.images import Radiance
from protocols.splits import IntArray, Split, SplitArray


class Clips(Protocol):
    """What of an array a set of clips needs to have, so that a set can be larger than the memory.

    shape: (N, T, 1, H, W). `clips[rows]` gives what a float32 array would: (n, T, 1, H, W) linear radiance 0..1 for a
    slice or an array of n rows. Ask for a bounded number of rows at a time, and for rows only.
    """

    @property
    def shape(self) -> tuple[int, ...]:
        """(N, T, 1, H, W)."""

    @property
    def ndim(self) -> int:
        """5."""

    def __len__(self) -> int: ...

    def __getitem__(self, rows: Any, /) -> Radiance: ...


@dataclass(frozen=True)
class ClipSet:
    """Labelled clips of equal length with their split.

    clips: (N, T, 1, H, W) linear radiance 0..1 on the scene grid. action, actor: (N,) int64 from 0; action_names,
    actor_names: what they are called. split: (N,) uint8 `Split` values. clip_ids: (N,) int64 place in the source.
    skipped: names of the clips that were left out because they cannot be read.

    As pictures, frame t of clip k has the sample id clip_ids[k] * T + t: so captured frames find back to their clip.
    """

    clips: Clips
    action: IntArray
    actor: IntArray
    split: SplitArray
    action_names: tuple[str, ...]
    actor_names: tuple[str, ...]
    clip_ids: IntArray
    skipped: tuple[str, ...] = ()

    def __post_init__(self) -> None:
        if self.clips.ndim != 5 or self.clips.shape[2] != 1:
            raise BadInput(f"clips have shape {self.clips.shape}; (N, T, 1, H, W) is needed")
        for name in ("action", "actor", "split", "clip_ids"):
            if getattr(self, name).shape != (len(self),):
                raise BadInput(f"{name} has shape {getattr(self, name).shape}; ({len(self)},) is needed")
        for name, names in (("action", self.action_names), ("actor", self.actor_names)):
            labels = getattr(self, name)
            if len(labels) and not 0 <= int(labels.min()) <= int(labels.max()) < len(names):
                raise BadInput(f"{name} spans {labels.min()}..{labels.max()} with {len(names)} names; 0.. is allowed")

    def __len__(self) -> int:
        return len(self.clips)

    @property
    def frames(self) -> int:
        """T, frames of every clip."""
        return int(self.clips.shape[1])

    def part(self, split: Split | int | str) -> IntArray:
        """Indices of the clips of one split, in order. Raises BadInput for a split that does not exist."""
        return np.flatnonzero(self.split == Split.of(split)).astype(np.int64)

    def pictures(self) -> ImageSet:
        """All frames as pictures, clip after clip; the class of each is the action of its clip."""
        t = self.frames
        ids = (self.clip_ids[:, None] * t + np.arange(t)).reshape(-1)
        labels, split = np.repeat(self.action, t), np.repeat(self.split, t)
        return ImageSet(_Frames(self.clips), labels, split, self.action_names, ids, self.skipped, together=t)


class _Frames:
    """Frames of clips (N, T, 1, H, W) as pictures (N * T, 1, H, W), read when asked for."""

    def __init__(self, clips: Clips) -> None:
        self._clips = clips
        n, self._t, *rest = clips.shape
        self.shape: tuple[int, ...] = (n * self._t, *rest)

    @property
    def ndim(self) -> int:
        return 4

    def __len__(self) -> int:
        return self.shape[0]

    def __getitem__(self, rows: Any, /) -> Radiance:
        places = np.arange(len(self))[rows]
        clip, frame = np.divmod(np.atleast_1d(places), self._t)
        wanted, back = np.unique(clip, return_inverse=True)
        read = np.asarray(self._clips[wanted])[back.reshape(-1), frame]
        return read if np.ndim(places) else read[0]
