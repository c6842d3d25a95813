"""A folder of videos: one folder per action, the actor in the name of the file."""

from __future__ import annotations

import re
from collections.abc import Sequence
from pathlib import Path
from typing import Literal

from pydantic import field_validator

from labctl.errors import BadInput
from protocols.data.clips.recordings import Recording, videos_below
from protocols.data.clips.seeded import SeededVideoSource
from protocols.data.clips.video_file import VIDEO_SUFFIXES
from protocols.images import expanded
from protocols.picture_tree import visible
from protocols.splits import Split, some_of

PARTS = frozenset({"train", "val", "test"})


class VideoTree(SeededVideoSource):
    """Videos that lie as ACTION/.../VIDEO and are split here, or as train|val|test/ACTION/.../VIDEO.

    avi, mp4, m4v, mov, mkv, webm, mpg, mpeg and wmv are read; hidden files and files with other suffixes are ignored.
    """

    type: Literal["video_tree"] = "video_tree"

    actor: str
    """A regular expression for the path of a video inside its action's folder, whose first group says who is seen:
    `'^(person\\d+)_'`."""

    @field_validator("actor")
    @classmethod
    def _has_a_group(cls, value: str) -> str:
        try:
            groups = re.compile(value).groups
        except re.error as error:
            raise ValueError(f"'{value}' is no regular expression: {error}") from error
        if not groups:
            raise ValueError(f"'{value}' has no group; put what names the actor into parentheses")
        return value

    def recordings(self, root: Path) -> Sequence[Recording]:
        """See `VideoSource.recordings`."""
        top = _action_folders(root, "")
        parts = PARTS & set(top)
        if not {"train", "test"} <= parts:
            return self.split([r for action in top for r in self._of_action(root, "", action, None)])
        others = sorted(set(top) - parts)
        if others or self.split_list is not None:
            odd = (
                f"{some_of(others)} beside train and test" if others else "train and test, and `split_list` is set too"
            )
            raise BadInput(f"{self._what} holds {odd}; split it in one way only")
        return [
            recording
            for part in top
            for action in _action_folders(root, f"{part}/")
            for recording in self._of_action(root, f"{part}/", action, Split.of(part))
        ]

    def _of_action(self, root: Path, inside: str, action: str, split: Split | None) -> list[Recording]:
        folder = f"{inside}{action}"
        files = videos_below(root, folder)
        if not files:
            raise BadInput(
                f"action folder '{root / folder}' holds no videos ({', '.join(sorted(VIDEO_SUFFIXES))}); "
                "add some or remove the folder"
            )
        found = [re.search(self.actor, file.removeprefix(f"{folder}/")) for file in files]
        silent = [file for file, match in zip(files, found, strict=True) if match is None or not match.group(1)]
        if silent:
            raise BadInput(
                f"video folder '{expanded(self.path)}': actor '{self.actor}' finds nobody in {len(silent)} of "
                f"{len(files)} videos of '{action}', {some_of(silent)}; it must tell of every video who is seen; "
                "rename or remove these, or change `actor`"
            )
        return [
            Recording(file, file, action, match.group(1), split)
            for file, match in zip(files, found, strict=True)
            if match is not None
        ]


def _action_folders(root: Path, inside: str) -> list[str]:
    folders, files = visible(root, inside)
    stray = [name for name in files if Path(name).suffix.lower() in VIDEO_SUFFIXES]
    if stray:
        raise BadInput(f"folder '{root / inside}' has videos in no action: {some_of(stray)}; move each into its action")
    if not folders:
        raise BadInput(f"folder '{root / inside}' holds no action folders; put each action into a folder of its own")
    return folders
