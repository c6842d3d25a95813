"""Training with the hardware in the loop, in processes: killed, interrupted, refused a rig that is taken."""

from __future__ import annotations

import json
import signal
import time
from collections.abc import Callable
from pathlib import Path

import numpy as np
import pytest
import torch
from sklearn.datasets import load_digits

from labctl import run_protocol
from labctl.rig import Rig
from labctl.rig_file import find_rig, load_rig
from tests.system.conftest import TRAIN, Session

pytestmark = pytest.mark.slow

LOOP = """
version: 1
name: loop
rig: bench.yaml
scene_px: [31, 31]
mask_cells: [16, 16]
data: {type: npz, path: digits.npz}
designs:
  learned: {type: learned}
steps:
  train:
    type: train
    epochs: 24
    batch: 32
    augmentation: {shift_px: 1}
    gradient: straight_through
    instruments: {lamp: {power: 1.0}}
"""
RIG = """
extends: {configs}/rigs/as-built.yaml
twin: {{panel: {{stop_px: [64, 64]}}, monitor: {{view_px: [31, 31]}}, sensor: {{shape: [16, 16]}}}}
"""
SPLIT = np.repeat([0, 1, 2], [192, 40, 40])


@pytest.fixture
def loop(tmp_path: Path, configs: Path) -> Path:
    """A protocol that trains on a small bench from its first frame on, with four digits, few of each.

    A checkpoint is written every two seconds: it must train for longer than that on a fast machine, too.
    """
    digits = load_digits(n_class=4)
    images, labels = np.float32(digits.images / 16)[: len(SPLIT)], digits.target[: len(SPLIT)]
    np.savez(tmp_path / "digits.npz", images=images, identity=labels, split=SPLIT)
    (tmp_path / "bench.yaml").write_text(RIG.format(configs=configs))
    path = tmp_path / "loop.yaml"
    path.write_text(LOOP)
    return path


def model(run: Path) -> dict[str, torch.Tensor]:
    saved = torch.load(run / "artifacts" / TRAIN / "model.pt", weights_only=True)
    return {**saved["classifier"], "mask": saved["mask"]}


def test_a_killed_training_on_the_bench_ends_at_the_bits_of_an_uninterrupted_one(
    loop: Path, labctl: Callable[..., Session], tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.chdir(tmp_path)
    whole, parts = tmp_path / "whole", tmp_path / "parts"
    assert run_protocol(loop, out=whole).status == "finished"
    session = labctl("run", loop, "--out", parts, run=parts)
    session.wait_for_training()
    session.kill_tree()
    assert not (parts / "artifacts" / TRAIN / "model.pt").exists(), "killed too late to show anything"
    code, answer = labctl("resume", parts, run=parts).end()
    assert (code, answer["status"]) == (0, "finished")
    a, b = model(whole), model(parts)
    assert all(torch.equal(a[name], b[name]) for name in a)
    told = [json.loads((run / "summary.json").read_text())["metrics"][TRAIN] for run in (whole, parts)]
    assert told[0] == told[1]


@pytest.mark.parametrize("presses", [1, 2])
def test_ctrl_c_while_the_child_exposes_gives_the_prompt_back_with_a_safe_rig(
    presses: int, loop: Path, labctl: Callable[..., Session], tmp_path: Path
) -> None:
    run = tmp_path / "run"
    session = labctl("run", loop, "--set", "steps.train.epochs=500", "--out", run, run=run)
    session.wait_for_training()
    assert session.lamp() == 1.0
    children = session.children()
    for _ in range(presses):
        session.process.send_signal(signal.SIGINT)
        time.sleep(0.02)
    code, answer = session.end()
    assert (code, answer["status"]) == (3, "stopped")
    assert session.lamp() == 0.0
    assert not any(Path(f"/proc/{child}").exists() for child in children), "a child is left behind"


def test_a_rig_that_is_taken_is_found_before_a_training_that_needs_it(
    loop: Path, labctl: Callable[..., Session], tmp_path: Path
) -> None:
    with Rig(load_rig(find_rig("as-built"))):
        session = labctl("run", loop, "--out", tmp_path / "run", run=tmp_path / "run")
        code, answer = session.end()
    assert code == 4
    assert "rig 'as-built' is held by process" in answer["reason"]
    assert [step["status"] for step in session.summary()["steps"]] == ["waiting"]
