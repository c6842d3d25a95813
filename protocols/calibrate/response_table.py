"""From a few measured levels of a display to its whole response: monotone, with errors, and back to levels."""

from __future__ import annotations

import hashlib
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
import numpy.typing as npt

from labctl.errors import BadInput
from labctl.roads import FULL_LEVEL

Array = npt.NDArray[np.float64]

TABLE_SIZE = 256
ALLOWED_SIGMA = 4.0
"""A fall of the response by more than so many of its standard deviations is no noise."""

LEAST_LEVELS = 4
STEEPNESS_KEPT = 1e-6
"""Share of a straight line that is mixed into a response with flat stretches: a road needs one level for each share."""


@dataclass(frozen=True)
class Response:
    """Response of a display at 256 equally spaced levels.

    table, error: (256,) transmittance or radiance relative to the full level, and its standard deviation: that of the
    measured levels, and in between what interpolation may miss. gamma: of floor + (1 - floor) share^gamma, the best
    such curve, as a summary.
    """

    table: Array
    error: Array
    contrast: float
    contrast_error: float
    gamma: float
    gamma_error: float
    misfit: float
    """Largest distance of `table` from that curve."""


def response_from(
    levels: npt.ArrayLike,
    values: npt.ArrayLike,
    error: npt.ArrayLike | None = None,
    *,
    full_level: float = FULL_LEVEL,
    what: str = "the panel",
) -> Response:
    """The response through measured levels: isotonic regression, then monotone cubic interpolation (PCHIP).

    levels: (n,) rising from 0 to full_level. values: (n,) brightness in any linear unit, at least 0. error: (n,) its
    standard deviation; None for a table that claims to be exact.
    Raises BadInput when the values fall by more than four of their standard deviations, and for too few levels.
    """
    from scipy.interpolate import PchipInterpolator
    from sklearn.isotonic import IsotonicRegression

    at, seen, spread = _checked(levels, values, error, full_level, what)
    check_rising(at, seen, spread, what)
    weights = 1 / np.maximum(spread, max(1e-6 * seen[-1], 1e-12)) ** 2
    rising = IsotonicRegression().fit_transform(at, seen, sample_weight=weights)
    full = float(rising[-1])
    relative, relative_error = rising / full, spread / full
    share = at / full_level
    everywhere = np.linspace(0.0, 1.0, TABLE_SIZE)
    table = np.clip(PchipInterpolator(share, relative)(everywhere), 0.0, 1.0)
    table_error = np.hypot(np.interp(everywhere, share, relative_error), _missed(share, relative, everywhere))
    gamma, gamma_error, misfit = _gamma_of(share, relative, relative_error, everywhere, table)
    floor = float(relative[0])
    return Response(
        table=table,
        error=table_error,
        contrast=float("inf") if floor <= 0 else 1 / floor,
        contrast_error=float("inf") if floor <= 0 else float(relative_error[0]) / floor**2,
        gamma=gamma,
        gamma_error=gamma_error,
        misfit=misfit,
    )


def check_rising(levels: Array, values: Array, error: Array, what: str = "the panel") -> None:
    """Raises BadInput that names the worst fall when `values` (n,) fall beyond their errors (n,)."""
    highest = np.maximum.accumulate(values)
    where = np.maximum.accumulate(np.where(values == highest, np.arange(len(values)), 0))
    fall = highest - values
    allowed = ALLOWED_SIGMA * np.hypot(error, error[where])
    beyond = fall > allowed
    if not beyond.any():
        return
    worst = int(np.argmax(np.where(beyond, fall - allowed, -np.inf)))
    steps = int(np.count_nonzero(np.diff(values) < -ALLOWED_SIGMA * np.hypot(error[1:], error[:-1])))
    raise BadInput(
        f"the response of {what} is not monotone: it falls by {fall[worst]:.4g} (of {values[-1]:.4g} at full level) "
        f"from level {levels[where[worst]]:g} to level {levels[worst]:g}, {allowed[worst]:.2g} is within its errors; "
        f"there {'is 1 falling step' if steps == 1 else f'are {steps} falling steps'} in all; measure these levels "
        "again with more frames, or drive the panel only up to where its response rises"
    )


def inverse_levels(table: npt.ArrayLike, wanted: npt.ArrayLike) -> Array:
    """Levels 0..255, before rounding, at which a rising `table` (256,) gives `wanted`; clipped to what it can give."""
    rising = strictly_rising(table)
    return np.interp(np.asarray(wanted, dtype=np.float64), rising, np.linspace(0, FULL_LEVEL, len(rising)))


def strictly_rising(table: npt.ArrayLike) -> Array:
    """`table` (n,) with flat stretches tilted by a millionth, so that it has an inverse; its ends stay."""
    values = np.asarray(table, dtype=np.float64)
    if (np.diff(values) < 0).any():
        raise BadInput("a table that falls has no inverse; make it with `response_from`")
    line = np.linspace(values[0], values[-1], len(values))
    return values if (np.diff(values) > 0).all() else (1 - STEEPNESS_KEPT) * values + STEEPNESS_KEPT * line


def read_table(path: Path) -> tuple[Array, Array, Array | None]:
    """(levels, values, errors or None) of a file: .npy, or text with 2 or 3 columns by commas or blanks.

    Lines that begin with `#` are comments. Raises BadInput when it is no such file.
    """
    try:
        if path.suffix == ".npy":
            rows = np.load(path, allow_pickle=False)
        else:
            text = path.read_text().replace(",", " ").replace(";", " ")
            rows = np.loadtxt(text.splitlines(), comments="#", ndmin=2)
    except (OSError, ValueError) as error:
        raise BadInput(f"'{path}' is no table of levels: {error}; give two or three columns of numbers") from None
    if rows.ndim != 2 or rows.shape[1] not in (2, 3):
        raise BadInput(f"'{path}' has shape {rows.shape}; two or three columns are needed: level, value, error")
    columns = rows.astype(np.float64).T
    return columns[0], columns[1], columns[2] if len(columns) == 3 else None


def file_hash(path: Path) -> str:
    """sha256 of the content in hex. Raises BadInput when there is no such file."""
    try:
        return hashlib.sha256(path.read_bytes()).hexdigest()
    except OSError as error:
        raise BadInput(f"table '{path}' cannot be read: {error}; give a file with two or three columns") from None


def _checked(
    levels: npt.ArrayLike, values: npt.ArrayLike, error: npt.ArrayLike | None, full_level: float, what: str
) -> tuple[Array, Array, Array]:
    at, seen = np.asarray(levels, dtype=np.float64), np.asarray(values, dtype=np.float64)
    spread = np.zeros_like(seen) if error is None else np.asarray(error, dtype=np.float64)
    if at.ndim != 1 or at.shape != seen.shape or at.shape != spread.shape:
        raise BadInput(f"levels {at.shape}, values {seen.shape} and errors {spread.shape} of {what} differ in length")
    if len(at) < LEAST_LEVELS:
        raise BadInput(f"the response of {what} has {len(at)} levels; at least {LEAST_LEVELS} are needed")
    if not (np.isfinite(at).all() and np.isfinite(seen).all() and np.isfinite(spread).all()):
        raise BadInput(f"the response of {what} holds values that are not finite; measure it again")
    if (np.diff(at) <= 0).any() or at[0] != 0 or at[-1] != full_level:
        raise BadInput(
            f"levels of {what} run from {at[0]:g} to {at[-1]:g}; they must rise from 0 to {full_level:g}, each once"
        )
    if seen[-1] <= 0 or (spread < 0).any():
        raise BadInput(f"{what} gives {seen[-1]:g} at full level; a response needs light there: measure it again")
    return at, seen, spread


def _missed(share: Array, relative: Array, everywhere: Array) -> Array:
    """What cubic interpolation may miss between the levels: an eighth of what it misses with every other level."""
    from scipy.interpolate import PchipInterpolator

    if len(share) >= TABLE_SIZE or len(share) < 2 * LEAST_LEVELS:
        return np.zeros_like(everywhere) if len(share) >= TABLE_SIZE else np.full_like(everywhere, 1e-3)
    kept = np.unique([*range(0, len(share), 2), len(share) - 1])
    coarse = PchipInterpolator(share[kept], relative[kept])(share)
    between = np.abs(coarse - relative)
    typical = float(np.sqrt(np.mean(between**2))) / 8
    place = np.searchsorted(share, everywhere).clip(1, len(share) - 1)
    width = share[place] - share[place - 1]
    inside = 4 * (everywhere - share[place - 1]) * (share[place] - everywhere) / width**2
    return typical * np.clip(inside, 0, 1)


def _gamma_of(
    share: Array, relative: Array, error: Array, everywhere: Array, table: Array
) -> tuple[float, float, float]:
    """gamma, its error and the largest misfit of floor + (1 - floor) share^gamma."""
    from scipy.optimize import least_squares

    scale = np.maximum(error, 5e-4)

    def curve(values: Any, at: Array) -> Array:
        return np.asarray(values[1] + (1 - values[1]) * at ** values[0])

    found = least_squares(
        lambda values: (curve(values, share) - relative) / scale, [2.0, relative[0]], bounds=([0.05, -0.5], [20, 0.999])
    )
    covariance = np.linalg.pinv(found.jac.T @ found.jac)
    loose = max(1.0, 2 * found.cost / max(1, len(share) - 2))
    return (
        float(found.x[0]),
        float(np.sqrt(covariance[0, 0] * loose)),
        float(np.abs(curve(found.x, everywhere) - table).max()),
    )
