"""What every set of clips must be able to say and do."""

from __future__ import annotations

from abc import abstractmethod

import numpy as np

from protocols.data.clips.clip_set import ClipSet
from protocols.data.image_set import ImageSet
from protocols.data.source import ImageSource
from protocols.splits import IntArray


class ClipSource(ImageSource):
    """Settings that say where labelled clips come from. `load_clips` depends on settings and source alone.

    To steps that know no clips, it is a source of pictures: the frames, each with the action of its clip.
    """

    @abstractmethod
    def load_clips(self, scene_shape: tuple[int, int]) -> ClipSet:
        """All clips at `scene_shape` (rows, columns), all of the same length. Raises BadInput with the cause."""

    @abstractmethod
    def labels(self) -> tuple[IntArray, IntArray]:
        """(N,) actions and (N,) actors of the clips that `load_clips` gives, in its order, without reading pixels."""

    @property
    @abstractmethod
    def clip_frames(self) -> int:
        """T, frames of every clip."""

    @property
    def actor_names(self) -> tuple[str, ...]:
        """What the actors are called, by label; their numbers where a source knows no names."""
        return tuple(str(actor) for actor in range(int(self.labels()[1].max()) + 1))

    def load(self, scene_shape: tuple[int, int]) -> ImageSet:
        """The frames as pictures; see `ClipSet.pictures`."""
        return self.load_clips(scene_shape).pictures()

    def attribute(self, name: str) -> tuple[IntArray, tuple[str, ...]]:
        """`actor`, of every frame."""
        if name != "actor":
            return super().attribute(name)
        return np.repeat(self.labels()[1], self.clip_frames), self.actor_names
