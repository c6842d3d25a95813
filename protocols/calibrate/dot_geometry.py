"""How a grid of openings lies on the sensor: shift, rotation, scale; tilt and distortion where dots ask for them."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Literal

import numpy as np
import numpy.typing as npt

Array = npt.NDArray[np.float64]
Mask = npt.NDArray[np.bool_]
Extra = Literal["tilt", "distortion"]

OUTLIER_SIGMA = 5.0
ROUNDS = 6

ASKED_FOR = {"tilt": 18.0, "distortion": 15.0}
"""How much chi squared must fall before an extra term is kept: chance does so in one of some thousand sets of dots."""

NAMES = ("shift_row", "shift_column", "rotation_rad", "scale", "source_pitch", "tilt_row", "tilt_column", "distortion")


@dataclass(frozen=True)
class Plane:
    """Lengths in sensor pixels: from the mask to the point source and to the sensor, and to a corner of the mask."""

    distance_px: float
    gap_px: float
    radius_px: float


@dataclass(frozen=True)
class Geometry:
    """Where openings fall: sensor = shift + scale R(rotation) bent(nominal) + source_pitch * source * grown(nominal).

    shift_px (2,), sensor pixels. source: of the point source that casts the dots, in scene pixels from the centre.
    tilt_rad (2,): from its middle, the gap between mask and sensor grows by the tilt along rows and along columns, so
    bent = nominal / (1 - tilt . nominal / distance) and grown = 1 + tilt . nominal / gap, to first order.
    distortion: bent = nominal (1 + distortion r^2), r = 1 at `plane.radius_px`.
    covariance: (8, 8) in the order of NAMES, zero for what was not fitted.
    """

    shift_px: Array
    rotation_rad: float
    scale: float
    source_pitch_px: float
    tilt_rad: Array
    distortion: float
    plane: Plane
    covariance: Array
    kept: tuple[Extra, ...]
    extra_error: dict[str, Array]
    """Errors of tilt (2,) and distortion (1,) where they were tried and not kept."""

    residual: Array
    """(n, 2) seen less fitted, sensor pixels."""

    used: Mask
    chi2: float
    """Per degree of freedom. Errors are already scaled by its root where it is above one."""

    def error(self, name: str) -> float:
        """Standard deviation of a parameter of NAMES."""
        at = NAMES.index(name)
        return float(np.sqrt(self.covariance[at, at]))

    def place(self, nominal: Array, source: Array | None = None) -> Array:
        """(n, 2) sensor pixels of openings at `nominal` (n, 2), lit from `source` (n, 2)."""
        values = np.array(
            [
                *self.shift_px,
                self.rotation_rad,
                self.scale,
                self.source_pitch_px,
                *self.tilt_rad,
                self.distortion,
            ]
        )
        return _placed(values, nominal, np.zeros_like(nominal) if source is None else source, self.plane)


def fit_geometry(
    nominal: Array,
    source: Array,
    seen: Array,
    error: Array,
    *,
    source_pitch_px: float,
    plane: Plane,
    extras: Sequence[Extra] = ("tilt", "distortion"),
) -> Geometry:
    """The geometry that puts openings at `nominal` (n, 2) px, lit from `source` (n, 2) scene px, where they were seen.

    seen, error: (n, 2) sensor pixels. source_pitch_px: expected image of one scene pixel; fitted where the sources
    differ. Weighted least squares; dots that lie five standard deviations off are left out. extras: terms to try, kept
    only where chi squared falls by much.
    """
    moves = bool(np.ptp(source, axis=0).max(initial=0.0) > 0)
    free = [0, 1, 2, 3, *([4] if moves else [])]
    start = np.array([0, 0, 0, 1, source_pitch_px, 0, 0, 0], dtype=np.float64)
    start[:2] = np.median(seen - nominal - source_pitch_px * source, axis=0)
    used = np.ones(len(seen), dtype=bool)
    kept: list[Extra] = []
    extra_error: dict[str, Array] = {}

    def solve(columns: list[int]) -> tuple[Array, Array, float, Mask]:
        return _robust(start, columns, nominal, source, seen, error, plane, used)

    values, covariance, chi2, used = solve(free)
    of_extra = {"tilt": [5, 6], "distortion": [7]}
    for name in extras:
        wider = [*free, *of_extra[name]]
        if 2 * len(seen) < 3 * len(wider):
            continue
        more, wide_covariance, less, wide_used = solve(wider)
        scale = max(1.0, less / max(1, 2 * int(wide_used.sum()) - len(wider)))
        same = _chi2(values, nominal, source, seen, error, plane, wide_used)
        if (same - less) / scale > ASKED_FOR[name]:
            kept.append(name)
            free, values, covariance, chi2, used = wider, more, wide_covariance, less, wide_used
        else:
            rows = of_extra[name]
            extra_error[name] = np.sqrt(np.diag(wide_covariance)[rows])
    freedom = max(1, 2 * int(used.sum()) - len(free))
    return Geometry(
        shift_px=values[:2],
        rotation_rad=float(values[2]),
        scale=float(values[3]),
        source_pitch_px=float(values[4]),
        tilt_rad=values[5:7],
        distortion=float(values[7]),
        plane=plane,
        covariance=covariance,
        kept=tuple(kept),
        extra_error=extra_error,
        residual=seen - _placed(values, nominal, source, plane),
        used=used,
        chi2=chi2 / freedom,
    )


def _robust(
    start: Array,
    free: list[int],
    nominal: Array,
    source: Array,
    seen: Array,
    error: Array,
    plane: Plane,
    used: Mask,
) -> tuple[Array, Array, float, Mask]:
    """Values (8,), covariance (8, 8), chi squared, and the dots that count, with outliers left out again and again."""
    from scipy.optimize import least_squares

    values = start.copy()
    for _ in range(ROUNDS):

        def misses(part: Array, used: Mask = used) -> Array:
            whole = values.copy()
            whole[free] = part
            return np.asarray(((seen - _placed(whole, nominal, source, plane)) / error)[used].ravel())

        found = least_squares(misses, values[free], x_scale="jac", method="trf")
        values[free] = found.x
        off = np.abs((seen - _placed(values, nominal, source, plane)) / error).max(axis=1)
        typical = max(1.0, float(np.median(off[used])) / 0.95)
        now = off < OUTLIER_SIGMA * typical
        if (now == used).all():
            break
        used = now
    chi2 = _chi2(values, nominal, source, seen, error, plane, used)
    freedom = max(1, 2 * int(used.sum()) - len(free))
    covariance = np.zeros((8, 8))
    covariance[np.ix_(free, free)] = np.linalg.pinv(found.jac.T @ found.jac) * max(1.0, chi2 / freedom)
    return values, covariance, chi2, used


def _placed(values: Array, nominal: Array, source: Array, plane: Plane) -> Array:
    r2 = (nominal**2).sum(axis=1, keepdims=True) / plane.radius_px**2
    rise = (nominal @ values[5:7])[:, None]
    bent = nominal * (1 + values[7] * r2) / (1 - rise / plane.distance_px)
    cos, sin = np.cos(values[2]), np.sin(values[2])
    turned = np.stack([cos * bent[:, 0] - sin * bent[:, 1], sin * bent[:, 0] + cos * bent[:, 1]], axis=1)
    return np.asarray(values[:2] + values[3] * turned + values[4] * source * (1 + rise / plane.gap_px))


def _chi2(values: Array, nominal: Array, source: Array, seen: Array, error: Array, plane: Plane, used: Mask) -> float:
    return float((((seen - _placed(values, nominal, source, plane)) / error)[used] ** 2).sum())
