"""Coded apertures from the literature as fixed designs: uniformly redundant arrays and Fresnel zones."""

from __future__ import annotations

import math
from typing import Annotated, ClassVar, Literal

import numpy as np
import numpy.typing as npt
from annotated_types import Ge, Gt, Le

from labctl.errors import BadInput
from labctl.frames.record import Privacy
from sim.designs.base import CameraDesign, DesignSettings, check_mask_shape
from sim.designs.masks import FixedMask

SMALLEST_SIDE = 3
"""The smallest prime for which a square array is no trivial one."""

SUB_CELLS = 8
"""Samples along one side of a cell, over which a zone plate is averaged."""


class Mura(DesignSettings):
    """Modified uniformly redundant array: half open, and its cyclic autocorrelation with its decoder is one peak.

    Its side must be a prime. Where `mask_cells` is none, the largest prime that fits stands in the middle and the rest
    is closed; `outside: cyclic` continues the pattern over the whole mask instead, cut at the edge. Nothing in it is
    random. [Gottesman and Fenimore 1989]
    """

    raw_frames: ClassVar[Privacy] = "optical"

    type: Literal["mura"] = "mura"

    side_cells: Annotated[int, Ge(SMALLEST_SIDE), Le(4096)] | None = None
    """Side of the array, an odd prime; None takes the largest that fits the shorter side of the mask."""

    outside: Literal["closed", "cyclic"] = "closed"
    """What the cells of the mask show that the array does not reach."""

    def build(self, mask_shape: tuple[int, int], seed: int) -> CameraDesign:
        """See `DesignSettings.build`. Raises BadInput when the side is no prime, or no array fits."""
        check_mask_shape(mask_shape)
        shorter = min(mask_shape)
        if shorter < SMALLEST_SIDE:
            raise BadInput(f"mask_cells has a side of {shorter}; an array needs {SMALLEST_SIDE} cells or more")
        side = largest_odd_prime(shorter) if self.side_cells is None else self.side_cells
        if largest_odd_prime(side) != side:
            raise BadInput(f"side_cells is {side}, which is no prime; use {largest_odd_prime(side)}")
        if side > shorter:
            raise BadInput(f"side_cells is {side}, the mask {shorter} along one side; use {largest_odd_prime(shorter)}")
        start = [(n - side) // 2 for n in mask_shape]
        middle = np.roll(mura(side), (side // 2, side // 2), axis=(0, 1))
        rows, columns = (np.arange(n) - first for n, first in zip(mask_shape, start, strict=True))
        cells = middle[np.ix_(rows % side, columns % side)]
        if self.outside == "closed":
            cells = cells * np.outer((rows >= 0) & (rows < side), (columns >= 0) & (columns < side))
        return FixedMask(cells)


class FresnelZone(DesignSettings):
    """Fresnel zone aperture, 1/2 + 1/2 cos(pi r^2 / r1^2): a point's distance from the axis becomes a fringe.

    Every cell has the mean over its area. [Shimano et al. 2018]
    """

    raw_frames: ClassVar[Privacy] = "optical"

    type: Literal["fresnel_zone"] = "fresnel_zone"

    first_zone_cells: Annotated[float, Gt(0), Le(4096)] | None = None
    """Radius r1 of the first zone in mask cells; None takes the smallest whose outermost zones, at the middle of the
    longer side, are still two cells from crest to crest."""

    binary: bool = True
    """Cells are open where more than half of their light would pass. Else the cells are grey."""

    def build(self, mask_shape: tuple[int, int], seed: int) -> CameraDesign:
        """See `DesignSettings.build`. Raises BadInput when the outer zones are finer than the cells."""
        check_mask_shape(mask_shape)
        finest = math.sqrt(max(mask_shape))
        first = finest if self.first_zone_cells is None else self.first_zone_cells
        if first < finest * (1 - 1e-9):
            raise BadInput(
                f"first_zone_cells is {first:g}: at the edge of {mask_shape[0]}x{mask_shape[1]} cells the zones would "
                f"be finer than a cell; use {math.ceil(100 * finest) / 100:g} or more"
            )
        y, x = ((np.arange(n * SUB_CELLS) + 0.5) / SUB_CELLS - n / 2 for n in mask_shape)
        zones = 0.5 + 0.5 * np.cos(np.pi * (y[:, None] ** 2 + x**2) / first**2)
        cells = zones.reshape(mask_shape[0], SUB_CELLS, mask_shape[1], SUB_CELLS).mean(axis=(1, 3))
        return FixedMask(cells > 0.5 if self.binary else cells)


def mura(side: int) -> npt.NDArray[np.float64]:
    """(side, side) square array of 0 and 1 for an odd prime `side`; cell (0, 0) is its centre, which is closed.

    Open are column 0 but for its first cell, and (i, j) with i, j > 0 where i and j are both squares modulo `side` or
    both are none. [Gottesman and Fenimore 1989]
    """
    square = np.zeros(side, dtype=bool)
    square[np.arange(1, side) ** 2 % side] = True
    cells = (square[:, None] == square[None, :]).astype(np.float64)
    cells[:, 0] = 1.0
    cells[0, :] = 0.0
    return cells


def largest_odd_prime(limit: int) -> int:
    """The largest odd prime up to `limit`, which is 3 or more."""
    return next(n for n in range(limit, 2, -1) if n % 2 and all(n % d for d in range(3, math.isqrt(n) + 1, 2)))
