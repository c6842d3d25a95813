"""What a camera design is: a module whose learnable parameters are hardware settings."""

from __future__ import annotations

from abc import ABC, abstractmethod
from collections.abc import Callable
from typing import Any, ClassVar

import numpy as np
import torch
from torch import Tensor, nn

from labctl.errors import BadInput
from labctl.frames.record import Privacy
from labctl.frozen import Frozen

Exposer = Callable[[Tensor, Tensor], Tensor]
"""Takes scenes (N, 1, H, W) and a mask (H, W) or (N, H, W), gives frames (N, 1, h, w): a twin, or a rig inside a
gradient rule."""

Patterns = Callable[[int], Tensor]
"""Takes a number of scenes n, gives what they are seen through: (H, W) for all, or (n, H, W), one each."""


class CameraDesign(nn.Module, ABC):
    """A camera as the settings of its hardware. One design trains in any twin and runs on any rig.

    Parameters are to be learned, buffers are fixed.
    """

    learnable: bool = False
    """Whether there is anything to learn."""

    rate: float | None = None
    """Learning rate that suits the hardware settings; None when there is nothing to learn."""

    on_panel: bool = True
    """Whether a panel can show it. A lens or a diffuser cannot be shown: then `mask` holds weights of 0 or more, in
    units of one fully open cell, and its light reaches the sensor without the panel (`Twin.psf_of_weights`)."""

    dynamic: bool = False
    """Whether every frame gets a pattern of its own."""

    @abstractmethod
    def mask(self) -> Tensor:
        """(H, W) transmittance 0..1 as it goes on the SLM: hard where the design is, with gradients if learnable.

        Weights unless `on_panel`; of a `dynamic` design one pattern that stands for all.
        """

    def draw(self, n: int, generator: torch.Generator) -> Tensor:
        """(n, H, W) what n frames are taken through, with gradients if learnable; generator: of the CPU.

        n times the same mask, and no number is drawn, unless `dynamic`.
        """
        mask = self.mask()
        return mask.expand(n, *mask.shape)

    def patterns(self, generator: torch.Generator) -> Patterns:
        """What scenes are seen through: the one mask, of which one PSF is enough, or fresh draws if `dynamic`."""
        if self.dynamic:
            return lambda n: self.draw(n, generator)
        mask = self.mask()
        return lambda n: mask

    def forward(self, scene: Tensor, exposer: Exposer, generator: torch.Generator | None = None) -> Tensor:
        """What the design reads of scenes (N, 1, H, W), exposed by `exposer`. generator: for a `dynamic` design."""
        if not self.dynamic:
            return self.readout(exposer(scene, self.mask()))
        if generator is None:
            raise BadInput("this design draws a new pattern for every frame; give the generator to draw them from")
        return self.readout(exposer(scene, self.draw(len(scene), generator)))

    def readout(self, frames: Tensor) -> Tensor:
        """What the electronics do after the sensor, (N, 1, h, w) DN to (N, 1, h', w'); here nothing."""
        return frames

    def read_shape(self, frame_shape: tuple[int, int]) -> tuple[int, int]:
        """(h', w') that `readout` makes of frames of (h, w) pixels."""
        with torch.no_grad():
            shape = self.readout(torch.zeros(1, 1, *frame_shape)).shape
        return int(shape[-2]), int(shape[-1])

    def settings(self) -> dict[str, Any]:
        """What to put on the devices: `mask`, (H, W) float64; nothing unless `on_panel`."""
        return {"mask": self.mask().detach().cpu().numpy().astype(np.float64)} if self.on_panel else {}

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
