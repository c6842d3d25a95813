"""Which way round a picture of dots comes: as it was shown, or mirrored, turned or transposed."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING

import numpy as np
import numpy.typing as npt

if TYPE_CHECKING:
    from matplotlib.figure import Figure

Array = npt.NDArray[np.float64]

WAYS: dict[str, tuple[tuple[int, int], tuple[int, int]]] = {
    "as shown": ((1, 0), (0, 1)),
    "mirrored left to right": ((1, 0), (0, -1)),
    "mirrored top to bottom": ((-1, 0), (0, 1)),
    "turned by 180 degrees": ((-1, 0), (0, -1)),
    "transposed": ((0, 1), (1, 0)),
    "turned by 90 degrees clockwise": ((0, 1), (-1, 0)),
    "turned by 90 degrees anticlockwise": ((0, -1), (1, 0)),
    "transposed and turned by 180 degrees": ((0, -1), (-1, 0)),
}
"""Matrices that take (row, column) as shown to (row, column) as seen; rows count downwards."""

FIGURE = ((-1.0, 0.9), (-0.8, -0.1), (-0.4, -0.9), (-0.2, 0.1), (0.5, 0.1), (0.8, -0.5))
"""Six dots, in halves of the figure's size, found by search: turned, mirrored and shifted at will, the figure lies on
itself with fewer than half of its dots."""

LEAST_LIKENESS = 0.5
"""Correlation below which no dots are seen at all."""

SMOOTHING_PX = 1.0


@dataclass(frozen=True)
class Orientation:
    """What was found: `way` of WAYS, the likeness (correlation, 0..1) of every way, and the shift of the best one.

    shift_px: (2,) rows and columns of the seen figure from where it was expected.
    """

    way: str
    likeness: dict[str, float]
    shift_px: tuple[float, float]

    @property
    def visible(self) -> bool:
        """Whether there are dots at all."""
        return self.likeness[self.way] >= LEAST_LIKENESS

    @property
    def as_shown(self) -> bool:
        """Whether the picture comes as it was shown."""
        return self.way == "as shown"


def orientation_of(image: Array, expected: Array, *, sigma_px: float, search_px: float) -> Orientation:
    """Which way round `image` (h, w) shows the dots `expected` (n, 2), rows and columns in pixels from its centre.

    sigma_px: width of one dot. search_px: how far the whole figure may have moved. The dots are compared by
    correlation with each of the eight ways to turn and mirror them, wherever they lie.
    """
    from scipy.ndimage import gaussian_filter

    seen = gaussian_filter(image, SMOOTHING_PX)
    width = float(np.hypot(sigma_px, SMOOTHING_PX))
    likeness: dict[str, float] = {}
    shifts: dict[str, tuple[float, float]] = {}
    for way, matrix in WAYS.items():
        likeness[way], shifts[way] = _best_shift(seen, expected @ np.array(matrix).T, width, search_px)
    best = max(likeness, key=lambda way: likeness[way])
    return Orientation(best, likeness, shifts[best])


def figure_points(size: tuple[float, float]) -> Array:
    """(6, 2) places of the dots of the figure, from its centre, when it spans `size` (rows, columns)."""
    return np.array(FIGURE) * np.array(size) / 2


def orientation_figure(image: Array, expected: Array, found: Orientation) -> Figure:
    """The frame with the dots where they should be and where they are, and the likeness of every way."""
    from matplotlib.figure import Figure

    figure = Figure(figsize=(7.2, 3.2), layout="constrained")
    left, right = figure.subplots(1, 2)
    _show(left, image, expected, found)
    names: Sequence[str] = list(found.likeness)
    right.barh(range(len(names)), [found.likeness[name] for name in names], color="#0072B2")
    right.set_yticks(range(len(names)), names, fontsize=7)
    right.axvline(LEAST_LIKENESS, color="#66707c", ls="--", lw=0.8)
    right.set(xlabel="correlation with the frame", xlim=(0, 1))
    right.invert_yaxis()
    return figure


def _show(axes: object, image: Array, expected: Array, found: Orientation) -> None:
    from matplotlib.axes import Axes

    assert isinstance(axes, Axes)
    middle = (np.array(image.shape) - 1) / 2
    axes.imshow(image, cmap="gray")
    turned = expected @ np.array(WAYS[found.way]).T + np.array(found.shift_px)
    for points, mark, colour, label in ((expected, "o", "#56B4E9", "as shown"), (turned, "s", "#D55E00", found.way)):
        at = points + middle
        axes.plot(at[:, 1], at[:, 0], mark, mfc="none", mec=colour, ms=9, label=label)
    axes.set(xlabel="sensor column (px)", ylabel="sensor row (px)")
    axes.legend(fontsize=7, loc="lower right", framealpha=0.8)


def _best_shift(image: Array, points: Array, sigma: float, search_px: float) -> tuple[float, tuple[float, float]]:
    """Greatest correlation of `image` with dots at `points` over whole-pixel shifts, refined by a parabola."""
    from scipy.signal import fftconvolve

    search = int(np.ceil(search_px))
    height, width = image.shape
    canvas = np.zeros((height + 2 * search, width + 2 * search))
    y, x = (np.arange(n) - (n - 1) / 2 for n in canvas.shape)
    for row, column in points:
        canvas += np.exp(-0.5 * (((y - row) / sigma)[:, None] ** 2 + ((x - column) / sigma)[None, :] ** 2))
    flat = image - image.mean()
    norm = float(np.sqrt((flat**2).sum()))
    if norm == 0:
        return 0.0, (0.0, 0.0)
    # Entry (i, j): the dots moved by (search - i, search - j), cut to the frame.
    product = fftconvolve(canvas, flat[::-1, ::-1], mode="valid")
    window = np.ones_like(image)
    total = fftconvolve(canvas, window, mode="valid")
    squares = fftconvolve(canvas**2, window, mode="valid") - total**2 / image.size
    score = product / (norm * np.sqrt(squares.clip(1e-12)))
    i, j = np.unravel_index(int(np.argmax(score)), score.shape)
    return float(score[i, j]), (search - _peak(score[:, j], int(i)), search - _peak(score[i], int(j)))


def _peak(line: Array, at: int) -> float:
    if not 0 < at < len(line) - 1:
        return float(at)
    left, centre, right = line[at - 1 : at + 2]
    bend = left - 2 * centre + right
    return at + (0.5 * (left - right) / bend if bend < 0 else 0.0)
