"""The section on exported masks: what the files say that were made for printing, drawn from these very files."""

from __future__ import annotations

import hashlib
import json
from typing import Any

from labctl.errors import LabctlError, RunFailed
from protocols.mask_export.artwork import Polygon
from protocols.report.optics import Pairs
from protocols.report.page import Block, Picture, Table, Text
from protocols.report.tables import Evidence, Made, share

MASKS_PER_FIGURE = 8
NM_PER_MM = 1e6


def exported_section(evidence: Evidence, pairs: Pairs) -> list[Block]:
    """One row per file, one picture per design."""
    from protocols.report.pictures import ExportedView, exported_figure

    rows, lost = [], list[Block]()
    views: dict[tuple[str, str], ExportedView] = {}
    for made in evidence.of("export"):
        told: dict[str, Any] = json.loads(made.path("export").read_text())
        rows += [_row(made, told, file) for file in told["files"]]
        if "size_m" not in told or (made.instance.name, made.design) in views:
            continue
        try:
            polygons = _polygons(made, told)
        except LabctlError as error:
            lost.append(Text(f"{made.instance.key}: {error}.", "missing"))
            continue
        height, width = (1e3 * side for side in told["size_m"])
        views[made.instance.name, made.design] = ExportedView(
            made.design, [polygon / NM_PER_MM for polygon in polygons], (height, width), told["drawn"]
        )
    if not rows:
        return []
    table = Table(
        ["mask", "file", "pitch", "size", "open fraction", "drawn", "read back", "SHA-256"],
        rows,
        "Files for printing, in the folder of the step. Read back: each file was opened again by another road than it "
        "was written, and all its cells are those of the mask. Size: height × width, border included. "
        "mask-export.json beside the files says which way is up.",
    )
    blocks: list[Block] = [table]
    shown = list(views.values())
    for number, start in enumerate(range(0, len(shown), MASKS_PER_FIGURE), 1):
        part = shown[start : start + MASKS_PER_FIGURE]
        text = "Drawn from the files as read back; black is what they draw. First seed of each design."
        blocks.append(Picture(f"exported-{number}", exported_figure(part), text))
    return blocks + lost


def _row(made: Made, told: dict[str, Any], file: dict[str, Any]) -> list[str]:
    back = file["read_back"]
    panel = file["format"] == "png"
    size = (
        f"{back['pixels'][0]} × {back['pixels'][1]} px"
        if panel
        else " × ".join(f"{1e3 * side:.6g}" for side in told["size_m"]) + " mm"
    )
    return [
        made.instance.key,
        file["file"],
        "SLM" if panel else f"{1e6 * told['pitch_m']:.6g} µm",
        size,
        share(told["open_fraction"]),
        "levels" if panel else told["drawn"] + (", mirrored" if told["mirror"] else ""),
        f"{back['equal_cells']} cells equal",
        file["sha256"][:16],
    ]


def _polygons(made: Made, told: dict[str, Any]) -> list[Polygon]:
    """What the GDSII file draws, or else the SVG file. Raises RunFailed when it is no longer the exported file."""
    from protocols.mask_export.gds import read_gds
    from protocols.mask_export.svg import read_svg

    file = next(file for form in ("gds", "svg") for file in told["files"] if file["format"] == form)
    path = made.folder / file["file"]
    if not path.is_file() or hashlib.sha256(path.read_bytes()).hexdigest() != file["sha256"]:
        raise RunFailed(f"{file['file']} is not the file that was exported; run the step again")
    return read_gds(path) if file["format"] == "gds" else read_svg(path)
