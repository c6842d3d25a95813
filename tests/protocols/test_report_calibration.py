"""What the report says of calibrations, twins and learning from the bench, and nothing where there are none."""

from __future__ import annotations

import json
import re
import shutil
import sys
import time
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest
from PIL import Image

import labctl
from labctl.calibration.record import Calibration
from labctl.calibration.shelf import Shelf
from labctl.cli import main
from labctl.store import RunFolder
from protocols.report.figures import Drawing
from protocols.report.learning import learning_curve_section, loop_blocks
from protocols.report.page import Picture, Table, Text
from protocols.report.sections import PARTS
from protocols.report.step import write_report
from protocols.report.tables import read_evidence
from protocols.report.twin import twin_section

CONFIGS = Path(__file__).parents[2] / "configs"
ONLY_DARK = {"steps.calibrate.kinds": ["dark"], "steps.report": None}


@pytest.fixture(scope="module")
def calibrated(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Path]:
    """Two runs of calibrations alone: the first measures, the second keeps, with a warning put on the shelf between."""
    folder = tmp_path_factory.mktemp("calibrated")
    with pytest.MonkeyPatch.context() as patch:
        patch.setenv("LABCTL_STATE", str(folder / "state"))
        for name in ("measured", "kept"):
            run = labctl.run_protocol(
                CONFIGS / "protocols" / "calibrate.yaml", rig="as-built", out=folder / name, set=ONLY_DARK
            )
            assert run.status == "finished", run.outcome
            if name == "measured":
                shelf = Shelf("as-built")
                newest = shelf.newest("dark")
                assert newest is not None
                changed = {"warnings": ("the panel was warming up",), "made": time.time() - 7200.0}
                for path in shelf.files("dark"):
                    path.unlink()
                shelf.put(Calibration(newest.record.model_copy(update=changed), newest.arrays, newest.raw))
        yield folder


@pytest.fixture
def copy(calibrated: Path, tmp_path: Path) -> Any:
    """A copy of one of the runs, to be changed."""
    return lambda name: RunFolder(Path(shutil.copytree(calibrated / name, tmp_path / name)))


def part(run: RunFolder, anchor: str) -> list[Any]:
    """The blocks of one part."""
    write = next(write for name, _, write in PARTS if name == anchor)
    return write(read_evidence(run), {})


def test_a_run_of_calibrations_alone_has_a_headline_and_lacks_nothing(copy: Any) -> None:
    run = copy("measured")
    chosen = [one for one in PARTS if one[0] in ("accuracy", "training", "provenance", "twin", "budget")]
    assert write_report(run, chosen) == []
    page = run.report_file.read_text()
    headline = re.search(r'class="headline">(.*?)</p>', page)
    assert headline is not None
    assert re.fullmatch(r"1 calibration of rig as-built: 1 measured now with \d+ exposures\.", headline[1])
    assert "None carries a warning." in page
    assert "evaluation" not in page.split("<section", 1)[1].split("Resolved protocol")[0]


def test_each_calibration_is_told_with_values_standing_page_and_file(copy: Any) -> None:
    run = copy("measured")
    table, picture, fold = part(run, "calibration")
    assert isinstance(table, Table)
    [[title, values, standing, taken, file]] = table.rows
    assert title == "Dark frame and black level"
    assert re.search(r"black_level_dn 1\d\d\.\d+ ± 0\.\d+ DN", values)
    assert standing == "measured now: there is none yet"
    assert file == "dark.npz"
    assert (run.path / "artifacts/calibrate/calibration" / file).exists()
    assert "artifacts/calibrate/calibration" in table.caption
    record = Calibration.load(run.path / "artifacts/calibrate/calibration/dark.npz").record
    assert taken.startswith(f"{record.exposures}, ")
    assert isinstance(picture, Picture)
    assert (picture.name, picture.drawing.png[:4]) == ("calibration-dark", b"\x89PNG")
    assert "raw frames are in artifacts/calibrate/calibration/dark.npz" in picture.caption
    for name in record.values:
        assert name in fold.text


def test_what_was_kept_says_its_age_and_its_warnings_stand_out(copy: Any, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("protocols.report.calibration._page", lambda calibration: Drawing(b"", b"", b""))
    run = copy("kept")
    table, warning, *_ = part(run, "calibration")
    assert table.rows[0][2] == "kept, 2 hours old"
    assert isinstance(warning, Text)
    assert warning.kind == "careful"
    assert warning.text == "Careful, dark frame and black level: the panel was warming up"
    assert write_report(run, [one for one in PARTS if one[0] == "accuracy"]) == []
    assert "Read the warnings of dark frame and black level before you rely on it." in run.report_file.read_text()


def test_the_page_is_drawn_from_the_file_alone(copy: Any, tmp_path: Path) -> None:
    file, page = copy("measured").path / "artifacts/calibrate/calibration/dark.npz", tmp_path / "pages" / "dark.png"
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(sys, "argv", ["labctl", "calibration", "show", str(file), "--plot", str(page)])
        with pytest.raises(SystemExit) as ended:
            main()
    assert not ended.value.code
    with Image.open(page) as drawn:
        assert min(drawn.size) > 300


def test_a_damaged_calibration_is_named_and_takes_nothing_else_with_it(copy: Any) -> None:
    run = copy("measured")
    path = run.path / "artifacts/calibrate/calibration/dark.npz"
    path.write_bytes(path.read_bytes()[:500])
    missing = write_report(run, [one for one in PARTS if one[0] in ("calibration", "provenance")])
    assert len(missing) == 1
    assert "dark.npz is no calibration, or damaged" in missing[0]
    assert "Provenance" in run.report_file.read_text()


def test_a_run_without_calibrations_twins_or_loops_has_no_such_part(copy: Any) -> None:
    run = copy("measured")
    summary = run.summary()
    for row in summary["steps"]:
        row["status"] = "waiting"
    run.summary_file.write_text(json.dumps(summary))
    evidence = read_evidence(run)
    assert part(run, "calibration") == []
    assert twin_section(evidence, {}) == learning_curve_section(evidence, {}) == loop_blocks(evidence) == []
