"""Blocks are made safe in a thread of their own: what that must not change."""

from __future__ import annotations

import errno
import json
import os
import threading
import time
import weakref
from collections.abc import Callable

import pytest

import labctl.frames.writer as writing
from labctl.errors import RunFailed
from labctl.frames.blocks import write_all
from labctl.frames.layout import SetFolder
from labctl.frames.store import FrameStore
from labctl.frames.writer import FrameWriter
from tests.labctl.frames.sets import header, pixels, record


def test_all_is_written_though_the_system_takes_a_few_bytes_at_a_time(tmp_path, monkeypatch):
    really = os.writev
    monkeypatch.setattr(os, "writev", lambda number, left: really(number, [b"".join(left)[:5]]))
    number = os.open(tmp_path / "file", os.O_WRONLY | os.O_CREAT)
    write_all(number, [b"abc", pixels(1).reshape(-1).view("u1"), b"", b"0123456789"])
    os.close(number)
    assert (tmp_path / "file").read_bytes() == b"abc" + pixels(1).tobytes() + b"0123456789"


def test_the_next_block_is_written_while_one_is_synced_and_neither_is_acknowledged(tmp_path, monkeypatch):
    monkeypatch.setattr(writing, "BLOCK_S", 60.0)
    with FrameWriter(tmp_path / "set", header(8), block=2) as writer:
        disk = HeldDisk(monkeypatch)
        frame_bytes = pixels(0).nbytes + 4
        for index in range(3):
            writer.append(pixels(index), record(index))
        spool = SetFolder(tmp_path / "set").spool(0)
        wait_until(lambda: spool.exists() and spool.stat().st_size == 3 * frame_bytes)
        assert disk.asked.wait(10)
        assert writer.acknowledged == 0
        assert SetFolder(tmp_path / "set").ledger.read_bytes() == b""
        disk.free.set()
        writer.flush()
        assert writer.acknowledged == 3


def test_a_line_says_how_many_frames_were_safe_before_its_block(tmp_path, monkeypatch):
    monkeypatch.setattr(writing, "BLOCK_S", 60.0)
    with FrameWriter(tmp_path / "set", header(8, shard_frames=5), block=2) as writer:
        disk = HeldDisk(monkeypatch)
        for index in range(7):
            writer.append(pixels(index), record(index))
        time.sleep(0.05)  # all that can be written without a sync is written
        disk.free.set()
        writer.flush()
    lines = SetFolder(tmp_path / "set").ledger.read_bytes().splitlines()
    assert [json.loads(line)["safe"] for line in lines] == [0, 0, 2, 2, 4, 5, 5]


def test_a_sync_that_fails_is_told_to_whoever_waits(tmp_path, monkeypatch):
    writer = FrameWriter(tmp_path / "set", header(8))
    monkeypatch.setattr(os, "fsync", refuse)
    writer.append(pixels(0), record(0))
    with pytest.raises(RunFailed, match=r"full.*; 0 frames are safe"):
        writer.flush()
    writer.close()
    monkeypatch.undo()
    with FrameWriter(tmp_path / "set", header(8)) as writer:
        assert writer.next_index == 0


def test_a_set_is_not_finished_when_its_last_shard_cannot_be_made(tmp_path, monkeypatch):
    with FrameWriter(tmp_path / "set", header(4, shard_frames=4)) as writer:
        monkeypatch.setattr(SetFolder, "commit_shard", refuse_late)
        for index in range(4):
            writer.append(pixels(index), record(index))
        with pytest.raises(RunFailed, match=r"full.*; 4 frames are safe"):
            writer.finish()
    monkeypatch.undo()
    assert not FrameStore.open(tmp_path / "set").finished
    with FrameWriter(tmp_path / "set", header(4, shard_frames=4)) as writer:
        writer.finish()
    store = FrameStore.open(tmp_path / "set")
    assert store.finished
    assert (store.zarr()[:] == store.read(range(4))).all()


def test_what_is_written_does_not_stay_in_memory(tmp_path):
    with FrameWriter(tmp_path / "set", header(8)) as writer:
        frame = pixels(0).copy()
        there = weakref.ref(frame)
        writer.append(frame, record(0))
        del frame
        writer.flush()
        wait_until(lambda: there() is None)


def test_a_name_made_of_undecodable_bytes_is_kept(tmp_path):
    known = record(0).model_copy(update={"label_name": os.fsdecode(b"M\xfcller \xe7\x8a\xac")})
    with FrameWriter(tmp_path / "set", header(8)) as writer:
        writer.append(pixels(0), known)
    assert FrameStore.open(tmp_path / "set").records[0] == known


class HeldDisk:
    """A disk on which no sync ends before `free`."""

    def __init__(self, monkeypatch: pytest.MonkeyPatch) -> None:
        self.asked, self.free = threading.Event(), threading.Event()
        monkeypatch.setattr(os, "fsync", self._fsync)

    def _fsync(self, number: int) -> None:
        self.asked.set()
        assert self.free.wait(10)


def refuse(*_: object) -> None:
    raise OSError(errno.ENOSPC, os.strerror(errno.ENOSPC))


def refuse_late(*_: object) -> None:
    time.sleep(0.1)  # when the frames have long been acknowledged
    refuse()


def wait_until(true: Callable[[], bool]) -> None:
    until = time.monotonic() + 10
    while not true():
        assert time.monotonic() < until
        time.sleep(0.002)
