"""Clips in one npz file that says what is done, by whom, and how they are split."""

from __future__ import annotations

from pathlib import Path
from typing import Literal

import numpy as np
import numpy.typing as npt

from labctl.errors import BadInput
from labctl.protocol import Progress, unwatched
from protocols.data.clips.clip_set import ClipSet
from protocols.data.clips.two_labels import Actors, require_learnable
from protocols.data.clips.windows import WindowedSource, window_places
from protocols.images import (
    Crop,
    Encoding,
    check_scene_shape,
    existing_file,
    expanded,
    linear_radiance,
    npz_array,
    npz_hash,
    npz_headers,
    resized,
)
from protocols.splits import IntArray, SplitArray, some_of


class NpzClips(WindowedSource):
    """An npz file with `clips` (N, T, H, W) uint8 or float 0..1, `action` and `actor` (N,) from 0 up, `split` (N,)
    0/1/2.

    `action_name` and `actor_name`, if the file has them, name label k in their place k. Other keys are ignored. No
    pickles are read. The whole array `clips` is in memory while it is read.
    """

    type: Literal["npz_clips"] = "npz_clips"

    path: Path
    """Relative to the current directory; `~` is the home directory."""

    split_key: str = "split"
    """The array that holds the split, where a file has several."""

    actors: Actors = "shared"
    """`shared` refuses a split without training or test clips of an actor; `apart` one with an actor in two parts."""

    encoding: Encoding = "linear"
    crop: Crop = "centre"

    def check(self) -> None:
        """Read headers, labels and split, and judge them; no pixels. Raises BadInput."""
        self._index()

    def check_pixels(self, scene_shape: tuple[int, int], progress: Progress = unwatched) -> None:
        """See `ImageSource.check_pixels`: float clips must span 0..1."""
        self._index()
        path = expanded(self.path)
        if npz_headers(path)["clips"][1].kind == "f":
            for row, clip in enumerate(npz_array(path, "clips")):
                self._require_unit_range(clip, row)

    def fingerprint(self) -> str:
        """Changes with the settings and with any byte of the file."""
        return self._digest([npz_hash(existing_file(self.path))])

    def labels(self) -> tuple[IntArray, IntArray]:
        """See `ClipSource.labels`."""
        return self._index()[:2]

    @property
    def actor_names(self) -> tuple[str, ...]:
        """`actor_name` of the actors that are there."""
        return self._index()[4]

    def load_clips(self, scene_shape: tuple[int, int]) -> ClipSet:
        """The windows of all clips; clip_ids are rows of the file."""
        check_scene_shape(scene_shape)
        action, actor, split, action_names, actor_names = self._index()
        values = npz_array(expanded(self.path), "clips")
        places = window_places(values.shape[1], self.frames, self.stride, self.start)
        clips = np.empty((len(values), self.frames, 1, *scene_shape), dtype=np.float32)
        for row, recording in enumerate(values):
            self._require_unit_range(recording, row)
            for frame, place in enumerate(places):
                share = recording[place] / np.float32(255) if values.dtype == np.uint8 else recording[place]
                clips[row, frame, 0] = resized(linear_radiance(share, self.encoding), scene_shape, self.crop)
        ids = np.arange(len(values), dtype=np.int64)
        return ClipSet(clips, action, actor, split, action_names, actor_names, ids)

    @property
    def _what(self) -> str:
        return f"npz file '{expanded(self.path)}'"

    def _require_unit_range(self, clip: npt.NDArray[np.generic], row: int) -> None:
        if clip.dtype.kind == "f" and not (clip.min() >= 0 and clip.max() <= 1):
            raise BadInput(
                f"{self._what}: clip {row} spans {clip.min():.3g}..{clip.max():.3g}; 0..1 is allowed for float clips; "
                "divide them by their full scale, or store uint8"
            )

    def _index(self) -> tuple[IntArray, IntArray, SplitArray, tuple[str, ...], tuple[str, ...]]:
        """Actions and actors from 0, split, and the names of both, after all checks."""
        path = existing_file(self.path)
        headers = npz_headers(path)
        missing = [key for key in ("clips", "action", "actor", self.split_key) if key not in headers]
        if missing:
            found = some_of(sorted(headers), 12) or "no arrays"
            raise BadInput(f"{self._what} lacks {some_of(missing)}; found {found}; write these too")
        shape, dtype = headers["clips"]
        if len(shape) != 4 or 0 in shape or not (dtype == np.uint8 or dtype.kind == "f"):
            raise BadInput(
                f"{self._what}: clips have shape {shape}, type {dtype}; (N, T, H, W) uint8 or float is needed"
            )
        for key in ("action", "actor", self.split_key):
            if headers[key][0] != shape[:1] or headers[key][1].kind not in "iu":
                raise BadInput(
                    f"{self._what}: {key} has shape {headers[key][0]}, type {headers[key][1]} for {shape[0]} clips; "
                    "one whole number per clip is needed"
                )
        if shape[1] < self.window_span:
            raise BadInput(
                f"{self._what}: clips have {shape[1]} frames; frames = {self.frames} with stride = {self.stride} need "
                f"{self.window_span}; lower one of them"
            )
        split = npz_array(path, self.split_key)
        wrong = np.setdiff1d(split, [0, 1, 2])
        if wrong.size:
            raise BadInput(
                f"{self._what}: {self.split_key} holds {some_of([str(v) for v in wrong])}; 0 train, 1 val, 2 test only"
            )
        (action, action_names), (actor, actor_names) = (self._named(key, headers) for key in ("action", "actor"))
        part = split.astype(np.uint8)
        require_learnable(action, actor, part, action_names, actor_names, keep=self.actors, what=self._what)
        return action, actor, part, action_names, actor_names

    def _named(
        self, key: str, headers: dict[str, tuple[tuple[int, ...], np.dtype[np.generic]]]
    ) -> tuple[IntArray, tuple[str, ...]]:
        """Labels from 0 of those values of `key` that are there, and their names."""
        path = expanded(self.path)
        given = npz_array(path, key)
        if given.min() < 0:
            raise BadInput(f"{self._what}: {key} goes down to {given.min()}; whole numbers from 0 are needed")
        values, labels = np.unique(given, return_inverse=True)
        names = tuple(str(value) for value in values)
        if f"{key}_name" in headers:
            known = npz_array(path, f"{key}_name")
            if known.ndim != 1 or len(known) <= int(values[-1]) or known.dtype.kind != "U":
                raise BadInput(
                    f"{self._what}: {key}_name has shape {known.shape}, type {known.dtype}; one text for each of the "
                    f"{int(values[-1]) + 1} values of {key} is needed"
                )
            names = tuple(str(known[value]) for value in values)
        return labels.reshape(-1).astype(np.int64), names
