"""What an attacker wants to know of a picture: who is in it, or something else that the data file says of it."""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING

import numpy as np

from labctl.errors import BadInput
from protocols.splits import IntArray, Split, some_of

if TYPE_CHECKING:
    from labctl.protocol import Protocol
    from protocols.data import ImageSet

IDENTITY = "identity"
"""The labels of the data, whatever they are: with digits, the digit."""

LEAST = 2
"""Samples that a class needs in training, and one in the test split, to be asked for."""


@dataclass(frozen=True)
class Target:
    """What is to be recognised. labels: (N,) of every sample of the data, -1 where nothing is to be said of it.

    left_out: values with too few samples to learn and to test.
    """

    name: str
    labels: IntArray
    class_names: tuple[str, ...]
    left_out: tuple[str, ...] = ()

    def rows(self, data: ImageSet, split: Split) -> IntArray:
        """Rows of one split that have a label."""
        part = data.part(split)
        return part[self.labels[part] >= 0]


def target_of(protocol: Protocol, data: ImageSet, what: str, least: int = LEAST) -> Target:
    """The labels that `what` names. Raises BadInput for an array that the data have not, and for a single value.

    least: values with fewer training samples are left out, since nothing can be learned of them.
    """
    if what == IDENTITY:
        return Target(IDENTITY, data.labels, data.class_names)
    labels, names = protocol.data.attribute(what)
    kept = [
        value
        for value in range(len(names))
        if (labels[data.part(Split.TRAIN)] == value).sum() >= least and (labels[data.part(Split.TEST)] == value).any()
    ]
    left_out = tuple(name for value, name in enumerate(names) if value not in kept)
    if len(kept) < 2:
        raise BadInput(
            f"'{what}' has {len(kept)} {'value' if len(kept) == 1 else 'values'} with {least} or more training "
            f"pictures and a test picture ({some_of(names)} are there); two are needed to tell apart"
        )
    numbers = np.full(len(names), -1, dtype=np.int64)
    numbers[kept] = np.arange(len(kept))
    return Target(what, numbers[labels], tuple(names[value] for value in kept), left_out)
