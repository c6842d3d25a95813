"""The one-page plot of a twin fit: what it foretells, how far off it is, and how well its values are known."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

import numpy as np
import numpy.typing as npt

from labctl.calibration.record import Calibration
from labctl.calibration.telling import told
from protocols.calibrate.page import CONCLUDED, MEASURED, WARNED, in_style, sheet
from protocols.twin_fit.fitted import PSF_RESIDUAL
from protocols.twin_fit.identifiability import correlations
from protocols.twin_fit.priors import LEAK

if TYPE_CHECKING:
    from matplotlib.axes import Axes
    from matplotlib.figure import Figure

    from protocols.twin_fit.validation import HeldOut

DEVIATION_LIMIT = 4.0
"""Of the colours, in standard deviations of the noise."""


@in_style
def twin_page(calibration: Calibration) -> Figure:
    """The page of a calibration `twin`."""
    rest = calibration.arrays.get(PSF_RESIDUAL)
    figure, axes = sheet(9.4, 3, 2) if rest is None else sheet(12.4, 4, 2)
    captured = np.asarray(calibration.raw["held_out"], dtype=np.float64)
    foretold = np.asarray(calibration.arrays["held_out_foretold_dn"], dtype=np.float64)
    deviation = np.asarray(calibration.arrays["held_out_deviation"], dtype=np.float64)
    _show_pair(axes[0][0], captured, foretold, deviation)
    _show_deviation(axes[0][1], deviation)
    _show_histogram(axes[1][0], deviation, calibration.value("error_before"), calibration.value("error_after"))
    _show_correlation(axes[1][1], calibration)
    _list_fitted(axes[2][0], calibration)
    _show_told(axes[2][1], calibration)
    if rest is not None:
        _show_rest(axes[3][0], np.asarray(rest, dtype=np.float64), calibration.value("residual_light"))
        axes[3][1].set_axis_off()
    return figure


@in_style
def refusal_page(held_out: HeldOut, captured: npt.NDArray[np.uint16], limit: float) -> Figure:
    """The picture that shows why a twin is refused."""
    figure, axes = sheet(6.4, 2, 2)
    _show_pair(axes[0][0], captured.astype(np.float64), held_out.foretold, held_out.deviation)
    _show_deviation(axes[0][1], held_out.deviation)
    _show_histogram(axes[1][0], held_out.deviation, held_out.before, held_out.after)
    per_frame = np.sqrt((held_out.deviation**2).mean(axis=(1, 2)))
    axes[1][1].bar(np.arange(len(per_frame)), per_frame, color=MEASURED)
    axes[1][1].axhline(limit, color=WARNED, label=f"limit {limit:g}")
    axes[1][1].set(xlabel="held-out frame", ylabel="RMS error / noise", title="Error of every held-out frame")
    axes[1][1].legend()
    return figure


def _worst(deviation: npt.NDArray[np.float64]) -> int:
    return int(np.argmax((deviation**2).mean(axis=(1, 2))))


def _show_pair(axes: Axes, captured: Any, foretold: Any, deviation: Any) -> None:
    """The worst held-out frame: captured on the left, foretold on the right."""
    which = _worst(deviation)
    gap = np.full((captured.shape[1], 1), np.nan)
    both = np.concatenate([captured[which], gap, foretold[which]], axis=1)
    shown = axes.imshow(both, cmap="viridis", interpolation="nearest")
    axes.grid(visible=False)
    axes.set(
        xlabel="column (px): captured | foretold", ylabel="row (px)", title=f"Worst held-out frame, number {which}"
    )
    figure: Any = axes.figure
    figure.colorbar(shown, ax=axes, label="DN", shrink=0.7)


def _show_deviation(axes: Axes, deviation: Any) -> None:
    which = _worst(deviation)
    limits = {"vmin": -DEVIATION_LIMIT, "vmax": DEVIATION_LIMIT}
    shown = axes.imshow(deviation[which], cmap="RdBu_r", interpolation="nearest", **limits)
    axes.grid(visible=False)
    axes.set(xlabel="column (px)", ylabel="row (px)", title="Its error over the noise")
    figure: Any = axes.figure
    figure.colorbar(shown, ax=axes, label="standard deviations", shrink=0.7)


def _show_histogram(axes: Axes, deviation: Any, before: float, after: float) -> None:
    edges = np.linspace(-5, 5, 61)
    axes.hist(deviation.ravel(), bins=edges, density=True, color=MEASURED, alpha=0.6, label="held-out pixels")
    axes.plot(edges, np.exp(-(edges**2) / 2) / np.sqrt(2 * np.pi), color=CONCLUDED, label="noise alone")
    axes.set(
        xlabel="error / noise",
        ylabel="density",
        title=f"RMS error / noise: {before:.3g} by the rig file, {after:.3g} fitted",
    )
    axes.legend()


def _show_correlation(axes: Axes, calibration: Calibration) -> None:
    labels = [str(label) for label in calibration.record.settings["parameters"]]
    rho = correlations(np.asarray(calibration.arrays["covariance"], dtype=np.float64))
    shown = axes.imshow(rho, cmap="RdBu_r", vmin=-1, vmax=1, interpolation="nearest")
    axes.grid(visible=False)
    axes.set_xticks(range(len(labels)), labels, rotation=90, fontsize=6)
    axes.set_yticks(range(len(labels)), labels, fontsize=6)
    axes.set_title("Correlation of the fitted values")
    figure: Any = axes.figure
    figure.colorbar(shown, ax=axes, label="correlation", shrink=0.7)


def _show_rest(axes: Axes, rest: npt.NDArray[np.float64], light: float) -> None:
    limit = 1e3 * max(float(np.abs(rest).max()), 1e-12)
    shown = axes.imshow(1e3 * rest, cmap="RdBu_r", vmin=-limit, vmax=limit, interpolation="nearest")
    axes.grid(visible=False)
    title = f"Rest of the PSF: moves {100 * light:.2g} % of the light"
    axes.set(xlabel="column (px)", ylabel="row (px)", title=title)
    figure: Any = axes.figure
    figure.colorbar(shown, ax=axes, label="thousandths of the light", shrink=0.7)


def _list_fitted(axes: Axes, calibration: Calibration) -> None:
    """Every fitted value with its error."""
    names = list(dict.fromkeys(str(p).partition("[")[0] for p in calibration.record.settings["parameters"]))
    axes.set_axis_off()
    axes.set_title("Fitted values")
    step = 1 / max(len(names), 12)
    for number, name in enumerate(names):
        y = 1 - (number + 0.5) * step
        axes.text(0.0, y, name, transform=axes.transAxes, va="center")
        shown = told(calibration.record.values[name])
        axes.text(1.0, y, shown, transform=axes.transAxes, va="center", ha="right")


def _show_told(axes: Axes, calibration: Calibration) -> None:
    """How much smaller the error of each value is than that of its prior."""
    priors: dict[str, Any] = dict(calibration.record.settings["priors"])
    values, labels, shares = calibration.record.values, list[str](), list[float]()
    for label, prior in priors.items():
        name, _, index = label.rstrip("]").partition("[")
        name = "log_contrast" if name == LEAK else name
        if name not in values:
            continue
        error = values[name].error
        error = error[int(index)] if isinstance(error, tuple) else error
        if label == LEAK:  # told by its logarithm, known before by itself
            error = float(error or np.nan) * np.exp(-calibration.value(name))
        labels.append(label)
        shares.append(float(error or np.nan) / float(prior["sigma"]))
    axes.barh(labels, shares, color=MEASURED)
    axes.axvline(1.0, color=WARNED)
    axes.set(xscale="log", xlabel="error after the fit / before", title="What the captures told; at the line: nothing")
    axes.tick_params(axis="y", labelsize=6)
    axes.invert_yaxis()
