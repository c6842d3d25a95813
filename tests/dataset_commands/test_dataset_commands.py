"""`labctl dataset info | verify | split | merge | rm`: what the person at the terminal reads, and how each ends."""

from __future__ import annotations

import io
import json
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from labctl.cli.dataset import _ask
from labctl.errors import Stopped
from labctl.frames.layout import SetFolder
from labctl.frames.record import FrameRecord
from labctl.frames.scenes import write_scenes
from labctl.frames.store import FrameStore
from labctl.frames.writer import FrameWriter
from tests.bad_input.lab import Answer, labctl, listing
from tests.labctl.frames.sets import header, record, scene, write_set


@pytest.fixture
def sets(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """A folder with a set `a`, in which commands run."""
    monkeypatch.chdir(tmp_path)
    write_set(tmp_path / "a", 12)
    return tmp_path


def told(answer: Answer) -> dict[str, Any]:
    value: dict[str, Any] = json.loads(answer.out.strip().splitlines()[-1])
    return value


def test_info_says_what_the_set_is_and_changes_nothing(sets: Path) -> None:
    before = listing(sets / "a")
    answer = labctl("dataset", "info", "a")
    assert answer.code == 0
    lines = {line.split("  ")[0]: line for line in answer.out.splitlines()}
    assert "finished: 12 of 12 frames" in lines["state"]
    assert "3; frames of anna: 4, ben: 4, chloé: 4" in lines["labels"]
    assert "2 ms, 0 dB" in lines["exposure"]
    assert "on sim (simulated)" in lines["captured"]
    assert lines["scenes"].split()[1:] == ["not", "kept"]
    assert listing(sets / "a") == before


def test_info_as_json_has_numbers_and_null_for_what_nobody_knows(sets: Path) -> None:
    value = told(labctl("dataset", "info", "a", "--json"))
    assert (value["frames"], value["planned"], value["samples"]) == (12, 12, 12)
    assert value["labels"] == {"anna": 4, "ben": 4, "chloé": 4}
    assert value["splits"] == {"train": 4, "val": 4, "test": 4}
    assert value["instruments"]["lamp.power"] == {"unit": "1", "low": 0.8, "high": 0.8, "mean": pytest.approx(0.8)}
    assert value["run_id"] is value["scenes"] is value["writer"] is None
    assert value["pixel_bytes"] == 12 * 48
    assert value["disk_bytes"] > value["pixel_bytes"]


def test_info_tells_what_the_last_opening_mended(sets: Path) -> None:
    head = header(8)
    write_set(sets / "b", 5, head=head, finish=False)
    with SetFolder(sets / "b").spool(1).open("ab") as spool:
        spool.write(b"torn")
    with FrameWriter(sets / "b", head) as writer:
        writer.append(np.zeros((1, 4, 6), np.uint16), record(5))
    out = labctl("dataset", "info", "b").out
    assert "2 sessions; last mended" in out
    assert "not finished: 6 of 8 frames; go on with `labctl resume`" in " ".join(out.split())


def test_info_says_when_scenes_are_still_to_come_and_how_each_rung_saturates(sets: Path) -> None:
    def rungs(index: int) -> FrameRecord:
        return record(index, sample_id=index // 2, rung=index % 2, saturated_fraction=0.25 * (index % 2))

    write_set(sets / "b", 4, head=header(8, ladder=(1.0, 4.0)), records=rungs, finish=False)
    said = " ".join(labctl("dataset", "info", "b").out.split())
    assert "scenes none yet; a capture with `keep_scenes` writes them when it ends" in said
    assert "saturated rung 0 (1 x): 0 % of the pixels of scenes, at most 0 % of a frame" in said
    assert "rung 1 (4 x): 25 % of the pixels of scenes, at most 25 % of a frame" in said


def test_info_names_merged_sets_by_a_few_digits(sets: Path) -> None:
    write_set(sets / "b", 2, head=header(2, merged_from=("0123456789abcdef" * 4, "day one")))
    assert " ".join(labctl("dataset", "info", "b").out.split()).endswith("merged from 01234567, day one")


def test_a_label_that_looks_like_markup_is_shown_as_it_is(sets: Path) -> None:
    write_set(
        sets / "b", 2, head=header(2, title="[red]x[/]", class_names=()), records=lambda i: record(i, label_name="[b]")
    )
    out = labctl("dataset", "info", "b").out
    assert "[red]x[/]" in out
    assert "[b]: 2" in out


def test_verify_ends_with_0_for_a_whole_set_and_1_for_a_broken_one(sets: Path) -> None:
    answer = labctl("dataset", "verify", "a")
    assert (answer.code, answer.err) == (0, "")
    assert "12 of 12 frames proved to the last pixel; 0 missing, 0 duplicate, 0 corrupt\nthe set is whole" in answer.out
    shard = SetFolder(sets / "a").shard(1)
    shard.write_bytes(b"\0" * 8 + shard.read_bytes()[8:])
    answer = labctl("dataset", "verify", "a")
    assert answer.code == 1
    assert answer.out.startswith("✗ corrupt    frame 4 does not match the checksum of the ledger")
    assert answer.out.endswith("1 corrupt\nthe set is NOT whole\n")
    value = told(labctl("dataset", "verify", "a", "--json"))
    assert (value["ok"], value["corrupt"], value["proven"]) == (False, 1, 11)
    answer = labctl("dataset", "verify", "a", "--quick")
    assert answer.code == 0
    assert "proved" not in answer.out, "a quick proof proves no pixel and must not sound like one"
    assert answer.out.endswith("\nwhole as far as looked; pixels were not read\n")


def test_verify_of_no_set_and_of_an_older_one_ends_with_2(sets: Path) -> None:
    answer = labctl("dataset", "verify", "nothing")
    assert (answer.code, answer.out) == (2, "")
    older = Path(__file__).parents[1] / "labctl" / "frames" / "frames-1"
    answer = labctl("dataset", "verify", str(older))
    assert answer.code == 2
    assert "labctl dataset merge" in answer.err


def test_split_prints_what_each_part_has_and_learning_can_ask_for_it(sets: Path) -> None:
    how = ("--name", "mine", "--fractions", ".5", ".25", ".25", "--seed", "3")
    answer = labctl("dataset", "split", "a", *how)
    assert answer.code == 0
    rows = [[cell.strip() for cell in line.split("│")[1:-1]] for line in answer.out.splitlines() if "│" in line]
    assert rows == [["train", "6", "6", "3"], ["val", "3", "3", "3"], ["test", "3", "3", "3"]]
    assert len(FrameStore.open(sets / "a").select(split="train", splitting="mine")) == 6
    assert "split 'mine'" in (sets / "a" / "card.md").read_text()
    answer = labctl("dataset", "split", "a", *how)
    assert (answer.code, "--replace" in answer.err) == (2, True)
    value = told(labctl("dataset", "split", "a", *how[:-1], "4", "--by", "label", "--replace", "--json"))
    assert [value["parts"][part]["labels"] for part in ("train", "val", "test")] == [1, 1, 1]


def test_merge_says_what_it_did_and_the_result_is_whole(sets: Path) -> None:
    write_set(sets / "b", 3, head=header(3, set_id="b", data_id="other"), records=lambda i: record(i, exposure_id=i))
    answer = labctl("dataset", "merge", "a", "b", "--out", "c", "--json")
    assert answer.code == 0
    assert answer.err.splitlines() == [
        f"the samples of {sets}/b are of other data: their ids are shifted by 12",
        "15 frames of 2 sets",
        "written: c",
    ]
    assert told(answer)["frames"] == 15
    assert labctl("dataset", "verify", "c").code == 0


def test_export_says_what_becomes_of_the_scenes(sets: Path) -> None:
    answer = labctl("dataset", "export", "a", "--to", "tree", "--out", "coded", "--coded-only")
    assert answer.code == 0
    assert "left out: no frame; all that were asked for are protected by the optics" in answer.err
    assert "scenes: left out\n" in answer.err
    answer = labctl("dataset", "export", "a", "--to", "tree", "--out", "plain")
    assert "scenes: not asked for\n" in answer.err
    assert "left out" not in answer.err


def test_rm_asks_first_and_without_anybody_to_ask_removes_nothing(sets: Path) -> None:
    answer = labctl("dataset", "rm", "a")
    assert answer.code == 2
    assert answer.err.startswith("this will remove a ('a set for tests') with its 12 captured frames")
    assert "give --yes" in answer.err
    assert len(FrameStore.open(sets / "a")) == 12
    answer = labctl("dataset", "rm", "a", "--yes")
    assert (answer.code, answer.err.splitlines()[-1]) == (0, "removed: a")
    assert not (sets / "a").exists()


def test_rm_of_the_scenes_keeps_the_coded_frames(sets: Path) -> None:
    answer = labctl("dataset", "rm", "a", "--scenes", "--yes")
    assert (answer.code, answer.err) == (0, "a keeps no ground-truth scenes; nothing is removed\n")
    write_scenes(sets / "a", [0, 1], np.stack([scene(0), scene(1)]))
    answer = labctl("dataset", "rm", "a", "--scenes", "--yes")
    assert answer.err.startswith("this will remove the 2 ground-truth scenes of a;")
    assert not (sets / "a" / "scenes.zarr").exists()
    assert labctl("dataset", "verify", "a").code == 0


def test_rm_of_what_cannot_be_read_is_possible_and_an_address_is_refused(sets: Path) -> None:
    (sets / "a" / "header.json").write_text("{")
    answer = labctl("dataset", "rm", "a", "--yes")
    assert (answer.code, "which cannot be read" in answer.err, (sets / "a").exists()) == (0, True, False)
    assert labctl("dataset", "rm", "s3://bucket/set", "--yes").code == 2


@pytest.mark.parametrize(("answer", "goes"), [("yes", True), ("y", True), ("no", False), ("", False)])
def test_only_a_yes_removes(answer: str, goes: bool, monkeypatch: pytest.MonkeyPatch) -> None:
    class Terminal(io.StringIO):
        def isatty(self) -> bool:
            return True

    monkeypatch.setattr("sys.stdin", Terminal(answer + "\n"))
    if goes:
        _ask("remove all", yes=False)
    else:
        with pytest.raises(Stopped, match="nothing was removed"):
            _ask("remove all", yes=False)
