"""Bring a set back to its last acknowledged frame after its writer died, and say what was done."""

from __future__ import annotations

import json
import os
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path

import numpy as np
import numpy.typing as npt

from labctl.durable import sync_folder, write_whole
from labctl.errors import RunFailed
from labctl.frames.header import SetHeader, Sync
from labctl.frames.layout import SPOOL, SetFolder
from labctl.frames.ledger import Ledger, parse_ledger
from labctl.frames.marks import cut_marks
from labctl.frames.shards import CHECKSUM_BYTES, checksum_bytes, crc32c, index_bytes

SOFT_SHARDS: Mapping[Sync, int] = {"block": 0, "shard": 1, "never": 2}
"""How many of the last shards a power cut may take, whatever was acknowledged in them. With `never` nobody knows; two
shards are more than a system holds back, and what is missing before them is called damage."""


@dataclass(frozen=True)
class Recovery:
    """What opening found and did. kept: frames that are there; did: one sentence for each thing that was mended."""

    kept: int
    did: tuple[str, ...]


def recover(folder: SetFolder, header: SetHeader) -> tuple[Ledger, Recovery]:
    """Complete or roll back what a dead writer left half-done. Only its own unacknowledged leavings are cut off.

    May itself be interrupted anywhere and repeated. Raises RunFailed, and changes nothing, when frames that were
    acknowledged are damaged or gone.
    """
    if not folder.ledger.exists():
        _refuse(folder, ["ledger.jsonl is missing"])
    promised = _promised(folder, header)
    ledger, size = _read_ledger(folder, promised)
    soft = _shards(len(ledger), header) - SOFT_SHARDS[header.sync]
    finished = folder.finished.exists()
    problems = [text for number, text in _problems(folder, header, ledger.sizes) if number < soft or finished]
    if len(ledger) < promised:
        ends = f"the ledger ends at frame {len(ledger) - 1}" if len(ledger) else "the ledger is empty"
        problems.append(f"{ends}, but {promised} frames were acknowledged")
    kept = len(ledger) if finished or problems else _good_frames(folder, header, ledger, max(0, soft))
    if kept < len(ledger) and header.sync == "block":
        problems.append(f"frame {kept} is acknowledged, but it is not on the disk as it was written")
    lines_lost = SOFT_SHARDS["never"] if header.sync == "never" else 0
    problems += _beyond(folder, _shards(len(ledger), header) + lines_lost)
    _refuse(folder, problems)

    did = _cut_ledger(folder, ledger, kept, size)
    if kept < len(ledger):
        did.append(f"rolled back {len(ledger) - kept} frames whose pixels a power cut took (sync: {header.sync})")
        ledger = parse_ledger(folder.ledger.read_bytes())
    if not finished:
        did += _reopen_shards(folder, header, ledger)
        did += _cut_marks(folder, kept)
    did += _complete_shards(folder, header, ledger)
    did += _cut_spools(folder, header, ledger)
    folder.write_shape(header, kept if finished else kept - kept % header.shard_frames)
    folder.sweep()
    if header.sync != "never":  # a killed writer may have left what is readable, but not yet synced
        _sync(folder)
    return ledger, Recovery(kept, tuple(did))


def shard_problems(folder: SetFolder, header: SetHeader, sizes: npt.NDArray[np.int64]) -> list[str]:
    """Shards and spools that are missing, too short or too long for the frames of the ledger; nothing is read.

    sizes: (n,) stored bytes of every frame. A spool may be longer: what is beyond was never acknowledged.
    """
    return [text for _, text in _problems(folder, header, sizes)] + _beyond(folder, _shards(len(sizes), header))


def _promised(folder: SetFolder, header: SetHeader) -> int:
    """How many frames were acknowledged for certain: writers say so in the history, and when they finish the set."""
    try:
        finished = int(json.loads(folder.finished.read_bytes())["frames"]) if folder.finished.exists() else 0
    except (ValueError, KeyError, TypeError) as error:
        raise RunFailed(f"{folder.finished} cannot be read ({error}); restore it from a copy") from error
    said = [finished]
    if header.sync == "block" and folder.history.exists():
        for line in folder.history.read_bytes().splitlines():
            try:
                row = json.loads(line)
            except ValueError:  # a torn line; what the whole ones say is enough
                continue
            if isinstance(row, dict):
                said += [row[name] for name in ("kept", "closed") if isinstance(row.get(name), int)]
    return max(said)


def _read_ledger(folder: SetFolder, promised: int) -> tuple[Ledger, int]:
    """The ledger up to where a power cut may have torn it, and the length of its file."""
    content = folder.ledger.read_bytes()
    ledger = parse_ledger(content)
    if ledger.torn_at is not None:
        whole = parse_ledger(content[: ledger.torn_at])
        ledger = whole if len(whole) >= promised else ledger
    _refuse(folder, list(ledger.problems))
    return ledger, len(content)


def _problems(folder: SetFolder, header: SetHeader, sizes: npt.NDArray[np.int64]) -> list[tuple[int, str]]:
    """Number of a shard, and what is wrong with it."""
    problems = []
    per_shard = header.shard_frames
    finished = folder.finished.exists()
    for number in range(_shards(len(sizes), header)):
        own = sizes[number * per_shard : (number + 1) * per_shard]
        wanted, shard, spool = int(own.sum()), folder.shard(number), folder.spool(number)
        last = number * per_shard + len(own) - 1
        frames = f"frames {number * per_shard} to {last}" if len(own) > 1 else f"frame {last}"
        if shard.exists():
            wanted += index_bytes(per_shard)
            found = shard.stat().st_size
            if found > wanted and len(own) < per_shard:
                problems.append((number, f"the ledger ends at frame {last}, within a shard that holds more"))
            elif found != wanted:
                problems.append((number, f"{shard.name} has {found} bytes, {wanted} are needed for {frames}"))
        elif not spool.exists():
            problems.append((number, f"{shard.name} is missing, and with it {frames}"))
        elif spool.stat().st_size < wanted:
            problems.append(
                (number, f"{spool.name} has {spool.stat().st_size} bytes, {wanted} are needed for {frames}")
            )
        elif finished:
            problems.append((number, f"the set is finished, but {shard.name} is missing"))
    return problems


def _beyond(folder: SetFolder, first: int) -> list[str]:
    """What is wrong with shards from number `first` on: no line names their frames."""
    beyond = [folder.shard(number).name for number in folder.shards() if number >= first]
    return [f"{name} is there, but the ledger has none of its frames" for name in beyond]


def _refuse(folder: SetFolder, problems: list[str]) -> None:
    if problems:
        more = f" (and {len(problems) - 1} more)" if len(problems) > 1 else ""
        raise RunFailed(
            f"{folder.path} is damaged: {problems[0]}{more}; no crash of a writer leaves that, so nothing was changed; "
            f"see `labctl dataset verify {folder.path}`, then restore it from a copy, or capture into another folder"
        )


def _good_frames(folder: SetFolder, header: SetHeader, ledger: Ledger, soft: int) -> int:
    """How many frames are there, where those of shards from `soft` on, and of a spool, are held against checksums."""
    last = _shards(len(ledger), header) - 1
    for number in range(min(soft, max(0, last)), last + 1):
        first = number * header.shard_frames
        complete = len(ledger) >= first + header.shard_frames
        path = folder.shard(number) if folder.shard(number).exists() else folder.spool(number)
        if complete and number < soft and path == folder.shard(number):
            continue
        good = _good_in(path, ledger, first, min(len(ledger), first + header.shard_frames))
        if good < min(len(ledger) - first, header.shard_frames):
            return first + good
    return len(ledger)


def _good_in(path: Path, ledger: Ledger, first: int, stop: int) -> int:
    """How many of the frames `first` to `stop` - 1 are in their spool or shard, each held against its checksum."""
    if not path.exists():
        return 0
    with path.open("rb") as file:
        for place in range(first, stop):
            data = file.read(int(ledger.sizes[place]))
            chunk, end = data[:-CHECKSUM_BYTES], data[-CHECKSUM_BYTES:]
            checksum = int(ledger.checksums[place])
            if len(data) < ledger.sizes[place] or crc32c(chunk) != checksum or end != checksum_bytes(checksum):
                return place - first
    return stop - first


def _cut_ledger(folder: SetFolder, ledger: Ledger, kept: int, size: int) -> list[str]:
    end = int(ledger.stops[kept - 1]) + 1 if kept else 0
    if end == size:
        return []
    _truncate(folder.ledger, end)
    return [f"cut {size - end} bytes off the ledger that were never acknowledged"] if kept == len(ledger) else []


def _cut_marks(folder: SetFolder, kept: int) -> list[str]:
    """Drop what was said of frames that are gone: those that will be taken in their place may be good."""
    content = folder.marks.read_bytes() if folder.marks.exists() else b""
    left, dropped, shortened = cut_marks(content, kept)
    if not dropped + shortened:
        return []
    write_whole(folder.marks, left)
    said = [f"dropped {dropped} marks"] if dropped else []
    said += [f"shortened {shortened} marks"] if shortened else []
    return [f"{' and '.join(said)}: the frames from {kept} on that they were about are gone"]


def _reopen_shards(folder: SetFolder, header: SetHeader, ledger: Ledger) -> list[str]:
    """Make spools of shards that are not whole: finishing was interrupted, or a power cut took their frames."""
    did = []
    for number in folder.shards():
        sizes = _sizes(ledger, number, header)
        whole = int(sizes.sum()) + index_bytes(header.shard_frames)
        if len(sizes) < header.shard_frames or folder.shard(number).stat().st_size != whole:
            folder.reopen_shard(number, int(sizes.sum()), header)
            did.append(f"opened shard {number} again, which was not finished")
    return did


def _complete_shards(folder: SetFolder, header: SetHeader, ledger: Ledger) -> list[str]:
    did = []
    for number in range(len(ledger) // header.shard_frames):
        if not folder.shard(number).exists():
            folder.commit_shard(number, _sizes(ledger, number, header), header)
            did.append(f"completed shard {number}")
    return did


def _cut_spools(folder: SetFolder, header: SetHeader, ledger: Ledger) -> list[str]:
    """Cut the open spool behind its last frame, and remove every other spool: nothing acknowledged lies there."""
    did = []
    shard, rest = divmod(len(ledger), header.shard_frames)
    for spool in sorted((folder.path / SPOOL).glob("*.raw")):
        sizes = _sizes(ledger, shard, header) if rest and spool == folder.spool(shard) else ledger.sizes[:0]
        wanted, size = int(sizes.sum()), spool.stat().st_size
        if size > wanted:
            did.append(f"cut {size - wanted} bytes behind the last acknowledged frame")
        if wanted == 0:
            spool.unlink()
        elif size > wanted:
            _truncate(spool, wanted)
    return did


def _sync(folder: SetFolder) -> None:
    with folder.ledger.open("rb") as file:
        os.fsync(file.fileno())
    sync_folder(folder.array)
    sync_folder(folder.path / SPOOL)


def _shards(frames: int, header: SetHeader) -> int:
    """How many shards so many frames make, the open one included."""
    return -(-frames // header.shard_frames)


def _sizes(ledger: Ledger, shard: int, header: SetHeader) -> npt.NDArray[np.int64]:
    return ledger.sizes[shard * header.shard_frames : (shard + 1) * header.shard_frames]


def _truncate(path: os.PathLike[str], size: int) -> None:
    with open(path, "r+b") as file:  # noqa: PTH123 - either kind of path
        file.truncate(size)
        os.fsync(file.fileno())
