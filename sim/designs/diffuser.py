"""A smooth diffuser in the place of the mask: a caustic that loses none of the light that reaches it."""

from __future__ import annotations

from typing import Annotated, ClassVar, Literal

import numpy as np
import torch
from annotated_types import Gt, Le
from scipy.ndimage import gaussian_filter

from labctl.errors import BadInput
from labctl.frames.record import Privacy
from sim.designs.base import CameraDesign, DesignSettings, check_mask_shape
from sim.designs.lenses import Weights
from sim.optics.caustic import caustic

RAYS_PER_CELL = 8
"""Rays along one side of a cell; more move no digit that is seen."""


class Diffuser(DesignSettings):
    """A smooth random phase surface that bends light without taking any: a surrogate of the phase masks of DiffuserCam.

    Rays of a point are refracted by the surface and land on the sensor as a caustic, computed geometrically; see
    `sim.optics.caustic`. The surface ends `bend_cells` before the edge of the mask, so that all its light lands within.
    No panel can show it. [Antipa et al. 2018]
    """

    raw_frames: ClassVar[Privacy] = "optical"

    type: Literal["diffuser"] = "diffuser"

    smooth_cells: Annotated[float, Gt(0), Le(1024)] = 2.0
    """Sigma of the Gaussian that smooths white noise into the surface, in mask cells."""

    bend_cells: Annotated[float, Gt(0), Le(1024)] = 3.0
    """How far the most bent ray lands from where it would have landed, along rows or columns, in mask cells."""

    def build(self, mask_shape: tuple[int, int], seed: int) -> CameraDesign:
        """See `DesignSettings.build`. Raises BadInput when bent light would not leave room for the surface."""
        check_mask_shape(mask_shape)
        room = int(np.ceil(self.bend_cells))
        inner = (mask_shape[0] - 2 * room, mask_shape[1] - 2 * room)
        if min(inner) < 2:
            raise BadInput(
                f"bend_cells is {self.bend_cells:g}: on {mask_shape[0]}x{mask_shape[1]} mask cells no surface is left "
                f"whose light lands within; use {max(0, (min(mask_shape) - 2) // 2)} or less"
            )
        noise = np.random.default_rng(seed).standard_normal([n * RAYS_PER_CELL for n in inner])
        smooth = gaussian_filter(noise, self.smooth_cells * RAYS_PER_CELL, mode="reflect")
        steepest = max(float(np.abs(slope).max()) for slope in np.gradient(smooth, 1 / RAYS_PER_CELL))
        surface = torch.from_numpy(smooth * (self.bend_cells / steepest))
        return Weights(caustic(surface, rays_per_cell=RAYS_PER_CELL, room_cells=room).numpy())
