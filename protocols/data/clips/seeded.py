"""Readers whose split comes from a seed, or from the user's own list."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import replace
from pathlib import Path
from typing import Annotated

from annotated_types import Ge

from labctl.errors import BadInput
from labctl.suggest import one_of
from protocols.data.clips.recordings import Recording
from protocols.data.clips.two_labels import Actors, split_clips
from protocols.data.clips.video_source import VideoSource
from protocols.data.source import Fractions
from protocols.images import expanded
from protocols.splits import Split, some_of

LEFT_OUT = "leave"


class SeededVideoSource(VideoSource):
    """Recordings split by seed and fractions, whole files at a time, or by a list."""

    split_seed: Annotated[int, Ge(0)] = 0
    """Decides the split where nothing else does."""

    fractions: Fractions = (0.6, 0.2, 0.2)
    """Train, val and test share of every actor's files (`actors: apart`: of the actors). They sum to 1."""

    split_list: Path | None = None
    """A text file with a line `NAME train`, `NAME val`, `NAME test` or `NAME leave` for every recording; a comma will
    do for the space. NAME is the path in the folder, without suffix if you like, and may have more folders before it.
    It goes before the seed."""

    actors: Actors = "shared"
    """`shared`: every actor trains and is tested, so that an attacker can learn to name them. `apart`: nobody does
    both."""

    @property
    def keep(self) -> Actors:
        """As `actors` says."""
        return self.actors

    def split(self, recordings: Sequence[Recording]) -> list[Recording]:
        """The recordings with their part of the split. Raises BadInput."""
        if self.split_list is not None:
            return _as_listed(recordings, expanded(self.split_list))
        files = list({recording.file: recording for recording in recordings}.values())
        parts = split_clips(
            [recording.action for recording in files],
            [recording.actor for recording in files],
            [recording.file for recording in files],
            fractions=self.fractions,
            seed=self.split_seed,
            keep=self.keep,
            what=self._what,
        )
        part_of = {recording.file: Split(int(part)) for recording, part in zip(files, parts, strict=True)}
        return [replace(recording, split=part_of[recording.file]) for recording in recordings]


def _as_listed(recordings: Sequence[Recording], path: Path) -> list[Recording]:
    said = _read_list(path)
    found = [(recording, _tail(recording.file, said)) for recording in recordings]
    unsaid = [recording.name for recording, name in found if name is None]
    if unsaid:
        raise BadInput(
            f"split list '{path}' does not name {len(unsaid)} of {len(recordings)} recordings, {some_of(unsaid)}; "
            f"write train, val, test or {LEFT_OUT} after each"
        )
    missing = sorted(set(said) - {name for _, name in found if name is not None})
    if missing:
        raise BadInput(f"split list '{path}' names {some_of(missing)}, not found; correct the list or the folder")
    return [replace(r, split=Split.of(said[name])) for r, name in found if name is not None and said[name] != LEFT_OUT]


def _tail(file: str, said: Mapping[str, str]) -> str | None:
    """The listed name that ends with this file, with or without its suffix, on the border of a folder."""
    stem = file[: file.rfind(".")] if "." in file.rpartition("/")[2] else file
    if file in said or stem in said:
        return file if file in said else stem
    return next((name for name in said if name.endswith((f"/{file}", f"/{stem}"))), None)


def _read_list(path: Path) -> dict[str, str]:
    try:
        lines = path.read_text(encoding="utf-8").splitlines()
    except (OSError, UnicodeDecodeError) as error:
        why = getattr(error, "strerror", None) or "it is no text"
        raise BadInput(
            f"split list '{path}' cannot be read: {why}; give a text file with lines `NAME train`"
        ) from error
    said: dict[str, str] = {}
    allowed = ("train", "val", "test", LEFT_OUT)
    for number, line in enumerate(lines, 1):
        if not line.strip():
            continue
        name, _, part = line.replace(",", " ").strip().rpartition(" ")
        if part not in allowed or not name.strip():
            raise BadInput(f"split list '{path}' line {number}: '{line}' is no `NAME PART`; {one_of(part, allowed)}")
        if name.strip() in said:
            raise BadInput(f"split list '{path}' line {number}: '{name.strip()}' is named twice; name each once")
        said[name.strip()] = part
    return said
