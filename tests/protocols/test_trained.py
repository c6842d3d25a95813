"""A camera of another run, taken into this one."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch

from labctl.config import ConfigError
from labctl.protocol import load_protocol, plan_run
from labctl.rig_file import find_rig, load_rig
from labctl.steps import StepContext
from tests.protocols.small_rig import SMALL_RIG

SMALL = """
version: 1
name: small
scene_px: [31, 31]
mask_cells: [16, 16]
data: {type: digits}
designs: {learned: {type: learned}}
"""


def plan(folder: Path, steps: str, *changes: str, rig: Sequence[str] = ()) -> Any:
    path = folder / "small.yaml"
    path.write_text(SMALL + steps)
    return plan_run(load_protocol(path, overrides=changes), load_rig(find_rig("sim"), overrides=[*SMALL_RIG, *rig]))


def run(planned: Any, folder: Path, said: list[str] | None = None) -> Any:
    folder.mkdir(exist_ok=True)
    heard: list[str] = [] if said is None else said

    def report(message: dict[str, Any]) -> None:
        if message["op"] == "log":
            heard.append(message["text"])

    context = StepContext(planned.setting, folder, folder.parent, {}, report, lambda: False, planned.hash)
    return planned.instance.step.run(context)


@pytest.fixture(scope="module")
def model(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """`model.pt` of a run that trained for one epoch."""
    folder = tmp_path_factory.mktemp("first")
    [planned] = plan(folder, "steps: {train: {type: train, epochs: 1, batch: 64, augmentation: {shift_px: 1}}}")
    run(planned, folder / "train")
    return folder / "train" / "model.pt"


def taken(path: Path) -> str:
    return f"steps: {{trained: {{type: trained, path: {path}}}}}"


def test_a_camera_of_another_run_is_taken_as_it_is(model, tmp_path):
    [planned] = plan(tmp_path, taken(model))
    result = run(planned, tmp_path / "taken")
    assert np.array_equal(np.load(result.outputs["mask"]), np.load(model.parent / "mask.npy"))
    here, there = (torch.load(path, weights_only=True) for path in (result.outputs["model"], model))
    assert all(torch.equal(here["classifier"][key], there["classifier"][key]) for key in there["classifier"])
    assert result.metrics["aperture_ratio"] == pytest.approx(np.load(result.outputs["mask"]).mean())


def test_a_camera_counts_by_content_not_by_path(model, tmp_path):
    copy, other = tmp_path / "copy.pt", tmp_path / "other.pt"
    copy.write_bytes(model.read_bytes())
    saved = torch.load(model, weights_only=True)
    saved["classifier"]["normalisation.std"] *= 2
    torch.save(saved, other)
    hashes = [plan(tmp_path, taken(path)).steps[0].hash for path in (model, copy, other)]
    assert hashes[0] == hashes[1] != hashes[2]


OTHER_GRID = ["mask_cells=[17,17]", "scene_px=[33,33]"]
OTHER_RIG = ["twin.panel.stop_px=[68,68]", "twin.monitor.view_px=[33,33]", "twin.sensor.shape=[17,17]"]


@pytest.mark.parametrize(
    ("changes", "rig", "said"),
    [
        (OTHER_GRID, OTHER_RIG, "camera of another grid: 16x16 mask cells .* the protocol has 17x17"),
        (["model={type: small-residual, width: 8}"], [], "holds another network than the protocol describes"),
        (["steps.trained.path=gone.pt"], [], "'gone.pt' does not exist; give the model.pt of a run"),
    ],
)
def test_a_camera_that_does_not_fit_is_refused_before_anything_runs(changes, rig, said, model, tmp_path):
    with pytest.raises(ConfigError, match=said):
        plan(tmp_path, taken(model), *changes, rig=rig)


def test_a_camera_of_other_classes_is_refused_by_their_names(model, tmp_path):
    saved = torch.load(model, weights_only=True)
    saved["class_names"] = [*saved["class_names"][:-1], "ten"]
    torch.save(saved, tmp_path / "other.pt")
    with pytest.raises(ConfigError, match="start from a camera of the same classes in this order"):
        plan(tmp_path, taken(tmp_path / "other.pt"))


def test_a_file_that_is_no_camera_is_refused(tmp_path):
    (tmp_path / "noise.pt").write_bytes(b"no camera")
    with pytest.raises(ConfigError, match="is no trained camera, or damaged"):
        plan(tmp_path, taken(tmp_path / "noise.pt"))


def test_a_camera_of_another_twin_is_taken_with_a_word(model, tmp_path):
    said: list[str] = []
    [planned] = plan(tmp_path, taken(model), rig=["twin.registration.blur_px=0.5"])
    run(planned, tmp_path / "taken", said)
    assert [text for text in said if "trained in another twin than that of rig 'sim'" in text]
