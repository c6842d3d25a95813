"""The one-page plot of a PSF: what was seen in the middle and away from it, and how alike they are."""

from __future__ import annotations

from typing import TYPE_CHECKING

import numpy as np

from labctl.calibration.record import Calibration
from protocols.calibrate.page import CONCLUDED, MEASURED, in_style, list_values, sheet, show_map

if TYPE_CHECKING:
    from matplotlib.axes import Axes
    from matplotlib.figure import Figure

NAMES = (
    ("field_correlation", "least correlation"),
    ("field_shift_px", "off its place"),
    ("field_sharpness", "sharpness"),
    ("field_light", "light"),
    ("depth_correlation", "correlation in depth"),
    ("prediction_error", "prediction error"),
)


@in_style
def psf_page(calibration: Calibration) -> Figure:
    """The page of a calibration `psf`."""
    arrays = calibration.arrays
    psf, field = np.asarray(arrays["psf"]), np.asarray(arrays["field"])
    figure, ((mask, middle, corner), (alike, depth, text)) = sheet(5.2, 2, 3)
    mask.imshow(arrays["mask"], cmap="gray", vmin=0, vmax=1, interpolation="nearest")
    mask.grid(visible=False)
    mask.set_title("Mask")
    mask.set(xlabel="column (cells)", ylabel="row (cells)")
    show_map(middle, psf[0], "PSF in the middle", "DN/s", sigmas=9.0)
    if len(psf) > 1:
        table = np.asarray(arrays["field_table"])
        worst = 1 + int(np.argmin(table[1:, 4]))
        row, column = field[worst]
        show_map(corner, psf[worst], f"Least alike: scene pixel ({row:+g}, {column:+g})", "DN/s", sigmas=9.0)
        _field(alike, table, [f"({row:+g}, {column:+g})" for row, column in field])
    else:
        corner.set_axis_off()
        alike.set_axis_off()
    if "depth_table" in arrays:
        table = np.asarray(arrays["depth_table"])
        depth.plot(arrays["depth"], table[:, 4], "o-", color=MEASURED, label="correlation")
        depth.plot(arrays["depth"], table[:, 5], "s--", color=CONCLUDED, label="sharpness")
        depth.set(xlabel=calibration.record.arrays["depth"].text, ylabel="against the first")
        depth.set_title("Depth")
        depth.legend()
    else:
        depth.set_axis_off()
    list_values(text, calibration, NAMES, "Found")
    return figure


def _field(axes: Axes, table: np.ndarray, names: list[str]) -> None:
    at = np.arange(len(table))
    axes.plot(at, table[:, 4], "o", color=MEASURED, label="correlation")
    axes.plot(at, table[:, 5], "s", mfc="none", color=CONCLUDED, label="sharpness")
    axes.plot(at, table[:, 6], "^", mfc="none", color="#66707c", label="light")
    axes.set_xticks(at, names, rotation=30, fontsize=6.5)
    axes.set(xlabel="scene pixels from the middle", ylabel="against the middle")
    low, high = axes.get_ylim()
    axes.set_ylim(min(low, 0.97), max(high, 1.03))
    axes.set_title("Over the field")
    axes.legend()
