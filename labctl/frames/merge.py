"""One set out of several: frames one after the other, what is known of them kept, nothing counted twice."""

from __future__ import annotations

import time
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
from pydantic import ValidationError

from labctl.config import content_hash
from labctl.durable import append_line, read_lines
from labctl.errors import BadInput, RunFailed
from labctl.frames.card import write_card
from labctl.frames.finding import find_set, writer_of
from labctl.frames.layout import FINISHED, is_set
from labctl.frames.merged_header import merged_header
from labctl.frames.merged_splits import keep_splits
from labctl.frames.older import OlderSet, is_older
from labctl.frames.record import FrameRecord
from labctl.frames.renaming import Renaming, renamings
from labctl.frames.scenes import FloatArray, Scenes, write_scenes
from labctl.frames.sessions import read_sessions
from labctl.frames.store import FrameStore
from labctl.frames.writer import FrameWriter

Part = FrameStore | OlderSet
Say = Callable[[str], None]


def merge(
    sources: Sequence[str | Path],
    out: Path,
    *,
    as_repeats: bool = False,
    say: Say = lambda text: None,
    progress: Callable[[int, int], None] = lambda done, total: None,
) -> FrameStore:
    """Make one set in `out` of several of equal frame shape, also of the older schema; the sources stay as they are.

    Indices are counted anew and marks move with them; everything else that is known of a frame stays. Sample ids stay
    where all sets were made of the same data, and are shifted apart where not; later splits that all sets have go
    along. as_repeats: frames of a sample that an earlier set has, too, count as further repeats, if they were taken
    alike: mask, exposure, gain, black and saturation level. A merge that was killed goes on when it is started again.

    Raises BadInput for sets that do not fit, RunFailed for a damaged frame or a disk that refuses.
    say, progress: hear what a user should know, and how many of how many frames are done.
    """
    parts = [_open(source) for source in sources]
    _check(parts, out)
    for part in parts:
        if not part.finished:
            planned = "" if part.header.planned is None else f" of {part.header.planned}"
            say(f"{part.where} is not finished; its {len(part)}{planned} frames are taken as they are")
    try:
        names = renamings(parts, as_repeats=as_repeats, say=say)
        _ = [part.marks for part in parts]
    except ValidationError as error:
        said = error.errors()[0]["msg"]
        raise BadInput(
            f"a set does not hold to its schema ({said}); `labctl dataset verify` says which frame"
        ) from error
    head = merged_header(parts, names, say=say)
    set_id = content_hash([*map(_fingerprint, parts), as_repeats])
    head = head.model_copy(update={"set_id": f"merge-{set_id}", "planned": sum(map(len, parts))})
    try:
        with FrameWriter(out, head, say=say) as writer:
            if writer.next_index:
                say(f"going on at frame {writer.next_index}")
            _copy(parts, names, writer, progress)
            _keep_scenes(parts, names, out, say)
            keep_splits(parts, names, out, say=say)
            _keep_beside(parts, names, writer)
            writer.finish()
    except RunFailed as error:
        raise RunFailed(f"{error}; a merge goes on when it is started again") from error
    write_card(out)
    return FrameStore.open(out)


def _open(source: str | Path) -> Part:
    where = find_set(source)
    folder = Path(where)
    if "://" not in where and is_older(folder):
        return OlderSet(folder)
    store = FrameStore.open(where)
    writer = writer_of(folder) if "://" not in where else None
    if writer:
        raise BadInput(f"{where} is being written by {writer}; wait for it")
    return store


def _check(parts: Sequence[Part], out: Path) -> None:
    if not parts:
        raise BadInput("nothing to merge; name one set or more")
    first, seen = parts[0], dict[str, str]()
    for part in parts:
        identity = _fingerprint(part)
        if identity in seen:
            raise BadInput(f"{part.where} has the very frames of {seen[identity]}: one is a copy; name one of them")
        seen[identity] = part.where
        if part.problems:
            raise BadInput(f"{part.where}: {part.problems[0]}; see `labctl dataset verify {part.where}`")
        if part.header.frame_shape != first.header.frame_shape:
            raise BadInput(
                f"{part.where} has frames of {part.header.frame_shape}, {first.where} of {first.header.frame_shape} "
                "(C, h, w); only frames of one shape can be merged"
            )
        if "://" not in part.where and out.absolute().is_relative_to(Path(part.where).absolute()):
            raise BadInput(f"--out {out} lies in {part.where}; give a folder of its own")
    if (out / FINISHED).exists():
        raise BadInput(f"--out {out} is a finished set already; give a new folder")
    if out.exists() and not is_set(out) and (not out.is_dir() or any(p for p in out.iterdir() if p.name[0] != ".")):
        raise BadInput(f"--out {out} is there already and is no set; give a new folder")


def _fingerprint(part: Part) -> str:
    """Differs for different frames; two runs of one protocol have one set id, and other frames."""
    checksums = np.asarray(part.column("crc32c")) if isinstance(part, FrameStore) else part.checksums
    return content_hash([part.header.set_id, checksums.tolist()])


@dataclass(frozen=True)
class _Place:
    """A frame of a source."""

    part: Part
    place: int
    renaming: Renaming


def _places(parts: Sequence[Part], names: Sequence[Renaming], start: int) -> Iterator[_Place]:
    """All frames from index `start` of the merged set on."""
    first = 0
    for part, renaming in zip(parts, names, strict=True):
        for place in range(max(0, start - first), len(part)):
            yield _Place(part, place, renaming)
        first += len(part)


def _copy(
    parts: Sequence[Part], names: Sequence[Renaming], writer: FrameWriter, progress: Callable[[int, int], None]
) -> None:
    total = sum(map(len, parts))
    records: dict[int, Sequence[FrameRecord]] = {id(part): part.records for part in parts}
    for at in _places(parts, names, writer.next_index):
        record = records[id(at.part)][at.place]
        writer.append(at.part.frame(at.place), at.renaming.renamed(record))
        progress(writer.next_index, total)


def _keep_scenes(parts: Sequence[Part], names: Sequence[Renaming], out: Path, say: Say) -> None:
    """Ground truth goes along when every set keeps it; a set in which some scenes are kept would be of little use."""
    kept = [Scenes.open(part.where) for part in parts]
    there = [scenes for scenes in kept if scenes is not None]
    if not there:
        return
    if len(there) < len(parts):
        without = next(part.where for part, scenes in zip(parts, kept, strict=True) if scenes is None)
        say(f"the ground-truth scenes are left out: {without} keeps none")
        return
    if len({scenes.shape[1:] for scenes in there}) > 1:
        say("the ground-truth scenes are left out: they are of several shapes")
        return
    rows: dict[int, tuple[Scenes, int]] = {}
    for scenes, renaming in zip(there, names, strict=True):
        for sample in scenes.sample_ids.tolist():
            rows.setdefault(sample + renaming.sample_shift, (scenes, sample))
    if rows:
        write_scenes(out, list(rows), _SceneRows(list(rows.values())))


class _SceneRows:
    """The scenes of several sets, read when they are asked for."""

    def __init__(self, rows: list[tuple[Scenes, int]]) -> None:
        self._rows = rows

    @property
    def shape(self) -> tuple[int, ...]:
        """(n, C, H, W)."""
        return (len(self._rows), *self._rows[0][0].shape[1:])

    def __getitem__(self, rows: Any) -> FloatArray:
        """The scenes of a slice of rows."""
        return np.stack([scenes.scene(sample) for scenes, sample in self._rows[rows]])


def _keep_beside(parts: Sequence[Part], names: Sequence[Renaming], writer: FrameWriter) -> None:
    """Marks and history; those that a merge wrote before it was killed are not written twice."""
    there = {str(line) for line in read_lines(writer.folder.marks)}
    first, starts, clocks = 0, [], []
    for part in parts:
        for mark in part.marks:
            moved = mark.model_copy(update={"first": mark.first + first, "last": mark.last + first})
            if str(moved.model_dump(mode="json")) not in there:
                writer.mark(moved)
        starts.append(first)
        clocks += [first + start for start in _sessions(part)]
        first += len(part)
    past = read_lines(writer.folder.history)
    if not any("merged" in entry for entry in past):
        entry = {
            "time": time.strftime("%Y-%m-%dT%H:%M:%S%z"),
            "merged": [part.header.set_id for part in parts],
            "parts": starts,
            "sessions": clocks,
        }
        append_line(writer.folder.history, entry)


def _sessions(part: Part) -> list[int]:
    """Where the clock of the rig began anew. The older schema did not say: there, wherever it went back."""
    if isinstance(part, FrameStore):
        return list(read_sessions(part).starts)
    times = [record.host_time_s for record in part.records]
    return [0, *(place for place in range(1, len(times)) if times[place] < times[place - 1])]
