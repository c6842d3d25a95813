"""The training copy of a set: the same samples, whole or not at all, and refused once the set has changed."""

from __future__ import annotations

import json
import pickle
from pathlib import Path
from typing import Any

import fsspec
import numpy as np
import pytest

from labctl.errors import BadInput, RunFailed
from labctl.frames import pack as module
from labctl.frames.marks import Mark
from labctl.frames.pack import Pack, write_pack
from labctl.frames.samples import Choice, Treatment
from labctl.frames.store import FrameStore
from labctl.frames.writer import FrameWriter
from tests.labctl.frames.sets import LABELS, header, pixels, record, write_set


def test_a_pack_holds_the_frames_that_were_chosen(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(module, "PART_BYTES", 100)
    store = write_set(tmp_path / "set", 10)
    seen: list[tuple[int, int]] = []
    pack = write_pack(store, choice=Choice(label="ben"), progress=lambda *done: seen.append(done))
    assert pack.folder == tmp_path / "set" / "pack"
    np.testing.assert_array_equal(pack.sample_ids, [1, 4, 7])
    assert pack.about.dtype == "uint16"
    np.testing.assert_array_equal(pack.read([2, 0, 2]), store.read([7, 1, 7]))
    np.testing.assert_array_equal(np.load(pack.folder / "frames.npy", mmap_mode="r"), store.read([1, 4, 7]))
    assert pack.select(split="val").tolist() == [0, 1, 2]
    assert pack.select(split="train").tolist() == pack.select(label="anna").tolist() == []
    assert pack.about.class_names == LABELS
    assert seen[-1] == (3, 3)
    pack.check_whole()


def test_a_pack_of_treated_frames_is_float32_and_says_what_was_done(tmp_path: Path) -> None:
    records = [record(n, kind="dark" if n == 0 else "scene", sample_id=None if n == 0 else n // 2) for n in range(5)]
    store = write_set(tmp_path / "set", 5, records=records)
    pack = write_pack(store, tmp_path / "elsewhere", treatment=Treatment(dark=True))
    assert pack.read([0]).dtype == np.float32
    np.testing.assert_array_equal(pack.read([1])[0], pixels(2).astype(np.float32) - pixels(0))
    said = json.loads((tmp_path / "elsewhere" / "pack.json").read_text())
    assert said["treatment"]["dark"] is True
    assert said["state"]["frames"] == 5
    with pytest.raises(BadInput, match="uint16 holds frames as they were measured"):
        write_pack(store, tmp_path / "elsewhere", treatment=Treatment(dark=True), dtype="uint16")
    Pack.open(tmp_path / "elsewhere")  # the refusal left the old one as it was


def _grow(folder: Path) -> None:
    with FrameWriter(folder, header(None)) as writer:
        writer.append(pixels(10), record(10))


def _mark(folder: Path) -> None:
    with FrameWriter(folder, header(None)) as writer:
        writer.mark(Mark(word="bad", first=2, last=2, reason="hair on the sensor"))


def _split(folder: Path) -> None:
    (folder / "splits" / "later.json").write_text('{"split_of_sample": {"1": 2}}')


@pytest.mark.parametrize(("change", "what"), [(_grow, "ledger"), (_mark, "marks"), (_split, "splitting")])
def test_a_pack_of_an_older_state_of_the_set_is_refused(tmp_path: Path, change: Any, what: str) -> None:
    store = write_set(tmp_path / "set", 10, head=header(None), finish=False)
    (tmp_path / "set" / "splits").mkdir(exist_ok=True)
    (tmp_path / "set" / "splits" / "later.json").write_text('{"split_of_sample": {"1": 0}}')
    inside = write_pack(store, choice=Choice(splitting="later"))
    outside = write_pack(store, tmp_path / "outside", choice=Choice(splitting="later"))
    moved = (tmp_path / "set").rename(tmp_path / "moved")
    change(moved)
    Pack.open(outside.folder)  # nobody knows where its set is now
    for folder, of in ((moved / "pack", None), (outside.folder, moved), (outside.folder, f"file://{moved}")):
        with pytest.raises(BadInput, match=f"is stale: {what} of .*moved have changed.*labctl dataset pack .*moved"):
            Pack.open(folder, of)
    assert inside.about.samples == 10
    assert inside.about.made_of == "..", "a set is passed on without the folders of this computer"
    again = write_pack(FrameStore.open(moved), choice=Choice(splitting="later"))
    assert len(again) == {"ledger": 11, "marks": 9, "splitting": 10}[what]


def test_a_pack_of_another_capture_is_refused(tmp_path: Path) -> None:
    pack = write_pack(write_set(tmp_path / "one", 4), tmp_path / "pack")
    write_set(tmp_path / "two", 4, head=header(4, set_id="set-2"))
    with pytest.raises(BadInput, match="another capture"):
        Pack.open(pack.folder, of=tmp_path / "two")


def test_a_set_behind_an_address_is_packed_to_a_named_place(tmp_path: Path) -> None:
    local = write_set(tmp_path / "set", 6)
    fsspec.filesystem("memory").put(f"{tmp_path}/set/", "/packed-set/", recursive=True)
    store = FrameStore.open("memory://packed-set")
    with pytest.raises(BadInput, match="say with --out where"):
        write_pack(store)
    pack = write_pack(store, tmp_path / "pack")
    np.testing.assert_array_equal(Pack.open(pack.folder, of="memory://packed-set").read(range(6)), local.read(range(6)))
    fsspec.filesystem("memory").rm("/packed-set", recursive=True)


def test_a_pack_that_cannot_be_finished_leaves_the_old_one_and_nothing_else(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    store = write_set(tmp_path / "set", 10)
    before = write_pack(store, tmp_path / "pack")

    def full(path: Path) -> None:
        raise OSError(28, "No space left on device")

    with monkeypatch.context() as patched:
        patched.setattr(module, "sync_tree", full)
        with pytest.raises(RunFailed, match="No space left on device; free some space"):
            write_pack(store, tmp_path / "pack", choice=Choice(split="val"))
    assert sorted(path.name for path in tmp_path.iterdir()) == ["pack", "set"]
    assert len(Pack.open(tmp_path / "pack")) == len(before)


def test_a_pack_is_refused_before_it_fills_the_disk(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    store = write_set(tmp_path / "set", 10)
    usage = type("Usage", (), {"free": 100})
    monkeypatch.setattr(module.shutil, "disk_usage", lambda path: usage)
    with pytest.raises(BadInput, match=r"the pack needs .* GB, 0\.00 GB are free"):
        write_pack(store)
    assert not (tmp_path / "set" / "pack").exists()


def test_a_folder_with_something_else_in_it_is_not_overwritten(tmp_path: Path) -> None:
    store = write_set(tmp_path / "set", 3)
    for place in (tmp_path / "set", tmp_path):
        with pytest.raises(BadInput, match="is there and is no pack"):
            write_pack(store, place)
    with pytest.raises(BadInput, match="no frame is chosen"):
        write_pack(store, choice=Choice(kind="sentinel"))
    with pytest.raises(BadInput, match="is no pack"):
        Pack.open(tmp_path)


@pytest.mark.parametrize("name", ["frames.npy", "labels.npy", "pack.json"])
def test_a_cut_off_file_of_a_pack_is_named(tmp_path: Path, name: str) -> None:
    pack = write_pack(write_set(tmp_path / "set", 10))
    path = pack.folder / name
    path.write_bytes(path.read_bytes()[:-8])
    with pytest.raises(RunFailed, match=f"{name} is damaged"):
        Pack.open(pack.folder)


def test_a_flipped_bit_in_a_pack_is_found_when_looked_for(tmp_path: Path) -> None:
    pack = write_pack(write_set(tmp_path / "set", 10))
    data = bytearray((pack.folder / "frames.npy").read_bytes())
    data[-1] ^= 1
    (pack.folder / "frames.npy").write_bytes(data)
    with pytest.raises(RunFailed, match=r"frames\.npy is damaged .*does not match its hash"):
        pack.check_whole()


def test_a_pack_goes_to_another_process_without_its_frames(tmp_path: Path) -> None:
    pack = write_pack(write_set(tmp_path / "set", 40, head=header(40, shard_frames=64)))
    sent = pickle.dumps(pack)
    assert len(sent) < 1000
    np.testing.assert_array_equal(pickle.loads(sent).read([39, 5]), pack.read([39, 5]))


def test_one_very_long_label_does_not_make_every_label_long(tmp_path: Path) -> None:
    long = "x" * 100_000
    store = write_set(
        tmp_path / "set", 40, head=header(40, class_names=("anna", long)),
        records=lambda n: record(n, label=int(n == 3), label_name=long if n == 3 else "anna"),
    )  # fmt: skip
    names = write_pack(store).label_names
    assert names[3] == long
    assert names[4] == "anna"
    assert names.nbytes < 1000
