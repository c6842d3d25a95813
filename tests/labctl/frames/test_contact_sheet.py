"""A contact sheet shows the frames on one grey scale; histograms show what the set did."""

from __future__ import annotations

import io
import json
from pathlib import Path
from typing import Any

import numpy as np
import numpy.typing as npt
import pytest
import typer
from matplotlib.axes import Axes
from PIL import Image
from typer.testing import CliRunner

from labctl.cli import dataset_files
from labctl.errors import BadInput
from labctl.frames import frame_histograms
from labctl.frames.contact_sheet import contact_sheet, evenly
from labctl.frames.figure_style import MARK_COLOURS, cut, drawable, width_of
from labctl.frames.frame_histograms import histograms
from labctl.frames.marks import Mark
from labctl.frames.record import FrameRecord
from labctl.frames.scenes import Scenes, write_scenes
from labctl.frames.store import FrameStore
from labctl.frames.writer import FrameWriter
from tests.labctl.frames.sets import header, record, write_set

SHAPE = (1, 4, 4)


def steps(index: int) -> npt.NDArray[np.uint16]:
    """A frame of four columns, each of its own level; the same for all but frame 1, which is half as bright."""
    levels = np.broadcast_to(np.array([100, 1100, 2100, 3100], dtype=np.uint16), SHAPE)
    return levels // 2 if index == 1 else levels.copy()


def kinds(index: int) -> FrameRecord:
    kind = {2: "dark", 3: "background", 4: "sentinel", 5: "sentinel"}.get(index, "scene")
    return record(index, kind=kind, **({} if kind == "scene" else {"sample_id": None, "label": None, "split": None}))


def histogram_of(store: FrameStore, places: npt.NDArray[np.int64]) -> tuple[npt.NDArray[np.float64], int]:
    return frame_histograms._histogram(store, places, np.arange(0, 4097, 16))


def picture(png: bytes) -> npt.NDArray[np.int64]:
    return np.asarray(Image.open(io.BytesIO(png)).convert("RGB"), dtype=np.int64)


def test_frames_share_one_grey_scale_with_black_and_white_at_its_ends(tmp_path: Path) -> None:
    store = write_set(tmp_path / "set", 2, head=header(2, frame_shape=SHAPE), images=steps)
    sheet = picture(contact_sheet(store, store.select()))
    span = 3100 - 50
    for level in (50, 550, 1050, 1550, 100, 1100, 2100, 3100):
        grey = round(255 * (level - 50) / span)
        shown = (np.abs(sheet[150:] - grey).max(axis=-1) <= 1).sum()
        assert shown > 5000, f"{level} DN, grey {grey}"


def test_a_marked_frame_is_framed_in_the_colour_of_its_mark(tmp_path: Path) -> None:
    write_set(tmp_path / "set", 4, finish=False)
    before = FrameStore.open(tmp_path / "set")
    plain = picture(contact_sheet(before, before.select(marked=None)))
    with FrameWriter(tmp_path / "set", header(4)) as writer:
        writer.mark(Mark(word="doubtful", first=1, last=1, reason="no pattern was seen"))
    store = FrameStore.open(tmp_path / "set")
    framed = picture(contact_sheet(store, store.select(marked=None)))
    colour = [int(MARK_COLOURS["doubtful"][i : i + 2], 16) for i in (1, 3, 5)]
    assert (plain == colour).all(axis=-1).sum() == 0
    assert (framed == colour).all(axis=-1).sum() > 1000


def drawn(monkeypatch: pytest.MonkeyPatch) -> list[str]:
    """Every text that is put on a sheet from now on."""
    texts: list[str] = []
    put = Axes.text

    def noted(axes: Axes, x: float, y: float, text: str, *more: Any, **how: Any) -> Any:
        texts.append(text)
        return put(axes, x, y, text, *more, **how)

    monkeypatch.setattr(Axes, "text", noted)
    return texts


def test_dark_frames_have_a_grey_scale_of_their_own_and_say_so(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    def images(index: int) -> npt.NDArray[np.uint16]:
        return np.array([60, 62, 64, 66], np.uint16) + np.zeros(SHAPE, np.uint16) if index == 2 else steps(0)

    store = write_set(tmp_path / "set", 6, head=header(6, frame_shape=SHAPE), images=images, records=kinds)
    texts = drawn(monkeypatch)
    sheet = picture(contact_sheet(store, store.select(kind=None)))
    assert texts.count("own grey scale 60 to 66 DN") == 1
    assert not [text for text in texts if "one grey scale for all" in text]
    assert (np.abs(sheet[150:] - 170).max(axis=-1) <= 1).sum() > 5000  # 64 DN, two thirds of the way


def test_every_rung_of_a_ladder_has_its_grey_scale_and_is_named_above_its_frames(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    store = write_set(
        tmp_path / "set", 2, head=header(2, frame_shape=SHAPE, ladder=(1.0, 0.5)), images=steps,
        records=lambda index: record(index, sample_id=0, label=0, rung=index, exposure_s=0.002 / (1 + index)),
    )  # fmt: skip
    texts = drawn(monkeypatch)
    sheet = picture(contact_sheet(store, store.select()))
    assert "grey scales: rung 0: 100 to 3100 DN, rung 1: 50 to 1550 DN" in texts
    assert any(text.startswith("rung 1, 1 ms") for text in texts)
    assert "above each frame: frame index, rung and exposure, label, split" in texts
    for grey in (0, 85, 170, 255):  # both fill their scale
        assert (np.abs(sheet[200:] - grey).max(axis=-1) <= 1).sum() > 20_000


def test_frames_that_show_no_scene_have_no_place_for_one(tmp_path: Path) -> None:
    store = write_set(tmp_path / "set", 6, head=header(6, frame_shape=SHAPE), images=steps, records=kinds)
    write_scenes(tmp_path / "set", [0, 1], np.ones((2, 1, 4, 4), dtype=np.float32))
    sheet = picture(contact_sheet(store, store.select(kind=None), scenes=Scenes.open(store.where)))
    assert (sheet[200:] == (228, 231, 235)).all(axis=-1).sum() == 0


def test_a_line_through_sentinels_breaks_at_an_interruption() -> None:
    assert frame_histograms._gaps(np.array([0.0, 1, 2, 3, 40, 41, 42])).tolist() == [4]
    assert frame_histograms._gaps(np.array([0.0])).tolist() == []


def test_a_choice_without_frames_is_told_what_there_is(tmp_path: Path) -> None:
    store = write_set(tmp_path / "set", 6, records=kinds)
    app = typer.Typer()
    dataset_files.register(app)
    for asked, said in (
        (["--label", "11"], "asked for (label '11'); of 6 frames, labels: anna 2, ben 2, chloé 2"),
        (["--marked"], "asked for (marked); of 6 frames, marked: 0"),
        (
            ["--kind", "dark", "--split", "train"],
            "(kind 'dark', split 'train'); of 6 frames, kinds: scene 2, dark 1, background 1, sentinel 2; splits: "
            "train 1, val 1; only scenes have labels and splits",
        ),
    ):
        answer = CliRunner().invoke(app, ["view", store.where, "--out", str(tmp_path / "x.png"), *asked])
        assert said in str(answer.exception)


def test_every_kind_of_frame_has_rows_of_its_own(tmp_path: Path) -> None:
    store = write_set(tmp_path / "set", 6, records=kinds)
    only = picture(contact_sheet(store, store.select(kind="scene")))
    everything = picture(contact_sheet(store, store.select(kind=None)))
    assert only.shape[1] == everything.shape[1]
    blank = (everything == 255).all(axis=(1, 2))
    runs = np.flatnonzero(np.diff(blank.astype(int)) == -1)
    assert len(runs) >= 1 + 4 * 2  # the head; then a title and a row for each kind


def test_scenes_stand_beside_their_frames_only_when_asked_for(tmp_path: Path) -> None:
    store = write_set(tmp_path / "set", 1, head=header(1, frame_shape=SHAPE), images=lambda index: steps(0))
    red = np.zeros((1, 3, 4, 4), dtype=np.float32)
    red[:, 0] = 1
    write_scenes(tmp_path / "set", [0], red)
    without = picture(contact_sheet(store, store.select()))
    with_scene = picture(contact_sheet(store, store.select(), scenes=Scenes.open(store.where)))
    assert (without == (255, 0, 0)).all(axis=-1).sum() == 0
    assert (with_scene == (255, 0, 0)).all(axis=-1).sum() > 10_000


def test_a_damaged_frame_is_left_blank_and_the_others_are_shown(tmp_path: Path) -> None:
    store = write_set(tmp_path / "set", 4)
    shard = tmp_path / "set" / "frames.zarr" / "coded" / "c.0.0.0.0"
    shard.write_bytes(b"!" + shard.read_bytes()[1:])
    damaged = picture(contact_sheet(store, store.select()))
    assert (damaged == (228, 231, 235)).all(axis=-1).sum() > 10_000
    assert histogram_of(store, store.select())[1] == 3


def test_pictures_are_spread_evenly_from_the_first_to_the_last() -> None:
    assert evenly(np.arange(5), 9).tolist() == [0, 1, 2, 3, 4]
    assert evenly(np.arange(101), 5).tolist() == [0, 25, 50, 75, 100]


@pytest.mark.parametrize("shape", [(1, 1, 300), (1, 300, 1), (2, 5, 7)])
def test_frames_of_any_shape_can_be_seen(tmp_path: Path, shape: tuple[int, int, int]) -> None:
    store = write_set(tmp_path / "set", 3, head=header(3, frame_shape=shape))
    assert picture(contact_sheet(store, store.select())).shape[1] == 1720


def test_a_long_label_is_cut_to_its_place_and_a_strange_one_gives_its_number() -> None:
    assert width_of(cut("Ångström-Müller " * 20, 200, 7), 7) <= 200
    assert cut("short", 200, 7) == "short"
    assert drawable("two\nlines", "label 1") == "two lines"
    assert drawable("\U0010fffd", "label 1") == "label 1"  # for private use: no font has it


def test_labels_in_any_letters_can_be_seen(tmp_path: Path) -> None:
    names = ("$\\frac{1}{", "三毛猫", "عربي", "x" * 300, "a\tb\nc", "👩‍🔬")
    records = [record(i, label=i, label_name=name) for i, name in enumerate(names)]
    store = write_set(tmp_path / "set", len(names), records=records)
    assert contact_sheet(store, store.select())
    assert histograms(store, store.select())


def test_histograms_tell_a_drift_of_the_sentinels_from_their_noise(tmp_path: Path) -> None:
    def brighter(index: int) -> Any:
        return (steps(0).astype(np.float64) * (1 + 0.05 * index)).astype(np.uint16)

    store = write_set(
        tmp_path / "set", 5, head=header(5, frame_shape=SHAPE), images=brighter,
        records=lambda index: record(index, kind="sentinel", black_level_dn=0.0),
    )  # fmt: skip
    drift = frame_histograms._sentinel_drift(store, store.select(kind=None))
    assert drift is not None
    np.testing.assert_allclose(drift.brightness, [0, 5, 10, 15, 20], atol=0.1)
    np.testing.assert_allclose(drift.unlikeness, 0, atol=0.01)


def test_the_histogram_counts_every_pixel_once_in_its_bin(tmp_path: Path) -> None:
    store = write_set(tmp_path / "set", 3, head=header(3, frame_shape=SHAPE), images=steps)
    counts, frames = histogram_of(store, store.select())
    assert frames == 3
    expected, _ = np.histogram(store.read(store.select()), np.arange(0, 4097, 16))
    np.testing.assert_array_equal(counts, expected)


def test_a_wall_clock_that_was_set_back_is_not_used_as_the_axis(tmp_path: Path) -> None:
    records = [record(i, unix_time_s=1e9 + (100, 50, 200)[i]) for i in range(3)]
    store = write_set(tmp_path / "set", 3, records=records)
    times = frame_histograms._times(store, store.select())
    assert times.label == "frame"
    assert times.values.tolist() == [0, 1, 2]


def test_the_command_writes_two_pictures_and_replaces_none(tmp_path: Path) -> None:
    store = write_set(tmp_path / "set", 4)
    app = typer.Typer()
    dataset_files.register(app)
    out = tmp_path / "sheet.png"
    result = CliRunner().invoke(app, ["view", store.where, "--out", str(out), "--label", "anna", "--json"])
    assert result.exit_code == 0, result.output
    told = json.loads(result.stdout.splitlines()[-1])
    assert told["frames"] == 2
    assert picture(out.read_bytes()).shape == picture(Path(told["contact_sheet"]).read_bytes()).shape
    assert picture(Path(told["histograms"]).read_bytes()).size
    again = CliRunner().invoke(app, ["view", store.where, "--out", str(out)])
    assert isinstance(again.exception, BadInput)
    assert "is there already" in str(again.exception)
