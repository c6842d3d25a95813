"""What a participant of a study is asked, and in which order."""

from __future__ import annotations

from collections import Counter
from collections.abc import Sequence
from typing import Any

import pytest

from labctl.errors import BadInput
from labctl.study.order import Asked, Question, draw_questions, uneven_sets

PEOPLE = ("ann", "bea", "cem", "dan")
SCENES = 32
FRAMES = [Asked(design, f"scene {one}", PEOPLE[one % 4]) for design in range(3) for one in range(SCENES)]
PICTURES = {name: [f"scene {one}" for one in range(SCENES) if PEOPLE[one % 4] == name] for name in PEOPLE}


def beside(frame: int, label: str) -> Sequence[str]:
    return [scene for scene in PICTURES[label] if scene != FRAMES[frame].scene]


def draw(participant: str = "A", **more: Any) -> tuple[list[Question], list[Question]]:
    how: dict[str, Any] = {"practice": 2, "trials": 24, "choices": 3, "seed": 0, **more}
    return draw_questions(FRAMES, beside, participant=participant, **how)


def test_everybody_has_an_order_of_their_own_and_always_the_same() -> None:
    assert draw("A") == draw("A")
    assert draw("A") != draw("B")
    assert draw("A") != draw("A", seed=1)


@pytest.mark.parametrize("participant", ["A", "B", "C"])
def test_every_design_and_within_it_every_identity_comes_equally_often(participant: str) -> None:
    asked = [FRAMES[question.frame] for question in draw(participant)[1]]
    assert Counter(frame.group for frame in asked) == {0: 8, 1: 8, 2: 8}
    assert set(Counter((frame.group, frame.label) for frame in asked).values()) == {2}


def test_nobody_sees_a_scene_twice_not_even_through_another_design_or_in_practice() -> None:
    for participant in "ABCDE":
        practice, trials = draw(participant, practice=4, trials=28)
        scenes = [FRAMES[question.frame].scene for question in practice + trials]
        assert len(set(scenes)) == len(scenes) == SCENES


def test_the_right_one_is_among_different_others_at_every_place() -> None:
    places = Counter[int]()
    for participant in "ABCDEFGH":
        for question in draw(participant)[1]:
            labels = [label for label, _ in question.choices]
            assert len(set(labels)) == 3
            places[labels.index(FRAMES[question.frame].label)] += 1
    assert min(places[place] for place in range(3)) > 40  # 64 of 192 expected; 40 is 3.7 sigma below


def test_the_picture_that_was_captured_is_never_a_reference() -> None:
    for participant in "ABCDEFGH":
        for question in draw(participant)[1]:
            assert FRAMES[question.frame].scene not in [reference for _, reference in question.choices]


def test_designs_are_not_asked_one_after_the_other() -> None:
    groups = [FRAMES[question.frame].group for question in draw()[1]]
    assert groups != sorted(groups)
    assert len({tuple(FRAMES[q.frame].group for q in draw(who)[1]) for who in "ABCDE"}) == 5


def test_too_few_scenes_or_identities_are_refused_with_what_there_is() -> None:
    with pytest.raises(BadInput, match="there are 32 scenes that can be asked"):
        draw(trials=31)
    with pytest.raises(BadInput, match="--choices 5: the frames show 4 identities"):
        draw(choices=5)


def test_sets_of_different_scenes_are_known_to_come_unevenly() -> None:
    assert not uneven_sets(FRAMES, 32)
    assert uneven_sets([*FRAMES, Asked(3, "another scene", "ann")], 1)
