"""Which samples train, which choose, which judge: splits that anyone can redo from a seed and the sample names."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from enum import IntEnum
from typing import Any

import numpy as np
import numpy.typing as npt

from labctl.errors import BadInput
from labctl.frames.splitting import part_sizes, rank

IntArray = npt.NDArray[np.int64]
SplitArray = npt.NDArray[np.uint8]

MIN_CLASSES = 2
"""A classifier with fewer classes has nothing to decide."""


class Split(IntEnum):
    """The part of a data set that a sample belongs to. Choices are made on VAL; TEST is looked at once."""

    TRAIN = 0
    VAL = 1
    TEST = 2

    @classmethod
    def of(cls, split: int | str) -> Split:
        """The split with this number or lower-case name. Raises BadInput for any other."""
        by_name: dict[int | str, Split] = {member.name.lower(): member for member in cls}
        by_name.update({int(member): member for member in cls})
        if split not in by_name:
            raise BadInput(f"split {split!r} does not exist; use train (0), val (1) or test (2)")
        return by_name[split]


def stratified_split(
    classes: Sequence[str], names: Sequence[str], *, fractions: tuple[float, float, float], seed: int
) -> SplitArray:
    """Split every class by `fractions` (train, val, test; they sum to 1).

    classes: (N,) class of each sample; names: (N,) a stable name of each sample, unique within its class.
    Returns (N,) uint8 `Split` values. Samples are ranked by a hash of seed and name, so the split depends on neither
    the order of the samples nor the version of a random generator, and one added sample moves few others.
    Every part with a fraction above 0 gets at least one sample of every class; BadInput when a class is too small.
    """
    split = np.zeros(len(classes), dtype=np.uint8)
    members: dict[str, list[int]] = {}
    for index, name in enumerate(classes):
        members.setdefault(name, []).append(index)
    _require_enough({name: len(indices) for name, indices in members.items()}, fractions)
    for indices in members.values():
        counts = part_sizes(len(indices), fractions)
        ranked = sorted(indices, key=lambda i: (rank(seed, names[i]), names[i]))
        split[ranked] = np.repeat(np.arange(3, dtype=np.uint8), counts)
    return split


def well_covered(
    identity: npt.NDArray[Any], min_per_identity: int, identities: int | None, what: str
) -> npt.NDArray[np.bool_]:
    """(N,) True for the samples of the identities to keep.

    These are the identities with at least `min_per_identity` samples in all; of them the `identities` best covered,
    of equals the first in order; None keeps all. Raises BadInput when fewer are there, or fewer than two.
    """
    values, position, counts = np.unique(identity, return_inverse=True, return_counts=True)
    ranked = np.argsort(-counts, kind="stable")
    ranked = ranked[counts[ranked] >= min_per_identity]
    needed = MIN_CLASSES if identities is None else identities
    if len(ranked) < needed:
        best = ", ".join(str(int(c)) for c in np.sort(counts)[::-1][:MIN_CLASSES])
        why = "at least" if identities is None else f"identities = {identities}:"
        raise BadInput(
            f"{what} has {len(ranked)} of {len(values)} identities with min_per_identity = {min_per_identity} or more; "
            f"{why} {needed} identities are needed; the best covered have {best} pictures; "
            f"lower min_per_identity{'' if identities is None else ' or identities'} or add pictures"
        )
    kept = np.zeros(len(values), dtype=np.bool_)
    kept[ranked[:identities]] = True
    return np.asarray(kept[position.reshape(-1)])


def require_train_and_test(labels: IntArray, split: SplitArray, class_names: Sequence[str], what: str) -> None:
    """Raise BadInput with the names of the classes that have no training or no test sample."""
    for part in (Split.TRAIN, Split.TEST):
        counts = np.bincount(labels[split == part], minlength=len(class_names))
        missing = [name for name, count in zip(class_names, counts, strict=True) if count == 0]
        if missing:
            raise BadInput(
                f"{what} has no {part.name.lower()} picture of {some_of(missing)}; every identity needs at least one "
                "training and one test picture; change the split, or raise min_per_identity to leave these out"
            )


def require_apart(
    values: npt.NDArray[Any], split: SplitArray, who: str, what: str, *, remedy: str | None = None
) -> None:
    """Raise BadInput when a value of `who` (N,), such as a person, stands in more than one part of the split (N,).

    remedy: the next action, where it is not to split anew or to change the setting `apart`.
    """
    known, place = np.unique(values, return_inverse=True)
    sides = np.zeros((len(known), len(Split)), dtype=np.bool_)
    sides[place.reshape(-1), split] = True
    mixed = np.flatnonzero(sides.sum(axis=1) > 1)
    if len(mixed):
        first = [part.name.lower() for part in Split if sides[mixed[0], part]]
        action = remedy or f"split by '{who}', or take it out of `apart`"
        raise BadInput(
            f"{what}: {len(mixed)} of {len(known)} values of '{who}' stand on several sides of the split, "
            f"{some_of([str(known[index]) for index in mixed])}; '{known[mixed[0]]}' in {' and '.join(first)}; "
            f"they must be kept apart: {action}"
        )


def spread(n: int, wanted: int) -> IntArray:
    """Up to `wanted` indices of 0..n-1, evenly spread, each once, in order."""
    count = min(wanted, n)
    return np.unique(np.linspace(0, n - 1, count).round().astype(np.int64)) if count else np.empty(0, dtype=np.int64)


def some_of(names: Sequence[str], limit: int = 5) -> str:
    """The first `limit` names in quotes, and how many more there are."""
    text = ", ".join(f"'{name}'" for name in names[:limit])
    return text if len(names) <= limit else f"{text} and {len(names) - limit} more"


def _require_enough(members: Mapping[str, int], fractions: tuple[float, float, float]) -> None:
    wanted = sum(fraction > 0 for fraction in fractions)
    short = [name for name, n in members.items() if n < wanted]
    if short:
        few = members[short[0]]
        more = f"; so have {len(short) - 1} more classes" if len(short) > 1 else ""
        raise BadInput(
            f"class '{short[0]}' has {few} {'sample' if few == 1 else 'samples'} for {wanted} parts with fractions "
            f"{fractions}; at least {wanted} are needed{more}; set `min_per_identity: {wanted}` to leave such classes "
            "out, add pictures, or set the val fraction to 0"
        )
