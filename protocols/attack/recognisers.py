"""Recognisers that an attacker trains: until they stop getting better, or the budget ends."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any, Protocol

import numpy as np
import torch
from torch import Tensor, nn

from labctl.errors import BadInput
from protocols.attack.attackers import AttackerSettings, Budget, Linear, Network
from protocols.attack.cycles import Pulse, train_in_cycles, warmed_cosine
from protocols.keys import stream_seed
from protocols.model_file import answers, write_tensors
from protocols.models import Classifier, settle_batch_norm
from protocols.splits import spread
from protocols.training_loop import Schedule

if TYPE_CHECKING:
    from protocols.attack.views import View

NORMALISATION_ITEMS = 512
"""Most training pictures from which mean picture, scale and batch statistics are taken."""

STRENGTHS = (10.0, 30.0, 100.0, 300.0, 1e3, 3e3, 1e4, 1e5)
"""Ridge penalties that are tried, for pictures of unit variance."""

WEAKNESSES = (1e-4, 1e-3, 1e-2, 1e-1)
"""Inverse penalties of logistic regression that are tried."""

SAME = 1e-4
"""A validation loss has to fall by so much, in nats, to be better."""


@dataclass(frozen=True)
class Effort:
    """How a training ended. converged: it stopped getting better before the budget ended."""

    epochs: int
    converged: bool
    val_accuracy: float
    settings: str = ""
    """What was chosen on the validation split, in words."""


class Recogniser(Protocol):
    """Names classes."""

    def answers(self, pictures: Tensor) -> Tensor:
        """(N,) classes of (N, 1, h, w) pictures as the training view gave them."""


@dataclass(frozen=True)
class Labelled:
    """A view with the class of every picture. labels: (N,) int64."""

    view: View
    labels: Tensor


def train_recogniser(
    attacker: AttackerSettings,
    budget: Budget,
    train: Labelled,
    val: Labelled,
    n_classes: int,
    *,
    seed: int,
    pulse: Pulse = lambda done, total: None,
) -> tuple[Recogniser, Effort]:
    """Train `attacker` on `train`; everything that is chosen is chosen on `val`. Raises BadInput without either."""
    for name, part in (("training", train), ("validation", val)):
        if len(part.labels) < 2:
            raise BadInput(f"{len(part.labels)} {name} pictures for an attacker; two or more are needed")
    return attacker.learn(budget, train, val, n_classes, seed=seed, pulse=pulse)


def named_right(recogniser: Recogniser, judged: Labelled) -> np.ndarray:
    """(N,) bool: which pictures of a view are named right."""
    from protocols.attack.views import PART

    right = [
        recogniser.answers(judged.view.pictures(places, None)) == judged.labels[places]
        for places in torch.arange(len(judged.labels)).split(PART)
    ]
    return np.asarray(torch.cat(right).numpy())


# Networks


def train_network(
    attacker: Network, budget: Budget, train: Labelled, val: Labelled, n_classes: int, *, seed: int, pulse: Pulse
) -> tuple[Recogniser, Effort]:
    """See `Budget`: cycles from the peak rate, of which the one with the best validation loss counts."""
    torch.manual_seed(stream_seed(seed, "attacker", attacker.model_dump_json()))
    classifier = Classifier(attacker.build(train.view.shape, n_classes), train.view.shape)
    few = torch.from_numpy(spread(len(train.labels), NORMALISATION_ITEMS))
    seen = train.view.pictures(few, torch.Generator().manual_seed(stream_seed(seed, "normalisation")))
    classifier.normalisation.fit(seen)
    judged = torch.cat([val.view.pictures(p, None) for p in torch.arange(len(val.labels)).split(256)])

    def run_cycle(number: int, epochs: int, now: Callable[[int], None]) -> None:
        schedule = Schedule(len(train.labels), epochs, attacker.batch, stream_seed(seed, "cycle", number))
        _run_cycle(attacker, classifier, train, schedule, now)
        settle_batch_norm(classifier, seen)

    cycled = train_in_cycles(
        classifier,
        budget,
        run_cycle,
        lambda: _loss(classifier, judged, val.labels),
        better=lambda loss, best: loss < best - SAME,
        pulse=pulse,
    )
    found = _Network(classifier)
    right = found.answers(judged) == val.labels
    return found, Effort(cycled.epochs, cycled.converged, float(right.float().mean()))


@dataclass(frozen=True)
class _Network:
    classifier: Classifier

    @torch.no_grad()
    def answers(self, pictures: Tensor) -> Tensor:
        """See `Recogniser`."""
        return answers(self.classifier, pictures)


def store_network(path: Path, recogniser: Recogniser, effort: Effort) -> None:
    """Write a trained network. Raises TypeError for a recogniser of another kind."""
    if not isinstance(recogniser, _Network):
        raise TypeError(f"{type(recogniser).__name__} is no network")
    write_tensors(path, {"classifier": recogniser.classifier.state_dict(), "effort": asdict(effort)})


def stored_network(path: Path, attacker: Network, shape: tuple[int, int], n_classes: int) -> tuple[Recogniser, Effort]:
    """Take it back. shape: (rows, columns) of its pictures."""
    saved = torch.load(path, weights_only=True, map_location="cpu")
    classifier = Classifier(attacker.build(shape, n_classes), shape)
    classifier.load_state_dict(saved["classifier"])
    classifier.eval()
    return _Network(classifier), Effort(**saved["effort"])


def _run_cycle(
    attacker: Network, classifier: Classifier, train: Labelled, schedule: Schedule, pulse: Callable[[int], None]
) -> None:
    """Train in place from the peak rate down to nothing, warmed up over the first tenth."""
    optimiser = torch.optim.AdamW(classifier.parameters(), lr=attacker.rate, weight_decay=attacker.weight_decay)
    fade = warmed_cosine(optimiser, schedule.steps)
    criterion = nn.CrossEntropyLoss(label_smoothing=attacker.label_smoothing)
    for step in range(schedule.steps):
        generator = torch.Generator().manual_seed(stream_seed(schedule.seed, "step", step))
        places = schedule.batch_of(step)
        classifier.train()
        loss = criterion(classifier(train.view.pictures(places, generator)), train.labels[places])
        optimiser.zero_grad(set_to_none=True)
        loss.backward()
        optimiser.step()
        fade.step()
        pulse((step + 1) // schedule.steps_per_epoch)


@torch.no_grad()
def _loss(classifier: Classifier, pictures: Tensor, labels: Tensor) -> float:
    """Cross-entropy on the validation split, in nats."""
    classifier.eval()
    logits = torch.cat([classifier(part) for part in pictures.split(256)])
    return float(nn.functional.cross_entropy(logits, labels))


# Linear


@dataclass(frozen=True)
class _Linear:
    mean: Tensor
    scale: float
    model: Any

    def answers(self, pictures: Tensor) -> Tensor:
        """See `Recogniser`."""
        return torch.from_numpy(np.asarray(self.model.predict(self.flat(pictures))).astype(np.int64))

    def flat(self, pictures: Tensor) -> np.ndarray:
        return np.asarray(((pictures - self.mean) / self.scale).flatten(1).double().numpy())


def train_linear(attacker: Linear, train: Labelled, val: Labelled, *, seed: int) -> tuple[Recogniser, Effort]:
    """See `Linear`. Raises BadInput when all training pictures are the same."""
    from protocols.attack.views import all_of

    generator = torch.Generator().manual_seed(stream_seed(seed, "linear"))
    pictures = torch.cat([all_of(train.view), *(all_of(train.view, generator) for _ in range(attacker.copies - 1))])
    labels = np.tile(train.labels.numpy(), attacker.copies)
    mean = pictures.mean(0)
    scale = float((pictures - mean).double().square().mean().sqrt())
    if scale == 0:
        raise BadInput("all training pictures of an attacker are the same; check mask, shutter and exposure")
    flat, judged = _Linear(mean, scale, None).flat(pictures), _Linear(mean, scale, None).flat(all_of(val.view))
    fits = _ridge_fits(flat, labels) if attacker.kind == "ridge" else _logistic_fits(flat, labels)
    scored = [(float(np.mean(model.predict(judged) == val.labels.numpy())), words, model) for words, model in fits]
    accuracy, words, model = max(scored, key=lambda fit: fit[0])
    return _Linear(mean, scale, model), Effort(1, True, accuracy, words)


def _ridge_fits(flat: np.ndarray, labels: np.ndarray) -> list[tuple[str, Any]]:
    from sklearn.linear_model import RidgeClassifier

    return [(f"ridge {alpha:g}", RidgeClassifier(alpha=alpha).fit(flat, labels)) for alpha in STRENGTHS]


def _logistic_fits(flat: np.ndarray, labels: np.ndarray) -> list[tuple[str, Any]]:
    from sklearn.linear_model import LogisticRegression

    return [(f"C {c:g}", LogisticRegression(C=c, max_iter=2000).fit(flat, labels)) for c in WEAKNESSES]
