"""A finished fit as a calibration of kind `twin`."""

from __future__ import annotations

from collections.abc import Mapping
from typing import TYPE_CHECKING, Any

import numpy as np
import numpy.typing as npt

from labctl.calibration.record import ArrayNote, Calibration, CalibrationRecord, Value
from protocols.twin_fit.fitted import KIND, PANEL_TABLE, PSF_RESIDUAL
from protocols.twin_fit.priors import LEAK, LEAST_LEAK

if TYPE_CHECKING:
    from protocols.calibrate.bench import Bench
    from protocols.twin_fit.fit import Fit
    from protocols.twin_fit.residual_psf import ResidualPsf
    from protocols.twin_fit.validation import HeldOut

VERSION = 1
"""Of the method."""

BELIEFS = ("optics", "panel", "monitor", "sensor", "light", "registration", "roads")

ROLES = ("mask", "scene", "camera")

TEXTS = {
    "shift_px": "Shift of the shadow, rows and columns",
    "rotation_rad": "Rotation of the mask, from rows to columns",
    "scale": "Size of the shadow over the nominal one",
    "blur_px": "Sigma of the blur on the sensor",
    "tilt_rad": "Tilt of the mask: how the gap grows along rows and along columns",
    "gap_error": "Of the gap from mask to sensor, relative",
    "panel_gamma": "Response of the panel",
    "log_contrast": "Natural logarithm of the contrast of the panel",
    "crosstalk": "Light that a panel pixel exchanges with its neighbours",
    "monitor_gamma": "Response of the scene monitor",
    "stray": "Stray light, as a share of the mean irradiance",
    "photons_per_s": "Photons per second at one sensor pixel, in units of the flat map",
    "vignetting": "Share of light lost at the corner of the sensor",
    "dark_offset": "Added to the black level, as a share of full scale",
}

UNITS = {"gain_dn_per_e": "DN/e-", "read_noise_e": "e-", "full_well_e": "e-"}


def told_fit(
    bench: Bench,
    fit: Fit,
    held_out: HeldOut,
    *,
    rest: ResidualPsf | None = None,
    settings: Mapping[str, Any],
    readings: Mapping[str, float],
    warnings: tuple[str, ...],
    max_age_s: float,
    began: float,
) -> Calibration:
    """The calibration, with the raw frames of `bench`.

    rest: what was fitted of the PSF in free form, beside the values. settings: of the method. began: on the monotonic
    clock.
    """
    labels, covariance = twin_covariance(fit)
    values = fitted_values(fit, labels, np.sqrt(np.diag(covariance)))
    values |= {
        "error_before": Value(
            value=held_out.before, error=None, unit="1", text="Held-out error of the rig file's twin"
        ),
        "error_after": Value(value=held_out.after, error=None, unit="1", text="Held-out error over the noise, fitted"),
        "noise_floor_dn": Value(value=held_out.floor_dn, error=None, unit="DN", text="Noise of the held-out frames"),
    }
    if rest is not None:
        text = "Sum of the absolute weights of the free-form rest of the PSF"
        values["residual_light"] = Value(value=rest.light, error=None, unit="1", text=text)
    arrays = _arrays(fit, covariance, held_out)
    record = CalibrationRecord(
        kind=KIND,
        version=VERSION,
        settings={
            **settings,
            "parameters": labels,
            "margin_px": fit.margin_px,
            "priors": {p.label: {"mean": p.mean, "sigma": p.sigma, "source": p.source} for p in fit.prior.parameters},
            "measured": dict(fit.prior.measured),
        },
        max_age_s=max_age_s,
        holds_for={
            "frame_shape": list(bench.frame_shape),
            "mask_cells": list(bench.cells),
            "scene_px": list(bench.scene_px),
        },
        built_on=dict(fit.prior.built_on),
        values=values,
        arrays={name: note for name, (_, note) in arrays.items()},
        warnings=warnings,
        **bench.provenance(beliefs=BELIEFS, needs=ROLES, readings=readings, began=began),
    )
    return Calibration(record, {name: array for name, (array, _) in arrays.items()}, dict(bench.raw))


def twin_covariance(fit: Fit) -> tuple[list[str], npt.NDArray[np.float64]]:
    """Labels of the fitted values of the twin, and their covariance (P, P); the leak is told as log_contrast.

    The logarithm of a leak that may be zero has no useful error: it is taken no larger than 1.
    """
    labels, slope = list[str](), np.ones(len(fit.numbers))
    for place, parameter in enumerate(fit.prior.parameters):
        labels.append("log_contrast" if parameter.name == LEAK else parameter.label)
        if parameter.name == LEAK:
            slope[place] = -1 / max(fit.numbers[place], float(fit.errors[place]), LEAST_LEAK)
    return labels, np.asarray(fit.covariance * np.outer(slope, slope))


def fitted_values(fit: Fit, labels: list[str], errors: npt.NDArray[np.float64]) -> dict[str, Value]:
    """Values of the twin by name: the fitted ones with their errors, then those that were taken over."""
    error_of = dict(zip(labels, errors, strict=True))
    units = {("log_contrast" if p.name == LEAK else p.name): p.unit for p in fit.prior.parameters}
    found: dict[str, Value] = {}
    for name, value in fit.values.items():
        if np.ndim(value) == 2 or name == "panel_lut":
            continue
        if name in units:
            many = np.ndim(value) == 1
            error = tuple(float(error_of[f"{name}[{k}]"]) for k in range(len(value))) if many else float(error_of[name])
            number = tuple(float(v) for v in value) if many else float(value)
            found[name] = Value(value=number, error=error, unit=units[name], text=TEXTS.get(name, name))
        else:
            number = tuple(float(v) for v in np.ravel(value)) if np.ndim(value) else float(value)
            text = "Taken over, not fitted"
            found[name] = Value(value=number, error=None, unit=UNITS.get(name, "1"), text=text)
    return found


def _arrays(
    fit: Fit, covariance: npt.NDArray[np.float64], held_out: HeldOut
) -> dict[str, tuple[npt.NDArray[Any], ArrayNote]]:
    flat, dark = ("calibrated" if fit.prior.measured[name] else "fitted" for name in ("flat", "dark"))
    arrays: dict[str, tuple[npt.NDArray[Any], ArrayNote]] = {
        "covariance": (covariance, ArrayNote(unit="1", text="Of the values, in the order of settings.parameters")),
        "flat": (fit.flat_map, ArrayNote(unit="1", text=f"Response of every pixel, {flat}")),
        "flat_error": (fit.flat_error, ArrayNote(unit="1", text="Standard deviation")),
        "dark_dn": (fit.dark_map_dn, ArrayNote(unit="DN", text=f"Frame without light at 0 s, {dark}")),
        "dark_dn_error": (fit.dark_error_dn, ArrayNote(unit="DN", text="Standard deviation")),
        "held_out_foretold_dn": (
            held_out.foretold.astype(np.float32),
            ArrayNote(unit="DN", text="Held-out frames as the fitted twin foretells them"),
        ),
        "held_out_deviation": (
            held_out.deviation.astype(np.float32),
            ArrayNote(unit="1", text="Foretold less captured, over the noise of each pixel; 0 where saturated"),
        ),
    }
    if "panel_lut" in fit.prior.fixed:
        table = np.asarray(fit.prior.fixed["panel_lut"], dtype=np.float64)
        arrays[PANEL_TABLE] = (table, ArrayNote(unit="1", text="Response of the panel at levels 0..255, calibrated"))
    if PSF_RESIDUAL in fit.prior.fixed:
        weights = np.asarray(fit.prior.fixed[PSF_RESIDUAL], dtype=np.float64)
        text = "Free-form rest of the PSF, in shares of its sum"
        arrays[PSF_RESIDUAL] = (weights, ArrayNote(unit="1", text=text))
    if "dark_rate_map_e_per_s" in fit.prior.fixed:
        rate = np.asarray(fit.prior.fixed["dark_rate_map_e_per_s"], dtype=np.float64)
        arrays["dark_rate_e_per_s"] = (rate, ArrayNote(unit="e-/s", text="Dark current of every pixel, calibrated"))
    return arrays
