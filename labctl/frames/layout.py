"""Where the files of a set lie, and how its shards and spools are made and mended on the disk."""

from __future__ import annotations

import os
import re
from dataclasses import dataclass
from pathlib import Path

import numpy as np
import numpy.typing as npt

from labctl.durable import sync_folder, write_whole
from labctl.frames.header import SetHeader
from labctl.frames.shards import ARRAY, array_metadata, group_metadata, shard_index, shard_name

HEADER, LEDGER, MARKS, HISTORY = "header.json", "ledger.jsonl", "marks.jsonl", "history.jsonl"
FINISHED, CARD, LOCK = "finished.json", "card.md", ".writer.lock"
GROUP, SPOOL, SCENES, SPLITS = "frames.zarr", "spool", "scenes.zarr", "splits"


@dataclass(frozen=True)
class SetFolder:
    """Paths inside the folder of a set."""

    path: Path

    @property
    def header(self) -> Path:
        """What holds for the whole set."""
        return self.path / HEADER

    @property
    def ledger(self) -> Path:
        """One line per frame."""
        return self.path / LEDGER

    @property
    def marks(self) -> Path:
        """What was found out about frames later, such as drift."""
        return self.path / MARKS

    @property
    def history(self) -> Path:
        """Who wrote when, and what opening after a crash did."""
        return self.path / HISTORY

    @property
    def finished(self) -> Path:
        """There when no frame will follow."""
        return self.path / FINISHED

    @property
    def array(self) -> Path:
        """The Zarr array of all frames."""
        return self.path / GROUP / ARRAY

    def shard(self, number: int) -> Path:
        """A complete shard."""
        return self.array / shard_name(number)

    def spool(self, number: int) -> Path:
        """The frames of a shard that is not complete, back to back."""
        return self.path / SPOOL / f"{number}.raw"

    def make(self, header: SetHeader) -> None:
        """Make an empty set; every part is on the disk when `header.json` is, and so are all names that lead to it."""
        self.array.mkdir(parents=True, exist_ok=True)
        (self.path / SPOOL).mkdir(exist_ok=True)
        write_whole(self.array.parent / "zarr.json", group_metadata())
        self.write_shape(header, 0)
        for file in (self.ledger, self.marks, self.history):  # so that appending to one never makes a name
            file.touch()
        sync_folder(self.path)
        _sync_way(self.path)
        write_whole(self.header, header.dump())

    def write_shape(self, header: SetHeader, frames: int) -> None:
        """Say in the Zarr array how many frames it has."""
        path, content = self.array / "zarr.json", array_metadata(header, frames)
        if not path.exists() or path.read_bytes() != content:
            write_whole(path, content)

    def commit_shard(self, number: int, sizes: npt.NDArray[np.int64], header: SetHeader) -> None:
        """Make the spool of a shard the shard itself. sizes: (n,) stored bytes of its frames.

        May be repeated from any point at which it was interrupted.
        """
        spool = self.spool(number)
        with spool.open("r+b") as file:
            file.truncate(int(sizes.sum()))
            file.seek(0, os.SEEK_END)
            file.write(shard_index(sizes, header.shard_frames))
            file.flush()
            if header.sync != "never":
                os.fsync(file.fileno())
        spool.replace(self.shard(number))
        if header.sync != "never":
            sync_folder(self.array)
            sync_folder(spool.parent)
        self.write_shape(header, number * header.shard_frames + len(sizes))

    def reopen_shard(self, number: int, size: int, header: SetHeader) -> None:
        """Make a shard a spool again, of its first `size` bytes. May be interrupted: a spool is cut when opened."""
        self.shard(number).replace(self.spool(number))
        if header.sync != "never":
            sync_folder(self.path / SPOOL)
            sync_folder(self.array)
        with self.spool(number).open("r+b") as file:
            file.truncate(size)
            os.fsync(file.fileno())

    def shards(self) -> list[int]:
        """Numbers of the complete shards that are there, in order."""
        found = (_SHARD.fullmatch(path.name) for path in self.array.iterdir())
        return sorted(int(match[1]) for match in found if match)

    def sweep(self) -> None:
        """Remove what a writer that was killed within `write_whole` left behind."""
        for folder in (self.path, self.array.parent, self.array):
            for name in (HEADER, FINISHED, MARKS, "zarr.json"):
                for path in folder.glob(f".{name}.*.tmp"):
                    path.unlink()


_SHARD = re.compile(re.escape(shard_name(7)).replace("7", r"(\d+)"))


def _sync_way(path: Path) -> None:
    """Bring the names that lead to `path` to the disk, as far as this user may have made them."""
    device = path.stat().st_dev
    for folder in path.parents:
        try:
            if folder.stat().st_dev != device:
                return
            sync_folder(folder)
        except PermissionError:
            return


def is_set(path: Path) -> bool:
    """Whether a folder is a captured set, of whatever schema."""
    return (path / HEADER).is_file()
