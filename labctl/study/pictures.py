"""Frames and scenes as pictures on a screen, and how blurred a frame is."""

from __future__ import annotations

import io
from typing import Any, Literal

import numpy as np
import numpy.typing as npt

from labctl.blurriness import BLUR_FILTER_PX, image_blurriness

Levels = npt.NDArray[np.uint8]
Encoding = Literal["linear", "srgb"]
"""How light becomes levels of the participant's screen. `linear`: level = light, right for pictures that were taken for
radiance as they are; `srgb`: by the curve of IEC 61966-2-1, right for radiance that was linearised before."""

RANGE_PERCENT = (0.2, 99.8)
"""Each frame is stretched so that these of its pixels are black and white: people get the best view that it allows."""


def frame_levels(frame: npt.NDArray[Any], encoding: Encoding) -> Levels:
    """(h, w) or (h, w, 3) levels of a frame (C, h, w) in DN, stretched for itself, all channels alike.

    Frames that have neither one nor three channels are shown as the mean of their channels.
    """
    light = np.asarray(frame, dtype=np.float64)
    low, high = np.percentile(light, RANGE_PERCENT)
    span = high - low if high > low else 1.0
    return _levels((light - low) / span, encoding)


def scene_levels(scene: npt.NDArray[Any], encoding: Encoding) -> Levels:
    """(h, w) or (h, w, 3) levels of a scene (C, h, w), radiance 0..1."""
    return _levels(np.asarray(scene, dtype=np.float64), encoding)


def png(levels: Levels) -> bytes:
    """The file of a picture (h, w) or (h, w, 3), without anything that says what it shows."""
    from PIL import Image

    target = io.BytesIO()
    Image.fromarray(levels).save(target, "PNG")
    return target.getvalue()


def frame_blurriness(frame: npt.NDArray[Any]) -> float | None:
    """No-reference blur of a frame (C, h, w), mean of its channels: 0 sharp, 1 nothing but blur. [Crete et al. 2007]

    A measured frame has noise, which looks sharp and lowers the value. None for frames smaller than the filter.
    """
    if min(frame.shape[1:]) < BLUR_FILTER_PX:
        return None
    return float(np.mean([image_blurriness(channel) for channel in frame]))


def thumbnail(levels: Levels, shape: tuple[int, int]) -> npt.NDArray[np.float64]:
    """(16, 16) of mean 0 and length 1: what is left of a picture to tell whether another shows the very same.

    shape: (H, W) whose proportions are cut out of the middle first, as scenes are cut out of pictures.
    """
    from PIL import Image

    grey = np.asarray(Image.fromarray(levels).convert("L"), dtype=np.float32)
    rows, columns = grey.shape
    side = min(rows / shape[0], columns / shape[1])
    high, wide = max(1, round(shape[0] * side)), max(1, round(shape[1] * side))
    top, left = (rows - high) // 2, (columns - wide) // 2
    part = Image.fromarray(np.ascontiguousarray(grey[top : top + high, left : left + wide]))
    small: npt.NDArray[np.float64] = np.array(part.resize((16, 16), Image.Resampling.BILINEAR), dtype=np.float64)
    small -= small.mean()
    small /= max(float(np.sqrt((small**2).sum())), 1e-12)
    return small


def _levels(light: npt.NDArray[np.float64], encoding: Encoding) -> Levels:
    share = light.clip(0, 1)
    if encoding == "srgb":
        share = np.where(share <= 0.0031308, 12.92 * share, 1.055 * share ** (1 / 2.4) - 0.055)
    levels = (255 * share).round().astype(np.uint8)
    if len(levels) == 3:
        return np.ascontiguousarray(levels.transpose(1, 2, 0))
    grey: Levels = levels[0] if len(levels) == 1 else levels.mean(axis=0).round().astype(np.uint8)
    return grey
