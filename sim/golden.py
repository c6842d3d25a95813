"""Golden frames: has the simulator changed since a camera was trained in it?

A model learns the frames of one simulator. A later version that forms them in another way scores it worse without a
word. So every checkpoint keeps the version of the simulator and a reference frame, and whoever loads it compares.
"""

from __future__ import annotations

import hashlib
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

import numpy as np
import numpy.typing as npt
import torch

from labctl.exposure import FrameTag
from sim.noise import KeyedDraws

if TYPE_CHECKING:
    from labctl.rig_file import RigSpec

SIMULATOR_VERSION = 1
"""Raise it with every change that gives other frames on purpose."""

ROUNDING_DN = 1
"""Another machine may round a pixel the other way; more than this is a change."""

ROUNDING_SHARE = 0.02
"""Share of the pixels that may differ by rounding."""

GOLDEN_FILL = 0.9
GOLDEN_TAG = FrameTag(0)


@dataclass(frozen=True)
class Golden:
    """What the simulator of one rig makes of the reference scene through the reference mask.

    frames: (2, h, w) uint16 in DN, without noise and with the noise of one fixed key.
    """

    version: int
    frames: npt.NDArray[np.uint16]

    @property
    def sha256(self) -> str:
        """Hash of the frames, in hex."""
        return hashlib.sha256(np.ascontiguousarray(self.frames, dtype="<u2").tobytes()).hexdigest()

    def as_state(self) -> dict[str, Any]:
        """As plain values and tensors, for a checkpoint."""
        frames = torch.from_numpy(self.frames.astype(np.int32))
        return {"version": self.version, "sha256": self.sha256, "frames": frames}

    @staticmethod
    def of_state(state: dict[str, Any]) -> Golden:
        """Back from a checkpoint."""
        return Golden(int(state["version"]), state["frames"].numpy().astype(np.uint16))


@torch.no_grad()
def golden_frame(rig: RigSpec, mask_shape: tuple[int, int], scene_shape: tuple[int, int]) -> Golden:
    """The reference frames of the twin of `rig`, in float64 on the CPU."""
    twin: Any = rig.twin.build(rig.roads, dtype=torch.float64)
    psf = twin.psf(torch.from_numpy(_reference_pattern(mask_shape)))
    photons = twin.irradiance(twin.through_monitor(torch.from_numpy(_reference_pattern(scene_shape))[None, None]), psf)
    exposure_s = twin.white_exposure_s(twin.open_area(psf), GOLDEN_FILL)
    frames = [
        twin.sensor.expose(photons, exposure_s=exposure_s, draws=draws)[0, 0].numpy().astype(np.uint16)
        for draws in (None, KeyedDraws(0, [GOLDEN_TAG]))
    ]
    return Golden(SIMULATOR_VERSION, np.stack(frames))


def golden_change(then: Golden, now: Golden) -> str | None:
    """What became of the simulator between two golden frames of one rig and grid, in words; None when nothing did."""
    versions = f"simulator version {then.version} then, {now.version} now"
    if then.sha256 == now.sha256:
        return None
    if then.frames.shape != now.frames.shape:
        return f"the frames of the simulator have another size ({versions})"
    for what, before, after in zip(("frames", "noise"), then.frames, now.frames, strict=True):
        difference = np.abs(before.astype(np.int64) - after.astype(np.int64))
        changed = float((difference > 0).mean())
        if changed > ROUNDING_SHARE or difference.max() > ROUNDING_DN:
            return (
                f"the simulator makes other {what} than when this model was trained ({versions}): "
                f"{100 * changed:.0f} % of the pixels of the reference frame differ, by up to {difference.max()} DN"
            )
    return None


def _reference_pattern(shape: tuple[int, int]) -> npt.NDArray[np.float64]:
    """(H, W) values 0..1 with slopes, edges, a bright point and no symmetry, in closed form."""
    y, x = np.mgrid[: shape[0], : shape[1]]
    waves = 0.5 + 0.25 * np.cos(0.9 * y + 0.3 * x) + 0.25 * np.cos(0.2 * y - 0.55 * x + 1.0)
    pattern: npt.NDArray[np.float64] = waves * np.where(3 * y + x > shape[0] + shape[1], 1.0, 0.4)
    pattern[shape[0] // 3, shape[1] // 4] = 1.0
    return pattern
