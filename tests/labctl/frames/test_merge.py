"""Merging: every frame comes along with all that is known of it, nothing is counted twice, a killed merge goes on."""

from __future__ import annotations

import shutil
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from labctl.errors import BadInput, RunFailed
from labctl.frames.layout import SetFolder
from labctl.frames.marks import Mark
from labctl.frames.merge import merge
from labctl.frames.record import FrameRecord
from labctl.frames.scenes import Scenes, write_scenes
from labctl.frames.splitting import By, Splitting, write_split
from labctl.frames.store import FrameStore
from labctl.frames.verify import verify
from labctl.frames.writer import FrameWriter
from tests.labctl.frames.sets import LABELS, header, pixels, record, scene, write_set

OLD = Path(__file__).parent / "frames-1"


def other(folder: Path, frames: int = 5, *, first: int = 20, **head: Any) -> FrameStore:
    """A second set, of the samples from `first` on, taken in another run."""
    return write_set(
        folder,
        frames,
        head=header(frames, **{"set_id": "set-2", **head}),
        records=lambda index: record(index + first, run_id="run-2", exposure_id=50 + index),
        images=lambda index: pixels(index, seed=2),
    )


@pytest.fixture
def two(tmp_path: Path) -> tuple[FrameStore, FrameStore]:
    return write_set(tmp_path / "a", 6), other(tmp_path / "b")


def test_a_merged_set_has_every_frame_and_record_in_order_and_is_proved(
    two: tuple[FrameStore, FrameStore], tmp_path: Path
) -> None:
    a, b = two
    made = merge([tmp_path / "a", tmp_path / "b"], tmp_path / "m")
    assert np.array_equal(made.read(range(11)), np.concatenate([a.read(range(6)), b.read(range(5))]))
    assert [*made.records] == [*a.records, *b.records]
    assert made.column("index").tolist() == list(range(11))
    assert (made.header.merged_from, made.header.data_id, made.header.run_id) == (("set-1", "set-2"), "data-1", None)
    assert verify(made).findings == ()
    assert (tmp_path / "m" / "card.md").read_text().startswith("# a set for tests\n")


def test_samples_of_other_data_are_kept_apart_and_it_is_said(tmp_path: Path) -> None:
    write_set(tmp_path / "a", 6)
    other(tmp_path / "b", first=0, data_id="data-2")
    other(tmp_path / "c", first=6, data_id="data-1", set_id="set-3")
    heard: list[str] = []
    made = merge([tmp_path / name for name in "abc"], tmp_path / "m", say=heard.append)
    assert made.column("sample_id").tolist() == [*range(6), *range(11, 16), *range(6, 11)]
    assert [text.endswith("b are of other data: their ids are shifted by 11") for text in heard] == [True]
    assert made.header.data_id is None


def test_a_sample_that_comes_twice_is_refused_or_counts_as_a_repeat(tmp_path: Path) -> None:
    write_set(tmp_path / "a", 6)
    other(tmp_path / "b", first=4)
    with pytest.raises(BadInput, match=r"both have sample 4, repeat 0, rung 0 \(2 such frames\).*--as-repeats"):
        merge([tmp_path / "a", tmp_path / "b"], tmp_path / "m")
    assert not (tmp_path / "m").exists()
    made = merge([tmp_path / "a", tmp_path / "b"], tmp_path / "m", as_repeats=True)
    assert made.column("repeat").tolist() == [0] * 6 + [1] * 5
    assert verify(made).ok


def test_two_runs_of_one_protocol_can_be_merged_and_a_copy_cannot(tmp_path: Path) -> None:
    write_set(tmp_path / "a", 3)
    write_set(tmp_path / "again", 3, images=lambda index: pixels(index, seed=9))
    shutil.copytree(tmp_path / "a", tmp_path / "copy")
    made = merge([tmp_path / "a", tmp_path / "again"], tmp_path / "m", as_repeats=True)
    assert verify(made).findings == ()
    for twin in ("copy", "a"):
        with pytest.raises(BadInput, match="one is a copy"):
            merge([tmp_path / "a", tmp_path / twin], tmp_path / "n", as_repeats=True)


def test_a_set_whose_records_or_marks_are_damaged_is_refused(
    two: tuple[FrameStore, FrameStore], tmp_path: Path
) -> None:
    SetFolder(tmp_path / "b").marks.write_text("{}\n")
    with pytest.raises(RunFailed, match=r"marks.jsonl is damaged"):
        merge([tmp_path / "a", tmp_path / "b"], tmp_path / "m")
    assert not (tmp_path / "m").exists()


@pytest.mark.parametrize(
    ("change", "said"),
    [
        ({"mask_hash": "other"}, "another mask: other and mask"),
        ({"exposure_s": 0.02}, "another exposure_s: 0.02 and 0.002"),
        ({"gain_db": 6.0}, "another gain_db: 6 and 0"),
        ({"black_level_dn": None}, "another black_level_dn: unknown and 64"),
        ({"saturation_dn": 255}, "another saturation_dn: 255 and 4095"),
    ],
)
def test_only_frames_that_were_taken_alike_are_repeats(change: dict[str, Any], said: str, tmp_path: Path) -> None:
    write_set(tmp_path / "a", 3)
    write_set(tmp_path / "b", 3, head=header(3, set_id="b"), records=lambda index: record(index, **change))
    with pytest.raises(BadInput, match=said):
        merge([tmp_path / "a", tmp_path / "b"], tmp_path / "m", as_repeats=True)
    assert not (tmp_path / "m").exists()


def test_repeats_of_two_rigs_and_sets_of_two_exposures_are_told(tmp_path: Path) -> None:
    write_set(tmp_path / "a", 3, head=header(3, rig_hash="rig-1"))
    write_set(
        tmp_path / "b", 6, head=header(6, set_id="b", rig_hash="rig-2"), images=lambda index: pixels(index, seed=1),
        records=lambda index: record(index, exposure_s=0.002 if index < 3 else 0.02),
    )  # fmt: skip
    heard: list[str] = []
    merge([tmp_path / "a", tmp_path / "b"], tmp_path / "m", as_repeats=True, say=heard.append)
    assert any("rig of other settings" in text for text in heard)
    assert any("rung 0: 0.002 s at 0 dB, 0.02 s at 0 dB" in text for text in heard)


@pytest.mark.parametrize(
    ("change", "said"),
    [
        ({"split": 2}, r"b gives sample 3 the split 2, .*a gives it 0"),
        ({"label": 1, "label_name": "ben"}, "the label ben, .* anna"),
        ({"scene_hash": "other"}, "the scene other"),
    ],
)
def test_sets_that_do_not_mean_the_same_by_a_sample_are_refused(
    change: dict[str, Any], said: str, tmp_path: Path
) -> None:
    def disagreeing(index: int) -> FrameRecord:
        return record(index, repeat=1, **(change if index == 3 else {}))

    write_set(tmp_path / "a", 6)
    write_set(tmp_path / "b", 6, head=header(6, set_id="b"), records=disagreeing)
    with pytest.raises(BadInput, match=said):
        merge([tmp_path / "a", tmp_path / "b"], tmp_path / "m")
    assert not (tmp_path / "m").exists()


def _split(folder: Path, of_sample: dict[int, int], *, by: By = "sample", seed: int = 1) -> None:
    rule = Splitting(by=by, fractions=(0.5, 0.25, 0.25), seed=seed, split_of_sample=of_sample)
    write_split(folder, "mine", rule)


def test_a_later_split_goes_along_with_the_samples_that_it_is_of(tmp_path: Path) -> None:
    write_set(tmp_path / "a", 4)
    other(tmp_path / "b", 4, first=0, data_id="data-2")
    _split(tmp_path / "a", {0: 0, 1: 1, 2: 2})
    _split(tmp_path / "b", {0: 2, 1: 0, 3: 1})
    heard: list[str] = []
    made = merge([tmp_path / "a", tmp_path / "b"], tmp_path / "m", say=heard.append)
    assert made.splits("mine").tolist() == [0, 1, 2, -1, 2, 0, -1, 1]
    assert not any("mine" in text for text in heard)


@pytest.mark.parametrize(
    ("of_a", "of_b", "more", "said"),
    [
        ({0: 0}, None, {}, "b has none of that name"),
        ({0: 0}, {0: 0}, {"seed": 2}, "split by different rules"),
        ({0: 0, 1: 1}, {0: 0, 1: 2}, {}, "sample 1 in another part"),
        ({0: 0}, {3: 2}, {"by": "label"}, "label 'anna' in another part"),
    ],
)
def test_a_later_split_that_cannot_go_along_is_named(
    of_a: dict[int, int], of_b: dict[int, int] | None, more: dict[str, Any], said: str, tmp_path: Path
) -> None:
    write_set(tmp_path / "a", 4)
    write_set(tmp_path / "b", 4, head=header(4, set_id="b"), records=lambda index: record(index, repeat=1))
    _split(tmp_path / "a", of_a, by=more.get("by", "sample"))
    if of_b is not None:
        _split(tmp_path / "b", of_b, **more)
    heard: list[str] = []
    made = merge([tmp_path / "a", tmp_path / "b"], tmp_path / "m", say=heard.append)
    assert [said in text and "labctl dataset split" in text for text in heard] == [True]
    with pytest.raises(BadInput, match="has no split 'mine'"):
        made.splits("mine")


def test_labels_are_brought_together_by_their_names(tmp_path: Path) -> None:
    write_set(tmp_path / "a", 6)
    names = ("dora", "anna")

    def renumbered(index: int) -> FrameRecord:
        return record(index + 20, label=index % 2, label_name=names[index % 2])

    write_set(
        tmp_path / "b", 4, head=header(4, set_id="b", class_names=names), records=renumbered,
        images=lambda index: pixels(index, seed=1),
    )  # fmt: skip
    made = merge([tmp_path / "a", tmp_path / "b"], tmp_path / "m")
    assert made.header.class_names == (*LABELS, "dora")
    assert made.column("label").tolist() == [0, 1, 2, 0, 1, 2, 3, 0, 3, 0]
    assert [made.header.class_names[label] for label in made.column("label")] == made.column("label_name").tolist()


def test_marks_move_with_their_frames(two: tuple[FrameStore, FrameStore], tmp_path: Path) -> None:
    with FrameWriter(tmp_path / "c", header(4, set_id="set-3")) as writer:
        for index in range(4):
            writer.append(pixels(index, seed=3), record(index + 40))
        writer.flush()
        writer.mark(Mark(word="drift", first=1, last=2, reason="the lamp aged"))
        writer.finish()
    made = merge([tmp_path / "a", tmp_path / "c"], tmp_path / "m")
    assert np.flatnonzero(made.marked).tolist() == [7, 8]
    assert made.marks[0].reason == "the lamp aged"


def test_the_clocks_of_the_parts_need_not_go_on_from_each_other(tmp_path: Path) -> None:
    write_set(tmp_path / "a", 6)
    write_set(
        tmp_path / "b", 5, head=header(5, set_id="b"), images=lambda index: pixels(index, seed=2),
        records=lambda index: record(index + 20, host_time_s=float(index), exposure_id=1000 + index),
    )  # fmt: skip
    assert verify(merge([tmp_path / "a", tmp_path / "b"], tmp_path / "m")).findings == ()


def test_the_sessions_of_a_resumed_capture_are_remembered(tmp_path: Path) -> None:
    write_set(tmp_path / "a", 6)
    head = header(5, set_id="b")

    def resumed(index: int) -> FrameRecord:
        return record(index + 20, host_time_s=float(index % 3), camera_time_s=float(index % 3))

    for until, finish in ((3, False), (5, True)):
        write_set(
            tmp_path / "b", until, head=head, finish=finish, records=resumed,
            images=lambda index: pixels(index, seed=2),
        )  # fmt: skip
    assert verify(merge([tmp_path / "a", tmp_path / "b"], tmp_path / "m")).findings == ()


def test_scenes_come_along_when_every_set_keeps_them(two: tuple[FrameStore, FrameStore], tmp_path: Path) -> None:
    write_scenes(tmp_path / "a", range(6), np.stack([scene(index) for index in range(6)]))
    heard: list[str] = []
    merge([tmp_path / "a", tmp_path / "b"], tmp_path / "m1", say=heard.append)
    assert Scenes.open(tmp_path / "m1") is None
    assert "left out" in heard[-1]
    write_scenes(tmp_path / "b", range(20, 25), np.stack([scene(index) for index in range(20, 25)]))
    made = merge([tmp_path / "a", tmp_path / "b"], tmp_path / "m2")
    kept = Scenes.open(tmp_path / "m2")
    assert kept is not None
    assert np.array_equal(kept.read([2, 23]), np.stack([scene(2), scene(23)]))
    assert verify(made).ok


def test_scenes_of_shifted_samples_stay_with_their_frames(tmp_path: Path) -> None:
    for name, data in (("a", "data-1"), ("b", "data-2")):
        write_set(
            tmp_path / name, 2, head=header(2, set_id=name, data_id=data),
            images=lambda index, name=name: pixels(index, seed=ord(name)),
            records=lambda index, name=name: record(index + (name == "b")),
        )  # fmt: skip
        write_scenes(tmp_path / name, [1, 2], np.stack([scene(1), scene(2)]))
    made = merge([tmp_path / "a", tmp_path / "b"], tmp_path / "m")
    kept = Scenes.open(tmp_path / "m")
    assert kept is not None
    assert sorted(kept.sample_ids.tolist()) == [1, 2, 3, 4]
    assert np.array_equal(kept.read(made.column("sample_id")[2:]), np.stack([scene(1), scene(2)]))
    assert not [finding for finding in verify(made).findings if finding.severity == "error"]


def test_a_merge_that_was_killed_goes_on_where_it_was(
    two: tuple[FrameStore, FrameStore], tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    sources = [tmp_path / "a", tmp_path / "b"]
    whole = merge(sources, tmp_path / "whole")

    class Killed(BaseException):
        pass

    def kill(done: int, total: int) -> None:
        if done == 8:
            raise Killed

    with pytest.raises(Killed):
        merge(sources, tmp_path / "m", progress=kill)
    assert not FrameStore.open(tmp_path / "m").finished
    heard: list[str] = []
    with monkeypatch.context() as patch:
        patch.setattr(FrameWriter, "finish", lambda self: (_ for _ in ()).throw(Killed()))
        with pytest.raises(Killed):
            merge(sources, tmp_path / "m", say=heard.append)
    assert heard == ["going on at frame 8"]
    made = merge(sources, tmp_path / "m")
    assert [*made.records] == [*whole.records]
    assert np.array_equal(made.read(range(11)), whole.read(range(11)))
    assert made.marks == whole.marks
    assert verify(made).ok


@pytest.mark.parametrize(
    ("change", "said"),
    [
        ({"frame_shape": (1, 4, 7)}, r"frames of \(1, 4, 7\).*only frames of one shape"),
        ({"ladder": (1.0, 4.0)}, "only sets of one ladder"),
        ({"units": {"lamp.power": "W"}}, "lamp.power in 'W'"),
    ],
)
def test_sets_that_do_not_fit_are_refused_before_anything_is_written(
    change: dict[str, Any], said: str, tmp_path: Path
) -> None:
    write_set(tmp_path / "a", 3)
    head = header(3, **{"set_id": "b", **change})
    write_set(tmp_path / "b", 3, head=head, records=lambda index: record(index + 9))
    with pytest.raises(BadInput, match=said):
        merge([tmp_path / "a", tmp_path / "b"], tmp_path / "m")
    assert not (tmp_path / "m").exists()


def test_a_place_that_is_taken_is_refused(two: tuple[FrameStore, FrameStore], tmp_path: Path) -> None:
    (tmp_path / "full").mkdir()
    (tmp_path / "full" / "thesis.tex").touch()
    for out, said in (("full", "is no set"), ("a", "lies in"), ("a/deeper", "lies in"), ("b", "finished set already")):
        with pytest.raises(BadInput, match=said):
            merge([tmp_path / "a"], tmp_path / out)
    assert FrameStore.open(tmp_path / "b").header.set_id == "set-2"


def test_a_set_that_is_being_written_is_not_merged(tmp_path: Path) -> None:
    with FrameWriter(tmp_path / "a", header(3)), pytest.raises(BadInput, match="is being written by process"):
        merge([tmp_path / "a"], tmp_path / "m")


def test_a_damaged_frame_ends_a_merge_that_goes_on_when_it_is_mended(
    two: tuple[FrameStore, FrameStore], tmp_path: Path
) -> None:
    shard = SetFolder(tmp_path / "b").shard(0)
    good = shard.read_bytes()
    shard.write_bytes(b"\0" * 8 + good[8:])
    with pytest.raises(RunFailed, match=r"does not match its checksum.*started again"):
        merge([tmp_path / "a", tmp_path / "b"], tmp_path / "m")
    shard.write_bytes(good)
    assert verify(merge([tmp_path / "a", tmp_path / "b"], tmp_path / "m")).ok


def test_the_least_protecting_part_names_the_privacy_of_the_whole(tmp_path: Path) -> None:
    write_set(tmp_path / "a", 3)
    other(tmp_path / "b", privacy="after-readout")
    assert merge([tmp_path / "a", tmp_path / "b"], tmp_path / "m").header.privacy == "after-readout"


# --- the older schema


def test_a_set_of_the_older_schema_becomes_one_of_today_pixel_for_pixel(tmp_path: Path) -> None:
    made = merge([OLD], tmp_path / "m")
    raw = np.fromfile(OLD / "frames.raw", dtype="<u2").reshape(6, 1, 4, 4)
    assert np.array_equal(made.read(range(6)), raw)
    assert made.column("label_name").tolist() == ["anna", "anna", "ben", "ben", "anna", "anna"]
    assert made.header.class_names == ("anna", "ben")
    first = made.records[0]
    assert (first.kind, first.exposure_s, first.exposure_id, first.mask_hash) == ("scene", 0.002, 1000, "a1b2")
    assert (first.run_id, first.black_level_dn, first.privacy, first.instruments) == (None, None, "unknown", {})
    assert verify(made).ok


def test_the_level_of_saturation_is_found_from_the_shares_that_were_written_down(tmp_path: Path) -> None:
    assert set(merge([OLD], tmp_path / "m").column("saturation_dn").tolist()) == {4095}
    shutil.copytree(OLD, tmp_path / "old")
    ledger = tmp_path / "old" / "ledger.jsonl"
    ledger.write_text("".join(ledger.read_text().splitlines(keepends=True)[:4]))
    heard: list[str] = []
    made = merge([tmp_path / "old"], tmp_path / "n", say=heard.append)
    assert heard == [f"{tmp_path}/old is not finished; its 4 of 6 frames are taken as they are"]
    assert made.read(range(4)).max() < 4095, "no frame is saturated, so that the full scale of the camera is inferred"
    assert set(made.column("saturation_dn").tolist()) == {4095}


def test_a_damaged_frame_of_the_older_schema_is_refused(tmp_path: Path) -> None:
    shutil.copytree(OLD, tmp_path / "old")
    raw = tmp_path / "old" / "frames.raw"
    raw.write_bytes(b"\1\1" + raw.read_bytes()[2:])
    with pytest.raises(RunFailed, match="frame 0 does not match its checksum"):
        merge([tmp_path / "old"], tmp_path / "m")


def test_opening_the_older_schema_names_the_command_that_makes_it_new() -> None:
    with pytest.raises(BadInput, match="labctl dataset merge"):
        FrameStore.open(OLD)
