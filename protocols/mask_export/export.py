"""A mask as files for the print shop, each read back by another road than it was written and compared with the mask."""

from __future__ import annotations

import hashlib
from collections.abc import Callable
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any, Literal

import numpy as np
import numpy.typing as npt
from annotated_types import Ge, Gt, Le, Lt, MinLen
from pydantic import Field

from labctl.durable import write_json, write_whole
from labctl.errors import BadInput, RunFailed
from labctl.frozen import Frozen
from protocols.mask_export.artwork import NM_PER_M, Artwork, Cells, artwork_of, check_border, pitch_in_nm
from protocols.mask_export.gds import check_gds, compare_gds, gds_bytes
from protocols.mask_export.png import compare_png, png_bytes
from protocols.mask_export.svg import compare_svg, svg_bytes

if TYPE_CHECKING:
    from labctl.rig_file import RigSpec

SCHEMA = "labctl.mask-export/1"
MANIFEST_FILE = "mask-export.json"
FILES = {"gds": "mask.gds", "svg": "mask.svg", "png": "mask-panel.png"}

GREY_TOLERANCE = 1e-6
"""How far from 0 or 1 a cell may be and still count as closed or open: rounding of float32."""

Layer = Annotated[int, Ge(0), Le(32767)]


class MaskFiles(Frozen):
    """Which files are made of a mask, and how the printed ones are drawn."""

    formats: Annotated[tuple[Literal["gds", "svg", "png"], ...], MinLen(1)] = ("gds", "svg")
    """gds and svg are for printing; png holds the levels that the rig would send to its SLM for the same mask."""

    polarity: Literal["open", "closed"] = "open"
    """Which cells are drawn. Ink is opaque, so a film is printed with `closed`; a chrome plate is as you order it."""

    threshold: Annotated[float, Gt(0), Lt(1)] | None = None
    """Transmittance above which a grey cell is printed open; None refuses grey cells, which no print can show."""

    mirror: bool = False
    """Draw the mask as seen from the sensor: for a plate that is mounted with its drawn side away from its writer."""

    merge: bool = True
    """Join neighbouring cells to rectangles; else one square per cell."""

    border_cells: Annotated[int, Ge(0), Le(4096)] = 0
    """Closed cells all round the mask."""

    marks: bool = False
    """Open alignment crosses in three corners of the border; the corner without is the lower right."""

    layer: Layer = 1
    datatype: Layer = 0
    cell_name: Annotated[str, Field(pattern=r"^[A-Za-z0-9_?$]{1,32}$")] = "MASK"
    """Name of the GDSII cell."""

    @property
    def printed(self) -> bool:
        """Whether any of the files is for printing."""
        return bool({"gds", "svg"} & set(self.formats))

    def check_export(self, cells: tuple[int, int], *, pitch_m: float | None, rig: RigSpec | None) -> None:
        """Raises BadInput when a mask of (H, W) cells cannot be exported; writes nothing. Arguments: `export_mask`."""
        if "png" in self.formats and rig is None:
            text = "png holds the levels that a rig sends to its SLM, but no rig is given; give one, or leave png out"
            raise BadInput(text, at=("formats",))
        if not self.printed:
            return
        pitch_nm = pitch_in_nm(pitch_of(pitch_m, rig))
        check_border(self.border_cells, self.marks)
        if "gds" in self.formats:
            rows, columns = (count + 2 * self.border_cells for count in cells)
            check_gds((rows * pitch_nm, columns * pitch_nm))

    def check_grey(self, mask: npt.ArrayLike) -> None:
        """Raises BadInput when a mask (H, W) has cells that cannot be printed."""
        if self.printed and self.threshold is None:
            _refuse_grey(np.asarray(mask))

    def export(
        self, mask: npt.ArrayLike, folder: Path, *, pitch_m: float | None = None, rig: RigSpec | None = None
    ) -> dict[str, Any]:
        """`export_mask` with these settings; what the entry-point group `labctl.exporters` asks for."""
        return export_mask(mask, folder, pitch_m=pitch_m, rig=rig, settings=self)


def export_mask(
    mask: npt.ArrayLike,
    folder: Path,
    *,
    pitch_m: float | None = None,
    rig: RigSpec | None = None,
    settings: MaskFiles = MaskFiles(),  # noqa: B008 - frozen
) -> dict[str, Any]:
    """Write the files of a mask into `folder`, read each back, compare; returns what `mask-export.json` holds.

    mask: (H, W) transmittance 0..1; row 0 is at the top and column 0 at the left for who looks from the scene.
    pitch_m: side of a cell; None takes that of the rig. rig: needed for png.
    Raises BadInput before anything is written, RunFailed when a file does not hold the mask; such a file is removed.
    """
    values = _transmittance(mask)
    settings.check_export(values.shape, pitch_m=pitch_m, rig=rig)
    settings.check_grey(values)
    folder.mkdir(parents=True, exist_ok=True)
    open_cells = values > (0.5 if settings.threshold is None else settings.threshold)
    facts: dict[str, Any] = {
        "schema": SCHEMA,
        "cells": list(values.shape),
        "open_fraction": float(open_cells.mean()) if settings.printed else float(values.mean()),
    }
    if settings.printed:
        pitch_nm = pitch_in_nm(pitch_of(pitch_m, rig))
        facts |= _printed_facts(open_cells, pitch_nm, settings)
    facts["files"] = [_written(form, folder, values, open_cells, rig, facts, settings) for form in settings.formats]
    write_json(folder / MANIFEST_FILE, facts)
    return facts


def pitch_of(pitch_m: float | None, rig: RigSpec | None) -> float:
    """`pitch_m`, or where it is None the mask pitch of the rig. Raises BadInput without either, or outside 0..1 m."""
    if pitch_m is None:
        pitch_m = getattr(getattr(None if rig is None else rig.twin, "optics", None), "mask_pitch_m", None)
    if pitch_m is None:
        text = f"rig '{rig.name}' declares no mask pitch" if rig is not None else "neither pitch nor rig is given"
        raise BadInput(f"{text}; give pitch_m, the side of a mask cell in metres", at=("pitch_m",))
    if not 0 < pitch_m < 1:
        raise BadInput(f"pitch_m is {pitch_m:g}; a length above 0 and below 1 m is needed", at=("pitch_m",))
    return float(pitch_m)


def _printed_facts(open_cells: Cells, pitch_nm: int, settings: MaskFiles) -> dict[str, Any]:
    rows, columns = (count + 2 * settings.border_cells for count in open_cells.shape)
    return {
        "pitch_m": pitch_nm / NM_PER_M,
        "size_m": [rows * pitch_nm / NM_PER_M, columns * pitch_nm / NM_PER_M],
        "drawn": f"{settings.polarity} cells",
        "orientation": _orientation(settings.mirror),
        "mirror": settings.mirror,
        "threshold": settings.threshold,
        "border_cells": settings.border_cells,
        "marks": settings.marks,
        "gds": {"layer": settings.layer, "datatype": settings.datatype, "cell_name": settings.cell_name},
        "database_unit_m": 1 / NM_PER_M,
    }


def _orientation(mirror: bool) -> str:
    side, column = ("sensor", "last column") if mirror else ("scene", "column 0")
    return f"seen from the {side}: row 0 of the mask is at the top (largest y), {column} at the left"


def _written(
    form: str,
    folder: Path,
    values: npt.NDArray[np.float64],
    open_cells: Cells,
    rig: RigSpec | None,
    facts: dict[str, Any],
    settings: MaskFiles,
) -> dict[str, Any]:
    """Write one file, read it back, and say what was found."""
    path = folder / FILES[form]
    content, compare = _panel(path, values, rig) if form == "png" else _drawing(form, path, open_cells, facts, settings)
    write_whole(path, content)
    try:
        found = compare()
    except RunFailed:
        path.unlink()  # a file that is known to be wrong must not reach the printer
        raise
    digest = hashlib.sha256(path.read_bytes()).hexdigest()
    return {"file": path.name, "format": form, "sha256": digest, "bytes": len(content), "read_back": found}


def _panel(
    path: Path, values: npt.NDArray[np.float64], rig: RigSpec | None
) -> tuple[bytes, Callable[[], dict[str, Any]]]:
    assert rig is not None  # `check_export` saw to it
    road = rig.roads.mask
    levels = road.levels(values)

    def compare() -> dict[str, Any]:
        compare_png(path, levels, road.cell_px)
        return {"equal_cells": values.size, "pixels": list(levels.shape)}

    return png_bytes(levels), compare


def _drawing(
    form: str, path: Path, open_cells: Cells, facts: dict[str, Any], settings: MaskFiles
) -> tuple[bytes, Callable[[], dict[str, Any]]]:
    artwork = artwork_of(
        open_cells,
        pitch_nm=round(facts["pitch_m"] * NM_PER_M),
        draw_open=settings.polarity == "open",
        mirror=settings.mirror,
        border_cells=settings.border_cells,
        marks=settings.marks,
    )
    note = f"{facts['drawn']} drawn, {facts['orientation']}; pitch {facts['pitch_m']:.12g} m"

    def compare() -> dict[str, Any]:
        return {"equal_cells": artwork.drawn.size, "polygons": _compare_drawing(form, path, artwork, settings)}

    if form == "gds":
        content = gds_bytes(
            artwork,
            merge=settings.merge,
            layer=settings.layer,
            datatype=settings.datatype,
            cell_name=settings.cell_name,
            note=note,
        )
        return content, compare
    told = {
        "pitch_m": f"{facts['pitch_m']:.12g}",
        "rows": str(artwork.drawn.shape[0]),
        "columns": str(artwork.drawn.shape[1]),
        "border_cells": str(settings.border_cells),
        "drawn": settings.polarity,
        "mirror": str(settings.mirror).lower(),
    }
    return svg_bytes(artwork, merge=settings.merge, note=note, facts=told), compare


def _compare_drawing(form: str, path: Path, artwork: Artwork, settings: MaskFiles) -> int:
    if form == "svg":
        return compare_svg(path, artwork)
    return compare_gds(path, artwork, layer=settings.layer, datatype=settings.datatype, cell_name=settings.cell_name)


def _transmittance(mask: npt.ArrayLike) -> npt.NDArray[np.float64]:
    given = np.asarray(mask)
    if given.ndim != 2 or given.size == 0 or given.dtype.kind not in "fiub":
        raise BadInput(f"the mask is {given.dtype} of shape {given.shape}; numbers of shape (H, W) are needed")
    values = given.astype(np.float64)
    low, high = float(values.min()), float(values.max())
    if not (low >= -GREY_TOLERANCE and high <= 1 + GREY_TOLERANCE):
        raise BadInput(
            f"the mask spans {low:.3g}..{high:.3g}; transmittance lies in 0..1; divide levels by their maximum"
        )
    return values


def _refuse_grey(values: npt.NDArray[Any]) -> None:
    grey = (values > GREY_TOLERANCE) & (values < 1 - GREY_TOLERANCE)
    if grey.any():
        row, column = np.argwhere(grey)[0].tolist()
        raise BadInput(
            f"{int(grey.sum())} of {grey.size} cells of the mask are grey, first row {row}, column {column} with "
            f"{values[row, column]:.3g}; a print is open or closed: learn it with `binary: true`, or set "
            "`threshold: 0.5` to print cells above it open",
            at=("threshold",),
        )
