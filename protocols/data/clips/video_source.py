"""Clips in video files, whatever says which file shows what: what all readers of videos have in common."""

from __future__ import annotations

import json
from abc import abstractmethod
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from functools import cached_property
from pathlib import Path
from typing import Literal

import numpy as np

from labctl.errors import BadInput
from labctl.protocol import Progress, unwatched
from protocols.data.clips.clip_set import ClipSet
from protocols.data.clips.recordings import ClipDecoding, Recording, StackedClips, existing_tree, stamp_of_all
from protocols.data.clips.two_labels import Actors, require_learnable
from protocols.data.clips.video_file import (
    FrameRate,
    Short,
    ShortRecording,
    UnevenRecording,
    Window,
    check_recording,
    require_av,
)
from protocols.data.clips.windows import WindowedSource
from protocols.data.decoding import decoded
from protocols.data.scene_store import SceneStore
from protocols.images import Crop, Encoding, UnreadablePicture, check_scene_shape, expanded
from protocols.splits import IntArray, SplitArray, spread

HEADERS_LOOKED_AT = 100
"""Recordings whose headers `check` reads."""

_UNREADABLE: dict[str, frozenset[int]] = {}
"""Rows that cannot be read, by what was tried: the same at every size, so `labels` need not decode again."""


@dataclass(frozen=True, eq=False)  # arrays have no truth value, and settings are compared without this
class Cast:
    """Who does what in each of N recordings, in which part of the split, after all checks."""

    recordings: Sequence[Recording]
    action: IntArray
    actor: IntArray
    split: SplitArray
    action_names: tuple[str, ...]
    actor_names: tuple[str, ...]
    stamp: bytes


class VideoSource(WindowedSource):
    """Clips cut out of recordings, each decoded once, to 16 bit on the scene grid.

    Grey is the luma of a video. A set that takes more than 64 MiB as float32 is kept in a file of the cache folder, as
    pictures are. One object looks at its tree once, at first use; make another one to see what changed since.
    """

    path: Path
    """Relative to the current directory; `~` is the home directory."""

    short: Short = "refuse"
    frame_rate: FrameRate = "constant"

    corrupt: Literal["refuse", "skip"] = "refuse"
    """`skip` leaves out recordings that cannot be read and names them in `ClipSet.skipped`."""

    encoding: Encoding = "linear"
    crop: Crop = "centre"

    @property
    @abstractmethod
    def keep(self) -> Actors:
        """What the split must do with actors."""

    @abstractmethod
    def recordings(self, root: Path) -> Sequence[Recording]:
        """All recordings below `root`, each with its part of the split, in a lasting order. Raises BadInput."""

    @cached_property
    def cast(self) -> Cast:
        """The tree at its first look. Raises BadInput."""
        root = expanded(self.path)
        existing_tree(root)
        found = self.recordings(root)
        if not found:
            raise BadInput(f"{self._what} holds no recordings; see the type '{self.type}' for how they must lie")
        split = np.array([recording.split for recording in found], dtype=np.uint8)
        (action, action_names), (actor, actor_names) = (
            _numbered([getattr(recording, kind) for recording in found]) for kind in ("action", "actor")
        )
        require_learnable(action, actor, split, action_names, actor_names, keep=self.keep, what=self._what)
        return Cast(found, action, actor, split, action_names, actor_names, stamp_of_all(root, found))

    def check(self) -> None:
        """List the tree, judge labels and split, and read a few headers. Raises BadInput."""
        require_av()
        found = self.cast.recordings
        if self.corrupt == "refuse":
            causes = {}
            for row in spread(len(found), HEADERS_LOOKED_AT):
                try:
                    check_recording(expanded(self.path) / found[row].file)
                except UnreadablePicture as error:
                    causes[int(row)] = error
            self._refuse(causes, min(len(found), HEADERS_LOOKED_AT))

    def check_pixels(self, scene_shape: tuple[int, int], progress: Progress = unwatched) -> None:
        """See `ImageSource.check_pixels`: decodes every window, unless that was done before."""
        require_av()
        self._usable(scene_shape, progress)

    def fingerprint(self) -> str:
        """Changes with the settings, with what any recording shows and its part of the split, and with its file."""
        said = [[r.name, r.action, r.actor, r.split] for r in self.cast.recordings]
        return self._digest([self.cast.stamp, json.dumps(said).encode()])

    def labels(self) -> tuple[IntArray, IntArray]:
        """See `ClipSource.labels`. With `corrupt: skip`, what cannot be read is found out once by decoding."""
        rows = self._readable()
        return self.cast.action[rows], self.cast.actor[rows]

    @property
    def actor_names(self) -> tuple[str, ...]:
        """By label."""
        return self.cast.actor_names

    def load_clips(self, scene_shape: tuple[int, int]) -> ClipSet:
        """The clips; clip_ids are places in the listing of all recordings."""
        store, rows = self._usable(scene_shape, unwatched)
        cast = self.cast
        skipped = np.setdiff1d(np.arange(len(cast.recordings)), rows)
        return ClipSet(
            StackedClips(store.pictures(rows), self.frames),
            cast.action[rows],
            cast.actor[rows],
            cast.split[rows],
            cast.action_names,
            cast.actor_names,
            rows,
            tuple(cast.recordings[row].name for row in skipped),
        )

    @property
    def _what(self) -> str:
        return f"video folder '{expanded(self.path)}'"

    def _decoding(self, scene_shape: tuple[int, int], progress: Progress) -> ClipDecoding:
        window = Window(self.frames, self.stride, self.start, self.short, self.frame_rate)
        root = expanded(self.path)
        return ClipDecoding(
            root, self.cast.recordings, self.cast.stamp, window, scene_shape, self.crop, self.encoding, progress
        )

    def _readable(self) -> IntArray:
        everyone = np.arange(len(self.cast.recordings), dtype=np.int64)
        if self.corrupt == "refuse":
            return everyone
        smallest = self._decoding((1, 1), unwatched)
        if smallest.key not in _UNREADABLE:
            self._usable((1, 1), unwatched)
        return np.setdiff1d(everyone, list(_UNREADABLE[smallest.key])).astype(np.int64)

    def _usable(self, scene_shape: tuple[int, int], progress: Progress) -> tuple[SceneStore, IntArray]:
        """All clips, and the rows of those that can be read. Raises BadInput for the others unless they may be."""
        check_scene_shape(scene_shape)
        decoding = self._decoding(scene_shape, progress)
        store, causes = decoded(decoding)
        short = {row: cause for row, cause in causes.items() if isinstance(cause, ShortRecording)}
        uneven = {row: cause for row, cause in causes.items() if isinstance(cause, UnevenRecording)}
        broken = {row: cause for row, cause in causes.items() if row not in short and row not in uneven}
        if self.corrupt == "refuse":
            self._refuse(broken, len(decoding.names))
        self._say(
            short,
            f"of {len(decoding.names)} recordings are shorter than the window of {self.window_span} frames "
            f"(frames = {self.frames}, stride = {self.stride})",
            "lower frames or stride, remove these, or set `short: repeat`",
        )
        self._say(
            uneven,
            f"of {len(decoding.names)} recordings have a variable frame rate",
            "give them a constant one (ffmpeg -i IN -vf fps=25 OUT), or set `frame_rate: any`",
        )
        _UNREADABLE[self._decoding((1, 1), unwatched).key] = frozenset(broken)
        rows = np.setdiff1d(np.arange(len(decoding.names)), list(broken)).astype(np.int64)
        if broken:
            cast = self.cast
            require_learnable(
                cast.action[rows], cast.actor[rows], cast.split[rows], cast.action_names, cast.actor_names,
                keep=self.keep, what=f"{self._what} without the {len(broken)} recordings that cannot be read",
            )  # fmt: skip
        return store, rows

    def _refuse(self, broken: Mapping[int, UnreadablePicture], looked_at: int) -> None:
        self._say(broken, f"of {looked_at} recordings cannot be read", "repair or remove them, or set `corrupt: skip`")

    def _say(self, causes: Mapping[int, UnreadablePicture], what: str, action: str) -> None:
        if causes:
            said = "; ".join(f"'{self.cast.recordings[row].name}': {cause}" for row, cause in list(causes.items())[:5])
            more = f"; and {len(causes) - 5} more" if len(causes) > 5 else ""
            raise BadInput(f"{self._what}: {len(causes)} {what}: {said}{more}; {action}")


def _numbered(values: Sequence[str]) -> tuple[IntArray, tuple[str, ...]]:
    names, labels = np.unique(np.array(values), return_inverse=True)
    return labels.reshape(-1).astype(np.int64), tuple(str(name) for name in names)
