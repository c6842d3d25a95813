"""Attackers of a lab's own: found by entry points, trained, controlled and named like those of labctl."""

from __future__ import annotations

from pathlib import Path
from typing import Any, Literal

import numpy as np
import pytest
import torch
from pydantic import TypeAdapter
from torch import Tensor, nn

from labctl import plugins
from labctl.config import ConfigError
from protocols.attack.any_attacker import Attacker, Attackers
from protocols.attack.attackers import AttackerSettings, Network
from protocols.attack.control import control_of
from protocols.attack.recognisers import Effort, Labelled, train_recogniser
from tests.protocols.test_attack import QUICK, image_set, planned, quiet, sharp_task


class NearestMean(AttackerSettings):
    """Names the class whose mean picture is nearest."""

    type: Literal["nearest-mean"] = "nearest-mean"
    copies: int = 1

    def learn(self, budget: Any, train: Labelled, val: Labelled, n_classes: int, *, seed: int, pulse: Any) -> Any:
        """See `AttackerSettings.learn`."""
        pictures = train.view.pictures(torch.arange(len(train.view)), torch.Generator().manual_seed(seed))
        means = torch.stack([pictures[train.labels == label].mean(0) for label in range(n_classes)])
        found = _Means(means)
        judged = found.answers(val.view.pictures(torch.arange(len(val.view)), None))
        return found, Effort(1, True, float((judged == val.labels).float().mean()))


class _Means:
    def __init__(self, means: Tensor) -> None:
        self.means = means

    def answers(self, pictures: Tensor) -> Tensor:
        return torch.cdist(pictures.flatten(1), self.means.flatten(1)).argmin(1)


class OneLayer(Network):
    """All pixels at once."""

    type: Literal["one-layer"] = "one-layer"

    def build(self, in_shape: tuple[int, int], n_classes: int) -> nn.Module:
        """See `Network.build`."""
        return nn.Sequential(nn.Flatten(), nn.Linear(in_shape[0] * in_shape[1], n_classes))


def test_those_of_labctl_are_found_like_any_other():
    found = {name: plugins.load("labctl.attackers", name) for name in plugins.names("labctl.attackers")}
    assert {"linear", "plain-cnn", "resnet18", "small-residual"} <= set(found)
    kinds: TypeAdapter[Any] = TypeAdapter(Attacker)
    for name, settings in found.items():
        made = kinds.validate_python({"type": name})
        assert type(made) is settings
        assert made.name == name


def test_names_tell_apart_what_is_tried_beside_each_other():
    tried = [
        {"type": "linear"}, {"type": "linear", "kind": "logistic"}, {"type": "resnet18"},
        {"type": "resnet18", "width": 16}, {"type": "small-residual"}, {"type": "small-residual", "width": 24},
    ]  # fmt: skip
    names = [attacker.name for attacker in TypeAdapter(Attackers).validate_python(tried)]
    assert names == [
        "linear", "linear (logistic)", "resnet18", "resnet18 (width 16)", "small-residual", "small-residual (width 24)",
    ]  # fmt: skip


@pytest.mark.parametrize("attacker", [NearestMean(), OneLayer(rate=0.03)], ids=lambda each: each.name)
def test_an_attacker_of_ones_own_learns_and_has_a_control_that_is_made_once(attacker, tmp_path: Path):
    budget = QUICK.model_copy(update={"epochs": 8, "first_cycle": 8})
    task = sharp_task(image_set())
    made = control_of(tmp_path, task, attacker, budget, seed=0, pulse=quiet)
    assert made.right.mean() > 0.9, "spots in three places are easily told apart"
    kept = {path.suffix for path in tmp_path.iterdir()}
    assert kept == ({".npz", ".pt"} if isinstance(attacker, Network) else {".npz"})
    files = {path: path.stat().st_mtime_ns for path in tmp_path.iterdir()}
    again = control_of(tmp_path, task, attacker, budget, seed=0, pulse=quiet)
    assert np.array_equal(again.right, made.right)
    assert files == {path: path.stat().st_mtime_ns for path in tmp_path.iterdir()}


def test_a_network_of_ones_own_stops_when_it_is_told_to():
    class Stopped(Exception):
        pass

    def stop(done: int, total: int) -> None:
        raise Stopped

    task = sharp_task(image_set())
    with pytest.raises(Stopped):
        train_recogniser(
            OneLayer(), QUICK, task.part(task.train, QUICK), task.part(task.val, QUICK), 3, seed=0, pulse=stop
        )


@pytest.mark.parametrize(
    ("change", "said"),
    [
        (
            "steps.identity.attackers=[{type: lineer}]",
            "steps.identity.attackers[0].type: 'lineer' is not allowed; did you mean `linear`? allowed: linear, ",
        ),
        ("steps.identity.attackers=[{copies: 2}]", "steps.identity.attackers[0].type: is missing; allowed: linear, "),
        (
            "steps.identity.attackers=[{type: linear, copy: 2}]",
            "steps.identity.attackers[0].copy: unknown key; did you mean `copies`? allowed: type, kind, copies",
        ),
        (
            "steps.inverted.identifier={type: resnet}",
            "steps.inverted.identifier.type: 'resnet' is not allowed; did you mean `resnet18`?",
        ),
    ],
)
def test_a_wrong_attacker_is_refused_with_the_nearest(change: str, said: str, tmp_path: Path):
    with pytest.raises(ConfigError) as refused:
        planned(tmp_path, change)
    assert said in str(refused.value)
