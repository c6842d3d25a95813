"""Means over benches and training seeds, with intervals that know that both were drawn."""

from __future__ import annotations

import math
from dataclasses import dataclass

import numpy as np
import numpy.typing as npt

FloatArray = npt.NDArray[np.float64]


@dataclass(frozen=True)
class Spread:
    """A mean over rigs and seeds. low, high: of its 95 % interval, NaN where there is a single rig or a single seed.

    rig_sd, seed_sd, rest_sd: standard deviations between rigs, between seeds, and of what neither explains.
    """

    mean: float
    low: float
    high: float
    rig_sd: float
    seed_sd: float
    rest_sd: float
    cells: int


def crossed_interval(values: npt.ArrayLike, *, level: float = 0.95) -> Spread:
    """Mean of values (R rigs, S seeds) and its interval, for other rigs and other training seeds of the same kind.

    Rigs and seeds are crossed random effects, y = m + rig + seed + rest: the variance of the mean is
    (MS_rig + MS_seed - MS_rest) / (R S), at least the largest of the three alone, with Satterthwaite's degrees of
    freedom. [Searle, Casella, McCulloch 1992, chapter 4] So cells that share a rig or a seed do not count as
    independent. Other test pictures are left out: all cells are asked the same ones.
    """
    from scipy.stats import t

    table = np.asarray(values, dtype=np.float64)
    rigs, seeds = table.shape
    mean = float(table.mean())
    if rigs < 2 or seeds < 2:
        return Spread(mean, math.nan, math.nan, math.nan, math.nan, math.nan, table.size)
    by_rig, by_seed = table.mean(axis=1), table.mean(axis=0)
    rest = table - by_rig[:, None] - by_seed[None, :] + mean
    squares = np.array(
        [
            seeds * np.square(by_rig - mean).sum() / (rigs - 1),
            rigs * np.square(by_seed - mean).sum() / (seeds - 1),
            np.square(rest).sum() / ((rigs - 1) * (seeds - 1)),
        ]
    )
    freedom = np.array([rigs - 1, seeds - 1, (rigs - 1) * (seeds - 1)])
    signs = np.array([1.0, 1.0, -1.0])
    whole, largest = float(signs @ squares), int(squares.argmax())
    if whole >= squares[largest]:
        degrees = whole**2 / float(np.sum(squares**2 / freedom)) if whole > 0 else 1.0
    else:
        whole, degrees = float(squares[largest]), float(freedom[largest])
    half = float(t.ppf((1 + level) / 2, degrees)) * math.sqrt(whole / table.size)
    between = np.maximum(squares[:2] - squares[2], 0) / np.array([seeds, rigs])
    return Spread(
        mean, mean - half, mean + half, *(float(np.sqrt(v)) for v in between), float(np.sqrt(squares[2])), table.size
    )
