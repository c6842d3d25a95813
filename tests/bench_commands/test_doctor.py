"""`labctl doctor`: every check is made, each thing broken on purpose is named, and scripts can tell whether it runs."""

from __future__ import annotations

import os
import time
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest

from labctl import host_checks
from labctl.host_checks import computer_checks, disk_check, write_speed
from tests.bad_input.lab import CONFIGS, Answer, labctl
from tests.bench_commands.conftest import last_json
from tests.bench_commands.test_show_get_set import running, wait_for

QUICKSTART = str(CONFIGS / "protocols" / "quickstart.yaml")
OF_THE_COMPUTER = ("versions", "processor", "memory", "clock", "disk")


pytestmark = pytest.mark.usefixtures("no_shipped_driver")


def checks(answer: Answer) -> dict[str, dict[str, Any]]:
    """The checks by name, of an answer in JSON."""
    return {check["name"]: check for check in last_json(answer.out)["checks"]}


def test_all_is_well_on_the_simulated_bench(bench: Path, lamp_power: Callable[[str], float | None]) -> None:
    answer = labctl("doctor", QUICKSTART, "--json")
    found = checks(answer)
    assert answer.code == 0
    assert list(found) == [
        "protocol", "rig file", "plan", *OF_THE_COMPUTER, "lamp", "mask", "scene", "camera",
    ]  # fmt: skip
    assert [name for name, check in found.items() if check["status"] == "problem"] == []
    assert "658 frames" in found["plan"]["text"]
    assert "took a frame of 10 ms" in found["camera"]["text"]
    assert "128x128 px" in found["mask"]["text"]
    assert lamp_power("as-built") == 0.0
    assert list(bench.iterdir()) == [], "the test of the disk leaves nothing behind"


def test_one_line_per_check_and_the_sum_last(bench: Path) -> None:
    answer = labctl("doctor", "--rig", "sim")
    assert answer.code == 0
    lines = answer.out.splitlines()
    assert lines[0].startswith("✓ rig file")
    assert any(line.startswith("✓ camera") for line in lines)
    assert lines[-1].endswith("the rig can run")


def test_without_a_rig_only_the_computer_is_looked_at(bench: Path) -> None:
    answer = labctl("doctor", "--json")
    assert answer.code == 0
    assert list(checks(answer)) == list(OF_THE_COMPUTER)


def test_a_camera_that_is_unplugged_is_named_and_the_others_are_looked_at_all_the_same(
    odd: None, rig: Callable[..., str]
) -> None:
    file = rig("light_path: sequenced\ncamera: {type: odd.unplugged}\nsafe_order: [camera, lamp, mask, scene]")
    answer = labctl("doctor", QUICKSTART, "--rig", file, "--json")
    found = checks(answer)
    assert answer.code == 4
    assert found["camera"]["status"] == "problem"
    assert found["camera"]["text"] == "the cable is out"
    assert "power, cable" in found["camera"]["todo"]
    assert [found[name]["status"] for name in ("lamp", "mask", "scene")] == ["ok", "ok", "ok"]
    told = labctl("doctor", QUICKSTART, "--rig", file)
    assert told.out.splitlines()[-1].endswith("the protocol cannot run like this")


def test_a_camera_says_who_it_is_and_what_it_can_do(odd: None, rig: Callable[..., str]) -> None:
    file = rig("light_path: sequenced\ncamera: {type: odd.talkative}")
    text = checks(labctl("doctor", "--rig", file, "--json"))["camera"]["text"]
    assert text.startswith("chatty camera, Odd Optics, Odd 3000, ODD1: 32x32 px, exposes 1e-05..10 s, 4 features; took")


def test_a_rig_file_with_a_mistake_stops_it_and_the_computer_is_looked_at_all_the_same(
    rig: Callable[..., str],
) -> None:
    file = rig("camera: {type: sim.camra}\nlight_path: sequencd")
    answer = labctl("doctor", QUICKSTART, "--rig", file, "--json")
    found = checks(answer)
    assert answer.code == 2
    assert found["rig file"]["status"] == "problem"
    assert "mine.yaml:3:16: camera.type" in found["rig file"]["text"]
    assert found["protocol"]["status"] == "ok"
    assert set(OF_THE_COMPUTER) <= set(found)
    assert "camera" not in found


def test_a_protocol_with_a_mistake_stops_it_and_the_rig_is_looked_at_all_the_same(bench: Path) -> None:
    (bench / "p.yaml").write_text(f"extends: {QUICKSTART}\nsteps: {{train: {{epoch: 3}}}}\n")
    answer = labctl("doctor", "p.yaml", "--rig", "sim", "--json")
    found = checks(answer)
    assert answer.code == 2
    assert "unknown key; did you mean `epochs`?" in found["protocol"]["text"]
    assert found["camera"]["status"] == "ok"


def test_a_protocol_that_does_not_fit_the_rig_stops_it(bench: Path) -> None:
    answer = labctl("doctor", QUICKSTART, "--rig", "sim", "--set", "mask_cells=[40, 40]", "--json")
    found = checks(answer)
    assert answer.code == 2
    assert found["protocol"]["status"] == "ok"
    assert found["plan"]["status"] == "problem"
    assert "mask_cells" in found["plan"]["text"]
    assert found["mask"]["status"] == "problem"
    assert "128x128 px, settles in 20 ms; the protocol needs 160x160" in found["mask"]["text"]


def test_a_disk_too_small_for_the_planned_frames_stops_it(bench: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    answer = labctl("doctor", QUICKSTART, "--set", "steps.capture.repeats=1000", "--json")
    assert answer.code == 0, "there is room for 650 000 frames here"
    planned = checks(answer)["disk"]["text"]
    assert "GiB planned" in planned
    usage = type("Usage", (), {"free": 10 * 2**20})
    monkeypatch.setattr(host_checks.shutil, "disk_usage", lambda folder: usage)
    answer = labctl("doctor", QUICKSTART, "--set", "steps.capture.repeats=1000", "--json")
    assert answer.code == 1
    found = checks(answer)
    assert found["disk"]["status"] == "problem"
    assert "10 MiB free" in found["disk"]["text"]
    assert found["camera"]["status"] == "ok"


def test_a_disk_slower_than_the_capture_is_a_problem_and_one_just_fast_enough_a_warning(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(host_checks, "write_speed", lambda folder, most: (10e6, 0.001))
    statuses = [
        disk_check(tmp_path, planned_bytes=1, planned_bytes_per_s=rate).status for rate in (20e6, 8e6, 1e6, 0.0)
    ]
    assert statuses == ["problem", "warning", "ok", "ok"]


def test_the_speed_of_the_disk_is_really_measured(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    synced: list[int] = []
    real = os.fsync

    def slow(number: int) -> None:
        synced.append(os.fstat(number).st_size)
        time.sleep(0.2)
        real(number)

    monkeypatch.setattr(host_checks.os, "fsync", slow)
    rate, commit_s = write_speed(tmp_path, most=4 * 2**20)
    assert synced[0] == 4 * 2**20
    assert rate < 4 * 2**20 / 0.2
    assert 0.2 <= commit_s < 1
    assert list(tmp_path.iterdir()) == []


def test_a_folder_that_cannot_be_written_is_said(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    def refused(folder: Path, *, most: int) -> tuple[float, float]:
        raise PermissionError(13, "Permission denied")

    monkeypatch.setattr(host_checks, "write_speed", refused)
    check = disk_check(tmp_path / "runs" / "mine", planned_bytes=0, planned_bytes_per_s=0.0)
    assert (check.status, check.todo) == ("problem", "give another folder with --out")
    assert str(tmp_path) in check.text


def test_a_rig_in_use_is_named_with_its_holder(bench: Path, own_state_folder: Path) -> None:
    with running("set", "lamp.power=0.4", "--rig", "sim") as holder:
        wait_for(lambda: (own_state_folder / "rigs" / "sim.holder.json").exists())
        answer = labctl("doctor", "--rig", "sim", "--json")
    assert answer.code == 4
    assert f"is held by process {holder.pid}" in checks(answer)["rig"]["text"]


def test_a_holder_that_died_is_told(bench: Path, own_state_folder: Path) -> None:
    note = own_state_folder / "rigs" / "sim.holder.json"
    note.parent.mkdir(parents=True)
    note.write_text('{"pid": 77, "since": "yesterday"}')
    answer = labctl("doctor", "--rig", "sim", "--json")
    assert answer.code == 0
    assert checks(answer)["rig"]["status"] == "warning"
    assert "process 77 since yesterday" in checks(answer)["rig"]["text"]


def test_what_drivers_warn_of_is_told_and_stops_nothing(odd: None, bench: Path) -> None:
    answer = labctl("doctor", "--rig", "sim", "--json")
    found = checks(answer)
    assert answer.code == 0
    assert (found["odd driver"]["status"], found["odd driver"]["todo"]) == ("warning", "update it")
    assert found["odd.breaks"]["status"] == "problem"


@pytest.mark.parametrize(
    ("interlock", "code", "said"),
    [
        ("{quantity: lamp.temperature, below: 60}", 0, "lamp.temperature reads 30"),
        ("{quantity: lamp.temperature, below: 25}", 4, "lamp.temperature is 30, it must be below 25; it would abort"),
        ("{quantity: lamp.temperature, below: 25, when: exposing}", 0, "lamp.temperature reads 30"),
    ],
)
def test_interlocks_are_read(interlock: str, code: int, said: str, odd: None, rig: Callable[..., str]) -> None:
    file = rig(f"instruments: {{lamp: {{type: odd.warm-lamp}}}}\ninterlocks: [{interlock}]")
    answer = labctl("doctor", "--rig", file, "--json")
    assert answer.code == code
    assert checks(answer)["interlock"]["text"] == said


def test_an_interlock_that_cannot_be_read_stops_it(odd: None, rig: Callable[..., str]) -> None:
    file = rig("instruments: {lamp: {type: odd.deaf-lamp}}\ninterlocks: [{quantity: lamp.temperature, below: 60}]")
    answer = labctl("doctor", "--rig", file, "--json")
    assert answer.code == 4
    text = checks(answer)["interlock"]["text"]
    assert "lamp.temperature cannot be read, so it would abort" in text
    assert "the thermometer does not answer" in text


def test_a_busy_computer_with_little_memory_is_warned_of(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(host_checks.os, "getloadavg", lambda: (1000.0, 0.0, 0.0))
    monkeypatch.setattr(host_checks, "SPARE_MEMORY_BYTES", 2**60)
    found = {check.name: check for check in computer_checks()}
    assert found["processor"].status == "warning"
    assert found["memory"].status in ("warning", "skipped")
    assert found["versions"].status == "ok"
    assert "labctl" in found["versions"].text


@pytest.mark.parametrize(("answer", "status"), [("yes", "ok"), ("no", "warning")])
def test_a_clock_that_is_not_synchronised_is_told(
    answer: str, status: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    tool = tmp_path / "timedatectl"
    tool.write_text(f"#!/bin/sh\necho {answer}\n")
    tool.chmod(0o755)
    monkeypatch.setenv("PATH", str(tmp_path), prepend=os.pathsep)
    clock = next(check for check in computer_checks() if check.name == "clock")
    assert clock.status == status


def test_an_override_for_a_protocol_that_is_not_there_is_refused(bench: Path) -> None:
    answer = labctl("doctor", "--rig", "sim", "--set", "steps.train.epochs=3", "--json")
    assert answer.code == 2
    assert "there is no protocol to change" in checks(answer)["rig file"]["text"]
