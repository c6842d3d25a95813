"""The power cuts of these tests take what a disk would take, and nothing else."""

from __future__ import annotations

import os
import random
from collections.abc import Callable
from pathlib import Path

import pytest

from tests.kills.power import Disk


@pytest.fixture
def root(tmp_path: Path) -> Path:
    (tmp_path / "root").mkdir()
    return tmp_path / "root"


@pytest.fixture
def cut(root: Path, tmp_path: Path) -> Callable[[Callable[[], None]], None]:
    """Does something, and cuts the power."""

    def do(work: Callable[[], None]) -> None:
        disk = Disk(root, tmp_path / "notes")
        disk.all_is_safe()
        with disk.watching():
            work()
        disk.cut("worst", random.Random(0))

    return do


def sync(path: Path) -> None:
    number = os.open(path, os.O_RDONLY)
    os.fsync(number)
    os.close(number)


def test_a_file_is_there_only_once_its_folder_was_synced(root: Path, cut: Callable[..., None]) -> None:
    def work() -> None:
        for name in ("neither", "content", "both"):
            (root / name).write_bytes(b"words")
        sync(root / "content")
        sync(root / "both")
        (root / "neither").rename(root / "moved")
        sync(root)
        (root / "late").write_bytes(b"words")
        sync(root / "late")

    cut(work)
    found = {path.name: path.read_bytes() for path in root.iterdir()}
    assert found == {"moved": b"", "content": b"words", "both": b"words"}


def test_what_was_written_after_the_last_sync_is_lost(root: Path, cut: Callable[..., None]) -> None:
    (root / "log").write_bytes(b"before ")

    def work() -> None:
        with (root / "log").open("ab") as file:
            file.write(b"synced ")
            file.flush()
            os.fsync(file.fileno())
            file.write(b"lost")

    cut(work)
    assert (root / "log").read_bytes() == b"before synced "


def test_a_file_that_was_replaced_has_its_old_content_until_the_folder_is_synced(
    root: Path, cut: Callable[..., None]
) -> None:
    (root / "settings").write_bytes(b"old")

    def work() -> None:
        (root / "new").write_bytes(b"new")
        sync(root / "new")
        (root / "new").replace(root / "settings")

    cut(work)
    assert {path.name: path.read_bytes() for path in root.iterdir()} == {"settings": b"old"}
    cut(lambda: (work(), sync(root)))  # type: ignore[func-returns-value]
    assert {path.name: path.read_bytes() for path in root.iterdir()} == {"settings": b"new"}


def test_mixed_cuts_never_touch_what_was_synced_and_never_lose_a_file_that_moved(root: Path, tmp_path: Path) -> None:
    outcomes = set()
    for seed in range(40):
        for folder in ("spool", "array"):
            (root / folder).mkdir(exist_ok=True)
        (root / "spool" / "0").write_bytes(b"s" * 1500)
        disk = Disk(root, tmp_path / "notes")
        disk.all_is_safe()
        with disk.watching():
            with (root / "spool" / "0").open("ab") as file:
                file.write(b"n" * 3000)
            (root / "spool" / "0").rename(root / "array" / "0")
        disk.cut("mixed", random.Random(seed))
        places = [path for path in (root / "spool" / "0", root / "array" / "0") if path.exists()]
        assert places
        content = places[0].read_bytes()
        assert content[:1500] == b"s" * 1500
        outcomes |= {places[0].parent.name, "torn" if b"\0" in content else "whole"}
        for path in places:
            path.unlink()
    assert outcomes == {"spool", "array", "torn", "whole"}
