"""A mask that is another one for every frame, drawn from a distribution that is learned.

Who does not know the pattern of a frame can only count on the mean of all patterns. Of scene frequency f, the mean
passes |P(f)|^2, P the transform of the probabilities p, and what differs from pattern to pattern passes sum p (1 - p)
at every frequency but 0: the same scene as noise that no averaging over pixels and no better camera takes away. Where
the first falls below the second, detail is gone for everybody who is not told the pattern, the recogniser included.
So p decides which frequencies can be recognised, and learning finds it.
"""

from __future__ import annotations

from typing import Annotated, ClassVar, Literal

import numpy as np
import torch
from annotated_types import Ge, Gt, Le
from torch import Tensor, nn

from labctl.frames.record import Privacy
from sim.designs.base import CameraDesign, DesignSettings, check_mask_shape
from sim.designs.learned import SOFT_EDGE_CELLS, START_NOISE
from sim.designs.masks import centre_distance


class Dynamic(DesignSettings):
    """Every frame has a pattern of its own: each cell is open with a learned chance, the number of open cells stays.

    One number theta is learned per cell; the chance is likeliest sigmoid(slope theta). The recogniser is never told
    the pattern. All patterns open the same number of cells, to within one, so that frames of one exposure are equally
    bright and their brightness tells nothing of the pattern.
    """

    learnable: ClassVar[bool] = True

    raw_frames: ClassVar[Privacy] = "optical"

    type: Literal["dynamic"] = "dynamic"

    likeliest: Annotated[float, Gt(0), Le(1)] = 0.5
    """The highest chance that any cell may have to be open. Below 1 it keeps patterns apart: learning for accuracy
    alone would make them all the same, and one static mask is soon measured. 1 allows that."""

    shift_cells: Annotated[int, Ge(0), Le(1024)] = 0
    """Every pattern is shifted by a random number of cells up to this along rows and columns, cyclically. It hides the
    place of the scene, not its detail."""

    start: Literal["blob", "even"] = "blob"
    """Chances to start from: highest in a blob at the centre, or all about half of `likeliest`."""

    start_radius_cells: Annotated[float, Gt(0), Le(4096)] = 4.0
    """Radius of the blob."""

    slope: Annotated[float, Gt(0), Le(100)] = 6.0

    rate: Annotated[float, Gt(0), Le(1)] = 0.03
    """Learning rate of theta."""

    move_from: Annotated[float, Ge(0), Le(1)] = 0.0
    """Share of the training before which the chances stand still."""

    freeze_from: Annotated[float, Ge(0), Le(1)] = 0.75
    """Share of the training after which they stand still while the network goes on; 0 keeps them at their start.
    Patterns are drawn anew all the same."""

    def build(self, mask_shape: tuple[int, int], seed: int) -> CameraDesign:
        """See `DesignSettings.build`. Patterns are not decided by the seed but by the generator they are drawn from."""
        check_mask_shape(mask_shape)
        theta = START_NOISE * np.random.default_rng(seed).standard_normal(mask_shape)
        if self.start == "blob":
            theta = theta + (self.start_radius_cells - centre_distance(mask_shape)) / SOFT_EDGE_CELLS
        return DynamicMask(torch.from_numpy(theta).float().clamp(-1, 1), self)


class DynamicMask(CameraDesign):
    """See `Dynamic`. theta: (H, W), kept within -1..1, where the sigmoid still has a slope."""

    learnable = True
    dynamic = True

    def __init__(self, theta: Tensor, settings: Dynamic) -> None:
        super().__init__()
        self.theta = nn.Parameter(theta)
        self.of, self.rate = settings, settings.rate

    def chances(self) -> Tensor:
        """(H, W) chance of every cell to be open, before any shift; with gradients."""
        with torch.no_grad():
            self.theta.clamp_(-1, 1)
        return self.of.likeliest * torch.sigmoid(self.of.slope * self.theta)

    def mask(self) -> Tensor:
        """(H, W) the likeliest of all patterns that open as many cells as patterns do; see `CameraDesign.mask`."""
        chances = self.chances()
        flat = chances.detach().flatten()
        likeliest = torch.argsort(flat, descending=True, stable=True)[: max(1, round(float(flat.sum())))]
        cells = torch.zeros_like(flat)
        cells[likeliest] = 1.0
        return _valued(cells.reshape(chances.shape), chances)

    def draw(self, n: int, generator: torch.Generator) -> Tensor:
        """(n, H, W) patterns of 0 and 1; see `CameraDesign.draw`. The slope is that of their mean, the chances."""
        chances = self.chances()
        cells = drawn_cells(chances.detach().cpu(), n, generator).to(chances)
        soft = chances.expand(n, *chances.shape)
        most = self.of.shift_cells
        if most:
            shifts = torch.randint(-most, most + 1, (n, 2), generator=generator)
            cells, soft = _rolled(cells, shifts), _rolled(soft, shifts)
        return _valued(cells, soft)

    def anneal(self, progress: float) -> None:
        """Lets theta move while `progress` is within `move_from`..`freeze_from`."""
        self.theta.requires_grad_(self.of.move_from <= progress < self.of.freeze_from)


def drawn_cells(chances: Tensor, n: int, generator: torch.Generator) -> Tensor:
    """(n, H, W) of 0 and 1: each cell is 1 with exactly its chance (H, W), 0..1, and all sums lie next to theirs.

    Systematic sampling: the cells are laid in a random order on a line, each as long as its chance, and those are open
    on which a comb of unit pitch falls, which starts at random. [Madow 1949]
    """
    line = chances.detach().double().flatten()
    order = torch.rand(n, line.numel(), generator=generator, dtype=torch.float64).argsort(dim=1)
    start = torch.rand(n, 1, generator=generator, dtype=torch.float64)
    ends = torch.floor(torch.cat((start, start + line[order].cumsum(dim=1)), dim=1))
    cells = torch.zeros_like(order, dtype=torch.float64).scatter(1, order, ends.diff(dim=1))
    return cells.reshape(n, *chances.shape)


def _rolled(patterns: Tensor, shifts: Tensor) -> Tensor:
    """Patterns (n, H, W), each shifted cyclically by its row of (n, 2)."""
    n, height, width = patterns.shape
    rows = (torch.arange(height) - shifts[:, :1]) % height
    columns = (torch.arange(width) - shifts[:, 1:]) % width
    place = (rows[:, :, None] * width + columns[:, None, :]).reshape(n, -1).to(patterns.device)
    return patterns.reshape(n, -1).gather(1, place).reshape(patterns.shape)


def _valued(value: Tensor, slope: Tensor) -> Tensor:
    """`value` to the last bit, with the slope of `slope`."""
    return value + (slope - slope.detach())
