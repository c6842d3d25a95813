"""What no value of the twin explains: a free-form rest of the PSF, such as a ghost between panel and sensor.

It is fixed to the sensor and the same behind every mask, in shares of the light that the mask lets through. Frames are
linear in it, so it is a least-squares problem with one unknown per pixel of the shadow; what keeps it from learning
noise is a ridge, chosen by frames that were left out.
"""

from __future__ import annotations

from dataclasses import dataclass, replace
from typing import TYPE_CHECKING

import numpy as np
import numpy.typing as npt
import torch
import torch.nn.functional as F

from protocols.twin_fit.captures import Captures
from protocols.twin_fit.fit import Fit, fit_twin
from protocols.twin_fit.fitted import PSF_RESIDUAL, twin_from
from protocols.twin_fit.noise import variance_of
from protocols.twin_fit.validation import foretold_by

if TYPE_CHECKING:
    from labctl.rig_file import RigSpec
    from labctl.roads import Roads
    from sim.twin import Twin

FloatArray = npt.NDArray[np.float64]

RIDGES = (1.0, 0.1, 0.01, 1e-3)
"""Candidates, as shares of the mean squared effect of a random rest."""

FOLDS = 2
"""Every second frame is foretold from the others."""

ROUNDS = 3
"""Of rest and values by turns: without a rest, the values make up for part of it, so each round finds more."""

ITERATIONS = 60
"""Of least squares: beyond, only what the ridge suppresses changes."""

BETTER = 0.995
"""What the best rest must bring the error on left-out frames to, as a share of that without: else there is none."""


@dataclass(frozen=True)
class ResidualPsf:
    """A rest of the PSF. weights: (h, w), see `Twin`; all 0 where left-out frames are foretold no better with any.

    ridge: that was chosen, None without one. left_out: error on left-out frames over that without a rest.
    """

    weights: FloatArray
    ridge: float | None
    left_out: float

    @property
    def light(self) -> float:
        """Sum of the absolute weights, noise included, as a share of the light.

        Their plain sum means nothing: brightness makes up for it.
        """
        return float(np.abs(self.weights).sum())


def with_residual_psf(
    spec: RigSpec, fit: Fit, captures: Captures, *, roads: Roads | None = None
) -> tuple[Fit, ResidualPsf]:
    """`fit` with a free-form rest of the PSF, and all values fitted anew beside it; unchanged when there is none."""
    beside = fit
    for _ in range(ROUNDS):
        found = residual_psf(spec, beside, captures, roads=roads)
        if found.ridge is None:
            return fit, found
        held = replace(fit.prior, fixed={**fit.prior.fixed, PSF_RESIDUAL: found.weights})
        start = {p.label: float(number) for p, number in zip(fit.prior.parameters, beside.numbers, strict=True)}
        beside = fit_twin(spec, captures, held, roads=roads, start=start)
    return beside, found


def residual_psf(spec: RigSpec, fit: Fit, captures: Captures, *, roads: Roads | None = None) -> ResidualPsf:
    """The rest of the PSF that `captures` tell, beside the values of `fit`."""
    values = {name: value for name, value in fit.values.items() if name != PSF_RESIDUAL}
    twin = twin_from(spec, values, roads=roads, dtype=torch.float64, margin_px=fit.margin_px)
    problem = _Problem(twin, captures)
    every = np.arange(len(captures))
    error = dict.fromkeys(RIDGES, 0.0)
    without = 0.0
    for fold in range(FOLDS):
        known, left_out = every[every % FOLDS != fold], every[every % FOLDS == fold]
        without += problem.error(np.zeros(problem.unknowns), left_out)
        for ridge in RIDGES:
            error[ridge] += problem.error(problem.solve(known, ridge), left_out)
    best = min(RIDGES, key=error.__getitem__)
    share = float(np.sqrt(error[best] / without)) if without else 1.0
    if not share < BETTER:
        return ResidualPsf(np.zeros(problem.shape), None, share)
    return ResidualPsf(problem.solve(every, best).reshape(problem.shape), best, share)


class _Problem:
    """Frames over their noise as a linear function of the rest of the PSF, and what is left of them without it."""

    def __init__(self, twin: Twin, captures: Captures) -> None:
        foretold = foretold_by(twin, captures)
        weight = captures.usable / np.sqrt(variance_of(foretold, twin.sensor))
        self.left = torch.from_numpy((captures.frames - foretold) * weight)
        self._twin, self._roi = twin, (foretold.shape[1], foretold.shape[2])
        with torch.no_grad():
            psf = twin.psf(torch.from_numpy(captures.masks).to(twin.dtype))
            self._shown = twin.through_monitor(torch.from_numpy(captures.scenes)[:, None].to(twin.dtype))
        room = int(twin.pad or 0)
        self._room = (room, room, room, room)
        self.shape = (psf.shape[-2] - 2 * room, psf.shape[-1] - 2 * room)
        self.unknowns = self.shape[0] * self.shape[1]
        area = twin.photons_per_s * psf.sum(dim=(-2, -1))[torch.from_numpy(captures.mask_of)]
        self._scale = area[:, None, None] * self._dn_per_photon(captures) * torch.from_numpy(weight)

    def solve(self, places: npt.NDArray[np.int64], ridge: float) -> FloatArray:
        """(unknowns,) from these frames alone."""
        from scipy.sparse.linalg import LinearOperator, lsmr

        rows = len(places) * self._roi[0] * self._roi[1]
        operator = LinearOperator(
            (rows, self.unknowns),
            matvec=lambda x: self._effect(torch.from_numpy(np.ravel(x)), places).numpy().ravel(),
            rmatvec=lambda y: self._pulled(torch.from_numpy(np.ravel(y)), places).numpy(),
            dtype=np.float64,
        )
        probe = np.random.default_rng(0).standard_normal(self.unknowns)
        gain = np.linalg.norm(operator.matvec(probe)) / np.linalg.norm(probe)
        goal = self.left[torch.from_numpy(places)].numpy().ravel()
        return np.asarray(lsmr(operator, goal, damp=float(np.sqrt(ridge) * gain), maxiter=ITERATIONS)[0])

    def error(self, rest: FloatArray, places: npt.NDArray[np.int64]) -> float:
        """Sum of the squares that are left of these frames, over their noise."""
        left = self.left[torch.from_numpy(places)] - self._effect(torch.from_numpy(rest), places)
        return float(left.square().sum())

    @torch.no_grad()
    def _effect(self, rest: torch.Tensor, places: npt.NDArray[np.int64]) -> torch.Tensor:
        """(n, h, w) what a rest (unknowns,) does to these frames, over their noise."""
        return self._linear(rest, torch.from_numpy(places))

    def _pulled(self, frames: torch.Tensor, places: npt.NDArray[np.int64]) -> torch.Tensor:
        """The transpose of `_effect`."""
        rest = torch.zeros(self.unknowns, dtype=self._twin.dtype, requires_grad=True)
        made = self._linear(rest, torch.from_numpy(places))
        (pulled,) = torch.autograd.grad(made, rest, frames.reshape(made.shape))
        return pulled

    def _linear(self, rest: torch.Tensor, places: torch.Tensor) -> torch.Tensor:
        kernel = F.pad(rest.reshape(1, 1, *self.shape), self._room)
        light = self._twin.light(self._shown[places], kernel, roi=self._roi)[:, 0]
        return light * self._scale[places]

    @torch.no_grad()
    def _dn_per_photon(self, captures: Captures) -> torch.Tensor:
        """(N, h, w) DN that one more photon per second makes, per capture; without the full well."""
        sensor, exposure_s = self._twin.sensor, torch.from_numpy(captures.exposure_s)
        rate = 0.1 * float(self._twin.settings.sensor.full_well_e) / float(exposure_s.max())
        ends = [
            sensor.expose(
                torch.full((len(captures), 1, *self._roi), value, dtype=self._twin.dtype),
                exposure_s=exposure_s,
                quantise=False,
            )
            for value in (0.0, rate)
        ]
        return ((ends[1] - ends[0]) / rate)[:, 0]
