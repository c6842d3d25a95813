"""Photon transfer and linearity on the bench: a ladder of exposures, up and down again, of an evenly lit sensor."""

from __future__ import annotations

from collections.abc import Sequence
from typing import TYPE_CHECKING, Annotated, ClassVar

import numpy as np
import numpy.typing as npt
from annotated_types import Ge, Gt, Le, Lt, MaxLen, MinLen

from labctl.calibration.record import ArrayNote, Calibration, Value
from labctl.steps import StepSetting
from protocols.calibrate import emva
from protocols.calibrate.exposure_ladder import HALF, Ladder, climb
from protocols.calibrate.kind import Found, Kind
from protocols.calibrate.lamp_drift import Drift
from protocols.calibrate.nonuniformity import Spread, middle, spread_of, without_trend
from protocols.calibrate.photon_transfer_page import ladder_picture, page

if TYPE_CHECKING:
    from matplotlib.figure import Figure

    from protocols.calibrate.bench import Bench

FloatArray = npt.NDArray[np.float64]

FILLS = (0.02, 0.05, 0.10, 0.15, 0.20, 0.30, 0.40, 0.50, 0.60, 0.70, 0.80, 0.90)
"""Of the brightest pixels, between black and saturation: where the rungs stand."""

EMPTY = 0.05
"""Share of the range of the sensor: with less in the brightest rung there is no light, at most dark current."""

LEAST_LIGHT = 0.5
"""Share of the saturation capacity that the brightest rung should reach."""

MIDDLE = 5 / 8
"""Share of each side in which PRNU is told: nearer the edge the shadow of the mask may see beyond the scene."""

SURFACE_DEGREE = 3
"""Of the smooth surface that is taken for uneven light."""

CHI2_LIMIT = 3.0


class PhotonTransfer(Kind):
    """EMVA 1288 without an absolute radiometer: white scene, open mask, a ladder of exposures up and down again.

    Every visit of a rung takes `frames` frames in pairs. Going up and down, slow drift of the light drops out of the
    means of the rungs, and is told.
    """

    name: ClassVar[str] = "photon_transfer"
    title: ClassVar[str] = "Photon transfer and linearity"
    after: ClassVar[tuple[str, ...]] = ("dark",)

    frames: Annotated[int, Ge(2), Le(256)] = 4
    """Of each visit of a rung; even."""

    dark_frames: Annotated[int, Ge(4), Le(4096)] = 24
    """For the noise in the dark; even."""

    fills: Annotated[tuple[Annotated[float, Gt(0), Lt(1)], ...], MinLen(5), MaxLen(200)] = FILLS
    """Where the rungs stand, as share of saturation reached by the brightest pixels."""

    exposures_s: Annotated[tuple[Annotated[float, Gt(0), Le(60)], ...], MaxLen(200)] = ()
    """Exposures of the rungs; empty: found from `fills`."""

    least_rungs: Annotated[int, Ge(3), Le(200)] = 5
    """Rungs between dark and saturation that are needed."""

    drift_limit: Annotated[float, Gt(0), Lt(1)] = 0.02
    """Relative change of the light over the ladder that is let pass."""

    def exposures(self, setting: StepSetting) -> int:
        """See `Kind.exposures`."""
        return 2 * self.frames * len(self.exposures_s or self.fills) + self.dark_frames + self.frames + 10

    def measure(self, bench: Bench) -> Found:
        """See `Kind.measure`."""
        ladder = climb(
            bench, fills=self.fills, exposures_s=self.exposures_s, frames=self.frames, dark_frames=self.dark_frames
        )
        _refuse_dark(bench, ladder)
        _refuse_few(bench, ladder, self.least_rungs)
        drift = ladder.drift()
        if drift is not None and drift.sure and abs(drift.change) > self.drift_limit:
            bench.refuse(
                f"the light drifts: {drift.change:+.1%} ± {drift.error:.1%} over the ladder, {self.drift_limit:.0%} is "
                "allowed; let the lamp or the display warm up, or use a stabilised one, then calibrate again",
                lambda: ladder_picture(ladder.table(), f"The light changed by {drift.change:+.1%} over the ladder"),
            )
        try:
            transfer = emva.photon_transfer(ladder.rungs, ladder.dark, ladder.plateau)
        except ValueError as error:
            reason = str(error)
            bench.refuse(
                f"there is no gain to be told: {reason}; look whether the camera filters noise, corrects gamma or "
                "compresses its frames, and switch that off",
                lambda: ladder_picture(ladder.table(), "The noise does not tell a gain"),
            )
        return _found(bench, ladder, transfer, drift)

    def draw(self, calibration: Calibration) -> Figure:
        """See `Kind.draw`."""
        return page(calibration)


def _refuse_dark(bench: Bench, ladder: Ladder) -> None:
    brightest = max(ladder.rungs, key=lambda rung: rung.mean_dn)
    signal = brightest.mean_dn - ladder.dark.mean_dn
    needed = EMPTY * (bench.saturation_dn - ladder.dark.mean_dn)
    if signal < needed:
        bench.refuse(
            f"the frames are empty: a white scene through the open mask gives {signal:+.2g} DN in "
            f"{brightest.exposure_s:.3g} s, at least {needed:.3g} DN are needed; look at the lamp, the shutter, the "
            "lens cap and the scene display",
            lambda: ladder_picture(ladder.table(), "No light in any rung"),
        )


def _refuse_few(bench: Bench, ladder: Ladder, least: int) -> None:
    free = sum(ladder.free)
    if free >= least:
        return
    saturated = sum(rung.top_share > emva.CLIPPED for rung in ladder.rungs)
    bench.refuse(
        f"{saturated} of {len(ladder.rungs)} rungs of the ladder are saturated, {free} are left, at least {least} are "
        "needed; dim the light, or choose shorter `exposures_s` or smaller `fills`",
        lambda: ladder_picture(ladder.table(), f"{saturated} of {len(ladder.rungs)} rungs are saturated"),
    )


def _found(bench: Bench, ladder: Ladder, transfer: emva.Transfer, drift: Drift | None) -> Found:
    signal = np.array([rung.mean_dn - ladder.dark.mean_dn for rung in ladder.rungs])
    signal_error = np.array([np.hypot(rung.mean_error_dn, ladder.dark.mean_error_dn) for rung in ladder.rungs])
    time_s = np.array([rung.exposure_s for rung in ladder.rungs])
    low, high = (share * ladder.capacity_dn for share in emva.LINEAR_SHARES)
    within = np.array(ladder.free) & (signal >= low) & (signal <= high)
    line = emva.linearity(time_s, signal, signal_error, within)
    dark = bench.built_on["dark"]
    prnu, prnu_map = _prnu(ladder, dark)
    dsnu = spread_of(dark.arrays["dark_dn"], float((dark.arrays["dark_dn_error"] ** 2).mean()))
    gain, gain_error = transfer.gain_dn_per_e, transfer.gain_error
    values = _sensor_values(transfer)
    if line is not None:
        values["linearity_error"] = Value(
            value=line.error,
            error=line.error_of_error,
            unit="1",
            text="Mean absolute deviation from a line, relative, 5 % to 95 % of saturation; "
            f"noise alone: {line.from_noise:.2g}",
        )
    if prnu is not None:
        values["prnu"] = Value(
            value=prnu.total,
            error=prnu.total_error,
            unit="1",
            text="Photo response non-uniformity of these pixels, middle of the frame, smooth surface taken off",
        )
    values["dsnu_dn"] = Value(value=dsnu.total, error=dsnu.total_error, unit="DN", text="Dark signal non-uniformity")
    values["dsnu_e"] = Value(
        value=dsnu.total / gain,
        error=float(np.hypot(dsnu.total_error / gain, dsnu.total / gain * gain_error / gain)),
        unit="e-",
        text="Dark signal non-uniformity",
    )
    for name, part in (("rows", dsnu.rows), ("columns", dsnu.columns), ("pixels", dsnu.pixels)):
        values[f"dsnu_{name}_dn"] = Value(value=part, error=None, unit="DN", text=f"Its part that goes by {name}")
    if drift is not None:
        values["light_drift"] = Value(
            value=drift.change, error=drift.error, unit="1", text="Change of the light over the ladder"
        )
    return Found(
        values=values,
        arrays=_curves(ladder, transfer, line, within, signal, signal_error, time_s, dsnu, prnu, prnu_map),
        warnings=tuple(_warnings(ladder, transfer, line, drift)),
        holds_for={"frame_shape": list(bench.frame_shape), "gain_db": 0.0},
    )


def _sensor_values(transfer: emva.Transfer) -> dict[str, Value]:
    gain, error = transfer.gain_dn_per_e, transfer.gain_error
    noise_e, noise_error = transfer.read_noise_e, transfer.read_noise_e_error
    threshold = transfer.absolute_threshold_e
    threshold_error = noise_e * noise_error / float(np.sqrt(transfer.noise_e2 + 0.25))
    full, full_error = transfer.full_well_e, transfer.full_well_e_error
    limit = ", at most: rounding hides it" if transfer.read_noise_is_limit else ", rounding taken off"
    return {
        "gain_dn_per_e": Value(value=gain, error=error, unit="DN/e-", text="System gain K"),
        "gain_e_per_dn": Value(value=1 / gain, error=error / gain**2, unit="e-/DN", text="Its inverse"),
        "read_noise_e": Value(value=noise_e, error=noise_error, unit="e-", text=f"Temporal dark noise{limit}"),
        "read_noise_dn": Value(
            value=transfer.read_noise_dn,
            error=transfer.read_noise_dn_error,
            unit="DN",
            text=f"Temporal dark noise{limit}",
        ),
        "full_well_e": Value(value=full, error=full_error, unit="e-", text="Saturation capacity"),
        "full_well_dn": Value(
            value=transfer.full_well_dn, error=transfer.full_well_dn_error, unit="DN", text="Saturation above black"
        ),
        "snr_max": Value(
            value=transfer.snr_max, error=full_error / (2 * transfer.snr_max), unit="1", text="SNR at saturation"
        ),
        "dynamic_range": Value(
            value=transfer.dynamic_range,
            error=transfer.dynamic_range * float(np.hypot(full_error / full, threshold_error / threshold)),
            unit="1",
            text="Saturation capacity over absolute threshold",
        ),
        "absolute_threshold_e": Value(
            value=threshold,
            error=threshold_error,
            unit="e-",
            text="Signal of SNR 1; in photons it needs the quantum efficiency, thus a calibrated photometer",
        ),
    }


def _prnu(ladder: Ladder, dark: Calibration) -> tuple[Spread | None, FloatArray]:
    """Spread of the response of the pixels in the middle of the frame, and its map; None without a rung for it."""
    if not ladder.half_frames:
        return None, np.zeros((0, 0))
    part = middle((ladder.half.shape[0], ladder.half.shape[1]), MIDDLE)
    light = (ladder.half - dark.arrays["dark_dn"])[part]
    smooth_off, numbers = without_trend(light, SURFACE_DEGREE)
    surface = light - smooth_off
    rung = min(ladder.rungs, key=lambda rung: abs(rung.mean_dn - float(ladder.half.mean())))
    noise = rung.variance_dn2 / ladder.half_frames + float((dark.arrays["dark_dn_error"][part] ** 2).mean())
    relative = smooth_off / surface
    return spread_of(relative, noise / float(light.mean()) ** 2, fitted=numbers), relative


def _curves(
    ladder: Ladder,
    transfer: emva.Transfer,
    line: emva.Linearity | None,
    within: npt.NDArray[np.bool_],
    signal: FloatArray,
    signal_error: FloatArray,
    time_s: FloatArray,
    dsnu: Spread,
    prnu: Spread | None,
    prnu_map: FloatArray,
) -> dict[str, tuple[npt.NDArray[np.float64], ArrayNote]]:
    steps_e = np.geomspace(0.5, transfer.full_well_e, 60)
    between = {"dsnu_e": dsnu.total / transfer.gain_dn_per_e, "prnu": 0.0 if prnu is None else prnu.total}
    deviation = np.full(len(signal), np.nan) if line is None else line.deviation
    table = {
        "exposure_s": (time_s, "s", "Exposure of the rung"),
        "signal_dn": (signal, "DN", "Mean above black"),
        "signal_dn_error": (signal_error, "DN", "Standard error, temporal noise alone"),
        "variance_dn2": (
            np.array([rung.variance_dn2 for rung in ladder.rungs]) - ladder.dark.variance_dn2,
            "DN^2",
            "Temporal variance of a pixel above that in the dark",
        ),
        "variance_dn2_error": (
            np.array([rung.variance_error_dn2 for rung in ladder.rungs]),
            "DN^2",
            "Standard error",
        ),
        "counts_for_gain": (transfer.for_gain.astype(np.float64), "1", "1 where the variance counts for the gain"),
        "counts_for_line": (within.astype(np.float64), "1", "1 where the mean counts for the linearity"),
        "deviation": (deviation, "1", "Deviation from the line, relative"),
        "snr_signal_e": (steps_e, "e-", "Signal of the curves of SNR"),
        "snr": (transfer.snr(steps_e), "1", "SNR in time of one pixel, by the model"),
        "snr_total": (transfer.snr(steps_e, **between), "1", "SNR with the differences between pixels"),
        "prnu_map": (prnu_map, "1", "Response of the pixels in the middle, relative to a smooth surface, less 1"),
    }
    return {name: (array, ArrayNote(unit=unit, text=text)) for name, (array, unit, text) in table.items() if array.size}


def _warnings(
    ladder: Ladder, transfer: emva.Transfer, line: emva.Linearity | None, drift: Drift | None
) -> Sequence[str]:
    said = []
    if transfer.chi2 > CHI2_LIMIT:
        said.append(f"the variances scatter about their line {transfer.chi2**0.5:.1f} times as much as chance explains")
    if transfer.read_noise_is_limit:
        said.append("rounding hides the read noise (below 0.49 DN): it is an upper limit; raise the analogue gain")
    if drift is not None and drift.sure:
        said.append(f"the light changed by {drift.change:+.2%} over the ladder; its mean rungs do not feel it")
    if line is None:
        said.append("fewer than three rungs lie between 5 % and 95 % of saturation: linearity is not told")
    brightest = max(rung.mean_dn for rung in ladder.rungs)
    if ladder.plateau.top_share < HALF and ladder.plateau.variance_dn2 > 4 * ladder.dark.variance_dn2:
        said.append("nothing saturates, not even the longest exposure: the saturation capacity is a lower limit")
    elif brightest - ladder.dark.mean_dn < LEAST_LIGHT * ladder.capacity_dn:
        said.append("no rung reaches half of the saturation capacity: use more light for a surer gain")
    return said
