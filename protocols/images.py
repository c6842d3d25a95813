"""Pictures on disk and in memory: decode them, read npz files, linearise, crop and resize to the scene grid."""

from __future__ import annotations

import hashlib
import struct
import zipfile
import zlib
from functools import lru_cache
from pathlib import Path
from typing import TYPE_CHECKING, Any, Literal

import numpy as np
import numpy.typing as npt

from labctl.errors import BadInput

if TYPE_CHECKING:
    from PIL.Image import Image as Picture

Encoding = Literal["linear", "srgb"]
"""`linear`: the stored value over full scale is radiance. `srgb`: it is sRGB-coded and is linearised first."""

Crop = Literal["centre", "stretch"]
"""`centre`: cut the largest centred piece with the aspect of the scene. `stretch`: keep all, change the aspect."""

Radiance = npt.NDArray[np.float32]

LUMINANCE = np.array([0.2126, 0.7152, 0.0722], dtype=np.float32)
"""Weights of linear red, green, blue. [ITU-R BT.709]"""

_UNREADABLE = (OSError, ValueError, SyntaxError, EOFError, struct.error, TypeError, OverflowError)
"""What Pillow raises on damaged pictures; a broken PNG chunk is a SyntaxError."""


_DAMAGED = (OSError, ValueError, EOFError, KeyError, RuntimeError, zipfile.BadZipFile, zlib.error)
"""What zipfile and numpy raise on a truncated, altered or encrypted archive, or on an array of objects."""


class UnreadablePicture(Exception):
    """A picture that cannot be decoded; the text is the cause."""


def linear_radiance(values: npt.NDArray[Any], encoding: Encoding) -> Radiance:
    """Radiance 0..1 of values 0..1 in `encoding`. [IEC 61966-2-1 for srgb]"""
    share = np.asarray(values, dtype=np.float32)
    if encoding == "linear":
        return share
    return np.where(share <= 0.04045, share / 12.92, ((share + 0.055) / 1.055) ** 2.4).astype(np.float32)


def resized(image: Radiance, shape: tuple[int, int], crop: Crop) -> Radiance:
    """One picture (H, W) on a grid (h, w), bicubic with antialiasing; clipped to 0..1 because bicubic overshoots.

    The crop is taken in fractions of a pixel, so that it is truly centred. Give linear radiance: light adds linearly.
    """
    from PIL import Image

    rows, columns = image.shape
    if crop == "centre":
        scale = min(rows / shape[0], columns / shape[1])
        height, width = shape[0] * scale, shape[1] * scale
    else:
        height, width = float(rows), float(columns)
    top, left = max((rows - height) / 2, 0.0), max((columns - width) / 2, 0.0)
    box = (left, top, min(left + width, columns), min(top + height, rows))
    picture = Image.fromarray(np.ascontiguousarray(image, dtype=np.float32))
    small = picture.resize((shape[1], shape[0]), Image.Resampling.BICUBIC, box=box)
    return np.clip(np.asarray(small, dtype=np.float32), 0.0, 1.0)


def read_picture(path: Path, encoding: Encoding) -> Radiance:
    """Decode one picture file to (H, W) radiance 0..1, upright as its EXIF orientation says.

    Colour becomes luminance and transparency becomes dark, both after linearisation. Of a file with pages, the first.
    16-bit pictures are scaled by 65535. Raises UnreadablePicture for damaged files and values out of range.
    """
    from PIL import Image, ImageOps

    try:
        with Image.open(path) as picture:
            ImageOps.exif_transpose(picture, in_place=True)
            return _picture_radiance(picture, encoding)
    except (*_UNREADABLE, Image.DecompressionBombError) as error:
        raise UnreadablePicture(str(error) or type(error).__name__) from error


def check_picture_header(path: Path) -> None:
    """Read the header only. Raises UnreadablePicture when the file is no picture."""
    from PIL import Image

    try:
        with Image.open(path):
            pass
    except (*_UNREADABLE, Image.DecompressionBombError) as error:
        raise UnreadablePicture(str(error) or type(error).__name__) from error


def has_colour(path: Path) -> bool:
    """Whether a picture file stores colour: a palette of greys and transparency are none. Reads the header only.

    Raises UnreadablePicture when the file is no picture.
    """
    from PIL import Image

    try:
        with Image.open(path) as picture:
            if "P" in picture.getbands():
                palette = np.array(picture.getpalette("RGB")).reshape(-1, 3)
                return bool((palette != palette[:, :1]).any())
            return len(set(picture.getbands()) - {"A", "a"}) > 1
    except (*_UNREADABLE, Image.DecompressionBombError) as error:
        raise UnreadablePicture(str(error) or type(error).__name__) from error


def npz_headers(path: Path) -> dict[str, tuple[tuple[int, ...], np.dtype[Any]]]:
    """Shape and type of every array of an npz file, without its content. Raises BadInput when damaged."""
    headers = {}
    try:
        with zipfile.ZipFile(path) as archive:
            for member in archive.namelist():
                if not member.endswith(".npy"):
                    continue
                with archive.open(member) as stream:
                    first = np.lib.format.read_magic(stream) == (1, 0)
                    read = np.lib.format.read_array_header_1_0 if first else np.lib.format.read_array_header_2_0
                    shape, _, dtype = read(stream)
                headers[member.removesuffix(".npy")] = (shape, dtype)
    except zipfile.BadZipFile as error:
        raise BadInput(f"'{path}' is no npz file, or damaged ({error}); write it with numpy.savez") from error
    except _DAMAGED as error:
        raise BadInput(f"npz file '{path}' cannot be read: {error}; copy or write it again") from error
    return headers


def npz_array(path: Path, key: str) -> npt.NDArray[Any]:
    """One array of an npz file; pickled objects are refused. Raises BadInput when it cannot be read."""
    try:
        with np.load(path, allow_pickle=False) as archive:
            return np.asarray(archive[key])
    except _DAMAGED as error:
        raise BadInput(f"npz file '{path}': {key} cannot be read: {error}; copy or write it again") from error


def npz_hash(path: Path) -> bytes:
    """sha256 of a whole npz file, read again only when its size or time changed. Raises BadInput when it cannot be."""
    try:
        status = path.stat()
        return _content_hash(path, status.st_size, status.st_mtime_ns)
    except OSError as error:
        raise BadInput(f"npz file '{path}' cannot be read: {error.strerror}; check its permissions") from error


def existing_file(path: Path) -> Path:
    """`path` with `~` expanded. Raises BadInput when there is no such file."""
    full = expanded(path)
    if not full.is_file():
        kind = "is a folder" if full.is_dir() else "does not exist"
        raise BadInput(f"npz file '{full}' {kind}; give the path of an npz file (relative paths start in {Path.cwd()})")
    return full


def expanded(path: Path) -> Path:
    """`path` with `~` as the home directory; relative paths start in the current directory."""
    try:
        return path.expanduser()
    except RuntimeError as error:
        raise BadInput(f"path '{path}' has no home directory: {error}; write the path in full") from error


def check_scene_shape(scene_shape: tuple[int, int]) -> None:
    """Raise BadInput unless `scene_shape` is two positive whole numbers (rows, columns)."""
    if len(scene_shape) != 2 or any(int(n) != n or n < 1 for n in scene_shape):
        raise BadInput(f"scene_shape is {scene_shape}; (rows, columns), both whole and at least 1, are needed")


@lru_cache(maxsize=1)
def _content_hash(path: Path, size: int, mtime_ns: int) -> bytes:
    """sha256 of a file; every step of a plan asks for it."""
    with path.open("rb") as file:
        return hashlib.file_digest(file, "sha256").digest()


def _picture_radiance(picture: Picture, encoding: Encoding) -> Radiance:
    if picture.mode.startswith("I"):
        return linear_radiance(_in_unit_range(np.asarray(picture, dtype=np.float64) / 65535, picture.mode), encoding)
    if picture.mode == "F":
        return linear_radiance(_in_unit_range(np.asarray(picture, dtype=np.float64), picture.mode), encoding)
    if picture.mode in ("1", "L") and not picture.has_transparency_data:
        return linear_radiance(np.asarray(picture.convert("L"), dtype=np.float32) / 255, encoding)
    values = np.asarray(picture.convert("RGBA"), dtype=np.float32) / 255
    return np.asarray(linear_radiance(values[..., :3], encoding) @ LUMINANCE * values[..., 3], dtype=np.float32)


def _in_unit_range(share: npt.NDArray[np.float64], mode: str) -> npt.NDArray[np.float64]:
    low, high = float(share.min()), float(share.max())
    if not (low >= 0 and high <= 1):
        raise ValueError(f"values of mode {mode} span {low:.3g}..{high:.3g} of full scale; 0..1 is allowed")
    return share
