"""What goes wrong with the disk under a captured set, and with the set itself. Nothing acknowledged may be lost."""

from __future__ import annotations

import errno
import json
import os
import random
import resource
import shutil
import subprocess
import sys
import time
from collections.abc import Callable, Iterator
from pathlib import Path

import numpy as np
import pytest

from labctl.errors import LabctlError
from labctl.frames import writer
from labctl.frames.store import FrameStore
from labctl.frames.verify import verify
from labctl.frames.writer import FrameWriter
from tests.faults.stored_sets import FRAMES, StoredSet
from tests.kills.power import Disk
from tests.labctl.frames.sets import header, pixels, record, write_set

HALF = 9


@pytest.fixture
def stored(tmp_path: Path) -> StoredSet:
    return StoredSet(tmp_path / "set")


@pytest.fixture
def half(stored: StoredSet) -> StoredSet:
    """A set with HALF of its frames, whose writer closed it properly: two shards and one frame in a spool."""
    stored.capture(HALF)
    assert stored.acknowledged == HALF
    return stored


@pytest.fixture
def small_disk(tmp_path: Path) -> Iterator[Path]:
    """A disk of 64 KiB, where this user may mount one."""
    folder = tmp_path / "disk"
    folder.mkdir()
    command = ["mount", "-t", "tmpfs", "-o", "size=64k", "tmpfs", str(folder)]
    if shutil.which("mount") is None or subprocess.run(command, capture_output=True, check=False).returncode:
        pytest.xfail("no disk can be mounted here")
    yield folder
    subprocess.run(["umount", "-l", str(folder)], check=True)


def refuse(patch: pytest.MonkeyPatch, number: int) -> None:
    """From now on every write fails."""

    def failing(*_: object) -> int:
        raise OSError(number, os.strerror(number))

    patch.setattr(os, "writev", failing)


@pytest.mark.parametrize(
    ("fault", "number", "words"),
    [
        ("disk full", errno.ENOSPC, "no space is left"),
        ("quota used up", errno.EDQUOT, "your quota is used up"),
        ("disk turns read-only", errno.EROFS, "cannot be written"),
        ("disk gone: input/output error", errno.EIO, "does not answer as it should (Input/output error)"),
    ],
)
def test_a_write_that_fails_ends_the_capture_with_words_and_loses_nothing(
    stored: StoredSet, monkeypatch: pytest.MonkeyPatch, fault: str, number: int, words: str
) -> None:
    with monkeypatch.context() as patch:
        stored.capture(faults={13: lambda: refuse(patch, number)})
    assert stored.acknowledged == 12
    assert words in str(stored.error)
    stored.resumed(fault, f"every write from frame 13 on fails ({errno.errorcode[number]})")


def test_a_small_disk_that_fills_up_is_gone_on_with_once_there_is_space(small_disk: Path) -> None:
    (small_disk / "ballast").write_bytes(bytes(40 * 1024))
    stored = StoredSet(small_disk / "set").capture()
    assert "is full (no space is left)" in str(stored.error)
    full = StoredSet(small_disk / "set", acknowledged=stored.acknowledged).capture()
    assert "is full (no space is left)" in str(full.error), "still full"
    (small_disk / "ballast").unlink()
    stored.resumed("disk full, a real one", "a disk of 64 KiB")


def test_a_file_that_may_not_grow_ends_the_capture_with_words(stored: StoredSet) -> None:
    soft, hard = resource.getrlimit(resource.RLIMIT_FSIZE)
    try:
        stored.capture(faults={5: lambda: resource.setrlimit(resource.RLIMIT_FSIZE, (6000, hard))})
    finally:
        resource.setrlimit(resource.RLIMIT_FSIZE, (soft, hard))
    assert "a file may not grow further" in str(stored.error)
    stored.resumed("limit of the file size", "RLIMIT_FSIZE of 6000 bytes")


def test_a_folder_that_cannot_be_written_is_named_before_anything_is_captured(
    stored: StoredSet, monkeypatch: pytest.MonkeyPatch
) -> None:
    there = os.open

    def read_only(path: os.PathLike[str] | str, flags: int, *more: object, **also: object) -> int:
        if flags & (os.O_CREAT | os.O_RDWR | os.O_WRONLY):
            raise OSError(errno.EROFS, os.strerror(errno.EROFS), str(path))
        return there(path, flags, *more, **also)  # type: ignore[arg-type]

    stored.capture(HALF)
    with monkeypatch.context() as patch:
        patch.setattr(os, "open", read_only)
        stored.capture()
    assert "cannot be written (Read-only file system); make it writable" in str(stored.error)
    stored.resumed("read-only disk", "opening any file for writing fails (EROFS)")


def test_a_disk_slower_than_the_camera_slows_the_capture(stored: StoredSet, monkeypatch: pytest.MonkeyPatch) -> None:
    fsync = os.fsync
    monkeypatch.setattr(writer, "SLOW_S", 0.05)

    def slow(number: int) -> None:
        time.sleep(0.02)
        fsync(number)

    with monkeypatch.context() as patch, FrameWriter(
        stored.path, header(FRAMES), block=2, queue_bytes=100, say=stored.said.append
    ) as to:  # fmt: skip
        patch.setattr(os, "fsync", slow)
        for index in range(FRAMES):
            to.append(pixels(index), record(index))
        to.finish()
        stored.acknowledged = to.acknowledged
    assert len(stored.said) == 1
    stored.went_on("slow disk", "every sync takes 20 ms", stored.said[0], "slowed down; nothing dropped")


def test_a_folder_that_is_moved_away_is_missed_and_gone_on_with_when_it_is_back(
    stored: StoredSet, tmp_path: Path
) -> None:
    away = tmp_path / "away"
    stored.capture(faults={HALF: lambda: stored.path.rename(away)})
    assert "is gone: moved, removed or unmounted; bring it back" in str(stored.error)
    shutil.rmtree(stored.path, ignore_errors=True)
    away.rename(stored.path)
    stored.resumed("disk unmounted", "the folder of the set is moved away, and back")


def test_a_folder_that_is_removed_is_missed_before_more_frames_are_called_safe(stored: StoredSet) -> None:
    stored.capture(faults={10: lambda: shutil.rmtree(stored.path)})
    assert stored.acknowledged == 10
    assert "is gone" in str(stored.error)
    saw = str(stored.error)
    stored.acknowledged = 0  # somebody removed these
    stored.went_on("folder removed", "rm -r while it is written", saw, "RunFailed at the next block; captured anew")


@pytest.mark.parametrize("power", [False, True], ids=["killed", "power cut"])
def test_a_writer_that_is_killed_or_loses_its_power_loses_nothing_acknowledged(
    tmp_path: Path, power: bool, monkeypatch: pytest.MonkeyPatch
) -> None:
    (tmp_path / "disk").mkdir()
    disk = Disk(tmp_path / "disk", tmp_path / "notes")
    disk.all_is_safe()
    program = """
import os, signal, sys
from pathlib import Path
from tests.faults.stored_sets import StoredSet
from tests.kills.power import Disk
root, notes = Path(sys.argv[1]), Path(sys.argv[2])
with Disk(root, notes).watching():
    stored = StoredSet(root / "set")
    stored.capture(faults={13: lambda: os.kill(os.getpid(), signal.SIGKILL)})
"""
    command = [sys.executable, "-c", program, str(tmp_path / "disk"), str(tmp_path / "notes")]
    ended = subprocess.run(command, capture_output=True, text=True, check=False)
    assert ended.returncode == -9, ended.stderr
    if power:
        disk.cut("worst", random.Random(0))
    stored = StoredSet(tmp_path / "disk" / "set", acknowledged=12)
    with FrameWriter(stored.path, header(FRAMES)) as to:
        assert to.next_index == 12
        did = "; ".join(to.recovery.did) or "nothing to mend"
    fault, injected = ("power cut", "kill -9, and all that was not synced is dropped") if power else (
        "writer killed", "kill -9 before frame 13")  # fmt: skip
    stored.went_on(fault, injected, f"when opened again: {did}", "killed; capture resumed")


def test_a_set_has_one_writer(half: StoredSet) -> None:
    with FrameWriter(half.path, header(FRAMES)) as to:
        second = StoredSet(half.path).capture()
        assert second.error is not None
        assert "is being written by process" in str(second.error)
        to.append(pixels(HALF), record(HALF))
    half.acknowledged = HALF + 1
    half.error = second.error
    half.resumed("two writers", "a second capture into the same folder")


@pytest.mark.parametrize("schema", ["labctl.frames/1", "labctl.frames/3"], ids=["older", "newer"])
def test_a_set_of_another_schema_is_refused(half: StoredSet, schema: str) -> None:
    def damage() -> None:
        value = json.loads(half.folder.header.read_text())
        half.folder.header.write_text(json.dumps({**value, "schema": schema}))

    words = "made by an older labctl" if schema.endswith("1") else "install the labctl that made it"
    name = "older" if schema.endswith("1") else "newer"
    half.refused(f"schema of {name} labctl", f"header.json says {schema}", damage, words)


def flip(path: Path, byte: int) -> None:
    content = bytearray(path.read_bytes())
    content[byte] ^= 4
    path.write_bytes(content)


def lines(half: StoredSet, change: Callable[[list[bytes]], object]) -> None:
    """Change the list of lines of the ledger."""
    there = half.folder.ledger.read_bytes().splitlines(keepends=True)
    change(there)
    half.folder.ledger.write_bytes(b"".join(there))


def cut(path: Path, by: int) -> None:
    os.truncate(path, path.stat().st_size - by)


DAMAGE: list[tuple[str, str, Callable[[StoredSet], object], str]] = [
    ("shard truncated", "its last 100 bytes are gone", lambda s: cut(s.folder.shard(1), 100), "c.1.0.0.0 has"),
    ("shard missing", "rm", lambda s: s.folder.shard(1).unlink(), "c.1.0.0.0 is missing"),
    ("spool truncated", "its last 10 bytes are gone", lambda s: cut(s.folder.spool(2), 10), "2.raw has"),
    ("bit flipped in the spool", "bit 2 of byte 20", lambda s: flip(s.folder.spool(2), 20), "frame 8 is acknowledged"),
    ("bit flipped in the ledger", "bit 2 of byte 200", lambda s: flip(s.folder.ledger, 200), "line 0 of the ledger"),
    ("bit flipped in the last line", "bit 2", lambda s: flip(s.folder.ledger, -200), "9 frames were acknowledged"),
    ("line missing in the ledger", "line 5", lambda s: lines(s, lambda all: all.pop(5)), "has no line for frame 5"),
    ("last line missing", "line 8", lambda s: lines(s, lambda all: all.pop()), "but 9 frames were acknowledged"),
    (
        "ledger longer than the data",
        "the spool is emptied",
        lambda s: os.truncate(s.folder.spool(2), 0),
        "2.raw has 0 bytes",
    ),
    ("line twice in the ledger", "line 8", lambda s: lines(s, lambda all: all.append(all[-1])), "frame 8 stands twice"),
    ("ledger missing", "rm", lambda s: s.folder.ledger.unlink(), "ledger.jsonl is missing"),
    ("header missing", "rm", lambda s: s.folder.header.unlink(), "has a ledger but no header.json"),
    ("bit flipped in the header", "bit 2 of byte 1", lambda s: flip(s.folder.header, 4), "header.json"),
]


@pytest.mark.parametrize(("fault", "injected", "damage", "words"), DAMAGE, ids=[row[0] for row in DAMAGE])
def test_damage_is_refused_in_words_and_left_as_it_is(
    half: StoredSet, fault: str, injected: str, damage: Callable[[StoredSet], object], words: str
) -> None:
    half.refused(fault, injected, lambda: damage(half), words)


def test_a_flipped_bit_in_a_shard_is_never_read_as_a_frame(half: StoredSet) -> None:
    half.damaged("bit flipped in a shard", "bit 2 of byte 70", lambda: flip(half.folder.shard(0), 70))


def test_no_flipped_bit_in_the_header_makes_a_frame_come_out_wrong(half: StoredSet) -> None:
    whole = half.folder.header.read_bytes()
    refused = 0
    for bit in range(3, 8 * len(whole), 29):
        content = bytearray(whole)
        content[bit // 8] ^= 1 << bit % 8
        half.folder.header.write_bytes(content)
        try:
            store = FrameStore.open(half.path)
            found = store.read(range(HALF))
        except LabctlError:
            refused += 1
            continue
        assert np.array_equal(found, np.stack([pixels(index) for index in range(HALF)]))
    half.folder.header.write_bytes(whole)
    assert refused > 0


def test_a_clock_that_goes_back_is_told_and_changes_no_order(stored: StoredSet) -> None:
    back = {index: 1_800_000_000.0 + 0.01 * index - (3600.0 if index >= HALF else 0.0) for index in range(FRAMES)}
    store = write_set(stored.path, FRAMES, records=lambda index: record(index, unix_time_s=back[index]))
    stored.acknowledged = FRAMES
    report = verify(store)
    assert report.ok
    said = [finding.text for finding in report.findings if finding.word == "clock"] or ["nothing"]
    stored.went_on("wall clock goes back by an hour", "between frames 8 and 9", f"labctl dataset verify: {said[0]}")


@pytest.mark.parametrize(
    ("kind", "label"),
    [("of 100 000 letters", "x" * 100_000), ("in any script, with line ends", "日本\n🙂\0\u2028\ud83d")],
    ids=["long", "unicode"],
)
def test_labels_of_any_kind_are_kept(stored: StoredSet, kind: str, label: str) -> None:
    head = header(FRAMES, class_names=(label,))
    store = write_set(stored.path, FRAMES, head=head, records=lambda index: record(index, label=0, label_name=label))
    stored.acknowledged = FRAMES
    assert {kept.label_name for kept in store.records} == {label}
    stored.went_on(f"labels {kind}", "label_name of every frame", "nothing: they come back as they were")
