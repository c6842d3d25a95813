"""The proof of a set: a whole one passes, and every fault that a disk, a camera or a person can bring is found."""

from __future__ import annotations

import json
import re
from collections.abc import Callable
from pathlib import Path

import numpy as np
import pytest

from labctl.frames.layout import SetFolder
from labctl.frames.marks import Mark
from labctl.frames.proof import frames_in_words
from labctl.frames.scenes import write_scenes
from labctl.frames.shards import crc32c
from labctl.frames.store import FrameStore
from labctl.frames.verify import verify
from labctl.frames.verify_storage import check_storage
from labctl.frames.writer import FrameWriter
from tests.labctl.frames.sets import SHAPE, header, pixels, record, scene, write_set


def proof(folder: Path, **how: bool):
    return verify(FrameStore.open(folder), **how)


def words(report, severity: str = "error") -> list[str]:
    return [finding.word for finding in report.findings if finding.severity == severity]


def flip(path: Path, place: int) -> None:
    data = bytearray(path.read_bytes())
    data[place] ^= 1
    path.write_bytes(data)


@pytest.mark.parametrize("compression", ["none", "zstd"])
@pytest.mark.parametrize("frames", [0, 1, 4, 10])
def test_a_whole_set_passes_without_a_word(frames: int, compression: str, tmp_path: Path) -> None:
    write_set(tmp_path, frames, head=header(frames, compression=compression))
    report = proof(tmp_path)
    assert (report.missing, report.duplicated, report.corrupt) == (0, 0, 0)
    assert (report.proven, report.frames, report.findings, report.ok) == (frames, frames, (), True)


def test_a_set_behind_an_address_is_proved_like_one_on_the_disk(tmp_path: Path) -> None:
    write_set(tmp_path, 6)
    assert verify(FrameStore.open(f"file://{tmp_path}")).findings == ()
    flip(SetFolder(tmp_path).shard(1), 3)
    assert verify(FrameStore.open(f"file://{tmp_path}")).corrupt == 1


def test_progress_is_told_from_nothing_to_all(tmp_path: Path) -> None:
    heard: list[tuple[int, int]] = []
    verify(write_set(tmp_path, 20), lambda done, total: heard.append((done, total)))
    assert heard[0] == (0, 20)
    assert heard[-1] == (20, 20)
    assert heard == sorted(heard)


# --- bytes


def test_a_flipped_bit_costs_its_own_frame_only(tmp_path: Path) -> None:
    store = write_set(tmp_path)
    size = int(store.column("nbytes")[0])
    flip(SetFolder(tmp_path).shard(1), size + 3)
    report = proof(tmp_path)
    assert (report.corrupt, report.missing, report.proven) == (1, 0, 9)
    (finding,) = report.findings
    assert finding.text == "frame 5 does not match the checksum of the ledger"
    assert proof(tmp_path, quick=True).ok, "the quick proof believes the pixels"


def two_frames_change_places(folder: Path) -> None:
    shard = SetFolder(folder).shard(0)
    data, size = shard.read_bytes(), int(FrameStore.open(folder).column("nbytes")[0])
    shard.write_bytes(data[size : 2 * size] + data[:size] + data[2 * size :])


def test_frames_that_changed_places_are_not_in_order(tmp_path: Path) -> None:
    write_set(tmp_path)
    two_frames_change_places(tmp_path)
    assert [finding.frames for finding in proof(tmp_path).findings] == [(0, 1)]


@pytest.mark.parametrize("quick", [False, True])
@pytest.mark.parametrize(
    ("harm", "said", "corrupt"),
    [
        (lambda shard: shard.unlink(), "c.1.0.0.0 is missing; frames 4 to 7 are in it", 4),
        (
            lambda shard: shard.write_bytes(shard.read_bytes()[: shard.stat().st_size // 2]),
            "c.1.0.0.0 is too short for its 4 frames; frames 6 to 7 are cut off",
            2,
        ),
        (lambda shard: shard.write_bytes(shard.read_bytes()[:-1]), "c.1.0.0.0 is too short for its 4 frames", 0),
        (lambda shard: shard.write_bytes(shard.read_bytes() + b"x"), "c.1.0.0.0 is too long for its 4 frames", 0),
        (lambda shard: flip(shard, -9), "the index at the end of c.1.0.0.0 does not agree with the ledger", 0),
    ],
)
def test_a_shard_that_is_gone_cut_or_changed_is_named_even_in_a_hurry(
    harm: Callable[[Path], None], said: str, corrupt: int, quick: bool, tmp_path: Path
) -> None:
    write_set(tmp_path)
    harm(SetFolder(tmp_path).shard(1))
    report = proof(tmp_path, quick=quick)
    assert not report.ok
    assert (report.corrupt, report.proven) == (corrupt, 0 if quick else 10 - corrupt)
    assert said in report.findings[0].text


def test_a_missing_line_of_the_ledger_is_a_missing_frame(tmp_path: Path) -> None:
    write_set(tmp_path)
    ledger = SetFolder(tmp_path).ledger
    lines = ledger.read_bytes().splitlines(keepends=True)
    ledger.write_bytes(b"".join(lines[:3] + lines[5:]))
    report = proof(tmp_path)
    assert (report.missing, report.corrupt) == (2, 0)
    assert report.findings[0].text == "frames 3 to 4 are missing: the ledger has no good line"


def test_a_ledger_without_its_end_is_noticed_by_what_was_finished(tmp_path: Path) -> None:
    write_set(tmp_path, head=header(None))
    ledger = SetFolder(tmp_path).ledger
    ledger.write_bytes(b"".join(ledger.read_bytes().splitlines(keepends=True)[:7]))
    report = proof(tmp_path)
    assert (report.missing, report.corrupt, words(report)) == (3, 0, ["missing"])
    assert report.findings[0].text == "frames 7 to 9 are missing: the set was finished with 10"


def test_a_ledger_of_an_unfinished_set_that_lost_its_end_does_not_fill_its_shards(tmp_path: Path) -> None:
    write_set(tmp_path, head=header(None), finish=False)
    ledger = SetFolder(tmp_path).ledger
    lines = ledger.read_bytes().splitlines(keepends=True)
    ledger.write_bytes(b"".join(lines[:6]))
    assert "c.1.0.0.0 is too long for its 2 frames" in proof(tmp_path).findings[0].text
    ledger.write_bytes(b"".join(lines[:4]))
    assert "c.1.0.0.0 is there, but the ledger has no line of its frames" in proof(tmp_path).findings[0].text


def test_a_line_that_stands_twice_is_a_duplicate(tmp_path: Path) -> None:
    write_set(tmp_path)
    ledger = SetFolder(tmp_path).ledger
    lines = ledger.read_bytes().splitlines(keepends=True)
    ledger.write_bytes(b"".join([*lines, lines[9]]))
    report = proof(tmp_path)
    assert report.duplicated == 1
    assert "frame 9 has more than one line" in [finding.text for finding in report.findings]


@pytest.mark.parametrize(
    ("harm", "said"),
    [
        (lambda array: array.unlink(), "missing or damaged"),
        (lambda array: array.write_text(array.read_text().replace("uint16", "int16")), "does not describe"),
        (
            lambda array: array.write_text(array.read_text().replace("10,", "9,", 1)),
            "it has 9 frames; the ledger has 10",
        ),
    ],
)
def test_what_other_tools_would_misread_is_an_error(harm: Callable[[Path], None], said: str, tmp_path: Path) -> None:
    write_set(tmp_path)
    harm(SetFolder(tmp_path).array / "zarr.json")
    report = proof(tmp_path)
    assert words(report) == ["zarr"]
    assert said in report.findings[0].text


def test_a_set_that_stopped_half_way_is_not_finished_and_says_how_to_go_on(tmp_path: Path) -> None:
    write_set(tmp_path, 6, head=header(10), finish=False)
    report = proof(tmp_path)
    assert (report.missing, report.ok, words(report)) == (0, False, ["unfinished"])
    assert "6 of 10 frames are there; the set is not finished; go on with `labctl resume`" in report.findings[0].text


def test_a_set_can_be_proved_while_it_is_written(tmp_path: Path) -> None:
    with FrameWriter(tmp_path, header(10)) as writer:
        for index in range(6):
            writer.append(pixels(index), record(index))
        writer.flush()
        report = proof(tmp_path)
        assert (report.proven, report.ok, words(report, "note")) == (6, True, ["unfinished"])
        assert "is being written by process" in report.findings[0].text


def test_a_writer_that_goes_on_during_the_proof_raises_no_false_alarm(tmp_path: Path) -> None:
    with FrameWriter(tmp_path, header(10)) as writer:

        def capture(until: int) -> None:
            for index in range(writer.next_index, until):
                writer.append(pixels(index), record(index))
            writer.flush()

        capture(6)
        store = FrameStore.open(tmp_path)
        capture(7)

        def meanwhile(done: int, total: int) -> None:
            capture(10)
            if done == total and not writer.is_finished:
                writer.finish()

        report = verify(store, meanwhile)
        assert check_storage(store, 6, finished=False).findings == (), (
            "its shard was completed after its ledger was read"
        )
        assert (report.proven, report.missing, report.corrupt, words(report)) == (7, 0, 0, [])


def test_the_spool_of_a_dead_writer_is_a_note(tmp_path: Path) -> None:
    write_set(tmp_path)
    SetFolder(tmp_path).spool(7).write_bytes(b"left")
    report = proof(tmp_path)
    assert (report.ok, words(report, "note")) == (True, ["leftover"])


# --- frames


def test_a_buffer_that_was_handed_out_twice_is_found_by_its_pixels(tmp_path: Path) -> None:
    write_set(tmp_path, images=lambda index: pixels(3 if index == 7 else index))
    report = proof(tmp_path)
    assert (report.duplicated, words(report), report.findings[0].frames) == (1, ["duplicated"], (7,))


def test_equal_frames_of_one_scene_are_a_note_unless_the_camera_is_real(tmp_path: Path) -> None:
    def repeated(index: int):
        return record(index, sample_id=0, label=0, label_name="anna", split=0, scene_hash="one", repeat=index)

    for nature, expected in (("simulated", 0), ("real", 2)):
        folder = tmp_path / nature
        write_set(folder, 3, head=header(3, nature=nature), records=repeated, images=lambda _: pixels(0))
        assert proof(folder).duplicated == expected


@pytest.mark.parametrize(
    ("change", "said"),
    [
        ({"exposure_id": 1002}, "exposure id and attempt"),
        ({"frame_id": 2, "camera_time_s": 100.02}, "camera's frame id and time"),
        ({"sample_id": 2, "label": 2, "label_name": "chloé", "split": 2, "scene_hash": None}, "sample, repeat, rung"),
    ],
)
def test_a_frame_that_says_it_is_an_earlier_one_is_a_duplicate(change: dict, said: str, tmp_path: Path) -> None:
    write_set(tmp_path, records=lambda index: record(index, **(change if index == 5 else {})))
    report = proof(tmp_path)
    assert report.duplicated == 1
    assert any(said in finding.text and finding.frames == (5,) for finding in report.findings)


def test_a_second_attempt_is_no_duplicate(tmp_path: Path) -> None:
    write_set(
        tmp_path, records=lambda index: record(index, **({"exposure_id": 1002, "attempt": 1} if index == 5 else {}))
    )
    assert proof(tmp_path).ok


def test_a_dead_frame_is_an_error_a_dark_one_a_note_and_a_marked_one_is_known(tmp_path: Path) -> None:
    def flat(index: int):
        return np.full(SHAPE, 64, np.uint16) if index in (2, 5, 8) else pixels(index)

    store = write_set(tmp_path, images=flat, records=lambda i: record(i, kind="dark" if i == 5 else "scene"))
    mark(store.folder, Mark(word="bad", first=8, last=8, reason="the lid was closed"))
    report = proof(tmp_path)
    (dead,) = (finding for finding in report.findings if finding.severity == "error")
    (dull,) = (finding for finding in report.findings if finding.word == "constant" and finding.severity == "note")
    assert (dead.word, dead.frames, dull.frames) == ("constant", (2,), (5, 8))


# --- clocks


@pytest.mark.parametrize(
    ("name", "severity"), [("host_time_s", "error"), ("camera_time_s", "note"), ("unix_time_s", "note")]
)
def test_a_clock_that_goes_back_is_named(name: str, severity: str, tmp_path: Path) -> None:
    write_set(tmp_path, records=lambda index: record(index, **({name: 1.0} if index == 6 else {})))
    report = proof(tmp_path)
    assert [(f.severity, f.word, f.frames) for f in report.findings] == [(severity, "clock", (6,))]


def test_a_resumed_capture_may_begin_its_clock_anew(tmp_path: Path) -> None:
    def restarted(index: int):
        began = 0.0 if index < 6 else 5.0
        again = {
            "host_time_s": 5.0 + index - began,
            "camera_time_s": 1.0 + index - began,
            "frame_id": index - int(began),
        }
        return record(index, **again)

    head = header(10)
    write_set(tmp_path, 6, head=head, finish=False, records=restarted)
    write_set(tmp_path, 10, head=head, records=restarted)
    assert proof(tmp_path).findings == ()


# --- metadata


def test_what_is_known_is_counted_in_percent_and_scenes_count_for_what_belongs_to_scenes(tmp_path: Path) -> None:
    def some(index: int):
        if index < 2:
            return record(index, kind="dark", sample_id=None, label=None, label_name=None, split=None, scene_hash=None)
        return record(index, split=None if index == 9 else 0, instruments={} if index < 5 else {"lamp.power": 1.0})

    write_set(tmp_path, records=some)
    known = proof(tmp_path).known
    assert known["sample_id"] == 1.0
    assert known["split"] == 7 / 8
    assert known["instruments.lamp.power"] == 5 / 10 + 2 / 10
    assert known["witness"] == 0.0


def test_a_record_that_breaks_the_schema_is_named_and_the_others_are_proved(tmp_path: Path) -> None:
    write_set(tmp_path)
    ledger = SetFolder(tmp_path).ledger
    lines = ledger.read_bytes().splitlines(keepends=True)
    body = re.sub(rb'"split": ?1', b'"split": 9', lines[4]).rsplit(b', "line"', 1)[0]
    lines[4] = body + b', "line": "%08x"}\n' % crc32c(body)
    ledger.write_bytes(b"".join(lines))
    report = proof(tmp_path)
    assert (report.proven, words(report)) == (10, ["metadata"])
    assert report.findings[0].text.startswith("frame 4 does not hold to the schema: split: ")


@pytest.mark.parametrize(
    ("change", "said"),
    [
        ({"label": 7}, "a label that the class names do not know"),
        ({"sample_id": 2, "repeat": 1, "scene_hash": None}, "another label than an earlier frame"),
    ],
)
def test_labels_that_contradict_each_other_are_errors(change: dict, said: str, tmp_path: Path) -> None:
    write_set(tmp_path, records=lambda index: record(index, **(change if index == 6 else {})))
    assert any(said in finding.text and finding.frames == (6,) for finding in proof(tmp_path).findings)


def mark(folder: Path, *marks: Mark) -> None:
    SetFolder(folder).marks.write_text("".join(json.dumps(one.model_dump(mode="json")) + "\n" for one in marks))


def test_marks_beyond_the_set_are_errors_and_marked_frames_are_told(tmp_path: Path) -> None:
    write_set(tmp_path)
    mark(tmp_path, Mark(word="drift", first=2, last=4, reason="r"), Mark(word="bad", first=9, last=12, reason="r"))
    report = proof(tmp_path)
    assert words(report) == ["marks"]
    assert report.findings[1].text == "frames 2 to 4 and 9 are marked (bad, drift) and left out of learning"
    SetFolder(tmp_path).marks.write_text("{}\n")
    assert words(proof(tmp_path)) == ["marks"]


def test_a_later_split_that_misses_samples_or_is_damaged_is_named(tmp_path: Path) -> None:
    write_set(tmp_path)
    (tmp_path / "splits").mkdir()
    (tmp_path / "splits" / "few.json").write_text(json.dumps({"split_of_sample": {"1": 0}}))
    (tmp_path / "splits" / "torn.json").write_text("{")
    report = proof(tmp_path)
    assert (words(report), words(report, "note")) == (["splits"], ["splits"])


def test_kept_scenes_must_be_those_that_were_shown(tmp_path: Path) -> None:
    write_set(tmp_path)
    scenes = np.stack([scene(index) for index in range(10)])
    write_scenes(tmp_path, range(10), scenes)
    assert proof(tmp_path).findings == ()
    write_scenes(tmp_path, range(10), scenes[::-1])
    assert words(proof(tmp_path)) == ["scenes"]
    assert proof(tmp_path, quick=True).ok
    write_scenes(tmp_path, range(9), scenes[:9])
    assert words(proof(tmp_path), "note") == ["scenes"]


@pytest.mark.parametrize(
    ("frames", "said"),
    [
        ([3], "frame 3"),
        ([3, 4, 5, 9], "frames 3 to 5 and 9"),
        ([1, 3, 5, 7, 9, 11], "frames 1, 3, 5, 7 and 2 more"),
    ],
)
def test_many_frames_are_said_in_few_words(frames: list[int], said: str) -> None:
    assert frames_in_words(frames) == said
