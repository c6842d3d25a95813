"""Scenes, mask and exposure through the twin of the rig: what training sees instead of a camera."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

import torch
from torch import Tensor

if TYPE_CHECKING:
    from labctl.rig_file import RigSpec

CHUNK = 128
"""Scenes per call where no gradient is wanted; bounds memory, not results."""


class Simulation:
    """The twin of a rig, exposed as the rig would be: so that a white scene fills the sensor to `fill`.

    The exposure time follows the mask, within the limits of the sensor: an opener mask gets a shorter one.
    """

    def __init__(self, rig: RigSpec, *, fill: float) -> None:
        self.twin: Any = rig.twin.build(rig.roads)
        self.fill = fill

    def shown(self, scenes: Tensor) -> Tensor:
        """(N, 1, H, W) radiance as the scene monitor really shows it: 8 bit, its gamma, its black."""
        shown: Tensor = self.twin.through_monitor(scenes)
        return shown

    def frames(self, shown: Tensor, mask: Tensor, *, draws: Any = None) -> Tensor:
        """(N, 1, H, W) shown scenes through (H, W) transmittance to (N, 1, h, w) DN, with gradients in the mask."""
        psf = self.twin.psf(mask)
        exposure_s = self.twin.white_exposure_s(psf.sum(), self.fill)
        frames: Tensor = self.twin.sensor.expose(self.twin.irradiance(shown, psf), exposure_s=exposure_s, draws=draws)
        return frames

    @torch.no_grad()
    def psf(self, mask: Tensor) -> Tensor:
        """(h, w) shadow of (H, W) transmittance in fully open sensor pixels, after panel and optics."""
        shadow: Tensor = self.twin.psf(mask)
        return shadow

    @torch.no_grad()
    def all_frames(self, shown: Tensor, mask: Tensor, *, draws: Any = None) -> Tensor:
        """`frames` in chunks, without gradients."""
        parts = [self.frames(shown[i : i + CHUNK], mask, draws=draws) for i in range(0, len(shown), CHUNK)]
        return torch.cat(parts)
