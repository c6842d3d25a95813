"""The digits that scikit-learn brings."""

from __future__ import annotations

from importlib.metadata import version
from typing import Annotated, Literal

import numpy as np
from annotated_types import Ge, Lt

from labctl.errors import BadInput
from protocols.data.image_set import ImageSet
from protocols.data.source import ImageSource
from protocols.images import check_scene_shape, resized
from protocols.splits import stratified_split


class Digits(ImageSource):
    """The 1797 handwritten digits of 8x8 px that scikit-learn brings: works anywhere, without a download.

    The file does not say who wrote what, so a writer can stand in training and test: good for trying a rig, not for
    claims about new writers.
    """

    type: Literal["digits"] = "digits"

    split_seed: Annotated[int, Ge(0)] = 0
    """Decides the 60/20/20 split, the same share of every digit."""

    margin: Annotated[float, Ge(0), Lt(0.5)] = 0.05
    """Dark border on each side, as a share of the shorter side of the scene."""

    def check(self) -> None:
        """Always passes: the pictures come with scikit-learn."""

    def fingerprint(self) -> str:
        """Changes with the settings and with the version of scikit-learn."""
        return self._digest([version("scikit-learn").encode()])

    def load(self, scene_shape: tuple[int, int]) -> ImageSet:
        """Each digit centred on a dark scene. Raises BadInput when the margin leaves no pixel."""
        from sklearn.datasets import load_digits

        check_scene_shape(scene_shape)
        side = round(min(scene_shape) * (1 - 2 * self.margin))
        if side < 1:
            raise BadInput(f"margin {self.margin} leaves no pixel of a scene of {scene_shape}; use a smaller margin")
        values, labels = load_digits(return_X_y=True)
        images = np.zeros((len(labels), 1, *scene_shape), dtype=np.float32)
        top, left = (scene_shape[0] - side) // 2, (scene_shape[1] - side) // 2
        for image, digit in zip(images, values.reshape(-1, 8, 8), strict=True):
            small = (digit / 16).astype(np.float32)
            image[0, top : top + side, left : left + side] = resized(small, (side, side), "centre")
        names = [str(index) for index in range(len(labels))]
        split = stratified_split(
            [str(label) for label in labels], names, fractions=(0.6, 0.2, 0.2), seed=self.split_seed
        )
        sample_ids = np.arange(len(labels), dtype=np.int64)
        return ImageSet(images, labels.astype(np.int64), split, tuple(str(digit) for digit in range(10)), sample_ids)
