"""What leaves a set, what stays, and that an export is there whole or not at all."""

from __future__ import annotations

import hashlib
import json
import resource
import sys
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import get_args

import numpy as np
import pytest
import typer
from typer.testing import CliRunner

from labctl.cli import dataset_files
from labctl.errors import BadInput, RunFailed
from labctl.frames.card import write_card
from labctl.frames.export.choice import choose
from labctl.frames.export.exporting import Format, export_set
from labctl.frames.marks import Mark
from labctl.frames.record import FrameRecord
from labctl.frames.scenes import write_scenes
from labctl.frames.store import FrameStore
from labctl.frames.writer import FrameWriter
from tests.labctl.frames.sets import header, record, write_set

FORMATS: tuple[Format, ...] = get_args(Format)


def of_all_levels(index: int) -> FrameRecord:
    """Scenes of every privacy level in turn, and among them a dark frame and a sentinel of a design that identifies."""
    level = ("optical", "after-readout", "none", "unknown")[index % 4]
    kind = {5: "dark", 9: "sentinel"}.get(index, "scene")
    return record(index, privacy=level, kind=kind, **({} if kind == "scene" else {"sample_id": None, "label": None}))


@pytest.fixture
def store(tmp_path: Path) -> FrameStore:
    write_set(tmp_path / "set", 12, records=of_all_levels)
    write_scenes(tmp_path / "set", range(12), np.zeros((12, 1, 2, 2), dtype=np.float32))
    return FrameStore.open(tmp_path / "set")


@contextmanager
def files_no_larger_than(size: int) -> Iterator[None]:
    """The kernel refuses every byte beyond, as a full disk does."""
    before = resource.getrlimit(resource.RLIMIT_FSIZE)
    resource.setrlimit(resource.RLIMIT_FSIZE, (size, before[1]))
    try:
        yield
    finally:
        resource.setrlimit(resource.RLIMIT_FSIZE, before)


def names_in(folder: Path) -> list[str]:
    """Also hidden ones."""
    return [path.name for path in folder.iterdir()]


def test_coded_only_leaves_out_every_frame_that_may_identify(store: FrameStore) -> None:
    choice = choose(store, coded_only=True)
    assert choice.places.tolist() == [0, 4, 5, 8]  # 5 is dark: it shows nobody
    assert sum(choice.left_out.values()) == 8
    assert any("only after the read-out" in reason for reason in choice.left_out)
    assert choice.identifying == {}
    assert choice.scene_ids() == []


def test_coded_only_is_refused_when_no_frame_of_a_scene_would_be_left(tmp_path: Path) -> None:
    store = write_set(
        tmp_path / "set", 4, records=lambda i: record(i, privacy="none", kind="dark" if i == 3 else "scene")
    )
    with pytest.raises(BadInput, match=r"nothing is left of 4 frames .* 3 are not protected"):
        choose(store, coded_only=True)


def test_coded_only_and_scenes_exclude_each_other(store: FrameStore) -> None:
    with pytest.raises(BadInput, match="cannot both be had"):
        choose(store, coded_only=True, scenes=True)


def test_scenes_stay_unless_they_are_asked_for(store: FrameStore) -> None:
    assert choose(store).scene_ids() == []
    assert len(choose(store, scenes=True).scene_ids()) == 10


def test_scenes_that_are_not_kept_cannot_be_asked_for(tmp_path: Path) -> None:
    with pytest.raises(BadInput, match="keeps no scenes"):
        choose(write_set(tmp_path / "set", 2), scenes=True)


def test_frames_in_doubt_stay_unless_they_are_asked_for(tmp_path: Path) -> None:
    write_set(tmp_path / "set", 6, finish=False)
    with FrameWriter(tmp_path / "set", header(6)) as writer:
        writer.mark(Mark(word="bad", first=2, last=3, reason="a hand in the beam"))
    store = FrameStore.open(tmp_path / "set")
    assert choose(store).places.tolist() == [0, 1, 4, 5]
    assert choose(store).left_out == {"marked as in doubt": 2}
    marks = {item.index: item.marks for item in choose(store, marked=True).items()}
    assert marks[2] == ("bad: a hand in the beam",)
    assert marks[4] == ()


@pytest.mark.parametrize("to", FORMATS)
def test_an_export_carries_its_card_and_proves_its_files(store: FrameStore, tmp_path: Path, to: Format) -> None:
    told = export_set(choose(store, scenes=True), tmp_path / "out", to)
    manifest = json.loads((tmp_path / "out" / "manifest.json").read_text())
    assert manifest == told
    assert f"an export ({to}) of 12 of the 12 frames" in (tmp_path / "out" / "card.md").read_text()
    files = {path.relative_to(tmp_path / "out").as_posix(): path for path in (tmp_path / "out").rglob("*.*")}
    files.pop("manifest.json")
    assert set(manifest["files"]) == set(files)
    for name, path in files.items():
        assert manifest["files"][name]["sha256"] == hashlib.sha256(path.read_bytes()).hexdigest()
    assert manifest["frames"] == 12
    assert manifest["by_kind"] == {"dark": 1, "scene": 10, "sentinel": 1}
    assert manifest["scenes"] == 10


def test_the_card_of_an_export_speaks_of_what_is_exported(tmp_path: Path) -> None:
    write_set(tmp_path / "set", 12, head=header(12, privacy="after-readout"), records=of_all_levels, finish=False)
    write_scenes(tmp_path / "set", range(12), np.zeros((12, 1, 2, 2), dtype=np.float32))
    with FrameWriter(tmp_path / "set", header(12, privacy="after-readout")) as writer:
        writer.mark(Mark(word="bad", first=2, last=3, reason="a hand in the beam"))
        writer.finish()
    write_card(tmp_path / "set")
    store = FrameStore.open(tmp_path / "set")
    choice = choose(store, coded_only=True, split="train")  # 0; 3, 6 and 9 are not of the level optical
    export_set(choice, tmp_path / "coded", "tiff")
    card = (tmp_path / "coded" / "card.md").read_text()
    for said in (
        "an export (tiff) of 1 of the 12 frames of the set.",
        "1 that are marked as in doubt",
        "**optical: the design is meant to protect",
        "No sharp scenes are in this export.",
        "| frames | 1: 1 scene |",
        "| samples | 1 |",
        "| splits | train 1 |",
        "one TIFF of uint16 DN per frame",
    ):
        assert said in card, said
    for said in ("IDENTIFY", "rm SET", "scenes.zarr", "FrameStore.open", "marked as in doubt (bad)", "ledger"):
        assert said not in card, said

    export_set(choose(store, scenes=True, marked=True), tmp_path / "all", "tiff")
    card = (tmp_path / "all" / "card.md").read_text()
    assert "**The sharp scenes of 10 samples lie beside the frames**" in card
    assert "**none: the frames show the scene." in card
    assert "2 frames are marked as in doubt (bad)" in card


def test_an_export_that_identifies_says_so_where_it_lies(store: FrameStore, tmp_path: Path) -> None:
    export_set(choose(store), tmp_path / "all", "tiff")
    export_set(choose(store, coded_only=True), tmp_path / "coded", "tiff")
    said = (tmp_path / "all" / "PRIVACY.txt").read_text()
    assert "protects only after the read-out" in said
    assert json.loads((tmp_path / "all" / "manifest.json").read_text())["privacy_warning"] == said.strip()
    assert not (tmp_path / "coded" / "PRIVACY.txt").exists()


@pytest.mark.parametrize("to", FORMATS)
@pytest.mark.parametrize("size", [100, 3000])
def test_a_full_disk_leaves_nothing_half(store: FrameStore, tmp_path: Path, to: Format, size: int) -> None:
    choice = choose(store, scenes=True)
    with pytest.raises(RunFailed, match=r"out cannot be written: .*; free some space"), files_no_larger_than(size):
        export_set(choice, tmp_path / "out", to)
    assert names_in(tmp_path) == ["set"]


@pytest.mark.parametrize("to", FORMATS)
def test_a_damaged_frame_stops_the_export_and_leaves_nothing_half(
    store: FrameStore, tmp_path: Path, to: Format
) -> None:
    shard = tmp_path / "set" / "frames.zarr" / "coded" / "c.1.0.0.0"
    shard.write_bytes(shard.read_bytes()[:60] + b"!" + shard.read_bytes()[61:])
    with pytest.raises(RunFailed, match=r"frame 5 .*does not match its checksum|frame 4 does not match"):
        export_set(choose(store), tmp_path / "out", to)
    assert names_in(tmp_path) == ["set"]


def test_ctrl_c_leaves_nothing_half(store: FrameStore, tmp_path: Path) -> None:
    def interrupt(done: int, total: int) -> None:
        if done == 5:
            raise KeyboardInterrupt

    with pytest.raises(KeyboardInterrupt):
        export_set(choose(store), tmp_path / "out", "tree", interrupt)
    assert names_in(tmp_path) == ["set"]


def test_nothing_that_is_there_is_replaced(store: FrameStore, tmp_path: Path) -> None:
    (tmp_path / "out").mkdir()
    with pytest.raises(BadInput, match="is there already"):
        export_set(choose(store), tmp_path / "out", "tree")
    with pytest.raises(BadInput, match="lies inside the captured set"):
        export_set(choose(store), tmp_path / "set" / "export", "tree")


@pytest.mark.parametrize(("to", "library"), [("nexus", "h5py"), ("tiff", "tifffile")])
def test_a_missing_library_is_named_with_its_remedy(
    store: FrameStore, tmp_path: Path, to: Format, library: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setitem(sys.modules, library, None)
    monkeypatch.delitem(sys.modules, f"labctl.frames.export.{to}", raising=False)
    with pytest.raises(BadInput, match=rf"needs the library {library}; .*pip install 'labctl\[export\]'"):
        export_set(choose(store), tmp_path / "out", to)
    assert names_in(tmp_path) == ["set"]


def test_the_command_exports_and_says_what_stays(store: FrameStore, tmp_path: Path) -> None:
    app = typer.Typer()
    dataset_files.register(app)
    out = tmp_path / "out"
    arguments = ["export", store.where, "--to", "tree", "--out", str(out), "--coded-only", "--json"]
    result = CliRunner().invoke(app, arguments)
    assert result.exit_code == 0, result.output
    assert "left out: 3 frames that are of a design of unknown privacy" in result.stderr
    assert json.loads(result.stdout.splitlines()[-1])["frames"] == 4
    assert (out / "manifest.json").is_file()
