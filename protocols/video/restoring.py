"""A network that learns to give back the clip that a camera encoded."""

from __future__ import annotations

import math
from collections.abc import Callable
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any

import torch
from torch import Tensor, nn

from labctl.errors import BadInput
from protocols.attack.cycles import Pulse, train_in_cycles, warmed_cosine
from protocols.attack.recognisers import Effort
from protocols.keys import stream_seed
from protocols.model_file import write_tensors
from protocols.models import settle_batch_norm
from protocols.splits import spread
from protocols.training_loop import Schedule
from protocols.video.recognising import PART, SETTLING_CLIPS

if TYPE_CHECKING:
    from protocols.video.budget import ClipBudget

BETTER = 1e-3
"""A validation error has to fall by this share to be better."""


@dataclass(frozen=True)
class ClipPairs:
    """encoded: (n, T', C, h, w); truth: (n, T', 1, H, W) radiance 0..1 of the frames that each was read out at."""

    encoded: Tensor
    truth: Tensor

    def __len__(self) -> int:
        return len(self.truth)


class ClipRestorer(nn.Module):
    """A network from encoded clips to what it learned to see in them; it adds to the mean training picture."""

    def __init__(self, network: nn.Module, channels: int, picture: tuple[int, int]) -> None:
        super().__init__()
        self.network = network
        self.register_buffer("mean", torch.zeros(channels))
        self.register_buffer("scale", torch.ones(channels))
        self.register_buffer("start", torch.zeros(1, 1, 1, *picture))
        self.mean: Tensor
        self.scale: Tensor
        self.start: Tensor

    def fit_scale(self, pairs: ClipPairs) -> None:
        """From training pairs."""
        self.mean = pairs.encoded.mean(dim=(0, 1, 3, 4))
        self.scale = pairs.encoded.std(dim=(0, 1, 3, 4)).clamp(min=1e-6)
        self.start = mean_picture(pairs.truth)

    def forward(self, encoded: Tensor) -> Tensor:
        """(n, T', C, h, w) to (n, T', 1, H, W)."""
        shape = (-1, 1, 1)
        scaled = (encoded - self.mean.view(shape)) / self.scale.view(shape)
        restored: Tensor = self.start + self.network(enlarged(scaled, self.start.shape[-2:]))
        return restored

    @torch.no_grad()
    def restored(self, encoded: Tensor) -> Tensor:
        """(n, T', 1, H, W) 0..1 of all clips."""
        self.eval()
        return torch.cat([self(part).clamp(0, 1) for part in encoded.split(PART)])


def mean_picture(clips: Tensor) -> Tensor:
    """(1, 1, 1, H, W) mean over clips and frames: what can be shown without any camera."""
    return clips.mean(dim=(0, 1), keepdim=True)


def enlarged(clips: Tensor, shape: Any) -> Tensor:
    """Clips (n, T', C, h, w) with every pixel repeated up to the size (H, W)."""
    if tuple(clips.shape[-2:]) == tuple(shape):
        return clips
    frames = nn.functional.interpolate(clips.flatten(0, 1), size=tuple(shape), mode="nearest")
    return frames.unflatten(0, clips.shape[:2])


def train_restorer(
    network: nn.Module,
    budget: ClipBudget,
    train: ClipPairs,
    val: ClipPairs,
    *,
    seed: int,
    pulse: Pulse = lambda done, total: None,
) -> tuple[ClipRestorer, Effort]:
    """Train by squared error until `val` gets no better. `Effort.val_accuracy` is its PSNR in dB."""
    for name, part in (("training", train), ("validation", val)):
        if len(part) < 2:
            raise BadInput(f"{len(part)} {name} clips to learn from; two or more are needed")
    h, w = (int(side) for side in train.truth.shape[-2:])
    restorer = ClipRestorer(network, int(train.encoded.shape[2]), (h, w))
    restorer.fit_scale(train)
    few = train.encoded[spread(len(train), SETTLING_CLIPS // 4)]

    def error_now() -> float:
        return float((restorer.restored(val.encoded) - val.truth).square().mean())

    def run_cycle(number: int, epochs: int, now: Callable[[int], None]) -> None:
        schedule = Schedule(len(train), epochs, budget.batch, stream_seed(seed, "restore", number))
        _run_cycle(restorer, budget, train, schedule, now)
        settle_batch_norm(restorer, few)

    cycled = train_in_cycles(
        restorer,
        budget,
        run_cycle,
        error_now,
        better=lambda error, best: error < best * (1 - BETTER),
        to_beat=error_now(),  # it shows the mean picture, or nearly: what learning does not better is not kept
        pulse=pulse,
    )
    return restorer, Effort(cycled.epochs, cycled.converged, -10 * math.log10(max(cycled.loss, 1e-6)))


def store_restorer(path: Path, restorer: ClipRestorer, effort: Effort) -> None:
    """Write a trained restorer."""
    write_tensors(path, {"restorer": restorer.state_dict(), "effort": asdict(effort)})


def stored_restorer(path: Path, network: nn.Module, pairs: ClipPairs) -> tuple[ClipRestorer, Effort]:
    """Take it back; pairs: of the shapes that it was trained with."""
    saved = torch.load(path, weights_only=True, map_location="cpu")
    h, w = (int(side) for side in pairs.truth.shape[-2:])
    restorer = ClipRestorer(network, int(pairs.encoded.shape[2]), (h, w))
    restorer.load_state_dict(saved["restorer"])
    restorer.eval()
    return restorer, Effort(**saved["effort"])


def _run_cycle(restorer: ClipRestorer, budget: ClipBudget, train: ClipPairs, schedule: Schedule, pulse: Any) -> None:
    optimiser = torch.optim.AdamW(restorer.parameters(), lr=budget.rate, weight_decay=budget.weight_decay)
    fade = warmed_cosine(optimiser, schedule.steps)
    for step in range(schedule.steps):
        places = schedule.batch_of(step)
        restorer.train()
        loss = nn.functional.mse_loss(restorer(train.encoded[places]), train.truth[places])
        optimiser.zero_grad(set_to_none=True)
        loss.backward()
        optimiser.step()
        fade.step()
        pulse((step + 1) // schedule.steps_per_epoch)
