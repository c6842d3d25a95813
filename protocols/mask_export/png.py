"""PNG at the resolution of the panel: the very levels that the road of the rig sends to the SLM."""

from __future__ import annotations

import io
from pathlib import Path

import numpy as np

from labctl.devices import Levels
from labctl.errors import RunFailed


def png_bytes(levels: Levels) -> bytes:
    """(rows, columns) uint8 levels as a grey PNG without colour profile or gamma: value is level."""
    from PIL import Image

    target = io.BytesIO()
    Image.fromarray(levels).save(target, format="png")
    return target.getvalue()


def read_png(path: Path) -> Levels:
    """(rows, columns) uint8 levels. Raises RunFailed when the file is no such PNG."""
    from PIL import Image

    try:
        with Image.open(path) as picture:
            if picture.mode != "L":
                raise ValueError(f"its mode is {picture.mode}, grey (L) is needed")
            return np.array(picture)
    except (OSError, SyntaxError, ValueError) as error:  # Pillow says SyntaxError for a broken chunk
        raise RunFailed(f"{path.name} cannot be read back: {error}; export again") from error


def compare_png(path: Path, levels: Levels, cell_px: int) -> None:
    """Read a file back and compare it with the levels of the mask. Raises RunFailed naming the cells that differ."""
    found = read_png(path)
    if found.shape != levels.shape:
        raise RunFailed(f"{path.name}, read back, has {found.shape} pixels, the mask {levels.shape}; export again")
    rows, columns = levels.shape[0] // cell_px, levels.shape[1] // cell_px
    same = (found == levels).reshape(rows, cell_px, columns, cell_px).all(axis=(1, 3))
    if not same.all():
        row, column = np.argwhere(~same)[0].tolist()
        raise RunFailed(
            f"{path.name}, read back, differs from the levels of the mask in {int((~same).sum())} of {same.size} "
            f"cells, first at row {row}, column {column}; export again"
        )
