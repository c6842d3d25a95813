"""The training of an inversion: to convergence on validation pairs, or as far as its budget reaches."""

from __future__ import annotations

import math
from collections.abc import Callable
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import torch
from torch import Generator, Tensor, nn

from labctl.errors import RunFailed
from protocols.inversion.method import FitRecord, FitRun
from protocols.model_file import write_tensors

RATE_DROP = 0.1
"""By how much the rate is lowered when the validation error stays, once."""


def fit_network(
    network: nn.Module,
    loss: Callable[[Tensor, Generator], Tensor],
    validation_mse: Callable[[], float],
    run: FitRun,
    *,
    items: int,
    rate: float,
) -> FitRecord:
    """Train `network` in place and leave it as it was at its best look at the validation pairs.

    loss(places (n,), generator) is the mean loss of some of the `items`. Adam at `rate` until `run.budget.patience`
    looks brought nothing, then, from the best so far, at a tenth of it until the same happens again.
    Raises RunFailed when the loss is no longer finite.
    """
    budget, generator, checkpoint = run.budget, run.generator, run.checkpoint
    network.train()
    optimiser = torch.optim.Adam(network.parameters(), lr=rate)
    state = _Progress()
    if checkpoint is not None and checkpoint.exists():
        _take(checkpoint, network, optimiser, generator, state)
    else:
        _look(network, state, validation_mse)
    while state.step < budget.steps and not state.converged:
        places = torch.randint(items, (min(budget.batch, items),), generator=generator)
        optimiser.zero_grad(set_to_none=True)
        value = loss(places, generator)
        value.backward()  # type: ignore[no-untyped-call]
        optimiser.step()
        state.step += 1
        if not math.isfinite(float(value.detach())):
            raise RunFailed(
                f"the loss of the inversion became {float(value.detach())} at step {state.step}; lower rate"
            )
        if state.step % budget.validate_every == 0 or state.step == budget.steps:
            _look(network, state, validation_mse)
            if state.step - state.since >= budget.patience * budget.validate_every:
                _lower(network, optimiser, state)
            if checkpoint is not None:
                _keep(checkpoint, network, optimiser, generator, state)
            if run.watch is not None:
                run.watch(state.step, budget.steps, state.curve[-1][1])
    network.load_state_dict(state.best)
    network.eval()
    if checkpoint is not None:
        checkpoint.unlink(missing_ok=True)
    return FitRecord(
        "converged" if state.converged else "budget",
        state.step,
        state.best_step,
        state.best_mse,
        tuple(state.curve),
    )


@dataclass
class _Progress:
    step: int = 0
    since: int = 0
    """Step from which patience counts."""

    best_step: int = 0
    best_mse: float = math.inf
    best: dict[str, Tensor] = field(default_factory=dict)
    lowered: bool = False
    converged: bool = False
    curve: list[tuple[int, float]] = field(default_factory=list)


def _look(network: nn.Module, state: _Progress, validation_mse: Callable[[], float]) -> None:
    network.eval()
    with torch.no_grad():
        mse = validation_mse()
    network.train()
    state.curve.append((state.step, mse))
    if mse < state.best_mse:
        state.best_mse, state.best_step, state.since = mse, state.step, state.step
        state.best = {name: value.detach().clone() for name, value in network.state_dict().items()}


def _lower(network: nn.Module, optimiser: torch.optim.Optimizer, state: _Progress) -> None:
    """First lower the rate, from the best weights on; the second time, say that it has converged."""
    if state.lowered:
        state.converged = True
        return
    network.load_state_dict(state.best)
    for group in optimiser.param_groups:
        group["lr"] *= RATE_DROP
    optimiser.state.clear()
    state.lowered, state.since = True, state.step


def _keep(
    path: Path, network: nn.Module, optimiser: torch.optim.Optimizer, generator: Generator, state: _Progress
) -> None:
    saved: dict[str, Any] = {
        "network": network.state_dict(),
        "optimiser": optimiser.state_dict(),
        "generator": generator.get_state(),
        "progress": vars(state),
    }
    write_tensors(path, saved)


def _take(
    path: Path, network: nn.Module, optimiser: torch.optim.Optimizer, generator: Generator, state: _Progress
) -> None:
    saved = torch.load(path, weights_only=True, map_location="cpu")
    try:
        network.load_state_dict(saved["network"])
        optimiser.load_state_dict(saved["optimiser"])
    except (KeyError, RuntimeError, ValueError) as error:
        raise RunFailed(f"{path} is a checkpoint of another inversion; remove it to fit from the start") from error
    generator.set_state(saved["generator"])
    for name, value in saved["progress"].items():
        setattr(state, name, value)
