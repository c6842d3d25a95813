"""Known scenes through known masks, and the frames that a bench made of them."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
import numpy.typing as npt

FloatArray = npt.NDArray[np.float64]


@dataclass(frozen=True)
class Captures:
    """N frames of a bench, each of a scene through one of M masks.

    scenes: (N, H, W) radiance 0..1. masks: (M, Hm, Wm) transmittance 0..1. mask_of: (N,) which mask. exposure_s: (N,).
    frames: (N, h, w) DN. saturation_dn: DN from which on a pixel tells nothing.
    """

    scenes: FloatArray
    masks: FloatArray
    mask_of: npt.NDArray[np.int64]
    exposure_s: FloatArray
    frames: npt.NDArray[np.uint16]
    saturation_dn: int

    def __len__(self) -> int:
        return len(self.frames)

    @property
    def usable(self) -> npt.NDArray[np.bool_]:
        """(N, h, w) pixels that are neither saturated nor clipped at 0."""
        return np.asarray((self.frames < self.saturation_dn) & (self.frames > 0))

    @property
    def saturated_share(self) -> float:
        """Share of all pixels at saturation."""
        return float((self.frames >= self.saturation_dn).mean())

    def some(self, places: Sequence[int] | npt.NDArray[np.int64]) -> Captures:
        """These frames alone."""
        index = np.asarray(places, dtype=np.int64)
        return Captures(
            self.scenes[index],
            self.masks,
            self.mask_of[index],
            self.exposure_s[index],
            self.frames[index],
            self.saturation_dn,
        )


def joined(parts: Sequence[Captures]) -> Captures:
    """All of them as one; masks are not merged."""
    offsets = np.cumsum([0, *(len(part.masks) for part in parts[:-1])])
    return Captures(
        np.concatenate([part.scenes for part in parts]),
        np.concatenate([part.masks for part in parts]),
        np.concatenate([part.mask_of + offset for part, offset in zip(parts, offsets, strict=True)]),
        np.concatenate([part.exposure_s for part in parts]),
        np.concatenate([part.frames for part in parts]),
        parts[0].saturation_dn,
    )
