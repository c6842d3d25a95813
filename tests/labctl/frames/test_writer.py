"""What the writer promises: nothing is dropped, what is acknowledged is on the disk, and others can read along."""

from __future__ import annotations

import errno
import json
import os
import socket
import threading
import time
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from labctl.errors import BadInput, RunFailed
from labctl.frames import blocks, writer
from labctl.frames.claim import claim
from labctl.frames.finding import writer_of
from labctl.frames.marks import Mark
from labctl.frames.store import FrameStore
from labctl.frames.verify import verify
from labctl.frames.writer import FrameWriter
from tests.labctl.frames.sets import SHAPE, header, pixels, record, write_set

FRAME_BYTES = 2 * int(np.prod(SHAPE))


def append(to: FrameWriter, *indices: int) -> None:
    for index in indices:
        to.append(pixels(index), record(index))


def whole(store: FrameStore, frames: int) -> None:
    """Assert that these frames are there, each once, in order, and as they were."""
    assert store.problems == ()
    assert [kept.sample_id for kept in store.records] == list(range(frames))
    assert all(np.array_equal(store.frame(index), pixels(index)) for index in range(frames))


def wait_for(condition: Callable[[], object], limit_s: float = 5.0) -> None:
    end = time.monotonic() + limit_s
    while not condition():
        assert time.monotonic() < end, "it did not come"
        time.sleep(0.005)


@pytest.fixture
def slow_disk(monkeypatch: pytest.MonkeyPatch) -> None:
    """Every sync takes 10 ms."""
    fsync = os.fsync

    def slow(number: int) -> None:
        time.sleep(0.01)
        fsync(number)

    monkeypatch.setattr(os, "fsync", slow)


@pytest.mark.parametrize("compression", ["none", "zstd"])
@pytest.mark.parametrize("frames", [1, 4, 11])
def test_what_was_appended_is_read_back_pixel_for_pixel(tmp_path: Path, compression: str, frames: int) -> None:
    store = write_set(tmp_path / "set", frames, head=header(frames, compression=compression))
    whole(store, frames)
    assert verify(store).ok
    assert list(store.records) == [record(index) for index in range(frames)]


@pytest.mark.parametrize("compression", ["none", "zstd"])
def test_zarr_and_tensorstore_read_the_same_pixels(tmp_path: Path, compression: str) -> None:
    import tensorstore

    store = write_set(tmp_path / "set", 11, head=header(11, compression=compression))
    wanted = np.stack([pixels(index) for index in range(11)])
    array = store.zarr()
    assert array.shape == (11, *SHAPE)
    assert np.array_equal(array[:], wanted)
    where = {"driver": "zarr3", "kvstore": {"driver": "file", "path": str(tmp_path / "set" / "frames.zarr" / "coded")}}
    assert np.array_equal(tensorstore.open(where).result().read().result(), wanted)


def test_a_frame_waits_at_most_for_its_block_time(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(writer, "BLOCK_S", 0.1)
    with FrameWriter(tmp_path / "set", header(9)) as to:
        append(to, 0)
        assert to.acknowledged == 0
        began = time.monotonic()
        wait_for(lambda: to.acknowledged == 1)
        assert 0.05 < time.monotonic() - began < 2.0
        assert len(FrameStore.open(tmp_path / "set")) == 1


def test_a_full_block_is_acknowledged_at_once(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(writer, "BLOCK_S", 3600.0)
    with FrameWriter(tmp_path / "set", header(100, shard_frames=64), block=3) as to:
        append(to, *range(8))
        wait_for(lambda: to.acknowledged == 6)
        to.flush()
        assert to.acknowledged == 8
        to.flush()


def test_flush_returns_when_everything_is_on_the_disk(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    synced: list[int] = []
    fsync = os.fsync
    monkeypatch.setattr(os, "fsync", lambda number: (synced.append(os.fstat(number).st_ino), fsync(number))[1])
    with FrameWriter(tmp_path / "set", header(100, shard_frames=64)) as to:
        append(to, *range(5))
        to.flush()
        spool, ledger = (path.stat() for path in (to.folder.spool(0), to.folder.ledger))
        assert spool.st_size == 5 * (FRAME_BYTES + 4)
        assert synced.index(spool.st_ino) < len(synced) - 1 - synced[::-1].index(ledger.st_ino), "pixels go first"
        assert len(FrameStore.open(tmp_path / "set")) == 5


def test_a_slow_disk_slows_the_capture_says_so_and_drops_nothing(
    tmp_path: Path, slow_disk: None, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(writer, "SLOW_S", 0.05)
    said: list[str] = []
    queue = 4 * FRAME_BYTES
    with FrameWriter(tmp_path / "set", header(25), block=1, queue_bytes=queue, say=said.append) as to:
        for index in range(25):
            append(to, index)
            assert to.next_index - to.acknowledged <= 4 + 4 + 2, "no more than the queue and what is being written"
        assert to.waited_s > 0.1
        to.finish()
    whole(FrameStore.open(tmp_path / "set"), 25)
    assert len(said) == 1, "once a minute is enough"
    assert "less than the camera gives: the capture waits for it" in said[0]
    assert "nothing is dropped" in said[0]


def test_a_quick_disk_is_not_complained_about(tmp_path: Path) -> None:
    said: list[str] = []
    with FrameWriter(tmp_path / "set", header(50), say=said.append) as to:
        append(to, *range(50))
    assert said == []


def test_a_set_that_is_being_written_has_one_writer(tmp_path: Path) -> None:
    with FrameWriter(tmp_path / "set", header(5)) as to:
        append(to, 0)
        to.flush()
        with pytest.raises(BadInput, match=rf"is being written by process {os.getpid()} of .*; wait for it"):
            FrameWriter(tmp_path / "set", header(5))
        append(to, 1)
    with FrameWriter(tmp_path / "set", header(5)) as to:
        assert to.next_index == 2


def test_a_look_at_a_set_never_turns_its_writer_away_nor_passes_for_one(tmp_path: Path) -> None:
    FrameWriter(tmp_path / "set", header(5)).close()
    ended, writers = threading.Event(), []

    def look() -> None:
        while not ended.is_set():
            writers.append(writer_of(tmp_path / "set"))

    lookers = [threading.Thread(target=look) for _ in range(2)]
    for looker in lookers:
        looker.start()
    try:
        for _ in range(100):
            claim(tmp_path / "set").release()
        writers.clear()
        time.sleep(0.1)
    finally:
        ended.set()
        for looker in lookers:
            looker.join()
    assert len(writers) > 10
    assert set(writers) <= {None}


def test_a_set_that_is_not_being_written_does_not_tell_on_which_computer_it_was(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(socket, "gethostname", lambda: "the-computer-of-the-lab")
    with FrameWriter(tmp_path / "set", header(5)) as to:
        append(to, *range(5))
        assert "the-computer-of-the-lab" in (writer_of(tmp_path / "set") or "")
    text = "".join(path.read_text() for path in (tmp_path / "set").iterdir() if path.is_file())
    assert "the-computer-of-the-lab" not in text
    assert str(tmp_path) not in text
    assert writer_of(tmp_path / "set") is None


def test_a_finished_set_takes_no_more_frames_and_can_be_opened_again(tmp_path: Path) -> None:
    write_set(tmp_path / "set", 6)
    before = (tmp_path / "set" / "finished.json").read_bytes()
    with FrameWriter(tmp_path / "set", header(6)) as to:
        assert to.is_finished
        assert to.next_index == 6
        with pytest.raises(RunFailed, match="is finished; nothing can be appended"):
            append(to, 6)
        to.finish()
    assert (tmp_path / "set" / "finished.json").read_bytes() == before
    whole(FrameStore.open(tmp_path / "set"), 6)


def test_a_closed_writer_takes_no_more_frames(tmp_path: Path) -> None:
    to = FrameWriter(tmp_path / "set", header(6))
    append(to, 0)
    to.close()
    to.close()
    assert to.acknowledged == 1
    with pytest.raises(RunFailed, match="is closed; nothing can be appended"):
        append(to, 1)


def test_a_set_is_not_finished_with_frames_missing(tmp_path: Path) -> None:
    with FrameWriter(tmp_path / "set", header(6)) as to:
        append(to, 0, 1)
        with pytest.raises(RunFailed, match="2 of 6 frames are there; capture the others"):
            to.finish()
        append(to, 2, 3, 4, 5)
        to.finish()
    assert FrameStore.open(tmp_path / "set").finished


def test_a_set_of_unknown_length_ends_when_somebody_says_so(tmp_path: Path) -> None:
    with FrameWriter(tmp_path / "set", header(None)) as to:
        append(to, *range(6))
        to.finish()
    whole(FrameStore.open(tmp_path / "set"), 6)


@pytest.mark.parametrize(
    ("frame", "wrong"),
    [
        (np.zeros((1, 4, 5), np.uint16), r"uint16 \(1, 4, 5\)"),
        (np.zeros(SHAPE, np.int32), "int32"),
        (np.zeros((*SHAPE, 1), np.uint16), r"uint16 \(1, 4, 6, 1\)"),
    ],
)
def test_a_frame_of_another_shape_or_type_is_refused(tmp_path: Path, frame: Any, wrong: str) -> None:
    with FrameWriter(tmp_path / "set", header(5)) as to:
        with pytest.raises(RunFailed, match=f"a frame is {wrong}.*this set holds uint16"):
            to.append(frame, record(0))
        append(to, 0)
    assert len(FrameStore.open(tmp_path / "set")) == 1


@pytest.mark.parametrize("failing", ["pixels", "sync"])
def test_what_the_disk_refuses_is_raised_where_frames_are_appended(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, failing: str
) -> None:
    def full(*_: object) -> None:
        raise OSError(errno.ENOSPC, os.strerror(errno.ENOSPC))

    monkeypatch.setattr(writer, "BLOCK_S", 0.01)
    to = FrameWriter(tmp_path / "set", header(100), block=2)
    append(to, 0, 1)
    to.flush()
    with monkeypatch.context() as patch:
        patch.setattr(*((writer, "write_all") if failing == "pixels" else (blocks.os, "fsync")), full)
        append(to, 2)
        wait_for(lambda: to._error)
        with pytest.raises(RunFailed, match=r"is full .*free some space.*`labctl resume`; 2 frames are safe"):
            append(to, 4)
        with pytest.raises(RunFailed, match="is full"):
            to.flush()
        to.close()
    assert to.acknowledged == 2
    with FrameWriter(tmp_path / "set", header(100)) as to:
        start = to.next_index
        assert start in (2, 3), "what was on its way may have come through"
        append(to, *range(start, 6))
    whole(FrameStore.open(tmp_path / "set"), 6)


def test_an_error_that_nobody_has_heard_is_raised_on_closing(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    def full(*_: object) -> None:
        raise OSError(errno.EDQUOT, os.strerror(errno.EDQUOT))

    to = FrameWriter(tmp_path / "set", header(100))
    append(to, 0)
    monkeypatch.setattr(writer, "write_all", full)
    monkeypatch.setattr(blocks, "write_all", full)
    with pytest.raises(RunFailed, match="your quota is used up"):
        to.close()


def test_an_error_of_the_capture_comes_out_and_the_frames_so_far_are_kept(tmp_path: Path) -> None:
    def capture() -> None:
        with FrameWriter(tmp_path / "set", header(100)) as to:
            append(to, 0, 1, 2)
            raise ValueError("the camera burns")

    with pytest.raises(ValueError, match="the camera burns"):
        capture()
    whole(FrameStore.open(tmp_path / "set"), 3)


def test_a_folder_that_was_removed_is_noticed_before_its_frames_are_called_safe(tmp_path: Path) -> None:
    import shutil

    to = FrameWriter(tmp_path / "set", header(100, shard_frames=64))
    append(to, 0)
    to.flush()
    shutil.rmtree(tmp_path / "set")
    append(to, 1)
    with pytest.raises(RunFailed, match="is gone: moved, removed or unmounted; bring it back"):
        to.flush()
    assert to.acknowledged == 1
    to.close()


def test_frames_can_be_read_while_others_are_written(tmp_path: Path) -> None:
    with FrameWriter(tmp_path / "set", header(100), block=2) as to:
        for index in range(30):
            append(to, index)
            if index % 7 == 0:
                to.flush()
                store = FrameStore.open(tmp_path / "set")
                assert len(store) == index + 1
                whole(store, index + 1)
                assert not store.finished
        early = FrameStore.open(tmp_path / "set")
        places = range(len(early))
        append(to, *range(30, 50))
        to.flush()
        assert np.array_equal(early.read(places), np.stack([pixels(index) for index in places])), "shards ended since"


@pytest.mark.parametrize(
    "label", ["a\nb\0\u2028", "\ud83d", "日本 🙂", "x" * 100_000], ids=["lines", "half", "kanji", "long"]
)
def test_labels_of_any_kind_come_back_as_they_were(tmp_path: Path, label: str) -> None:
    store = write_set(tmp_path / "set", 5, records=lambda index: record(index, label_name=f"{label}{index}"))
    assert [kept.label_name for kept in store.records] == [f"{label}{index}" for index in range(5)]
    assert store.problems == ()


def test_a_clock_that_goes_back_changes_nothing_but_the_times(tmp_path: Path) -> None:
    store = write_set(tmp_path / "set", 6, records=lambda index: record(index, unix_time_s=1e9 - 3600.0 * index))
    whole(store, 6)
    assert store.column("unix_time_s").tolist() == [1e9 - 3600.0 * index for index in range(6)]


def test_marks_are_on_the_disk_when_they_are_made(tmp_path: Path) -> None:
    with FrameWriter(tmp_path / "set", header(6)) as to:
        append(to, *range(6))
        to.flush()
        to.mark(Mark(word="drift", first=1, last=2, reason="the bench was warm"))
        store = FrameStore.open(tmp_path / "set")
    assert store.marked.tolist() == [False, True, True, False, False, False]


@pytest.mark.parametrize(
    ("schema", "words"),
    [
        ("labctl.frames/1", "made by an older labctl .*labctl dataset merge"),
        ("labctl.frames/3", "this labctl reads labctl.frames/2; install the labctl that made it"),
    ],
)
def test_older_and_newer_schemas_are_refused_and_left_alone(tmp_path: Path, schema: str, words: str) -> None:
    write_set(tmp_path / "set", 3, head=header(6), finish=False)
    path = tmp_path / "set" / "header.json"
    path.write_text(json.dumps({**json.loads(path.read_text()), "schema": schema}))
    before = {file: file.read_bytes() for file in (tmp_path / "set").rglob("*.*") if file.is_file()}
    with pytest.raises(BadInput, match=words):
        FrameWriter(tmp_path / "set", header(6))
    with pytest.raises(BadInput, match=words):
        FrameStore.open(tmp_path / "set")
    after = {file: file.read_bytes() for file in before}
    assert after == before


def test_the_folder_of_another_capture_is_refused(tmp_path: Path) -> None:
    write_set(tmp_path / "set", 3, head=header(6), finish=False)
    with pytest.raises(BadInput, match="holds frames of another capture; give the run another folder"):
        FrameWriter(tmp_path / "set", header(7))
    with pytest.raises(BadInput, match="holds frames of another capture"):
        FrameWriter(tmp_path / "set", header(6, set_id="another"))
