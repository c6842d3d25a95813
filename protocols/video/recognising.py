"""Networks that learn to name something of clips: until they stop getting better, or the budget ends."""

from __future__ import annotations

import math
from collections.abc import Callable
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any, Protocol

import numpy as np
import numpy.typing as npt
import torch
from torch import Tensor, nn

from labctl.errors import BadInput
from protocols.attack.cycles import Pulse, train_in_cycles, warmed_cosine
from protocols.attack.recognisers import SAME, Effort
from protocols.keys import stream_seed
from protocols.model_file import write_tensors
from protocols.models import settle_batch_norm
from protocols.splits import spread
from protocols.training_loop import Schedule

if TYPE_CHECKING:
    from protocols.video.budget import ClipBudget

SETTLING_CLIPS = 256
"""Most training clips from which scale and batch statistics are taken."""

PART = 64
"""Clips that are answered at a time."""


class ClipReader(Protocol):
    """What settings of a network must offer."""

    @property
    def reads(self) -> Any:
        """`clip` or `frame`."""

    def build(self, clip_shape: tuple[int, int, int, int], n_classes: int) -> nn.Module:
        """Fresh weights from torch's global generator."""

    def identity(self) -> str:
        """All that decides what is built, as text."""


@dataclass(frozen=True)
class LabelledClips:
    """clips: (n, T', C, h, w) float32; labels: (n,) int64."""

    clips: Tensor
    labels: Tensor

    def __len__(self) -> int:
        return len(self.labels)


@dataclass(frozen=True)
class Named:
    """How clips were named. clip: (n,) bool, the clip as a whole. frames: (n,) share of its frames, or None.

    predicted: (n,) the classes named for whole clips.
    """

    clip: npt.NDArray[np.bool_]
    frames: npt.NDArray[np.float64] | None
    predicted: npt.NDArray[np.int64]


class ClipRecogniser(nn.Module):
    """A network and the scale of what it learned from. One of single frames answers every frame of a clip."""

    def __init__(self, network: nn.Module, channels: int, *, by_frame: bool) -> None:
        super().__init__()
        self.network, self.by_frame = network, by_frame
        self.register_buffer("mean", torch.zeros(channels))
        self.register_buffer("scale", torch.ones(channels))
        self.mean: Tensor
        self.scale: Tensor

    def fit_scale(self, clips: Tensor) -> None:
        """Bring each channel of clips (n, T', C, h, w) to mean 0 and variance 1."""
        self.mean = clips.mean(dim=(0, 1, 3, 4))
        self.scale = clips.std(dim=(0, 1, 3, 4)).clamp(min=1e-6)

    def forward(self, clips: Tensor) -> Tensor:
        """(n, T', C, h, w) to (n, K) logits, or (n, T', K) if of single frames."""
        shape = (-1, 1, 1)
        scaled = (clips - self.mean.view(shape)) / self.scale.view(shape)
        if not self.by_frame:
            logits: Tensor = self.network(scaled)
            return logits
        frames: Tensor = self.network(scaled.flatten(0, 1))
        return frames.unflatten(0, clips.shape[:2])

    @torch.no_grad()
    def named(self, judged: LabelledClips) -> Named:
        """Ask for every clip. Votes of frames are means of log-probabilities."""
        self.eval()
        clip, shares = [], []
        for clips, labels in zip(judged.clips.split(PART), judged.labels.split(PART), strict=True):
            logits = self(clips)
            if self.by_frame:
                shares.append((logits.argmax(-1) == labels[:, None]).double().mean(1))
                logits = logits.log_softmax(-1).mean(1)
            clip.append(logits.argmax(-1))
        predicted = torch.cat(clip)
        return Named(
            (predicted == judged.labels).numpy(),
            torch.cat(shares).numpy() if shares else None,
            predicted.numpy(),
        )


def train_clip_recogniser(
    settings: ClipReader,
    budget: ClipBudget,
    train: LabelledClips,
    val: LabelledClips,
    n_classes: int,
    *,
    seed: int,
    pulse: Pulse = lambda done, total: None,
) -> tuple[ClipRecogniser, Effort]:
    """Train a fresh network; when to stop is told by `val`. Raises BadInput without either."""
    for name, part in (("training", train), ("validation", val)):
        if len(part) < 2:
            raise BadInput(f"{len(part)} {name} clips to learn from; two or more are needed")
    recogniser = _fresh(settings, train, n_classes, seed)
    return recogniser, learn_on(recogniser, budget, train, val, seed=seed, pulse=pulse)


def learn_on(
    recogniser: ClipRecogniser,
    budget: ClipBudget,
    train: LabelledClips,
    val: LabelledClips,
    *,
    seed: int,
    pulse: Pulse = lambda done, total: None,
    to_beat: float = math.inf,
) -> Effort:
    """Train in place until it converges; the best state on `val` is kept.

    to_beat: loss on `val` in nats of what it starts from, where that is worth keeping.
    """
    few = train.clips[spread(len(train), SETTLING_CLIPS)]

    def run_cycle(number: int, epochs: int, now: Callable[[int], None]) -> None:
        schedule = Schedule(len(train), epochs, budget.batch, stream_seed(seed, "cycle", number))
        _run_cycle(recogniser, budget, train, schedule, now)
        settle_batch_norm(recogniser, few)

    cycled = train_in_cycles(
        recogniser,
        budget,
        run_cycle,
        lambda: loss_of(recogniser, val),
        better=lambda loss, best: loss < best - SAME,
        to_beat=to_beat,
        pulse=pulse,
    )
    return Effort(cycled.epochs, cycled.converged, float(recogniser.named(val).clip.mean()))


def store_recogniser(path: Path, recogniser: ClipRecogniser, effort: Effort) -> None:
    """Write a trained recogniser."""
    write_tensors(path, {"recogniser": recogniser.state_dict(), "effort": asdict(effort)})


def stored_recogniser(
    path: Path, settings: ClipReader, clip_shape: tuple[int, int, int, int], n_classes: int
) -> tuple[ClipRecogniser, Effort]:
    """Take it back. clip_shape: (T', C, h, w) of its clips."""
    saved = torch.load(path, weights_only=True, map_location="cpu")
    recogniser = ClipRecogniser(
        settings.build(clip_shape, n_classes), clip_shape[1], by_frame=settings.reads == "frame"
    )
    recogniser.load_state_dict(saved["recogniser"])
    recogniser.eval()
    return recogniser, Effort(**saved["effort"])


def _fresh(settings: ClipReader, train: LabelledClips, n_classes: int, seed: int) -> ClipRecogniser:
    torch.manual_seed(stream_seed(seed, "clips", settings.identity()))
    shape = tuple(int(side) for side in train.clips.shape[1:])
    network = settings.build((shape[0], shape[1], shape[2], shape[3]), n_classes)
    recogniser = ClipRecogniser(network, shape[1], by_frame=settings.reads == "frame")
    recogniser.fit_scale(train.clips[spread(len(train), SETTLING_CLIPS)])
    return recogniser


def _run_cycle(
    recogniser: ClipRecogniser,
    budget: ClipBudget,
    train: LabelledClips,
    schedule: Schedule,
    pulse: Callable[[int], None],
) -> None:
    """From the peak rate down to nothing, warmed up over the first tenth."""
    optimiser = torch.optim.AdamW(recogniser.parameters(), lr=budget.rate, weight_decay=budget.weight_decay)
    fade = warmed_cosine(optimiser, schedule.steps)
    criterion = nn.CrossEntropyLoss(label_smoothing=budget.label_smoothing)
    for step in range(schedule.steps):
        torch.manual_seed(stream_seed(schedule.seed, "dropout", step))
        generator = torch.Generator().manual_seed(stream_seed(schedule.seed, "step", step))
        places = schedule.batch_of(step)
        clips, labels = shifted(train.clips[places], budget.shift_px, generator), train.labels[places]
        if recogniser.by_frame:
            clips = some_frames(clips, budget.frames_per_clip, generator)
        recogniser.train()
        logits = recogniser(clips)
        if recogniser.by_frame:
            logits, labels = logits.flatten(0, 1), labels.repeat_interleave(logits.shape[1])
        loss = criterion(logits, labels)
        optimiser.zero_grad(set_to_none=True)
        loss.backward()
        optimiser.step()
        fade.step()
        pulse((step + 1) // schedule.steps_per_epoch)


def shifted(clips: Tensor, shift_px: int, generator: torch.Generator) -> Tensor:
    """Clips (n, T', C, h, w), each shifted by up to `shift_px` each way, all its frames alike; edges repeat."""
    if shift_px == 0:
        return clips
    n, frames, channels, height, width = clips.shape
    padded = nn.functional.pad(clips.flatten(1, 2), (shift_px,) * 4, mode="replicate")
    down, right = torch.randint(0, 2 * shift_px + 1, (2, n, 1), generator=generator)
    rows, columns = down + torch.arange(height), right + torch.arange(width)
    moved = padded[torch.arange(n)[:, None, None], :, rows[:, :, None], columns[:, None, :]]  # (n, h, w, T' C)
    return moved.permute(0, 3, 1, 2).unflatten(1, (frames, channels))


def some_frames(clips: Tensor, wanted: int, generator: torch.Generator) -> Tensor:
    """(n, k, C, h, w) random frames of each clip, without repeats; all if there are fewer."""
    n, frames = clips.shape[:2]
    chosen = torch.rand(n, frames, generator=generator).argsort(1)[:, :wanted]
    return clips[torch.arange(n)[:, None], chosen]


@torch.no_grad()
def loss_of(recogniser: ClipRecogniser, judged: LabelledClips) -> float:
    """Cross-entropy in nats, of clips or of their frames."""
    recogniser.eval()
    total = 0.0
    for clips, labels in zip(judged.clips.split(PART), judged.labels.split(PART), strict=True):
        logits = recogniser(clips)
        if recogniser.by_frame:
            labels = labels.repeat_interleave(logits.shape[1])
            logits = logits.flatten(0, 1)
        total += float(nn.functional.cross_entropy(logits, labels)) * len(clips)
    return total / len(judged)
