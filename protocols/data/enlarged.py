"""More test pictures from those there are: flipped and turned copies, made when they are asked for."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, replace
from functools import cached_property
from typing import Annotated, Any

import numpy as np
from annotated_types import Ge, Le
from pydantic import field_validator

from labctl.frozen import Frozen
from protocols.data.image_set import ImageSet, Pictures
from protocols.images import Radiance
from protocols.splits import IntArray, Split

COPY_STEP = 10**12
"""Added to the sample id for every further copy: the rest of an id is the place of the picture in its source."""


class Enlargement(Frozen):
    """Copies of every test picture, besides itself: turned by every angle, and, with `flip`, all of them mirrored.

    Copies are no new faces: intervals are drawn over the pictures that they were made from.
    """

    flip: bool = True
    """Mirrored left to right."""

    rotations_deg: tuple[Annotated[float, Ge(-45), Le(45)], ...] = (-10.0, -5.0, 5.0, 10.0)
    """Turned about the centre, anticlockwise; edges repeat outwards. The paper does not tell its angles: these are a
    choice."""

    @field_validator("rotations_deg")
    @classmethod
    def _each_once(cls, value: tuple[float, ...]) -> tuple[float, ...]:
        if 0 in value or len(set(value)) < len(value):
            raise ValueError(f"{list(value)} holds 0 or an angle twice; the picture itself is there already")
        return value

    @property
    def copies(self) -> tuple[tuple[bool, float], ...]:
        """(mirrored, angle) of every copy, the picture itself first."""
        return tuple((flip, angle) for flip in ([False, True] if self.flip else [False]) for angle in self._angles)

    @property
    def _angles(self) -> tuple[float, ...]:
        return (0.0, *self.rotations_deg)


@dataclass(frozen=True)
class EnlargedPictures:
    """`Pictures` of which some are copies. rows, copies: (N,) picture and number of the copy of each place."""

    pictures: Pictures
    rows: IntArray
    copies: IntArray
    enlargement: Enlargement

    @property
    def shape(self) -> tuple[int, ...]:
        """(N, 1, H, W)."""
        return len(self), *self.pictures.shape[1:]

    @property
    def ndim(self) -> int:
        """4."""
        return 4

    def __len__(self) -> int:
        return len(self.rows)

    def __getitem__(self, places: Any, /) -> Radiance:
        rows, copies = np.asarray(self.rows[places]), np.asarray(self.copies[places])
        scenes = np.array(self.pictures[rows.reshape(-1)], dtype=np.float32)
        for scene, copy in zip(scenes, copies.reshape(-1), strict=True):
            scene[0] = changed(scene[0], *self._kinds[int(copy)])
        return scenes.reshape(*rows.shape, *self.pictures.shape[1:])

    @cached_property
    def _kinds(self) -> Sequence[tuple[bool, float]]:
        return self.enlargement.copies


def changed(picture: Radiance, flip: bool, angle_deg: float) -> Radiance:
    """(H, W) radiance, mirrored and then turned anticlockwise, bilinear, edges repeated."""
    from scipy.ndimage import rotate

    picture = picture[:, ::-1] if flip else picture
    if angle_deg == 0:
        return picture
    return np.asarray(rotate(picture, angle_deg, reshape=False, order=1, mode="nearest"), dtype=np.float32)


def enlarged(data: ImageSet, enlargement: Enlargement | None) -> ImageSet:
    """The set with copies of its test pictures behind it; None leaves it as it is."""
    if enlargement is None:
        return data
    rows, copies = enlarged_rows(data.split, enlargement)
    return replace(
        data,
        images=EnlargedPictures(data.images, rows, copies, enlargement),
        labels=data.labels[rows],
        split=data.split[rows],
        sample_ids=data.sample_ids[rows] + COPY_STEP * copies,
    )


def enlarged_rows(split: Any, enlargement: Enlargement | None) -> tuple[IntArray, IntArray]:
    """(N,) row of the plain set, and number of the copy, of every place of the enlarged one."""
    plain = np.arange(len(split), dtype=np.int64)
    if enlargement is None:
        return plain, np.zeros_like(plain)
    test = plain[np.asarray(split) == Split.TEST]
    further = np.arange(1, len(enlargement.copies), dtype=np.int64)
    rows = np.concatenate([plain, np.tile(test, len(further))])
    return rows, np.concatenate([np.zeros_like(plain), np.repeat(further, len(test))])


def sources_of(sample_ids_by_seed: Sequence[IntArray]) -> list[IntArray] | None:
    """For each seed (n,) place in the source of the picture that each sample is, or is a copy of; None without copies.

    See `groups` of `protocols.metrics.accuracy_interval`.
    """
    if all(len(ids) == 0 or int(ids.max()) < COPY_STEP for ids in sample_ids_by_seed):
        return None
    return [np.asarray(ids) % COPY_STEP for ids in sample_ids_by_seed]
