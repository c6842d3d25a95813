"""Ctrl-C while a command looks at the data: a word, exit code 3, and what was decoded is kept."""

from __future__ import annotations

import os
import signal
from pathlib import Path

import pytest

from protocols.data import decoding
from protocols.images import read_picture
from tests.bad_input.data_cases import pictures
from tests.bad_input.lab import PROTOCOL, RUN, Case, labctl


@pytest.mark.parametrize("command", [("validate", PROTOCOL), ("plan", PROTOCOL), RUN], ids=lambda args: args[0])
def test_ctrl_c_while_pictures_are_decoded_ends_in_a_word_and_keeps_them(
    command: tuple[str, ...], tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.chdir(tmp_path)
    Case("folder", "", "data: {type: folder, path: pics}").write(tmp_path)
    pictures(tmp_path, 0)
    monkeypatch.setattr(decoding, "IN_MEMORY_BYTES", 0)
    monkeypatch.setattr(decoding, "BLOCK_BYTES", 5 * 2 * 63 * 63)
    read: list[str] = []

    def interrupted(path: Path, encoding: str) -> object:
        read.append(path.name)
        if len(read) == 12:
            os.kill(os.getpid(), signal.SIGINT)
        return read_picture(path, encoding)  # type: ignore[arg-type]

    monkeypatch.setattr(decoding, "read_picture", interrupted)
    answer = labctl(*command)
    assert (answer.code, answer.out) == (3, "")
    assert answer.err.splitlines()[-1] == "stopped by the user; decoded pictures are kept, nothing else was begun"
    assert not (tmp_path / "out").exists()
    before = len(read)
    assert labctl("validate", PROTOCOL).code == 0
    assert len(read) - before <= 24 - 10, "the blocks that were done are not decoded again"
