"""How pixels differ: the spread of a map beyond its noise, and which of it goes by rows, by columns, by pixels."""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
import numpy.typing as npt

FloatArray = npt.NDArray[np.float64]


@dataclass(frozen=True)
class Spread:
    """Standard deviations over the pixels of a map, its own noise taken off. Errors come from that noise alone.

    They describe these pixels. What a series of sensors of this type would have is known less well.
    """

    total: float
    total_error: float
    rows: float
    columns: float
    pixels: float


def spread_of(picture: npt.ArrayLike, noise_variance: float, *, fitted: int = 1) -> Spread:
    """How the values of a map (h, w) differ. noise_variance: of one value of the map. fitted: numbers taken off before.

    Rows, columns and pixels by analysis of variance, as EMVA 1288 release 4 does. What noise explains is 0.
    """
    values = np.asarray(picture, dtype=np.float64)
    height, width = values.shape
    n = values.size
    rest = values - values.mean()
    rows, columns = rest.mean(axis=1), rest.mean(axis=0)
    inner = rest - rows[:, None] - columns[None, :]
    each = float((inner**2).sum()) / max(1, (height - 1) * (width - 1))
    seen = float((rest**2).sum()) / max(1, n - fitted)
    total = _root(seen - noise_variance)
    error2 = (4 * total**2 * noise_variance + 2 * noise_variance**2) / n
    return Spread(
        total=total,
        total_error=float(np.sqrt(error2)) / (2 * max(total, error2**0.25, 1e-300)),
        rows=_root(float(rows.var(ddof=1)) - each / width),
        columns=_root(float(columns.var(ddof=1)) - each / height),
        pixels=_root(each - noise_variance),
    )


def without_trend(picture: npt.ArrayLike, degree: int) -> tuple[FloatArray, int]:
    """The map (h, w) less a smooth surface, a polynomial of this degree, and how many numbers that took.

    Light that falls off smoothly is no property of pixels. EMVA 1288 takes it off with a high-pass filter, which keeps
    less of what neighbouring pixels share: the two differ where the response of pixels is patchy. On frames of some ten
    pixels a side, the margin of a filter would leave too few of them.
    """
    values = np.asarray(picture, dtype=np.float64)
    y, x = (np.linspace(-1, 1, n) for n in values.shape)
    legendre = np.polynomial.legendre.legvander
    down, across = legendre(y, degree), legendre(x, degree)
    terms = [(i, j) for i in range(degree + 1) for j in range(degree + 1 - i)]
    if len(terms) * 4 > values.size:
        return values - values.mean(), 1
    columns = np.stack([np.outer(down[:, i], across[:, j]).reshape(-1) for i, j in terms], axis=1)
    fitted = columns @ np.linalg.solve(columns.T @ columns, columns.T @ values.reshape(-1))
    return values - fitted.reshape(values.shape), len(terms)


def middle(shape: tuple[int, int], share: float) -> tuple[slice, slice]:
    """The centred part of (h, w) whose sides are this share of it."""
    edges = [round(n * (1 - share) / 2) for n in shape]
    return slice(edges[0], shape[0] - edges[0]), slice(edges[1], shape[1] - edges[1])


def _root(variance: float) -> float:
    return float(np.sqrt(max(0.0, variance)))
