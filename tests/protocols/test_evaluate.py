"""The one step that reads the test split: what it answers, and how much of it is held at a time."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest

from labctl.protocol import load_protocol, plan_run
from labctl.rig_file import find_rig, load_rig
from labctl.steps import StepContext
from protocols import evaluate, simulation
from protocols.model_file import TrainedCamera
from protocols.scenes import scenes_of
from tests.protocols.small_rig import SMALL_RIG
from tests.protocols.test_train import SMALL

TESTED = (
    SMALL
    + """
  simulated: {type: evaluate, stage: simulated, model: "${steps.train.model}"}
"""
)


def test_a_test_split_is_answered_in_parts_and_only_a_few_frames_are_kept(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    path = tmp_path / "small.yaml"
    path.write_text(TESTED)
    plan = plan_run(load_protocol(path, overrides=["compare=[disc]"]), load_rig(find_rig("sim"), overrides=SMALL_RIG))
    folder = tmp_path / "artifacts"
    folder.mkdir()
    inputs: dict[object, Path] = {}
    asked: list[int] = []
    answers = TrainedCamera.answers
    monkeypatch.setattr(simulation, "CHUNK", 50)
    monkeypatch.setattr(
        TrainedCamera, "answers", lambda camera, frames: (asked.append(len(frames)), answers(camera, frames))[1]
    )
    judged: list[int] = []
    blurriness = "protocols.metrics.blurriness"
    monkeypatch.setattr(blurriness, lambda frames: judged.append(len(frames)) or 0.5)
    for planned in plan:
        context = StepContext(
            planned.setting, folder, tmp_path, inputs, lambda message: None, lambda: False, planned.hash
        )
        result = planned.instance.step.run(context)
        inputs = dict.fromkeys([r for step in plan for r in step.inputs], folder / "model.pt")
    data = scenes_of(plan.protocol)
    rows = data.part("test")
    assert asked == [50] * (len(rows) // 50) + [len(rows) % 50]
    assert judged == [evaluate.SEEN_FRAMES] * 2
    with np.load(folder / "predictions.npz") as kept:
        assert np.array_equal(kept["label"], data.labels[rows])
        assert np.array_equal(kept["sample_id"], data.sample_ids[rows])
        assert result.metrics["accuracy"] == pytest.approx((kept["predicted"] == kept["label"]).mean())
    assert result.metrics["accuracy"] > 0.6
