"""A study that is held: consent first, what is kept of it, what survives, and what is refused before it begins."""

from __future__ import annotations

import csv
import json
import shutil
import socket
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from PIL import Image

from labctl.errors import BadInput, RunFailed
from labctl.study.conduct import Study
from labctl.study.consent import Consent, read_consent
from labctl.study.folder import COLUMNS
from labctl.study.pictures import frame_blurriness, frame_levels, scene_levels
from labctl.study.settings import Given
from protocols.metrics import blurriness
from tests.bad_input.lab import labctl, listing
from tests.labctl.study_sets import PEOPLE, answer, make_set, material, picture, study_record


@pytest.fixture(scope="module")
def two(tmp_path_factory: pytest.TempPathFactory) -> tuple[Path, Path]:
    """Sets of two designs that show the same scenes."""
    root = tmp_path_factory.mktemp("run")
    return make_set(root / "disc" / "frames", "disc"), make_set(root / "open" / "frames", "open", smooth=4)


def table(folder: Path) -> list[dict[str, str]]:
    with (folder / "answers.csv").open(newline="") as file:
        return list(csv.DictReader(file))


def test_nothing_is_recorded_before_consent(two: tuple[Path, Path], tmp_path: Path) -> None:
    study = Study(material(*two), tmp_path / "out")
    assert {file.name for file in (tmp_path / "out").iterdir()} == {"study.json", "answers.csv", ".study.lock"}
    code = study.begin()
    line = json.loads((tmp_path / "out" / "participants.jsonl").read_text())
    assert line["code"] == code
    assert line["consent_sha256"] == read_consent(None).sha256


def test_every_answer_is_a_row_that_tells_all_of_it(two: tuple[Path, Path], tmp_path: Path) -> None:
    study = Study(material(*two), tmp_path / "out")
    code = study.begin()
    for number in range(8):  # two for practice, which do not count
        answer(study, code, right=number != 3, ms=700 + number, interrupted=number == 4)
    assert study.state(code)["phase"] == "done"
    rows = table(tmp_path / "out")
    assert tuple(rows[0]) == COLUMNS
    assert [row["trial"] for row in rows] == ["1", "2", "3", "4", "5", "6"]
    assert [row["correct"] for row in rows] == ["1", "0", "1", "1", "1", "1"]
    assert [row["interrupted"] for row in rows] == ["0", "0", "1", "0", "0", "0"]
    assert [float(row["response_ms"]) for row in rows] == [702, 703, 704, 705, 706, 707]
    for row, trial in zip(rows, study.folder.participants[code].trials, strict=True):
        shown = json.loads(row["choices"])
        assert shown == [choice.label for choice in trial.choices]
        assert row["true_label"] == PEOPLE[int(row["sample_id"]) % len(PEOPLE)]
        assert (row["chosen"] == row["true_label"]) == (row["correct"] == "1")
        assert row["chosen"] in shown
        frames = study.material.sets[trial.group].pixels(trial.row)
        assert float(row["blurriness"]) == pytest.approx(blurriness(frames), abs=1e-5)
    assert {row["design"] for row in rows} == {row["set"] for row in rows} == {"disc", "open"}
    assert {row["participant"] for row in rows} == {code}


def test_the_blurriness_is_the_one_that_protocols_judge_by() -> None:
    frame = np.random.default_rng(0).random((1, 24, 30)) * 900
    assert frame_blurriness(frame) == pytest.approx(blurriness(frame))
    assert frame_blurriness(np.zeros((1, 8, 30))) is None


def test_a_study_that_was_killed_goes_on_without_a_lost_answer(two: tuple[Path, Path], tmp_path: Path) -> None:
    study = Study(material(*two), tmp_path / "out")
    code = study.begin()
    for _ in range(5):
        answer(study, code)
    plan = study.folder.participants[code]
    study.folder.close()
    with (tmp_path / "out" / "answers.jsonl").open("a") as file:
        file.write('{"participant": "')  # the line that was being written
    with (tmp_path / "out" / "answers.csv").open("r+") as file:
        file.truncate(250)  # and the table that lags behind
    again = Study(material(*two), tmp_path / "out")
    assert again.state(code)["number"] == 5
    assert again.folder.participants[code] == plan
    answer(again, code)
    assert [row["trial"] for row in table(tmp_path / "out")] == ["1", "2", "3", "4"]


def test_an_answer_that_is_sent_twice_counts_once(two: tuple[Path, Path], tmp_path: Path) -> None:
    study = Study(material(*two), tmp_path / "out")
    code = study.begin()
    first = {"code": code, "number": 0, "chosen": 0, "response_ms": 500.0, "interrupted": False}
    assert study.answer(Given.model_validate(first))["kept"]
    told = study.answer(Given.model_validate({**first, "chosen": 1}))
    assert not told["kept"]
    assert told["state"]["number"] == 1
    assert study.folder.answers[code][0].chosen == 0
    with pytest.raises(BadInput, match="stands at 1 of 8"):
        study.answer(Given.model_validate({**first, "number": 2}))


def test_two_participants_do_not_mix(two: tuple[Path, Path], tmp_path: Path) -> None:
    study = Study(material(*two), tmp_path / "out")
    a, b = study.begin(), study.begin()
    assert study.folder.participants[a].trials != study.folder.participants[b].trials
    for _ in range(3):
        answer(study, a)
    answer(study, b)
    assert (study.state(a)["number"], study.state(b)["number"]) == (3, 1)
    with pytest.raises(KeyError):
        study.state("NOBODY")


def test_what_is_sent_to_the_page_does_not_tell_the_right_choice(two: tuple[Path, Path], tmp_path: Path) -> None:
    study = Study(material(*two), tmp_path / "out")
    code = study.begin()
    told = [answer(study, code) for _ in range(2)]
    assert told[0]["feedback"]["correct"]
    told.append(answer(study, code))
    assert "feedback" not in told[-1]
    state = study.state(code)
    assert state["names"] is None
    assert not any(name in json.dumps(state) for name in PEOPLE)
    assert not any(word in state for word in ("right", "label", "correct", "design"))


def test_breaks_come_between_trials_and_never_before_the_first(two: tuple[Path, Path], tmp_path: Path) -> None:
    study = Study(material(*two, break_every=2), tmp_path / "out")
    code = study.begin()
    pauses = []
    for _ in range(8):
        pauses.append(study.state(code)["break"])
        answer(study, code)
    assert pauses == [False, False, False, False, True, False, True, False]


def test_who_withdraws_leaves_no_answer_behind(two: tuple[Path, Path], tmp_path: Path) -> None:
    study = Study(material(*two), tmp_path / "out")
    stays, goes = study.begin(), study.begin()
    for code in (stays, goes, goes, stays, stays, goes, goes):
        answer(study, code)
    study.withdraw(goes)
    assert goes not in (tmp_path / "out" / "answers.jsonl").read_text()
    assert {row["participant"] for row in table(tmp_path / "out")} == {stays}
    assert (tmp_path / "out" / "participants.jsonl").read_text().count(goes) == 1
    with pytest.raises(KeyError):
        study.state(goes)
    answer(study, stays)
    study.folder.close()
    assert Study(material(*two), tmp_path / "out").state(stays)["number"] == 4


def test_a_withdrawal_that_was_torn_by_a_kill_is_completed(two: tuple[Path, Path], tmp_path: Path) -> None:
    study = Study(material(*two), tmp_path / "out")
    code = study.begin()
    answer(study, code)
    study.folder.close()
    with (tmp_path / "out" / "participants.jsonl").open("a") as file:
        file.write(json.dumps({"withdrawn": code}) + "\n")
    Study(material(*two), tmp_path / "out").folder.close()
    assert (tmp_path / "out" / "answers.jsonl").read_text() == ""


def test_damaged_answers_are_named_and_left_alone(two: tuple[Path, Path], tmp_path: Path) -> None:
    study = Study(material(*two), tmp_path / "out")
    code = study.begin()
    for _ in range(3):
        answer(study, code)
    study.folder.close()
    path = tmp_path / "out" / "answers.jsonl"
    lines = path.read_text().splitlines(keepends=True)
    path.write_text(lines[0] + lines[2])
    with pytest.raises(RunFailed, match="records are damaged"):
        Study(material(*two), tmp_path / "out")
    assert path.read_text() == lines[0] + lines[2]


def test_no_picture_comes_into_the_folder(two: tuple[Path, Path], tmp_path: Path) -> None:
    study = Study(material(*two), tmp_path / "out")
    code = study.begin()
    assert study.picture(code, 0, None).startswith(b"\x89PNG")
    assert study.picture(code, 0, 2).startswith(b"\x89PNG")
    answer(study, code)
    with pytest.raises(BadInput):  # nor can another question's pictures be asked for
        study.picture(code, 5, None)
    assert all(file.suffix in (".json", ".jsonl", ".csv", ".lock") for file in (tmp_path / "out").iterdir())
    assert b"PNG" not in b"".join(file.read_bytes() for file in (tmp_path / "out").iterdir())


def test_frames_are_shown_as_bright_as_they_can_be_and_turned_as_asked(two: tuple[Path, Path]) -> None:
    frame = np.linspace(500, 900, 3 * 4 * 4).reshape(3, 4, 4)
    levels = frame_levels(frame, "linear")
    assert levels.shape == (4, 4, 3)
    assert (levels.min(), levels.max()) == (0, 255)
    assert scene_levels(np.full((1, 2, 2), 0.2140), "srgb")[0, 0] == 127  # IEC 61966-2-1: 0.2140 is half of full scale
    plain, turned = material(two[0]), material(two[0], turn=90, mirror=True)
    trial = plain.draw("A")[1][0]
    assert np.array_equal(turned.pixels(trial), np.rot90(plain.pixels(trial)[:, :, ::-1], axes=(1, 2)))


def test_the_scene_that_was_captured_never_stands_beside_its_frame(two: tuple[Path, Path]) -> None:
    made = material(*two, practice=0, trials=20)
    of_sample = {frame.sample_id: frame.scene for frame in made.frames}
    for participant in "ABC":
        for trial in made.draw(participant)[1]:
            references = {choice.reference for choice in trial.choices}
            assert len(references) == 3
            assert not any(of_sample[trial.sample_id].startswith(reference) for reference in references)
            for choice in trial.choices:  # and each shows whom it is said to show
                sample = next(one for one, scene in of_sample.items() if scene.startswith(choice.reference))
                assert PEOPLE[sample % len(PEOPLE)] == choice.label
                assert np.array_equal(made.gallery.levels(choice.reference), scene_levels(picture(sample), "linear"))


def test_dark_frames_are_taken_off_when_asked(tmp_path: Path) -> None:
    def last_is_dark(sample: int, **more: Any) -> Any:
        if sample < 19:
            return study_record(sample, **more)
        return study_record(sample, kind="dark", sample_id=None, label=None, label_name=None, scene_hash=None, **more)

    folder = make_set(tmp_path / "set", records=last_is_dark)
    plain, dark = (material(folder, subtract=what) for what in ("nothing", "dark"))
    assert len(plain.frames) == len(dark.frames) == 19
    trial = plain.draw("A")[1][0]
    assert np.allclose(plain.pixels(trial) - dark.pixels(trial), plain.sets[0].store.frame(19))


def test_own_pictures_are_references_but_never_the_captured_one(two: tuple[Path, Path], tmp_path: Path) -> None:
    for sample in range(15):
        folder = tmp_path / "own" / PEOPLE[sample % 5]
        folder.mkdir(parents=True, exist_ok=True)
        larger = np.kron(scene_levels(picture(sample), "srgb"), np.ones((5, 5), dtype=np.uint8))
        Image.fromarray(larger).save(folder / f"{sample}.png")
    made = material(two[0], references=tmp_path / "own")
    for frame in made.frames:
        assert len(made.gallery.beside(frame, frame.label)) == (2 if frame.sample_id < 15 else 3)
        assert f"{frame.label}/{frame.sample_id}.png" not in made.gallery.beside(frame, frame.label)
    shutil.rmtree(tmp_path / "own" / "eva")
    with pytest.raises(BadInput, match="no picture of eva"):
        material(two[0], references=tmp_path / "own")


def test_an_npz_file_gives_references_too(tmp_path: Path) -> None:
    frames = make_set(tmp_path / "set", scenes=False)
    images, identity = np.random.default_rng(0).random((10, 9, 9)), np.arange(10) % 5
    np.savez(tmp_path / "own.npz", images=images, identity=identity, identity_name=np.array(PEOPLE))
    said: list[str] = []
    made = material(frames, references=tmp_path / "own.npz", said=said)
    assert made.gallery.labels == set(PEOPLE)
    assert "cannot be checked" in said[0]


def test_a_frame_with_no_other_picture_of_its_identity_is_left_out_and_told(tmp_path: Path) -> None:
    def once(sample: int, **more: Any) -> Any:
        name = "solo" if sample == 7 else PEOPLE[sample % 5]
        return study_record(sample, label_name=name, label=None, **more)

    said: list[str] = []
    made = material(make_set(tmp_path / "set", records=once), said=said)
    assert len(made.frames) == 19
    assert "solo" not in {frame.label for frame in made.frames}
    assert said == ["left out: 1 frames whose identity has no reference picture other than the one that was captured"]


def test_a_consent_text_keeps_its_headings_paragraphs_and_lists() -> None:
    blocks = Consent("# Title\nOne line\nand on.\n\n- a\n  longer\n- b\n\nEnd <b>").blocks
    assert [(block.kind, block.lines) for block in blocks] == [
        ("heading", ["Title"]),
        ("paragraph", ["One line and on."]),
        ("list", ["a longer", "b"]),
        ("paragraph", ["End <b>"]),
    ]


# The command


def no_labels(sample: int, **more: Any) -> Any:
    return study_record(sample, label=None, label_name=None, **more)


@pytest.fixture(scope="module")
def shelf(tmp_path_factory: pytest.TempPathFactory, two: tuple[Path, Path]) -> Path:
    """Sets with something wrong, texts, and the study of other settings."""
    root = tmp_path_factory.mktemp("shelf")
    make_set(root / "good", frames=10)
    make_set(root / "unnamed", records=no_labels)
    make_set(root / "without", scenes=False)
    (root / "empty.txt").write_text(" \n")
    (root / "binary.txt").write_bytes(b"\xff\xfe\x00\xd8")
    (root / "else").mkdir()
    (root / "else" / "thesis.tex").write_text("")
    Study(material(root / "good", trials=5, practice=0), root / "other").folder.close()
    return root


REFUSALS = {
    "no such set": (("nowhere",), "there is no 'nowhere'; give the folder of a captured set"),
    "no set": (("else",), "else is no captured set, and holds none"),
    "no labels": (("unnamed",), "unnamed: none of its 20 frames has a label"),
    "no such split": (("good", "--split", "train"), "no frames of the split 'train'"),
    "too few identities": (("good", "--choices", "6"), "--choices 6: the frames show 5 identities (ann, bea"),
    "too many trials": (("good", "--trials", "9"), "--trials 9 and --practice 3: there are 10 scenes"),
    "no references": (("without",), "without keeps no ground-truth scenes, so there are no reference pictures"),
    "no such references": (("good", "--references", "pics"), "--references pics: there is no such folder"),
    "no such consent": (("good", "--consent", "no.txt"), "--consent no.txt cannot be read: No such file"),
    "empty consent": (("good", "--consent", "empty.txt"), "--consent empty.txt is empty"),
    "consent is no text": (("good", "--consent", "binary.txt"), "--consent binary.txt is no UTF-8 text"),
    "nothing to subtract": (("good", "--subtract", "closed"), "good has no frames through the closed mask"),
    "turned a little": (("good", "--turn", "45"), "--turn: Input should be 0, 90, 180 or 270"),
    "given twice": (("good", "good"), "are the same set"),
    "another study": (("good", "--out", "other"), "--out other holds another study: --trials is 5 there and 7 here"),
    "something else": (("good", "--out", "else"), "--out else holds something else, and no study"),
    "a file": (("good", "--out", "empty.txt"), "--out empty.txt is a file"),
    "no address": (("good", "--host", "203.0.113.7"), "--host 203.0.113.7: "),
}


@pytest.mark.parametrize("case", REFUSALS)
def test_what_cannot_work_is_refused_before_anything_is_written(
    case: str, shelf: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    args, said = REFUSALS[case]
    monkeypatch.chdir(shelf)
    before = listing(shelf)
    answered = labctl("study", *args, "--no-browser", "--port", "0")
    assert (answered.code, said in answered.err) == (2, True), answered.err
    assert listing(shelf) == before


def test_a_port_in_use_is_refused_before_the_folder_is_made(shelf: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(shelf)
    with socket.socket() as taken:
        taken.bind(("127.0.0.1", 0))
        taken.listen()
        port = taken.getsockname()[1]
        answered = labctl("study", "good", "--no-browser", "--port", str(port))
    assert answered.code == 2
    assert f"--port {port} is in use; give another, or --port 0 for any that is free" in answered.err
    assert not (shelf / "studies").exists()


def test_one_folder_is_held_by_one_server(two: tuple[Path, Path], tmp_path: Path) -> None:
    study = Study(material(*two), tmp_path / "out")
    with pytest.raises(BadInput, match="another `labctl study` holds it"):
        Study(material(*two), tmp_path / "out")
    study.folder.close()
    Study(material(*two), tmp_path / "out").folder.close()


def test_another_consent_or_other_references_make_another_study(two: tuple[Path, Path], tmp_path: Path) -> None:
    first = material(*two)
    Study(first, tmp_path / "out").folder.close()
    first.consent = Consent("Another text.")
    with pytest.raises(BadInput, match="consented to another text"):
        Study(first, tmp_path / "out")
    with pytest.raises(BadInput, match="it asks for disc"):
        Study(material(two[0]), tmp_path / "out")
