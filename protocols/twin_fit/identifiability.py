"""Which of the fitted values the captures really tell, and which cannot be told apart."""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np
import numpy.typing as npt

from protocols.twin_fit.priors import Parameter

FloatArray = npt.NDArray[np.float64]

PRIOR_SHARE = 0.7
"""An error still so large against that of the prior is mostly the prior's."""

CORRELATION = 0.98
"""Of two values that are told as one only."""

REMEDIES = {
    frozenset({"blur_px", "crosstalk"}): "both blur a shadow; a mask of single panel pixels would tell them apart",
    frozenset({"scale", "gap_error"}): "both enlarge the shadow; scenes with detail at the border tell the gap",
    frozenset({"leak", "stray"}): "both veil; a dark scene beside a bright one tells stray light",
    frozenset({"photons_per_s", "vignetting"}): "measure a flat field",
}


def correlations(covariance: FloatArray) -> FloatArray:
    """(P, P) correlation of every pair."""
    sigma = np.sqrt(np.diag(covariance))
    return np.asarray(covariance / np.outer(sigma, sigma))


def warnings_of(parameters: Sequence[Parameter], numbers: FloatArray, covariance: FloatArray) -> list[str]:
    """What a user of these values must know, a sentence each."""
    sigma = np.sqrt(np.diag(covariance))
    found = [
        f"the captures hardly tell {p.label}: its error is {error:.2g}, that of the prior {p.sigma:.2g} ({p.source})"
        for p, error in zip(parameters, sigma, strict=True)
        if error > PRIOR_SHARE * p.sigma and p.source.startswith("wide")
    ]
    correlation = correlations(covariance)
    for first, one in enumerate(parameters):
        for second in range(first + 1, len(parameters)):
            other, rho = parameters[second], correlation[first, second]
            if abs(rho) > CORRELATION:
                remedy = REMEDIES.get(frozenset({one.name, other.name}), "their combination is told, not each alone")
                found.append(f"{one.label} and {other.label} cannot be told apart (correlation {rho:+.3f}): {remedy}")
    for p, number in zip(parameters, numbers, strict=True):
        edge = 1e-3 * p.sigma
        if number > p.high - edge or (number < p.low + edge and p.low < p.mean - 0.5 * p.sigma):
            found.append(f"{p.label} stands at {number:.4g}, the limit of its search; look for what else is wrong")
    return found
