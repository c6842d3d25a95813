"""What `labctl devices` and `labctl doctor` learn of cameras, whatever the producers do."""

from __future__ import annotations

import shutil
import subprocess
import time
from pathlib import Path

from drivers.genicam.finder import check_producers, find_cameras
from drivers.genicam.producers import find_producers
from drivers.genicam.settings import GenicamSettings
from tests.drivers.genicam.conftest import children
from tests.drivers.genicam.test_camera_faults import HANGING


def test_cameras_are_listed_as_a_rig_file_names_them(environment: dict[str, str], producer: Path) -> None:
    found = find_cameras(environment)
    assert [(item.kind, item.name) for item in found] == [
        ("producer", "labctl.cti"), ("camera", "labctl Virtual camera"), ("camera", "labctl Virtual camera"),
    ]  # fmt: skip
    assert found[1].where == f"{{type: genicam, producer: {producer}, serial: 'VLAB0001'}}"
    assert found[2].details["serial"] == "VLAB0002"
    assert children() == []


def test_a_producer_that_is_fine_says_what_it_finds(environment: dict[str, str]) -> None:
    checks = check_producers(environment)
    assert [(check.status, check.todo) for check in checks] == [("ok", "")]
    assert checks[0].text == "finds 2: Virtual camera VLAB0001, Virtual camera VLAB0002"


def test_one_bad_producer_does_not_hide_the_others(environment: dict[str, str], producer: Path, tmp_path: Path) -> None:
    folder = tmp_path / "producers"
    folder.mkdir()
    shutil.copy(producer, folder / "good.cti")
    (folder / "broken.cti").write_bytes(b"no library")
    hanging = folder / "hanging.cti"
    subprocess.run(["cc", "-shared", "-fPIC", "-x", "c", "-", "-o", hanging], input=HANGING.encode(), check=True)
    begun_s = time.monotonic()
    checks = {check.name: check for check in check_producers({**environment, "GENICAM_GENTL64_PATH": str(folder)})}
    assert time.monotonic() - begun_s < 15
    assert checks["producer good.cti"].status == "ok"
    assert checks["producer broken.cti"].status == "problem"
    assert "cannot be used" in checks["producer broken.cti"].text
    assert "no answer" in checks["producer hanging.cti"].text
    assert all(check.todo for name, check in checks.items() if "good" not in name)
    assert children() == []


def test_nothing_installed_is_no_problem_by_itself() -> None:
    assert find_cameras({"GENICAM_GENTL64_PATH": ""}) == []
    assert [check.status for check in check_producers({"GENICAM_GENTL64_PATH": ""})] == ["skipped"]


def test_a_producer_is_found_by_file_folder_variable_and_search_path(producer: Path, tmp_path: Path) -> None:
    here = {"PRODUCERS": str(producer.parent), "GENICAM_GENTL64_PATH": f"{tmp_path}:{producer.parent}"}
    for named in (str(producer), str(producer.parent), "$PRODUCERS/labctl.cti", "${PRODUCERS}", None):
        assert find_producers(named, here) == [producer]


def test_settings_read_from_a_rig_file_are_strict() -> None:
    settings = GenicamSettings.model_validate({"type": "genicam", "features": {"ReverseX": False, "BlackLevel": 3}})
    assert settings.features == {"ReverseX": False, "BlackLevel": 3}
    assert type(settings.features["ReverseX"]) is bool
    assert type(settings.features["BlackLevel"]) is int
