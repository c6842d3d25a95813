"""How a witness learns from frames of known scenes: what tells scenes apart, how far frames stray, where to doubt."""

from __future__ import annotations

from dataclasses import replace
from typing import NamedTuple

import numpy as np
import numpy.typing as npt

from labctl.errors import BadInput
from labctl.exposure import FloatArray, Frames
from labctl.frames.witness_blocks import Bins, BlockResponses, Dark, Noise, Values
from labctl.frames.witness_comparison import compare, upper_limit
from labctl.frames.witness_judge import BlockWitness, Features, Thresholds

LEAST_CALIBRATION = 32
"""Scenes from which errors and thresholds are learned. More make rare false alarms rarer; 64 are good."""

FALSE_ALARMS = 1e-3
"""Share of right frames that may be doubted, at most."""

SAFETY = 1e-3
"""Thresholds aim at so much less: the law by which tens of frames foretell one in a thousand underrates rare frames."""

SIGMAS = 5.0
"""Least threshold for the search over all mixtures: a chance of 3e-7 in each of some 60."""

MOST_FEATURES = 24

FOLDS = 8
"""Parts of the calibration frames, each judged by what was learned from the others."""

LEAST_TOLD_APART = 0.9
"""A rig that takes more than a tenth of other scenes for the right one proves nothing."""

RIDGES = (1e-3, 1e-2, 1e-1, 1.0, 10.0, 100.0, np.inf)
"""Trust in the responses as they were measured, against what calibration frames say of them; the best is kept."""

REMEDY = "use a mask that lets scenes differ, more light or a longer exposure, or capture without a witness"

NEAREST = 0.01
"""Share of wrong scenes that may lie nearer than those that count as near."""

MARGIN = 3.0
"""How far the threshold may go beyond the right frames, towards the nearest wrong ones: half that way at most."""

LEFT_OUT = 0.1
"""Share of the bins."""

OTHERS = 5
"""Other scenes that play the previous one of each calibration frame."""


class _Seen(NamedTuple):
    """Calibration frames as features: what was seen (N, q), what was foretold (N, q), and its noise (N, q, q)."""

    seen: Values
    foretold: Values
    noise: Values


def learn_witness(
    responses: BlockResponses, dark: Dark, noise: Noise, bins: Bins, frames: Frames, scenes: FloatArray
) -> BlockWitness:
    """A witness by `responses`, with errors and thresholds learned from N settled `frames` of `scenes` (N, 1, H, W).

    Both thresholds come from frames that had no part in what they are judged by, with scenes of other frames as the
    previous ones. Raises BadInput when there are too few, or when the frames cannot tell these scenes apart.
    """
    check_calibration(len(scenes))
    grey = np.asarray(scenes[:, 0], dtype=np.float64)
    means = responses.grid.means(grey)
    features = _features(responses, noise, means)
    features = replace(features, beside=_beside(features, bins.values(frames)[0] - dark.at(responses.exposure_s)))
    size = len(features.basis)
    witness = BlockWitness(
        responses, dark, noise, bins, features, np.zeros((size, size)), Thresholds(np.inf, np.inf, FALSE_ALARMS), 1.0
    )
    found = _observe(witness, frames, means)
    scale = float(np.median(_scales(found)))
    if not scale > 0:
        raise BadInput("calibration frames do not grow brighter with their scenes; is the scene display lit?")
    witness = replace(
        witness,
        responses=replace(responses, light_dn=scale * responses.light_dn),
        features=replace(features, blocks=scale * features.blocks),
    )
    found = found._replace(foretold=scale * found.foretold)
    ridge = min(RIDGES, key=lambda value: _left_over(found, value))
    thresholds = _thresholds(witness, found, ridge, grey)
    correction = _correction(found, ridge)
    witness = replace(
        witness,
        features=replace(witness.features, blocks=witness.features.blocks @ correction),
        model_error=_model_error(found, correction),
        thresholds=thresholds,
    )
    told_apart = _told_apart(witness, found, means)
    if told_apart < LEAST_TOLD_APART:
        raise BadInput(
            f"frames of this rig tell only {told_apart:.0%} of pairs of calibration scenes apart, "
            f"{LEAST_TOLD_APART:.0%} are needed for a proof; {REMEDY}"
        )
    return replace(witness, told_apart=told_apart)


def check_calibration(count: int) -> None:
    """Raises BadInput when so many calibration scenes are too few."""
    if count < LEAST_CALIBRATION:
        raise BadInput(f"{count} calibration scenes are given, a witness needs {LEAST_CALIBRATION}; use more scenes")


def _features(responses: BlockResponses, noise: Noise, means: Values) -> Features:
    """The directions in which scenes such as these differ by more than the noise of a frame, the strongest first."""
    sigma = np.sqrt(noise.variance(means.mean(axis=0) @ responses.light_dn))
    centred = means - means.mean(axis=0)
    # Later scenes will have light where none of these has any.
    spread = np.vstack([centred / np.sqrt(len(means)), 0.1 * centred.std() * np.eye(means.shape[1])])
    _, strength, basis = np.linalg.svd(spread @ (responses.light_dn / sigma), full_matrices=False)
    kept = int(min((strength > 1).sum(), MOST_FEATURES, len(means) // 2))
    if kept < 3:
        raise BadInput(
            "frames of this rig cannot tell scenes apart: the calibration scenes differ by less than the noise of a "
            f"frame; {REMEDY}"
        )
    return Features(basis[:kept], sigma, responses.light_dn / sigma @ basis[:kept].T)


def _beside(features: Features, light: Values) -> float:
    """Found out by leaving out the brightest bins of each frame (N, n), as saturation would."""
    moved = foretold = 0.0
    everything = np.ones(light.shape[1], dtype=np.bool_)
    for one in light:
        whole, _ = features.of(one, everything)
        part, inverse = features.of(one, one < np.quantile(one, 1 - LEFT_OUT))
        moved += float(((part - whole) ** 2).sum())
        foretold += float(np.trace(inverse) - len(inverse))
    return max(moved / max(foretold, 1e-12), 1.0)


def _observe(witness: BlockWitness, frames: Frames, means: Values) -> _Seen:
    seen, noise = zip(*(witness.observe(frame, own) for frame, own in zip(frames, means, strict=True)), strict=True)
    return _Seen(np.stack(seen), means @ witness.features.blocks, np.stack(noise))


def _scales(found: _Seen) -> Values:
    """(N,) brightness of each frame over that of its prediction; 1 where that is black."""
    square = (found.foretold**2).sum(axis=1)
    products = (found.seen * found.foretold).sum(axis=1)
    return np.asarray(np.divide(products, square, out=np.ones(len(square)), where=square > 1))


def _correction(found: _Seen, ridge: float) -> Values:
    """(q, q) that turns foretold features into seen ones: ridge regression towards no change."""
    size = found.seen.shape[1]
    if np.isinf(ridge):
        return np.eye(size)
    astray = found.seen / _scales(found)[:, None] - found.foretold
    gram = found.foretold.T @ found.foretold
    return np.asarray(
        np.eye(size) + np.linalg.solve(gram + ridge * len(astray) * np.eye(size), found.foretold.T @ astray)
    )


def _left_over(found: _Seen, ridge: float) -> float:
    """Sum of squares that a correction learned from other folds leaves."""
    left = 0.0
    for inside in _folds(len(found.seen)):
        correction = _correction(_some(found, ~inside), ridge)
        part = _some(found, inside)
        foretold = part.foretold @ correction
        left += float(((part.seen - _scales(part._replace(foretold=foretold))[:, None] * foretold) ** 2).sum())
    return left


def _model_error(found: _Seen, correction: Values) -> Values:
    """(q, q) covariance of what frames stray beyond noise; shrunk, since few frames say little of many features."""
    from sklearn.covariance import ledoit_wolf  # type: ignore[import-untyped]  # takes a second to import

    foretold = found.foretold @ correction
    astray = found.seen - _scales(found._replace(foretold=foretold))[:, None] * foretold
    size = np.sqrt((astray**2).mean(axis=0))
    whole = ledoit_wolf(astray / size, assume_centered=True)[0] * np.outer(size, size)
    values, vectors = np.linalg.eigh(whole - found.noise.mean(axis=0))
    return np.asarray((vectors * np.maximum(values, 0.0)) @ vectors.T)


def _thresholds(witness: BlockWitness, found: _Seen, ridge: float, scenes: Values) -> Thresholds:
    mismatch, wrong, farthest = [], [], []
    rng = np.random.default_rng(0)
    for inside in _folds(len(scenes)):
        others = _some(found, ~inside)
        correction = _correction(others, ridge)
        blocks, error = witness.features.blocks @ correction, _model_error(others, correction)
        for index in np.flatnonzero(inside):
            own, noise = found.foretold[index] @ correction, error + found.noise[index]
            for other in rng.choice(np.delete(np.arange(len(scenes)), index), OTHERS, replace=False):
                mixtures = witness.responses.grid.mixed_means(scenes[index], scenes[other])
                compared = compare(found.seen[index], own, mixtures @ blocks, noise, witness.features.offset)
                farthest.append(max(float(compared.sigmas.max()), 0.0))
                taken_for = mixtures[:1] @ blocks
                wrong.append(
                    compare(found.seen[index], taken_for[0], taken_for, noise, witness.features.offset).mismatch
                )
            mismatch.append(compared.mismatch)
    chance = FALSE_ALARMS * SAFETY
    sigmas = max(SIGMAS, max(farthest), upper_limit(np.square(farthest), chance) ** 0.5)
    right = max(max(mismatch), upper_limit(np.array(mismatch), chance))
    # Where wrong scenes leave room for it, a margin: rare right frames stray further than any law says.
    nearest = max(float(np.quantile(wrong, NEAREST)), right)
    return Thresholds(min(MARGIN * right, (right * nearest) ** 0.5), sigmas, FALSE_ALARMS)


def _told_apart(witness: BlockWitness, found: _Seen, means: Values) -> float:
    """Share of frames that are not taken for a frame of another scene, `OTHERS` for each."""
    rng = np.random.default_rng(0)
    noticed = []
    for index in range(len(means)):
        for other in rng.choice(np.delete(np.arange(len(means)), index), OTHERS, replace=False):
            if not np.array_equal(means[index], means[other]):
                own = means[other] @ witness.features.blocks
                noise = witness.model_error + found.noise[index]
                mismatch = compare(found.seen[index], own, own[None], noise, witness.features.offset).mismatch
                noticed.append(mismatch > witness.thresholds.mismatch)
    return float(np.mean(noticed)) if noticed else 0.0


def _folds(count: int) -> list[npt.NDArray[np.bool_]]:
    return [np.arange(count) % FOLDS == fold for fold in range(FOLDS)]


def _some(found: _Seen, chosen: npt.NDArray[np.bool_]) -> _Seen:
    return _Seen(*(values[chosen] for values in found))
