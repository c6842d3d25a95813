"""A set whose writer died is completed or rolled back; damage that no crash explains is refused and left alone."""

from __future__ import annotations

import json
import os
import random
import shutil
import time
from collections.abc import Callable
from pathlib import Path

import numpy as np
import pytest

from labctl.errors import RunFailed
from labctl.frames.header import Sync
from labctl.frames.layout import SetFolder
from labctl.frames.marks import Mark
from labctl.frames.store import FrameStore
from labctl.frames.verify import verify
from labctl.frames.writer import FrameWriter
from tests.kills.power import Disk
from tests.labctl.frames.sets import SHAPE, header, pixels, record

PLANNED = 11
"""Two shards of four and one of three."""

STORED = 2 * int(np.prod(SHAPE)) + 4


def killed(folder: Path, frames: int, *, sync: Sync = "block") -> SetFolder:
    """A set with so many acknowledged frames, as a writer leaves it that was killed just then."""
    writer = FrameWriter(folder, header(PLANNED, sync=sync))
    for index in range(writer.next_index, frames):
        writer.append(pixels(index), record(index))
    writer.flush()
    end = time.monotonic() + 10
    while len(writer.folder.shards()) < frames // 4 or writer.folder.spool(frames // 4 - 1).exists():
        assert time.monotonic() < end, "the shard is not made"
        time.sleep(0.001)
    shutil.copytree(folder, folder.with_name("as-killed"), ignore=shutil.ignore_patterns("*.tmp"))
    writer.close()
    shutil.rmtree(folder)
    folder.with_name("as-killed").rename(folder)
    return SetFolder(folder)


def finish(folder: Path, *, sync: Sync = "block") -> tuple[int, tuple[str, ...]]:
    """Open, capture what is missing, finish and prove it. Returns how many frames were kept, and what was said."""
    with FrameWriter(folder, header(PLANNED, sync=sync)) as writer:
        for index in range(writer.next_index, PLANNED):
            writer.append(pixels(index), record(index))
        writer.finish()
    store = FrameStore.open(folder)
    report = verify(store)
    assert report.ok, report.findings
    assert (report.missing, report.duplicated, report.corrupt) == (0, 0, 0)
    assert [kept.sample_id for kept in store.records] == list(range(PLANNED))
    assert np.array_equal(store.zarr()[:], np.stack([pixels(index) for index in range(PLANNED)]))
    return writer.recovery.kept, writer.recovery.did


def refused(folder: SetFolder, words: str, *, sync: Sync = "block") -> None:
    """Opening says so, and changes nothing."""
    before = {path: path.read_bytes() for path in sorted(folder.path.rglob("*")) if path.is_file()}
    with pytest.raises(RunFailed, match=words):
        FrameWriter(folder.path, header(PLANNED, sync=sync))
    after = {path: path.read_bytes() for path in sorted(folder.path.rglob("*")) if path.is_file()}
    assert {path: data for path, data in after.items() if ".who" not in path.name} == {
        path: data for path, data in before.items() if ".who" not in path.name
    }


def flip(path: Path, byte: int) -> None:
    content = bytearray(path.read_bytes())
    content[byte] ^= 4
    path.write_bytes(content)


def cut(path: Path, size: int) -> None:
    os.truncate(path, size if size >= 0 else path.stat().st_size + size)


@pytest.mark.parametrize("frames", [0, 1, 4, 6, 8, 11])
def test_a_killed_capture_goes_on_at_the_next_missing_frame(tmp_path: Path, frames: int) -> None:
    killed(tmp_path / "set", frames)
    assert finish(tmp_path / "set") == (frames, ())


def test_pixels_without_a_line_are_cut_off(tmp_path: Path) -> None:
    folder = killed(tmp_path / "set", 6)
    with folder.spool(1).open("ab") as file:
        file.write(pixels(99).tobytes() + b"torn")
    kept, did = finish(folder.path)
    assert kept == 6
    assert did == (f"cut {2 * int(np.prod(SHAPE)) + 4} bytes behind the last acknowledged frame",)


def test_a_torn_line_is_cut_off_and_its_frame_taken_again(tmp_path: Path) -> None:
    folder = killed(tmp_path / "set", 6)
    with folder.ledger.open("ab") as file:
        file.write(b'{"index": 6, "nbytes": 52, "crc\n')
    kept, did = finish(folder.path)
    assert kept == 6
    assert did == ("cut 32 bytes off the ledger that were never acknowledged",)


def test_a_hole_that_a_power_cut_left_in_the_last_block_is_rolled_back(tmp_path: Path) -> None:
    folder = killed(tmp_path / "set", 6)
    content = folder.ledger.read_bytes()
    start = [place for place, byte in enumerate(content) if byte == 10][4]
    folder.ledger.write_bytes(content[: start - 500] + bytes(400) + content[start - 100 :])
    kept, did = finish(folder.path)
    assert kept == 4
    assert any("off the ledger that were never acknowledged" in text for text in did)


def test_a_full_spool_becomes_its_shard_though_the_writer_died_before(tmp_path: Path) -> None:
    folder = killed(tmp_path / "set", 8)
    folder.shard(1).replace(folder.spool(1))
    assert finish(folder.path) == (8, ("completed shard 1",))


def test_a_shard_whose_index_was_torn_is_completed_again(tmp_path: Path) -> None:
    folder = killed(tmp_path / "set", 8)
    folder.shard(1).replace(folder.spool(1))
    cut(folder.spool(1), -20)
    assert finish(folder.path) == (8, ("completed shard 1",))


def test_finishing_that_died_after_its_shard_is_done_again(tmp_path: Path) -> None:
    finish(tmp_path / "set")
    folder = SetFolder(tmp_path / "set")
    folder.finished.unlink()
    assert finish(folder.path) == (PLANNED, ("opened shard 2 again, which was not finished",))


def test_a_set_that_was_to_be_finished_can_still_grow(tmp_path: Path) -> None:
    folder = killed(tmp_path / "set", 6)
    sizes = np.full(2, STORED)
    folder.commit_shard(1, sizes, header(PLANNED))
    assert finish(folder.path) == (6, ("opened shard 1 again, which was not finished",))


def test_a_set_whose_making_died_is_made_again(tmp_path: Path) -> None:
    folder = killed(tmp_path / "set", 0)
    folder.header.unlink()
    (folder.path / ".header.json.4711.tmp").write_text("{")
    (folder.array / ".zarr.json.4711.tmp").write_text("{")
    assert finish(folder.path) == (0, ())
    assert list(folder.path.rglob("*.tmp")) == []


def test_spools_of_other_shards_are_removed(tmp_path: Path) -> None:
    folder = killed(tmp_path / "set", 6)
    folder.spool(2).write_bytes(b"pixels of a frame whose line never came")
    shutil.copy(folder.shard(0), folder.spool(0))
    assert finish(folder.path)[0] == 6


def test_the_lock_of_a_dead_process_is_no_lock(tmp_path: Path) -> None:
    folder = killed(tmp_path / "set", 6)
    (folder.path / ".writer.lock").touch()
    (folder.path / ".writer.lock.who").write_text("process 1 of root on elsewhere")
    assert finish(folder.path)[0] == 6


def test_what_was_mended_stands_in_the_history(tmp_path: Path) -> None:
    folder = killed(tmp_path / "set", 8)
    folder.shard(1).replace(folder.spool(1))
    finish(folder.path)
    opened, closed = (json.loads(line) for line in folder.history.read_text().splitlines())
    assert (opened["kept"], opened["did"], opened["pid"]) == (8, ["completed shard 1"], os.getpid())
    assert closed["closed"] == PLANNED


def test_a_torn_line_in_the_history_does_no_harm(tmp_path: Path) -> None:
    folder = killed(tmp_path / "set", 8)
    with folder.history.open("ab") as file:
        file.write(b'\0\0\0\n["kept"]\n{"kept": ')
    assert finish(folder.path)[0] == 8


DAMAGE: dict[str, tuple[Callable[[SetFolder], object], str]] = {
    "truncated shard": (lambda set: cut(set.shard(0), -1), "c.0.0.0.0 has 275 bytes, 276 are needed for frames 0 to 3"),
    "missing shard": (lambda set: set.shard(0).unlink(), "c.0.0.0.0 is missing, and with it frames 0 to 3"),
    "truncated spool": (lambda set: cut(set.spool(1), -1), "1.raw has 103 bytes, 104 are needed for frames 4 to 5"),
    "missing spool": (lambda set: set.spool(1).unlink(), "c.1.0.0.0 is missing, and with it frames 4 to 5"),
    "flipped bit in the spool": (lambda set: flip(set.spool(1), 60), "frame 5 is acknowledged, but it is not on the"),
    "flipped bit in the ledger": (lambda set: flip(set.ledger, 100), "line 0 of the ledger is damaged"),
    "missing line": (
        lambda set: set.ledger.write_bytes(b"".join(set.ledger.read_bytes().splitlines(True)[1:])),
        "the ledger has no line for frame 0",
    ),
    "line twice": (
        lambda set: set.ledger.write_bytes(set.ledger.read_bytes() * 2),
        "frame 0 stands twice or out of order in the ledger, in line 6",
    ),
    "empty ledger": (lambda set: cut(set.ledger, 0), "the ledger is empty, but 6 frames were acknowledged"),
    "no ledger": (lambda set: set.ledger.unlink(), "ledger.jsonl is missing"),
    "ledger longer than data": (
        lambda set: cut(set.spool(1), 0),
        "1.raw has 0 bytes, 104 are needed for frames 4 to 5",
    ),
    "no header": (lambda set: set.header.unlink(), "has a ledger but no header.json; restore it from a copy"),
}


@pytest.mark.parametrize("name", DAMAGE)
def test_damage_is_refused_with_words_and_nothing_is_changed(tmp_path: Path, name: str) -> None:
    do, words = DAMAGE[name]
    folder = killed(tmp_path / "set", 6)
    with FrameWriter(folder.path, header(PLANNED)) as writer:  # a second session: the first six are safe for certain
        assert writer.next_index == 6
    do(folder)
    refused(folder, words)


def test_a_line_that_is_missing_at_the_end_is_noticed_once_its_writer_had_closed(tmp_path: Path) -> None:
    with FrameWriter(tmp_path / "set", header(PLANNED)) as writer:
        for index in range(6):
            writer.append(pixels(index), record(index))
    folder = SetFolder(tmp_path / "set")
    folder.ledger.write_bytes(b"".join(folder.ledger.read_bytes().splitlines(True)[:-1]))
    refused(folder, "the ledger ends at frame 4, but 6 frames were acknowledged")


@pytest.mark.parametrize("lines", [0, 4, 8, 10])
def test_a_finished_set_that_lost_lines_is_refused(tmp_path: Path, lines: int) -> None:
    finish(tmp_path / "set")
    folder = SetFolder(tmp_path / "set")
    folder.history.unlink()
    folder.ledger.write_bytes(b"".join(folder.ledger.read_bytes().splitlines(True)[:lines]))
    refused(folder, "is damaged: .*; no crash of a writer leaves that, so nothing was changed")


def test_a_finished_set_is_not_changed_by_opening_it(tmp_path: Path) -> None:
    finish(tmp_path / "set")
    folder = SetFolder(tmp_path / "set")
    times = {path: path.stat().st_mtime_ns for path in folder.array.iterdir()}
    assert finish(tmp_path / "set") == (PLANNED, ())
    assert {path: path.stat().st_mtime_ns for path in folder.array.iterdir()} == times


def test_without_syncs_a_power_cut_rolls_back_to_the_last_good_frame(tmp_path: Path) -> None:
    for sync in ("shard", "never"):
        folder = killed(tmp_path / sync, 6, sync=sync)
        cut(folder.spool(1), STORED + 10)
        kept, did = finish(folder.path, sync=sync)
        assert kept == 5
        assert f"rolled back 1 frames whose pixels a power cut took (sync: {sync})" in did


def test_marks_do_not_outlive_the_frames_that_they_were_about(tmp_path: Path) -> None:
    folder = killed(tmp_path / "set", 6, sync="shard")
    about = [("bad", 0, 1), ("drift", 3, 5), ("doubtful", 5, 5)]
    lines = [Mark(word=word, first=first, last=last, reason="r").model_dump_json() for word, first, last in about]
    folder.marks.write_text("\n".join(lines) + "\n")
    cut(folder.spool(1), STORED + 10)
    kept, did = finish(folder.path, sync="shard")
    assert kept == 5
    assert "dropped 1 marks and shortened 1 marks: the frames from 5 on that they were about are gone" in did
    store = FrameStore.open(folder.path)
    assert [(mark.word, mark.first, mark.last) for mark in store.marks] == [("bad", 0, 1), ("drift", 3, 4)]
    assert np.flatnonzero(store.marked).tolist() == [0, 1, 3, 4]


def test_without_any_sync_a_power_cut_may_take_a_whole_shard(tmp_path: Path) -> None:
    folder = killed(tmp_path / "set", 6, sync="never")
    content = bytearray(folder.shard(0).read_bytes())
    content[STORED : 2 * STORED] = bytes(STORED)
    folder.shard(0).write_bytes(content)
    kept, did = finish(folder.path, sync="never")
    assert kept == 1
    assert "opened shard 0 again, which was not finished" in did


def test_what_lies_before_the_last_shards_is_damage_whatever_was_synced(tmp_path: Path) -> None:
    folder = killed(tmp_path / "set", 11, sync="never")
    cut(folder.shard(0), 100)
    refused(folder, "c.0.0.0.0 has 100 bytes, 276 are needed for frames 0 to 3", sync="never")


def test_what_recovery_keeps_is_safe_from_a_power_cut_right_after(tmp_path: Path) -> None:
    root = tmp_path / "disk"
    root.mkdir()
    late = killed(root / "late", 6)
    folder = killed(root / "set", 5)
    disk = Disk(root, tmp_path / "notes")
    with disk.watching():
        folder.spool(1).write_bytes(late.spool(1).read_bytes())
        disk.all_is_safe()  # a writer was killed when its pixels were synced, and its line was written only
        folder.ledger.write_bytes(late.ledger.read_bytes())
        writer = FrameWriter(folder.path, header(PLANNED))
        assert writer.acknowledged == 6
        disk.cut("worst", random.Random(0))
    writer.close()
    assert len(FrameStore.open(folder.path)) == 6
