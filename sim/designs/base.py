"""What a camera design is: a module whose learnable parameters are hardware settings."""

from __future__ import annotations

from abc import ABC, abstractmethod
from collections.abc import Callable
from typing import Any, ClassVar

import numpy as np
from torch import Tensor, nn

from labctl.errors import BadInput
from labctl.frames.record import Privacy
from labctl.frozen import Frozen

Exposer = Callable[[Tensor, Tensor], Tensor]
"""Takes scenes (N, 1, H, W) and a mask (H, W), gives frames (N, 1, h, w): a twin, or a rig inside a gradient rule."""


class CameraDesign(nn.Module, ABC):
    """A camera as the settings of its hardware. One design trains in any twin and runs on any rig.

    Parameters are to be learned, buffers are fixed.
    """

    learnable: bool = False
    """Whether there is anything to learn."""

    rate: float | None = None
    """Learning rate that suits the hardware settings; None when there is nothing to learn."""

    @abstractmethod
    def mask(self) -> Tensor:
        """(H, W) transmittance 0..1 as it goes on the SLM: hard where the design is, with gradients if learnable."""

    def forward(self, scene: Tensor, exposer: Exposer) -> Tensor:
        """What the design reads of scenes (N, 1, H, W), exposed by `exposer`."""
        return self.readout(exposer(scene, self.mask()))

    def readout(self, frames: Tensor) -> Tensor:
        """What the electronics do after the sensor; here nothing."""
        return frames

    def settings(self) -> dict[str, Any]:
        """What to put on the devices: `mask`, (H, W) float64."""
        return {"mask": self.mask().detach().cpu().numpy().astype(np.float64)}

    def anneal(self, progress: float) -> None:
        """Called before every training step with the share 0..1 of the training that is done."""


class DesignSettings(Frozen):
    """Settings of one design, registered under the entry-point group `labctl.designs`."""

    learnable: ClassVar[bool] = False

    raw_frames: ClassVar[Privacy] = "unknown"
    """Where the design hides who is in the picture, and with it what its raw frames show: `optical` before the sensor,
    `after-readout` only once the electronics have done their part, `none`. It says where, not how well."""

    type: str

    def fingerprint(self) -> str:
        """What besides the settings decides the design: the content of files it is read from, as a hash."""
        return ""

    def build(self, mask_shape: tuple[int, int], seed: int) -> CameraDesign:
        """The design for a mask of (H, W) cells. seed: decides everything random in it."""
        raise NotImplementedError(f"{type(self).__name__} must define build")


def check_mask_shape(mask_shape: tuple[int, int]) -> None:
    """Raises BadInput when a mask has no cells."""
    if len(mask_shape) != 2 or min(mask_shape) < 1:
        raise BadInput(f"mask_shape is {mask_shape}; (rows, columns) of 1 or more are needed")
