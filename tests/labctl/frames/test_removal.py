"""Removing a set: all of it or nothing that could be mistaken for it, never what is not its own."""

from __future__ import annotations

import shutil
from pathlib import Path

import numpy as np
import pytest

from labctl.errors import BadInput, RunFailed
from labctl.frames import removal
from labctl.frames.card import write_card
from labctl.frames.finding import find_set, open_set, writer_of
from labctl.frames.layout import is_set
from labctl.frames.merge import merge
from labctl.frames.removal import REMOVED, remove_ground_truth, remove_set
from labctl.frames.scenes import Scenes, write_scenes
from labctl.frames.store import FrameStore
from labctl.frames.verify import verify
from labctl.frames.writer import FrameWriter
from tests.labctl.frames.sets import header, scene, write_set


def test_a_removed_set_leaves_nothing(tmp_path: Path) -> None:
    write_set(tmp_path / "set")
    write_card(tmp_path / "set")
    write_scenes(tmp_path / "set", [0], scene(0)[None])
    assert remove_set(tmp_path / "set") == []
    assert not (tmp_path / "set").exists()


def test_files_that_are_not_the_sets_own_stay(tmp_path: Path) -> None:
    write_set(tmp_path / "set")
    (tmp_path / "set" / "thesis.tex").write_text("three years")
    (tmp_path / "elsewhere").mkdir()
    (tmp_path / "elsewhere" / "picture").touch()
    (tmp_path / "set" / "splits").symlink_to(tmp_path / "elsewhere")
    assert remove_set(tmp_path / "set") == ["thesis.tex"]
    assert (tmp_path / "set" / "thesis.tex").read_text() == "three years"
    assert (tmp_path / "elsewhere" / "picture").exists(), "a link is removed, not what it leads to"


def test_a_half_removed_set_is_no_set_and_a_second_removal_ends_it(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    folder = write_set(tmp_path / "set").folder

    def refuse(path: Path) -> None:
        raise OSError(5, "Input/output error")

    with monkeypatch.context() as patch:
        patch.setattr(shutil, "rmtree", refuse)
        with pytest.raises(RunFailed, match="it is no set any more"):
            remove_set(folder)
    assert not is_set(folder)
    with pytest.raises(BadInput, match="is no captured set"):
        FrameStore.open(folder)
    assert remove_set(folder) == []
    assert not folder.exists()


def test_what_is_being_written_is_not_removed(tmp_path: Path) -> None:
    with FrameWriter(tmp_path, header(3)):
        for remove in (remove_set, remove_ground_truth):
            with pytest.raises(BadInput, match="is being written by process"):
                remove(tmp_path)
    assert is_set(tmp_path)


def test_a_folder_that_is_no_set_is_not_removed(tmp_path: Path) -> None:
    (tmp_path / "finished.json").touch()
    for remove in (remove_set, remove_ground_truth):
        with pytest.raises(BadInput, match="nothing was removed"):
            remove(tmp_path)
    assert (tmp_path / "finished.json").exists()


def test_ground_truth_goes_alone_and_the_card_says_so(tmp_path: Path) -> None:
    store = write_set(tmp_path)
    write_scenes(tmp_path, range(3), np.stack([scene(index) for index in range(3)]))
    write_card(tmp_path)
    assert remove_ground_truth(tmp_path)
    assert Scenes.open(tmp_path) is None
    assert "The sharp scenes are not kept" in (tmp_path / "card.md").read_text()
    assert verify(store).findings == ()
    assert not remove_ground_truth(tmp_path)


def test_a_set_of_the_older_schema_can_be_removed_once_it_was_taken_over(tmp_path: Path) -> None:
    shutil.copytree(Path(__file__).parent / "frames-1", tmp_path / "old")
    merge([tmp_path / "old"], tmp_path / "new")
    assert remove_set(tmp_path / "old") == []
    assert verify(open_set(tmp_path / "new")).ok


def test_the_first_thing_removed_is_the_name_of_the_header(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    folder = write_set(tmp_path / "set").folder
    seen: list[tuple[bool, bool]] = []
    real = removal._remove
    monkeypatch.setattr(
        removal, "_remove", lambda path: (seen.append((is_set(folder), (folder / REMOVED).exists())), real(path))
    )
    remove_set(folder)
    assert seen[0] == (False, True)


# --- which set is meant


def test_a_set_is_found_in_its_run_and_several_are_named(tmp_path: Path) -> None:
    write_set(tmp_path / "run" / "artifacts" / "capture" / "disc" / "seed0" / "frames", 2)
    assert open_set(tmp_path / "run").header.set_id == "set-1"
    assert find_set("s3://bucket/set") == "s3://bucket/set"
    write_set(tmp_path / "run" / "artifacts" / "capture" / "open" / "seed0" / "frames", 2)
    with pytest.raises(BadInput, match=r"holds 2 captured sets; give one of them:\n.*disc.*\n.*open"):
        find_set(tmp_path / "run")


def test_a_folder_without_a_set_and_no_folder_at_all_are_refused(tmp_path: Path) -> None:
    with pytest.raises(BadInput, match="is no captured set"):
        find_set(tmp_path)
    with pytest.raises(BadInput, match="there is no"):
        find_set(tmp_path / "nothing")


def test_asking_who_writes_a_copy_leaves_nothing_behind(tmp_path: Path) -> None:
    write_set(tmp_path / "set")
    (tmp_path / "set" / ".writer.lock").unlink()
    assert writer_of(tmp_path / "set") is None
    assert not (tmp_path / "set" / ".writer.lock").exists()
