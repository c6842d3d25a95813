"""What BDQ must be better than: the clip itself, fewer pixels, plain blur, and a difference with a dead zone."""

from __future__ import annotations

from abc import abstractmethod
from collections.abc import Callable
from functools import partial
from typing import Annotated, Any, ClassVar, Literal

from annotated_types import Ge, Gt, Le
from torch import Tensor

from labctl.frames.record import Privacy
from sim.designs.base import CameraDesign, DesignSettings
from sim.designs.masks import Pinhole
from sim.designs.video.base import Operator, VideoDesign
from sim.optics.degradation import downsampled, smoothed


class SharpVideo(DesignSettings):
    """A sharp camera for clips: one open cell, and something that is done to the frames, with nothing to learn."""

    raw_frames: ClassVar[Privacy] = "after-readout"

    def build(self, mask_shape: tuple[int, int], seed: int) -> CameraDesign:
        """See `DesignSettings.build`."""
        return SharpVideoCamera(Pinhole().build(mask_shape, seed), *self.reading())

    @abstractmethod
    def reading(self) -> tuple[Callable[[Tensor], Tensor], int, dict[str, Any]]:
        """What is done to light (N, T, 1, h, w), how many frames it spans, and what the electronics are told."""


class VideoOriginal(SharpVideo):
    """The clip as it is: what every other camera is measured against."""

    raw_frames: ClassVar[Privacy] = "none"

    type: Literal["video_original"] = "video_original"

    def reading(self) -> tuple[Callable[[Tensor], Tensor], int, dict[str, Any]]:
        """See `SharpVideo.reading`."""
        return _as_read, 1, {}


class VideoDownsample(SharpVideo):
    """Fewer pixels: blocks at their mean. [Ryoo et al. 2017]"""

    type: Literal["video_downsample"] = "video_downsample"
    factor: Annotated[int, Ge(2), Le(1024)] = 2

    def reading(self) -> tuple[Callable[[Tensor], Tensor], int, dict[str, Any]]:
        """See `SharpVideo.reading`."""
        return partial(_fewer, factor=self.factor), 1, {"block_px": self.factor}


class VideoBlur(SharpVideo):
    """A Gaussian blur of the finished frames, of any width."""

    type: Literal["video_blur"] = "video_blur"
    sigma_px: Annotated[float, Gt(0), Le(256)] = 4.0

    def reading(self) -> tuple[Callable[[Tensor], Tensor], int, dict[str, Any]]:
        """See `SharpVideo.reading`."""
        return partial(_blurred, sigma_px=self.sigma_px), 1, {"sigma_px": self.sigma_px}


class DeadZone(SharpVideo):
    """A difference in three levels: darker, the same, brighter; what moves less than the dead zone is the same.

    What an event camera does, and what BDQ learns to do: nothing here is learned, so it has to be swept.
    """

    type: Literal["dead_zone"] = "dead_zone"

    above: Annotated[float, Gt(0), Le(1)] = 0.1
    """Light by which a pixel must get brighter."""

    below: Annotated[float, Gt(0), Le(1)] | None = None
    """Light by which it must get darker; None: as `above`."""

    def reading(self) -> tuple[Callable[[Tensor], Tensor], int, dict[str, Any]]:
        """See `SharpVideo.reading`."""
        below = self.above if self.below is None else self.below
        told = {"difference": True, "levels": 3, "thresholds_light": [-below, self.above]}
        return partial(_events, above=self.above, below=below), 2, told


class SharpVideoCamera(VideoDesign):
    """See `SharpVideo`. Soft and hard are the same."""

    operators: tuple[Operator, ...] = ("soft", "hard")

    def __init__(
        self, optics: CameraDesign, reading: Callable[[Tensor], Tensor], span: int, told: dict[str, Any]
    ) -> None:
        super().__init__()
        self.optics, self.span = optics, span
        self._reading, self._told = reading, told

    def mask(self) -> Tensor:
        """See `CameraDesign.mask`."""
        return self.optics.mask()

    def read_clips(self, light: Tensor, operator: Operator = "soft") -> Tensor:
        """See `VideoDesign.read_clips`."""
        self.check_clips(light, operator)
        return self._reading(light)

    def electronics(self) -> dict[str, Any]:
        """See `VideoDesign.electronics`."""
        return self._told


def _as_read(light: Tensor) -> Tensor:
    return 2 * light - 1


def _fewer(light: Tensor, factor: int) -> Tensor:
    return 2 * downsampled(light, factor) - 1


def _blurred(light: Tensor, sigma_px: float) -> Tensor:
    return 2 * smoothed(light, sigma_px) - 1


def _events(light: Tensor, above: float, below: float) -> Tensor:
    change = light.diff(dim=1)
    return (change >= above).to(light) - (change <= -below).to(light)
