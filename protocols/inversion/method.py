"""What every inversion does."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass, field
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, ClassVar, Literal, Protocol

from annotated_types import Ge, Le

from labctl.errors import BadInput
from labctl.frozen import Frozen

if TYPE_CHECKING:
    from torch import Generator, Tensor

    from protocols.inversion.examples import Examples
    from protocols.inversion.problem import LinearCamera


class Inverter(Protocol):
    """Gives pictures from frames: the settings of a method that needs no examples, or one that was fitted to them."""

    def invert(self, frames: Tensor, camera: LinearCamera | None) -> Tensor:
        """Pictures (N, C, H, W) within 0..1 of frames (N, C, h, w) as light, without gradients.

        camera: None where nothing is known of it. Every frame is inverted for itself: its neighbours in the batch do
        not matter. Raises BadInput when frames and camera do not belong together, or where it must be known and is not.
        """


class Inversion(Frozen):
    """Settings of a method. Those with `learns` have `fit` and are inverted with what that returns."""

    learns: ClassVar[bool] = False

    method: str


class ClosedInversion(Inversion):
    """Settings of a method that needs nothing but frame and camera."""

    def invert(self, frames: Tensor, camera: LinearCamera | None) -> Tensor:
        """See `Inverter.invert`."""
        import torch

        with torch.no_grad():
            return self.solve(frames, needed(camera)).clamp(0, 1)

    def solve(self, frames: Tensor, camera: LinearCamera) -> Tensor:
        """The same, not limited to 0..1."""
        raise NotImplementedError(f"{type(self).__name__} must define solve")


class FitBudget(Frozen):
    """How long a network may learn. It ends earlier when it has converged: see `patience`."""

    steps: Annotated[int, Ge(1), Le(10_000_000)] = 4000
    """Of one batch each, at most."""

    batch: Annotated[int, Ge(1), Le(4096)] = 16
    validate_every: Annotated[int, Ge(1), Le(1_000_000)] = 100
    """Steps between two looks at the validation pairs."""

    patience: Annotated[int, Ge(1), Le(10_000)] = 8
    """Looks without a better validation error after which the rate is lowered, and, the second time, training ends."""


@dataclass(frozen=True)
class FitRecord:
    """How a fit went.

    ended_by: `chosen` where settings were only compared, `converged` by patience, `budget` when that cut it short: the
    result is then a lower bound of what the attacker could do. curve: (step, validation error) of every look.
    validation_mse: mean squared error of the validation pictures, clipped to 0..1, with what is used in the end.
    """

    ended_by: Literal["chosen", "converged", "budget"]
    steps: int
    best_step: int
    validation_mse: float
    curve: tuple[tuple[int, float], ...] = ()
    chosen: dict[str, float] = field(default_factory=dict)
    """Settings that the validation pairs decided, by name."""


class FittedInversion(Inverter, Protocol):
    """An inverter that has learned, with all it has learned as tensors."""

    record: FitRecord

    def state(self) -> dict[str, Tensor]:
        """To be written with `save_fitted` and taken back with `LearnedInversion.restore`."""


Watch = Callable[[int, int, float], None]
"""Told step, steps in all, and the validation error at every look; may raise to end the fit."""


@dataclass(frozen=True)
class FitRun:
    """What one fit may spend, and what it is tied to.

    generator: all chance comes from it. checkpoint: a file to go on from if it is there, written at every look and
    removed in the end; an interrupted fit then ends as an uninterrupted one.
    """

    budget: FitBudget
    generator: Generator
    checkpoint: Path | None = None
    watch: Watch | None = None


class LearnedInversion(Inversion):
    """Settings of a method that learns from pairs of pictures and frames."""

    learns: ClassVar[bool] = True

    def fit(self, training: Examples, validation: Examples, run: FitRun) -> FittedInversion:
        """Learn from `training` until `validation` gets no better, or the budget of `run` is spent.

        Raises BadInput for fewer than two pairs of either, and where both are not of one grid.
        """
        raise NotImplementedError(f"{type(self).__name__} must define fit")

    def restore(self, state: dict[str, Tensor], record: FitRecord) -> FittedInversion:
        """What `fit` returned, from its state."""
        raise NotImplementedError(f"{type(self).__name__} must define restore")


def needed(camera: LinearCamera | None) -> LinearCamera:
    """The camera; raises BadInput where nothing is known of it."""
    if camera is None:
        raise BadInput("this inversion needs to know the camera; give one, or use `regression`, which does without")
    return camera


def check_frames(frames: Tensor, camera: LinearCamera) -> None:
    """Raise BadInput for frames of another camera, or such that hold no finite numbers."""
    camera.check(frames)
    if not bool((frames * 0).sum() == 0):  # NaN where one is not finite; 7 times faster than isfinite
        raise BadInput("the frames hold values that are not finite; leave those frames out")
    if not bool(camera.psf.flatten(1).any(dim=1).all()):
        raise BadInput("a PSF is black everywhere: no light, no picture; open the mask")
