"""Orders of samples in which classes take turns: every beginning holds them alike, and lies inside longer ones."""

from __future__ import annotations

import numpy as np
import numpy.typing as npt

from protocols.splits import IntArray


def balanced_order(labels: npt.ArrayLike, *, seed: int) -> IntArray:
    """A permutation (n,) of samples with these labels (n,): classes take turns, each shuffled within itself by seed.

    In the first k, two classes differ by one sample at most, until one is used up.
    """
    rng = np.random.default_rng(seed)
    order = rng.permutation(len(np.asarray(labels)))
    given = np.asarray(labels)[order]
    classes, number = np.unique(given, return_inverse=True)
    turn = rng.permutation(len(classes))[number.reshape(-1)]
    return order[np.lexsort((turn, _rounds(given)))]


def ranked_in_turn(labels: npt.ArrayLike, scores: npt.ArrayLike) -> IntArray:
    """As `balanced_order`, each class within itself by falling score, and of every round the highest score first."""
    values, ranked = np.asarray(scores), np.argsort(-np.asarray(scores), kind="stable")
    rounds = _rounds(np.asarray(labels)[ranked])
    return ranked[np.lexsort((-values[ranked], rounds))]


def _rounds(labels: npt.NDArray[np.int64]) -> IntArray:
    """(n,) how many samples of the same class come before each."""
    rounds = np.empty(len(labels), dtype=np.int64)
    for label in np.unique(labels):
        members = np.flatnonzero(labels == label)
        rounds[members] = np.arange(len(members))
    return rounds
