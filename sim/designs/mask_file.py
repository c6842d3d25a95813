"""Masks from files: what a lab measured, printed or learned elsewhere."""

from __future__ import annotations

import hashlib
from pathlib import Path
from typing import Any

import numpy as np
import numpy.typing as npt

from labctl.errors import BadInput


def read_mask(path: Path, mask_shape: tuple[int, int]) -> npt.NDArray[np.float64]:
    """Transmittance (H, W) = `mask_shape`, 0..1, of a .npy array or a grey picture with one pixel per cell.

    Pictures are taken over their full scale (255 or 65535). Raises BadInput for another grid, values outside 0..1, or
    what cannot be read.
    """
    full = _existing(path)
    values = _npy(full) if full.suffix == ".npy" else _picture(full)
    if values.shape != mask_shape:
        raise BadInput(
            f"mask file '{full}' holds {'x'.join(map(str, values.shape))} cells, the protocol has "
            f"{mask_shape[0]}x{mask_shape[1]} (mask_cells); use a mask of that grid or change mask_cells"
        )
    if not (np.isfinite(values).all() and values.min() >= 0 and values.max() <= 1):
        raise BadInput(
            f"mask file '{full}' spans {values.min():.3g}..{values.max():.3g}; a transmittance lies in 0..1: "
            "divide by the full scale"
        )
    return values


def mask_file_hash(path: Path) -> str:
    """sha256 of the content in hex. Raises BadInput when there is no such file."""
    return hashlib.sha256(_existing(path).read_bytes()).hexdigest()


def _existing(path: Path) -> Path:
    full = path.expanduser()
    if not full.is_file():
        raise BadInput(f"mask file '{full}' does not exist; give a .npy array or a grey picture (from {Path.cwd()})")
    return full


def _npy(path: Path) -> npt.NDArray[np.float64]:
    try:
        values: npt.NDArray[Any] = np.load(path, allow_pickle=False)
        return np.asarray(values, dtype=np.float64)
    except (OSError, ValueError, EOFError, TypeError) as error:
        raise BadInput(f"mask file '{path}' cannot be read: {error}; write it with numpy.save") from error


def _picture(path: Path) -> npt.NDArray[np.float64]:
    from PIL import Image

    try:
        with Image.open(path) as picture:
            if picture.mode.startswith("I"):
                return np.asarray(picture, dtype=np.float64) / 65535
            if picture.mode not in ("1", "L"):
                raise BadInput(f"mask file '{path}' has colours (mode {picture.mode}); save it as a grey picture")
            return np.asarray(picture.convert("L"), dtype=np.float64) / 255
    except (OSError, ValueError, SyntaxError) as error:
        raise BadInput(f"mask file '{path}' cannot be read: {error}; give a .npy array or a grey picture") from error
