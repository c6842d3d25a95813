"""From an opened bench to a fitted twin that proved itself: expose, fit, judge, record."""

from __future__ import annotations

import time
from collections.abc import Mapping
from typing import TYPE_CHECKING, Any

import numpy as np
import numpy.typing as npt

from labctl.calibration.record import Calibration
from protocols.twin_fit.captures import Captures
from protocols.twin_fit.fit import Fit, fit_from_many
from protocols.twin_fit.identifiability import warnings_of
from protocols.twin_fit.page import refusal_page
from protocols.twin_fit.patterns import fitted_patterns, held_out_patterns
from protocols.twin_fit.priors import prior_of
from protocols.twin_fit.record import told_fit
from protocols.twin_fit.residual_psf import ResidualPsf, with_residual_psf
from protocols.twin_fit.taking import Taker
from protocols.twin_fit.validation import HeldOut, held_out_error

if TYPE_CHECKING:
    from protocols.calibrate.bench import Bench

DAY_S = 86_400.0

MOST_SATURATED = 0.02
"""Share of saturated pixels in the captures above which no fit is tried."""


def fit_bench(
    bench: Bench,
    calibrations: Mapping[str, Calibration],
    *,
    trained: npt.NDArray[Any] | None = None,
    fit: tuple[str, ...] | None = None,
    limit: float = 1.5,
    free_form: bool = False,
    readings: Mapping[str, float] | None = None,
    max_age_s: float = DAY_S,
) -> Calibration:
    """The calibration `twin` of this bench, from exposures that are taken now.

    calibrations: by kind; those that tell the fit something become its prior. trained: (H, W) a mask that the twin will
    be asked about. fit: values to fit, all by default. free_form: a rest of the PSF beside them. Raises RunFailed, with
    a picture, when the twin errs on held-out frames by more than `limit` times their noise, or when the captures
    saturate or are empty.
    """
    began = time.monotonic()
    spec, roads = bench.rig.spec, bench.rig.roads
    prior = prior_of(spec, calibrations, fit=fit)
    taker = Taker(bench, prior)
    captures = taker.take("fitted", fitted_patterns(bench.cells, bench.scene_px, trained))
    held_out = taker.take("held_out", held_out_patterns(bench.cells, bench.scene_px, trained))
    _check_light(bench, captures)
    found = fit_from_many(spec, captures, prior, roads=roads)
    judged = held_out_error(spec, found, held_out, roads=roads)
    rest: ResidualPsf | None = None
    said: tuple[str, ...] = ()
    if free_form:
        without = judged.after
        found, rest = with_residual_psf(spec, found, captures, roads=roads)
        judged = held_out_error(spec, found, held_out, roads=roads)
        said = (_about_rest(rest, without, judged.after),)
    if not judged.after <= limit:
        bench.refuse(_why(judged, found, limit), lambda: refusal_page(judged, held_out.frames, limit))
    return told_fit(
        bench,
        found,
        judged,
        rest=rest,
        settings={
            "fit": None if fit is None else list(fit),
            "limit": limit,
            "trained_mask": trained is not None,
            "free_form": free_form,
        },
        readings=readings or {},
        warnings=(*prior.remarks, *said, *warnings_of(prior.parameters, found.numbers, found.covariance)),
        max_age_s=max_age_s,
        began=began,
    )


def _why(judged: HeldOut, found: Fit, limit: float) -> str:
    worse = judged.after >= judged.before
    gain = "no better than" if worse else f"better than the {judged.before:.3g} of"
    return (
        f"the fitted twin errs by {judged.after:.3g} times the noise on held-out frames, {limit:g} is allowed "
        f"({gain} the rig file's; {found.residual:.3g} on the fitted ones): look at the structure of the error; check "
        "orientation and registration (`calibrate` with `registration`; `labctl calibration show`), that nothing "
        "moves between exposures, and the geometry in the rig file; or allow more by `limit`"
    )


def _about_rest(rest: ResidualPsf, without: float, after: float) -> str:
    if rest.ridge is None:
        return (
            "the captures tell no rest of the PSF beside the fitted values: frames that were left out are foretold no "
            "better with any"
        )
    return (
        f"a free-form rest of the PSF moves {100 * rest.light:.2g} % of the light; the error on held-out frames is "
        f"{after:.3g} of the noise with it and {without:.3g} without"
    )


def _check_light(bench: Bench, captures: Captures) -> None:
    saturated = captures.saturated_share
    if saturated > MOST_SATURATED:
        bench.refuse(
            f"{100 * saturated:.1f} % of the pixels are saturated at {captures.saturation_dn} DN, "
            f"{100 * MOST_SATURATED:g} % are allowed: dim the light, or look for a bright spot on the sensor",
            lambda: _brightest(captures),
        )


def _brightest(captures: Captures) -> Any:
    from protocols.calibrate.page import sheet, show_map

    which = int(np.argmax(captures.frames.reshape(len(captures), -1).mean(axis=1)))
    figure, axes = sheet(4.0, 1, 1)
    show_map(axes[0][0], captures.frames[which], f"Brightest frame, number {which}", "DN", sigmas=8.0)
    return figure
