"""A mask learned cell by cell.

Start, slope and rate are those that worked in our experiments: a blob at a small rate ends compact and sharp, a start
from noise or a high rate flips cells at random.
"""

from __future__ import annotations

from pathlib import Path
from typing import Annotated, ClassVar, Literal, Self

import numpy as np
import torch
from annotated_types import Ge, Gt, Le
from pydantic import field_validator, model_validator
from torch import Tensor, nn

from labctl.frames.record import Privacy
from sim.designs.base import CameraDesign, DesignSettings, check_mask_shape
from sim.designs.losses import MaskLosses
from sim.designs.mask_file import mask_file_hash, read_mask
from sim.designs.masks import centre_distance
from sim.surrogates import Surrogate, hard_step

START_NOISE = 0.05
"""Standard deviation of the random part of a start that is not a file, in units of theta."""

SOFT_EDGE_CELLS = 4.0
"""How far outside the blob theta falls from 0 to -1."""

FILE_THETA = 0.5
"""Where a cell of a binary start file stands: open or closed for sure, yet near enough to the threshold to move."""

SMALLEST_STEP = 1e-6
"""Distance from the threshold that tells equal cells apart when a number of open cells is enforced."""

Share = Annotated[float, Gt(0), Le(1)]


class Learned(DesignSettings):
    """A mask with one learned number theta per cell, and transmittance sigmoid(slope theta)."""

    learnable: ClassVar[bool] = True

    raw_frames: ClassVar[Privacy] = "optical"

    newer: ClassVar[frozenset[str]] = frozenset({"losses"})
    """As `Step.newer`: at their default they leave content hashes as they were without them."""

    type: Literal["learned"] = "learned"

    binary: bool = True
    """Cells are open or closed: hard forward, the slope of a surrogate backward. Else the sigmoid itself is shown."""

    surrogate: Surrogate = "sigmoid"
    """What stands in for the slope of the hard step: that of sigmoid(slope theta), or 1 (straight-through)."""

    start: Literal["blob", "noise", "closed", "file"] = "blob"
    start_radius_cells: Annotated[float, Gt(0), Le(4096)] = 4.0
    """Radius of the blob."""

    start_file: Path | None = None
    """With `start: file`: transmittance of every cell, as .npy (H, W) 0..1 or as a grey picture of H x W pixels. A grey
    mask can hold sigmoid(-slope)..sigmoid(slope); what lies beyond is taken to its end."""

    slope: Annotated[float, Gt(0), Le(100)] = 4.0
    slope_end: Annotated[float, Gt(0), Le(1000)] | None = None
    """Anneal the slope geometrically to this value, reached when the mask is frozen; None keeps `slope`."""

    rate: Annotated[float, Gt(0), Le(1)] = 0.03
    """Learning rate of theta."""

    move_from: Annotated[float, Ge(0), Le(1)] = 0.0
    """Share of the training before which the mask stands still, so that a network that knows nothing cannot push it.
    With little light, moving at once opens the mask too far."""

    freeze_from: Annotated[float, Ge(0), Le(1)] = 0.75
    """Share of the training after which the mask stands still while the network goes on; 0 keeps it at its start."""

    open_fraction: Share | tuple[Annotated[float, Ge(0), Le(1)], Share] | None = None
    """Mean transmittance that the mask must keep: exactly so much, or [least, most]. None leaves it free."""

    losses: MaskLosses = MaskLosses()
    """What is asked of this mask besides recognition; goes before the `losses` of the step that trains it."""

    @model_validator(mode="after")
    def _start_and_file_agree(self) -> Self:
        if (self.start == "file") != (self.start_file is not None):
            raise ValueError("`start: file` and `start_file: PATH` go together; give both or neither")
        return self

    @model_validator(mode="after")
    def _there_is_time_to_move(self) -> Self:
        if self.freeze_from > 0 and self.move_from >= self.freeze_from:
            raise ValueError(
                f"move_from is {self.move_from:g}, freeze_from {self.freeze_from:g}: the mask would never move; "
                "let it move before it is frozen, or set freeze_from: 0 to keep it at its start"
            )
        return self

    @field_validator("open_fraction")
    @classmethod
    def _fractions_are_in_order(cls, value: float | tuple[float, float] | None) -> float | tuple[float, float] | None:
        if isinstance(value, tuple) and value[0] > value[1]:
            raise ValueError(f"[{value[0]:g}, {value[1]:g}] is out of order; the first must be the smaller one")
        return value

    def fingerprint(self) -> str:
        """See `DesignSettings.fingerprint`: what the start file holds."""
        return mask_file_hash(self.start_file) if self.start_file else ""

    def build(self, mask_shape: tuple[int, int], seed: int) -> CameraDesign:
        """See `DesignSettings.build`. Raises BadInput for a start file of another grid."""
        check_mask_shape(mask_shape)
        if self.start_file is not None:
            theta = self._theta_of(read_mask(self.start_file, mask_shape))
        else:
            noise = START_NOISE * np.random.default_rng(seed).standard_normal(mask_shape)
            if self.start == "blob":
                theta = (self.start_radius_cells - centre_distance(mask_shape)) / SOFT_EDGE_CELLS + noise
            else:
                theta = noise - (0.3 if self.start == "closed" else 0.0)
        return LearnedMask(torch.from_numpy(theta).float().clamp(-1, 1), self)

    def _theta_of(self, mask: np.ndarray) -> np.ndarray:
        if self.binary:
            return np.where(mask > 0.5, FILE_THETA, -FILE_THETA)
        share = np.clip(mask, 1e-6, 1 - 1e-6)
        return np.log(share / (1 - share)) / self.slope


class LearnedMask(CameraDesign):
    """See `Learned`. theta: (H, W), kept within -1..1, where the sigmoid still has a slope."""

    learnable = True
    steepness: Tensor

    def __init__(self, theta: Tensor, learned: Learned) -> None:
        super().__init__()
        self.theta = nn.Parameter(theta)
        self.register_buffer("steepness", torch.tensor(learned.slope))
        self.learned = learned
        self.rate = learned.rate

    def mask(self) -> Tensor:
        """See `CameraDesign.mask`."""
        learned, steepness = self.learned, float(self.steepness)
        with torch.no_grad():
            self._keep_limits()
        if not learned.binary:
            return torch.sigmoid(steepness * self.theta)
        return hard_step(self.theta, surrogate=learned.surrogate, steepness=steepness)

    def anneal(self, progress: float) -> None:
        """Lets theta move while `progress` is within `move_from`..`freeze_from`, and anneals the slope meanwhile."""
        learned = self.learned
        self.theta.requires_grad_(learned.move_from <= progress < learned.freeze_from)
        if learned.slope_end is not None and learned.freeze_from > 0:
            share = (progress - learned.move_from) / (learned.freeze_from - learned.move_from)
            share = min(max(share, 0.0), 1.0)
            self.steepness.fill_(learned.slope * (learned.slope_end / learned.slope) ** share)

    def _keep_limits(self) -> None:
        """Projects theta: into -1..1, and shifted as a whole until the open fraction is within its limits."""
        self.theta.clamp_(-1, 1)
        wanted = self.learned.open_fraction
        if wanted is None:
            return
        least, most = wanted if isinstance(wanted, tuple) else (wanted, wanted)
        if self.learned.binary:
            count = int((self.theta > 0).sum())
            cells = self.theta.numel()
            kept = min(max(count, min(cells, max(1, round(least * cells)))), max(1, round(most * cells)))
            if kept != count:
                self._open_exactly(kept)
        else:
            self._shift_mean_into(least, most)
        self.theta.clamp_(-1, 1)

    def _open_exactly(self, count: int) -> None:
        """Shift theta so that the `count` largest cells are open; equal ones are taken in reading order."""
        order = torch.argsort(self.theta.flatten(), descending=True, stable=True)
        ranked = self.theta.flatten()[order]
        if count == len(ranked):
            self.theta.add_((SMALLEST_STEP - ranked[-1]).clamp(min=0))
            return
        self.theta.sub_((ranked[count - 1] + ranked[count]) / 2)
        flat = self.theta.view(-1)
        flat[order[:count]] = flat[order[:count]].clamp(min=SMALLEST_STEP)
        flat[order[count:]] = flat[order[count:]].clamp(max=-SMALLEST_STEP)

    def _shift_mean_into(self, least: float, most: float) -> None:
        """Shift theta by bisection until the mean of the sigmoid is within least..most, as far as -1..1 allows."""

        def mean(shift: float) -> float:
            return float(torch.sigmoid(self.steepness * (self.theta + shift).clamp(-1, 1)).mean())

        present = mean(0.0)
        target = min(max(present, least), most)
        if target == present:
            return
        low, high = -2.0, 2.0
        for _ in range(40):
            middle = (low + high) / 2
            low, high = (middle, high) if mean(middle) < target else (low, middle)
        self.theta.add_((low + high) / 2)
