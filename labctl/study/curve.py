"""Accuracy against blurriness: a psychometric function, fitted by maximum likelihood."""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
import numpy.typing as npt

FloatArray = npt.NDArray[np.float64]

MOST_LAPSES = 0.06
"""Upper limit of the share of answers that miss though the frame is clear. [Wichmann and Hill 2001]"""

FEWEST_ANSWERS = 20
NARROWEST = 0.02
"""Blurriness must span this much, or a curve against it means nothing."""

STEEPEST = 60.0
"""Limit of the slope in units of 1/span: steeper than that is a step between two measured values."""


@dataclass(frozen=True)
class Curve:
    """P(right) = chance + (1 - chance - lapse) / (1 + exp(slope (blurriness - middle))).

    slope > 0: right answers become fewer with blur.
    """

    chance: float
    lapse: float
    middle: float
    """Blurriness half-way between the best and chance."""

    slope: float

    def __call__(self, blurriness: npt.ArrayLike) -> FloatArray:
        """P(right), 0..1, at each blurriness."""
        x = np.asarray(blurriness, dtype=np.float64)
        share = 0.5 * (1 - np.tanh(0.5 * self.slope * (x - self.middle)))
        return np.asarray(self.chance + (1 - self.chance - self.lapse) * share, dtype=np.float64)


def fit_curve(
    blurriness: FloatArray, correct: npt.NDArray[np.bool_], chance: float, *, near: Curve | None = None
) -> Curve:
    """The likeliest curve. blurriness: (n,) of finite values that span more than nothing; correct: (n,); chance: 1/K.

    near: where to look for it; without, all over. The slope may take either sign: that blur hurts is a finding, not an
    assumption.
    """
    from scipy.optimize import minimize

    low, high = float(blurriness.min()), float(blurriness.max())
    span = high - low
    x = (blurriness - low) / span
    right = correct.astype(np.float64)

    def loss(p: FloatArray) -> tuple[float, FloatArray]:
        middle, slope, lapse = p
        share = 0.5 * (1 - np.tanh(0.5 * slope * (x - middle)))
        room = 1 - chance - lapse
        hit = np.clip(chance + room * share, 1e-9, 1 - 1e-9)
        by_hit = (1 - right) / (1 - hit) - right / hit
        bend = room * share * (1 - share)
        gradient = [bend * slope, -bend * (x - middle), -share]
        value = -float(np.sum(right * np.log(hit) + (1 - right) * np.log(1 - hit)))
        return value, np.array([float(np.sum(by_hit * part)) for part in gradient])

    limits = [(-1.0, 2.0), (-STEEPEST, STEEPEST), (0.0, MOST_LAPSES)]
    starts = [(middle, slope, 0.01) for middle in (0.3, 0.7) for slope in (8.0, -4.0)]
    if near is not None:
        starts = [((near.middle - low) / span, near.slope * span, near.lapse)]
    fits = [minimize(loss, np.array(start), jac=True, method="L-BFGS-B", bounds=limits) for start in starts]
    middle, slope, lapse = min(fits, key=lambda fit: float(fit.fun)).x
    return Curve(chance, float(lapse), low + span * float(middle), float(slope) / span)


def why_no_curve(blurriness: FloatArray, correct: npt.NDArray[np.bool_]) -> str | None:
    """Why nothing can be fitted, in words; None when it can be. blurriness: NaN where it is unknown."""
    known = blurriness[~np.isnan(blurriness)]
    if len(known) < len(blurriness):
        return f"{len(blurriness) - len(known)} of {len(blurriness)} answers have no blurriness (frames too small)"
    if len(known) < FEWEST_ANSWERS:
        return f"there are {len(known)} answers; at least {FEWEST_ANSWERS} are needed"
    if np.ptp(known) < NARROWEST:
        return f"blurriness spans {np.ptp(known):.3f} only; ask for designs that blur differently"
    if correct.all() or not correct.any():
        return f"{'all' if correct.all() else 'none'} of the answers are right, so blur changed nothing"
    return None
