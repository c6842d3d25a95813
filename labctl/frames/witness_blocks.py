"""What a rig answers to every block of a scene: by that, the light of any scene can be foretold.

Incoherent light adds up, so the light of a frame is the sum over the scene of radiance times response, through whatever
mask [Asif et al. 2017]. The scene is cut into blocks within which the radiance is taken for even.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any

import numpy as np
import numpy.typing as npt

from labctl.errors import BadInput
from labctl.exposure import FloatArray, Frames, IntArray
from labctl.frames.corrections import LINEAR

Values = npt.NDArray[np.float64]

CUTS = 32
"""Rows of the scene at which a torn frame may change from new to old; in between, the nearest will do."""

BIN_SIDE = 48
"""Larger frames are binned to at most so many values along a side: neither time nor memory grows with the sensor."""


@dataclass(frozen=True)
class BlockGrid:
    """A scene of H x W pixels cut into rows x columns blocks, as even as whole pixels allow."""

    scene_shape: tuple[int, int]
    blocks: tuple[int, int]

    def __post_init__(self) -> None:
        if any(not 1 <= count <= side for count, side in zip(self.blocks, self.scene_shape, strict=True)):
            raise BadInput(
                f"a scene of {self.scene_shape[0]}x{self.scene_shape[1]} pixels cannot be cut into "
                f"{self.blocks[0]}x{self.blocks[1]} blocks; use 1 to {min(self.scene_shape)} along a side"
            )

    @classmethod
    def fitting(cls, scene_shape: tuple[int, int], blocks: int) -> BlockGrid:
        """`blocks` along each side, or as many as the side has pixels."""
        return cls(scene_shape, (min(blocks, scene_shape[0]), min(blocks, scene_shape[1])))

    def __len__(self) -> int:
        return self.blocks[0] * self.blocks[1]

    def patterns(self) -> npt.NDArray[np.float32]:
        """(P, H, W): block after block at radiance 1, all else black."""
        rows, columns = (np.diff(edges) for edges in self._edges())
        places = np.repeat(np.repeat(np.arange(len(self)).reshape(self.blocks), rows, axis=0), columns, axis=1)
        return np.asarray(places == np.arange(len(self))[:, None, None], dtype=np.float32)

    def means(self, scenes: FloatArray) -> Values:
        """(N, P) mean radiance in each block of (N, H, W)."""
        if scenes.shape[-2:] != self.scene_shape:
            raise BadInput(f"a scene has {scenes.shape[-2:]} pixels, this witness knows scenes of {self.scene_shape}")
        rows, columns = self._edges()
        return _means_between(_means_between(scenes, columns, -1), rows, -2).reshape(len(scenes), -1)

    def mixed_means(self, scene: FloatArray, previous: FloatArray) -> Values:
        """(m, P) means of pictures that are old as a whole, old below each of some rows, and old above each of them.

        scene, previous: (H, W).
        """
        edges, columns = self._edges()
        new, old = (_means_between(picture, columns, -1) for picture in (scene, previous))
        height = self.scene_shape[0]
        cuts = np.unique(np.round(np.linspace(0, height, CUTS + 1)).astype(np.int64)[1:-1])
        below = np.arange(height) >= cuts[:, None]
        where_old = np.concatenate([np.ones((1, height), dtype=np.bool_), below, ~below])
        return _means_between(np.where(where_old[..., None], old, new), edges, -2).reshape(len(where_old), -1)

    def _edges(self) -> tuple[IntArray, IntArray]:
        rows, columns = (
            np.round(np.linspace(0, side, count + 1)).astype(np.int64)
            for side, count in zip(self.scene_shape, self.blocks, strict=True)
        )
        return rows, columns


class Bins:
    """Mean values of (C, h, w) pixels in at most `BIN_SIDE` x `BIN_SIDE` bins for each channel: n values."""

    def __init__(self, frame_shape: tuple[int, int, int]) -> None:
        self.frame_shape = frame_shape
        step = max(1, *(-(-side // BIN_SIDE) for side in frame_shape[1:]))
        self._edges = tuple(np.append(np.arange(0, side, step), side) for side in frame_shape[1:])

    def values(self, frames: Frames) -> tuple[Values, npt.NDArray[np.bool_]]:
        """(N, n) means in DN, and where no pixel of a bin is nearly saturated."""
        if frames.pixels.shape[1:] != self.frame_shape:
            raise BadInput(
                f"a frame has shape {frames.pixels.shape[1:]}, this witness knows frames of {self.frame_shape}; "
                "measure it anew for another region of the sensor"
            )
        return self.means(frames.pixels), self.means(frames.pixels >= LINEAR * frames.saturation_dn) == 0

    def means(self, pixels: npt.NDArray[Any]) -> Values:
        """(N, n) means of (N, C, h, w)."""
        rows, columns = self._edges
        return _means_between(_means_between(pixels, columns, -1), rows, -2).reshape(len(pixels), -1)


@dataclass(frozen=True)
class Dark:
    """What bins show without light: `bias_dn` + `rate_dn_per_s` t, both (n,)."""

    bias_dn: Values
    rate_dn_per_s: Values

    def at(self, exposure_s: float) -> Values:
        """(n,) DN after so long."""
        return self.bias_dn + self.rate_dn_per_s * exposure_s


@dataclass(frozen=True)
class Noise:
    """Variance of a bin in DN^2: `floor` + `per_dn` times its light in DN (photon transfer)."""

    floor: float
    per_dn: float

    def variance(self, light_dn: Values, *, ratio: float = 1.0, gain: float = 1.0) -> Values:
        """Of light that was exposed `ratio` times as long as the reference at `gain` times its gain, scaled back."""
        scaled = ratio * gain
        return (self.floor + self.per_dn * gain * np.maximum(light_dn, 0.0) * scaled) / scaled**2


@dataclass(frozen=True)
class BlockResponses:
    """Light of every block of the scene through one mask, measured or computed.

    light_dn: (P, n) DN of light in each bin, block after block at radiance 1, at the reference exposure.
    """

    grid: BlockGrid
    light_dn: Values
    exposure_s: float
    gain_db: float

    def ratio(self, frame: Frames) -> tuple[float, float]:
        """Exposure time and gain (linear) of a single frame, relative to the reference."""
        gain = 10 ** ((float(frame.gain_db[0]) - self.gain_db) / 20)
        return float(frame.exposure_s[0]) / self.exposure_s, float(gain)

    def arrays(self) -> dict[str, Any]:
        """For an npz file."""
        return {
            "scene_shape": self.grid.scene_shape, "blocks": self.grid.blocks, "light_dn": self.light_dn,
            "reference": (self.exposure_s, self.gain_db),
        }  # fmt: skip

    @classmethod
    def of(cls, arrays: Mapping[str, Any]) -> BlockResponses:
        """From `arrays` read back."""
        scene_shape, blocks = (tuple(int(side) for side in arrays[name]) for name in ("scene_shape", "blocks"))
        exposure_s, gain_db = (float(value) for value in arrays["reference"])
        grid = BlockGrid((scene_shape[0], scene_shape[1]), (blocks[0], blocks[1]))
        return cls(grid, arrays["light_dn"], exposure_s, gain_db)


def _means_between(values: npt.NDArray[Any], edges: IntArray, axis: int) -> Values:
    """Means along `axis` between edges."""
    sums = np.add.reduceat(values, edges[:-1], axis=axis, dtype=np.float64)
    sizes = np.diff(edges)
    return np.asarray(sums / (sizes if axis == -1 else sizes[:, None]))
