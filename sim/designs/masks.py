"""Fixed masks: pinhole, disc, open, random. The baselines of every table."""

from __future__ import annotations

from typing import Annotated, ClassVar, Literal, Self

import numpy as np
import numpy.typing as npt
import torch
from annotated_types import Gt, Le, Lt
from pydantic import model_validator
from torch import Tensor

from labctl.errors import BadInput
from labctl.frames.record import Privacy
from sim.designs.base import CameraDesign, DesignSettings, check_mask_shape


class FixedMask(CameraDesign):
    """A mask (H, W), 0..1, with nothing to learn."""

    cells: Tensor

    def __init__(self, cells: npt.NDArray[np.floating] | npt.NDArray[np.bool_]) -> None:
        super().__init__()
        self.register_buffer("cells", torch.from_numpy(np.asarray(cells, dtype=np.float32)))

    def mask(self) -> Tensor:
        """See `CameraDesign.mask`."""
        return self.cells


class Pinhole(DesignSettings):
    """One open cell at the centre; of an even number of cells, the one after the middle. Its frames are pictures."""

    raw_frames: ClassVar[Privacy] = "none"

    type: Literal["pinhole"] = "pinhole"

    def build(self, mask_shape: tuple[int, int], seed: int) -> CameraDesign:
        """See `DesignSettings.build`."""
        check_mask_shape(mask_shape)
        cells = np.zeros(mask_shape)
        cells[mask_shape[0] // 2, mask_shape[1] // 2] = 1.0
        return FixedMask(cells)


class Disc(DesignSettings):
    """A round hole at the centre, by radius or by open fraction."""

    raw_frames: ClassVar[Privacy] = "optical"

    type: Literal["disc"] = "disc"

    radius_cells: Annotated[float, Gt(0), Le(4096)] | None = None
    """Radius in mask cells; 4 when neither is given."""

    open_fraction: Annotated[float, Gt(0), Le(1)] | None = None
    """Share of the cells that is open, the nearest to the centre first."""

    @model_validator(mode="after")
    def _one_of_both(self) -> Self:
        if self.radius_cells is not None and self.open_fraction is not None:
            raise ValueError("give radius_cells or open_fraction, not both")
        return self

    def build(self, mask_shape: tuple[int, int], seed: int) -> CameraDesign:
        """See `DesignSettings.build`. Raises BadInput when not a single cell would be open."""
        check_mask_shape(mask_shape)
        radius = centre_distance(mask_shape)
        if self.open_fraction is None:
            limit = self.radius_cells or 4.0
            cells = radius <= limit
        else:
            count = max(1, round(self.open_fraction * radius.size))
            limit = float(np.sort(radius, axis=None)[count - 1])
            cells = np.zeros(radius.size, dtype=bool)
            cells[np.argsort(radius, axis=None, kind="stable")[:count]] = True
            cells = cells.reshape(mask_shape)
        if not cells.any():
            raise BadInput(f"a disc of radius {limit:.3g} cells opens no cell; use radius_cells of 0.75 or more")
        return FixedMask(cells)


class Open(DesignSettings):
    """Every cell open."""

    raw_frames: ClassVar[Privacy] = "optical"

    type: Literal["open"] = "open"

    def build(self, mask_shape: tuple[int, int], seed: int) -> CameraDesign:
        """See `DesignSettings.build`."""
        check_mask_shape(mask_shape)
        return FixedMask(np.ones(mask_shape))


class Random(DesignSettings):
    """Cells open at random, in exactly the given share."""

    raw_frames: ClassVar[Privacy] = "optical"

    type: Literal["random"] = "random"
    open_fraction: Annotated[float, Gt(0), Lt(1)] = 0.5

    def build(self, mask_shape: tuple[int, int], seed: int) -> CameraDesign:
        """See `DesignSettings.build`."""
        check_mask_shape(mask_shape)
        count = mask_shape[0] * mask_shape[1]
        cells = np.zeros(count)
        cells[np.random.default_rng(seed).permutation(count)[: max(1, round(self.open_fraction * count))]] = 1.0
        return FixedMask(cells.reshape(mask_shape))


def centre_distance(mask_shape: tuple[int, int]) -> npt.NDArray[np.float64]:
    """(H, W) distance of every cell from the centre of the mask, in cells."""
    y, x = np.ogrid[: mask_shape[0], : mask_shape[1]]
    return np.hypot(y - (mask_shape[0] - 1) / 2, x - (mask_shape[1] - 1) / 2)
