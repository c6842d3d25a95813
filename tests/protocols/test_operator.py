from __future__ import annotations

from pathlib import Path
from typing import Any

import numpy as np
import pytest

import labctl
from labctl.config import ConfigError
from labctl.durable import read_lines
from labctl.frames.store import FrameStore

LIVE = """
version: 1
name: live
scene_px: [63, 63]
mask_cells: [32, 32]
data: {{type: digits}}
designs: {{disc: {{type: disc}}}}
steps:
  train: {{type: train, epochs: 1, augmentation: {{shift_px: 3}}}}
  ready: {{type: operator, prompt: "Switch off the room light"}}
  live:
    type: operator
    prompt: Stand at the mark
    mask: ${{steps.train.mask}}
    labels: [anna, ben]
    takes: 2
    exposure_s: 0.004
    instruments: {{lamp: {{power: 0.5}}}}
"""


def rig_without_scene(tmp_path: Path, configs: Path) -> Path:
    path = tmp_path / "live-rig.yaml"
    path.write_text(
        f"extends: {configs / 'rigs' / 'sim.yaml'}\nname: live-bench\nscene: null\nsafe_order: [lamp, mask, camera]\n"
    )
    return path


def protocol(tmp_path: Path) -> Path:
    path = tmp_path / "live.yaml"
    path.write_text(LIVE.format())
    return path


class Person:
    """Answers in order and remembers what was asked."""

    def __init__(self, *answers: str) -> None:
        self.answers = list(answers)
        self.asked: list[str] = []

    def __call__(self, question: str, allowed: tuple[str, ...]) -> str:
        self.asked.append(question)
        answer = self.answers.pop(0)
        assert answer in allowed
        return answer


def test_an_operator_presents_labelled_scenes_on_a_rig_without_a_monitor(tmp_path: Path, configs: Path) -> None:
    person = Person("done", "take", "keep", "take", "again", "keep", "take", "keep", "stop")
    rig = rig_without_scene(tmp_path, configs)
    run = labctl.run_protocol(protocol(tmp_path), rig=rig, out=tmp_path / "run", ask=person)
    assert run.outcome is not None
    assert (run.status, int(run.outcome.exit_code)) == ("stopped", 3)
    assert person.asked[0] == "Switch off the room light"
    assert "'anna', take 1 of 2" in person.asked[1]

    person = Person("take", "keep")
    run = labctl.api.resume(run.path, ask=person)
    assert run.status == "finished"
    assert "'ben', take 2 of 2" in person.asked[0]
    captured = FrameStore.open(run.artifact("live/disc/seed0", "frames"))
    assert [(r.label_name, r.attempt) for r in captured.records] == [
        ("anna", 0), ("anna", 1), ("ben", 0), ("ben", 0)
    ]  # fmt: skip
    assert [r.reason for r in captured.records[1].retries] == ["the operator refused it"]
    assert captured.records[0].instruments == {"lamp.power": 0.5}
    assert captured.finished
    assert captured.header.class_names == ("anna", "ben")
    assert captured.header.frame_shape == (1, 32, 32)
    assert not np.array_equal(captured.frame(0), captured.frame(1)), "noise of its own for every frame"
    answers = read_lines(run.path / "artifacts" / "live" / "disc" / "seed0" / "answers.jsonl")
    assert [row["answer"] for row in answers].count("again") == 1


def test_a_capture_of_shown_scenes_is_refused_on_a_rig_without_a_monitor(tmp_path: Path, configs: Path) -> None:
    with pytest.raises(ConfigError, match=r"needs the device scene, which rig 'live-bench' does not have"):
        labctl.run_protocol(
            configs / "protocols" / "quickstart.yaml", rig=rig_without_scene(tmp_path, configs), out=tmp_path / "run"
        )
    assert not (tmp_path / "run").exists()


def test_labels_of_an_operator_are_matched_to_the_classes_by_name(tmp_path: Path, configs: Path) -> None:
    path = protocol(tmp_path)
    path.write_text(
        path.read_text().replace("[anna, ben]", "['7', '3']").replace("takes: 2", "takes: 1")
        + '  test: {type: evaluate, stage: captured, model: "${steps.train.model}", frames: "${steps.live.frames}"}\n'
    )
    person = Person("done", "take", "keep", "take", "keep")
    run = labctl.run_protocol(path, rig=rig_without_scene(tmp_path, configs), out=tmp_path / "run", ask=person)
    assert run.status == "finished", run.outcome
    predictions = np.load(run.artifact("test/disc/seed0", "evaluation").parent / "predictions.npz")
    assert predictions["label"].tolist() == [7, 3]


@pytest.mark.parametrize(("change", "text"), [
    ({"steps.live.labels": ["anna", "anna"]}, "names something twice"),
    ({"steps.live.instruments": {"laser": {"power": 1}}}, "laser"),
])  # fmt: skip
def test_what_an_operator_step_cannot_do_is_said_before(
    change: dict[str, Any], text: str, tmp_path: Path, configs: Path
) -> None:
    with pytest.raises(ConfigError, match=text):
        labctl.run_protocol(
            protocol(tmp_path),
            rig=rig_without_scene(tmp_path, configs),
            out=tmp_path / "run",
            set=change,
            ask=Person(),
        )
    assert not (tmp_path / "run").exists()
