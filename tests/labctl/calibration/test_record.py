"""A calibration file holds what was put in, and says so when it no longer does."""

from __future__ import annotations

import io
import json
import zipfile
from pathlib import Path

import numpy as np
import pytest
from pydantic import ValidationError

from labctl.calibration.record import Calibration, Value
from labctl.calibration.telling import told, told_values
from labctl.errors import BadInput, RunFailed
from tests.labctl.calibration.records import made, rig


def test_what_is_written_comes_back_bit_for_bit(tmp_path: Path) -> None:
    before = made(rig())
    after = Calibration.load(before.save(tmp_path / "deep" / "dark.npz"))
    assert after.record == before.record
    assert after.id == before.id
    for there, here in ((before.arrays, after.arrays), (before.raw, after.raw)):
        assert list(there) == list(here)
        for name in there:
            assert np.array_equal(there[name], here[name])
            assert there[name].dtype == here[name].dtype
    assert (after.value("black_level_dn"), after.error("black_level_dn")) == (158.12, 0.05)
    assert after.vector("shift_px").tolist() == [0.5, -1.25]


def test_the_id_changes_with_every_number() -> None:
    first = made(rig(), made=1e9)
    ids = {
        first.id,
        made(rig(), made=1e9 + 1).id,
        made(rig(), made=1e9, warnings=("a panel that warms up",)).id,
        Calibration(first.record, {"dark_dn": first.arrays["dark_dn"] + 1e-9}, first.raw).id,
        Calibration(first.record, first.arrays, {**first.raw, "dark": first.raw["dark"] + np.uint16(1)}).id,
    }
    assert len(ids) == 5
    assert made(rig(), made=1e9).id == first.id


def test_several_numbers_are_not_taken_for_one() -> None:
    calibration = made(rig())
    with pytest.raises(TypeError, match=r"dark\.shift_px is 2 numbers"):
        calibration.value("shift_px")
    with pytest.raises(TypeError, match=r"dark\.shift_px is 2 numbers"):
        calibration.error("shift_px")


def test_a_file_that_is_not_there_is_bad_input_with_the_next_action(tmp_path: Path) -> None:
    with pytest.raises(BadInput, match=r"there is no calibration '.*dark\.npz'; measure one with `labctl run"):
        Calibration.load(tmp_path / "dark.npz")


@pytest.mark.parametrize("share", [0.0, 0.3, 0.9, 0.999])
def test_a_file_cut_short_is_said_to_be_damaged(tmp_path: Path, share: float) -> None:
    path = made(rig()).save(tmp_path / "dark.npz")
    content = path.read_bytes()
    path.write_bytes(content[: int(share * len(content))])
    with pytest.raises(RunFailed, match=r"damaged .*calibrate anew"):
        Calibration.load(path)


def test_a_flipped_bit_anywhere_does_not_pass(tmp_path: Path) -> None:
    path = made(rig()).save(tmp_path / "dark.npz")
    content = path.read_bytes()
    before = made(rig(), made=Calibration.load(path).record.made)
    for place in range(40, len(content), len(content) // 60):
        path.write_bytes(content[:place] + bytes([content[place] ^ 0x10]) + content[place + 1 :])
        try:
            after = Calibration.load(path)
        except RunFailed:
            continue
        assert after.id == before.id  # a bit that no reader looks at, such as a date inside the archive


def test_a_file_changed_after_it_was_written_is_refused(tmp_path: Path) -> None:
    path = made(rig()).save(tmp_path / "dark.npz")
    with np.load(path) as packed:
        content = {name: packed[name] for name in packed.files}
    record = json.loads(bytes(content["record.json"]))
    record["values"]["black_level_dn"]["value"] = 100.0
    content["record.json"] = np.frombuffer(json.dumps(record).encode(), dtype=np.uint8)
    np.savez_compressed(path, **content)
    with pytest.raises(RunFailed, match="was changed after it was written"):
        Calibration.load(path)


def test_a_file_of_another_program_or_a_later_format_is_refused(tmp_path: Path) -> None:
    path = tmp_path / "dark.npz"
    np.savez(path, pixels=np.zeros(3))
    with pytest.raises(RunFailed, match="is no calibration"):
        Calibration.load(path)
    with zipfile.ZipFile(path, "w") as other:
        other.writestr("readme.txt", "no arrays")
    with pytest.raises(RunFailed, match="is no calibration"):
        Calibration.load(path)
    record = np.frombuffer(json.dumps({"format": "labctl.calibration/9"}).encode(), dtype=np.uint8)
    np.savez(path, **{"record.json": record, "id": np.array("0")})
    with pytest.raises(RunFailed, match=r"has format labctl\.calibration/9"):
        Calibration.load(path)


def test_no_code_hides_in_a_file(tmp_path: Path) -> None:
    content = io.BytesIO()
    np.savez(content, **{"record.json": np.array([{"a": 1}], dtype=object), "id": np.array("0")})
    path = tmp_path / "dark.npz"
    path.write_bytes(content.getvalue())
    with pytest.raises(RunFailed, match="is no calibration"):
        Calibration.load(path)


def test_a_value_is_a_finite_number() -> None:
    with pytest.raises(ValidationError):
        Value(value=float("nan"), error=None, unit="DN")


@pytest.mark.parametrize(
    ("value", "text"),
    [
        (Value(value=158.1257, error=0.00485, unit="DN"), "158.126 ± 0.005 DN"),
        (Value(value=9.98123, error=0.0342, unit="DN/e-"), "9.981 ± 0.034 DN/e-"),
        (Value(value=10012.3, error=213.0, unit="e-"), "10010 ± 210 e-"),
        (Value(value=-0.0004, error=0.02, unit="1"), "0.000 ± 0.020"),
        (Value(value=0.0023456, error=0.00004, unit="s"), "2.35 ± 0.04 ms"),
        (Value(value=1.23456e-7, error=4e-9, unit="1"), "(1.23 ± 0.04)e-7"),
        (Value(value=(0.5, -1.25), error=(0.01, 0.02), unit="px"), "(0.500 ± 0.010, −1.250 ± 0.020) px"),
        (Value(value=52.0, error=None, unit="1"), "52"),
        (Value(value=tuple(range(9)), error=None, unit="DN"), "9 values from 0 to 8 DN"),
    ],
)  # fmt: skip
def test_a_value_is_told_with_the_digits_that_its_error_supports(value: Value, text: str) -> None:
    assert told(value) == text


def test_a_line_of_values_says_how_many_it_leaves_out() -> None:
    record = made(rig()).record
    assert told_values(record, 1) == "black_level_dn 158.12 ± 0.05 DN; and 1 more"
    assert told_values(record).endswith("px")
