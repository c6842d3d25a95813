from __future__ import annotations

from pathlib import Path

import pytest

from labctl.durable import append_line, read_lines, write_json, write_whole


def test_appended_lines_are_read_in_order(tmp_path: Path) -> None:
    for number in range(3):
        append_line(tmp_path / "log", {"n": number})
    assert [row["n"] for row in read_lines(tmp_path / "log")] == [0, 1, 2]


def test_a_torn_line_is_cut_off_before_the_next_one(tmp_path: Path) -> None:
    append_line(tmp_path / "log", {"n": 0})
    with (tmp_path / "log").open("ab") as file:
        file.write(b'{"n": 1')
    assert [row["n"] for row in read_lines(tmp_path / "log")] == [0]
    append_line(tmp_path / "log", {"n": 2})
    assert [row["n"] for row in read_lines(tmp_path / "log")] == [0, 2]


def test_a_replaced_file_is_whole_and_leaves_nothing_beside_it(tmp_path: Path) -> None:
    write_whole(tmp_path / "a", "old")
    write_json(tmp_path / "a", {"new": 1})
    assert (tmp_path / "a").read_text() == '{\n  "new": 1\n}\n'
    assert [path.name for path in tmp_path.iterdir() if path.name != "state"] == ["a"]


def test_a_number_that_is_no_number_is_never_written(tmp_path: Path) -> None:
    with pytest.raises(ValueError, match="not JSON compliant"):
        append_line(tmp_path / "log", {"loss": float("nan")})
