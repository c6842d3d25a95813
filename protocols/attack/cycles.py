"""Training in cycles, each twice as long as the one before, until one betters nothing. [Loshchilov and Hutter 2017]"""

from __future__ import annotations

import math
from collections.abc import Callable
from copy import deepcopy
from dataclasses import dataclass
from typing import Protocol

import torch
from torch import nn

Pulse = Callable[[int, int], None]
"""Called between batches with the epochs that are done and that there may be: may raise to stop."""


class CycleBudget(Protocol):
    """What of a budget counts here."""

    @property
    def epochs(self) -> int:
        """Of all cycles together."""

    @property
    def first_cycle(self) -> int:
        """Epochs of the first cycle."""

    @property
    def patience(self) -> int:
        """Cycles without a better loss that end the training."""


@dataclass(frozen=True)
class Cycled:
    """How it ended. converged: it stopped getting better before the budget ended; loss: of the state that was kept."""

    epochs: int
    converged: bool
    loss: float


def train_in_cycles(
    module: nn.Module,
    budget: CycleBudget,
    run_cycle: Callable[[int, int, Callable[[int], None]], None],
    loss_now: Callable[[], float],
    *,
    better: Callable[[float, float], bool],
    to_beat: float = math.inf,
    pulse: Pulse = lambda done, total: None,
) -> Cycled:
    """Train `module` in place and leave it in `eval` mode, in the state that was best.

    run_cycle(number, epochs, pulse) trains for one cycle; its pulse takes the epochs of the cycle that are done.
    loss_now: on the validation split. better(loss, best so far): whether it counts as better. to_beat: loss of the
    state it starts from, where that is worth keeping.
    """
    best, best_loss, waited, done = deepcopy(module.state_dict()), to_beat, 0, 0
    for number, epochs in enumerate(cycles(budget)):
        run_cycle(number, epochs, lambda now, begun=done: pulse(begun + now, budget.epochs))  # type: ignore[misc]
        done += epochs
        loss = loss_now()
        if better(loss, best_loss):
            best, best_loss, waited = deepcopy(module.state_dict()), loss, 0
            continue
        waited += 1
        if waited >= budget.patience:
            break
    module.load_state_dict(best)
    module.eval()
    return Cycled(done, waited >= budget.patience, best_loss)


def cycles(budget: CycleBudget) -> list[int]:
    """Epochs of each cycle: doubling, and the last one what is left. A rest below half of a first cycle is added to the
    one before, since it could not better anything."""
    lengths, left = list[int](), budget.epochs
    while left > 0:
        length = min(left, budget.first_cycle * 2 ** len(lengths))
        if lengths and length < budget.first_cycle / 2:
            lengths[-1] += length
        else:
            lengths.append(length)
        left -= length
    return lengths


def warmed_cosine(optimiser: torch.optim.Optimizer, steps: int) -> torch.optim.lr_scheduler.LambdaLR:
    """From the peak rate down to nothing within so many steps, warmed up over the first tenth."""
    warm = max(1, steps // 10)

    def rate(step: int) -> float:
        if step < warm:
            return (step + 1) / warm
        return 0.5 * (1 + math.cos(math.pi * (step - warm) / max(1, steps - warm)))

    return torch.optim.lr_scheduler.LambdaLR(optimiser, rate)
