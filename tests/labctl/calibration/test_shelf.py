"""The shelf keeps every calibration of a rig, and hands out the newest that can be read."""

from __future__ import annotations

from pathlib import Path

import pytest

from labctl.calibration.record import Calibration, CalibrationRecord
from labctl.calibration.shelf import Answer, CalibrationSet, Shelf
from labctl.errors import BadInput
from tests.labctl.calibration.records import made, rig


def test_the_newest_is_handed_out_and_the_older_stay() -> None:
    spec, shelf = rig(), Shelf("as-built")
    assert shelf.newest("dark") is None
    old, new = (made(spec, made=1.7e9 + seconds) for seconds in (0, 60))
    shelf.put(new)
    shelf.put(old)
    found = shelf.newest("dark")
    assert found is not None
    assert found.id == new.id
    assert len(shelf.files("dark")) == 2
    assert shelf.kinds() == ["dark"]


def test_of_two_made_within_one_second_the_later_is_the_newest() -> None:
    spec, shelf = rig(), Shelf("as-built")
    for step in range(6):  # ids are in the order of chance
        there = made(spec, made=1.7e9 + 0.13 * step)
        shelf.put(there)
        newest = shelf.newest("dark")
        assert newest is not None
        assert newest.id == there.id


def test_the_shelf_of_one_rig_is_not_that_of_another() -> None:
    Shelf("as-built").put(made(rig()))
    assert Shelf("sim").newest("dark") is None
    assert Shelf("sim").kinds() == []


def test_a_damaged_newest_one_is_said_and_passed_over(caplog: pytest.LogCaptureFixture) -> None:
    spec, shelf = rig(), Shelf("as-built")
    old = made(spec, made=1.7e9)
    shelf.put(old)
    path = shelf.put(made(spec, made=1.7e9 + 60))
    path.write_bytes(path.read_bytes()[:100])
    found = shelf.newest("dark")
    assert found is not None
    assert found.id == old.id
    assert str(path) in caplog.text
    assert "damaged" in caplog.text


def test_a_set_reads_what_a_run_uses_and_names_what_is_missing(tmp_path: Path) -> None:
    calibration = made(rig())
    calibration.save(tmp_path / "dark.npz")
    used = CalibrationSet(tmp_path)
    assert list(used) == ["dark"]
    assert used["dark"] is used["dark"]
    assert used.ids() == {"dark": calibration.id}
    assert "flat" not in used
    with pytest.raises(BadInput, match="the flat correction needs the calibration `flat`, there is dark; add `flat`"):
        used.need("flat", "the flat correction")


def test_a_folder_that_is_not_there_is_bad_input(tmp_path: Path) -> None:
    with pytest.raises(BadInput, match="run a `calibrate` step first"):
        CalibrationSet(tmp_path / "none")


def test_the_newest_that_fits_is_found_behind_newer_ones_and_no_farther_than_told() -> None:
    spec, shelf = rig(), Shelf("as-built")
    small, large = ({"holds_for": {"frame_shape": [size, size]}} for size in (4, 8))
    files = [
        shelf.put(made(spec, made=1.7e9 + 60 * n, **kind)) for n, kind in enumerate((small, large, large, small, large))
    ]

    def found(size: int, **told: Answer) -> str | None:
        def tell(record: CalibrationRecord) -> Answer:
            if record.holds_for["frame_shape"] == [size, size]:
                return "take"
            return "stop" if record.made < 1.7e9 + 60 * 3 else told.get("other", "pass")

        calibration = shelf.newest_that("dark", tell)
        return None if calibration is None else calibration.id

    assert found(8) == Calibration.load(files[4]).id
    assert found(4) == Calibration.load(files[3]).id
    assert found(4, other="stop") is None
    assert found(6) is None
    files[3].write_bytes(files[3].read_bytes()[:-100])
    assert found(4) is None  # the damaged one is passed over, and the one behind is older than asked for
