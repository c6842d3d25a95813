"""GDSII, the format of mask makers: written and read back by gdstk, user unit 1 um, database unit 1 nm."""

from __future__ import annotations

import datetime
import tempfile
from pathlib import Path
from typing import Any

import numpy as np

from labctl.errors import BadInput, RunFailed
from protocols.mask_export.artwork import NM_PER_M, Artwork, Polygon, cells_of, check_area, check_cells

USER_UNIT_M, DATABASE_UNIT_M = 1e-6, 1e-9
NM_PER_UNIT = 1000

LARGEST_NM = 2**31 - 1
"""GDSII coordinates are signed 32-bit numbers."""

WRITTEN_AT = datetime.datetime(2000, 1, 1)
"""The time that every file carries: equal masks give equal bytes."""


def check_gds(size_nm: tuple[int, int]) -> None:
    """Raises BadInput when gdstk is not installed or a drawing (height, width) exceeds the coordinates of GDSII."""
    _gdstk()
    if max(size_nm) > LARGEST_NM:
        raise BadInput(
            f"the drawing spans {size_nm[0] / NM_PER_M:.6g} x {size_nm[1] / NM_PER_M:.6g} m (height, width), GDSII "
            f"reaches {LARGEST_NM / NM_PER_M:.6g} m at 1 nm; use a smaller pitch_m or border_cells, or leave gds out",
            at=("pitch_m",),
        )


def gds_bytes(artwork: Artwork, *, merge: bool, layer: int, datatype: int, cell_name: str, note: str) -> bytes:
    """One cell with the drawn rectangles, its origin at the lower left corner, and `note` as a text above them."""
    gdstk = _gdstk()
    library = gdstk.Library(name="LABCTL", unit=USER_UNIT_M, precision=DATABASE_UNIT_M)
    cell = library.new_cell(cell_name)
    for rectangle in artwork.rectangles(merge=merge):
        left, bottom, right, top = (value / NM_PER_UNIT for value in rectangle)
        cell.add(gdstk.rectangle((left, bottom), (right, top), layer=layer, datatype=datatype))
    cell.add(gdstk.Label(note, (0.0, artwork.size_nm[0] / NM_PER_UNIT), anchor="sw", layer=layer, texttype=datatype))
    with tempfile.TemporaryDirectory() as folder:  # gdstk writes to paths only
        path = Path(folder) / "mask.gds"
        library.write_gds(path, timestamp=WRITTEN_AT)
        return path.read_bytes()


def read_gds(path: Path) -> list[Polygon]:
    """All polygons of the file. Raises RunFailed when it is no whole GDSII file of one flat cell in units of 1 nm."""
    return [_in_nm(polygon.points, path.name) for polygon in _only_cell(path).polygons]


def compare_gds(path: Path, artwork: Artwork, *, layer: int, datatype: int, cell_name: str) -> int:
    """Read a file back and compare it with its artwork, cell for cell and in area; returns its number of polygons.

    Raises RunFailed when anything differs.
    """
    cell, name = _only_cell(path), path.name
    if cell.name != cell_name:
        raise RunFailed(f"{name}, read back, holds the cell '{cell.name}', not '{cell_name}'; export again")
    elsewhere = {(p.layer, p.datatype) for p in cell.polygons} - {(layer, datatype)}
    if elsewhere or cell.paths or cell.references:
        raise RunFailed(f"{name}, read back, holds more than the polygons of layer {layer}/{datatype}; export again")
    polygons = [_in_nm(polygon.points, name) for polygon in cell.polygons]
    found = cells_of(polygons, pitch_nm=artwork.pitch_nm, shape=artwork.drawn.shape, file=name)
    check_cells(found, artwork.drawn, name)
    check_area(float(cell.area()) * USER_UNIT_M**2, artwork, name)
    return len(polygons)


def _only_cell(path: Path) -> Any:
    try:
        library = _gdstk().read_gds(path)
        cells = library.cells
    except (OSError, RuntimeError, ValueError) as error:
        raise RunFailed(f"{path.name} cannot be read back: {error}; export again") from error
    if not (np.isclose(library.unit, USER_UNIT_M) and np.isclose(library.precision, DATABASE_UNIT_M)):
        units = f"user unit {library.unit:g} m, database unit {library.precision:g} m"
        raise RunFailed(f"{path.name}, read back, has {units}; 1e-06 and 1e-09 are needed; export again")
    if len(cells) != 1:
        raise RunFailed(f"{path.name}, read back, holds {len(cells)} cells; one is needed; export again")
    return cells[0]


def _in_nm(points: Any, name: str) -> Polygon:
    exact = np.asarray(points) * NM_PER_UNIT
    whole = np.round(exact).astype(np.int64)
    if not np.allclose(exact, whole, rtol=0, atol=1e-3):
        raise RunFailed(f"{name}, read back, has corners between database units; export again")
    return whole


def _gdstk() -> Any:
    try:
        import gdstk
    except ImportError as error:
        raise BadInput(
            f"gds needs gdstk, which cannot be imported ({error}); pip install 'labctl[fab]', or leave gds out",
            at=("formats",),
        ) from error
    return gdstk
