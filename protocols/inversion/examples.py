"""Pairs of pictures and frames that an inversion learns from: recorded once, or exposed anew for every step."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from typing import TYPE_CHECKING, Protocol

from labctl.errors import BadInput

if TYPE_CHECKING:
    from torch import Generator, Tensor

    from protocols.inversion.problem import LinearCamera

Expose = Callable[["Tensor", "Generator"], "tuple[Tensor, LinearCamera | None]"]
"""Takes pictures (N, C, H, W), gives their frames (N, C, h, w) as light, and what is believed of the camera."""

LEAST_PAIRS = 2


@dataclass(frozen=True)
class Pairs:
    """Pictures (N, C, H, W) within 0..1, their frames (N, C, h, w) as light, and what is believed of the camera.

    camera: with one PSF for all or one each; None where nothing is known of it.
    """

    pictures: Tensor
    frames: Tensor
    camera: LinearCamera | None = None

    def __post_init__(self) -> None:
        if self.pictures.ndim != 4 or self.frames.ndim != 4 or len(self.pictures) != len(self.frames):
            raise BadInput(
                f"pictures of shape {tuple(self.pictures.shape)} and frames of shape {tuple(self.frames.shape)} are no "
                "pairs; (N, C, H, W) and (N, C, h, w) with the same N are needed"
            )
        if self.camera is not None:
            self.camera.check(self.frames)
            if tuple(self.pictures.shape[-2:]) != tuple(self.camera.scene_shape):
                raise BadInput(
                    f"pictures of {tuple(self.pictures.shape[-2:])} pixels for a camera of scenes of "
                    f"{tuple(self.camera.scene_shape)}; resize them to the grid of the scene"
                )

    def __len__(self) -> int:
        return len(self.pictures)

    def draw(self, places: Tensor, generator: Generator) -> Pairs:
        """The pairs at `places` (n,), as they were recorded: nothing is drawn."""
        camera = None if self.camera is None else self.camera.some(places)
        return Pairs(self.pictures[places], self.frames[places], camera)


class Examples(Protocol):
    """What an inversion is fitted to or judged by. `Pairs` are examples that never change."""

    @property
    def pictures(self) -> Tensor:
        """(N, C, H, W) within 0..1."""

    def __len__(self) -> int: ...

    def draw(self, places: Tensor, generator: Generator) -> Pairs:
        """The pairs at `places` (n,); what is random in them comes from `generator` alone."""


@dataclass(frozen=True)
class Exposed:
    """Pictures that are exposed anew whenever they are drawn: fresh noise, and fresh masks where they change.

    pictures: (N, C, H, W) within 0..1.
    """

    pictures: Tensor
    expose: Expose

    def __len__(self) -> int:
        return len(self.pictures)

    def draw(self, places: Tensor, generator: Generator) -> Pairs:
        """See `Examples.draw`."""
        pictures = self.pictures[places]
        frames, camera = self.expose(pictures, generator)
        return Pairs(pictures, frames, camera)


def through(camera: LinearCamera, noise: float) -> Expose:
    """Exposes by one camera that does not change, with normal noise of `noise` times the RMS of the frame."""
    import torch

    def expose(pictures: Tensor, generator: Generator) -> tuple[Tensor, LinearCamera]:
        frames = camera.forward(pictures)
        level = noise * frames.square().mean(dim=(1, 2, 3), keepdim=True).sqrt()
        drawn = torch.randn(frames.shape, dtype=frames.dtype, generator=generator, device=generator.device)
        return frames + level * drawn.to(frames), camera

    return expose


def all_pairs(examples: Examples, generator: Generator) -> Pairs:
    """Every example, drawn once."""
    import torch

    return examples.draw(torch.arange(len(examples)), generator)


def check_examples(training: Examples, validation: Examples) -> None:
    """Raise BadInput when there is too little to learn from or to judge by, or when it is of two grids."""
    for name, examples in (("to learn from", training), ("to validate on", validation)):
        if len(examples) < LEAST_PAIRS:
            raise BadInput(f"{len(examples)} pairs {name}; at least {LEAST_PAIRS} are needed")
    if training.pictures.shape[1:] != validation.pictures.shape[1:]:
        raise BadInput(
            f"pictures to learn from are {tuple(training.pictures.shape[1:])}, to validate on "
            f"{tuple(validation.pictures.shape[1:])}; give both on one grid"
        )
