"""What a camera for clips is: optics as any design has them, and a read-out that sees several frames."""

from __future__ import annotations

from abc import abstractmethod
from typing import Any, Literal

import torch
from torch import Tensor

from labctl.errors import BadInput
from sim.designs.base import CameraDesign

Operator = Literal["soft", "hard"]
"""`soft`: what training differentiates. `hard`: what a device does, with the same settings."""


class VideoDesign(CameraDesign):
    """A camera that reads clips. `mask` is its optics, of all frames; `read_clips` its electronics.

    Clips are light (N, T, 1, h, w): 0 is black, 1 a white scene through the same optics, as the sensor measured it, so
    a little below 0 and above 1 too. What `mask` learns (a blur) is optics; what `read_clips` learns are settings of
    the read-out (thresholds).
    """

    span: int = 1
    """Frames that one read frame is made of: T frames in give T - span + 1 out. A difference spans 2."""

    operators: tuple[Operator, ...] = ("soft", "hard")
    """What `read_clips` can be asked for. Without a quantiser both are the same."""

    @property
    def moving_optics(self) -> bool:
        """Whether `mask` learns: else light can be measured once and read out as often as one likes."""
        return False

    @abstractmethod
    def read_clips(self, light: Tensor, operator: Operator = "soft") -> Tensor:
        """(N, T, 1, h, w) light to (N, T - span + 1, C, h', w'), of each clip alone. `hard` has the slope of `soft`.

        Values span about -1..1. Raises BadInput for fewer frames than `span` and an operator that it does not have.
        """

    def read_clip_shape(self, clip_shape: tuple[int, int, int]) -> tuple[int, int, int, int]:
        """(T', C, h', w') that `read_clips` makes of (T, h, w)."""
        frames, h, w = clip_shape
        learning = self.training
        self.eval()  # a range that follows what it sees must not follow this
        with torch.no_grad():
            shape = self.read_clips(torch.zeros(1, frames, 1, h, w)).shape
        self.train(learning)
        return int(shape[1]), int(shape[2]), int(shape[3]), int(shape[4])

    def parameter_groups(self) -> list[dict[str, Any]]:
        """What an optimiser takes: `params` with `lr`, in units of its own; nothing where nothing learns."""
        learned = list(self.parameters())
        return [{"params": learned, "lr": float(self.rate or 0)}] if learned else []

    def electronics(self) -> dict[str, Any]:
        """What the electronics must be set to, as plain values with their unit in the name; empty where there are
        none."""
        return {}

    def check_clips(self, light: Tensor, operator: Operator) -> None:
        """Raises BadInput as `read_clips` must."""
        if light.ndim != 5 or light.shape[2] != 1:
            raise BadInput(f"clips have shape {tuple(light.shape)}; (N, T, 1, h, w) is needed")
        if light.shape[1] < self.span:
            raise BadInput(f"clips have {light.shape[1]} frames; this camera reads {self.span} or more at a time")
        if operator not in self.operators:
            raise BadInput(f"operator '{operator}' is none of this camera's: {', '.join(self.operators)}")
