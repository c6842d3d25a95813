"""The one-page plot of a measured response: the table, what it is beside a power law, its errors, and its dark end."""

from __future__ import annotations

from typing import TYPE_CHECKING

import numpy as np

from labctl.calibration.record import Calibration
from protocols.calibrate.page import BESIDE, CONCLUDED, MEASURED, in_style, list_values, sheet

if TYPE_CHECKING:
    from matplotlib.axes import Axes
    from matplotlib.figure import Figure


@in_style
def response_page(calibration: Calibration) -> Figure:
    """The page of a calibration `panel_response`."""
    figure, ((whole, dark), (off, text)) = sheet(5.6, 2, 2)
    arrays = calibration.arrays
    table, level = np.asarray(arrays["table"]), np.arange(256)
    for axes in (whole, dark):
        _points(axes, calibration)
        axes.plot(level, table, color=CONCLUDED, label="table")
        axes.set(xlabel="level", ylabel="transmittance, level 255 = 1")
    whole.set_title("Response")
    whole.legend()
    dark.set_yscale("log")
    dark.set_title("The same, logarithmic: contrast")
    shown = np.asarray(arrays["levels"]) / np.asarray(arrays["levels"])[-1] * 255
    gamma, floor = calibration.value("gamma"), table[0]
    law = floor + (1 - floor) * (level / 255) ** gamma
    sigma = 100 * np.asarray(arrays["table_error"])
    off.fill_between(level, -sigma, sigma, color=CONCLUDED, alpha=0.25, lw=0, label="± 1 standard deviation")
    off.plot(level, 100 * (law - table), color="#66707c", ls="--", label=f"power law, gamma {gamma:.3f}")
    off.errorbar(
        shown,
        100 * (np.asarray(arrays["transmittance"]) - np.interp(shown, level, table)),
        100 * np.asarray(arrays["transmittance_error"]),
        fmt=".",
        color=MEASURED,
        ms=4,
        label="measured",
    )
    for number, region in enumerate(np.asarray(arrays.get("region_tables", np.zeros((0, 256))))):
        label = "regions" if number == 0 else None
        off.plot(level, 100 * (region - table), color=BESIDE, lw=0.7, alpha=0.8, label=label)
    off.set(xlabel="level", ylabel="beside the table (% of full)")
    off.set_title("What is beside the table")
    off.legend(fontsize=6.5)
    names = [
        ("contrast", "contrast"),
        ("gamma", "gamma of the best power law"),
        ("gamma_misfit", "largest misfit of that law"),
        ("regions", "largest deviation of a region"),
        ("drift", "drift of the light"),
    ]
    list_values(text, calibration, names, "Found")
    return figure


def _points(axes: Axes, calibration: Calibration) -> None:
    arrays = calibration.arrays
    levels = np.asarray(arrays["levels"], dtype=np.float64)
    axes.errorbar(
        levels / levels[-1] * 255,
        arrays["transmittance"],
        arrays["transmittance_error"],
        fmt="o",
        ms=3.5,
        color=MEASURED,
        label="measured",
    )
