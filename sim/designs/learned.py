"""A mask learned cell by cell.

Start, slope and rate are those that worked in our experiments: a blob at a small rate ends compact and sharp, a start
from noise or a high rate flips cells at random.
"""

from __future__ import annotations

from typing import Annotated, ClassVar, Literal

import numpy as np
import torch
from annotated_types import Ge, Gt, Le
from torch import Tensor, nn

from sim.designs.base import CameraDesign, DesignSettings, check_mask_shape
from sim.designs.masks import centre_distance

START_NOISE = 0.05
"""Standard deviation of the random part of every start, in units of theta."""

SOFT_EDGE_CELLS = 4.0
"""How far outside the blob theta falls from 0 to -1."""


class Learned(DesignSettings):
    """A mask with one learned number theta per cell, and transmittance sigmoid(slope theta)."""

    learnable: ClassVar[bool] = True

    type: Literal["learned"] = "learned"

    binary: bool = True
    """Cells are open or closed: hard forward, the slope of the sigmoid backward. Else the sigmoid itself is shown."""

    start: Literal["blob", "noise", "closed"] = "blob"
    start_radius_cells: Annotated[float, Gt(0), Le(4096)] = 4.0
    """Radius of the blob."""

    slope: Annotated[float, Gt(0), Le(100)] = 4.0
    rate: Annotated[float, Gt(0), Le(1)] = 0.03
    """Learning rate of theta."""

    freeze_from: Annotated[float, Ge(0), Le(1)] = 0.75
    """Share of the training after which the mask stands still while the network goes on."""

    def build(self, mask_shape: tuple[int, int], seed: int) -> CameraDesign:
        """See `DesignSettings.build`."""
        check_mask_shape(mask_shape)
        noise = START_NOISE * np.random.default_rng(seed).standard_normal(mask_shape)
        if self.start == "blob":
            theta = (self.start_radius_cells - centre_distance(mask_shape)) / SOFT_EDGE_CELLS + noise
        else:
            theta = noise - (0.3 if self.start == "closed" else 0.0)
        return LearnedMask(torch.from_numpy(theta).float().clamp(-1, 1), self)


class LearnedMask(CameraDesign):
    """See `Learned`. theta: (H, W), kept within -1..1, where the sigmoid still has a slope."""

    learnable = True

    def __init__(self, theta: Tensor, learned: Learned) -> None:
        super().__init__()
        self.theta = nn.Parameter(theta)
        self.learned = learned
        self.rate = learned.rate

    def mask(self) -> Tensor:
        """See `CameraDesign.mask`."""
        with torch.no_grad():
            self.theta.clamp_(-1, 1)
        soft = torch.sigmoid(self.learned.slope * self.theta)
        if not self.learned.binary:
            return soft
        return soft + ((soft > 0.5).to(soft.dtype) - soft).detach()

    def anneal(self, progress: float) -> None:
        """Freezes theta once `progress` reaches `freeze_from`, and frees it before."""
        self.theta.requires_grad_(progress < self.learned.freeze_from)
