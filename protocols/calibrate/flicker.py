"""How steady the light is from frame to frame, beyond photon noise, at exposures of several lengths."""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
import numpy.typing as npt

Array = npt.NDArray[np.float64]


@dataclass(frozen=True)
class Flicker:
    """share: standard deviation of the light of a frame, relative, photon noise taken off. error: its own.

    noise: what photon noise alone gives. sure: whether there is any.
    """

    share: float
    error: float
    noise: float
    sure: bool


def flicker_of(frames: npt.NDArray[np.uint16], dark: Array) -> Flicker:
    """Of frames (n, h, w) DN that saw the same, n at least 8; dark: (h, w) DN.

    The means of the frames vary by photon noise, which their pixels tell, and by the light. A slow drift counts too.
    """
    values = frames.astype(np.float64) - dark
    n, pixels = len(values), values[0].size
    light = values.mean(axis=(1, 2))
    mean = float(light.mean())
    off = values - light[:, None, None]
    own = float(off.var(axis=0, ddof=1).mean()) / pixels
    seen = float(light.var(ddof=1))
    beyond = seen - own
    error = np.sqrt(2 / (n - 1)) * max(seen, own)
    share = np.sqrt(max(beyond, 0.0)) / mean
    # The error of a root near zero: half of the interval that one standard deviation of the variance spans.
    high = np.sqrt(max(beyond, 0.0) + error) / mean
    # Against what steady light would give: an error that grows with the flicker itself would never let it be sure.
    sure = beyond > 3 * np.sqrt(2 / (n - 1)) * own
    return Flicker(float(share), float(high - share), float(np.sqrt(own)) / mean, bool(sure))
