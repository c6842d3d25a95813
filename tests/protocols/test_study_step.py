"""A study of people, analysed inside a protocol and shown in its report."""

from __future__ import annotations

import json
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import pytest

import labctl
from labctl.errors import BadInput
from labctl.study.conduct import Study
from protocols.report.page import Picture, Table, Text
from protocols.report.people import people_section
from protocols.study import Study as StudyStep
from tests.labctl.study_sets import answer, make_set, material

SETTING: Any = SimpleNamespace(at=lambda *path: ("steps", "people", *path))


@pytest.fixture
def study(tmp_path: Path) -> Study:
    return Study(material(make_set(tmp_path / "disc"), trials=6, practice=0), tmp_path / "study")


def test_the_step_analyses_the_answers_and_the_report_shows_them(study: Study, tmp_path: Path) -> None:
    code = study.begin()
    for number in range(6):
        answer(study, code, right=number < 3)
    step = StudyStep(type="study", path=tmp_path / "study")
    step.check(SETTING)
    said: list[str] = []
    folder = tmp_path / "step"
    context: Any = SimpleNamespace(folder=folder, log=said.append)
    result = step.run(context)
    assert result.metrics["people"] == result.metrics["people.disc"] == 0.5
    assert result.metrics["chance"] == pytest.approx(1 / 3)
    assert json.loads(result.outputs["study"].read_text())["answers"] == 6
    assert "there is one participant" in said[0]

    made = SimpleNamespace(path=result.outputs.__getitem__, instance=SimpleNamespace(name="people"))
    evidence: Any = SimpleNamespace(of=lambda type_: [made] if type_ == "study" else [])
    blocks = people_section(evidence, {})  # type: ignore[arg-type]
    text = next(block.text for block in blocks if isinstance(block, Text))
    assert "1 person chose among 3 reference pictures" in text
    table = next(block for block in blocks if isinstance(block, Table))
    assert table.rows[0][0] == "disc"
    assert table.rows[0][1].startswith("50.0 %")
    assert "not told apart" in table.rows[0]
    picture = next(block for block in blocks if isinstance(block, Picture))
    assert "No curve: there are 6 answers" in picture.caption
    assert picture.drawing.svg == (folder / "study.svg").read_bytes()


def test_the_report_of_a_study_alone_tells_what_people_said_and_misses_no_evaluation(
    study: Study, tmp_path: Path, configs: Path
) -> None:
    code = study.begin()
    for number in range(6):
        answer(study, code, right=number < 3)
    steps = {"people": {"type": "study", "path": str(tmp_path / "study")}, "report": {"type": "report"}}
    protocol = tmp_path / "protocol.yaml"
    protocol.write_text(json.dumps({"version": 1, "name": "asked", "steps": steps}))
    run = labctl.run_protocol(protocol, rig=configs / "rigs" / "as-built.yaml", out=tmp_path / "run")
    page = (run.path / "report.html").read_text()
    assert run.folder.summary()["metrics"]["report"] == {"missing_parts": 0}
    assert "No evaluation has finished" not in page
    assert "without an evaluation" not in page
    assert page.count("1 person chose among 3 reference pictures") == 2, "at the head and in its section"


def test_more_answers_make_the_step_run_again(study: Study, tmp_path: Path) -> None:
    step = StudyStep(type="study", path=tmp_path / "study")
    prints = [step.fingerprint()]
    code = study.begin()
    prints.append(step.fingerprint())
    answer(study, code)
    prints.append(step.fingerprint())
    assert len(set(prints)) == 3


def test_no_study_and_a_study_without_answers_are_refused(study: Study, tmp_path: Path) -> None:
    for path, said in ((tmp_path / "study", "has no answers yet"), (tmp_path, "is no study")):
        with pytest.raises(BadInput, match=said) as refused:
            StudyStep(type="study", path=path).check(SETTING)
        assert refused.value.at == ("steps", "people", "path")
