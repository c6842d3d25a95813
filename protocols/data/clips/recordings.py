"""Which recordings a set has, and the clips that are cut out of them once and kept."""

from __future__ import annotations

import hashlib
import json
from collections.abc import Callable, Sequence
from dataclasses import dataclass, field
from functools import cached_property
from pathlib import Path
from typing import Any

import numpy as np

from labctl.errors import BadInput
from labctl.protocol import Progress
from protocols.data.clips.video_file import VIDEO_SUFFIXES, Window, pictures_of, read_window
from protocols.data.decoding import Decoded
from protocols.data.image_set import Pictures
from protocols.data.scene_store import to_levels
from protocols.images import Crop, Encoding, Radiance, resized
from protocols.picture_tree import content_of, stamp_of, visible
from protocols.splits import Split, spread

CLIP_DECODING_VERSION = 1
"""Raise it when the same recording gives another clip."""

CONTENTS_HASHED = 100
"""Recordings of which some content counts besides name, size and time."""


@dataclass(frozen=True)
class Recording:
    """One clip to be cut. name: unique. file: path inside the tree with forward slashes, of a video or of a folder of
    pictures. first, last: the frames that belong to it, counted from 0, both included; None: to the end."""

    name: str
    file: str
    action: str
    actor: str
    split: Split | None = None
    first: int = 0
    last: int | None = None


def stamp_of_all(root: Path, recordings: Sequence[Recording]) -> bytes:
    """Changes with the list itself, with name, size or time of any file, and with the content of CONTENTS_HASHED."""
    digest = hashlib.sha256(json.dumps([[r.name, r.file, r.first, r.last] for r in recordings]).encode())
    files = sorted({recording.file for recording in recordings})
    parts = [part for file in files for part in _files_of(root, file)]
    for part in parts:
        digest.update(stamp_of(root, part))
    for row in spread(len(parts), CONTENTS_HASHED):
        digest.update(content_of(root, parts[row]))
    return digest.digest()


@dataclass(frozen=True)
class ClipDecoding:
    """Recordings become clips, the frames of each one below the other: a `protocols.data.decoding.Decoding`.

    stamp: see `stamp_of_all`. clip_shape: (H, W) of a frame.
    """

    root: Path = field(compare=False)
    recordings: Sequence[Recording] = field(compare=False)
    stamp: bytes
    window: Window
    clip_shape: tuple[int, int]
    crop: Crop
    encoding: Encoding
    progress: Progress = field(compare=False)
    unit: str = field(default="clips", compare=False)

    @cached_property
    def names(self) -> Sequence[str]:
        """See `Decoding`."""
        return [recording.name for recording in self.recordings]

    @property
    def scene_shape(self) -> tuple[int, int]:
        """(T * H, W)."""
        return self.window.frames * self.clip_shape[0], self.clip_shape[1]

    @property
    def key(self) -> str:
        """See `Decoding`."""
        said = (CLIP_DECODING_VERSION, self.window, self.clip_shape, self.crop, self.encoding)
        return hashlib.sha256(f"clips/{said}/".encode() + self.stamp).hexdigest()

    def scene(self, row: int) -> Decoded:
        """See `Decoding`."""
        of = self.recordings[row]
        frames = read_window(self.root / of.file, self.window, self.encoding, of.first, of.last)
        small = [to_levels(resized(frame, self.clip_shape, self.crop)) for frame in frames]
        return Decoded(np.concatenate(small), (frames.shape[1], frames.shape[2]), coloured=False)


class StackedClips:
    """`Clips` (N, T, 1, H, W) of scenes (N, 1, T * H, W)."""

    ndim = 5

    def __init__(self, scenes: Pictures, frames: int) -> None:
        self._scenes = scenes
        self._frames = frames

    @property
    def shape(self) -> tuple[int, ...]:
        """(N, T, 1, H, W)."""
        n, _, rows, columns = self._scenes.shape
        return n, self._frames, 1, rows // self._frames, columns

    def __len__(self) -> int:
        return len(self._scenes)

    def __getitem__(self, rows: Any, /) -> Radiance:
        scenes = np.asarray(self._scenes[rows])
        return scenes.reshape(*scenes.shape[:-3], *self.shape[1:])


def videos_below(root: Path, inside: str = "") -> list[str]:
    """Paths of all video files in and below a folder of the tree, by name; hidden ones are ignored."""
    return _below(root, inside, lambda _, files: [name for name in files if _is_video(name)])


def picture_folders_below(root: Path, inside: str = "") -> list[str]:
    """Paths of all folders in and below a folder of the tree that hold pictures, by name."""
    found = _below(root, inside, lambda folder, _: ["."] if pictures_of(folder) else [])
    return [name.removesuffix("/.") for name in found]


def existing_tree(root: Path) -> None:
    """Raise BadInput unless `root` is a folder."""
    if not root.is_dir():
        kind = "is a file" if root.exists() else "does not exist"
        raise BadInput(f"video folder '{root}' {kind}; give the folder that holds the videos (from {Path.cwd()})")


def _below(root: Path, inside: str, pick: Callable[[Path, list[str]], list[str]]) -> list[str]:
    folders, files = visible(root, inside)
    start = f"{inside}/" if inside else ""
    found = [f"{start}{name}" for name in pick(root / inside, files)]
    for folder in folders:
        found += _below(root, f"{start}{folder}", pick)
    return sorted(found)


def _files_of(root: Path, file: str) -> list[str]:
    if (root / file).is_dir():
        return [f"{file}/{picture.name}" for picture in pictures_of(root / file)]
    return [file]


def _is_video(name: str) -> bool:
    return Path(name).suffix.lower() in VIDEO_SUFFIXES
