"""What every data set must be able to say and do."""

from __future__ import annotations

import hashlib
import json
from abc import abstractmethod
from collections.abc import Iterable
from pathlib import Path
from typing import Annotated, ClassVar

from annotated_types import Ge
from pydantic import AfterValidator

from labctl.errors import BadInput
from labctl.frozen import Frozen
from labctl.protocol import Progress, unwatched
from protocols.data.image_set import ImageSet
from protocols.splits import IntArray


def _fill_one(fractions: tuple[float, float, float]) -> tuple[float, float, float]:
    if abs(sum(fractions) - 1) > 1e-6 or min(fractions) < 0 or fractions[0] == 0 or fractions[2] == 0:
        raise ValueError(f"fractions are {fractions}; train and test above 0, val 0 or more, sum 1 are needed")
    return fractions


Fractions = Annotated[tuple[float, float, float], AfterValidator(_fill_one)]
"""Train, val and test share of every class. They sum to 1; val may be 0."""

Identities = Annotated[int, Ge(2)]
"""How many identities to keep."""


class ImageSource(Frozen):
    """Settings that say where labelled pictures come from. `load` depends on settings and source alone."""

    loading_version: ClassVar[int] = 1
    """Raise it when the same settings and source give other pixels or another split."""

    newer: ClassVar[frozenset[str]] = frozenset()
    """As `Step.newer`: settings that at their default leave content hashes as they were without them."""

    type: str

    @abstractmethod
    def check(self) -> None:
        """Raise BadInput when `load` cannot work, as far as that can be seen without reading all pixels."""

    def check_pixels(self, scene_shape: tuple[int, int], progress: Progress = unwatched) -> None:
        """Raise BadInput when pixels would stop `load`, all of them looked at. Sources without any need not say so.

        What is read here may be kept, so that `load` at this shape need not read it again.
        """

    @abstractmethod
    def fingerprint(self) -> str:
        """sha256 in hex of all that decides what `load` returns, but for the scene shape. The path does not count."""

    @abstractmethod
    def load(self, scene_shape: tuple[int, int]) -> ImageSet:
        """All samples at `scene_shape` (rows, columns). Raises BadInput with the cause."""

    def attribute(self, name: str) -> tuple[IntArray, tuple[str, ...]]:
        """What else the source says of its pictures, such as an expression: (N,) labels from 0 of the samples that
        `load` gives, in its order, and the name of each. Raises BadInput where there is nothing of that name.
        """
        raise BadInput(
            f"data of the type '{self.type}' say nothing of their pictures but their class; ask for identity"
        )

    def _digest(self, content: Iterable[bytes]) -> str:
        fields = type(self).model_fields
        unset = {name for name in self.newer if getattr(self, name) == fields[name].get_default()}
        paths = {name for name in fields if isinstance(getattr(self, name), Path)}
        given = self.model_dump(mode="json", exclude={*paths, *unset})
        settings = {**given, "loading_version": self.loading_version}
        digest = hashlib.sha256(json.dumps(settings, sort_keys=True).encode())
        for piece in content:
            digest.update(len(piece).to_bytes(8, "big") + piece)
        return digest.hexdigest()
