"""Where bright dots stand on a sensor, to a small part of a pixel, by the shape that such a dot must have."""

from __future__ import annotations

from dataclasses import dataclass, replace
from typing import Any

import numpy as np
import numpy.typing as npt

Array = npt.NDArray[np.float64]
Mask = npt.NDArray[np.bool_]

SWEEPS = 8
"""At most so many times are the neighbours of all dots taken off and the dots fitted."""

SETTLED_PX = 2e-4
"""Dots that move by less in a sweep have found their place."""

FARTHEST_PX = 2.0
"""From its guess. A dot that wants to go farther is not the one that was meant."""

BRIGHTEST = 3.0
"""Over the median of all dots: more light than that is no dot, and must not spoil its neighbours."""

SIZED_DOTS = 48
"""So many dots tell the width of all, where none stands in the light of another."""

LEAST_SHARE = 0.35
"""Of a dot's light that must fall on the sensor for its place to be fitted at all."""


@dataclass(frozen=True)
class Spot:
    """Light of one opening on the sensor: the box of the opening, a Gaussian, the box of the pixel, along each axis.

    box_px: side of the opening's shadow. sigma_px: of the Gaussian. copies_px: offsets of the point sources that cast
    it, the same along both axes; a patch of sources casts as many shadows.
    """

    box_px: float
    sigma_px: float
    copies_px: tuple[float, ...] = (0.0,)

    def profile(self, offset_px: Array) -> tuple[Array, Array]:
        """Share of the light of a spot that a pixel at `offset_px` from its centre gets, and the slope of that."""
        shape, slope = np.zeros_like(offset_px), np.zeros_like(offset_px)
        outer, inner = (self.box_px + 1) / 2, (self.box_px - 1) / 2
        for copy in self.copies_px:
            # The box of the opening folded with that of the pixel is a trapezium, with a bend at each of its corners.
            for corner, bend in ((-outer, 1), (-inner, -1), (inner, -1), (outer, 1)):
                value, rise = _ramp(offset_px - copy - corner, self.sigma_px)
                shape, slope = shape + bend * value, slope + bend * rise
        norm = self.box_px * len(self.copies_px)
        return shape / norm, slope / norm

    @property
    def reach_px(self) -> int:
        """Half-width in pixels of a window that holds nearly all of its light."""
        return int(np.ceil(0.5 * (1 + self.box_px) + 2.0 * self.sigma_px + max(map(abs, self.copies_px)) + 0.5))


@dataclass(frozen=True)
class Dots:
    """Fitted dots. place, error: (n, 2) rows and columns in pixels from the centre of the frame, and one standard

    deviation. light: (n,) sum over the dot in the unit of the image. chi2: (n,) per pixel of the window. seen: (n,) the
    dot stands on the sensor, well above the noise, and looks like one.
    """

    place: Array
    error: Array
    light: Array
    light_error: Array
    chi2: Array
    whole: Mask
    seen: Mask
    background: float


def fit_dots(
    image: Array,
    variance: Array,
    guesses: Array,
    spot: Spot,
    *,
    least_snr: float = 8.0,
    edge_px: float = 0.5,
    reach_px: int | None = None,
) -> Dots:
    """Place and light of dots near `guesses` (n, 2), rows and columns in pixels from the centre of `image` (h, w).

    variance: (h, w) of the noise of `image`. Every dot is fitted in its window, weighted by the noise, while its
    neighbours and an even background are taken off. Then its place is corrected by the centroid of what the fit left:
    real dots are never quite of the shape that they should be, and a fit of a wrong shape is drawn to the pixel grid
    by some hundredths of a pixel; the centroid is not. It costs some precision, which the errors know.
    edge_px: how far inside the image a dot must stand. reach_px: half-width of the windows, by default that of the
    spot. All dots at once: time grows with their number, not the image.
    """
    height, width = image.shape
    middle = np.array([(height - 1) / 2, (width - 1) / 2])
    windows = _Windows(image, variance, guesses + middle, spot, reach_px or spot.reach_px)
    place, light = guesses + middle, np.zeros(len(guesses))
    background = float(np.median(windows.values[windows.weights > 0])) if len(guesses) else 0.0
    if len(guesses):
        light = windows.lights(place, background)
    for _ in range(SWEEPS if len(guesses) else 0):
        light, place, background, moved = windows.sweep(place, light, background)
        if moved < SETTLED_PX:
            break
    light_error, chi2 = windows.judged(place, light, background)
    place, error, complete = windows.centroids(place, light, background, _free_half_px(guesses, windows.half))
    inside = ((place >= edge_px - 0.5) & (place <= np.array([height, width]) - 0.5 - edge_px)).all(axis=1)
    near = np.abs(place - middle - guesses).max(axis=1, initial=0.0) < 0.95 * FARTHEST_PX
    seen = windows.whole & complete & inside & near & (light > least_snr * light_error) & np.isfinite(error).all(axis=1)
    return Dots(place - middle, error, light, light_error, chi2, windows.whole, seen, background)


def brightest_near(image: Array, guesses: Array, *, search_px: float, sigma_px: float) -> Array:
    """(n, 2) the brightest pixel within `search_px` of each of `guesses` (n, 2), once the image is smoothed there.

    Places in pixels from the centre of the image. A guess off the image stays as it is.
    """
    from scipy.ndimage import gaussian_filter

    middle = (np.array(image.shape) - 1) / 2
    near = np.arange(-int(search_px), int(search_px) + 1)
    corner = np.round(guesses + middle).astype(np.int64)
    rows, columns = (corner[:, axis, None] + near for axis in (0, 1))
    on_image = ((corner >= 0) & (corner < np.array(image.shape))).all(axis=1)
    inside = ((rows >= 0) & (rows < image.shape[0]))[:, :, None] & ((columns >= 0) & (columns < image.shape[1]))[
        :, None
    ]
    at = rows.clip(0, image.shape[0] - 1)[:, :, None], columns.clip(0, image.shape[1] - 1)[:, None, :]
    values = np.where(inside, gaussian_filter(image[at], sigma_px, axes=(1, 2)), -np.inf).reshape(
        len(guesses), len(near) ** 2
    )
    best = np.stack(np.unravel_index(np.argmax(values, axis=1), (len(near), len(near))), axis=1)
    return np.where(on_image[:, None], corner + near[best] - middle, guesses)


def fit_sigma(
    image: Array, variance: Array, guesses: Array, spot: Spot, *, widest_px: float = 2.5
) -> tuple[Spot, float]:
    """`spot` with the width of the Gaussian that fits all dots best, and the standard deviation of that width.

    Arguments as for `fit_dots`. The error is that of the noise, scaled where the best fit leaves more than noise.
    """
    from scipy.optimize import minimize_scalar

    reach = replace(spot, sigma_px=1.0).reach_px
    if len(guesses) > 2 * SIZED_DOTS and _spacing(guesses) > 4 * reach:
        guesses = guesses[:: len(guesses) // SIZED_DOTS]

    def tried(sigma: float) -> tuple[float, float]:
        dots = fit_dots(image, variance, guesses, replace(spot, sigma_px=sigma), reach_px=reach)
        pixels = (2 * reach + 1) ** 2
        return float(dots.chi2[dots.whole].sum()) * pixels, float(np.median(dots.chi2[dots.whole]))

    if not fit_dots(image, variance, guesses, spot, reach_px=reach).whole.any():
        return spot, float("inf")
    found = minimize_scalar(
        lambda sigma: tried(float(sigma))[0], bounds=(0.05, widest_px), method="bounded", options={"xatol": 2e-3}
    )
    best, step = float(found.x), 0.03
    (left, _), (centre, typical), (right, _) = (tried(max(0.02, best + d)) for d in (-step, 0.0, step))
    curvature = max((left - 2 * centre + right) / step**2, 1e-12)
    return replace(spot, sigma_px=best), float(np.sqrt(2 * max(1.0, typical) / curvature))


def _free_half_px(guesses: Array, reach: int) -> int:
    """Half-width of a window that holds no part of the core of a neighbour."""
    return reach if len(guesses) < 2 else max(1, min(reach, int((_spacing(guesses) - 1) / 2)))


def _spacing(places: Array) -> float:
    """From a dot to its nearest neighbour; of the closest ones but for a tenth."""
    from scipy.spatial import KDTree

    nearest = np.sort(KDTree(places).query(places, k=2)[0][:, 1])
    return float(nearest[len(nearest) // 10])


class _Windows:
    """The same small window round each dot, and the sums over it."""

    def __init__(self, image: Array, variance: Array, centres: Array, spot: Spot, half: int) -> None:
        self.spot, self.shape = spot, image.shape
        self.half = half
        near = np.arange(-half, half + 1)
        corner = np.round(centres).astype(np.int64)
        self.rows, self.columns = corner[:, 0, None] + near, corner[:, 1, None] + near
        in_rows = (self.rows >= 0) & (self.rows < image.shape[0])
        in_columns = (self.columns >= 0) & (self.columns < image.shape[1])
        inside = in_rows[:, :, None] & in_columns[:, None, :]
        # A canvas with room: windows over the edge need no special case, their weight there is zero.
        self._room = half + 1
        at_rows = self.rows.clip(-self._room, image.shape[0] + self._room - 1) + self._room
        at_columns = self.columns.clip(-self._room, image.shape[1] + self._room - 1) + self._room
        self._flat = at_rows[:, :, None] * (image.shape[1] + 2 * self._room) + at_columns[:, None, :]
        safe = self.rows.clip(0, image.shape[0] - 1)[:, :, None], self.columns.clip(0, image.shape[1] - 1)[:, None, :]
        self.values = image[safe]
        self.weights = np.where(inside, 1 / np.maximum(variance[safe], 1e-12), 0.0)
        self.centres = centres
        self.alone = len(centres) < 2 or _spacing(centres) > np.sqrt(2) * (2 * half + 2 + 2 * FARTHEST_PX)
        """Whether no window reaches into another one."""
        shape = self._shapes(centres)[0]
        self.whole = np.where(inside, shape, 0.0).sum((1, 2)) > LEAST_SHARE
        """(n,) whether enough of the dot falls on the sensor."""
        self._canvas = np.zeros((image.shape[0] + 2 * self._room) * (image.shape[1] + 2 * self._room))

    def sweep(self, place: Array, light: Array, background: float) -> tuple[Array, Array, float, float]:
        """Better light and place of every dot and background of all, and by how much the farthest dot moved.

        One Gauss-Newton step of all at once: dots share nothing but the background, which is eliminated.
        """
        shape, down, across = self._shapes(place)
        own = light[:, None, None] * shape
        residual = self.values - background - self._others(own) - own
        jacobian = np.stack([shape, light[:, None, None] * down, light[:, None, None] * across])
        jacobian[1:] *= self.whole[None, :, None, None]
        normal = np.einsum("anij,nij,bnij->nab", jacobian, self.weights, jacobian, optimize=True)
        right = np.einsum("anij,nij,nij->na", jacobian, self.weights, residual, optimize=True)
        ground = np.einsum("anij,nij->na", jacobian, self.weights, optimize=True)
        scale = np.sqrt(np.einsum("naa->na", normal).clip(1e-30))
        normal = normal / (scale[:, :, None] * scale[:, None, :]) + 1e-9 * np.eye(3)
        solved = np.linalg.solve(normal, np.stack([right / scale, ground / scale], axis=-1)) / scale[:, :, None]
        left = float(self.weights.sum() - (ground * solved[:, :, 1]).sum())
        rise = (float((self.weights * residual).sum()) - float((ground * solved[:, :, 0]).sum())) / max(left, 1e-30)
        step = solved[:, :, 0] - rise * solved[:, :, 1]
        step[~self.whole, 1:] = 0.0
        there = (place + step[:, 1:].clip(-1, 1)).clip(self.centres - FARTHEST_PX, self.centres + FARTHEST_PX)
        moved = float(np.abs(there - place).max(initial=0.0))
        return self._bounded(light + step[:, 0]), there, background + rise, moved

    def lights(self, place: Array, background: float) -> Array:
        """A first guess of the light of every dot, as if it stood alone."""
        shape = self._shapes(place)[0]
        light = (self.weights * shape * (self.values - background)).sum((1, 2))
        return self._bounded(light / (self.weights * shape**2).sum((1, 2)).clip(1e-30))

    def judged(self, place: Array, light: Array, background: float) -> tuple[Array, Array]:
        """Error of the light and chi squared per pixel of every dot, (n,) each."""
        shape, down, across = self._shapes(place)
        own = light[:, None, None] * shape
        residual = self.values - background - self._others(own) - own
        jacobian = np.stack([shape, light[:, None, None] * down, light[:, None, None] * across])
        normal = np.einsum("anij,nij,bnij->nab", jacobian, self.weights, jacobian, optimize=True)
        spread: Any = np.einsum("naa->na", np.linalg.pinv(normal, hermitian=True)).clip(0)
        spread = np.where(np.einsum("naa->na", normal) > 0, np.sqrt(spread), np.inf)
        counted = (self.weights > 0).sum((1, 2)).clip(1)
        return spread[:, 0], (self.weights * residual**2).sum((1, 2)) / counted

    def centroids(self, place: Array, light: Array, background: float, half: int) -> tuple[Array, Array, Mask]:
        """Places corrected by the centroid of what the fit left within `half` pixels, their errors, and (n,) whether
        all of that window lies on the image."""
        own = light[:, None, None] * self._shapes(place)[0]
        residual = self.values - background - self._others(own) - own
        down, across = self.rows - place[:, :1], self.columns - place[:, 1:]
        nearest = np.round(place)
        near = (np.abs(self.rows - nearest[:, :1]) <= half)[:, :, None] & (
            np.abs(self.columns - nearest[:, 1:]) <= half
        )[:, None, :]
        complete = (near & (self.weights > 0)).sum((1, 2)) == (2 * half + 1) ** 2
        variance = 1 / np.where(self.weights > 0, self.weights, np.inf)
        amount = np.maximum(light, 1e-12)
        moved, spread = [], []
        for arm in (down[:, :, None], across[:, None, :]):
            moved.append((near * arm * residual).sum((1, 2)) / amount)
            spread.append(np.sqrt((near * arm**2 * variance).sum((1, 2))) / amount)
        shift = np.stack(moved, axis=1).clip(-1, 1)
        return place + np.where(complete[:, None], shift, 0.0), np.stack(spread, axis=1), complete

    def _bounded(self, light: Array) -> Array:
        typical = float(np.median(light[self.whole])) if self.whole.any() else 0.0
        return light.clip(0.0, BRIGHTEST * max(typical, 0.0))

    def _shapes(self, place: Array) -> tuple[Array, Array, Array]:
        row, row_slope = self.spot.profile(self.rows - place[:, :1])
        column, column_slope = self.spot.profile(self.columns - place[:, 1:])
        return (
            row[:, :, None] * column[:, None, :],
            -row_slope[:, :, None] * column[:, None, :],
            -row[:, :, None] * column_slope[:, None, :],
        )

    def _others(self, own: Array) -> Array:
        """What all other dots put into the window of each."""
        if self.alone:
            return np.zeros_like(own)
        self._canvas[:] = 0.0
        np.add.at(self._canvas, self._flat, own)
        return self._canvas[self._flat] - own


def _ramp(z: Array, sigma: float) -> tuple[Array, Array]:
    """max(z, 0) blurred by a Gaussian, and its slope."""
    from scipy.special import ndtr

    below = ndtr(z / sigma)
    return z * below + sigma / np.sqrt(2 * np.pi) * np.exp(-0.5 * (z / sigma) ** 2), below
