"""What fits of dots on a lensless bench share: the nominal geometry, the noise of frames, and what no fit knows."""

from __future__ import annotations

from dataclasses import replace
from typing import TYPE_CHECKING, Any

import numpy as np
import numpy.typing as npt

from protocols.calibrate.dot_geometry import Geometry, Plane

if TYPE_CHECKING:
    from protocols.calibrate.bench import Pixels

Array = npt.NDArray[np.float64]

NOT_MODELLED_PX = 0.005
"""Floor of a dot's error: pixels are not alike inside, cells are not squares."""


WIDTH_FLOOR_PX = 0.05
"""Of the blur: what a dot may be wider or narrower for other reasons, the shapes of cell and pixel above all."""

SHAPE_FLOOR_PX = 0.006
"""What the whole grid may be off by at the edge of the mask, whatever the number of dots: shapes that all dots share
draw them to the pixels, and that does not average out."""


def with_floor(geometry: Geometry, half_px: float) -> Geometry:
    """The geometry with SHAPE_FLOOR_PX in its covariance, for dots that reach `half_px` from the middle."""
    turn = SHAPE_FLOOR_PX / half_px
    floor = np.diag(np.array([SHAPE_FLOOR_PX / 2, SHAPE_FLOOR_PX / 2, turn, turn, 0, 0, 0, 0]) ** 2)
    return replace(geometry, covariance=geometry.covariance + floor)


def plane_of(twin: Any, cells: tuple[int, int]) -> Plane:
    """The nominal geometry of a lensless twin, in sensor pixels on the scale of the shadow."""
    grown = 1 + twin.optics.gap_m / twin.optics.scene_distance_m
    return Plane(
        distance_px=twin.optics.scene_distance_m * grown / twin.sensor.pitch_m,
        gap_px=twin.optics.gap_m * grown / twin.sensor.pitch_m,
        radius_px=float(np.hypot(*cells)) / 2 * twin.cell_on_sensor_px,
    )


def half_pixels(twin: Any, cells: tuple[int, int], scene: tuple[int, int], frame: tuple[int, int]) -> Array:
    """(2,) where the twin puts the shadow of the centre of the mask, in sensor pixels from the centre of the frame.

    Zero where scene, shadow and sensor are all odd or even so that their centres can coincide; else half a pixel.
    """
    shadow = twin.shadow_shape(cells)
    offsets = []
    for axis in (0, 1):
        image = int(np.ceil(scene[axis] * twin.scene_px - 1e-6))
        full = image + shadow[axis] - 1
        whole = twin.sensor.shape[axis]
        start = (whole - frame[axis]) // 2 - (whole - full) // 2
        offsets.append((image + shadow[axis] - 2) / 2 - start - (frame[axis] - 1) / 2)
    return np.array(offsets)


def noise_variance(frames: Pixels) -> Array:
    """(h, w) variance of the mean of `frames` (n, h, w), n at least 2, as a line in the signal.

    The line comes from the differences of the frames themselves: no gain is believed.
    """
    values = frames.astype(np.float64)
    n = len(values)
    mean, variance = values.mean(axis=0), values.var(axis=0, ddof=1)
    order = np.argsort(mean, axis=None)
    parts = np.array_split(order, 8)
    x = np.array([mean.ravel()[part].mean() for part in parts])
    y = np.array([variance.ravel()[part].mean() for part in parts])
    weights = 1 / np.maximum(y, y.mean() / 10 + 1e-3)
    slope, floor = np.polyfit(x - x.mean(), y, 1, w=weights) if np.ptp(x) > 1 else (0.0, float(y.mean()))
    line = floor + max(0.0, float(slope)) * (mean - x.mean())
    return (np.maximum(line, max(0.25 * float(y.min()), 0.0)) + 1 / 12) / n
