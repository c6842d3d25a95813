"""What a residual weighs: photon statistics, and the fixed patterns that every frame shares."""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING

import numpy as np
import numpy.typing as npt

if TYPE_CHECKING:
    from sim.sensor import Sensor

FloatArray = npt.NDArray[np.float64]

ROUNDING_DN2 = 1 / 12
"""Variance of rounding to whole DN."""


def variance_dn2(signal_dn: FloatArray, gain_dn_per_e: float, read_noise_e: float) -> FloatArray:
    """Variance of a pixel that holds `signal_dn` above its offset: shot noise, read noise, rounding."""
    shot = gain_dn_per_e * np.maximum(signal_dn, 0.0)
    return np.asarray(shot + (gain_dn_per_e * read_noise_e) ** 2 + ROUNDING_DN2)


def signal_of(foretold_dn: FloatArray, sensor: Sensor) -> FloatArray:
    """What frames (..., h, w) of `sensor` hold above the offset of their pixels, in DN."""
    offset_dn = sensor.offset_dn(foretold_dn.shape[-2:]).detach().double().cpu().numpy()
    return np.asarray(foretold_dn - offset_dn)


def variance_of(foretold_dn: FloatArray, sensor: Sensor) -> FloatArray:
    """Variance in DN^2 of the noise that `sensor` adds to foretold frames (..., h, w)."""
    signal_dn = signal_of(foretold_dn, sensor)
    return variance_dn2(signal_dn, float(sensor.gain_dn_per_e), float(sensor.read_noise_e))


@dataclass(frozen=True)
class Whitening:
    """Makes residuals (..., N, h, w) in DN independent, with variance 1.

    Pixel p of frame n errs by noise, by a share of its signal that is the same in all frames (gain of the pixel), and
    by an offset that is. The last two are known to `flat_sigma` and `dark_sigma_dn`, and are integrated out: what they
    could explain weighs no more than once, however many frames there are.
    """

    weight: FloatArray
    """(N, h, w) 1 / standard deviation; 0 where a pixel does not count."""

    patterns: FloatArray
    """(N, h, w, 2) what one standard deviation of gain and offset does, in units of the noise."""

    inner: FloatArray
    """(h, w, 2, 2): (1 + U U^T)^(-1/2) = 1 + U inner U^T with U = `patterns`."""

    @classmethod
    def of(
        cls,
        signal_dn: FloatArray,
        usable: npt.NDArray[np.bool_],
        *,
        gain_dn_per_e: float,
        read_noise_e: float,
        flat_sigma: FloatArray,
        dark_sigma_dn: FloatArray,
    ) -> Whitening:
        """For frames with (N, h, w) `signal_dn` above the offset, of which the `usable` pixels count."""
        weight = usable / np.sqrt(variance_dn2(signal_dn, gain_dn_per_e, read_noise_e))
        patterns = np.stack((flat_sigma * signal_dn * weight, dark_sigma_dn * weight), axis=-1)
        value, vector = np.linalg.eigh(np.einsum("nhwi,nhwj->hwij", patterns, patterns))
        value = np.maximum(value, 1e-12)
        inner = np.einsum("hwik,hwk,hwjk->hwij", vector, (1 / np.sqrt(1 + value) - 1) / value, vector)
        return cls(weight, patterns, inner)

    def __call__(self, residual_dn: FloatArray) -> FloatArray:
        """(..., N, h, w) whitened."""
        scaled = residual_dn * self.weight
        shared = np.einsum("nhwi,...nhw->...hwi", self.patterns, scaled)
        shared = np.einsum("hwij,...hwj->...hwi", self.inner, shared)
        return np.asarray(scaled + np.einsum("nhwi,...hwi->...nhw", self.patterns, shared))

    def pattern_of(self, residual_dn: FloatArray) -> tuple[FloatArray, FloatArray]:
        """Most probable (h, w, 2) patterns behind (N, h, w) captured minus foretold, and their errors (h, w, 2).

        Both in standard deviations of what was known of gain and offset before.
        """
        known = np.einsum("nhwi,nhwj->hwij", self.patterns, self.patterns) + np.eye(2)
        covariance = np.linalg.inv(known)
        pulled = np.einsum("nhwi,nhw->hwi", self.patterns, residual_dn * self.weight)
        errors = np.sqrt(np.einsum("hwii->hwi", covariance))
        return np.einsum("hwij,hwj->hwi", covariance, pulled), errors
