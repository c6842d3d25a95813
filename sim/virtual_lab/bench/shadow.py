"""Straight rays from scene points through the panel onto sensor pixels, summed one by one.

Written from the geometry alone: nothing here is shared with the simulation that the bench judges.
"""

from __future__ import annotations

import math
from collections import OrderedDict
from typing import Any

import numpy as np
import numpy.typing as npt

from sim.virtual_lab.bench.settings import Truth

Array = npt.NDArray[np.float64]

CELLS_PER_PIXEL = 2
"""Canvas cells along one panel pixel: the turned panel is laid on the canvas once for each mask."""

RAYS_PER_CELL = 3
"""Rays along one canvas cell that decide which panel pixels it holds."""

BLUR_REACH_SIGMA = 6.0
BLUR_TABLE_POINTS = 6001
KEPT_MASKS = 12


class ShadowCaster:
    """Light on the sensor for a picture on the panel and a picture on the monitor.

    A scene pixel is a point at its centre. It lights a sensor pixel with its radiance times the transmittance of the
    panel, averaged over the footprint that the sensor pixel, seen from that point, has on the mask plane. The panel may
    be shifted and turned. Footprints are rectangles along the axes of the sensor, so the sum over the panel is taken
    first along its columns (once for each mask) and then along its rows (for each frame).
    """

    def __init__(self, truth: Truth) -> None:
        optics, silicon = truth.optics, truth.silicon
        self._gap_m = optics.gap_m * (1 + optics.gap_error)
        self._distance_m = optics.scene_distance_m
        self._cell_m = optics.mask_pixel_m / CELLS_PER_PIXEL
        self._index = _turned_panel(truth.panel.stop_px, math.radians(optics.rotation_deg))
        self._rows = self._axis(truth, 0)
        self._columns = np.ascontiguousarray(self._axis(truth, 1).transpose(1, 2, 0))
        self._row_sums = self._rows.reshape(silicon.shape[0], -1)
        self._falling = _fall_off(truth)
        magnified = optics.gap_m * optics.scene_pixel_m / (optics.scene_distance_m * silicon.pixel_m)
        self._point_weight = magnified**2 * ((self._distance_m + optics.gap_m) / (self._distance_m + self._gap_m)) ** 2
        self._open_px = (self._cell_m * (1 + self._gap_m / self._distance_m) / silicon.pixel_m) ** 2
        self._stray = truth.light.stray
        self._photons_per_s = truth.light.photons_per_s
        self._cast: OrderedDict[bytes, tuple[Array, float]] = OrderedDict()

    def photons_per_s(self, transmittance: Array, radiance: Array, key: bytes | None = None) -> Array:
        """(rows, columns) photons per second at every sensor pixel.

        transmittance: (rows, columns) of the panel pixels in the field stop. radiance: (rows, columns) of the scene.
        key: names a picture that will come again; what it costs to cast is then paid once.
        """
        through, open_px = self._through_columns(transmittance, key)
        seen = radiance * self._falling
        lit = np.tensordot(seen, through, axes=(1, 0))
        light = self._row_sums @ lit.reshape(self._row_sums.shape[1], -1) * self._point_weight
        return self._photons_per_s * (light + self._stray * open_px * seen.mean())

    def _through_columns(self, transmittance: Array, key: bytes | None) -> tuple[Array, float]:
        """For every scene column (scene columns, canvas rows, sensor columns), and the open area in sensor pixels."""
        if key is not None and key in self._cast:
            self._cast.move_to_end(key)
            return self._cast[key]
        closed_outside = np.append(transmittance.ravel(), 0.0)
        canvas = closed_outside[self._index].mean(axis=(1, 3))
        made = np.matmul(canvas, self._columns), float(canvas.sum()) * self._open_px
        if key is not None:
            self._cast[key] = made
            if len(self._cast) > KEPT_MASKS:
                self._cast.popitem(last=False)
        return made

    def _axis(self, truth: Truth, axis: int) -> Array:
        """(sensor, scene, canvas) share of every footprint that lies on every canvas cell, along one axis."""
        sensor_px, pixel_m = truth.silicon.shape[axis], truth.silicon.pixel_m
        scene_px = truth.scene_px[axis]
        canvas = self._index.shape[0 if axis == 0 else 2]
        near, far = self._gap_m, self._distance_m
        edges_m = (np.arange(sensor_px + 1) - sensor_px / 2) * pixel_m
        # The monitor hangs upside down, so that its image on the sensor stands upright.
        points_m = -(np.arange(scene_px) - (scene_px - 1) / 2) * truth.optics.scene_pixel_m
        crossing_m = (points_m[:, None] * near + edges_m[None, :] * far) / (near + far)
        crossing_m -= truth.optics.shift_px[axis] * pixel_m * far / (near + far)
        cells_m = (np.arange(canvas + 1) - canvas / 2) * self._cell_m
        sigma_m = truth.optics.blur_px * pixel_m * far / (near + far)
        ramps = _ramp(crossing_m[:, :, None] - cells_m, sigma_m)
        overlap_m = np.diff(-np.diff(ramps, axis=2), axis=1)
        footprint_m = pixel_m * far / (near + far)
        return np.ascontiguousarray(overlap_m.transpose(1, 0, 2) / footprint_m)


def _ramp(distance_m: Array, sigma_m: float) -> Array:
    """max(distance, 0), blurred by a Gaussian. Its second difference is the blurred overlap of two intervals."""
    if sigma_m == 0:
        return np.maximum(distance_m, 0.0)
    z = np.linspace(-BLUR_REACH_SIGMA, BLUR_REACH_SIGMA, BLUR_TABLE_POINTS)
    below = np.array([0.5 * math.erfc(-value / math.sqrt(2)) for value in z])
    table = z * below + np.exp(-(z**2) / 2) / math.sqrt(2 * math.pi)
    scaled = distance_m / sigma_m
    return sigma_m * np.where(scaled < BLUR_REACH_SIGMA, np.interp(scaled, z, table), scaled)


def _turned_panel(stop_px: tuple[int, int], angle: float) -> npt.NDArray[np.intp]:
    """(canvas rows, rays, canvas columns, rays) panel pixel under every ray; the one after the last is outside."""
    rows, columns = stop_px
    cos, sin = math.cos(angle), math.sin(angle)
    turned = (rows * abs(cos) + columns * abs(sin), columns * abs(cos) + rows * abs(sin))
    # Rounding may not add a cell to a panel that is not turned.
    canvas = tuple(2 * math.ceil(extent * CELLS_PER_PIXEL / 2 - 1e-9) for extent in turned)
    y, x = (_rays(cells) for cells in canvas)
    row = np.floor(cos * y[:, None] + sin * x[None, :] + rows / 2).astype(np.intp)
    column = np.floor(cos * x[None, :] - sin * y[:, None] + columns / 2).astype(np.intp)
    inside = (row >= 0) & (row < rows) & (column >= 0) & (column < columns)
    index = np.where(inside, row * columns + column, rows * columns)
    return index.reshape(canvas[0], RAYS_PER_CELL, canvas[1], RAYS_PER_CELL)


def _rays(cells: int) -> Array:
    """Positions of the rays in panel pixels, from the centre of the canvas."""
    per_pixel = CELLS_PER_PIXEL * RAYS_PER_CELL
    return (np.arange(cells * RAYS_PER_CELL) + 0.5 - cells * RAYS_PER_CELL / 2) / per_pixel


def _fall_off(truth: Truth) -> Any:
    """(rows, columns) share of light from every scene pixel by its angle, cos^4; 1 where the optics know none."""
    if truth.optics.fall_off == "none":
        return 1.0
    rows, columns = truth.scene_px
    y, x = ((np.arange(n) - (n - 1) / 2) * truth.optics.scene_pixel_m for n in (rows, columns))
    tangent_squared = (y[:, None] ** 2 + x[None, :] ** 2) / truth.optics.scene_distance_m**2
    return (1 + tangent_squared) ** -2
