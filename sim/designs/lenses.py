"""Lenses as designs: what a camera with ordinary optics would see, with all the light that the mask area lets in."""

from __future__ import annotations

from typing import Annotated, ClassVar, Literal

import numpy as np
import numpy.typing as npt
from annotated_types import Gt, Le

from labctl.errors import BadInput
from labctl.frames.record import Privacy
from sim.designs.base import CameraDesign, DesignSettings, check_mask_shape
from sim.designs.masks import FixedMask

SUB_CELLS = 16
"""Samples along one side of a cell, over which the edge of a blur disc is averaged."""

Share = Annotated[float, Gt(0), Le(1)]


class Weights(FixedMask):
    """Weights (H, W) of 0 or more, in units of one fully open cell; no panel can show them."""

    on_panel = False


class Lens(DesignSettings):
    """A lens in focus, in the place of the mask: all its light falls where that of the pinhole would.

    Its frames are those of `pinhole`, as many times brighter as the mask has cells. No panel can show it.
    """

    raw_frames: ClassVar[Privacy] = "none"

    type: Literal["lens"] = "lens"

    aperture: Share = 1.0
    """Area of the lens as a share of the area of the mask."""

    def build(self, mask_shape: tuple[int, int], seed: int) -> CameraDesign:
        """See `DesignSettings.build`."""
        check_mask_shape(mask_shape)
        return Weights(focused(mask_shape, self.aperture))


class DefocusedLens(DesignSettings):
    """A round lens out of focus: the light of a point is spread evenly over a disc. [Pittaluga and Koppal 2015]

    The disc stands where `lens` puts its point; below one cell it is that point. No panel can show it.
    """

    raw_frames: ClassVar[Privacy] = "optical"

    type: Literal["defocused_lens"] = "defocused_lens"

    blur_cells: Annotated[float, Gt(0), Le(4096)] = 8.0
    """Diameter of the blur disc, in mask cells; see `sim.optics.lens.blur_circle_m`."""

    aperture: Share = 1.0
    """Area of the lens as a share of the area of the mask."""

    def build(self, mask_shape: tuple[int, int], seed: int) -> CameraDesign:
        """See `DesignSettings.build`. Raises BadInput when the disc reaches beyond the mask."""
        check_mask_shape(mask_shape)
        widest = min(n if n % 2 else n - 1 for n in mask_shape)
        if self.blur_cells > widest:
            raise BadInput(
                f"blur_cells is {self.blur_cells:g}: the disc would reach beyond {mask_shape[0]}x{mask_shape[1]} mask "
                f"cells, which hold {widest}; use less defocus or more cells"
            )
        y, x = ((np.arange(n * SUB_CELLS) + 0.5) / SUB_CELLS - (n // 2 + 0.5) for n in mask_shape)
        inside = np.hypot(y[:, None], x) <= self.blur_cells / 2
        disc = inside.reshape(mask_shape[0], SUB_CELLS, mask_shape[1], SUB_CELLS).mean(axis=(1, 3))
        if not disc.any():
            return Weights(focused(mask_shape, self.aperture))
        return Weights(disc * (self.aperture * disc.size / disc.sum()))


def focused(mask_shape: tuple[int, int], aperture: float) -> npt.NDArray[np.float64]:
    """(H, W) all light of the share `aperture` of the mask in the cell that `pinhole` opens."""
    weights = np.zeros(mask_shape)
    weights[mask_shape[0] // 2, mask_shape[1] // 2] = aperture * weights.size
    return weights
