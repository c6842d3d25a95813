"""The optimisation loop that `train` and `finetune` share: resumable at every step, to the same bits.

Order, augmentation, noise and dropout are keyed by (seed, epoch or step). So a checkpoint needs only weights,
optimiser states and the position, and a killed training ends where an uninterrupted one would have ended.
"""

from __future__ import annotations

import math
import time
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from functools import lru_cache
from typing import Any, Protocol

import numpy as np
import torch
from torch import Tensor

from labctl.errors import RunFailed
from labctl.steps import StepContext
from protocols.keys import stream_seed
from protocols.model_file import write_tensors
from sim.golden import Golden, golden_change

CHECKPOINT = "checkpoint.pt"
CHECKPOINT_EVERY_S = 2.0


class Stateful(Protocol):
    """Modules, optimisers, schedules: what a checkpoint holds."""

    def state_dict(self) -> dict[str, Any]:
        """State as tensors and plain values."""

    def load_state_dict(self, state: dict[str, Any]) -> Any:
        """Take a state back."""


@dataclass(frozen=True)
class Schedule:
    """Length and keys of a training."""

    items: int
    epochs: int
    batch: int
    seed: int

    @property
    def steps_per_epoch(self) -> int:
        """Batches per epoch; a last batch of a single item is left out, since it has no variance."""
        whole, rest = divmod(self.items, self.batch)
        return max(1, whole + (1 if rest > 1 else 0))

    @property
    def steps(self) -> int:
        """Steps in all."""
        return self.steps_per_epoch * self.epochs

    def batch_of(self, step: int) -> Tensor:
        """Indices of the items of step `step`."""
        epoch, place = divmod(step, self.steps_per_epoch)
        order = _order_of(self.seed, epoch, self.items)
        return torch.from_numpy(order[place * self.batch : (place + 1) * self.batch])


def _seed_dropout(seed: int) -> None:
    """As `torch.manual_seed`, which keeps a stack trace of every call where CUDA was not used yet: 0.7 ms a step."""
    torch.default_generator.manual_seed(seed)
    if torch.cuda.is_initialized():
        torch.cuda.manual_seed_all(seed)


@lru_cache(maxsize=1)
def _order_of(seed: int, epoch: int, items: int) -> np.ndarray:
    return np.random.default_rng(stream_seed(seed, "order", epoch)).permutation(items)


@dataclass
class _Sums:
    loss: float = 0.0
    right: int = 0
    seen: int = 0


def prepare_torch() -> None:
    """One thread: small networks are fastest so, and its kernels are deterministic: a resumed run is bit-equal."""
    torch.set_num_threads(1)


def run_loop(
    context: StepContext,
    schedule: Schedule,
    *,
    state: Mapping[str, Stateful],
    one_step: Callable[[int, Tensor, torch.Generator], tuple[Tensor, Tensor]],
    optimisers: Sequence[torch.optim.Optimizer],
    rates: Sequence[Any],
    validate: Callable[[], dict[str, float]],
    backward: Callable[[Tensor], None] = Tensor.backward,
    golden: Golden | None = None,
    check_slopes: Callable[[], None] = lambda: None,
) -> dict[str, float]:
    """Train; returns loss and accuracy of the last epoch with what `validate` said.

    one_step(step, indices, generator) returns (loss, logits are right (n,) bool); it must draw from `generator` only.
    golden: the reference frame of the simulator that makes the frames; kept in checkpoints, so that a training that
    goes on in another simulator says so. check_slopes: called before weights move; may raise RunFailed. A step may call
    `backward` itself for parts of its batch; what it returns is added to them. Raises Stopped after saving when the
    user asks, RunFailed when the loss is no longer finite.
    """
    start, sums, last = 0, _Sums(), dict[str, float]()
    path = context.folder / CHECKPOINT
    if path.exists():
        saved = torch.load(path, weights_only=True, map_location="cpu")
        if saved["hash"] != context.content_hash:
            raise RunFailed(f"{path} is a checkpoint of another training; remove it to train from the start")
        for name, item in state.items():
            item.load_state_dict(saved["state"][name])
        start, sums, last = saved["step"], _Sums(**saved["sums"]), saved["last"]
        context.log(f"goes on at step {start} of {schedule.steps}")
        change = golden_change(Golden.of_state(saved["golden"]), golden) if golden and saved["golden"] else None
        if change:
            raise RunFailed(f"{change}; remove {path} to train from the start in the simulator as it is now")
    saved_at = time.monotonic()
    for step in range(start, schedule.steps):
        generator = torch.Generator().manual_seed(stream_seed(schedule.seed, "step", step))
        _seed_dropout(stream_seed(schedule.seed, "dropout", step))
        indices = schedule.batch_of(step)
        for optimiser in optimisers:
            optimiser.zero_grad(set_to_none=True)
        loss, right = one_step(step, indices, generator)
        backward(loss)
        check_slopes()
        for optimiser in optimisers:
            optimiser.step()
        for rate in rates:
            rate.step()
        sums.loss += float(loss.detach()) * len(indices)
        sums.right += int(right.sum())
        sums.seen += len(indices)
        if not math.isfinite(sums.loss):
            raise RunFailed(f"the loss became {sums.loss} at step {step}; lower the rate, or look at the frames it saw")
        epoch, place = divmod(step + 1, schedule.steps_per_epoch)
        if place == 0:
            last = {"loss": sums.loss / sums.seen, "train_accuracy": sums.right / sums.seen, **validate()}
            context.metric(epoch - 1, **last)
            sums = _Sums()
        context.progress(step + 1, schedule.steps, "steps", **last)
        if step + 1 < schedule.steps and (context.stop_asked() or time.monotonic() - saved_at > CHECKPOINT_EVERY_S):
            states = {name: item.state_dict() for name, item in state.items()}
            where = {"hash": context.content_hash, "step": step + 1, "sums": vars(sums), "last": last}
            write_tensors(path, {"state": states, "golden": golden.as_state() if golden else None, **where})
            saved_at = time.monotonic()
            context.stop_here(f"checkpoint at step {step + 1} of {schedule.steps}")
    return {**last, "steps": schedule.steps}


def drop_checkpoint(context: StepContext) -> None:
    """Remove the checkpoint once what was trained is on the disk, and not before."""
    (context.folder / CHECKPOINT).unlink(missing_ok=True)
