from __future__ import annotations

import math
from typing import Any

import numpy as np
import pytest
import torch
import yaml
from torch import nn

from labctl.api import prepare
from labctl.config import ConfigError
from labctl.errors import RunFailed, Stopped
from labctl.steps import StepContext
from protocols.splits import Split
from protocols.video.adversarial import AdversarialTraining
from protocols.video.adversary import Opponents, restart, reversed_gradient
from protocols.video.camera_file import load_video_camera
from protocols.video.encoded import encoded
from protocols.video.encodings import load_clips
from protocols.video.networks.settings import LenetFrame

TRAIN: dict[str, Any] = {
    "type": "train_video",
    "epochs": 2,
    "batch": 8,
    "network": {"type": "small-3d", "width": 4, "dropout": 0.1},
    "opponent": {"type": "lenet-frame", "width": 4},
}
SMALL: dict[str, Any] = {
    "version": 1,
    "name": "clips",
    "scene_px": [32, 32],
    "mask_cells": [5, 5],
    "data": {"type": "moving_digits", "train": 40, "val": 20, "test": 40, "frames": 6},
    "designs": {"bdq": {"type": "bdq"}},
    "steps": {"train": TRAIN},
}


@pytest.fixture
def plan(tmp_path):
    """The first planned step of a small protocol with overrides."""

    def of(*overrides: str) -> Any:
        path = tmp_path / "protocol.yaml"
        path.write_text(yaml.safe_dump(SMALL, sort_keys=False))
        return next(iter(prepare(path, rig="sim-video", overrides=overrides)))

    return of


@pytest.fixture
def run(tmp_path):
    """Runs one planned step in a folder of its own; `stop` asks it to stop at once."""

    def go(planned: Any, name: str = "a", stop: bool = False, said: list[str] | None = None) -> Any:
        def report(message: dict[str, Any]) -> None:
            if message["op"] == "log" and said is not None:
                said.append(message["text"])

        return planned.instance.step.run(context_of(planned, tmp_path / name, report, lambda: stop))

    return go


def context_of(planned, folder, report=lambda message: None, stopped=lambda: False) -> StepContext:
    folder.mkdir(parents=True, exist_ok=True)
    return StepContext(planned.setting, folder, folder, {}, report, stopped, planned.hash)


def training_of(planned, folder) -> AdversarialTraining:
    from protocols.model_file import new_design

    context = context_of(planned, folder)
    training = AdversarialTraining(planned.instance.step, context, load_clips(context), new_design(planned.setting))
    training.optimisation()
    return training


def one_step(training, step: int = 0, n: int = 8) -> torch.Tensor:
    torch.manual_seed(7)
    loss, _ = training.one_step(step, torch.arange(n), torch.Generator().manual_seed(3))
    return loss


@pytest.mark.parametrize(
    "changes",
    [
        (),
        ("steps.train.attackers=2", "steps.train.restart_every=3"),
        ("designs.bdq.quantise.range=running", "designs.bdq.quantise.temperature_end=40"),
        ("designs.bdq.type=learned_degrader",),
    ],
    ids=["plain", "ensemble", "running", "degrader"],
)
def test_a_stopped_training_ends_where_an_uninterrupted_one_ends(changes, plan, run, tmp_path):
    planned = plan(*changes)
    whole = run(planned, "whole")
    for _ in range(4):
        with pytest.raises(Stopped, match="checkpoint at step"):
            run(planned, "parts", stop=True)
    said: list[str] = []
    resumed = run(planned, "parts", said=said)
    assert said[0] == "goes on at step 4 of 10"
    assert resumed.metrics == whole.metrics
    a, b = (torch.load(tmp_path / name / "model.pt", weights_only=True) for name in ("whole", "parts"))
    assert all(torch.equal(a["design"][key], b["design"][key]) for key in a["design"])
    assert torch.equal(a["mask"], b["mask"])
    kept = [np.load(tmp_path / name / "thresholds.npz")["light"] for name in ("whole", "parts")]
    np.testing.assert_array_equal(*kept)
    assert not (tmp_path / "parts" / "checkpoint.pt").exists()


def test_what_it_learned_is_on_the_mask_and_in_the_model(plan, run, tmp_path):
    planned = plan()
    told = run(planned).metrics
    camera = load_video_camera(tmp_path / "a" / "model.pt", planned.setting)
    assert camera.design.sigma_px == pytest.approx(told["sigma_px"])
    assert camera.design.sigma_px != pytest.approx(1, abs=1e-4)
    np.testing.assert_allclose(np.load(tmp_path / "a" / "mask.npy"), camera.mask, rtol=1e-6)
    assert camera.design.electronics()["thresholds_light"] == pytest.approx(told["thresholds_light"])
    assert len(told["thresholds_light"]) == 15
    assert np.load(tmp_path / "a" / "thresholds.npz")["light"].shape == (2, 15)


def test_each_network_goes_down_its_own_loss_alone(plan, tmp_path):
    training = training_of(plan("steps.train.alpha=3"), tmp_path / "t")
    one_step(training).backward()
    got = {name: [p.grad.clone() for p in module.parameters()] for name, module in parts_of(training).items()}
    for name, other in (("opponents", "alpha"), ("task", "alpha")):
        training = training_of(plan("steps.train.alpha=30"), tmp_path / other)
        one_step(training).backward()
        for mine, theirs in zip(got[name], [p.grad for p in parts_of(training)[name].parameters()], strict=True):
            torch.testing.assert_close(mine, theirs)  # the weight of privacy is nothing to either network
    more = [p.grad for p in training.design.parameters()]
    assert any(not torch.allclose(a, b) for a, b in zip(got["design"], more, strict=True))


def parts_of(training) -> dict[str, nn.Module]:
    return {"design": training.design, "task": training.task, "opponents": training.opponents}


def test_the_camera_is_led_to_where_the_opponent_is_unsure():
    torch.manual_seed(0)
    opponents = Opponents([nn.Sequential(nn.Flatten(), nn.Linear(4, 3))])
    frames = torch.randn(6, 1, 2, 2, requires_grad=True)
    (-opponents.entropy(frames)).backward()  # what the camera minimises
    assert all(weight.grad is None for weight in opponents.parameters())
    with torch.no_grad():
        before, after = opponents.entropy(frames), opponents.entropy(frames - 0.5 * frames.grad)
    assert float(after) > float(before)
    assert float(before) <= math.log(3)


def test_of_several_opponents_the_surest_counts_and_all_learn():
    sure, unsure = (nn.Sequential(nn.Flatten(), nn.Linear(4, 3)) for _ in range(2))
    with torch.no_grad():
        sure[1].weight.mul_(20)
        unsure[1].weight.zero_()
        unsure[1].bias.zero_()
    frames, actors = torch.randn(5, 1, 2, 2), torch.tensor([0, 1, 2, 0, 1])
    both = Opponents([unsure, sure])
    assert float(both.entropy(frames)) == pytest.approx(float(Opponents([sure]).entropy(frames)))
    both.loss(frames, actors).backward()
    assert all(weight.grad is not None for weight in both.parameters())


def test_a_restarted_opponent_has_fresh_weights_and_no_past():
    def build():
        return nn.Linear(4, 3)

    opponents = Opponents([build(), build()])
    optimiser = torch.optim.Adam(opponents.parameters(), lr=0.1)
    opponents.networks[0](torch.randn(2, 4)).sum().backward()
    opponents.networks[1](torch.randn(2, 4)).sum().backward()
    optimiser.step()
    kept, gone = opponents.networks[1].weight.clone(), opponents.networks[0].weight.clone()
    restart(opponents, 0, build, optimiser, seed=1, step=5)
    assert not torch.equal(opponents.networks[0].weight, gone)
    assert torch.equal(opponents.networks[1].weight, kept)
    assert len(optimiser.state) == 2


def test_reversal_turns_the_gradient_round_and_leaves_the_values():
    values = torch.randn(4, requires_grad=True)
    turned = reversed_gradient(values, 3.0)
    assert torch.equal(turned, values)
    turned.sum().backward()
    assert values.grad.tolist() == [-3.0] * 4


def test_parts_of_a_batch_add_up_to_its_gradient(plan, tmp_path):
    found = []
    for parts in (1, 2):
        step = "steps.train."
        training = training_of(
            plan(f"{step}accumulate={parts}", f"{step}shift_px=0", f"{step}frames_for_privacy=5", f"{step}noise=false"),
            tmp_path / str(parts),
        )
        without_statistics(training.task)
        without_statistics(training.opponents)
        one_step(training).backward()
        found.append([p.grad for module in parts_of(training).values() for p in module.parameters()])
    for whole, added in zip(*found, strict=True):
        torch.testing.assert_close(added, whole, rtol=1e-3, atol=1e-5)


def without_statistics(module: nn.Module) -> None:
    for name, child in module.named_children():
        if isinstance(child, nn.modules.batchnorm._BatchNorm | nn.Dropout):
            setattr(module, name, nn.Identity())
        without_statistics(child)


@pytest.mark.parametrize("which", ["action", "entropy", "privacy"])
def test_a_loss_that_is_not_finite_stops_and_keeps_the_last_good_checkpoint(which, plan, run, tmp_path, monkeypatch):
    planned = plan()
    with pytest.raises(Stopped):
        run(planned, stop=True)
    checkpoint = (tmp_path / "a" / "checkpoint.pt").read_bytes()
    nothing = torch.tensor(math.nan)
    if which == "action":
        monkeypatch.setattr(nn.functional, "cross_entropy", lambda *args, **more: nothing)
    elif which == "entropy":
        monkeypatch.setattr(Opponents, "entropy", lambda self, frames: nothing)
    else:
        monkeypatch.setattr(Opponents, "loss", lambda self, frames, actors: nothing)
    with pytest.raises(RunFailed, match=f"the {which} loss became nan at step 1 of 10; the last checkpoint is kept"):
        run(planned)
    assert (tmp_path / "a" / "checkpoint.pt").read_bytes() == checkpoint


def test_a_slope_that_is_not_finite_touches_no_weight(plan, tmp_path):
    training = training_of(plan(), tmp_path / "t")
    one_step(training).backward()
    training.check_slopes()
    next(iter(training.task.parameters())).grad[0] = math.inf
    with pytest.raises(RunFailed, match="in the action network is not finite; the last checkpoint is kept"):
        training.check_slopes()


def test_a_camera_with_nothing_to_learn_is_kept_as_it_is(plan, run):
    said: list[str] = []
    told = run(plan("designs.bdq.type=video_original"), said=said).metrics
    assert said == ["this camera has nothing to learn; it is kept as it is"]
    assert "loss" not in told


def test_networks_start_from_weights_of_the_users_own_and_the_log_says_what_was_taken(plan, run, tmp_path):
    torch.manual_seed(5)
    given = LenetFrame(width=4).build((5, 1, 32, 32), 3)
    torch.save(given.state_dict(), tmp_path / "w.pt")
    overrides = (f"steps.train.opponent.weights={tmp_path / 'w.pt'}", "steps.train.epochs=1")
    opponents = training_of(plan(*overrides), tmp_path / "fresh").opponents
    assert torch.equal(opponents.networks[0][0].weight, given[0].weight)
    said: list[str] = []
    run(plan(*overrides), said=said)
    assert len([text for text in said if "14.weight, 14.bias start afresh" in text]) == 1


def test_noise_of_encoded_clips_is_the_same_every_time_and_another_for_every_split(plan, run, tmp_path):
    planned = plan("designs.bdq.type=video_original")
    run(planned)
    context = context_of(planned, tmp_path / "b")
    data, camera = load_clips(context), load_video_camera(tmp_path / "a" / "model.pt", planned.setting)
    first, again = (encoded(context, data, camera, Split.TEST, operator="soft") for _ in range(2))
    assert torch.equal(first.clips, again.clips)
    assert first.clips.shape == (40, 6, 1, 32, 32)
    np.testing.assert_array_equal(first.clip_ids, data.clip_ids[data.part(Split.TEST)])
    np.testing.assert_array_equal(first.action.numpy(), data.action[data.part(Split.TEST)])
    # a sharp camera reads the clip itself, from -1 to 1, with the noise of the sensor
    truth = torch.from_numpy(np.asarray(data.clips[data.part(Split.TEST)]))
    off = (first.clips + 1) / 2 - truth
    assert float(off.abs().mean()) < 0.02
    assert float(off.abs().max()) > 0.01


def test_every_loss_is_told_for_every_epoch(plan, run):
    told = run(plan("steps.train.alpha=0.5")).metrics
    assert 0 < told["entropy_loss"] <= math.log(10) + 1e-6
    total = told["action_loss"] - 0.5 * told["entropy_loss"] + told["privacy_loss"]
    assert told["loss"] == pytest.approx(total, rel=1e-4)


@pytest.mark.parametrize(
    ("changes", "words"),
    [
        (("data={type: digits}",), "needs clips, and 'digits' gives single pictures"),
        (("designs.bdq={type: pinhole}",), "needs a camera that reads clips, and 'bdq' reads single frames"),
        (("data.frames=1",), "clips have 1 frames|greater than or equal to 2|frames"),
        (("steps.train.alpha=-1",), "at least 0 is allowed"),
        (("steps.train.accumulate=8",), "8 parts of a batch of 8 have less than two clips each"),
        (("steps.train.reversal=true", "steps.train.restart_every=5"), "not to `reversal`"),
        (("designs.bdq={type: video_downsample, factor: 8}",), "small-3d needs frames of 8 px or more"),
        (("designs.bdq.quantise.thresholds=[1, 2]",), "2 thresholds for 16 levels; 15 are needed"),
        (("steps.train.network.type=lenet-frame",), "lenet-frame"),
    ],
)
def test_what_cannot_work_is_refused_before_training(changes, words, plan):
    with pytest.raises(ConfigError, match=words):
        plan(*changes)
