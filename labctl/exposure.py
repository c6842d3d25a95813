"""What one or many frames shall see (`ExposurePlan`) and what came back (`Frames`)."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from dataclasses import dataclass, replace
from typing import Annotated, Any, Literal

import numpy as np
import numpy.typing as npt
from annotated_types import Ge, Gt, Le

from labctl.errors import BadInput
from labctl.frozen import Frozen

FloatArray = npt.NDArray[np.floating[Any]]
IntArray = npt.NDArray[np.int64]


class Exposure(Frozen):
    """How long and how strongly the sensor integrates, and which part of it is read."""

    exposure_s: Annotated[float, Gt(0), Le(60)]
    """Requested exposure time. Cameras round it: read the value back from `Frames.exposure_s`."""

    gain_db: Annotated[float, Ge(0), Le(48)] = 0.0
    """Analogue gain over the base gain of the sensor."""

    roi: tuple[Annotated[int, Gt(0)], Annotated[int, Gt(0)]] | None = None
    """(rows, columns) of the centred region that is read; None reads the whole sensor."""


@dataclass(frozen=True, slots=True)
class FrameTag:
    """Identity of one exposure. Cameras copy it into the frame; simulated noise is keyed by it, never by call order."""

    exposure_id: int
    attempt: int = 0


@dataclass(frozen=True)
class ExposurePlan:
    """What N frames shall see. A still has Ts = Tm = 1; a clip Ts > 1; coded exposure Tm > 1 inside one frame.

    scenes: (N, Ts, C, H, W) float, linear radiance 0..1, or "live" when the world in front of the camera is the scene.
    masks: (N or 1, Tm, H, W) float, transmittance 0..1 on the design grid.
    exposure_ids: (N,) int64, unique within a run; noise and ledger key on it.
    Raises BadInput when shapes or ranges do not fit.
    """

    scenes: FloatArray | Literal["live"]
    masks: FloatArray
    exposure: Exposure
    exposure_ids: IntArray
    attempt: int = 0

    def __post_init__(self) -> None:
        if self.masks.ndim != 4:
            raise BadInput(f"plan.masks has shape {self.masks.shape}; (N or 1, Tm, H, W) is needed")
        if self.exposure_ids.ndim != 1:
            raise BadInput(f"plan.exposure_ids has shape {self.exposure_ids.shape}; (N,) is needed")
        if self.masks.shape[0] not in (1, len(self)):
            raise BadInput(
                f"plan.masks holds {self.masks.shape[0]} masks for {len(self)} exposures; give 1 or {len(self)}"
            )
        _check_range("plan.masks", self.masks)
        if not isinstance(self.scenes, str):
            if self.scenes.ndim != 5 or self.scenes.shape[0] != len(self):
                raise BadInput(f"plan.scenes has shape {self.scenes.shape}; ({len(self)}, Ts, C, H, W) is needed")
            _check_range("plan.scenes", self.scenes)

    def __len__(self) -> int:
        return int(self.exposure_ids.shape[0])

    def part(self, start: int, stop: int) -> ExposurePlan:
        """Exposures start..stop-1 as a plan of their own."""
        return replace(
            self,
            scenes=self.scenes if isinstance(self.scenes, str) else self.scenes[start:stop],
            masks=self.masks if self.masks.shape[0] == 1 else self.masks[start:stop],
            exposure_ids=self.exposure_ids[start:stop],
        )


def still_plan(
    scenes: FloatArray | Literal["live"],
    mask: FloatArray,
    exposure: Exposure,
    *,
    exposure_ids: Sequence[int] | IntArray,
    attempt: int = 0,
) -> ExposurePlan:
    """One still frame per scene through one mask. scenes: (N, C, H, W) linear radiance or "live"; mask: (H, W)."""
    if not isinstance(scenes, str) and scenes.ndim != 4:
        raise BadInput(f"scenes have shape {scenes.shape}; (N, C, H, W) is needed, with C = 1 for grey")
    if np.ndim(mask) != 2:
        raise BadInput(f"the mask has shape {np.shape(mask)}; (H, W) is needed")
    return ExposurePlan(
        scenes=scenes if isinstance(scenes, str) else scenes[:, None],
        masks=np.asarray(mask)[None, None],
        exposure=exposure,
        exposure_ids=np.asarray(exposure_ids, dtype=np.int64),
        attempt=attempt,
    )


@dataclass(frozen=True)
class Frames:
    """Measured frames and what the device says about each.

    pixels: (N, C, h, w) uint16 in DN. The other arrays have length N.
    """

    pixels: npt.NDArray[np.uint16]
    exposure_ids: IntArray
    frame_ids: IntArray
    exposure_s: npt.NDArray[np.float64]
    gain_db: npt.NDArray[np.float64]
    camera_time_s: npt.NDArray[np.float64]
    host_time_s: npt.NDArray[np.float64]
    saturation_dn: int
    attempt: int = 0

    def __len__(self) -> int:
        return int(self.pixels.shape[0])

    @property
    def saturated_fraction(self) -> npt.NDArray[np.float64]:
        """(N,) share of the pixels of each frame that stand at the saturation level."""
        return np.asarray((self.pixels >= self.saturation_dn).mean(axis=(1, 2, 3)), dtype=np.float64)

    def __getitem__(self, index: int) -> Frames:
        """Frame `index` alone, still as `Frames` of length one."""
        if not -len(self) <= index < len(self):
            raise IndexError(index)
        cut = slice(index, index + 1) if index != -1 else slice(index, None)
        return replace(
            self,
            pixels=self.pixels[cut],
            exposure_ids=self.exposure_ids[cut],
            frame_ids=self.frame_ids[cut],
            exposure_s=self.exposure_s[cut],
            gain_db=self.gain_db[cut],
            camera_time_s=self.camera_time_s[cut],
            host_time_s=self.host_time_s[cut],
        )

    def __iter__(self) -> Iterator[Frames]:
        return (self[index] for index in range(len(self)))


def join_frames(parts: Sequence[Frames]) -> Frames:
    """Frames of several exposures in order. Raises ValueError when `parts` is empty."""
    if not parts:
        raise ValueError("no frames to join")
    names = ("pixels", "exposure_ids", "frame_ids", "exposure_s", "gain_db", "camera_time_s", "host_time_s")
    joined: dict[str, Any] = {name: np.concatenate([getattr(part, name) for part in parts]) for name in names}
    return replace(parts[0], **joined)


def _check_range(name: str, values: FloatArray) -> None:
    if values.size == 0:
        raise BadInput(f"{name} is empty")
    low, high = float(values.min()), float(values.max())
    if not (np.isfinite(low) and np.isfinite(high)) or low < 0 or high > 1:
        raise BadInput(f"{name} spans {low:.3g}..{high:.3g}; 0..1 is allowed")
