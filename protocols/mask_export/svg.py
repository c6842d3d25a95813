"""SVG in millimetres, for laser writers, film printers and drawings; numbers are exact decimals, not floats."""

from __future__ import annotations

import re
import xml.etree.ElementTree as ET
from collections.abc import Mapping
from decimal import Decimal, InvalidOperation
from pathlib import Path

import numpy as np

from labctl.errors import RunFailed
from protocols.mask_export.artwork import NM_PER_M, Artwork, Polygon, cells_of, check_area, check_cells

SVG = "{http://www.w3.org/2000/svg}"
LABCTL = "{urn:labctl:mask-export:1}"
NM_PER_MM = 10**6

_RECTANGLE = re.compile(r"M(\S+) (\S+)H(\S+)V(\S+)H(\S+)Z\s*")


def svg_bytes(artwork: Artwork, *, merge: bool, note: str, facts: Mapping[str, str]) -> bytes:
    """One black path that draws the cells; one user unit is 1 mm. facts: go into `<metadata>` as attributes.

    One path, not many shapes, since a viewer that smooths the edges of each shape would show hairlines between them.
    """
    ET.register_namespace("", SVG.strip("{}"))
    ET.register_namespace("labctl", LABCTL.strip("{}"))
    height, width = artwork.size_nm
    size = {"width": f"{_mm(width)}mm", "height": f"{_mm(height)}mm", "viewBox": f"0 0 {_mm(width)} {_mm(height)}"}
    root = ET.Element(f"{SVG}svg", size)
    ET.SubElement(root, f"{SVG}title").text = "mask"
    ET.SubElement(root, f"{SVG}desc").text = note
    ET.SubElement(ET.SubElement(root, f"{SVG}metadata"), f"{LABCTL}mask", dict(facts))
    parts = [
        f"M{_mm(left)} {_mm(height - top)}H{_mm(right)}V{_mm(height - bottom)}H{_mm(left)}Z"
        for left, bottom, right, top in artwork.rectangles(merge=merge)
    ]
    style = {"fill": "#000000", "stroke": "none", "shape-rendering": "crispEdges"}
    ET.SubElement(root, f"{SVG}path", {**style, "d": " ".join(parts)})
    ET.indent(root)
    text = ET.tostring(root, encoding="unicode")
    return f'<?xml version="1.0" encoding="UTF-8"?>\n{text}\n'.encode()


def read_svg(path: Path) -> list[Polygon]:
    """All rectangles of the file, in nm, y up. Raises RunFailed when it is not such a file as `svg_bytes` makes."""
    return _drawing(path)[0]


def compare_svg(path: Path, artwork: Artwork) -> int:
    """Read a file back and compare it with its artwork, cell for cell and in area; returns its number of rectangles.

    Raises RunFailed when anything differs.
    """
    polygons, size_nm = _drawing(path)
    if size_nm != artwork.size_nm:
        raise RunFailed(
            f"{path.name}, read back, is {size_nm[0]} x {size_nm[1]} nm (height, width), the mask "
            f"{artwork.size_nm[0]} x {artwork.size_nm[1]} nm; do not print it, export again"
        )
    found = cells_of(polygons, pitch_nm=artwork.pitch_nm, shape=artwork.drawn.shape, file=path.name)
    check_cells(found, artwork.drawn, path.name)
    area_m2 = sum(float(np.prod((p.max(axis=0) - p.min(axis=0)) / NM_PER_M)) for p in polygons)
    check_area(area_m2, artwork, path.name)
    return len(polygons)


def _drawing(path: Path) -> tuple[list[Polygon], tuple[int, int]]:
    """Rectangles in nm, y up, and (height, width) in nm."""
    try:
        root = ET.fromstring(path.read_bytes())
        box = [_nm(text) for text in root.attrib["viewBox"].split()]
        size = [_nm(root.attrib[side].removesuffix("mm")) for side in ("width", "height")]
        shapes = [element for element in root.iter() if element.tag == f"{SVG}path"]
        if not all(root.attrib[side].endswith("mm") for side in ("width", "height")) or box != [0, 0, *size]:
            raise ValueError("width, height and viewBox do not agree in mm")
        if len(shapes) != 1 or "transform" in shapes[0].attrib:
            raise ValueError(f"{len(shapes)} paths; one without `transform` is needed")
        return _rectangles(shapes[0].attrib["d"], size[1]), (size[1], size[0])
    except (ET.ParseError, KeyError, ValueError, InvalidOperation) as error:
        raise RunFailed(f"{path.name} cannot be read back: {error}; export again") from error


def _rectangles(d: str, height: int) -> list[Polygon]:
    polygons, place = [], 0
    while place < len(d):
        match = _RECTANGLE.match(d, place)
        if match is None:
            raise ValueError(f"'{d[place : place + 30]}' is no rectangle")
        x0, y0, x1, y1, back = (_nm(text) for text in match.groups())
        if back != x0:
            raise ValueError(f"'{match[0].strip()}' does not close")
        polygons.append(np.array([(x0, height - y1), (x1, height - y1), (x1, height - y0), (x0, height - y0)]))
        place = match.end()
    return polygons


def _mm(value_nm: int) -> str:
    text = f"{Decimal(value_nm) / NM_PER_MM:f}"
    return text.rstrip("0").rstrip(".") if "." in text else text


def _nm(text_mm: str) -> int:
    exact = Decimal(text_mm) * NM_PER_MM
    if exact != exact.to_integral_value():
        raise ValueError(f"{text_mm} mm lies between nanometres")
    return int(exact)
