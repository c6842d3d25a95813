"""Bad input: exit code 2, file:line:column, what is wrong, what is allowed, and nothing made. See `bad_input`."""

from __future__ import annotations

import json
import os
import re
import shutil
from collections import namedtuple
from collections.abc import Iterator
from pathlib import Path

import pytest

from labctl import __version__
from tests.bad_input.clip_cases import CLIP_CASES
from tests.bad_input.command_cases import COMMAND_CASES
from tests.bad_input.data_cases import DATA_CASES, npz, pictures
from tests.bad_input.lab import PROTOCOL, RUN, Case, labctl, listing
from tests.bad_input.protocol_cases import PROTOCOL_CASES
from tests.bad_input.rig_cases import RIG_CASES

CASES = [*PROTOCOL_CASES, *DATA_CASES, *CLIP_CASES, *RIG_CASES, *COMMAND_CASES]
SHORT = """\
data: {type: folder, path: pics, corrupt: skip}
steps:
  train: {epochs: 1}
  simulated: null
  display: null
  capture: {train: 2, val: 0, test: 1}
  captured: {frames: "${steps.capture.frames}"}
  finetune: null
  finetuned: null
"""


@pytest.fixture
def lab(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """A folder with a good protocol and rig, in which commands run."""
    folder = tmp_path / "lab"
    folder.mkdir()
    Case("good", "").write(folder)
    monkeypatch.chdir(folder)
    return folder


@pytest.mark.parametrize("case", CASES, ids=lambda case: case.name)
def test_a_mistake_is_refused_with_its_place_and_nothing_is_made(case, lab, own_state_folder):
    case.write(lab)
    before = listing(lab)
    answer = labctl(*case.args)
    assert re.search(_pattern(case.said), answer.err), answer.err
    assert answer.code == 2
    assert "Traceback" not in answer.err
    assert answer.out == ""
    assert listing(lab) == before
    assert not own_state_folder.exists(), "a refused command locks no rig and remembers no run"


def _pattern(said: str) -> str:
    """`said` as a line that starts so, when it starts with a place; LINE:COLUMN stands for places in shipped files."""
    start = "(?m)^" if re.match(r"(\w+\.yaml:\d+:\d+: |--(set|rig) )", said) else ""
    return start + re.escape(said).replace("LINE:COLUMN", r"\d+:\d+")


def test_names_of_the_mistakes_are_unique():
    assert len({case.name for case in CASES}) == len(CASES)


def test_the_good_lab_passes_so_that_each_mistake_is_the_only_one(lab):
    before = listing(lab)
    answer = labctl("validate", PROTOCOL)
    assert (answer.code, answer.out) == (0, "")
    assert "p.yaml: fine" in answer.err
    assert listing(lab) == before


@pytest.mark.parametrize("command", ["validate", "plan"])
def test_validate_and_plan_say_the_same_as_run(command, lab):
    Case("typo", "", "steps:\n  train: {epoch: 3}").write(lab)
    run = labctl(*RUN)
    assert labctl(command, PROTOCOL).err == run.err
    assert run.code == 2


def test_all_mistakes_are_said_at_once_each_on_its_line(lab):
    Case("three", "", "seed: [1]\nscene_px: [0, 63]\nsteps:\n  train: {epochs: 0}").write(lab)
    lines = labctl(*RUN).err.strip().splitlines()
    assert [line.split(" ")[0] for line in lines] == ["p.yaml:2:1:", "p.yaml:3:12:", "p.yaml:5:19:"]


def test_a_mistake_that_five_steps_meet_is_said_once(lab):
    Case("one", "", "mask_cells: [64, 64]").write(lab)
    assert len(labctl(*RUN).err.strip().splitlines()) == 1


def test_corrupt_pictures_are_found_though_no_step_captures_them(lab):
    only_train = "steps:\n" + "".join(
        f"  {name}: null\n" for name in ("simulated", "display", "capture", "captured", "finetune", "finetuned")
    )
    Case("train", "", f"data: {{type: folder, path: pics}}\n{only_train}").write(lab)
    pictures(lab, 3)
    answer = labctl(*RUN)
    assert answer.code == 2
    assert "3 of 24 pictures cannot be read: 'a/00.png'" in answer.err
    assert not (lab / "out").exists()


def test_an_output_folder_that_cannot_be_written_is_refused(lab, monkeypatch):
    really = os.access
    monkeypatch.setattr(os, "access", lambda path, mode: Path(path) != lab and really(path, mode))
    before = listing(lab)
    answer = labctl(*RUN)
    assert answer.code == 2
    assert f"output folder {lab}/out/run: {lab} cannot be written; give another --out" in answer.err
    assert listing(lab) == before


def test_a_read_only_file_system_is_refused(lab, monkeypatch):
    monkeypatch.setattr(os, "statvfs", lambda path: namedtuple("Stat", "f_flag")(os.ST_RDONLY))
    answer = labctl(*RUN)
    assert answer.code == 2
    assert f"{lab} is on a read-only file system; give another --out" in answer.err
    assert not (lab / "out").exists()


def test_a_full_disk_is_refused_with_what_is_free_and_what_is_needed(lab, monkeypatch):
    monkeypatch.setattr(shutil, "disk_usage", lambda path: namedtuple("Usage", "free")(5 * 2**20))
    answer = labctl(*RUN)
    assert answer.code == 2
    assert re.search(r"5 MiB are free, the run needs about \d+ MiB; free some space or give another --out", answer.err)
    assert not (lab / "out").exists()


def test_a_state_folder_that_cannot_be_made_is_refused_before_the_run_is(lab, monkeypatch):
    monkeypatch.setenv("LABCTL_STATE", str(lab / "base.yaml"))
    answer = labctl(*RUN)
    assert answer.code == 2
    assert "base.yaml cannot be made" in answer.err
    assert "LABCTL_STATE" in answer.err
    assert not (lab / "out").exists()


def test_good_npz_data_pass(lab):
    Case("npz", "", "data: {type: npz, path: d.npz}").write(lab)
    npz(lab)
    assert labctl("validate", PROTOCOL).code == 0


@pytest.fixture(scope="module")
def short_run(tmp_path_factory: pytest.TempPathFactory) -> Iterator[tuple[Path, str]]:
    """A run that trains, captures and tests on pictures of which two are corrupt and skipped, and what it said."""
    folder = tmp_path_factory.mktemp("short")
    Case("short", "", SHORT).write(folder)
    pictures(folder, 2)
    with pytest.MonkeyPatch.context() as patch:
        patch.chdir(folder)
        patch.setenv("LABCTL_STATE", str(folder / "state"))
        answer = labctl(*RUN)
        assert answer.code == 0, answer.err
        yield folder / "out" / "run", answer.err


def test_skipped_pictures_are_named_and_counted_by_every_step_that_reads_them(short_run):
    run, said = short_run
    assert said.count("skipped 2 of 24 pictures that cannot be read: 'a/00.png', 'a/01.png'") == 3
    metrics = json.loads((run / "summary.json").read_text())["metrics"]
    assert metrics["train/learned/seed0"]["skipped"] == 2
    assert metrics["capture/learned/seed0"]["skipped"] == 2


@pytest.mark.parametrize(
    ("args", "said"),
    [
        (RUN, "already holds a run; `labctl resume "),
        (("stop", "out/run"), "is not running (status finished); nothing to stop"),
        (("abort", "out/run"), "is not running (status finished); nothing to stop"),
    ],
)
def test_a_finished_run_is_neither_overwritten_nor_stopped(short_run, args, said, monkeypatch):
    run, _ = short_run
    monkeypatch.chdir(run.parent.parent)
    before = listing(run)
    answer = labctl(*args)
    assert answer.code == 2
    assert said in answer.err
    assert {name: listing(run).get(name) for name in before if ".run.lock" not in name} == {
        name: seen for name, seen in before.items() if ".run.lock" not in name
    }


def test_resume_refuses_a_run_whose_protocol_was_spoilt(short_run, tmp_path, monkeypatch):
    run, _ = short_run
    shutil.copytree(run, tmp_path / "copy")
    monkeypatch.chdir(tmp_path)
    text = (tmp_path / "copy" / "protocol.yaml").read_text()
    (tmp_path / "copy" / "protocol.yaml").write_text(text.replace("epochs: 1\n", "epochs: none\n"))
    answer = labctl("resume", "copy")
    assert answer.code == 2
    assert re.search(r"copy/protocol\.yaml:\d+:\d+: steps\.train\.epochs: 'none' is text", answer.err)


def test_version_goes_to_stdout():
    assert labctl("--version").out == f"{__version__}\n"
