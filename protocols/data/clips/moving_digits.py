"""Handwritten digits that move: the motion is the action, the digit is the actor."""

from __future__ import annotations

from functools import lru_cache
from importlib.metadata import version
from typing import TYPE_CHECKING, Annotated, Literal

import numpy as np
import numpy.typing as npt
from annotated_types import Ge, Le
from pydantic import field_validator

from labctl.errors import BadInput
from labctl.frames.splitting import rank
from protocols.data.clips.clip_set import ClipSet
from protocols.data.clips.clip_source import ClipSource
from protocols.data.clips.two_labels import require_learnable
from protocols.images import check_scene_shape, resized
from protocols.keys import stream_seed
from protocols.splits import IntArray, Split

if TYPE_CHECKING:
    from protocols.images import Radiance

MOTIONS = ("left", "right", "up", "down", "circle clockwise", "circle anticlockwise", "grow", "shrink")

DIGITS = tuple(str(digit) for digit in range(10))

INSTANCES = 1797
"""Handwritten digits that scikit-learn brings: no two clips show the same one."""

CANVAS_PX, DIGIT_PX = 48.0, 20.0
"""All lengths are said on a canvas of so many pixels, and scaled with the shorter side of the scene."""

START_PX, RADIUS_PX, SMALLEST_PX = 5.0, 6.0, 4.0
"""Largest offset of the middle of the path in rows and in columns; radius of a circle; least side of a digit."""

TEXTURE_CELLS = 6

Clip = npt.NDArray[np.float64]


class MovingDigits(ClipSource):
    """Digits of scikit-learn that move before a still, smooth texture: works anywhere, without a download.

    The action is one of eight motions, the same number of clips of each; the actor is the digit. Each clip shows
    another handwritten digit, so an attacker is asked for digits that were never seen. At 32x32 a digit has 13 px. All
    is drawn from `seed`, and two sizes of scene show the same clips.
    """

    type: Literal["moving_digits"] = "moving_digits"

    seed: Annotated[int, Ge(0)] = 0
    """Decides which digits are shown and how each moves."""

    train: Annotated[int, Ge(1)] = 700
    val: Annotated[int, Ge(0)] = 200
    test: Annotated[int, Ge(1)] = 400
    """Clips of each part; together at most 1797."""

    frames: Annotated[int, Ge(2), Le(24)] = 16

    speed_px: tuple[float, float] = (0.7, 1.4)
    """Least and greatest way between two frames, in pixels of a 48-px canvas; of a growing digit, of its side."""

    background: Annotated[float, Ge(0), Le(1)] = 0.25
    """Radiance of the brightest place of the texture; the digit is 1."""

    @field_validator("speed_px")
    @classmethod
    def _moves(cls, value: tuple[float, float]) -> tuple[float, float]:
        if not 0 < value[0] <= value[1] <= 3:
            raise ValueError(f"{list(value)} is out of range; least and greatest speed, above 0, up to 3, are needed")
        return value

    @property
    def clip_frames(self) -> int:
        """T."""
        return self.frames

    @property
    def actor_names(self) -> tuple[str, ...]:
        """The digits."""
        return DIGITS

    def check(self) -> None:
        """Judge the numbers of clips. Raises BadInput."""
        wanted = self.train + self.val + self.test
        if wanted > INSTANCES:
            raise BadInput(
                f"moving_digits: train, val and test ask for {wanted} clips; {INSTANCES} digits are there, each for "
                "one clip; lower one of them"
            )
        require_learnable(
            *self.labels(), self._split(), MOTIONS, DIGITS, keep="shared", what=f"moving_digits with {wanted} clips"
        )

    def fingerprint(self) -> str:
        """Changes with the settings and with the version of scikit-learn."""
        return self._digest([version("scikit-learn").encode()])

    def labels(self) -> tuple[IntArray, IntArray]:
        """See `ClipSource.labels`."""
        counts = (self.train, self.val, self.test)
        action = np.concatenate([np.arange(n, dtype=np.int64) % len(MOTIONS) for n in counts])
        return action, _digits()[1][self._instances()]

    def load_clips(self, scene_shape: tuple[int, int]) -> ClipSet:
        """The clips, train before val before test; clip_ids count them. Raises BadInput."""
        check_scene_shape(scene_shape)
        self.check()
        action, actor = self.labels()
        pictures = _digits()[0][self._instances()]
        clips = np.empty((len(action), self.frames, 1, *scene_shape), dtype=np.float32)
        for row, motion in enumerate(action):
            clips[row, :, 0] = self._clip(row, MOTIONS[motion], pictures[row], scene_shape)
        return ClipSet(clips, action, actor, self._split(), MOTIONS, DIGITS, np.arange(len(action), dtype=np.int64))

    def _split(self) -> npt.NDArray[np.uint8]:
        return np.repeat(np.array(list(Split), dtype=np.uint8), (self.train, self.val, self.test))

    def _instances(self) -> IntArray:
        """Place of the digit of each clip in scikit-learn's file."""
        ranked = sorted(range(INSTANCES), key=lambda place: rank(self.seed, f"digit {place}"))
        return np.array(ranked[: self.train + self.val + self.test], dtype=np.int64)

    def _clip(self, row: int, motion: str, picture: Radiance, scene_shape: tuple[int, int]) -> Clip:
        """(T, H, W) radiance 0..1."""
        draws = np.random.default_rng(stream_seed(self.seed, "moving digits", row)).random(4 + TEXTURE_CELLS**2)
        least, greatest = self.speed_px
        way = (least + (greatest - least) * draws[0]) * (np.arange(self.frames) - (self.frames - 1) / 2)
        rows, columns, side = _path(motion, way, 2 * np.pi * draws[1])
        scale = min(scene_shape) / CANVAS_PX
        start = START_PX * (2 * draws[2:4] - 1)
        down, across = (
            _weights(scale * (place + offset), scale * side, pixels)
            for place, offset, pixels in zip((rows, columns), start, scene_shape, strict=True)
        )
        digit = np.clip(down @ picture @ across.transpose(0, 2, 1), 0, 1)
        cells = draws[4:].reshape(TEXTURE_CELLS, TEXTURE_CELLS).astype(np.float32)
        texture = self.background * resized(cells, scene_shape, "stretch")
        return digit + (1 - digit) * texture


def _path(motion: str, way: Clip, phase: float) -> tuple[Clip, Clip, Clip]:
    """(T,) row and column of the middle of a digit, and its side, in canvas pixels from the middle of the canvas.

    way: (T,) signed length of the path from its middle. phase: where on the circle that is, in radians.
    """
    still, side = np.zeros_like(way), np.full_like(way, DIGIT_PX)
    turn = {"circle clockwise": 1, "circle anticlockwise": -1}.get(motion)
    if turn is not None:
        angle = phase + turn * way / RADIUS_PX
        return RADIUS_PX * np.sin(angle), RADIUS_PX * np.cos(angle), side
    if motion in ("grow", "shrink"):
        return still, still, np.maximum(DIGIT_PX + (way if motion == "grow" else -way), SMALLEST_PX)
    sign = -1 if motion in ("left", "up") else 1
    return (still, sign * way, side) if motion in ("left", "right") else (sign * way, still, side)


def _weights(middle: Clip, side: Clip, pixels: int) -> Clip:
    """(T, pixels, 8) shares of the eight digit pixels in every scene pixel along one axis, for a digit of `side` (T,)
    pixels with its middle at `middle` (T,) from the middle of the scene: linear interpolation, wider where it shrinks.
    """
    pitch = side[:, None, None] / 8
    scene = np.arange(pixels)[:, None] + 0.5 - pixels / 2
    source = middle[:, None, None] + pitch * (np.arange(8) + 0.5 - 4)
    reach = np.maximum(pitch, 1.0)
    return np.maximum(0, 1 - np.abs(scene - source) / reach) * pitch / reach


@lru_cache(maxsize=1)
def _digits() -> tuple[Radiance, IntArray]:
    """(1797, 8, 8) radiance 0..1 and (1797,) which digit each is."""
    from sklearn.datasets import load_digits

    values, labels = load_digits(return_X_y=True)
    return (values.reshape(-1, 8, 8) / 16).astype(np.float32), labels.astype(np.int64)
