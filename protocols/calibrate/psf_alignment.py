"""How alike two measured PSFs are: where one lies against the other, how well they correlate, how sharp they are."""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
import numpy.typing as npt

Array = npt.NDArray[np.float64]

UPSAMPLING = 100
"""Parts of a pixel to which two PSFs are aligned."""


@dataclass(frozen=True)
class Alike:
    """One PSF beside a reference.

    shift_px, shift_error_px: (2,) of the PSF from the reference, rows and columns. correlation: of the two without
    their noise. sharpness: energy of the slopes over that of the values, relative to the reference. light: ratio of
    the sums.
    """

    shift_px: Array
    shift_error_px: Array
    correlation: float
    sharpness: float
    light: float


def compare(reference: tuple[Array, Array], other: tuple[Array, Array], nominal_px: Array, half_px: int) -> Alike:
    """Compare PSFs, each given as two independent measurements (h, w) of the same.

    nominal_px: (2,) where the other should lie from the reference. half_px: half-width of the windows that are
    compared, the reference's in the middle of the frame. Products of independent measurements hold no noise: their
    correlation is that of the PSFs, not of what photons left of them. Shifts are found on each half, so that their
    difference tells the error.
    """
    whole = np.round(nominal_px).astype(np.int64)
    a = [_window(each, np.zeros(2, dtype=np.int64), half_px) for each in reference]
    b = [_window(each, whole, half_px) for each in other]
    both = _shift(a[0] + a[1], b[0] + b[1])
    single = np.stack([_shift(a[0], b[0]), _shift(a[1], b[1])])
    # Half of the frames each: the spread of two such shifts is twice the error of that of all frames.
    error = np.maximum(np.abs(single[0] - single[1]) / 2, 0.5 / UPSAMPLING)
    back = [_moved(each, -both) for each in b]
    inner = slice(2, -2)
    x, y = ([_centred(each[inner, inner]) for each in pair] for pair in (a, back))
    crossed = float(((x[0] + x[1]) * (y[0] + y[1])).mean()) / 4
    energy = float((x[0] * x[1]).mean()), float((y[0] * y[1]).mean())
    correlation = crossed / np.sqrt(max(energy[0], 1e-300) * max(energy[1], 1e-300))
    return Alike(
        shift_px=whole + both,
        shift_error_px=error,
        correlation=float(min(correlation, 1.0)),
        sharpness=_sharpness(b[0], b[1]) / _sharpness(a[0], a[1]),
        light=float((b[0] + b[1]).sum() / (a[0] + a[1]).sum()),
    )


def _window(frame: Array, offset: npt.NDArray[np.int64], half: int) -> Array:
    rows, columns = frame.shape
    top, left = rows // 2 - half + int(offset[0]), columns // 2 - half + int(offset[1])
    if top < 0 or left < 0 or top + 2 * half > rows or left + 2 * half > columns:
        raise ValueError(f"a window of {2 * half} pixels, {offset} from the middle, leaves the frame of {frame.shape}")
    return frame[top : top + 2 * half, left : left + 2 * half]


def _shift(reference: Array, other: Array) -> Array:
    """(2,) by how much `other` lies off `reference`."""
    from skimage.registration import phase_cross_correlation

    found, _, _ = phase_cross_correlation(
        _centred(reference), _centred(other), upsample_factor=UPSAMPLING, normalization=None
    )
    return -np.asarray(found, dtype=np.float64)


def _moved(picture: Array, shift: Array) -> Array:
    from scipy.ndimage import shift as moved

    return np.asarray(moved(picture, shift, order=3, mode="nearest"))


def _centred(picture: Array) -> Array:
    return picture - picture.mean()


def _sharpness(first: Array, second: Array) -> float:
    slopes = sum(float((np.diff(first, axis=axis) * np.diff(second, axis=axis)).mean()) for axis in (0, 1))
    return slopes / max(float((_centred(first) * _centred(second)).mean()), 1e-300)
