"""From a calibration of kind `twin` back to a twin that predicts the raw frames of its bench."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

import numpy as np

from labctl.calibration.validity import judge
from labctl.errors import BadInput, RunFailed

if TYPE_CHECKING:
    import torch

    from labctl.calibration.record import Calibration
    from labctl.rig_file import RigSpec
    from labctl.roads import Roads
    from sim.twin import Twin

KIND = "twin"

SENSOR_MAPS = {"flat": "flat_map", "dark_dn": "dark_map_dn", "dark_rate_e_per_s": "dark_rate_map_e_per_s"}
"""Arrays of the calibration, and the values of the sensor that they become."""

ABOUT_THE_FIT = frozenset({"error_before", "error_after", "noise_floor_dn", "residual_light"})
"""Values of the calibration that are none of the twin."""

PANEL_TABLE, PSF_RESIDUAL = "panel_table", "psf_residual"


def fitted_twin(
    spec: RigSpec,
    calibration: Calibration,
    *,
    roads: Roads | None = None,
    dtype: torch.dtype | None = None,
) -> Twin:
    """The twin of `spec` with the values of `calibration`: it predicts raw DN frames of the bench that was fitted.

    roads: those that pictures go down on the bench; by default the roads of the rig file. dtype: float32 by default.
    Its sensor maps are centred: frames may be smaller than those of the fit, not larger.
    Raises BadInput for a calibration of another kind, or of another bench.
    """
    import torch

    check_twin(spec, calibration)
    return twin_from(
        spec, values_of(calibration), roads=roads, dtype=dtype or torch.float32, margin_px=margin_of(calibration)
    )


def twin_from(
    spec: RigSpec,
    values: dict[str, Any],
    *,
    roads: Roads | None = None,
    dtype: torch.dtype,
    margin_px: int | None = None,
) -> Twin:
    """The twin of `spec` with these values and maps by name, as arrays or numbers, and this room round the shadow.

    `full_well_e`, which no twin has as a value, goes into its settings.
    """
    import torch

    settings, given = spec.twin, dict(values)
    changed: dict[str, Any] = {"optics": settings.optics.model_copy(update={"margin_px": margin_px})}
    full_well_e = given.pop("full_well_e", None)
    if full_well_e is not None:
        changed["sensor"] = settings.sensor.model_copy(update={"full_well_e": float(full_well_e)})
    tensors = {name: torch.as_tensor(np.asarray(value), dtype=dtype) for name, value in given.items()}
    return settings.model_copy(update=changed).build(roads or spec.roads, dtype=dtype, values=tensors)


def check_twin(spec: RigSpec, calibration: Calibration) -> None:
    """Raises BadInput unless `calibration` is a twin of this bench, told in the terms of this rig file."""
    if calibration.kind != KIND:
        raise BadInput(
            f"a calibration of kind `{calibration.kind}` is no fitted twin; give the output `twin` of a `fit_twin` step"
        )
    verdict = judge(calibration.record, spec)
    if verdict.standing == "foreign":
        raise BadInput(f"the fitted twin is {verdict}; fit one on this bench")
    changed = [reason for reason in verdict.reasons if "changed since" in reason]
    if changed:
        raise BadInput(f"the fitted twin does not fit this rig file: {'; '.join(changed)}; fit it anew")


def values_of(calibration: Calibration) -> dict[str, Any]:
    """Values and maps of the twin by name, as float64 arrays, ready for `twin_from`."""
    found: dict[str, Any] = {
        name: np.asarray(value.value, dtype=np.float64)
        for name, value in calibration.record.values.items()
        if name not in ABOUT_THE_FIT
    }
    for array, name in SENSOR_MAPS.items():
        if array in calibration.arrays:
            found[name] = np.asarray(calibration.arrays[array], dtype=np.float64)
    if PANEL_TABLE in calibration.arrays:
        found["panel_lut"] = np.asarray(calibration.arrays[PANEL_TABLE], dtype=np.float64)
        found.pop("panel_gamma", None)
    if PSF_RESIDUAL in calibration.arrays:
        found[PSF_RESIDUAL] = np.asarray(calibration.arrays[PSF_RESIDUAL], dtype=np.float64)
    return found


def margin_of(calibration: Calibration) -> int | None:
    """Room round the shadow that the fit used, in sensor pixels; None takes what its values need."""
    margin = calibration.record.settings.get("margin_px")
    return None if margin is None else int(margin)


def posterior_of(calibration: Calibration) -> tuple[list[str], np.ndarray, np.ndarray]:
    """Labels of the fitted numbers of a twin (`shift_px[0]`), their means (P,) and their covariance (P, P).

    Raises RunFailed when the calibration does not hold them.
    """
    labels = [str(label) for label in calibration.record.settings.get("parameters", ())]
    covariance = np.asarray(calibration.arrays.get("covariance", np.empty((0, 0))), dtype=np.float64)
    if not labels or covariance.shape != (len(labels), len(labels)):
        raise RunFailed(
            f"the fitted twin names {len(labels)} parameters, its covariance is {covariance.shape}; fit it anew"
        )
    mean = []
    for label in labels:
        name, _, place = label.partition("[")
        mean.append(float(calibration.vector(name)[int(place.rstrip("]") or 0)]))
    return labels, np.array(mean), covariance
