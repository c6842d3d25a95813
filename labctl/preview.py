"""A frame as an 8-bit picture to look at: bright enough for the eye, saturated pixels red. Not for measuring."""

from __future__ import annotations

import io
import os
from pathlib import Path
from typing import Any

import numpy as np
import numpy.typing as npt

from labctl.durable import write_whole
from labctl.errors import BadInput

SMALLEST_PX = 384
"""Frames with shorter sides are enlarged by a whole factor to about this, so that single pixels can be seen."""

DISPLAY_GAMMA = 2.2
RED = (220, 30, 30)


def preview_picture(pixels: npt.NDArray[Any], saturation_dn: int) -> npt.NDArray[np.uint8]:
    """(h, w) in DN to (H, W, 3) levels: gamma-coded for a common monitor, saturated pixels in RED."""
    share = np.clip(pixels / saturation_dn, 0.0, 1.0) ** (1.0 / DISPLAY_GAMMA)
    grey = np.round(255 * share).astype(np.uint8)
    picture = np.repeat(grey[..., None], 3, axis=-1)
    picture[pixels >= saturation_dn] = RED
    factor = max(1, round(SMALLEST_PX / max(pixels.shape)))
    enlarged: npt.NDArray[np.uint8] = picture.repeat(factor, axis=0).repeat(factor, axis=1)
    return enlarged


def check_preview(path: Path) -> None:
    """Raise BadInput when no preview can be kept at `path`."""
    if path.suffix.lower() != ".png":
        raise BadInput(f"{path}: a preview is a .png file")
    if path.is_dir() or not path.parent.is_dir():
        raise BadInput(f"{path}: there is no folder {path.parent} for such a file; make it first")
    if not os.access(path.parent, os.W_OK | os.X_OK):
        raise BadInput(f"{path}: the folder {path.parent} cannot be written; give another one")


def write_preview(pixels: npt.NDArray[Any], saturation_dn: int, path: Path) -> None:
    """Replace `path` in one step: a viewer sees the old picture or the new one, never a part. Raises OSError."""
    from PIL import Image

    file = io.BytesIO()
    Image.fromarray(preview_picture(pixels, saturation_dn)).save(file, "PNG")
    write_whole(path, file.getvalue())
