"""How sharp a frame is, as one number: for turning a focus ring, or a mask's distance, until it is largest."""

from __future__ import annotations

from typing import Any

import numpy as np
import numpy.typing as npt


def focus_figure(pixels: npt.NDArray[Any], full_scale: float) -> float:
    """Variance of the Laplacian of a frame (h, w) in DN, relative to `full_scale` DN. [Pech-Pacheco et al. 2000]

    0 for a uniform frame; larger is sharper. It falls with the square of the brightness and rises with noise: compare
    it only among frames of one scene, exposure and gain.
    """
    from scipy import ndimage

    return float(np.var(ndimage.laplace(pixels.astype(np.float64) / full_scale)))
