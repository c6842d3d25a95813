"""Exported masks: what is read back from every file is the mask, cell for cell, the right way up, at exact lengths."""

from __future__ import annotations

import datetime
import hashlib
import json
import shutil
import sys
from pathlib import Path
from typing import Any
from xml.etree import ElementTree

import numpy as np
import numpy.typing as npt
import pytest
from PIL import Image
from typer.testing import CliRunner

import labctl
from labctl.cli.app import app
from labctl.config import ConfigError
from labctl.errors import BadInput, RunFailed
from labctl.rig_file import RigSpec, find_rig, load_rig
from labctl.store import RunFolder
from protocols.mask_export import MaskFiles, export_mask
from protocols.mask_export.artwork import Artwork, artwork_of, pitch_in_nm
from protocols.mask_export.gds import compare_gds, read_gds
from protocols.mask_export.png import compare_png
from protocols.mask_export.svg import compare_svg
from protocols.report.sections import PARTS
from protocols.report.step import write_report

gdstk = pytest.importorskip("gdstk")

PITCH_M = 12.5e-6

F_SHAPE = np.array(
    [
        [1, 1, 1, 1],
        [1, 0, 0, 0],
        [1, 1, 1, 0],
        [1, 0, 0, 0],
        [1, 0, 0, 0],
    ],
    dtype=np.float32,
)

RANDOM = np.random.default_rng(3)

MASKS = {
    "random": (RANDOM.random((17, 23)) < 0.5).astype(np.float32),
    "sparse": (RANDOM.random((64, 48)) < 0.05).astype(np.float64),
    "single cell": np.ones((1, 1)),
    "one open cell": np.pad(np.ones((1, 1)), ((2, 3), (4, 0))),
    "all open": np.ones((7, 5)),
    "all closed": np.zeros((5, 7)),
    "checkerboard": np.indices((8, 9)).sum(axis=0) % 2.0,
    "ring": np.pad(np.zeros((3, 3)), 1, constant_values=1.0),
    "one row": (RANDOM.random((1, 40)) < 0.5).astype(np.float32),
    "F": F_SHAPE,
}


@pytest.fixture
def rig(configs: Path) -> RigSpec:
    return load_rig(configs / "rigs" / "sim.yaml")


def drawn_by_gdstk(path: Path, shape: tuple[int, ...], pitch_um: float) -> npt.NDArray[np.bool_]:
    """Cells whose centres and four inner corners lie inside a polygon, asked of gdstk itself; y up, so turned over."""
    polygons = gdstk.read_gds(path).cells[0].polygons
    inside = np.ones(shape, dtype=bool)
    for dx, dy in ((0.5, 0.5), (0.01, 0.01), (0.99, 0.01), (0.01, 0.99), (0.99, 0.99)):
        x, y = np.meshgrid((np.arange(shape[1]) + dx) * pitch_um, (np.arange(shape[0]) + dy) * pitch_um)
        points = np.column_stack([x.ravel(), y.ravel()])
        inside &= np.reshape(gdstk.inside(points, polygons) if polygons else [False] * len(points), shape)
    return inside[::-1]


@pytest.mark.parametrize("merge", [True, False])
@pytest.mark.parametrize("name", MASKS)
def test_what_is_read_back_is_the_mask_cell_for_cell(tmp_path: Path, rig: RigSpec, name: str, merge: bool) -> None:
    mask = MASKS[name]
    settings = MaskFiles(formats=("gds", "svg", "png"), merge=merge)
    told = export_mask(mask, tmp_path, pitch_m=PITCH_M, rig=rig, settings=settings)
    np.testing.assert_array_equal(drawn_by_gdstk(tmp_path / "mask.gds", mask.shape, 12.5), mask > 0)
    np.testing.assert_array_equal(drawn_in_svg(tmp_path / "mask.svg", mask.shape, 0.0125), mask > 0)
    with Image.open(tmp_path / "mask-panel.png") as picture:
        np.testing.assert_array_equal(np.asarray(picture), rig.roads.mask.levels(mask))
    assert [file["read_back"]["equal_cells"] for file in told["files"]] == [mask.size] * 3


def drawn_in_svg(path: Path, shape: tuple[int, ...], pitch_mm: float) -> npt.NDArray[np.bool_]:
    """Cells whose centres lie in one of the rectangles `M x y H x V y H x Z`; y points down."""
    shapes = ElementTree.parse(path).getroot().findall("{http://www.w3.org/2000/svg}path")
    drawn = np.zeros(shape, dtype=bool)
    y, x = ((np.arange(n) + 0.5) * pitch_mm for n in shape)
    for part in shapes[0].attrib["d"].split("Z"):
        numbers = [float(text) for text in part.translate(str.maketrans("MHV", "   ")).split()]
        if numbers:
            left, top, right, bottom, _ = numbers
            drawn |= ((y > top) & (y < bottom))[:, None] & ((x > left) & (x < right))
    return drawn


def test_row_0_is_at_the_top_and_column_0_at_the_left_seen_from_the_scene(tmp_path: Path) -> None:
    export_mask(F_SHAPE, tmp_path, pitch_m=1e-6, settings=MaskFiles(merge=False))
    corners = np.concatenate(read_gds(tmp_path / "mask.gds"))
    foot = [polygon for polygon in read_gds(tmp_path / "mask.gds") if polygon[:, 1].min() == 0]
    assert corners.min(axis=0).tolist() == [0, 0]
    assert corners.max(axis=0).tolist() == [4000, 5000]
    assert len(foot) == 1  # the F stands on one leg, at the left
    assert foot[0][:, 0].tolist() == [0, 1000, 1000, 0]


def test_a_mirrored_mask_is_the_mask_seen_from_the_sensor(tmp_path: Path) -> None:
    told = export_mask(F_SHAPE, tmp_path, pitch_m=1e-6, settings=MaskFiles(mirror=True))
    np.testing.assert_array_equal(drawn_by_gdstk(tmp_path / "mask.gds", F_SHAPE.shape, 1.0), F_SHAPE[:, ::-1] > 0)
    np.testing.assert_array_equal(drawn_in_svg(tmp_path / "mask.svg", F_SHAPE.shape, 0.001), F_SHAPE[:, ::-1] > 0)
    assert "seen from the sensor" in told["orientation"]
    label = gdstk.read_gds(tmp_path / "mask.gds").cells[0].labels[0].text
    assert label.startswith("open cells drawn, seen from the sensor: row 0 of the mask is at the top (largest y)")


def test_a_film_is_drawn_with_its_closed_cells_and_its_border(tmp_path: Path) -> None:
    settings = MaskFiles(polarity="closed", border_cells=2)
    told = export_mask(F_SHAPE, tmp_path, pitch_m=1e-6, settings=settings)
    wanted = np.pad(F_SHAPE == 0, 2, constant_values=True)
    np.testing.assert_array_equal(drawn_by_gdstk(tmp_path / "mask.gds", wanted.shape, 1.0), wanted)
    assert told["size_m"] == [9e-6, 8e-6]
    assert told["open_fraction"] == pytest.approx(F_SHAPE.mean())


def test_three_crosses_mark_the_border_and_the_lower_right_has_none(tmp_path: Path) -> None:
    settings = MaskFiles(border_cells=7, marks=True)
    export_mask(np.zeros((4, 4)), tmp_path, pitch_m=1e-6, settings=settings)
    drawn = drawn_by_gdstk(tmp_path / "mask.gds", (18, 18), 1.0)
    cross = np.zeros((7, 7), dtype=bool)
    cross[3, 1:6] = cross[1:6, 3] = True
    for corner in (drawn[:7, :7], drawn[:7, -7:], drawn[-7:, :7]):
        np.testing.assert_array_equal(corner, cross)
    assert drawn.sum() == 3 * cross.sum()


@pytest.mark.parametrize("pitch_m", [50e-9, 3.74e-6, 200e-6, 0.1])
def test_lengths_in_metres_are_exact(tmp_path: Path, pitch_m: float) -> None:
    told = export_mask(np.ones((3, 2)), tmp_path, pitch_m=pitch_m)
    library = gdstk.read_gds(tmp_path / "mask.gds")
    (low_x, low_y), (high_x, high_y) = library.cells[0].bounding_box()
    assert (low_x, low_y) == (0, 0)
    assert high_x * library.unit == pytest.approx(2 * pitch_m, rel=1e-12)
    assert high_y * library.unit == pytest.approx(3 * pitch_m, rel=1e-12)
    root = ElementTree.parse(tmp_path / "mask.svg").getroot()
    assert root.attrib["width"].endswith("mm")
    assert float(root.attrib["width"].removesuffix("mm")) * 1e-3 == pytest.approx(2 * pitch_m, rel=1e-12)
    assert float(root.attrib["viewBox"].split()[3]) * 1e-3 == pytest.approx(3 * pitch_m, rel=1e-12)
    fact = root.find("{http://www.w3.org/2000/svg}metadata/{urn:labctl:mask-export:1}mask")
    assert fact is not None
    assert float(fact.attrib["pitch_m"]) == told["pitch_m"] == pytest.approx(pitch_m, rel=1e-12)
    assert told["size_m"] == pytest.approx([3 * pitch_m, 2 * pitch_m], rel=1e-12)


def test_merged_rectangles_neither_overlap_nor_leave_gaps(tmp_path: Path) -> None:
    for mask in MASKS.values():
        artwork = Artwork(mask > 0, 10)
        area = sum((r - left) * (top - b) for left, b, r, top in artwork.rectangles(merge=True))
        assert area == artwork.area_nm2 == int((mask > 0).sum()) * 100
    assert len(Artwork(np.ones((6, 9), dtype=bool), 10).rectangles(merge=True)) == 1
    assert len(Artwork(np.ones((6, 9), dtype=bool), 10).rectangles(merge=False)) == 54


def test_equal_masks_give_equal_bytes(tmp_path: Path, rig: RigSpec, monkeypatch: pytest.MonkeyPatch) -> None:
    settings = MaskFiles(formats=("gds", "svg", "png"))
    first = export_mask(F_SHAPE, tmp_path / "first", rig=rig, settings=settings)
    monkeypatch.setenv("TZ", "Asia/Tokyo")
    second = export_mask(F_SHAPE, tmp_path / "second", rig=rig, settings=settings)
    assert first == second
    for file in first["files"]:
        assert hashlib.sha256((tmp_path / "second" / file["file"]).read_bytes()).hexdigest() == file["sha256"]
    assert gdstk.gds_timestamp(tmp_path / "first" / "mask.gds") == datetime.datetime(2000, 1, 1)


def test_the_pitch_is_that_of_the_rig_unless_one_is_given(tmp_path: Path, rig: RigSpec) -> None:
    assert export_mask(F_SHAPE, tmp_path, rig=rig)["pitch_m"] == 200e-6
    assert export_mask(F_SHAPE, tmp_path, rig=rig, pitch_m=1e-5)["pitch_m"] == 1e-5
    assert json.loads((tmp_path / "mask-export.json").read_text())["pitch_m"] == 1e-5


# Broken files


def test_a_gds_file_that_lost_a_polygon_is_refused_and_the_cell_is_named(tmp_path: Path) -> None:
    artwork = exported(tmp_path)
    rewrite(tmp_path, lambda cell: cell.remove(cell.polygons[0]))
    with pytest.raises(
        RunFailed, match=r"mask\.gds, read back, differs from the mask in 1 of 20 cells .*: row \d, col"
    ):
        compare(tmp_path, artwork)


def test_a_gds_file_with_a_polygon_twice_is_refused(tmp_path: Path) -> None:
    artwork = exported(tmp_path)
    rewrite(tmp_path, lambda cell: cell.add(cell.polygons[0].copy()))
    with pytest.raises(RunFailed, match="is drawn 2 times"):
        compare(tmp_path, artwork)


@pytest.mark.parametrize(("dx", "words"), [(0.001, "does not lie on the cells"), (1.0, "differs"), (9.0, "not lie")])
def test_a_gds_polygon_that_moved_is_seen_even_by_a_nanometre(tmp_path: Path, dx: float, words: str) -> None:
    artwork = exported(tmp_path)
    rewrite(tmp_path, lambda cell: cell.polygons[-1].translate(dx, 0))
    with pytest.raises(RunFailed, match=words):
        compare(tmp_path, artwork)


def test_gds_geometry_on_another_layer_is_refused(tmp_path: Path) -> None:
    artwork = exported(tmp_path)
    rewrite(tmp_path, lambda cell: cell.add(gdstk.rectangle((0, 0), (1, 1), layer=9)))
    with pytest.raises(RunFailed, match=r"more than the polygons of layer 1/0"):
        compare(tmp_path, artwork)


def test_a_slanted_edge_is_refused(tmp_path: Path) -> None:
    artwork = exported(tmp_path)
    rewrite(tmp_path, lambda cell: cell.add(gdstk.Polygon([(0, 0), (1, 0), (1, 1)], layer=1)))
    with pytest.raises(RunFailed, match="slanted"):
        compare(tmp_path, artwork)


def test_a_torn_gds_file_is_refused(tmp_path: Path, capfd: pytest.CaptureFixture[str]) -> None:
    artwork = exported(tmp_path)
    path = tmp_path / "mask.gds"
    path.write_bytes(path.read_bytes()[: path.stat().st_size // 2])
    with pytest.raises(RunFailed, match=r"mask\.gds"):
        compare(tmp_path, artwork)


@pytest.mark.parametrize(
    ("old", "new", "words"),
    [
        ('width="0.004mm"', 'width="0.005mm"', "do not agree"),
        ("M0 0H", "M0 0.001H", "does not close|differs|is no rectangle"),
        ("Z", "", "is no rectangle"),
        ("H0.004", "H0.003", "differs"),
        ("H0.004", "H0.0031", "does not lie on the cells"),
        ("<title>", "<tit", "cannot be read back"),
    ],
)
def test_a_changed_svg_file_is_refused(tmp_path: Path, old: str, new: str, words: str) -> None:
    artwork = exported(tmp_path)
    path = tmp_path / "mask.svg"
    text = path.read_text()
    assert old in text
    path.write_text(text.replace(old, new, 1))
    with pytest.raises(RunFailed, match=words):
        compare_svg(path, artwork)


def test_a_changed_png_file_is_refused_and_the_cell_is_named(tmp_path: Path, rig: RigSpec) -> None:
    export_mask(F_SHAPE, tmp_path, rig=rig, settings=MaskFiles(formats=("png",)))
    path, levels = tmp_path / "mask-panel.png", rig.roads.mask.levels(F_SHAPE)
    changed = levels.copy()
    changed[9, 6] ^= 1
    Image.fromarray(changed).save(path)
    with pytest.raises(RunFailed, match="1 of 20 cells, first at row 2, column 1"):
        compare_png(path, levels, rig.roads.mask.cell_px)


def test_a_wrong_file_never_stays_in_the_folder(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    from protocols.mask_export import export

    def without_last(artwork: Artwork, **settings: Any) -> bytes:
        drawn = artwork.drawn.copy()
        drawn[tuple(np.argwhere(drawn)[-1])] = False
        return gds_bytes(Artwork(drawn, artwork.pitch_nm), **settings)

    gds_bytes = export.gds_bytes
    monkeypatch.setattr(export, "gds_bytes", without_last)
    with pytest.raises(RunFailed, match="row 4, column 0 is not drawn; do not print it"):
        export_mask(F_SHAPE, tmp_path, pitch_m=1e-6)
    assert list(tmp_path.iterdir()) == []


def exported(folder: Path) -> Artwork:
    export_mask(F_SHAPE, folder, pitch_m=1e-6, settings=MaskFiles(merge=False))
    export_mask(F_SHAPE, folder / "merged", pitch_m=1e-6)
    (folder / "merged" / "mask.svg").replace(folder / "mask.svg")
    return artwork_of(F_SHAPE > 0, pitch_nm=1000, draw_open=True, mirror=False, border_cells=0, marks=False)


def rewrite(folder: Path, change: Any) -> None:
    library = gdstk.read_gds(folder / "mask.gds")
    change(library.cells[0])
    library.write_gds(folder / "mask.gds")


def compare(folder: Path, artwork: Artwork) -> None:
    compare_gds(folder / "mask.gds", artwork, layer=1, datatype=0, cell_name="MASK")


# Bad input: refused before anything is written


@pytest.mark.parametrize(
    ("mask", "pitch_m", "settings", "words"),
    [
        (F_SHAPE, 10.0004e-6, {}, r"10000\.4 database units of 1 nm; .* use 1e-05"),
        (F_SHAPE, 1e-10, {}, r"0\.1 database units of 1 nm; .* use 1e-09"),
        (
            F_SHAPE,
            0.5,
            {},
            r"spans 2\.5 x 2 m \(height, width\), GDSII reaches 2\.14748 m at 1 nm; use a smaller pitch_m",
        ),
        (F_SHAPE, -1e-6, {}, "a length above 0"),
        (F_SHAPE, float("nan"), {}, "a length above 0"),
        (F_SHAPE, None, {}, "neither pitch nor rig is given; give pitch_m"),
        (F_SHAPE, 1e-6, {"formats": ("png",)}, "no rig is given; give one, or leave png out"),
        (F_SHAPE, 1e-6, {"marks": True, "border_cells": 3}, "a border of 7 cells or more, border_cells is 3"),
        (
            F_SHAPE * 0.4,
            1e-6,
            {},
            r"10 of 20 cells of the mask are grey, first row 0, column 0 with 0\.4; .*`binary: true`",
        ),
        (F_SHAPE * 255, 1e-6, {}, r"spans 0\.\.255; transmittance lies in 0\.\.1"),
        (F_SHAPE * np.nan, 1e-6, {}, "spans nan"),
        (F_SHAPE[0], 1e-6, {}, r"shape \(4,\); numbers of shape \(H, W\)"),
        (np.ones((0, 4)), 1e-6, {}, r"shape \(0, 4\)"),
        (F_SHAPE.astype(str), 1e-6, {}, "numbers of shape"),
    ],
)
def test_bad_input_is_refused_before_anything_is_written(
    tmp_path: Path, mask: Any, pitch_m: float | None, settings: dict[str, Any], words: str
) -> None:
    with pytest.raises(BadInput, match=words):
        export_mask(mask, tmp_path / "out", pitch_m=pitch_m, settings=MaskFiles(**settings))
    assert not (tmp_path / "out").exists()


def test_the_largest_gds_drawing_is_just_possible() -> None:
    files = MaskFiles(formats=("gds",))
    files.check_export((2147, 1), pitch_m=1e-3, rig=None)
    with pytest.raises(BadInput, match="GDSII reaches"):
        files.check_export((2148, 1), pitch_m=1e-3, rig=None)


def test_a_threshold_prints_grey_cells_above_it_open(tmp_path: Path) -> None:
    told = export_mask(F_SHAPE * 0.6 + 0.2, tmp_path, pitch_m=1e-6, settings=MaskFiles(threshold=0.79))
    np.testing.assert_array_equal(drawn_by_gdstk(tmp_path / "mask.gds", F_SHAPE.shape, 1.0), F_SHAPE > 0)
    assert told["open_fraction"] == pytest.approx(F_SHAPE.mean())


def test_rounding_of_a_binary_mask_is_not_taken_for_grey(tmp_path: Path) -> None:
    export_mask(np.where(F_SHAPE > 0, np.float32(1 - 6e-8), np.float32(6e-8)), tmp_path, pitch_m=1e-6)
    np.testing.assert_array_equal(drawn_by_gdstk(tmp_path / "mask.gds", F_SHAPE.shape, 1.0), F_SHAPE > 0)


def test_grey_is_fine_for_the_panel(tmp_path: Path, rig: RigSpec) -> None:
    export_mask(F_SHAPE * 0.4, tmp_path, rig=rig, settings=MaskFiles(formats=("png",)))
    with Image.open(tmp_path / "mask-panel.png") as picture:
        np.testing.assert_array_equal(np.asarray(picture), rig.roads.mask.levels(F_SHAPE * 0.4))


def test_without_gdstk_the_extra_is_named_and_nothing_is_written(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setitem(sys.modules, "gdstk", None)
    with pytest.raises(BadInput, match=r"pip install 'labctl\[fab\]', or leave gds out"):
        export_mask(F_SHAPE, tmp_path / "out", pitch_m=1e-6)
    assert not (tmp_path / "out").exists()
    export_mask(F_SHAPE, tmp_path / "svg", pitch_m=1e-6, settings=MaskFiles(formats=("svg",)))


@pytest.mark.parametrize(("value", "wanted"), [(200e-6, 200_000), (3.74e-6, 3740), (1e-9, 1), (0.3, 300_000_000)])
def test_a_pitch_of_whole_nanometres_is_taken_exactly(value: float, wanted: int) -> None:
    assert pitch_in_nm(value) == wanted


# The step and the command


PROTOCOL: dict[str, Any] = {
    "version": 1,
    "name": "printed",
    "rig": "sim",
    "scene_px": [24, 24],
    "mask_cells": [8, 8],
    "data": {"type": "digits"},
    "designs": {"random": {"type": "random"}},
    "steps": {
        "train": {"type": "train", "epochs": 1, "batch": 256},
        "export": {"type": "export", "mask": "${steps.train.mask}", "formats": ["gds", "svg", "png"]},
        "report": {"type": "report"},
    },
}
RIG = {"rig.twin.panel.stop_px": [32, 32], "rig.twin.monitor.view_px": [24, 24]}


@pytest.fixture(scope="module")
def printed(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A run that trains, exports and reports."""
    folder = tmp_path_factory.mktemp("printed")
    with pytest.MonkeyPatch.context() as patch:
        patch.setenv("LABCTL_STATE", str(folder / "state"))
        (folder / "protocol.yaml").write_text(json.dumps(PROTOCOL))
        run = labctl.run_protocol(folder / "protocol.yaml", rig=find_rig("sim"), out=folder / "run", set=RIG)
    assert run.status == "finished", run.outcome
    return run.path


def test_the_step_exports_the_mask_that_was_trained(printed: Path) -> None:
    mask = np.load(printed / "artifacts/train/random/seed0/mask.npy")
    folder = printed / "artifacts/export/random/seed0"
    told = json.loads((folder / "mask-export.json").read_text())
    assert (told["pitch_m"], told["open_fraction"]) == (200e-6, mask.mean())
    np.testing.assert_array_equal(drawn_by_gdstk(folder / "mask.gds", mask.shape, 200.0), mask > 0.5)
    metrics = json.loads((printed / "summary.json").read_text())["metrics"]["export/random/seed0"]
    assert metrics == {"open_fraction": mask.mean(), "pitch_m": 200e-6, "files": 3, "equal_cells": 64}


def test_the_report_shows_what_was_read_back(printed: Path) -> None:
    page = (printed / "report.html").read_text()
    told = json.loads((printed / "artifacts/export/random/seed0/mask-export.json").read_text())
    assert "<h2>Exported mask</h2>" in page
    assert "could not be made" not in page
    for file in told["files"]:
        assert file["sha256"][:16] in page
    assert (printed / "figures" / "exported-1.svg").is_file()


def test_a_file_that_changed_after_its_export_is_named_and_not_drawn(printed: Path, tmp_path: Path) -> None:
    run = RunFolder(Path(shutil.copytree(printed, tmp_path / "run")))
    path = run.path / "artifacts/export/random/seed0/mask.gds"
    path.write_bytes(path.read_bytes()[:-1])
    missing = write_report(run, [part for part in PARTS if part[0] == "exported"])
    assert missing == [
        "report, Exported mask: export/random/seed0: mask.gds is not the file that was exported; run the step again."
    ]


def test_the_command_finds_mask_and_pitch_in_the_run(printed: Path, tmp_path: Path) -> None:
    source = str(printed / "artifacts/train/random/seed0")
    done = CliRunner().invoke(app, ["export-mask", source, "--out", str(tmp_path), "--json"])
    assert done.exit_code == 0, done.output
    told = json.loads(done.stdout.splitlines()[-1])
    step = json.loads((printed / "artifacts/export/random/seed0/mask-export.json").read_text())
    assert told["pitch_m"] == 200e-6
    assert [file["sha256"] for file in told["files"]] == [file["sha256"] for file in step["files"][:2]]


def test_the_command_takes_an_array_a_pitch_and_settings(tmp_path: Path) -> None:
    np.save(tmp_path / "mine.npy", F_SHAPE)
    arguments = [str(tmp_path / "mine.npy"), "--out", str(tmp_path / "out"), "--pitch-m", "1e-6"]
    done = CliRunner().invoke(app, ["export-mask", *arguments, "--set", "polarity=closed", "--set", "formats=[gds]"])
    assert done.exit_code == 0, done.output
    np.testing.assert_array_equal(drawn_by_gdstk(tmp_path / "out" / "mask.gds", F_SHAPE.shape, 1.0), F_SHAPE == 0)
    assert not (tmp_path / "out" / "mask.svg").exists()


@pytest.mark.parametrize(
    ("more", "words"),
    [
        (["--set", "polarity=opne", "--pitch-m", "1e-6"], "--set polarity=opne: .*did you mean `open`"),
        (["--set", "mirrored=true", "--pitch-m", "1e-6"], "--set mirrored=true: mirrored: unknown key"),
        (["--set", "a.b=1", "--pitch-m", "1e-6"], "one key is needed"),
        ([], "neither pitch nor rig is given"),
        (["--rig", "nowhere"], "there is no rig 'nowhere'"),
    ],
)
def test_the_command_says_what_is_wrong(tmp_path: Path, more: list[str], words: str) -> None:
    np.save(tmp_path / "mine.npy", F_SHAPE)
    arguments = ["export-mask", str(tmp_path / "mine.npy"), "--out", str(tmp_path / "out"), *more]
    with pytest.raises(BadInput, match=words):
        CliRunner().invoke(app, arguments, catch_exceptions=False)
    assert not (tmp_path / "out").exists()


def test_a_file_that_is_no_mask_is_named(tmp_path: Path) -> None:
    (tmp_path / "mine.npy").write_text("hello")
    for source, words in ((tmp_path / "mine.npy", "cannot be read"), (tmp_path, r"there is no mask '.*mask\.npy'")):
        with pytest.raises(BadInput, match=words):
            CliRunner().invoke(app, ["export-mask", str(source), "--out", "x"], catch_exceptions=False)


@pytest.mark.parametrize(
    ("change", "place", "words"),
    [
        ({"designs.random": {"type": "learned", "binary": False}}, "threshold|export", "cells of the mask are grey"),
        ({"steps.export.pitch_m": 10.0004e-6}, "steps.export.pitch_m", "database units"),
        ({"steps.export.marks": True}, "steps.export", "border_cells is 0"),
        ({"steps.export.formats": ["dxf"]}, "steps.export.formats", "gds"),
        ({"steps.export.cell_name": "a b"}, "steps.export.cell_name", "a b"),
    ],
)
def test_what_cannot_be_exported_is_refused_before_training(
    tmp_path: Path, change: dict[str, Any], place: str, words: str
) -> None:
    (tmp_path / "protocol.yaml").write_text(json.dumps(PROTOCOL))
    with pytest.raises(ConfigError, match=place) as caught:
        labctl.run_protocol(
            tmp_path / "protocol.yaml", rig=find_rig("sim"), out=tmp_path / "run", set={**RIG, **change}
        )
    assert words in str(caught.value)
    assert not (tmp_path / "run").exists()
