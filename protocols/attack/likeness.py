"""How like the true picture a reconstruction is, picture by picture."""

from __future__ import annotations

from typing import TYPE_CHECKING

import numpy as np
import numpy.typing as npt

if TYPE_CHECKING:
    from torch import Tensor

MOST_DB = 60.0
"""PSNR of a picture that is right to the last bit counts as this."""


def ssim_of(pictures: Tensor, truth: Tensor) -> npt.NDArray[np.float64]:
    """(n,) structural similarity of (n, 1, h, w) pictures 0..1, Gaussian window of sigma 1.5. [Wang et al. 2004]"""
    from skimage.metrics import structural_similarity

    return np.array(
        [
            structural_similarity(
                true, seen, data_range=1.0, gaussian_weights=True, sigma=1.5, use_sample_covariance=False
            )
            for true, seen in zip(_planes(truth), _planes(pictures), strict=True)
        ]
    )


def psnr_of(pictures: Tensor, truth: Tensor) -> npt.NDArray[np.float64]:
    """(n,) peak signal to noise ratio in dB of (n, 1, h, w) pictures 0..1, at most MOST_DB."""
    error = np.square(_planes(pictures) - _planes(truth)).mean(axis=(1, 2))
    return np.asarray(-10 * np.log10(np.maximum(error, 10 ** (-MOST_DB / 10))))


def _planes(pictures: Tensor) -> npt.NDArray[np.float64]:
    return np.asarray(pictures.detach().clamp(0, 1).double().numpy()[:, 0])
