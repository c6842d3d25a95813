"""What is known of the values of a twin before the fit: from calibrations with their errors, else wide and stated."""

from __future__ import annotations

import math
from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Any

import numpy as np
import numpy.typing as npt

if TYPE_CHECKING:
    from labctl.calibration.record import Calibration
    from labctl.rig_file import RigSpec

FloatArray = npt.NDArray[np.float64]

LEAK = "leak"
"""What is fitted in place of `log_contrast`: 1 / contrast, in which frames are linear."""

USED_KINDS = ("dark", "photon_transfer", "flat", "stray_light", "panel_response", "registration", "monitor")
"""Kinds of calibration that tell the fit something."""

LEAST_LEAK, MOST_LEAK = 1e-6, 0.5
REACH_SIGMA = 3.0
"""How far from its prior a value is searched for."""

FLOORS = {"shift_px": 0.02, "rotation_rad": 1e-3, "scale": 1e-3, "tilt_rad": 2e-3, LEAK: 2e-4, "stray": 2e-3}
"""A calibration is never trusted more than this, whatever error it states: it knows another model of the bench."""

LEAK_UNSURE = 0.2
"""Relative error of a leak that came without one."""

PRNU_PRIOR = 0.02
"""Standard deviation of the pixel gain where no flat field was measured."""

OFFSET_PRIOR = 0.005
"""Standard deviation of the pixel offset where no dark frame was measured, as a share of full scale."""


@dataclass(frozen=True)
class Parameter:
    """One number that is fitted.

    name: value of the twin, or `leak`. index: place in a value of several numbers, else None. mean, sigma: the prior.
    low, high: limits. source: where the prior comes from, in words.
    """

    name: str
    index: int | None
    mean: float
    sigma: float
    low: float
    high: float
    unit: str
    source: str

    @property
    def start(self) -> float:
        """Where a search begins: at the prior, but inside the limits."""
        inside = 0.1 * min(self.sigma, self.high - self.low)
        return min(max(self.mean, self.low + inside), self.high - inside)

    @property
    def label(self) -> str:
        """Such as `shift_px[0]`."""
        return self.name if self.index is None else f"{self.name}[{self.index}]"


@dataclass(frozen=True)
class Prior:
    """All that is known before the fit.

    parameters: what is fitted. fixed: values and maps of the twin that are not. flat_sigma, dark_sigma_dn: (h, w) or ()
    errors of the two fixed patterns, relative and in DN. measured: whether each of flat and dark came from a
    calibration. built_on: ids of the calibrations used, by kind. remarks: what a reader must know.
    """

    parameters: tuple[Parameter, ...]
    fixed: Mapping[str, Any]
    flat_sigma: FloatArray
    dark_sigma_dn: FloatArray
    measured: Mapping[str, bool]
    built_on: Mapping[str, str] = field(default_factory=dict)
    remarks: tuple[str, ...] = ()

    def without(self, *names: str) -> Prior:
        """The same with these values not fitted: they stay at their prior."""
        from dataclasses import replace

        kept = tuple(p for p in self.parameters if p.name not in names)
        held = {name: values_by_name(self.parameters, [p.mean for p in self.parameters])[name] for name in names}
        return replace(self, parameters=kept, fixed={**self.fixed, **as_twin_values(held)})


def prior_of(spec: RigSpec, calibrations: Mapping[str, Calibration], *, fit: tuple[str, ...] | None = None) -> Prior:
    """The prior of this rig with these calibrations. fit: only these values (`log_contrast` is the leak); None: all."""
    settings = spec.twin
    used = {kind: calibrations[kind] for kind in USED_KINDS if kind in calibrations}
    parameters, fixed, remarks = _wide(settings), dict[str, Any](), list[str]()
    measured = {"flat": "flat" in used, "dark": "dark" in used}
    flat_sigma, dark_sigma = np.array(PRNU_PRIOR), np.array(OFFSET_PRIOR * settings.sensor.top_dn)
    if "dark" in used:
        dark_sigma = _use_dark(used["dark"], fixed)
        del parameters["dark_offset"]
    else:
        remarks.append("no dark frame was measured: dark_offset is fitted, and the pattern of the dark with it")
    if "photon_transfer" in used:
        _use_photon_transfer(used["photon_transfer"], fixed)
    else:
        remarks.append("no photon transfer was measured: gain and read noise are those of the rig file")
    if "flat" in used:
        fixed["flat_map"] = np.asarray(used["flat"].arrays["flat"], dtype=np.float64)
        flat_sigma = _errors(used["flat"], "flat", 2e-3)
        del parameters["vignetting"]
    else:
        remarks.append("no flat field was measured: vignetting is fitted, and the pattern of the pixels with it")
    if "dark" in used and "dark_rate_dn_per_s" in used["dark"].arrays:
        rate = np.asarray(used["dark"].arrays["dark_rate_dn_per_s"], dtype=np.float64)
        gain = float(fixed.get("gain_dn_per_e", settings.sensor.gain_dn_per_e))
        fixed["dark_rate_map_e_per_s"] = rate / gain
    if "panel_response" in used:
        _use_panel(used["panel_response"], parameters, fixed)
    if "registration" in used:
        _use_registration(used["registration"], parameters)
    if "stray_light" in used:
        _narrow(parameters, used["stray_light"], {"stray": ("stray", 1.0)})
    if "monitor" in used:
        _narrow(parameters, used["monitor"], {"monitor_gamma": ("scene_gamma", 1.0)})
    listed = [p for found in parameters.values() for p in found]
    prior = Prior(
        tuple(listed),
        fixed,
        flat_sigma,
        dark_sigma,
        measured,
        {kind: calibration.id for kind, calibration in used.items()},
        tuple(remarks),
    )
    if fit is None:
        return prior
    wanted = {LEAK if name == "log_contrast" else name for name in fit}
    return prior.without(*(name for name in parameters if name not in wanted))


def values_by_name(parameters: tuple[Parameter, ...], numbers: Any) -> dict[str, Any]:
    """Numbers in the order of `parameters` as values by name; several numbers of one name as an array."""
    found: dict[str, Any] = {}
    for parameter, number in zip(parameters, numbers, strict=True):
        if parameter.index is None:
            found[parameter.name] = float(number)
        else:
            found.setdefault(parameter.name, []).append(float(number))
    return {name: np.asarray(value) if isinstance(value, list) else value for name, value in found.items()}


def as_twin_values(values: Mapping[str, Any]) -> dict[str, Any]:
    """The same with the leak told as `log_contrast`."""
    found = dict(values)
    if LEAK in found:
        found["log_contrast"] = -math.log(min(max(float(found.pop(LEAK)), LEAST_LEAK), MOST_LEAK))
    return found


def _wide(settings: Any) -> dict[str, list[Parameter]]:
    """What an unmeasured bench may be off by: wider than a set-up built by hand is."""
    near, panel, light = settings.registration, settings.panel, settings.light
    shift = near.shift_px
    rows: tuple[tuple[str, int | None, float, float, float, float, str], ...] = (
        ("shift_px", 0, shift[0], 1.5, -math.inf, math.inf, "px"),
        ("shift_px", 1, shift[1], 1.5, -math.inf, math.inf, "px"),
        ("rotation_rad", None, math.radians(near.rotation_deg), math.radians(1.5), -1.0, 1.0, "rad"),
        ("scale", None, near.scale, 0.02, 0.5, 2.0, "1"),
        ("blur_px", None, max(near.blur_px, 0.6), 0.4, 0.02, 8.0, "px"),
        ("tilt_rad", 0, 0.0, math.radians(1), -0.3, 0.3, "rad"),
        ("tilt_rad", 1, 0.0, math.radians(1), -0.3, 0.3, "rad"),
        ("gap_error", None, 0.0, 0.03, -0.3, 0.3, "1"),
        ("panel_gamma", None, panel.gamma, 0.5, 0.3, 5.0, "1"),
        (LEAK, None, 1 / panel.contrast, 0.03, LEAST_LEAK, MOST_LEAK, "1"),
        ("crosstalk", None, panel.crosstalk, 0.1, 0.0, 0.8, "1"),
        ("monitor_gamma", None, settings.monitor.gamma, 0.2, 0.3, 5.0, "1"),
        ("stray", None, light.stray, 0.05, 0.0, 1.0, "1"),
        ("photons_per_s", None, light.photons_per_s, 0.5 * light.photons_per_s, 0.0, math.inf, "1/s"),
        ("vignetting", None, settings.sensor.vignetting, 0.3, 0.0, 0.95, "1"),
        ("dark_offset", None, settings.sensor.dark_offset, 0.02, 0.0, 0.5, "1"),
    )
    found: dict[str, list[Parameter]] = {}
    for name, index, mean, sigma, low, high, unit in rows:
        reach = REACH_SIGMA * sigma
        parameter = Parameter(
            name, index, mean, sigma, max(low, mean - reach), min(high, mean + reach), unit, "wide, round the rig file"
        )
        found.setdefault(name, []).append(parameter)
    if panel.lut is not None:
        del found["panel_gamma"]
    if settings.optics.model != "shadow":
        del found["tilt_rad"]
    return found


def _use_dark(dark: Calibration, fixed: dict[str, Any]) -> FloatArray:
    fixed["dark_map_dn"] = np.asarray(dark.arrays["dark_dn"], dtype=np.float64)
    return _errors(dark, "dark_dn", 0.5)


def _use_photon_transfer(found: Calibration, fixed: dict[str, Any]) -> None:
    fixed["gain_dn_per_e"] = found.value("gain_dn_per_e")
    fixed["read_noise_e"] = found.value("read_noise_e")
    if "full_well_e" in found.record.values:
        fixed["full_well_e"] = found.value("full_well_e")


def _use_panel(found: Calibration, parameters: dict[str, list[Parameter]], fixed: dict[str, Any]) -> None:
    """The measured response, without its floor: what is left at level 0 is the leak."""
    table = np.asarray(found.arrays["table"], dtype=np.float64)
    rising = np.maximum.accumulate((table - table[0]) / (table[-1] - table[0]))
    fixed["panel_lut"] = rising
    parameters.pop("panel_gamma", None)
    contrast = found.value("contrast")
    error = found.error("contrast")
    if math.isfinite(error) and error > 0:
        sigma = error / contrast**2
    else:  # no light at level 0 was told from none, or a file that states no error
        sigma = max(LEAK_UNSURE / contrast, float(found.arrays.get("table_error", np.zeros(1))[0]))
    _set(parameters, LEAK, None, 1 / contrast, sigma, found.kind)


def _use_registration(found: Calibration, parameters: dict[str, list[Parameter]]) -> None:
    names = {name: (name, 1.0) for name in ("shift_px", "rotation_rad", "scale", "tilt_rad")}
    _narrow(parameters, found, names)


def _narrow(parameters: dict[str, list[Parameter]], found: Calibration, names: Mapping[str, tuple[str, float]]) -> None:
    """Take value and error of a calibration as the prior. names: value of the twin → name there, widening."""
    for name, (there, widening) in names.items():
        told = found.record.values.get(there)
        if told is None or name not in parameters:
            continue
        values = np.atleast_1d(np.asarray(told.value, dtype=float))
        errors = np.atleast_1d(np.asarray(np.nan if told.error is None else told.error, dtype=float))
        for place, parameter in enumerate(parameters[name]):
            error = errors[min(place, len(errors) - 1)] * widening
            sigma = error if math.isfinite(error) else parameter.sigma
            _set(parameters, name, parameter.index, float(values[place]), sigma, found.kind)


def _set(
    parameters: dict[str, list[Parameter]], name: str, index: int | None, mean: float, sigma: float, kind: str
) -> None:
    from dataclasses import replace

    for place, parameter in enumerate(parameters[name]):
        if parameter.index == index:
            wide = max(sigma, FLOORS.get(name, 0.0))
            limits = (min(parameter.low, mean - 10 * wide), max(parameter.high, mean + 10 * wide))
            low = max(limits[0], parameter.low if name in (LEAK, "stray", "crosstalk") else limits[0])
            parameters[name][place] = replace(
                parameter, mean=mean, sigma=wide, low=low, high=limits[1], source=f"calibration `{kind}`"
            )


def _errors(calibration: Calibration, array: str, unknown: float) -> FloatArray:
    """(h, w) errors of an array, or () where there are none."""
    errors = calibration.arrays.get(f"{array}_error")
    return np.array(unknown) if errors is None else np.asarray(errors, dtype=np.float64)
