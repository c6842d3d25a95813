"""The one-page plot of the scene monitor: its curve, the image of its pixels, its flicker, and the values."""

from __future__ import annotations

from typing import TYPE_CHECKING

import numpy as np

from labctl.calibration.record import Calibration
from protocols.calibrate.page import BESIDE, CONCLUDED, MEASURED, in_style, list_values, sheet, show_map

if TYPE_CHECKING:
    from matplotlib.figure import Figure


@in_style
def monitor_page(calibration: Calibration) -> Figure:
    """The page of a calibration `monitor`."""
    figure, ((curve, pixels), (steady, text)) = sheet(5.8, 2, 2)
    arrays, level = calibration.arrays, np.arange(256)
    curve.errorbar(
        arrays["levels"],
        arrays["radiance"],
        arrays["radiance_error"],
        fmt="o",
        ms=3.5,
        color=MEASURED,
        label="measured",
    )
    gamma, black = calibration.value("scene_gamma"), 1 / calibration.value("scene_contrast")
    label = f"gamma {gamma:.3f}, contrast {1 / black:.0f}"
    curve.plot(level[1:], (black + (1 - black) * (level / 255) ** gamma)[1:], color=CONCLUDED, label=label)
    curve.set(xlabel="level", ylabel="radiance, level 255 = 1", xscale="log", yscale="log")
    curve.set_title("Response")
    curve.legend()
    raw = calibration.raw
    if "pixels" in raw and "pixels closed" in raw:
        seen = raw["pixels"].astype(float).mean(axis=0) - raw["pixels closed"].astype(float).mean(axis=0)
        show_map(pixels, seen, "Bright scene pixels through one open cell", "DN", sigmas=8.0)
    share = np.asarray(arrays["flicker_share"])
    time_ms = 1000 * np.asarray(arrays["flicker_exposure"])
    steady.errorbar(time_ms, 100 * share[:, 0], 100 * share[:, 1], fmt="o", color=MEASURED, label="beyond photon noise")
    steady.plot(time_ms, 100 * share[:, 2], "s", mfc="none", color=BESIDE, label="photon noise of a frame's mean")
    steady.set(xlabel="exposure (ms)", ylabel="spread of the light (%)", xscale="log", ylim=(0, None))
    steady.set_ylim(0, 1.4 * steady.get_ylim()[1])
    steady.set_title("Flicker from frame to frame")
    steady.legend()
    names = [
        ("scene_gamma", "gamma"),
        ("scene_contrast", "contrast"),
        ("gamma_misfit", "largest misfit"),
        ("scene_pitch_px", "one scene pixel"),
        ("scene_rotation_rad", "rotation of the scene"),
        ("scene_shift_px", "shift of the scene"),
        ("dot_px", "width of a dot, sigma"),
        ("flicker", "flicker"),
        ("drift", "drift of the light"),
    ]
    list_values(text, calibration, names, "Found")
    return figure
