"""Software degradations as designs: a sharp camera whose read-out hides. The peers against which optics must win."""

from __future__ import annotations

from collections.abc import Callable
from functools import partial
from typing import Annotated, ClassVar, Literal

from annotated_types import Ge, Gt, Le
from torch import Tensor

from labctl.frames.record import Privacy
from sim.designs.base import CameraDesign, DesignSettings
from sim.designs.lenses import Lens
from sim.designs.masks import Pinhole
from sim.optics.degradation import downsampled, pixelated, smoothed


class Degradation(DesignSettings):
    """A sharp camera, degraded after the sensor: its raw frames show everything."""

    raw_frames: ClassVar[Privacy] = "after-readout"

    optics: Literal["lens", "pinhole"] = "lens"
    """What makes the sharp frame. A lens has the light of the whole mask but no panel can show it; a pinhole runs on a
    rig."""

    def build(self, mask_shape: tuple[int, int], seed: int) -> CameraDesign:
        """See `DesignSettings.build`."""
        optics = Lens() if self.optics == "lens" else Pinhole()
        return DegradedCamera(optics.build(mask_shape, seed), self.degrading())

    def degrading(self) -> Callable[[Tensor], Tensor]:
        """What is done to frames (N, 1, h, w)."""
        raise NotImplementedError(f"{type(self).__name__} must define degrading")


class Blur(Degradation):
    """Gaussian blur of the finished frame."""

    type: Literal["blur"] = "blur"
    sigma_px: Annotated[float, Gt(0), Le(256)] = 3.0

    def degrading(self) -> Callable[[Tensor], Tensor]:
        """See `Degradation.degrading`."""
        return partial(smoothed, sigma_px=self.sigma_px)


class Pixelate(Degradation):
    """Blocks of the finished frame at their mean; the frame keeps its size."""

    type: Literal["pixelate"] = "pixelate"
    block_px: Annotated[int, Ge(2), Le(1024)] = 4

    def degrading(self) -> Callable[[Tensor], Tensor]:
        """See `Degradation.degrading`."""
        return partial(pixelated, block_px=self.block_px)


class Downsample(Degradation):
    """Blocks of the finished frame as one pixel each: what is read is smaller than what the sensor gives."""

    type: Literal["downsample"] = "downsample"
    factor: Annotated[int, Ge(2), Le(1024)] = 2

    def degrading(self) -> Callable[[Tensor], Tensor]:
        """See `Degradation.degrading`."""
        return partial(downsampled, factor=self.factor)


class DegradedCamera(CameraDesign):
    """Optics with nothing to learn, and what is done to their frames."""

    def __init__(self, optics: CameraDesign, degrading: Callable[[Tensor], Tensor]) -> None:
        super().__init__()
        self.optics, self.on_panel = optics, optics.on_panel
        self._degrading = degrading

    def mask(self) -> Tensor:
        """See `CameraDesign.mask`."""
        return self.optics.mask()

    def readout(self, frames: Tensor) -> Tensor:
        """See `CameraDesign.readout`."""
        return self._degrading(frames)
