"""The errors of a bench one by one: which values of the twin belong to each, and twins with only some of them."""

from __future__ import annotations

from collections.abc import Collection, Iterable, Mapping, Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
import numpy.typing as npt

FloatArray = npt.NDArray[np.float64]
Values = dict[str, FloatArray]
"""Values and maps of a twin by name; what is not named stays as the rig file says."""

EXPOSURE = "exposure"
"""The one term that is no value of the twin: the bench was exposed for another time than the simulation."""

VIGNETTING, PATTERN = "vignetting", "pattern"

TRACE = 1e-9
"""Below it a share is rounding."""


@dataclass(frozen=True)
class Term:
    """One error. values: names of what it changes in the twin."""

    name: str
    title: str
    values: tuple[str, ...]


TERMS: tuple[Term, ...] = (
    Term("shift", "shift of the shadow", ("shift_px",)),
    Term("turn", "rotation and scale", ("rotation_rad", "scale")),
    Term("tilt", "tilt of the mask", ("tilt_rad",)),
    Term("gap", "gap", ("gap_error",)),
    Term("blur", "blur", ("blur_px",)),
    Term("psf", "rest of the PSF", ("psf_residual",)),
    Term("response", "panel response", ("panel_gamma", "panel_lut")),
    Term("leak", "leak of closed cells", ("log_contrast",)),
    Term("crosstalk", "crosstalk of the panel", ("crosstalk",)),
    Term("monitor", "response of the monitor", ("monitor_gamma",)),
    Term(VIGNETTING, "vignetting", ("vignetting",)),
    Term(PATTERN, "fixed pattern of the gain", ()),
    Term("stray", "stray light", ("stray",)),
    Term("dark", "dark offset", ("dark_offset", "dark_map_dn", "dark_rate_map_e_per_s", "dark_current_e_per_s")),
    Term("gain", "gain of the sensor", ("gain_dn_per_e", "full_well_e")),
    Term("light", "brightness of the light", ("photons_per_s",)),
    Term("read_noise", "read noise", ("read_noise_e",)),
    Term(EXPOSURE, "exposure time", ()),
)
"""In the order of a report. `flat_map` is shared between vignetting and fixed pattern."""


def terms_of(nominal: Values, fitted: Values, exposures_s: tuple[float, float]) -> tuple[Term, ...]:
    """The terms in which bench and simulation differ; what no term knows stands as `other` at the end.

    exposures_s: of the simulation, and of the bench.
    """
    differing = {name for name, value in fitted.items() if not _same(nominal.get(name), value)}
    known = {name for term in TERMS for name in term.values} | {"flat_map"}
    found = []
    for term in TERMS:
        of_flat = "flat_map" in differing and term.name in (VIGNETTING, PATTERN)
        of_time = term.name == EXPOSURE and exposures_s[0] != exposures_s[1]
        if of_flat or of_time or differing & set(term.values):
            found.append(term)
    other = tuple(sorted(differing - known))
    return (*found, Term("other", "what else was fitted", other)) if other else tuple(found)


def switched(
    terms: Sequence[Term],
    on: Collection[str],
    fitted: Mapping[str, FloatArray],
    *,
    nominal_flat: FloatArray,
    radius_squared: FloatArray,
) -> Values:
    """Values of a twin that has only the errors `on` of the `terms`; all else is as the rig file says.

    nominal_flat: (h, w) response of the nominal sensor, radius_squared: (h, w), 0 at its centre and 1 at its corner;
    both of the region of `flat_map`. With all terms on, they are `fitted`.
    """
    names = {name for term in terms if term.name in on for name in term.values}
    values = {name: value for name, value in fitted.items() if name in names}
    if "flat_map" in fitted and {VIGNETTING, PATTERN} & set(on):
        even, pattern = parted_flat(fitted["flat_map"], radius_squared)
        nominal_even, nominal_pattern = parted_flat(nominal_flat, radius_squared)
        smooth = even if VIGNETTING in on else nominal_even
        values["flat_map"] = smooth * (pattern if PATTERN in on else nominal_pattern)
        values.pop("vignetting", None)
    return values


def parted_flat(flat: FloatArray, radius_squared: FloatArray) -> tuple[FloatArray, FloatArray]:
    """`flat` (h, w) as a product of what falls off with the square of the radius, and of what is left pixel by pixel.

    The fall-off is the straight line in radius_squared (h, w) that is nearest to `flat`.
    """
    slope, start = np.polyfit(radius_squared.ravel(), flat.ravel(), 1)
    even = start + slope * radius_squared
    return even, flat / even


def nominal_values(twin: Any, names: Iterable[str]) -> Values:
    """What the twin of the rig file has for these values and maps, as far as it has them."""
    found = {}
    for name in names:
        value = getattr(twin, name, None)
        value = getattr(twin.sensor, name, None) if value is None else value
        value = twin.settings.sensor.full_well_e if name == "full_well_e" else value
        if value is not None:
            found[name] = np.asarray(value.detach() if hasattr(value, "detach") else value, dtype=np.float64)
    return found


def in_words(term: Term, nominal: Mapping[str, FloatArray], fitted: Mapping[str, FloatArray]) -> str:
    """What the term changes: `shift_px (0, 0) → (0.81, −1.2)`; maps by their mean."""
    parts = []
    for name in (name for name in term.values if name in fitted):
        before, after, shown = nominal.get(name), fitted[name], name
        if name == "log_contrast":
            before, after, shown = None if before is None else np.exp(before), np.exp(after), "contrast"
        parts.append(f"{shown} {_told(before)} → {_told(after)}")
    return ", ".join(parts)


def flat_in_words(term: Term, nominal_flat: FloatArray, flat: FloatArray, radius_squared: FloatArray) -> str:
    """What a measured flat (h, w) changes: the share of light lost at the corner of the sensor, or the pattern."""
    told = []
    for side in (nominal_flat, flat):
        slope, start = np.polyfit(radius_squared.ravel(), side.ravel(), 1)
        _, pattern = parted_flat(side, radius_squared)
        number = -slope / start if term.name == VIGNETTING else pattern.std()
        told.append(f"{100 * number if abs(number) > TRACE else 0:.3g} %")
    what = "lost at the corner" if term.name == VIGNETTING else "standard deviation of the pixel gain"
    return f"{what}: {' → '.join(told)}"


def _same(before: FloatArray | None, after: FloatArray) -> bool:
    return (
        before is not None and before.shape == after.shape and bool(np.allclose(before, after, rtol=1e-6, atol=1e-12))
    )


def _told(value: Any) -> str:
    if value is None:
        return "as the file says"
    array = np.atleast_1d(value)
    if array.size > 4:
        return f"{array.size} values, mean {array.mean():.4g}"
    numbers = ", ".join(f"{number:.4g}".replace("-", "−") for number in array)
    return numbers if array.size == 1 else f"({numbers})"
