"""Splits of clips with two labels: what is done must be learnt and asked, and so must be by whom."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Literal

import numpy as np

from labctl.errors import BadInput
from labctl.frames.splitting import part_sizes, rank
from protocols.splits import IntArray, Split, SplitArray, require_apart, some_of

Actors = Literal["shared", "apart"]
"""`shared`: every actor has training and test clips, so that an attacker can learn to name them. `apart`: nobody is in
two parts of the split: how well an action of strangers is seen; nobody can be named then."""

MIN_CLASSES = 2


def split_clips(
    actions: Sequence[str],
    actors: Sequence[str],
    names: Sequence[str],
    *,
    fractions: tuple[float, float, float],
    seed: int,
    keep: Actors,
    what: str,
) -> SplitArray:
    """Split N clips by `fractions` (train, val, test; they sum to 1). Returns (N,) uint8 `Split` values.

    shared: the clips of every actor are laid out one action after the other, each actor beginning with another action,
    and cut by `fractions`: so every actor is in every part, and so is every action wherever numbers allow it, even if
    each actor does each action once. apart: the actors themselves are cut. Order is by hashes of the seed and of names,
    which are unique: it depends on neither the order of the clips nor a random generator. Raises BadInput, with `what`,
    when an actor has too few clips.
    """
    split = np.zeros(len(names), dtype=np.uint8)
    people = _ranked(seed, actors)
    wanted = sum(fraction > 0 for fraction in fractions)
    if keep == "apart":
        if len(people) < wanted:
            raise BadInput(
                f"{what} has {len(people)} actors for {wanted} parts; each part needs its own; set `actors: shared`"
            )
        part_of = dict(zip(people, np.repeat(np.arange(3), part_sizes(len(people), fractions)), strict=True))
        return np.array([part_of[actor] for actor in actors], dtype=np.uint8)
    deeds = {action: place for place, action in enumerate(_ranked(seed, actions))}
    for turn, actor in enumerate(people):
        dealt = _dealt([row for row, who in enumerate(actors) if who == actor], actions, names, seed, deeds, turn)
        if len(dealt) < wanted:
            few = "1 clip" if len(dealt) == 1 else f"{len(dealt)} clips"
            raise BadInput(
                f"{what}: actor '{actor}' has {few} for {wanted} parts with fractions {fractions}; "
                f"at least {wanted} are needed; add clips, leave the actor out, or set the val fraction to 0"
            )
        split[dealt] = np.repeat(np.arange(3, dtype=np.uint8), part_sizes(len(dealt), fractions))
    return split


def require_learnable(
    action: IntArray,
    actor: IntArray,
    split: SplitArray,
    action_names: Sequence[str],
    actor_names: Sequence[str],
    *,
    keep: Actors,
    what: str,
) -> None:
    """Raise BadInput, with the names, when an action has no training or no test clip, or actors are not as `keep` says.

    action, actor: (N,) labels from 0; split: (N,).
    """
    for kind, names in (("action", action_names), ("actor", actor_names)):
        if len(names) < MIN_CLASSES:
            raise BadInput(f"{what} has one {kind}, {some_of(names)}; at least {MIN_CLASSES} are needed; add clips")
    _require_both_sides("action", action, split, action_names, what, "change the split, or leave that action out")
    if keep == "shared":
        remedy = "change the split, leave that actor out, or set `actors: apart` if nobody is to be named"
        _require_both_sides("actor", actor, split, actor_names, what, remedy)
    else:
        remedy = "split by actor, or set `actors: shared`"
        require_apart(np.array(actor_names)[actor], split, "actor", what, remedy=remedy)


def _require_both_sides(
    kind: str, labels: IntArray, split: SplitArray, names: Sequence[str], what: str, remedy: str
) -> None:
    for part in (Split.TRAIN, Split.TEST):
        counts = np.bincount(labels[split == part], minlength=len(names))
        missing = [name for name, count in zip(names, counts, strict=True) if count == 0]
        if missing:
            raise BadInput(
                f"{what} has no {part.name.lower()} clip of {kind} {some_of(missing)}; every {kind} needs at least one "
                f"training and one test clip; {remedy}"
            )


def _dealt(
    rows: list[int], actions: Sequence[str], names: Sequence[str], seed: int, deeds: dict[str, int], turn: int
) -> list[int]:
    """Rows of one actor: at the end a clip of every action, before it a second one of each that has one, and so on."""
    ranked = sorted(rows, key=lambda row: (rank(seed, names[row]), names[row]))
    seen: dict[str, int] = {}
    keys = {}
    for row in ranked:
        repeat = seen[actions[row]] = seen.get(actions[row], -1) + 1
        keys[row] = (-repeat, (deeds[actions[row]] + turn) % len(deeds))
    return sorted(ranked, key=keys.__getitem__)


def _ranked(seed: int, names: Sequence[str]) -> list[str]:
    return sorted(set(names), key=lambda name: (rank(seed, name), name))
