"""What a person wants to see on a display, in a word or as a file: black, white, grey:128, grid, checker, mask.npy.

A word becomes values on whatever grid a display turns out to have; a file brings its own grid. Values are shares of
full light (transmittance of a mask, linear radiance of a scene) or, as levels, what the panel itself gets.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
import numpy.typing as npt

from labctl.devices import Levels
from labctl.errors import BadInput
from labctl.exposure import FloatArray
from labctl.roads import FULL_LEVEL, MonitorRoad, PanelRoad
from labctl.suggest import did_you_mean

FIELD = 8
"""Cells from one line of the grid to the next, and along one side of a field of the checker."""

LUMINANCE = np.array([0.2126, 0.7152, 0.0722])
"""Weights of linear red, green, blue. [ITU-R BT.709]"""

Shape = tuple[int, int]


@dataclass(frozen=True)
class Pattern:
    """What shall be shown. draw: makes it for a grid (rows, columns); an array keeps its own grid."""

    said: str
    draw: Callable[[Shape], npt.NDArray[Any]]


def mask_pattern(said: str) -> Pattern:
    """Transmittance (H, W) 0..1 on the design grid. A picture has one pixel per cell, and full scale is open.

    Raises BadInput for what is neither a word nor a readable grey file of values 0..1.
    """
    word = _word(said)
    if word is not None:
        return word
    shares = _shares(said, _file(said))
    return Pattern(said, lambda shape: shares)


def scene_pattern(said: str) -> Pattern:
    """Linear radiance (H, W) 0..1 on the scene grid. A picture is sRGB and made to fit; an array is taken as it is.

    Raises BadInput for what is neither a word nor a readable file. [IEC 61966-2-1 for sRGB]
    """
    word = _word(said)
    if word is not None:
        return word
    values = _file(said)
    if said.endswith(".npy"):
        shares = _shares(said, values)
        return Pattern(said, lambda shape: shares)
    coded = _full_scale(values)
    linear = np.where(coded <= 0.04045, coded / 12.92, ((coded + 0.055) / 1.055) ** 2.4)
    radiance = linear @ LUMINANCE if linear.ndim == 3 else linear
    return Pattern(said, lambda shape: _fitted(radiance, shape))


def level_pattern(said: str) -> Pattern:
    """(rows, columns) uint8 levels, just as the panel gets them. A file is centred, all around it is level 0.

    Raises BadInput for what is neither a word nor a readable file of uint8 levels; `draw` does for a file too large.
    """
    word = _word(said)
    if word is not None:
        return Pattern(said, lambda shape: np.round(FULL_LEVEL * word.draw(shape)).astype(np.uint8))
    levels = _file(said)
    if levels.dtype != np.uint8 or levels.ndim != 2:
        raise BadInput(
            f"'{said}' holds {levels.dtype} {levels.shape}; levels are uint8 (rows, columns): save it as 8-bit grey, "
            "or leave --levels out"
        )
    return Pattern(said, lambda shape: _centred(said, levels, shape))


def design_grid(panel: Shape, road: PanelRoad) -> Shape:
    """(rows, columns) of mask cells that fill a panel of so many pixels."""
    return panel[0] // road.cell_px, panel[1] // road.cell_px


def scene_grid(panel: Shape, road: MonitorRoad) -> Shape:
    """(rows, columns) of scene pixels that fill a monitor of so many pixels."""
    return panel[0] // road.pixel_px, panel[1] // road.pixel_px


def mask_levels(mask: Pattern, panel: Shape, road: PanelRoad) -> Levels:
    """`mask` down its road, centred on a panel of (rows, columns). Raises BadInput when it does not fit."""
    return _centred(mask.said, road.levels(mask.draw(design_grid(panel, road))), panel)


def scene_levels(scene: Pattern, panel: Shape, road: MonitorRoad) -> Levels:
    """`scene` down its road, centred on a monitor of (rows, columns). Raises BadInput when it does not fit."""
    return _centred(scene.said, road.levels(scene.draw(scene_grid(panel, road))), panel)


def _word(said: str) -> Pattern | None:
    name, _, level = said.partition(":")
    if name == "grey":
        if not (level.isdecimal() and int(level) <= FULL_LEVEL):
            raise BadInput(f"'{said}': a whole number 0..{FULL_LEVEL} is needed after grey:, such as grey:128")
        return Pattern(said, lambda shape: np.full(shape, int(level) / FULL_LEVEL))
    return Pattern(said, _WORDS[said]) if said in _WORDS else None


def _grid(shape: Shape) -> FloatArray:
    rows, columns = np.indices(shape)
    lines = (rows % FIELD == 0) | (columns % FIELD == 0) | (rows == shape[0] - 1) | (columns == shape[1] - 1)
    return np.asarray(lines, dtype=np.float64)


def _checker(shape: Shape) -> FloatArray:
    rows, columns = np.indices(shape)
    return np.asarray((rows // FIELD + columns // FIELD) % 2, dtype=np.float64)


_WORDS: Mapping[str, Callable[[Shape], FloatArray]] = {
    "black": np.zeros,
    "closed": np.zeros,
    "white": np.ones,
    "open": np.ones,
    "grid": _grid,
    "checker": _checker,
}


def _file(said: str) -> npt.NDArray[Any]:
    """The array of a .npy file, or the pixels of a picture: (H, W) or (H, W, 3), uint8 or uint16."""
    path = Path(said).expanduser()
    if not path.is_file():
        near = did_you_mean(said, _WORDS)
        raise BadInput(
            f"'{said}' is neither a pattern nor a file; " + (f"did you mean `{near}`? " if near else "") + "allowed: "
            f"{', '.join(_WORDS)}, grey:128, or the path of a .npy array or a picture"
        )
    try:
        values: npt.NDArray[Any] = np.load(path, allow_pickle=False) if path.suffix == ".npy" else _pixels(path)
    except (OSError, ValueError, EOFError, SyntaxError, TypeError) as error:
        raise BadInput(f"'{said}' cannot be read: {error}; give a .npy array or a picture") from error
    return values


def _pixels(path: Path) -> npt.NDArray[Any]:
    from PIL import Image

    with Image.open(path) as picture:
        if picture.mode.startswith("I"):  # 16 bits, whatever Pillow's name of the byte order
            return np.asarray(picture).astype(np.uint16)
        return np.asarray(picture.convert("L" if picture.mode in ("1", "L") else "RGB"))


def _full_scale(values: npt.NDArray[Any]) -> FloatArray:
    return np.asarray(values / np.iinfo(values.dtype).max, dtype=np.float64)


def _shares(said: str, values: npt.NDArray[Any]) -> FloatArray:
    if values.ndim != 2:
        raise BadInput(f"'{said}' holds {'x'.join(map(str, values.shape))} values; a grey (rows, columns) is needed")
    if values.size == 0 or values.dtype.kind not in "buif":
        raise BadInput(f"'{said}' holds {values.size} values of type {values.dtype}; numbers 0..1 are needed")
    shares = values.astype(np.float64) if said.endswith(".npy") else _full_scale(values)
    low, high = float(shares.min()), float(shares.max())
    if not (np.isfinite(low) and np.isfinite(high) and low >= 0 and high <= 1):
        raise BadInput(f"'{said}' spans {low:.3g}..{high:.3g}; 0..1 is allowed: divide by the full scale")
    return shares


def _fitted(radiance: FloatArray, shape: Shape) -> FloatArray:
    """Made as large as fits into (rows, columns) with its own aspect, centred, black around. Light adds linearly."""
    from PIL import Image, ImageOps

    picture = Image.fromarray(radiance.astype(np.float32))
    small = ImageOps.contain(picture, (shape[1], shape[0]), Image.Resampling.BICUBIC)
    return _centred("the picture", np.clip(np.asarray(small, dtype=np.float64), 0.0, 1.0), shape)


def _centred(said: str, values: npt.NDArray[Any], shape: Shape) -> npt.NDArray[Any]:
    rows, columns = values.shape
    if rows > shape[0] or columns > shape[1]:
        raise BadInput(
            f"'{said}' needs {rows}x{columns} display pixels, the display has {shape[0]}x{shape[1]}; "
            "use a smaller grid or fewer display pixels per cell"
        )
    full = np.zeros(shape, dtype=values.dtype)
    top, left = (shape[0] - rows) // 2, (shape[1] - columns) // 2
    full[top : top + rows, left : left + columns] = values
    return full
