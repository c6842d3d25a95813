"""Does the light keep still while a ladder of exposures is taken? A ladder that goes up and down again tells."""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
import numpy.typing as npt


@dataclass(frozen=True)
class Drift:
    """Relative change of the light over the whole ladder, and its standard error."""

    change: float
    error: float

    @property
    def sure(self) -> bool:
        """Whether it stands three standard errors from none."""
        return abs(self.change) > 3 * self.error


def drift_of(
    time_s: npt.ArrayLike, rung: npt.ArrayLike, rate: npt.ArrayLike, rate_error: npt.ArrayLike
) -> Drift | None:
    """Drift from visits of rungs: (n,) when, which rung, signal per second and its error.

    Straight line through the logarithms of the rates, every rung with a level of its own: that the sensor may not be
    linear does not count as drift. None when no rung was visited twice.
    """
    when, level = np.asarray(time_s, dtype=np.float64), np.asarray(rung)
    value, sigma = np.asarray(rate, dtype=np.float64), np.asarray(rate_error, dtype=np.float64)
    seen = (value > 3 * sigma) & (sigma > 0)
    top = bottom = 0.0
    for each in np.unique(level[seen]):
        mine = seen & (level == each)
        weight = (value[mine] / sigma[mine]) ** 2
        since = when[mine] - np.average(when[mine], weights=weight)
        top += float((weight * since * np.log(value[mine])).sum())
        bottom += float((weight * since**2).sum())
    if bottom == 0:
        return None
    span = float(when.max() - when.min())
    return Drift(change=float(np.expm1(top / bottom * span)), error=span / bottom**0.5)
