"""The page of a photon transfer, and the picture of a ladder that does not allow one."""

from __future__ import annotations

from collections.abc import Mapping
from typing import TYPE_CHECKING, Any

import numpy as np
import numpy.typing as npt

from labctl.calibration.record import Calibration
from protocols.calibrate.page import BESIDE, CONCLUDED, MEASURED, WARNED, in_style, list_values, sheet, show_map

if TYPE_CHECKING:
    from matplotlib.axes import Axes
    from matplotlib.figure import Figure

LISTED = (
    ("gain_dn_per_e", "gain"),
    ("gain_e_per_dn", "its inverse"),
    ("read_noise_e", "read noise"),
    ("read_noise_dn", "the same"),
    ("full_well_e", "saturation capacity"),
    ("linearity_error", "linearity error"),
    ("prnu", "PRNU"),
    ("dsnu_e", "DSNU"),
    ("snr_max", "largest SNR"),
    ("dynamic_range", "dynamic range"),
    ("absolute_threshold_e", "signal at SNR 1"),
    ("light_drift", "light drift"),
)


@in_style
def page(calibration: Calibration) -> Figure:
    """Photon transfer curve, linearity and its deviation, SNR, PRNU map, and the numbers."""
    arrays = calibration.arrays
    figure, axes = sheet(5.6, 2, 3, width_ratios=(1, 1, 1.15))
    _transfer(axes[0, 0], calibration)
    _linearity(axes[0, 1], arrays)
    _deviation(axes[0, 2], arrays)
    _snr(axes[1, 0], calibration)
    if "prnu_map" in arrays:
        show_map(axes[1, 1], 100 * arrays["prnu_map"], "Response of single pixels", "% of the surface")
    else:
        axes[1, 1].set_axis_off()
    list_values(axes[1, 2], calibration, LISTED, "Found, in electrons")
    return figure


@in_style
def ladder_picture(table: Mapping[str, npt.NDArray[np.float64]], title: str) -> Figure:
    """Signals and rates of a ladder in the order in which they came, for a refusal; see `Ladder.table`."""
    figure, axes = sheet(3.0, 1, 2)
    saturated = table["top_share"] > 0
    for mark, which, name, colour in (
        ("o", ~saturated, "below saturation", MEASURED),
        ("x", saturated, "saturated", WARNED),
    ):
        if which.any():
            axes[0, 0].plot(1e3 * table["exposure_s"][which], table["signal_dn"][which], mark, color=colour, label=name)
            rate = table["signal_dn"][which] / table["exposure_s"][which]
            axes[0, 1].plot(table["visit"][which], rate, mark, color=colour)
    axes[0, 0].set(xlabel="exposure (ms)", ylabel="signal above black (DN)", title=title)
    axes[0, 0].legend()
    axes[0, 1].set(xlabel="visit of a rung, in time", ylabel="signal per time (DN/s)", title="Up and down again")
    return figure


def _transfer(axes: Axes, calibration: Calibration) -> None:
    arrays = calibration.arrays
    counts = arrays["counts_for_gain"] > 0
    signal, variance, error = arrays["signal_dn"], arrays["variance_dn2"], arrays["variance_dn2_error"]
    _points(axes, signal, variance, error, counts, "for the gain", "not used")
    line = np.linspace(0, signal[counts].max(), 2)
    axes.plot(line, calibration.value("gain_dn_per_e") * line, color=CONCLUDED, label="gain x signal")
    axes.axvline(calibration.value("full_well_dn"), color=BESIDE, linestyle="--", linewidth=0.8, label="saturation")
    axes.set(xlabel="signal above black (DN)", ylabel="variance above dark (DN²)", title="Photon transfer")
    axes.legend()


def _linearity(axes: Axes, arrays: Mapping[str, Any]) -> None:
    counts = arrays["counts_for_line"] > 0
    time_ms, signal = 1e3 * arrays["exposure_s"], arrays["signal_dn"]
    _points(axes, time_ms, signal, arrays["signal_dn_error"], counts, "for the line", "not used")
    if counts.any() and np.isfinite(arrays["deviation"]).all():
        axes.plot(time_ms, signal / (1 + arrays["deviation"]), color=CONCLUDED, label="line")
    axes.set(xlabel="exposure (ms)", ylabel="signal above black (DN)", title="Linearity")
    axes.legend()


def _deviation(axes: Axes, arrays: Mapping[str, Any]) -> None:
    counts = arrays["counts_for_line"] > 0
    signal, deviation = arrays["signal_dn"], 100 * arrays["deviation"]
    error = 100 * arrays["signal_dn_error"] / np.abs(signal)
    if np.isfinite(deviation).all() and counts.any():
        axes.errorbar(signal[counts], deviation[counts], error[counts], fmt="o", markersize=3, color=MEASURED)
        axes.axhline(0, color=CONCLUDED)
    axes.set(xlabel="signal above black (DN)", ylabel="deviation from the line (%)", title="Error of linearity")


def _snr(axes: Axes, calibration: Calibration) -> None:
    arrays = calibration.arrays
    signal_e = arrays["signal_dn"] / calibration.value("gain_dn_per_e")
    noise_dn2 = arrays["variance_dn2"] + calibration.value("read_noise_dn") ** 2 + 1 / 12
    good = (arrays["counts_for_line"] > 0) | (arrays["counts_for_gain"] > 0)
    axes.plot(arrays["snr_signal_e"], arrays["snr"], color=CONCLUDED, label="one pixel in time")
    axes.plot(arrays["snr_signal_e"], arrays["snr_total"], color=BESIDE, linestyle="--", label="between pixels too")
    axes.plot(signal_e[good], arrays["signal_dn"][good] / np.sqrt(noise_dn2[good]), "o", markersize=3, color=MEASURED)
    axes.axhline(1, color="#9aa3ad", linewidth=0.6)
    axes.set(xscale="log", yscale="log", xlabel="signal (e-)", ylabel="signal / noise", title="SNR")
    axes.legend()


def _points(axes: Axes, x: Any, y: Any, error: Any, counts: Any, yes: str, no: str) -> None:
    axes.errorbar(x[counts], y[counts], error[counts], fmt="o", markersize=3, color=MEASURED, label=yes)
    if (~counts).any():
        axes.plot(x[~counts], y[~counts], "o", markersize=3, markerfacecolor="none", color=MEASURED, label=no)
