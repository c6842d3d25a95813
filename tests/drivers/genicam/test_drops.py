"""Frame ids and counters: every id between the first and the last is either received or missing."""

from __future__ import annotations

from collections.abc import Iterable

import pytest

from drivers.genicam.drops import Drops, FrameIds


def follow(raw: Iterable[int]) -> tuple[list[int], FrameIds]:
    ids = FrameIds()
    return [ids.follow(number) for number in raw], ids


def test_ids_in_order_have_no_gap() -> None:
    steps, ids = follow(range(5, 10))
    assert steps == [1] * 5
    assert (ids.first, ids.last) == (5, 9)


def test_a_gap_is_as_long_as_the_ids_that_are_missing() -> None:
    steps, ids = follow([0, 1, 4])
    assert steps == [1, 1, 3]
    assert ids.last == 4


def test_a_repeated_or_old_id_is_not_new() -> None:
    steps, ids = follow([3, 4, 4, 2, 5])
    assert steps == [1, 1, 0, -2, 1]
    assert ids.last == 5


@pytest.mark.parametrize(
    ("raw", "steps"),
    [([65534, 65535, 1, 2], [1, 1, 1, 1]), ([65535, 3], [1, 3]), ([65000, 5], [1, 540])],
)
def test_short_ids_wrap_from_65535_to_1_without_a_gap(raw: list[int], steps: list[int]) -> None:
    found, ids = follow(raw)
    assert found == steps
    assert ids.last == raw[0] + sum(steps) - 1


def test_long_ids_pass_65535() -> None:
    assert follow([65535, 65536, 65537])[0] == [1, 1, 1]


def test_the_counters_explain_the_gaps() -> None:
    drops = Drops(spanned=10, received=6, missing=4, incomplete=1, underrun=2)
    assert drops.adds_up
    assert drops.lost_elsewhere == 1
    assert not Drops(spanned=10, received=6, missing=3).adds_up
    assert (drops + drops).received == 12
