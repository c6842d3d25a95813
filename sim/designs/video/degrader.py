"""A learned degrader: a network that redraws every frame. [Wu et al. 2018]

It is software behind a sharp camera: whoever gets at its input has everything.
"""

from __future__ import annotations

from typing import Annotated, ClassVar, Literal

import torch
from annotated_types import Ge, Gt, Le
from torch import Tensor, nn

from labctl.frames.record import Privacy
from sim.designs.base import CameraDesign, DesignSettings
from sim.designs.masks import Pinhole
from sim.designs.video.base import Operator, VideoDesign


class LearnedDegrader(DesignSettings):
    """An image transform frame by frame: wide stem, two halvings, residual blocks, back to size, tanh.

    The form of the authors' network [code: VITA-Group/Privacy-AdversarialLearning], narrower, for small frames.
    """

    learnable: ClassVar[bool] = True
    raw_frames: ClassVar[Privacy] = "after-readout"

    type: Literal["learned_degrader"] = "learned_degrader"

    width: Annotated[int, Ge(2), Le(128)] = 8
    """Channels of the stem; the middle has four times as many."""

    blocks: Annotated[int, Ge(0), Le(16)] = 2
    rate: Annotated[float, Gt(0), Le(1)] = 1e-3
    alpha: Annotated[float, Ge(0), Le(1000)] | None = None
    """Weight of privacy in training; goes before the `alpha` of the step that trains it."""

    def build(self, mask_shape: tuple[int, int], seed: int) -> CameraDesign:
        """See `DesignSettings.build`. seed: of the first weights."""
        with torch.random.fork_rng(devices=[]):
            torch.manual_seed(seed)
            return DegraderCamera(Pinhole().build(mask_shape, seed), self)


class DegraderCamera(VideoDesign):
    """See `LearnedDegrader`. Soft and hard are the same. Normalisation is per frame, so clips do not meet."""

    learnable = True
    operators: tuple[Operator, ...] = ("soft", "hard")

    def __init__(self, optics: CameraDesign, settings: LearnedDegrader) -> None:
        super().__init__()
        self.optics, self.rate = optics, settings.rate
        width = settings.width
        self.network = nn.Sequential(
            _layer(1, width, 5),
            _layer(width, 2 * width, 3, stride=2),
            _layer(2 * width, 4 * width, 3, stride=2),
            *(_Residual(4 * width) for _ in range(settings.blocks)),
            nn.Upsample(scale_factor=2),
            _layer(4 * width, 2 * width, 3),
            nn.Upsample(scale_factor=2),
            _layer(2 * width, width, 3),
            nn.Conv2d(width, 1, 5, padding=2),
            nn.Tanh(),
        )

    def mask(self) -> Tensor:
        """See `CameraDesign.mask`."""
        return self.optics.mask()

    def read_clips(self, light: Tensor, operator: Operator = "soft") -> Tensor:
        """See `VideoDesign.read_clips`; (N, T, 1, h, w), h and w a multiple of 4."""
        self.check_clips(light, operator)
        redrawn: Tensor = self.network(2 * light.flatten(0, 1) - 1)
        return redrawn.unflatten(0, light.shape[:2])


class _Residual(nn.Module):
    def __init__(self, channels: int) -> None:
        super().__init__()
        self.path = nn.Sequential(_layer(channels, channels, 3), nn.Conv2d(channels, channels, 3, padding=1))

    def forward(self, features: Tensor) -> Tensor:
        changed: Tensor = features + self.path(features)
        return changed


def _layer(before: int, after: int, side: int, stride: int = 1) -> nn.Sequential:
    return nn.Sequential(
        nn.Conv2d(before, after, side, stride=stride, padding=side // 2), nn.GroupNorm(1, after), nn.ReLU()
    )
