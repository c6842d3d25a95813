"""Labelled pictures on the scene grid, in memory or read when they are asked for."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any, Protocol

import numpy as np

from labctl.errors import BadInput
from protocols.images import Radiance
from protocols.splits import IntArray, Split, SplitArray


class Pictures(Protocol):
    """What of an array a set of pictures needs to have, so that a set can be larger than the memory.

    shape: (N, 1, H, W). `pictures[rows]` gives what a float32 array would: (n, 1, H, W) linear radiance 0..1 for a
    slice or an array of n rows, (1, H, W) for one row. Ask for a bounded number of rows at a time, and for rows only.
    """

    @property
    def shape(self) -> tuple[int, ...]:
        """(N, 1, H, W)."""

    @property
    def ndim(self) -> int:
        """4."""

    def __len__(self) -> int: ...

    def __getitem__(self, rows: Any, /) -> Radiance: ...


@dataclass(frozen=True)
class ImageSet:
    """Labelled pictures with their split.

    images: (N, 1, H, W) linear radiance 0..1 on the scene grid, a float32 array or `Pictures` that are read when asked
    for. labels: (N,) int64, 0..K-1. split: (N,) uint8 `Split` values. class_names: K names. sample_ids: (N,) int64
    place in the source. skipped: names of the pictures that were left out because they cannot be read. together: so
    many rows in a row are frames of one clip, and are captured or left out as one.
    """

    images: Pictures
    labels: IntArray
    split: SplitArray
    class_names: tuple[str, ...]
    sample_ids: IntArray
    skipped: tuple[str, ...] = ()
    together: int = 1

    def __post_init__(self) -> None:
        if self.images.ndim != 4 or self.images.shape[1] != 1:
            raise BadInput(f"images have shape {self.images.shape}; (N, 1, H, W) is needed")
        for name in ("labels", "split", "sample_ids"):
            if getattr(self, name).shape != (len(self),):
                raise BadInput(f"{name} has shape {getattr(self, name).shape}; ({len(self)},) is needed")
        if len(self) and not 0 <= int(self.labels.min()) <= int(self.labels.max()) < len(self.class_names):
            raise BadInput(
                f"labels span {self.labels.min()}..{self.labels.max()} with {len(self.class_names)} class names; "
                f"0..{len(self.class_names) - 1} is allowed"
            )

    def __len__(self) -> int:
        return len(self.images)

    def part(self, split: Split | int | str) -> IntArray:
        """Indices of the samples of one split, in order. Raises BadInput for a split that does not exist."""
        return np.flatnonzero(self.split == Split.of(split)).astype(np.int64)
