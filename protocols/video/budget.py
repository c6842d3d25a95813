"""How long somebody may learn from clips who was not there when the camera was made."""

from __future__ import annotations

from typing import Annotated

from annotated_types import Ge, Gt, Le, Lt

from labctl.frozen import Frozen


class ClipBudget(Frozen):
    """How a fresh network learns from encoded clips, for the task or against it: the same effort for both.

    It learns in cycles, each twice as long as the one before, each from the peak rate down to nothing. A cycle that
    does not better the validation loss ends the training: it has converged. Where the budget ends it first, that is
    said beside the result, which is then a lower bound.
    """

    epochs: Annotated[int, Ge(1), Le(10_000)] = 56
    """In all cycles together; the last one is cut where it would not fit."""

    first_cycle: Annotated[int, Ge(1), Le(10_000)] = 8
    """Epochs of the first cycle."""

    patience: Annotated[int, Ge(1), Le(100)] = 1
    """Cycles without a better validation loss that end the training."""

    rate: Annotated[float, Gt(0), Le(1)] = 3e-3
    """Peak learning rate of every cycle."""

    weight_decay: Annotated[float, Ge(0), Le(1)] = 1e-2
    batch: Annotated[int, Ge(2), Le(4096)] = 16
    """Clips."""

    label_smoothing: Annotated[float, Ge(0), Lt(1)] = 0.05

    shift_px: Annotated[int, Ge(0), Le(16)] = 2
    """Training clips are shifted at random by up to so many pixels, all frames of a clip alike."""

    frames_per_clip: Annotated[int, Ge(1), Le(64)] = 3
    """Random frames of each clip that a network of single frames learns from in a step."""
