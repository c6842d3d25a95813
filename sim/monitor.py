"""The scene monitor: from uint8 levels to linear radiance on the scene grid."""

from __future__ import annotations

import torch
import torch.nn.functional as F
from torch import Tensor

from labctl.errors import BadInput
from labctl.roads import FULL_LEVEL, MonitorRoad


def monitor_radiance(levels: Tensor, *, gamma: float, contrast: float) -> Tensor:
    """Linear radiance of monitor pixels, black + (1 - black) (level / 255)^gamma with black = 1 / contrast.

    levels: (..., rows, columns) float, 0..255; values between levels occur while the monitor still settles.
    Returns the same shape, 1/contrast..1, where 1 is a white pixel.
    """
    black = 1.0 / contrast
    return black + (1.0 - black) * (levels / FULL_LEVEL) ** gamma


def scene_pixels(radiance: Tensor, pixel_px: int) -> Tensor:
    """Block mean from monitor pixels (..., rows, columns) to scene pixels (..., rows / pixel_px, columns / pixel_px).

    Raises BadInput when the picture is not a whole number of scene pixels.
    """
    rows, columns = radiance.shape[-2:]
    if rows % pixel_px or columns % pixel_px:
        raise BadInput(
            f"{rows}x{columns} monitor pixels are no whole number of scene pixels of {pixel_px}; "
            "set monitor.view_px to a multiple"
        )
    if pixel_px == 1:
        return radiance
    flat = F.avg_pool2d(radiance.reshape(-1, 1, rows, columns), pixel_px)
    return flat.reshape(*radiance.shape[:-2], rows // pixel_px, columns // pixel_px)


def centred_view(picture: Tensor, view_px: tuple[int, int]) -> Tensor:
    """The centred part (..., rows, columns) = `view_px` of a display, cut where `to_device_plan` puts a picture."""
    rows, columns = picture.shape[-2:]
    if view_px[0] > rows or view_px[1] > columns:
        raise BadInput(f"a view of {view_px[0]}x{view_px[1]} pixels exceeds the display of {rows}x{columns}")
    top, left = (rows - view_px[0]) // 2, (columns - view_px[1]) // 2
    return picture[..., top : top + view_px[0], left : left + view_px[1]]


def shown_scene(scene: Tensor, road: MonitorRoad, *, gamma: float, contrast: float) -> Tensor:
    """Radiance that the monitor shows when `scene` goes down `road`.

    scene: (..., H, W) radiance 0..1. Returns the same shape with 8-bit levels, gamma and black of the monitor.
    The slope is 1 (straight-through).
    """
    single = road.model_copy(update={"pixel_px": 1})
    levels = torch.from_numpy(single.levels(scene.detach().cpu().numpy()))
    radiance = monitor_radiance(levels.to(dtype=scene.dtype, device=scene.device), gamma=gamma, contrast=contrast)
    return radiance + (scene - scene.detach()) if scene.requires_grad else radiance
