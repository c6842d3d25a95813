"""Every format, read back by the library that others read it with, is the set: pixels and records."""

from __future__ import annotations

import csv
import json
from pathlib import Path
from typing import Any

import h5py
import numpy as np
import pytest
import tifffile
import webdataset
from PIL import Image

from labctl.frames.export.choice import choose
from labctl.frames.export.exporting import Format, export_set
from labctl.frames.export.webdataset import write_webdataset
from labctl.frames.marks import Mark
from labctl.frames.record import FrameRecord, Retry, WitnessScore
from labctl.frames.scenes import write_scenes
from labctl.frames.store import FrameStore
from labctl.frames.writer import FrameWriter
from tests.labctl.frames.sets import header, pixels, record, write_set

COUNT = 12
LEAVES_FILES_OPEN = pytest.mark.filterwarnings("ignore:unclosed file:ResourceWarning")  # webdataset does
LABELS = ("anna", "../ben", "三毛猫 $x$")


def mixed(index: int) -> FrameRecord:
    """Every fourth frame is no scene; labels are wild; what may be unknown is unknown somewhere."""
    kinds = {3: "dark", 7: "background", 11: "sentinel"}
    if index in kinds:
        return record(index, kind=kinds[index], sample_id=None, label=None, label_name=None, split=None)
    more: dict[str, Any] = {"label_name": LABELS[index % 3]}
    if index == 4:
        more.update(retries=(Retry(attempt=0, reason="stale"),), attempt=1, black_level_dn=None, split=None)
        more.update(witness=WitnessScore(own=0.9, previous_share=0.01, word="right"), instruments={"lamp.power": None})
    return record(index, **more)


@pytest.fixture(scope="module")
def store(tmp_path_factory: pytest.TempPathFactory) -> FrameStore:
    folder = tmp_path_factory.mktemp("sets") / "set"
    write_set(folder, COUNT, head=header(COUNT, class_names=LABELS), records=mixed, finish=False)
    with FrameWriter(folder, header(COUNT)) as writer:
        writer.mark(Mark(word="drift", first=8, last=8, reason="the sentinel moved"))
        writer.finish()
    scenes = np.random.default_rng(0).random((COUNT, 3, 5, 7), dtype=np.float32)
    write_scenes(folder, np.arange(COUNT), scenes)
    (folder / "card.md").write_text("# the card\n")
    return FrameStore.open(folder)


def exported(store: FrameStore, tmp_path: Path, to: Format) -> Path:
    out = tmp_path / to
    export_set(choose(store, marked=True, scenes=True), out, to)
    return out


def scene(store: FrameStore, sample: int) -> Any:
    from labctl.frames.scenes import Scenes

    scenes = Scenes.open(store.where)
    assert scenes is not None
    return scenes.scene(sample)


def test_nexus_leads_a_reader_from_the_root_to_the_frames(store: FrameStore, tmp_path: Path) -> None:
    with h5py.File(exported(store, tmp_path, "nexus") / "frames.nxs") as file:
        entry = file[file.attrs["default"]]
        plot = entry[entry.attrs["default"]]
        frames = plot[plot.attrs["signal"]]
        assert plot.attrs["NX_class"] == "NXdata"
        assert list(plot.attrs["axes"]) == ["sequence_number", ".", "."]
        assert frames.chunks == (1, *store.header.frame_shape[1:])
        assert frames.attrs["units"] == "counts"
        np.testing.assert_array_equal(frames[:], store.read(range(COUNT))[:, 0])
        np.testing.assert_array_equal(plot[plot.attrs["axes"][0]][:], np.arange(COUNT))
        classes = {path: file[path].attrs["NX_class"] for path in ("/", "/entry", "/entry/instrument/detector")}
        assert classes == {"/": "NXroot", "/entry": "NXentry", "/entry/instrument/detector": "NXdetector"}


def test_nexus_holds_every_field_of_every_record(store: FrameStore, tmp_path: Path) -> None:
    with h5py.File(exported(store, tmp_path, "nexus") / "frames.nxs") as file:
        detector, records = file["entry/instrument/detector"], file["entry/records"]
        assert list(detector["image_key"][:]) == [0, 0, 0, 2, 0, 0, 0, 4, 3, 0, 0, 0]
        np.testing.assert_array_equal(detector["count_time"][:], store.column("exposure_s"))
        np.testing.assert_allclose(detector["stop_time"][:], 0.01 * np.arange(COUNT), atol=1e-6)
        assert set(records) == {*FrameRecord.model_fields, "marks"}
        for name in ("exposure_s", "black_level_dn", "split", "frame_id"):
            np.testing.assert_array_equal(records[name][:], store.column(name))
        for name in ("label_name", "kind", "scene_hash", "privacy"):
            assert list(records[name].asstr()[:]) == store.column(name).tolist()
        assert json.loads(records["retries"].asstr()[4]) == [{"attempt": 0, "reason": "stale"}]
        assert json.loads(records["witness"].asstr()[4])["word"] == "right"
        lamp = file["entry/instrument/lamp.power"]
        assert lamp.attrs["NX_class"] == "NXlog"
        np.testing.assert_array_equal(lamp["value"][:], [0.8] * 4 + [np.nan] + [0.8] * 7)
        assert json.loads(file["entry/header/data"].asstr()[()])["set_id"] == store.header.set_id
        np.testing.assert_array_equal(file["entry/scenes/data"][1], scene(store, file["entry/scenes/sample_id"][1]))


def test_a_tiff_of_a_frame_opens_alone_and_knows_what_it_is(store: FrameStore, tmp_path: Path) -> None:
    out = exported(store, tmp_path, "tiff")
    for place, line in enumerate((out / "metadata.jsonl").read_text().splitlines()):
        said = json.loads(line)
        with tifffile.TiffFile(out / said["file"]) as file:
            np.testing.assert_array_equal(file.asarray(), store.frame(place)[0])
            assert file.asarray().dtype == np.uint16
            told = json.loads(file.pages.first.description)
        assert told == {name: value for name, value in said.items() if name != "file"}
        assert (
            FrameRecord.model_validate({k: v for k, v in told.items() if k not in ("index", "marks")})
            == (store.records[place])
        )
    assert place == COUNT - 1
    np.testing.assert_array_equal(tifffile.imread(out / "scenes" / "00000005.tif"), scene(store, 5))


@LEAVES_FILES_OPEN
def test_webdataset_decodes_what_was_written(store: FrameStore, tmp_path: Path) -> None:
    out = exported(store, tmp_path, "webdataset")
    read = 0
    for tar in sorted(out.glob("*.tar")):
        for sample in webdataset.WebDataset(str(tar), shardshuffle=False).decode():
            index = int(sample["__key__"])
            known = store.records[index]
            np.testing.assert_array_equal(sample["frame.npy"], store.frame(index))
            assert sample["json"]["index"] == index
            assert sample["json"]["scene_hash"] == known.scene_hash
            if known.sample_id is not None:
                assert sample["cls"] == known.label
                np.testing.assert_array_equal(sample["scene.npy"], scene(store, known.sample_id))
            read += 1
    assert read == COUNT
    names = {tar.name.rsplit("-", 1)[0] for tar in out.glob("*.tar")}
    assert names == {"train", "val", "test", "unsplit", "dark", "background", "sentinel"}


@LEAVES_FILES_OPEN
def test_webdataset_begins_a_new_tar_file_when_one_is_full(store: FrameStore, tmp_path: Path) -> None:
    write_webdataset(choose(store, split="train"), tmp_path, lambda: None, shard_bytes=4000)
    tars = sorted(tmp_path.glob("train-*.tar"))
    assert [tar.name for tar in tars] == [f"train-{number:06d}.tar" for number in range(len(tars))]
    keys = [sample["__key__"] for tar in tars for sample in webdataset.WebDataset(str(tar), shardshuffle=False)]
    assert len(tars) > 1
    assert [int(key) for key in keys] == store.select(split="train").tolist()


def test_a_tree_of_pngs_holds_the_frames_by_split_and_label(store: FrameStore, tmp_path: Path) -> None:
    out = exported(store, tmp_path, "tree")
    with (out / "labels.csv").open(encoding="utf-8", newline="") as file:
        folders = {row["folder"]: row for row in csv.DictReader(file)}
    assert {row["label_name"] for row in folders.values()} == set(LABELS)
    lines = [json.loads(line) for line in (out / "metadata.jsonl").read_text().splitlines()]
    assert len(lines) == COUNT
    for said in lines:
        path = out / said["file"]
        assert path.resolve().is_relative_to(out)
        with Image.open(path) as picture:
            np.testing.assert_array_equal(np.asarray(picture), store.frame(said["index"])[0])
            assert json.loads(picture.info["labctl"])["scene_hash"] == said["scene_hash"]
        if said["kind"] == "scene":
            split, folder, _ = said["file"].split("/")
            assert split == ("unsplit" if said["split"] is None else ("train", "val", "test")[said["split"]])
            assert folders[folder]["label_name"] == said["label_name"]
        else:
            assert said["file"].startswith(f"{said['kind']}/")
    np.testing.assert_array_equal(np.load(out / "scenes" / "00000002.npy"), scene(store, 2))


def test_frames_of_three_channels_leave_whole(tmp_path: Path) -> None:
    head = header(2, frame_shape=(3, 4, 6))
    colour = write_set(tmp_path / "set", 2, head=head, images=lambda index: pixels(index, (3, 4, 6)))
    choice = choose(colour)
    for to in ("nexus", "tiff", "tree"):
        export_set(choice, tmp_path / to, to)
    with h5py.File(tmp_path / "nexus" / "frames.nxs") as file:
        np.testing.assert_array_equal(file["entry/data/data"][:], colour.read([0, 1]))
    np.testing.assert_array_equal(tifffile.imread(tmp_path / "tiff" / "frames" / "00000001.tif"), colour.frame(1))
    layers = sorted((tmp_path / "tree").rglob("00000001-c?.png"))
    np.testing.assert_array_equal(np.stack([np.asarray(Image.open(layer)) for layer in layers]), colour.frame(1))


def test_the_split_asked_for_is_the_one_that_is_written(tmp_path: Path) -> None:
    store = write_set(tmp_path / "set", 4)
    (tmp_path / "set" / "splits").mkdir()
    (tmp_path / "set" / "splits" / "mine.json").write_text(json.dumps({"split_of_sample": {"0": 2, "1": 2, "2": 0}}))
    export_set(choose(store, splitting="mine", split="test"), tmp_path / "out", "tree")
    lines = [json.loads(line) for line in (tmp_path / "out" / "metadata.jsonl").read_text().splitlines()]
    assert [(line["index"], line["split"], line["file"].split("/")[0]) for line in lines] == [
        (0, 2, "test"),
        (1, 2, "test"),
    ]
