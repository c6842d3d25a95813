"""How blurred an image is, told from the image alone."""

from __future__ import annotations

from typing import Any

import numpy as np
import numpy.typing as npt

BLUR_FILTER_PX = 11
"""Length of the re-blurring filter; values with different lengths cannot be compared. [Crete et al. 2007]"""


def image_blurriness(image: npt.NDArray[Any]) -> float:
    """No-reference blur of an image (h, w) in any linear unit: 0 sharp, 1 nothing but blur. [Crete et al. 2007]

    Noise looks sharp and lowers the value. It means nothing where a side is shorter than BLUR_FILTER_PX.
    """
    from skimage.measure import blur_effect

    measure: Any = blur_effect
    return float(measure(np.asarray(image, dtype=np.float64), h_size=BLUR_FILTER_PX))
