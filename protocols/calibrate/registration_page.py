"""The one-page plot of a registration: the dots, what the fit leaves of them, how well they fit, and the values."""

from __future__ import annotations

from typing import TYPE_CHECKING

import numpy as np

from labctl.calibration.record import Calibration
from protocols.calibrate.page import BESIDE, CONCLUDED, MEASURED, WARNED, in_style, list_values, sheet, show_map

if TYPE_CHECKING:
    from matplotlib.figure import Figure

NOMINAL, SOURCE, SEEN, ERROR, RESIDUAL = slice(0, 2), slice(2, 4), slice(4, 6), slice(6, 8), slice(8, 10)
USED, LIGHT, SHOT = 10, 11, 12
"""Columns of the array `dots`."""


@in_style
def registration_page(calibration: Calibration) -> Figure:
    """The page of a calibration `registration`."""
    figure, ((frame, arrows), (spread, text)) = sheet(7.0, 2, 2)
    dots = np.asarray(calibration.arrays["dots"])
    used = dots[:, USED] > 0
    raw = calibration.raw
    if "dots" in raw and "closed" in raw:
        picture = raw["dots"][0].astype(float) - raw["closed"][0]
        show_map(frame, picture, "One frame less the closed mask", "DN", sigmas=8.0)
        at = dots[used & (dots[:, SHOT] == 0)][:, SEEN] + (np.array(picture.shape) - 1) / 2
        frame.plot(at[:, 1], at[:, 0], "+", color=CONCLUDED, ms=6)
        frame.set_title("First frame less the closed mask, and its dots")
    rms = calibration.value("residual_px")
    at, left = dots[used][:, NOMINAL], dots[used][:, RESIDUAL]
    arrows.quiver(
        at[:, 1],
        at[:, 0],
        left[:, 1],
        left[:, 0],
        angles="xy",
        scale_units="xy",
        scale=max(rms, 1e-6) / 1.2,
        width=0.004,
        color=MEASURED,
    )
    odd = dots[~used]
    arrows.plot(odd[:, 1], odd[:, 0], "x", color=WARNED, ms=5)
    arrows.set(xlabel="mask column (sensor px)", ylabel="mask row (sensor px)", aspect="equal")
    arrows.invert_yaxis()
    arrows.set_title(f"Residuals; an arrow of 1.2 px is {rms:.3f} px")
    pulls = (left / dots[used][:, ERROR]).ravel()
    limit = max(4.0, float(np.abs(pulls).max()))
    bins = np.linspace(-limit, limit, 41)
    spread.hist(pulls, bins, color=MEASURED, alpha=0.7, label="dots")
    x = np.linspace(-limit, limit, 200)
    width = bins[1] - bins[0]
    normal = len(pulls) * width * np.exp(-0.5 * x**2) / np.sqrt(2 * np.pi)
    spread.plot(x, normal, color=BESIDE, label="as their errors say")
    spread.set(xlabel="residual over its standard deviation", ylabel="dots, both axes")
    spread.set_title("Are the errors honest?")
    spread.legend()
    names = [
        ("shift_px", "shift"),
        ("rotation_rad", "rotation"),
        ("scale", "scale"),
        ("scene_pitch_px", "one scene pixel"),
        ("gap_error", "gap error by that"),
        ("tilt_rad", "tilt"),
        ("distortion", "distortion at the corner"),
        ("blur_px", "blur"),
        ("residual_px", "residual RMS"),
        ("dots", "dots"),
    ]
    list_values(text, calibration, names, "Found")
    return figure
