"""Photon transfer and linearity after EMVA 1288, release 4.0: arrays in, numbers out.

Everything that needs no absolute radiometer. Quantum efficiency, and with it the absolute threshold in photons, needs a
calibrated photometer: signals are told in electrons. The temporal noise comes from differences of two frames, in which
the fixed pattern drops out; the frames are summed up as they come, block by block, and need not fit in memory.

Marked [EMVA 1288] is what follows the standard. Numbers for a data sheet differ where this does: the gain is the slope
of a weighted line through dark and lit variances, not of an unweighted one through the dark point; the saturation
capacity is that of the plateau, see `photon_transfer`; light is changed by the exposure time alone, so that errors of
the shutter count as non-linearity, and dark frames are taken at the shortest exposure only; PRNU is told beside a
polynomial surface in the middle of the frame, where the standard takes a high-pass filter over all of it.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
import numpy.typing as npt

Pixels = npt.NDArray[np.uint16]
FloatArray = npt.NDArray[np.float64]

QUANTISATION_DN2 = 1 / 12
"""Variance of rounding to whole DN."""

LEAST_DARK_DN2 = 0.24
"""Variance of a dark pixel below which rounding hides the read noise: only an upper limit is told. [EMVA 1288]"""

READ_NOISE_LIMIT_DN = (LEAST_DARK_DN2 - QUANTISATION_DN2) ** 0.5
"""That upper limit."""

GAIN_SHARE = 0.7
"""Of the saturation capacity: up to here variances count for the gain. [EMVA 1288]"""

LINEAR_SHARES = (0.05, 0.95)
"""Of the saturation capacity: in between deviations count as errors of linearity. [EMVA 1288]"""

CLIPPED = 1e-4
"""Largest share of the pixels of a rung at the top that says nothing yet of its mean and variance."""

BLOCK = 1 << 15
"""Pixels that are summed up at a time: their float64 copies stay in the cache of a processor."""


@dataclass(frozen=True)
class Rung:
    """Frames of one exposure of the ladder, summed up."""

    exposure_s: float
    mean_dn: float
    variance_dn2: float
    """Temporal, of one pixel; mean over the pixels."""

    variance_error_dn2: float
    top_share: float
    """Of the pixels at or above saturation."""

    zero_share: float
    frames: int
    pixels: int

    @property
    def mean_error_dn(self) -> float:
        """Standard error of `mean_dn`: temporal noise alone."""
        return float(np.sqrt(self.variance_dn2 / (self.frames * self.pixels)))


class RungSums:
    """Sums over pairs of frames of one exposure."""

    def __init__(self, saturation_dn: int) -> None:
        self._saturation_dn = saturation_dn
        self._pixels = self._pairs = self._top = self._zero = 0
        self._sum = 0.0
        self._variance = self._error2 = 0.0

    def add(self, first: Pixels, second: Pixels) -> None:
        """A pair of frames (h, w), taken one after the other. What brightness changes between them is taken off."""
        one, other = first.reshape(-1), second.reshape(-1)
        n = one.size
        moments = np.zeros(4)
        for start in range(0, n, BLOCK):
            a, b = one[start : start + BLOCK], other[start : start + BLOCK]
            change = np.subtract(a, b, dtype=np.float64)
            squared = change * change
            moments += (change.sum(), squared.sum(), squared @ change, squared @ squared)
            self._sum += float(np.add.reduce(a, dtype=np.uint64) + np.add.reduce(b, dtype=np.uint64))
            self._top += np.count_nonzero(a >= self._saturation_dn) + np.count_nonzero(b >= self._saturation_dn)
            self._zero += 2 * a.size - np.count_nonzero(a) - np.count_nonzero(b)
        m1, m2, m3, m4 = moments / n
        variance = (m2 - m1**2) * n / (n - 1)
        fourth = m4 - 4 * m1 * m3 + 6 * m1**2 * m2 - 3 * m1**4
        self._variance += variance / 2
        self._error2 += max(0.0, fourth - variance**2) / n / 4
        self._pixels, self._pairs = n, self._pairs + 1

    def rung(self, exposure_s: float) -> Rung:
        """What the pairs so far say. The error of the variance is that of a mean of squares, no model in it."""
        count = 2 * self._pairs * self._pixels
        return Rung(
            exposure_s=exposure_s,
            mean_dn=self._sum / count,
            variance_dn2=self._variance / self._pairs,
            variance_error_dn2=float(np.sqrt(self._error2)) / self._pairs,
            top_share=self._top / count,
            zero_share=self._zero / count,
            frames=2 * self._pairs,
            pixels=self._pixels,
        )


def rung_of(frames: Sequence[Pixels] | Pixels, exposure_s: float, saturation_dn: int) -> Rung:
    """The rung of n frames (h, w) of one exposure: n // 2 pairs, the odd one is left out."""
    sums = RungSums(saturation_dn)
    for index in range(0, len(frames) - 1, 2):
        sums.add(frames[index], frames[index + 1])
    return sums.rung(exposure_s)


def both(one: Rung, other: Rung) -> Rung:
    """Two visits of the same exposure as one rung. Raises ValueError when their exposures or pixels differ."""
    if one.pixels != other.pixels or abs(one.exposure_s - other.exposure_s) > 1e-6 * one.exposure_s:
        raise ValueError(f"{one} and {other} are not visits of the same rung")
    frames = one.frames + other.frames
    mine, its = one.frames / frames, other.frames / frames
    return Rung(
        exposure_s=one.exposure_s,
        mean_dn=mine * one.mean_dn + its * other.mean_dn,
        variance_dn2=mine * one.variance_dn2 + its * other.variance_dn2,
        variance_error_dn2=float(np.hypot(mine * one.variance_error_dn2, its * other.variance_error_dn2)),
        top_share=mine * one.top_share + its * other.top_share,
        zero_share=mine * one.zero_share + its * other.zero_share,
        frames=frames,
        pixels=one.pixels,
    )


@dataclass(frozen=True)
class Transfer:
    """What a ladder says of a sensor. Errors are one standard deviation."""

    gain_dn_per_e: float
    gain_error: float
    chi2: float
    """Reduced, of the straight line through the variances. Errors of the gain are widened by its root where above 1."""

    read_noise_dn: float
    """Quantisation taken off; an upper limit where `read_noise_is_limit`."""

    read_noise_dn_error: float
    read_noise_e: float
    read_noise_e_error: float
    read_noise_is_limit: bool
    full_well_dn: float
    """Saturation capacity above black: what over-exposed pixels reach."""

    full_well_dn_error: float
    full_well_e: float
    full_well_e_error: float
    for_gain: npt.NDArray[np.bool_]
    """(n,) rungs whose variance counts."""

    @property
    def noise_e2(self) -> float:
        """Variance of a dark pixel in electrons, quantisation included."""
        return self.read_noise_e**2 + QUANTISATION_DN2 / self.gain_dn_per_e**2

    @property
    def absolute_threshold_e(self) -> float:
        """Signal whose SNR is 1. [EMVA 1288]"""
        return float(np.sqrt(self.noise_e2 + 0.25) + 0.5)

    @property
    def dynamic_range(self) -> float:
        """Saturation capacity over absolute threshold. [EMVA 1288]"""
        return self.full_well_e / self.absolute_threshold_e

    @property
    def snr_max(self) -> float:
        """SNR of the shot noise at saturation. [EMVA 1288]"""
        return float(np.sqrt(self.full_well_e))

    def snr(self, signal_e: npt.ArrayLike, *, dsnu_e: float = 0.0, prnu: float = 0.0) -> FloatArray:
        """Signal over noise of a pixel at these electrons; with DSNU and PRNU that between pixels, not in time."""
        signal = np.asarray(signal_e, dtype=np.float64)
        return np.asarray(signal / np.sqrt(self.noise_e2 + signal + dsnu_e**2 + (prnu * signal) ** 2))


def photon_transfer(rungs: Sequence[Rung], dark: Rung, plateau: Rung) -> Transfer:
    """Gain, read noise and saturation capacity from a ladder, a dark rung, and one that is over-exposed everywhere.

    Variance above that in the dark = gain (mean above that in the dark): straight line through unsaturated rungs up to
    GAIN_SHARE of the capacity, weighted by the variances that it predicts. EMVA 1288 takes the maximum of the variance
    for the capacity; where light is uneven it lies lower than what a pixel holds, so the plateau is taken.
    Raises ValueError when fewer than two rungs are usable, and when the variance does not grow with the mean.
    """
    capacity_dn = plateau.mean_dn - dark.mean_dn
    signal = np.array([rung.mean_dn - dark.mean_dn for rung in rungs])
    variance = np.array([rung.variance_dn2 for rung in rungs])
    usable = np.array([rung.top_share <= CLIPPED for rung in rungs])
    usable &= (signal > 0) & (signal <= GAIN_SHARE * capacity_dn)
    if usable.sum() < 2:
        raise ValueError(f"{usable.sum()} of {len(rungs)} rungs lie between dark and saturation; 2 are needed")
    x = np.append(0.0, signal[usable])
    y = np.append(dark.variance_dn2, variance[usable])
    counting = [dark, *(rung for rung, counts in zip(rungs, usable, strict=True) if counts)]
    differences = np.array([rung.frames * rung.pixels / 2 for rung in counting])
    line, covariance, chi2 = _line(x, y, differences)
    gain, gain_error = float(line[1]), float(np.sqrt(covariance[1, 1] * max(1.0, chi2)))
    if gain <= 3 * gain_error:
        raise ValueError(f"the variance does not grow with the signal: {gain:.3g} ± {gain_error:.2g} DN of it per DN")
    dark_dn2 = dark.variance_dn2
    limit = dark_dn2 < LEAST_DARK_DN2
    read_dn = READ_NOISE_LIMIT_DN if limit else float(np.sqrt(dark_dn2 - QUANTISATION_DN2))
    read_dn_error = 0.0 if limit else dark.variance_error_dn2 / (2 * read_dn)
    share = gain_error / gain
    full_well_dn_error = float(np.hypot(plateau.mean_error_dn, dark.mean_error_dn))
    return Transfer(
        gain_dn_per_e=gain,
        gain_error=gain_error,
        chi2=chi2,
        read_noise_dn=read_dn,
        read_noise_dn_error=read_dn_error,
        read_noise_e=read_dn / gain,
        read_noise_e_error=float(np.hypot(read_dn_error / read_dn, share)) * read_dn / gain,
        read_noise_is_limit=bool(limit),
        full_well_dn=capacity_dn,
        full_well_dn_error=full_well_dn_error,
        full_well_e=capacity_dn / gain,
        full_well_e_error=float(np.hypot(full_well_dn_error / capacity_dn, share)) * capacity_dn / gain,
        for_gain=usable,
    )


@dataclass(frozen=True)
class Linearity:
    """How far the mean signal is from proportional to light, between 5 % and 95 % of the saturation capacity."""

    offset_dn: float
    rate_dn_per_s: float
    deviation: FloatArray
    """(n,) of every rung, relative to the line."""

    counts: npt.NDArray[np.bool_]
    """(n,) rungs that decide line and error."""

    error: float
    """Linearity error: mean of the absolute relative deviations. [EMVA 1288]"""

    error_of_error: float
    from_noise: float
    """What noise alone makes of it in the mean: a linear sensor does not show less."""


def linearity(
    exposure_s: npt.ArrayLike, signal_dn: npt.ArrayLike, signal_error_dn: npt.ArrayLike, counts: npt.ArrayLike
) -> Linearity | None:
    """From (n,) exposures, signals above black and their errors; counts: (n,) bool of those between the limits.

    The line is the one of least relative deviation. None with fewer than three rungs, which always lie on a line.
    """
    time_s, signal, sigma = (np.asarray(a, dtype=np.float64) for a in (exposure_s, signal_dn, signal_error_dn))
    within = np.asarray(counts, dtype=bool)
    if within.sum() < 3:
        return None
    design = np.stack([np.ones_like(time_s), time_s], axis=1)
    weight = 1 / signal[within]
    line = np.linalg.lstsq(design[within] * weight[:, None], np.ones(int(within.sum())), rcond=None)[0]
    deviation = signal / (design @ line) - 1
    noise = (sigma / np.abs(signal))[within]
    n = int(within.sum())
    return Linearity(
        offset_dn=float(line[0]),
        rate_dn_per_s=float(line[1]),
        deviation=deviation,
        counts=within,
        error=float(np.abs(deviation[within]).mean()),
        error_of_error=float(np.sqrt((noise**2).sum())) / n,
        from_noise=float(np.sqrt(2 / np.pi) * noise.mean() * np.sqrt((n - 2) / n)),
    )


def _line(x: FloatArray, y: FloatArray, count: FloatArray) -> tuple[FloatArray, FloatArray, float]:
    """Offset and slope, covariance, reduced chi squared of y = offset + slope x, where y are variances.

    count: differences of pixels that each stands on. Weights come from the line itself: those of noisy variances
    would pull it down.
    """
    design = np.stack([np.ones_like(x), x], axis=1)
    predicted = np.maximum(y, 1e-12)
    for _ in range(8):
        weight = count / (2 * predicted**2)
        normal = design.T @ (design * weight[:, None])
        line = np.linalg.solve(normal, design.T @ (weight * y))
        predicted = np.maximum(design @ line, 1e-12)
    chi2 = float((weight * (y - design @ line) ** 2).sum()) / max(1, len(x) - 2)
    return line, np.linalg.inv(normal), chi2
