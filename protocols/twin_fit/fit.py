"""The fit: most probable values of a twin for captures of known scenes, with their covariance."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

import numpy as np
import numpy.typing as npt

from protocols.twin_fit.captures import Captures
from protocols.twin_fit.noise import Whitening, signal_of
from protocols.twin_fit.prediction import Predictor, margin_for
from protocols.twin_fit.priors import LEAK, Parameter, Prior, as_twin_values, values_by_name

if TYPE_CHECKING:
    from labctl.rig_file import RigSpec
    from labctl.roads import Roads

FloatArray = npt.NDArray[np.float64]

COARSE_SMOOTHING_PX = 2.0
"""Of frames in the coarse stage: shadows that stand two pixels apart then still overlap."""

COARSE_ERROR = 0.02
"""What a smoothed frame may err by in the coarse stage, as a share of the typical frame."""

COARSE_NAMES = frozenset(
    {"shift_px", "rotation_rad", "scale", "panel_gamma", LEAK, "photons_per_s", "vignetting", "dark_offset"}
)

NEAR = {"shift_px": 1.5, "rotation_rad": 0.02, "scale": 0.02}
"""How far each may move in a fine round from where it began; the next round begins anew."""

GOOD_RESIDUAL = 1.5
"""Of the fitted frames, over their noise: with more, other starts are tried."""

STARTS = tuple(
    {"shift_px[0]": row, "shift_px[1]": column, "rotation_rad": turn}
    for row, column, turn in ((1.2, 1.2, 0.8), (1.2, -1.2, -0.8), (-1.2, 1.2, -0.8), (-1.2, -1.2, 0.8))
)
"""Other starts, by label, in standard deviations of the prior."""

EVALUATIONS = 20
"""Of all frames with their slopes, at most, in one search."""

COARSE_TOLERANCE, TOLERANCES = 1e-2, (1e-4, 1e-5)
"""Relative change of the cost at which the coarse search and each fine round end."""


@dataclass(frozen=True)
class Fit:
    """Most probable values of a twin, and how well they are known.

    numbers: (P,) of `prior.parameters`. covariance: (P, P), widened where the residuals are larger than the noise.
    flat_map, dark_map_dn: (h, w) response and dark frame of the pixels, with what the residuals tell of both patterns;
    flat_error, dark_error_dn their errors. residual: root of the reduced chi-squared of the fitted frames.
    margin_px: room that the values need. evaluations: how often all frames were foretold with slopes.
    """

    prior: Prior
    numbers: FloatArray
    covariance: FloatArray
    flat_map: FloatArray
    flat_error: FloatArray
    dark_map_dn: FloatArray
    dark_error_dn: FloatArray
    residual: float
    margin_px: int
    evaluations: int

    @property
    def errors(self) -> FloatArray:
        """(P,) standard deviations."""
        return np.asarray(np.sqrt(np.diag(self.covariance)))

    @property
    def values(self) -> dict[str, Any]:
        """Values and maps of the twin by name, ready for `protocols.twin_fit.fitted.twin_from`."""
        fitted = as_twin_values(values_by_name(self.prior.parameters, self.numbers))
        return {**self.prior.fixed, **fitted, "flat_map": self.flat_map, "dark_map_dn": self.dark_map_dn}


def fit_twin(
    spec: RigSpec,
    captures: Captures,
    prior: Prior,
    *,
    roads: Roads | None = None,
    start: Mapping[str, float] | None = None,
) -> Fit:
    """Fit the values of `prior` to `captures`. start: numbers by label to begin with; by default those of the prior.

    Maximum a posteriori: squared residuals over their variance, saturated pixels left out, plus squared distances from
    the prior over theirs. First smoothed frames and the coarse values alone, then all.
    """
    roads = roads or spec.roads
    parameters = prior.parameters
    numbers = np.array([(start or {}).get(p.label, p.start) for p in parameters])
    problem = _Problem(Predictor.of_rig(spec, roads, captures, parameters, prior.fixed), prior)
    coarse = np.array([p.name in COARSE_NAMES for p in parameters])
    numbers = problem.search(numbers, _Smoothing(captures), coarse, COARSE_TOLERANCE)
    evaluations = problem.evaluations
    everything = np.ones(len(parameters), dtype=bool)
    for tolerance in TOLERANCES:  # the weights of the first round stand on frames that the coarse stage foretells
        near = narrowed(prior, numbers)
        problem = _Problem(Predictor.of_rig(spec, roads, captures, near.parameters, prior.fixed), near)
        whitening = whitening_of(problem.predictor, near, numbers)
        numbers = problem.search(numbers, whitening, everything, tolerance)
        evaluations += problem.evaluations
    return _concluded(spec, roads, problem, prior, numbers, evaluations)


def fit_from_many(spec: RigSpec, captures: Captures, prior: Prior, *, roads: Roads | None = None) -> Fit:
    """`fit_twin` from the prior; and where that ends badly, from other starts, too: the best of all."""
    best = fit_twin(spec, captures, prior, roads=roads)
    for start in STARTS:
        if best.residual <= GOOD_RESIDUAL:
            break
        there = {p.label: p.mean + start[p.label] * p.sigma for p in prior.parameters if p.label in start}
        again = fit_twin(spec, captures, prior, roads=roads, start=there)
        best = again if again.residual < best.residual else best
    return best


def narrowed(prior: Prior, numbers: FloatArray) -> Prior:
    """The same with the limits of the registration drawn close round `numbers`: less room to compute."""
    from dataclasses import replace

    near = [
        replace(p, low=max(p.low, number - NEAR[p.name]), high=min(p.high, number + NEAR[p.name]))
        if p.name in NEAR
        else p
        for p, number in zip(prior.parameters, numbers, strict=True)
    ]
    return replace(prior, parameters=tuple(near))


def whitening_of(predictor: Predictor, prior: Prior, numbers: FloatArray) -> Whitening:
    """Weights for the frames that `numbers` foretell."""
    frames = predictor.frames(numbers)
    sensor = predictor.twin.sensor
    return Whitening.of(
        signal_of(frames, sensor),
        predictor.captures.usable,
        gain_dn_per_e=float(sensor.gain_dn_per_e),
        read_noise_e=float(sensor.read_noise_e),
        flat_sigma=prior.flat_sigma,
        dark_sigma_dn=prior.dark_sigma_dn,
    )


class _Smoothing:
    """Weighs smoothed residuals, all alike."""

    def __init__(self, captures: Captures) -> None:
        self._usable = captures.usable
        signal = captures.frames - np.median(captures.frames.min(axis=0))
        self._scale = 1 / (COARSE_ERROR * max(1.0, float(np.sqrt(np.mean(signal.astype(np.float64) ** 2)))))

    def __call__(self, residual_dn: FloatArray) -> FloatArray:
        from scipy.ndimage import gaussian_filter1d

        smooth = residual_dn * self._usable
        for axis in (-2, -1):
            smooth = gaussian_filter1d(smooth, COARSE_SMOOTHING_PX, axis=axis, mode="constant")
        return np.asarray(smooth * self._scale)


class _Problem:
    """Least squares in numbers scaled by their prior."""

    def __init__(self, predictor: Predictor, prior: Prior) -> None:
        self.predictor, self.prior = predictor, prior
        self.captured = predictor.captures.frames.astype(np.float64)
        self.mean = np.array([p.mean for p in prior.parameters])
        self.sigma = np.array([p.sigma for p in prior.parameters])
        self.evaluations = 0
        self._last: tuple[bytes, FloatArray, FloatArray] | None = None

    def search(self, numbers: FloatArray, weigh: Any, free: npt.NDArray[np.bool_], tolerance: float) -> FloatArray:
        """The numbers at the least cost; those that are not `free` stay."""
        from scipy.optimize import least_squares

        parameters = self.prior.parameters

        def full(scaled: FloatArray) -> FloatArray:
            moved = numbers.copy()
            moved[free] = scaled * self.sigma[free] + self.mean[free]
            return moved

        def residuals(scaled: FloatArray) -> FloatArray:
            frames, _ = self._both(full(scaled))
            return np.concatenate([weigh(frames - self.captured).ravel(), scaled])

        def slopes(scaled: FloatArray) -> FloatArray:
            _, found = self._both(full(scaled))
            weighed = weigh(found[free]).reshape(int(free.sum()), -1) * self.sigma[free, None]
            return np.concatenate([weighed, np.eye(len(scaled))], axis=1).T

        inside = 1e-9
        low = np.array([(p.low - p.mean) / p.sigma for p in parameters])[free]
        high = np.array([(p.high - p.mean) / p.sigma for p in parameters])[free]
        start = np.clip((numbers[free] - self.mean[free]) / self.sigma[free], low + inside, high - inside)
        found = least_squares(
            residuals,
            start,
            jac=slopes,
            bounds=(low, high),
            method="trf",
            x_scale="jac",
            ftol=tolerance,
            xtol=1e-6,
            gtol=1e-8,
            max_nfev=EVALUATIONS,
        )
        return full(found.x)

    def _both(self, numbers: FloatArray) -> tuple[FloatArray, FloatArray]:
        key = numbers.tobytes()
        if self._last is None or self._last[0] != key:
            self.evaluations += 1
            self._last = (key, *self.predictor.frames_and_slopes(numbers))
        return self._last[1], self._last[2]

    def curvature(self, numbers: FloatArray, whitening: Whitening) -> tuple[FloatArray, float]:
        """(P, P) information about the numbers, prior included, and the reduced chi-squared of the frames."""
        frames, found = self._both(numbers)
        flat = whitening(found).reshape(len(numbers), -1)
        information = flat @ flat.T + np.diag(1 / self.sigma**2)
        count = int((whitening.weight > 0).sum())
        squares = float((whitening(frames - self.captured) ** 2).sum())
        return information, squares / max(1, count - len(numbers))


def _concluded(
    spec: RigSpec, roads: Roads, problem: _Problem, prior: Prior, numbers: FloatArray, evaluations: int
) -> Fit:
    predictor = problem.predictor
    whitening = whitening_of(predictor, prior, numbers)
    information, chi_squared = problem.curvature(numbers, whitening)
    covariance = np.linalg.inv(information) * max(1.0, chi_squared)
    pattern, error = whitening.pattern_of(problem.captured - predictor.frames(numbers))
    region = problem.captured.shape[-2:]
    sensor = predictor.twin.sensor
    flat, dark = sensor.flat(region).numpy(), sensor.offset_dn(region).numpy()
    return Fit(
        prior=prior,
        numbers=numbers,
        covariance=covariance,
        flat_map=flat * (1 + prior.flat_sigma * pattern[..., 0]),
        flat_error=flat * prior.flat_sigma * error[..., 0],
        dark_map_dn=dark + prior.dark_sigma_dn * pattern[..., 1],
        dark_error_dn=prior.dark_sigma_dn * error[..., 1],
        residual=float(np.sqrt(chi_squared)),
        margin_px=margin_needed(spec, roads, prior.parameters, prior.fixed, numbers, predictor),
        evaluations=evaluations,
    )


def margin_needed(
    spec: RigSpec,
    roads: Roads,
    parameters: tuple[Parameter, ...],
    fixed: Mapping[str, Any],
    numbers: FloatArray,
    predictor: Predictor,
) -> int:
    """Room round the shadow for these numbers, in sensor pixels; trained masks then cost no more than they must."""
    from dataclasses import replace

    there = tuple(replace(p, low=float(n), high=float(n)) for p, n in zip(parameters, numbers, strict=True))
    return margin_for(spec, roads, there, fixed, predictor.captures.masks.shape[1:])
