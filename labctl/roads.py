"""The roads from the two grids of a design to the levels of the displays.

A road is a calibration: what the lab believes about the response of its panel. The truth is in the panel.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import Annotated

import numpy as np
from annotated_types import Ge, Gt, Le

from labctl.devices import Levels
from labctl.errors import BadInput
from labctl.exposure import Exposure, ExposurePlan, FloatArray, FrameTag
from labctl.frozen import Frozen

FULL_LEVEL = 255


class PanelRoad(Frozen):
    """From mask transmittance (design grid) to SLM levels, by gamma and contrast.

    transmittance = t0 + (1 - t0) (level / 255)^gamma with t0 = 1 / contrast; values below t0 become level 0.
    """

    cell_px: Annotated[int, Gt(0), Le(256)] = 1
    """Panel pixels along one side of a mask cell."""

    gamma: Annotated[float, Ge(0.2), Le(5)] = 1.0
    contrast: Annotated[float, Gt(1)] = 1000.0

    def levels(self, mask: FloatArray) -> Levels:
        """(H, W) transmittance 0..1 to (H cell_px, W cell_px) uint8 levels."""
        floor = 1.0 / self.contrast
        share = np.clip((np.asarray(mask, dtype=np.float64) - floor) / (1.0 - floor), 0.0, 1.0)
        levels = np.round(FULL_LEVEL * share ** (1.0 / self.gamma)).astype(np.uint8)
        grown: Levels = levels.repeat(self.cell_px, axis=-2).repeat(self.cell_px, axis=-1)
        return grown


class MonitorRoad(Frozen):
    """From scene radiance (linear, 0..1) to levels of the scene monitor, by gamma."""

    pixel_px: Annotated[int, Gt(0), Le(256)] = 1
    """Monitor pixels along one side of a scene pixel."""

    gamma: Annotated[float, Ge(0.2), Le(5)] = 2.2

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

    mask_levels: (N or 1, Tm, rows, columns) uint8 on the SLM.
    scene_levels: (N, Ts, rows, columns) uint8 on the scene monitor, or None for a live scene.
    """

    mask_levels: Levels
    scene_levels: Levels | None
    exposure: Exposure
    tags: tuple[FrameTag, ...]

    def __len__(self) -> int:
        return len(self.tags)

    def mask_of(self, index: int) -> Levels:
        """(Tm, rows, columns) levels of exposure `index`."""
        levels: Levels = self.mask_levels[index if self.mask_levels.shape[0] > 1 else 0]
        return levels


def to_device_plan(
    plan: ExposurePlan, roads: Roads, mask_shape: tuple[int, int], scene_shape: tuple[int, int] | None
) -> DevicePlan:
    """Take every picture of `plan` down its road and centre it on its panel; the rest of the panel stays at level 0.

    Raises BadInput when a picture is larger than its panel, or when scenes are given and there is no scene display.
    """
    mask_levels = _centred(roads.mask.levels(plan.masks), mask_shape, "the mask")
    scene_levels = None
    if not isinstance(plan.scenes, str):
        if scene_shape is None:
            raise BadInput("the plan shows scenes, but this rig has no `scene` display; use an operator step")
        if plan.scenes.shape[2] != 1:
            raise BadInput(f"scenes have {plan.scenes.shape[2]} colour channels; 1 (grey) is allowed here")
        scene_levels = _centred(roads.scene.levels(plan.scenes[:, :, 0]), scene_shape, "the scene")
    tags = tuple(FrameTag(int(i), plan.attempt) for i in plan.exposure_ids)
    return DevicePlan(mask_levels, scene_levels, plan.exposure, tags)


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
