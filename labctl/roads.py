"""The roads from the two grids of a design to the levels of the displays.

A road is a calibration: what the lab believes about the response of its panel. The truth is in the panel.
"""

from __future__ import annotations

from dataclasses import dataclass
from functools import cached_property
from itertools import pairwise
from typing import Annotated

import numpy as np
import numpy.typing as npt
from annotated_types import Ge, Gt, Le, MaxLen, MinLen
from pydantic import AfterValidator

from labctl.devices import Levels
from labctl.errors import BadInput
from labctl.exposure import Exposure, ExposurePlan, FloatArray, FrameTag
from labctl.frozen import Frozen

FULL_LEVEL = 255


def _rises_from_0_to_1(table: tuple[float, ...]) -> tuple[float, ...]:
    if table[0] != 0 or table[-1] != 1 or any(after <= before for before, after in pairwise(table)):
        raise ValueError("a look-up table must rise strictly from 0 to 1; divide by the response at full level")
    return table


ResponseTable = Annotated[tuple[float, ...], MinLen(2), MaxLen(256), AfterValidator(_rises_from_0_to_1)]
"""Measured response of a panel at equally spaced levels from 0 to 255, relative to full level; linear in between."""


class PanelRoad(Frozen):
    """From mask transmittance (design grid) to SLM levels, by contrast and either gamma or a look-up table.

    transmittance = t0 + (1 - t0) response(level / 255) with t0 = 1 / contrast and response(s) = s^gamma or as
    measured; values below t0 become level 0.
    """

    cell_px: Annotated[int, Gt(0), Le(256)] = 1
    """Panel pixels along one side of a mask cell."""

    gamma: Annotated[float, Ge(0.2), Le(5)] = 1.0
    contrast: Annotated[float, Gt(1)] = 1000.0

    lut: ResponseTable | None = None
    """Measured response; goes before `gamma`."""

    def shares(self, mask: FloatArray) -> npt.NDArray[np.float64]:
        """(H, W) transmittance 0..1 to (H, W) shares 0..1 of full level, before they are rounded."""
        floor = 1.0 / self.contrast
        response = np.clip((np.asarray(mask, dtype=np.float64) - floor) / (1.0 - floor), 0.0, 1.0)
        if self.lut is None:
            return np.asarray(response ** (1.0 / self.gamma), dtype=np.float64)
        return np.interp(response, self.lut, np.linspace(0.0, 1.0, len(self.lut)))

    def mask_of(self, levels: npt.ArrayLike) -> npt.NDArray[np.float64]:
        """Transmittance 0..1 that this road turns into exactly these levels 0..255, in the shape of `levels`."""
        share = np.asarray(levels, dtype=np.float64) / FULL_LEVEL
        response = (
            share**self.gamma if self.lut is None else np.interp(share, np.linspace(0, 1, len(self.lut)), self.lut)
        )
        return np.asarray(1.0 / self.contrast + (1.0 - 1.0 / self.contrast) * response, dtype=np.float64)

    def levels(self, mask: FloatArray) -> Levels:
        """(H, W) transmittance 0..1 to (H cell_px, W cell_px) uint8 levels."""
        levels = np.round(FULL_LEVEL * self.shares(mask)).astype(np.uint8)
        grown: Levels = levels.repeat(self.cell_px, axis=-2).repeat(self.cell_px, axis=-1)
        return grown


class MonitorRoad(Frozen):
    """From scene radiance (linear, 0..1) to levels of the scene monitor, by gamma."""

    pixel_px: Annotated[int, Gt(0), Le(256)] = 1
    """Monitor pixels along one side of a scene pixel."""

    gamma: Annotated[float, Ge(0.2), Le(5)] = 2.2

    def scene_of(self, levels: npt.ArrayLike) -> npt.NDArray[np.float64]:
        """Radiance 0..1 that this road turns into exactly these levels 0..255, in the shape of `levels`."""
        return np.asarray((np.asarray(levels, dtype=np.float64) / FULL_LEVEL) ** self.gamma, dtype=np.float64)

    def levels(self, scene: FloatArray) -> Levels:
        """(..., H, W) radiance 0..1 to uint8 levels, each scene pixel repeated pixel_px times."""
        share = np.clip(np.asarray(scene, dtype=np.float64), 0.0, 1.0)
        levels = np.round(FULL_LEVEL * share ** (1.0 / self.gamma)).astype(np.uint8)
        grown: Levels = levels.repeat(self.pixel_px, axis=-2).repeat(self.pixel_px, axis=-1)
        return grown


@dataclass(frozen=True)
class Roads:
    """Both roads of a rig."""

    mask: PanelRoad
    scene: MonitorRoad


@dataclass(frozen=True)
class DevicePlan:
    """An `ExposurePlan` in the language of the devices: levels on whole panels, one tag per exposure.

    Levels are made when they are asked for: a capture of thousands of scenes on a large monitor does not fit in memory.
    """

    plan: ExposurePlan
    roads: Roads
    mask_shape: tuple[int, int]
    scene_shape: tuple[int, int] | None

    def __len__(self) -> int:
        return len(self.plan)

    @property
    def exposure(self) -> Exposure:
        """How the camera shall expose."""
        return self.plan.exposure

    @property
    def live(self) -> bool:
        """Whether the world itself is the scene."""
        return isinstance(self.plan.scenes, str)

    @property
    def is_still(self) -> bool:
        """Whether every exposure sees one mask and one scene (Ts = Tm = 1)."""
        return self.plan.masks.shape[1] == 1 and (isinstance(self.plan.scenes, str) or self.plan.scenes.shape[1] == 1)

    def tag(self, index: int) -> FrameTag:
        """Identity of exposure `index`."""
        return FrameTag(int(self.plan.exposure_ids[index]), self.plan.attempt)

    def mask_of(self, index: int) -> Levels:
        """(Tm, rows, columns) levels of exposure `index` on the SLM."""
        if self.plan.masks.shape[0] == 1:
            return self._only_mask
        return _centred(self.roads.mask.levels(self.plan.masks[index]), self.mask_shape, "the mask")

    def scene_of(self, index: int) -> Levels | None:
        """(Ts, rows, columns) levels of exposure `index` on the scene monitor; None for a live scene."""
        if isinstance(self.plan.scenes, str) or self.scene_shape is None:
            return None
        return _centred(self.roads.scene.levels(self.plan.scenes[index, :, 0]), self.scene_shape, "the scene")

    @cached_property
    def _only_mask(self) -> Levels:
        return _centred(self.roads.mask.levels(self.plan.masks[0]), self.mask_shape, "the mask")


def to_device_plan(
    plan: ExposurePlan, roads: Roads, mask_shape: tuple[int, int], scene_shape: tuple[int, int] | None
) -> DevicePlan:
    """Every picture of `plan` goes down its road and is centred on its panel; the rest of the panel stays at level 0.

    Raises BadInput when a picture is larger than its panel, or when scenes are given and there is no scene display.
    """
    if not isinstance(plan.scenes, str):
        if scene_shape is None:
            raise BadInput("the plan shows scenes, but this rig has no `scene` display; use an operator step")
        if plan.scenes.shape[2] != 1:
            raise BadInput(f"scenes have {plan.scenes.shape[2]} colour channels; 1 (grey) is allowed here")
    made = DevicePlan(plan, roads, mask_shape, scene_shape)
    if len(made):
        made.mask_of(0)
        made.scene_of(0)
    return made


def _centred(levels: Levels, shape: tuple[int, int], what: str) -> Levels:
    rows, columns = levels.shape[-2:]
    if rows > shape[0] or columns > shape[1]:
        raise BadInput(
            f"{what} needs {rows}x{columns} display pixels, the display has {shape[0]}x{shape[1]}; "
            "use a smaller grid or fewer display pixels per cell"
        )
    full = np.zeros((*levels.shape[:-2], *shape), dtype=np.uint8)
    top, left = (shape[0] - rows) // 2, (shape[1] - columns) // 2
    full[..., top : top + rows, left : left + columns] = levels
    return full
