"""Whether the bytes of a set are where its ledger says: shards, their indices, the Zarr metadata, spools."""

from __future__ import annotations

import json
from bisect import bisect_left
from dataclasses import dataclass
from typing import Any

import numpy as np

from labctl.errors import RunFailed
from labctl.frames.layout import GROUP, SPOOL
from labctl.frames.proof import Finding, error, note
from labctl.frames.shards import ARRAY, array_metadata, group_metadata, index_bytes, shard_index, shard_name
from labctl.frames.source import FolderSource
from labctl.frames.store import FrameStore


@dataclass(frozen=True)
class Storage:
    """findings, and the indices of frames whose bytes are gone: the others can be read, whatever else is wrong."""

    findings: tuple[Finding, ...]
    corrupt: tuple[int, ...]


def check_storage(store: FrameStore, expected: int, *, finished: bool) -> Storage:
    """Look at the ends of all shards; no pixels are read.

    expected: frames that the set must have. finished: whether it had been finished before its ledger was read.
    """
    findings: list[Finding] = []
    corrupt: list[int] = []
    indices, sizes = np.asarray(store.column("index")), np.asarray(store.column("nbytes"))
    per_shard = store.header.shard_frames
    shards = indices // per_shard
    last = (expected - 1) // per_shard
    for number in range(last + 1):
        own = np.flatnonzero(shards == number)
        if not len(own):
            continue  # all its lines are missing, which is said already
        frames = indices[own].tolist()
        whole = frames == list(range(number * per_shard, min((number + 1) * per_shard, expected)))
        try:
            wrong = _shard_problem(store, number, sizes[own], whole=whole, finished=finished)
        except RunFailed as refused:
            wrong = str(refused)
        if wrong:
            gone = _gone(store, number, indices[own], sizes[own], whole=whole)
            about = "{frames} {are} in it" if len(gone) in (0, len(frames)) else "{frames} {are} cut off"
            findings.append(error("corrupt", f"{wrong}; {about}", gone or frames))
            corrupt += gone
    if store.source.read_range(_shard(last + 1), 0, 1) is not None and len(FrameStore(store.source)) == len(store):
        name = shard_name(last + 1)
        findings.append(error("missing", f"{name} is there, but the ledger has no line of its frames"))
    findings += _zarr_findings(store, expected, finished)
    findings += _leftovers(store, last)
    return Storage(tuple(findings), tuple(corrupt))


def _shard(number: int) -> str:
    return f"{GROUP}/{ARRAY}/{shard_name(number)}"


def _shard_problem(
    store: FrameStore, number: int, sizes: np.ndarray[Any, Any], *, whole: bool, finished: bool
) -> str | None:
    """What is wrong with a shard, or with the spool that becomes one. sizes: (n,) bytes of its chunks.

    whole: whether the ledger has all its lines; without, only that the shard is there can be told.
    """
    name, total, per_shard = shard_name(number), int(sizes.sum()), store.header.shard_frames
    index_size = index_bytes(per_shard)
    if not whole:
        there = store.source.read_range(_shard(number), 0, 1) or store.source.read_range(f"{SPOOL}/{number}.raw", 0, 1)
        return None if there is not None else f"{name} is missing"
    end = store.source.read_range(_shard(number), total, total + index_size + 1)
    if end is None:
        if finished:
            return f"{name} is missing"
        spooled = store.source.read_range(f"{SPOOL}/{number}.raw", total - 1, total)
        if spooled is None:  # its writer may have completed it since
            end = store.source.read_range(_shard(number), total, total + index_size + 1)
            if end is None:
                return f"{name} is missing, and so is its spool"
        else:
            return None if len(spooled) == 1 else f"{SPOOL}/{number}.raw is too short for its {len(sizes)} frames"
    if not finished and len(sizes) < per_shard and len(FrameStore(store.source)) > len(store):
        return None  # completed by its writer since
    if len(end) != index_size:
        return f"{name} is too {'short' if len(end) < index_size else 'long'} for its {len(sizes)} frames"
    if end != shard_index(sizes, per_shard):
        return f"the index at the end of {name} does not agree with the ledger"
    return None


def _gone(
    store: FrameStore, number: int, indices: np.ndarray[Any, Any], sizes: np.ndarray[Any, Any], *, whole: bool
) -> list[int]:
    """Those frames of a shard that end behind its last byte. indices, sizes: (n,) of its frames, in order.

    Without all lines of the shard nobody knows where its frames lie, and all are gone with it.
    """
    ends, names = np.cumsum(sizes).tolist(), (_shard(number), f"{SPOOL}/{number}.raw")

    def is_there(end: int) -> bool:
        try:
            return any(store.source.read_range(name, end - 1, end) for name in names)
        except RunFailed:
            return False

    there = bisect_left(ends, True, key=lambda end: not is_there(end)) if whole else 0
    return [int(index) for index in indices[there:]]


def _zarr_findings(store: FrameStore, frames: int, finished: bool) -> list[Finding]:
    """Whether other tools that read the Zarr array see what the ledger says."""
    findings = []
    array, group = _json(store, f"{GROUP}/{ARRAY}/zarr.json"), _json(store, f"{GROUP}/zarr.json")
    wanted = json.loads(array_metadata(store.header, frames))
    if group != json.loads(group_metadata()):
        findings.append(error("zarr", f"{GROUP}/zarr.json is missing or changed; other tools cannot open the frames"))
    if not isinstance(array, dict) or not isinstance(array.get("shape"), list) or not array["shape"]:
        return [*findings, error("zarr", f"{GROUP}/{ARRAY}/zarr.json is missing or damaged; labctl itself reads on")]
    seen = array["shape"][0]
    if array != wanted | {"shape": array["shape"]} or array["shape"][1:] != wanted["shape"][1:]:
        text = f"{GROUP}/{ARRAY}/zarr.json does not describe the frames of this set; other tools misread them"
        findings.append(error("zarr", text))
    elif seen != frames and (finished or not isinstance(seen, int)):
        findings.append(error("zarr", f"the Zarr array says that it has {seen} frames; the ledger has {frames}"))
    return findings


def _json(store: FrameStore, name: str) -> Any:
    try:
        return json.loads(store.source.read(name) or b"null")
    except ValueError:
        return None


def _leftovers(store: FrameStore, last_shard: int) -> list[Finding]:
    """Spools that no frame of the ledger needs; a folder behind an address cannot be listed and is not looked at."""
    if not isinstance(store.source, FolderSource):
        return []
    needed = set() if store.finished else {f"{last_shard}.raw", f"{last_shard + 1}.raw"}
    names = sorted(file.name for file in (store.source.path / SPOOL).glob("*.raw") if file.name not in needed)
    text = f"{SPOOL}/{', '.join(names)}: left over from a writer that died; the next one removes it"
    return [note("leftover", text)] if names else []
