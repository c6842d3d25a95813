"""Bring a set back to its last acknowledged frame after its writer died, and say what was done."""

from __future__ import annotations

import os
from dataclasses import dataclass

import numpy as np
import numpy.typing as npt

from labctl.errors import RunFailed
from labctl.frames.header import SetHeader
from labctl.frames.layout import SPOOL, SetFolder
from labctl.frames.ledger import Ledger, parse_ledger
from labctl.frames.shards import CHECKSUM_BYTES, checksum_bytes, crc32c, index_bytes


@dataclass(frozen=True)
class Recovery:
    """What opening found and did. kept: frames that are there; did: one sentence for each thing that was mended."""

    kept: int
    did: tuple[str, ...]


def recover(folder: SetFolder, header: SetHeader) -> tuple[Ledger, Recovery]:
    """Complete or roll back what a dead writer left half-done. Only its own unacknowledged leavings are cut off.

    Raises RunFailed, and changes nothing, when frames that were acknowledged are damaged or gone.
    """
    ledger = parse_ledger(folder.ledger.read_bytes() if folder.ledger.exists() else b"")
    did: list[str] = []
    _refuse(folder, list(ledger.problems))
    _refuse(folder, shard_problems(folder, header, ledger.sizes))
    kept = len(ledger)
    open_shard = _open_shard(folder, header, kept)
    if open_shard is not None:
        first = open_shard * header.shard_frames
        kept = first + _good_frames(folder, open_shard, ledger, first)
        if kept < len(ledger) and header.sync == "block":
            _refuse(folder, [f"frame {kept} is acknowledged, but it is not on the disk as it was written"])
    did += _cut_ledger(folder, ledger, kept)
    if kept < len(ledger):
        did.append(f"rolled back {len(ledger) - kept} frames whose pixels a power cut took (sync: {header.sync})")
        ledger = parse_ledger(folder.ledger.read_bytes())
    complete = kept // header.shard_frames
    for number in range(complete):
        if not folder.shard(number).exists():
            folder.commit_shard(number, _sizes(ledger, number, header), header)
            did.append(f"completed shard {number}")
    did += _cut_spools(folder, ledger, header)
    folder.write_shape(header, kept if folder.shard(complete).exists() else complete * header.shard_frames)
    return ledger, Recovery(kept, tuple(did))


def shard_problems(folder: SetFolder, header: SetHeader, sizes: npt.NDArray[np.int64]) -> list[str]:
    """Shards and spools that are missing, too short or too long for the frames of the ledger; nothing is read.

    sizes: (n,) stored bytes of every frame. A spool may be longer: what is beyond was never acknowledged.
    """
    problems = []
    per_shard = header.shard_frames
    for number in range(-(-len(sizes) // per_shard)):
        own = sizes[number * per_shard : (number + 1) * per_shard]
        wanted, shard, spool = int(own.sum()), folder.shard(number), folder.spool(number)
        frames = f"frames {number * per_shard} to {number * per_shard + len(own) - 1}"
        if shard.exists():
            wanted += index_bytes(per_shard)
            found = shard.stat().st_size
            if found > wanted and len(own) < per_shard and not folder.finished.exists():
                problems.append(f"the ledger ends at frame {number * per_shard + len(own) - 1}, within a whole shard")
            elif found != wanted:
                problems.append(f"{shard.name} has {found} bytes, {wanted} are needed for {frames}")
        elif not spool.exists() and (header.sync == "block" or number < len(sizes) // per_shard - 1):
            problems.append(f"{frames} are in the ledger, but {shard.name} is missing")
        elif spool.exists() and spool.stat().st_size < wanted and header.sync == "block":
            problems.append(f"{spool.name} has {spool.stat().st_size} bytes, {wanted} are needed for {frames}")
    beyond = -(-len(sizes) // per_shard)
    if folder.shard(beyond).exists():
        problems.append(f"{folder.shard(beyond).name} is there, but the ledger has none of its frames")
    return problems


def _open_shard(folder: SetFolder, header: SetHeader, frames: int) -> int | None:
    """The shard whose frames are still in a spool: the last one that has any, unless it is complete."""
    last = (frames - 1) // header.shard_frames
    return None if frames == 0 or folder.shard(last).exists() else last


def _refuse(folder: SetFolder, problems: list[str]) -> None:
    if problems:
        more = f" (and {len(problems) - 1} more)" if len(problems) > 1 else ""
        raise RunFailed(
            f"{folder.path}: {problems[0]}{more}, which no crash of the writer explains; nothing was changed; look at "
            f"`labctl dataset verify {folder.path}`, and restore the set from a copy or capture into another folder"
        )


def _good_frames(folder: SetFolder, shard: int, ledger: Ledger, first: int) -> int:
    """How many frames of an open shard are in its spool, each held against its checksum."""
    spool = folder.spool(shard)
    if not spool.exists():
        return 0
    with spool.open("rb") as file:
        for place in range(first, len(ledger)):
            data = file.read(int(ledger.sizes[place]))
            chunk, end = data[:-CHECKSUM_BYTES], data[-CHECKSUM_BYTES:]
            checksum = int(ledger.checksums[place])
            if len(data) < ledger.sizes[place] or crc32c(chunk) != checksum or end != checksum_bytes(checksum):
                return place - first
    return len(ledger) - first


def _cut_ledger(folder: SetFolder, ledger: Ledger, kept: int) -> list[str]:
    end = int(ledger.stops[kept - 1]) + 1 if kept else 0
    size = len(ledger.content)
    if end == size:
        return []
    _truncate(folder.ledger, end)
    return [f"cut {size - end} bytes off the ledger that were never acknowledged"] if kept == len(ledger) else []


def _cut_spools(folder: SetFolder, ledger: Ledger, header: SetHeader) -> list[str]:
    """Cut the open spool behind its last frame, and remove every other spool: nothing acknowledged lies there."""
    did = []
    shard, rest = divmod(len(ledger), header.shard_frames)
    for spool in sorted((folder.path / SPOOL).glob("*.raw")):
        wanted = int(_sizes(ledger, shard, header).sum()) if rest and spool == folder.spool(shard) else 0
        size = spool.stat().st_size
        if size > wanted:
            did.append(f"cut {size - wanted} bytes of frames that were never acknowledged")
        if wanted == 0:
            spool.unlink()
        elif size > wanted:
            _truncate(spool, wanted)
    return did


def _sizes(ledger: Ledger, shard: int, header: SetHeader) -> npt.NDArray[np.int64]:
    return ledger.sizes[shard * header.shard_frames : (shard + 1) * header.shard_frames]


def _truncate(path: os.PathLike[str], size: int) -> None:
    with open(path, "r+b") as file:  # noqa: PTH123 - either kind of path
        file.truncate(size)
        os.fsync(file.fileno())
