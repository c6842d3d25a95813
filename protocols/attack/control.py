"""The control of every recogniser: the same attacker with the same effort on the undegraded picture.

An attacker that cannot win there proves nothing by losing against a camera. Controls do not depend on the camera, so
designs share them: they lie in `artifacts/attack-controls`, named by a hash of all that decides them.
"""

from __future__ import annotations

import hashlib
import io
import json
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np
import numpy.typing as npt
import torch

from labctl.durable import write_whole
from protocols.attack.attackers import Network
from protocols.attack.recognisers import (
    Effort,
    Labelled,
    named_right,
    store_network,
    stored_network,
    train_recogniser,
)
from protocols.attack.views import SharpView
from protocols.metrics import majority_baseline

if TYPE_CHECKING:
    from protocols.attack.attackers import AttackerSettings, Budget
    from protocols.attack.cycles import Pulse
    from protocols.attack.recognisers import Recogniser
    from protocols.attack.targets import Target
    from protocols.data import ImageSet
    from protocols.splits import IntArray

CONTROLS = "attack-controls"
VERSION = 1


@dataclass(frozen=True)
class Control:
    """What an attacker does on sharp pictures. right: (n,) which test pictures it names right."""

    right: npt.NDArray[np.bool_]
    chance: float
    effort: Effort


@dataclass(frozen=True)
class SharpTask:
    """What is to be recognised in sharp pictures. region: (rows, columns) of the middle of the scene that is seen.

    train, val, test: rows of the data. soften: see `SharpView`.
    """

    data: ImageSet
    fingerprint: str
    target: Target
    train: IntArray
    val: IntArray
    test: IntArray
    region: tuple[int, int]
    soften: bool = False

    def part(self, rows: IntArray, budget: Budget) -> Labelled:
        """Sharp pictures of these rows with their labels."""
        view = SharpView(self.data, rows, self.region, budget.augmentation, soften=self.soften)
        return Labelled(view, torch.from_numpy(self.target.labels[rows]))


def control_of(
    folder: Path, task: SharpTask, attacker: AttackerSettings, budget: Budget, *, seed: int, pulse: Pulse
) -> Control:
    """The control of this attacker, from `folder` if it is there, else made and kept."""
    path = folder / f"{_key(task, attacker, budget, seed)}.npz"
    if not path.exists():
        trained, effort = sharp_recogniser(folder, task, attacker, budget, seed=seed, pulse=pulse)
        right = named_right(trained, task.part(task.test, budget))
        content = io.BytesIO()
        np.savez_compressed(content, right=right, effort=np.array(json.dumps(asdict(effort))))
        folder.mkdir(parents=True, exist_ok=True)
        write_whole(path, content.getvalue())
    with np.load(path, allow_pickle=False) as file:
        right, effort = file["right"], Effort(**json.loads(str(file["effort"])))
    labels = task.target.labels
    return Control(right, majority_baseline(labels[task.train], labels[task.test]), effort)


def sharp_recogniser(
    folder: Path, task: SharpTask, attacker: AttackerSettings, budget: Budget, *, seed: int, pulse: Pulse
) -> tuple[Recogniser, Effort]:
    """A recogniser that learned from sharp pictures; a network is taken from `folder` if it is there, else kept."""
    path = folder / f"{_key(task, attacker, budget, seed)}.pt"
    n_classes = len(task.target.class_names)
    if path.exists() and isinstance(attacker, Network):
        return stored_network(path, attacker, task.region, n_classes)
    train, val = task.part(task.train, budget), task.part(task.val, budget)
    trained, effort = train_recogniser(attacker, budget, train, val, n_classes, seed=seed, pulse=pulse)
    if isinstance(attacker, Network):
        folder.mkdir(parents=True, exist_ok=True)
        store_network(path, trained, effort)
    return trained, effort


def needed_of(share: float, chance: float) -> float:
    """Accuracy that is `share` of the way from `chance` to always right."""
    return chance + share * (1 - chance)


def _key(task: SharpTask, attacker: AttackerSettings, budget: Budget, seed: int) -> str:
    parts: list[Any] = [
        VERSION, task.fingerprint, task.target.name, task.region, task.soften, attacker.model_dump(mode="json"),
        budget.model_dump(mode="json"), seed, list(task.data.images.shape),
    ]  # fmt: skip
    digest = hashlib.sha256(json.dumps(parts, sort_keys=True).encode())
    for rows in (task.train, task.val, task.test, task.target.labels):
        digest.update(np.ascontiguousarray(rows).tobytes() + b"/")
    return digest.hexdigest()[:32]
