"""Dark frame, black level and dark current: what the sensor shows without light."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager
from typing import TYPE_CHECKING, Annotated, ClassVar

import numpy as np
import numpy.typing as npt
from annotated_types import Ge, Gt, Le

from labctl.calibration.record import ArrayNote, Calibration, Value
from labctl.errors import BadInput
from labctl.steps import StepSetting
from protocols.calibrate.kind import Found, Kind
from protocols.calibrate.page import BESIDE, CONCLUDED, MEASURED, in_style, list_values, sheet, show_map

if TYPE_CHECKING:
    from matplotlib.figure import Figure

    from protocols.calibrate.bench import Bench, Pixels

FloatArray = npt.NDArray[np.float64]

ZERO_SHARE = 1e-3
"""Of all values of a dark pixel: more of them at 0 DN, and the mean is no longer that of the noise."""

BRIGHT_SHARE = 0.5
"""Of saturation: a dark frame above it sees light."""

SURE = 3.0
"""Standard errors above which a dark current is told from none."""

HOT = 8.0
"""Times the spread of the others by which the dark signal of a hot pixel stands out."""


class Dark(Kind):
    """Frames without light at the shortest and at a long exposure: offsets at 0 s, and what grows with time.

    The scene is black and the mask closed, which lets a little light through on every bench. What grows with time is
    called dark current only where instruments made it truly dark, see `darken`.
    """

    name: ClassVar[str] = "dark"
    title: ClassVar[str] = "Dark frame and black level"
    version: ClassVar[int] = 2

    frames: Annotated[int, Ge(8), Le(4096)] = 64
    """Frames at the shortest exposure."""

    long_frames: Annotated[int, Ge(8), Le(4096)] = 16
    """Frames at `long_s`."""

    long_s: Annotated[float, Gt(0), Le(60)] = 0.5
    """The long exposure; the longest of the camera where that is shorter."""

    darken: dict[str, dict[str, float]] = {}
    """Quantities that make it dark, by instrument: `{lamp: {power: 0}}`. They are set back after. With them the scene
    display is blank and the scene is live."""

    def exposures(self, setting: StepSetting) -> int:
        """See `Kind.exposures`."""
        return self.frames + self.long_frames

    def exposure_seconds(self, setting: StepSetting) -> float:
        """See `Kind.exposure_seconds`."""
        low_s, high_s = setting.rig.twin.exposure_limits_s
        return self.frames * low_s + self.long_frames * min(self.long_s, high_s)

    def measure(self, bench: Bench) -> Found:
        """See `Kind.measure`."""
        low_s, high_s = bench.exposure_limits_s
        with _darkness(bench, self.darken) as scene:
            short = bench.frames("short", scene, bench.closed_mask(), low_s, repeats=self.frames)[0]
            short_s = float(bench.took_s.mean())
            long = bench.frames("long", scene, bench.closed_mask(), min(self.long_s, high_s), repeats=self.long_frames)[
                0
            ]
            long_s = float(bench.took_s.mean())
        _refuse_clipped(bench, short)
        _refuse_bright(bench, short)
        usable = not _sees_light(bench, long) and long_s > 2 * short_s
        low, low_noise = short.mean(axis=0, dtype=np.float64), _noise(short)
        high, high_noise = long.mean(axis=0, dtype=np.float64), _noise(long)
        rate, rate_error = (high - low) / (long_s - short_s), np.hypot(low_noise, high_noise) / (long_s - short_s)
        mean_rate, mean_error = float(np.median(rate)), 1.2533 * float(np.sqrt((rate_error**2).mean() / rate.size))
        grows = usable and mean_rate > SURE * mean_error
        offset, offset_error = low, low_noise
        arrays: dict[str, tuple[npt.NDArray[np.float64], ArrayNote]] = {}
        warnings: list[str] = []
        if grows:
            offset = low - short_s * mean_rate
        if self.darken and grows:
            smoothed, smoothed_error = _toward_common(rate, rate_error)
            note = "Dark current of every pixel, drawn to the common one as far as noise explains the difference"
            arrays["dark_rate_dn_per_s"] = (smoothed, ArrayNote(unit="DN/s", text=note))
            arrays["dark_rate_dn_per_s_error"] = (smoothed_error, ArrayNote(unit="DN/s", text="Standard error"))
            hot = _hot(rate, rate_error)
            if hot:
                warnings.append(f"{hot} of {rate.size} pixels are hot: dark current far above that of the others")
        if not usable:
            warnings.append(
                f"the frames of {long_s:.3g} s see light, or are no longer than the short ones: dark current not told"
            )
        values = {
            "black_level_dn": Value(
                value=float(offset.mean()),
                error=float(np.sqrt((offset_error**2).mean() / offset.size)),
                unit="DN",
                text="Mean of the offsets at 0 s",
            ),
            "offset_spread_dn": Value(
                value=float(np.sqrt(max(0.0, offset.var() - (offset_error**2).mean()))),
                error=None,
                unit="DN",
                text="Standard deviation of the offsets over these pixels, noise taken off",
            ),
        }
        if usable:
            name = "dark_current_dn_per_s" if self.darken else "residual_light_dn_per_s"
            said = (
                "Signal that grows with time in the dark, median over the pixels"
                if self.darken
                else "What grows with time, closed mask and black scene: light that is left, and dark current"
            )
            values[name] = Value(value=mean_rate, error=mean_error, unit="DN/s", text=said)
        every: dict[str, tuple[npt.NDArray[np.float64], ArrayNote]] = {
            "dark_dn": (offset, ArrayNote(unit="DN", text="Offset of every pixel at 0 s")),
            "dark_dn_error": (offset_error, ArrayNote(unit="DN", text="Standard error, temporal noise alone")),
            "growth_dn": (high - low, ArrayNote(unit="DN", text=f"Long ({long_s:.3g} s) less short exposure")),
        }
        return Found(
            values=values,
            arrays=every | arrays,
            warnings=tuple(warnings),
            holds_for={"frame_shape": list(bench.frame_shape), "gain_db": 0.0},
        )

    def draw(self, calibration: Calibration) -> Figure:
        """See `Kind.draw`."""
        return _page(calibration)


def signal_of(frames: Pixels, exposure_s: float, dark: Calibration) -> FloatArray:
    """(..., h, w) DN above the dark frame of frames (..., h, w) in DN that were exposed so long."""
    rate = dark.arrays.get("dark_rate_dn_per_s", 0.0)
    return np.asarray(frames - (dark.arrays["dark_dn"] + exposure_s * rate))


def _noise(frames: Pixels) -> FloatArray:
    """(h, w) standard error of the mean of n frames. Their variances vary by chance more than by pixel: half pooled."""
    variance = frames.var(axis=0, ddof=1, dtype=np.float64)
    return np.asarray(np.sqrt((variance + variance.mean()) / 2 / len(frames)))


def _toward_common(rate: FloatArray, error: FloatArray) -> tuple[FloatArray, FloatArray]:
    """Rates and errors, shrunk to their mean by what noise has in their spread. [James and Stein 1961]"""
    noise = float((error**2).mean())
    spread = float(rate.var())
    kept = max(0.0, 1 - noise / spread) if spread > 0 else 0.0
    common = float(rate.mean())
    left = np.sqrt(kept * error**2 + noise / rate.size)
    return common + kept * (rate - common), np.asarray(left)


def _hot(rate: FloatArray, error: FloatArray) -> int:
    spread = 1.4826 * float(np.median(np.abs(rate - np.median(rate))))
    return int((rate - np.median(rate) > HOT * np.maximum(spread, error)).sum())


@contextmanager
def _darkness(bench: Bench, darken: dict[str, dict[str, float]]) -> Iterator[FloatArray | str]:
    """The scene to show while it lasts: black, or `live` while these instruments keep it dark."""
    if not darken:
        yield bench.black()
        return
    instruments = bench.rig.devices().instruments
    before: list[tuple[str, str, float]] = []
    for name, quantities in darken.items():
        for quantity in quantities:
            if name not in instruments or quantity not in instruments[name].quantities:
                raise BadInput(
                    f"dark.darken: rig '{bench.rig.spec.name}' has no {name}.{quantity}; "
                    f"its instruments are {', '.join(instruments) or 'none'}"
                )
            before.append((name, quantity, instruments[name].read_quantity(quantity)))
    try:
        for name, quantity, _ in before:
            instruments[name].set_quantity(quantity, darken[name][quantity])
        yield "live"
    finally:
        for name, quantity, value in reversed(before):
            instruments[name].set_quantity(quantity, value)


def _refuse_clipped(bench: Bench, frames: Pixels) -> None:
    share = float((frames == 0).mean())
    if share > ZERO_SHARE:
        level = float(frames.mean())
        bench.refuse(
            f"the sensor is clipped at 0: {share:.1%} of the values in the dark stand at 0 DN, {ZERO_SHARE:.1%} is "
            f"allowed (mean {level:.1f} DN); raise the black level of the camera until all of the noise lies above 0",
            lambda: histogram(frames, f"{share:.1%} of the dark values are cut off at 0 DN", mark=0),
        )


def _refuse_bright(bench: Bench, frames: Pixels) -> None:
    level = float(np.median(frames))
    if level > BRIGHT_SHARE * bench.saturation_dn:
        bench.refuse(
            f"the dark frame is bright: {level:.0f} DN at the shortest exposure, saturation is "
            f"{bench.saturation_dn} DN; close the box, switch the lamp off, or lower the black level",
            lambda: histogram(frames, f"The dark frame stands at {level:.0f} DN", mark=bench.saturation_dn),
        )


def _sees_light(bench: Bench, frames: Pixels) -> bool:
    return bool(
        (frames >= bench.saturation_dn).mean() > ZERO_SHARE or np.median(frames) > BRIGHT_SHARE * bench.saturation_dn
    )


@in_style
def histogram(frames: Pixels, title: str, *, mark: float | None = None) -> Figure:
    """How often each DN occurs in frames (n, h, w), for a refusal. mark: a DN to be seen."""
    figure, axes = sheet(3.0, 1, 2)
    low, high = int(frames.min()), int(frames.max())
    bins = np.linspace(low - 0.5, high + 0.5, min(high - low + 2, 120))
    axes[0, 0].hist(frames.reshape(-1), bins=bins, color=MEASURED)
    if mark is not None:
        axes[0, 0].axvline(mark, color=CONCLUDED, linestyle="--")
    axes[0, 0].set(xlabel="pixel value (DN)", ylabel="values", yscale="log", title=title)
    show_map(axes[0, 1], frames.mean(axis=0), "Mean frame", "DN")
    return figure


@in_style
def _page(calibration: Calibration) -> Figure:
    arrays, raw = calibration.arrays, calibration.raw
    figure, axes = sheet(5.2, 2, 2)
    show_map(axes[0, 0], arrays["dark_dn"], "Offset at 0 s", "DN")
    show_map(axes[0, 1], arrays["growth_dn"], calibration.record.arrays["growth_dn"].text, "DN")
    for name, colour in (("short", MEASURED), ("long", CONCLUDED)):
        if name in raw:
            rest = raw[name].astype(np.float64) - arrays["dark_dn"]
            each = float(np.mean(raw[f"{name}.exposure_s"]))
            axes[1, 0].hist(
                rest.reshape(-1),
                bins=80,
                histtype="step",
                density=True,
                color=colour,
                label=f"{name}, {1e3 * each:.3g} ms",
            )
    axes[1, 0].axvline(0, color=BESIDE, linewidth=0.8)
    axes[1, 0].set(xlabel="value less offset of its pixel (DN)", ylabel="share per DN", yscale="log")
    axes[1, 0].set_title("Noise in the dark")
    axes[1, 0].legend()
    names = (
        ("black_level_dn", "black level"),
        ("offset_spread_dn", "spread of the offsets"),
        ("dark_current_dn_per_s", "dark current"),
        ("residual_light_dn_per_s", "light that is left, and dark current"),
    )
    list_values(axes[1, 1], calibration, names, "Found")
    return figure
