"""What is drawn on a printed mask: cells on a whole-nanometre grid, the rectangles that draw them, and the way back."""

from __future__ import annotations

from collections.abc import Iterable
from dataclasses import dataclass

import numpy as np
import numpy.typing as npt

from labctl.errors import BadInput, RunFailed

NM_PER_M = 10**9
"""One database unit is 1 nm."""

MARK_CELLS = 5
"""Cells along one arm pair of an alignment cross."""

MARK_MARGIN_CELLS = 1
"""Cells between a cross and the mask, and between a cross and the edge."""

NAMED_CELLS = 5

Cells = npt.NDArray[np.bool_]

Polygon = npt.NDArray[np.int64]
"""(n, 2) corners x, y in nm; the origin is the lower left corner of the drawing, y points up."""

Rectangle = tuple[int, int, int, int]
"""Left, bottom, right, top in nm, as in `Polygon`."""


@dataclass(frozen=True)
class Artwork:
    """One drawing. drawn: (H, W), row 0 at the top, column 0 at the left, border included."""

    drawn: Cells
    pitch_nm: int

    @property
    def size_nm(self) -> tuple[int, int]:
        """(height, width)."""
        return self.drawn.shape[0] * self.pitch_nm, self.drawn.shape[1] * self.pitch_nm

    @property
    def area_nm2(self) -> int:
        """Drawn area."""
        return int(self.drawn.sum()) * self.pitch_nm**2

    def rectangles(self, *, merge: bool) -> list[Rectangle]:
        """Rectangles that cover the drawn cells once: one per cell, or with `merge` runs of a row, joined downwards.

        Neighbours share their corners to the nanometre, so nothing gapes and nothing overlaps.
        """
        pitch, rows = self.pitch_nm, self.drawn.shape[0]
        spans = _merged(self.drawn) if merge else [(r, r + 1, c, c + 1) for r, c in np.argwhere(self.drawn).tolist()]
        return [
            (left * pitch, (rows - bottom) * pitch, right * pitch, (rows - top) * pitch)
            for top, bottom, left, right in spans
        ]


def artwork_of(
    open_cells: Cells, *, pitch_nm: int, draw_open: bool, mirror: bool, border_cells: int, marks: bool
) -> Artwork:
    """The drawing of a mask (H, W), True where open, row 0 at the top, column 0 at the left as seen from the scene.

    draw_open: open cells are drawn, else closed ones. mirror: as seen from the sensor, columns reversed.
    border_cells: closed cells all round. marks: three open crosses in the corners of the border, none at the lower
    right, so that a turned or mirrored plate is seen.
    """
    check_border(border_cells, marks)
    light = np.pad(open_cells, border_cells)
    if marks:
        cross = np.zeros((MARK_CELLS, MARK_CELLS), dtype=bool)
        cross[MARK_CELLS // 2, :] = cross[:, MARK_CELLS // 2] = True
        near = slice(MARK_MARGIN_CELLS, MARK_MARGIN_CELLS + MARK_CELLS)
        far = slice(-MARK_MARGIN_CELLS - MARK_CELLS, -MARK_MARGIN_CELLS)
        light[near, near] = light[near, far] = light[far, near] = cross
    if mirror:
        light = light[:, ::-1]
    return Artwork(np.ascontiguousarray(light if draw_open else ~light), pitch_nm)


def check_border(border_cells: int, marks: bool) -> None:
    """Raises BadInput when alignment crosses have no room in the border."""
    needed = MARK_CELLS + 2 * MARK_MARGIN_CELLS
    if marks and border_cells < needed:
        text = f"alignment marks need a border of {needed} cells or more, border_cells is {border_cells}"
        raise BadInput(f"{text}; set border_cells to {needed} or take `marks` away", at=("border_cells",))


def pitch_in_nm(pitch_m: float) -> int:
    """Whole nanometres of `pitch_m`. Raises BadInput, naming the nearest, when it is no whole number of them."""
    exact = pitch_m * NM_PER_M
    nearest = max(round(exact), 1) if np.isfinite(exact) else 1
    if not abs(exact - nearest) <= 1e-9 * nearest:
        raise BadInput(
            f"pitch_m is {pitch_m:.12g} m, {exact:.9g} database units of 1 nm; a whole number of them is needed, or "
            f"edges would be rounded differently from cell to cell; use {nearest / NM_PER_M:.12g}",
            at=("pitch_m",),
        )
    return nearest


def cells_of(polygons: Iterable[Polygon], *, pitch_nm: int, shape: tuple[int, int], file: str) -> npt.NDArray[np.int64]:
    """(H, W) how often each cell is covered by the polygons: 0, 1, or more where they overlap. Exact.

    Sums, along every row, the vertical edges that cross it, which is the winding number of each cell.
    Raises RunFailed naming `file` for a corner off the cell grid or outside the drawing, and for a slanted edge.
    """
    rows, columns = shape
    steps = np.zeros((rows, columns + 1), dtype=np.int64)
    for polygon in polygons:
        corners, rest = np.divmod(polygon, pitch_nm)
        if rest.any() or (corners < 0).any() or (corners > (columns, rows)).any():
            raise RunFailed(f"{file}: a polygon with corners {_corners(polygon)} does not lie on the cells of the mask")
        after = np.roll(corners, -1, axis=0)
        if ((corners != after).all(axis=1)).any():
            raise RunFailed(f"{file}: the polygon {_corners(polygon)} has a slanted edge; cells have none")
        turn = -1 if (corners[:, 0] * after[:, 1] - after[:, 0] * corners[:, 1]).sum() > 0 else 1
        for (x, low), (_, high) in zip(corners.tolist(), after.tolist(), strict=True):
            way = turn if high > low else -turn
            steps[rows - max(low, high) : rows - min(low, high), x] += way
    return steps.cumsum(axis=1)[:, :columns]


def check_cells(found: npt.NDArray[np.int64], drawn: Cells, file: str) -> None:
    """Raises RunFailed naming cells when `found` (H, W), as `cells_of` gives it, is not what is `drawn`."""
    wrong = np.argwhere(found != drawn)
    if len(wrong):
        words = {0: "not drawn", 1: "drawn"}
        named = [
            f"row {r}, column {c} is {words.get(int(found[r, c]), f'drawn {found[r, c]} times')}"
            for r, c in wrong[:NAMED_CELLS].tolist()
        ]
        more = f" and {len(wrong) - NAMED_CELLS} more" if len(wrong) > NAMED_CELLS else ""
        raise RunFailed(
            f"{file}, read back, differs from the mask in {len(wrong)} of {drawn.size} cells of the drawing: "
            f"{'; '.join(named)}{more}; do not print it, export again"
        )


def check_area(area_m2: float, artwork: Artwork, file: str) -> None:
    """Raises RunFailed when a drawn area, taken from the file, is not that of the artwork."""
    wanted = artwork.area_nm2 / NM_PER_M**2
    if not abs(area_m2 - wanted) <= 1e-9 * wanted:
        raise RunFailed(
            f"{file}, read back, draws {area_m2:.9g} m2 where the mask has {wanted:.9g} m2; "
            "do not print it, export again"
        )


def _merged(drawn: Cells) -> list[tuple[int, int, int, int]]:
    """Top, bottom, left, right in cells: the runs of every row, one rectangle where rows repeat a run."""
    done, growing = [], dict[tuple[int, int], int]()
    for row in range(drawn.shape[0] + 1):
        runs = _runs(drawn[row]) if row < drawn.shape[0] else set()
        for run in sorted(growing.keys() - runs):
            done.append((growing.pop(run), row, *run))
        for run in runs - growing.keys():
            growing[run] = row
    return sorted(done)


def _runs(row: Cells) -> set[tuple[int, int]]:
    """Start and end of every run of True."""
    edges = np.flatnonzero(np.diff(np.pad(row, 1).astype(np.int8)))
    return set(zip(edges[::2].tolist(), edges[1::2].tolist(), strict=True))


def _corners(polygon: Polygon) -> str:
    shown = ", ".join(f"({x}, {y})" for x, y in polygon[:4].tolist())
    return f"{shown}{', ...' if len(polygon) > 4 else ''} nm"
