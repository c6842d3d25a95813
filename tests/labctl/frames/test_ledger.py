"""The ledger tells what a crash leaves from what was damaged, and no label can break it."""

from __future__ import annotations

import pytest

from labctl.frames.ledger import ledger_line, parse_ledger, record_json
from labctl.frames.shards import crc32c
from tests.labctl.frames.sets import record


def line(index: int, *, safe: int = 0, **more: object) -> bytes:
    chunk = bytes([index]) * 8
    return ledger_line(index, chunk, crc32c(chunk), record_json(record(index, **more)), safe=safe)


def lines(count: int, block: int = 4) -> list[bytes]:
    """As a writer with blocks of four makes them."""
    return [line(index, safe=index - index % block) for index in range(count)]


def test_what_was_written_is_read_back() -> None:
    ledger = parse_ledger(b"".join(lines(5)))
    assert (len(ledger), ledger.torn_bytes, ledger.problems) == (5, 0, ())
    assert ledger.indices.tolist() == list(range(5))
    assert ledger.sizes.tolist() == [12] * 5
    values = ledger.values(3)
    assert (values["index"], values["sample_id"], values["crc32c"]) == (3, 3, crc32c(b"\3" * 8))
    assert "line" not in values


@pytest.mark.parametrize("label", ["a\nb\r\n\u2028\0", "\ud800", "日本 🙂", '"}, "line": "00000000"}', "x" * 100_000])
def test_no_label_breaks_a_line(label: str) -> None:
    ledger = parse_ledger(line(0, label_name=label) + line(1))
    assert (len(ledger), ledger.problems) == (2, ())
    assert ledger.values(0)["label_name"] == label


def test_an_empty_ledger_has_no_frames() -> None:
    assert len(parse_ledger(b"")) == 0


@pytest.mark.parametrize("keep", [1, 100, -2, -1])
def test_a_torn_end_is_no_damage(keep: int) -> None:
    whole = b"".join(lines(3))
    ledger = parse_ledger(whole + line(3)[:keep])
    assert (len(ledger), ledger.problems) == (3, ())
    assert ledger.torn_bytes == len(line(3)[:keep])


def test_a_torn_line_that_happens_to_end_in_a_newline_is_no_line() -> None:
    ledger = parse_ledger(b"".join(lines(3)) + line(3)[:200] + b"\n")
    assert (len(ledger), ledger.torn_bytes, ledger.problems) == (3, 201, ())


def test_every_changed_bit_of_a_line_is_noticed() -> None:
    whole = lines(2)
    for bit in range(8 * (len(whole[0]) - 1)):
        content = bytearray(whole[0] + whole[1])
        content[bit // 8] ^= 1 << bit % 8
        ledger = parse_ledger(bytes(content))
        assert ledger.problems, f"bit {bit} of {bytes(content)!r}"
        assert 0 not in ledger.indices


def test_damaged_and_missing_lines_are_named_and_the_others_kept() -> None:
    content = lines(6)
    content[2] = content[2].replace(b"anna", b"bnna").replace(b"ben", b"bin").replace(b"chlo", b"clho")
    ledger = parse_ledger(b"".join(content))
    assert ledger.problems == ("line 2 of the ledger is damaged",)
    assert ledger.indices.tolist() == [0, 1, 3, 4, 5]
    assert parse_ledger(b"".join(lines(6)[:2] + lines(6)[4:])).problems == ("the ledger has no line for frames 2 to 3",)
    double = parse_ledger(b"".join([*lines(3), line(1)]))
    assert double.problems == ("frame 1 stands twice or out of order in the ledger, in line 3",)


def test_a_hole_in_the_last_block_is_what_a_power_cut_leaves() -> None:
    content = bytearray(b"".join(lines(8)))
    start = len(b"".join(lines(5)))
    content[start + 10 : start + 1000] = bytes(990)
    ledger = parse_ledger(bytes(content))
    assert ledger.problems
    assert ledger.torn_at == start
    assert len(parse_ledger(bytes(content[: ledger.torn_at]))) == 5


def test_a_hole_before_the_last_block_is_damage() -> None:
    content = bytearray(b"".join(lines(9)))
    start = len(b"".join(lines(5)))
    content[start + 10 : start + 100] = bytes(90)
    ledger = parse_ledger(bytes(content))
    assert ledger.problems
    assert ledger.torn_at is None


def test_a_line_that_is_simply_not_there_is_damage_in_the_last_block_too() -> None:
    there = lines(8)
    ledger = parse_ledger(b"".join(there[:5] + there[6:]))
    assert ledger.problems
    assert ledger.torn_at is None
