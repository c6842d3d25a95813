"""The statistics of a witness: how far a frame lies from its prediction, and how far on the way to another one."""

from __future__ import annotations

from dataclasses import dataclass
from statistics import NormalDist

import numpy as np

from labctl.frames.witness_blocks import Values

LEAST_REACH = 3.0
"""A mixture that moves the prediction by fewer standard deviations than this is not seen in a frame."""


@dataclass(frozen=True)
class Comparison:
    """A frame against the prediction for its own scene, and against m mixtures with the previous one."""

    likeness: float
    """Correlation with the prediction for its own scene, -1..1; 0 where that is black."""

    scale: float
    """Brightness of the frame over that of the prediction; nan where the prediction is black."""

    scale_error: float
    """Standard deviation of all brightnesses."""

    mismatch: float
    """Squared distance from the prediction at the best scale and offset, in standard deviations of a frame."""

    reach: Values
    """(m,) distance of each mixture from the own prediction at the best scale and offset, in standard deviations."""

    sigmas: Values
    """(m,) how many standard deviations the frame lies towards each mixture; 0 where that cannot be seen."""

    shares: Values
    """(m,) share of each mixture in the frame, by least squares: 0 own, 1 as the mixture foretells; 0 if not seen."""

    scales: Values
    """(m,) brightness of the frame over that of own prediction and mixture in these shares; nan as for `scale`."""

    parts: Values
    """(m,) how much of what mixture 0 changes each mixture changes, 0..1; 1 where mixture 0 is not seen."""


def compare(frame: Values, own: Values, mixtures: Values, covariance: Values, offset: Values) -> Comparison:
    """Compare features of a frame (q,) with those foretold for its own scene (q,) and for mixtures (m, q).

    covariance: (q, q) of a frame round its prediction. offset: (q,) features of an even brightness, which may be there
    to any amount, as the own prediction may be brighter or darker by any factor.
    """
    root = np.linalg.cholesky(covariance)
    white = np.linalg.solve(root, np.vstack([frame, own, offset, mixtures - own]).T).T
    offset = white[2] / np.linalg.norm(white[2])
    frame, own, ways = (part - np.multiply.outer(part @ offset, offset) for part in (white[0], white[1], white[3:]))
    length = float(np.linalg.norm(own))
    lit = length > LEAST_REACH
    along_own = own / length if lit else np.zeros_like(own)
    rest, ways_rest = frame - (frame @ along_own) * along_own, ways - np.outer(ways @ along_own, along_own)
    reach = np.sqrt((ways_rest**2).sum(axis=1))
    seen = reach >= LEAST_REACH
    along = np.divide(ways_rest @ rest, reach**2, out=np.zeros(len(ways)), where=seen)
    scale, scales = float("nan"), np.full(len(ways), float("nan"))
    shares, parts = along, np.ones(len(ways))
    if lit:
        scale = float(frame @ along_own) / length
        # What lies along a mixture is not all light of the own scene: that share of the brightness is taken off again.
        scales = scale - along * (ways @ along_own) / length
        shares = np.divide(along, scales, out=np.zeros(len(ways)), where=scales > 0)
    if seen[0]:
        parts = np.clip(ways_rest @ ways_rest[0] / reach[0] ** 2, 0.0, 1.0)
    return Comparison(
        likeness=float(frame @ along_own) / max(float(np.linalg.norm(frame)), 1e-12),
        scale=scale,
        scale_error=1 / length if lit else float("nan"),
        mismatch=float(rest @ rest),
        reach=reach,
        sigmas=along * reach,
        shares=shares,
        scales=scales,
        parts=parts,
    )


def upper_limit(values: Values, chance: float) -> float:
    """What positive `values` exceed with `chance` if their law is a scaled chi-squared, by Wilson and Hilferty."""
    mean, variance = float(values.mean()), float(values.var(ddof=1))
    if mean == 0:
        return 0.0
    freedom = 2 * mean**2 / max(variance, 1e-12)
    part = 2 / (9 * freedom)
    return float(mean * (1 - part + NormalDist().inv_cdf(1 - chance) * np.sqrt(part)) ** 3)
