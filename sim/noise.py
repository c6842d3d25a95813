"""Where simulated noise comes from: a key per exposure for measured frames, a torch generator for training."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from typing import Protocol

import numpy as np
import torch
from torch import Tensor

from labctl.errors import BadInput
from labctl.exposure import FrameTag

_SHOT, _READ = 0, 1
_WORD = 1 << 64


class Draws(Protocol):
    """Draws one shot noise and one read noise per exposure."""

    def poisson(self, mean: Tensor) -> Tensor:
        """Counts (N, 1, h, w) with the expectation `mean`; no gradient."""

    def normal(self, like: Tensor) -> Tensor:
        """Standard normal numbers in the shape (N, 1, h, w) and dtype of `like`; no gradient."""


class KeyedDraws:
    """Noise that depends on (seed, exposure id, attempt) and on nothing else, never on order or batch.

    Frame i of a batch belongs to `tags[i]`. Shot and read noise have streams of their own. The same draws again
    give the same noise. Raises BadInput when the batch and `tags` differ in length.
    """

    def __init__(self, seed: int, tags: Sequence[FrameTag]) -> None:
        self.seed = seed
        self.tags = tuple(tags)

    def poisson(self, mean: Tensor) -> Tensor:
        """See `Draws.poisson`."""
        return self._draw(mean, _SHOT, lambda stream, frame: stream.poisson(frame).astype(np.float64))

    def normal(self, like: Tensor) -> Tensor:
        """See `Draws.normal`."""
        return self._draw(like, _READ, lambda stream, frame: stream.standard_normal(frame.shape))

    def _draw(self, like: Tensor, stage: int, draw: Callable[[np.random.Generator, np.ndarray], np.ndarray]) -> Tensor:
        if like.shape[0] != len(self.tags):
            raise BadInput(f"{like.shape[0]} frames came for {len(self.tags)} exposure tags; give one tag per frame")
        frames = like.detach().to(device="cpu", dtype=torch.float64).numpy()
        drawn = np.stack([draw(self._stream(tag, stage), frame) for tag, frame in zip(self.tags, frames, strict=True)])
        return torch.from_numpy(drawn).to(dtype=like.dtype, device=like.device)

    def _stream(self, tag: FrameTag, stage: int) -> np.random.Generator:
        key = (self.seed % _WORD, tag.exposure_id % _WORD, tag.attempt % _WORD, stage)
        return np.random.Generator(np.random.Philox(np.random.SeedSequence(key)))


class TorchDraws:
    """Noise from a torch generator, for training: fast, and different at every call."""

    def __init__(self, generator: torch.Generator) -> None:
        self.generator = generator

    def poisson(self, mean: Tensor) -> Tensor:
        """See `Draws.poisson`."""
        return torch.poisson(mean.detach(), generator=self.generator)

    def normal(self, like: Tensor) -> Tensor:
        """See `Draws.normal`."""
        return torch.randn(like.shape, generator=self.generator, dtype=like.dtype, device=like.device)
