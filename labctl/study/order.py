"""Which frames a participant is asked, in which order, beside which pictures: random, balanced, and the same again."""

from __future__ import annotations

import random
from collections import Counter, defaultdict
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass

from labctl.errors import BadInput


@dataclass(frozen=True)
class Asked:
    """What the order depends on of one frame that can be asked."""

    group: int
    """Which of the sets it is from."""

    scene: str
    """Names the picture that was captured: frames of one scene through two designs share it."""

    label: str


@dataclass(frozen=True)
class Question:
    """One trial: place of the frame among those that can be asked, and (label, reference) of each choice in order."""

    frame: int
    choices: tuple[tuple[str, str], ...]


References = Callable[[int, str], Sequence[str]]
"""(place of a frame, label) to the reference pictures of that label that may stand beside this frame."""


def draw_questions(
    frames: Sequence[Asked],
    references: References,
    *,
    practice: int,
    trials: int,
    choices: int,
    seed: int,
    participant: str,
) -> tuple[list[Question], list[Question]]:
    """The practice and the trials of one participant: an order of its own, always the same for (seed, participant).

    Among the trials every set comes equally often, and within a set every label, as far as the frames allow. No scene
    comes twice, not even through another design: who has seen it sharp once would know it again. The others among the
    choices are drawn evenly from all labels, a new reference picture of each every time, and shuffled.
    Raises BadInput when there are too few scenes or labels.
    """
    labels = sorted({frame.label for frame in frames})
    if choices > len(labels):
        raise BadInput(
            f"--choices {choices}: the frames show {len(labels)} identities ({', '.join(labels[:8])}); give at most "
            f"--choices {len(labels)}, or more sets"
        )
    scenes = len({frame.scene for frame in frames})
    if practice + trials > scenes:
        raise BadInput(
            f"--trials {trials} and --practice {practice}: there are {scenes} scenes that can be asked, and nobody "
            f"sees one twice; give at most {scenes} together, or --split all"
        )
    rng = random.Random(f"labctl study/{seed}/{participant}")
    drawer = _Drawer(frames, rng)
    asked = drawer.draw(trials)
    tried = drawer.draw(practice)
    rng.shuffle(asked)

    def question(frame: int) -> Question:
        own = frames[frame].label
        others = rng.sample([label for label in labels if label != own], choices - 1)
        shown = [(label, rng.choice(list(references(frame, label)))) for label in (own, *others)]
        rng.shuffle(shown)
        return Question(frame, tuple(shown))

    return [question(frame) for frame in tried], [question(frame) for frame in asked]


def uneven_sets(frames: Sequence[Asked], count: int) -> bool:
    """Whether `count` trials cannot be spread evenly over the sets in every case: they show different scenes."""
    scenes: Mapping[int, set[str]] = _scenes_by_group(frames)
    shared = set.intersection(*scenes.values()) if scenes else set()
    return len(scenes) > 1 and len(shared) < count


class _Drawer:
    """Draws frames without a scene twice: next from the set that came least often, of the label that came least."""

    def __init__(self, frames: Sequence[Asked], rng: random.Random) -> None:
        self._frames, self._rng = frames, rng
        self._piles: dict[int, dict[str, list[int]]] = defaultdict(lambda: defaultdict(list))
        for place, frame in enumerate(frames):
            self._piles[frame.group][frame.label].append(place)
        for of_label in self._piles.values():
            for pile in of_label.values():
                rng.shuffle(pile)
        self._seen: set[str] = set()

    def draw(self, count: int) -> list[int]:
        """Places of `count` frames that were not drawn before."""
        by_group, by_cell, by_label = Counter[int](), Counter[tuple[int, str]](), Counter[str]()
        drawn: list[int] = []
        while len(drawn) < count:
            for group in sorted(self._piles, key=lambda group: (by_group[group], self._rng.random())):
                place = self._next(group, by_cell, by_label)
                if place is not None:
                    break
            else:
                raise BadInput(f"{count} frames were asked for and {len(drawn)} are left; ask for fewer")
            label = self._frames[place].label
            by_group[group] += 1
            by_cell[group, label] += 1
            by_label[label] += 1
            self._seen.add(self._frames[place].scene)
            drawn.append(place)
        return drawn

    def _next(self, group: int, by_cell: Counter[tuple[int, str]], by_label: Counter[str]) -> int | None:
        piles = self._piles[group]
        order = sorted(piles, key=lambda label: (by_cell[group, label], by_label[label], self._rng.random()))
        for label in order:
            pile = piles[label]
            while pile and self._frames[pile[-1]].scene in self._seen:
                pile.pop()
            if pile:
                return pile.pop()
        return None


def _scenes_by_group(frames: Sequence[Asked]) -> dict[int, set[str]]:
    found: dict[int, set[str]] = defaultdict(set)
    for frame in frames:
        found[frame.group].add(frame.scene)
    return found
