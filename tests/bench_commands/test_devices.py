"""`labctl devices`: what the drivers find, each for itself."""

from __future__ import annotations

import time
from pathlib import Path

import pytest

from labctl import plugins
from labctl.discovery import find_devices, flash_monitors, run_checks
from labctl.errors import BadInput
from tests.bad_input.lab import labctl
from tests.bench_commands.conftest import last_json
from tests.bench_commands.test_show_get_set import running, wait_for


@pytest.fixture(autouse=True)
def only_odd(odd: None, no_shipped_driver: None) -> None:
    """Only the lab's own odd drivers are asked."""


def test_a_finder_that_breaks_or_hangs_costs_no_other_its_findings() -> None:
    began = time.monotonic()
    found = find_devices({"ODD_EYES": "glasses"})
    assert time.monotonic() - began < 5
    (finding,) = found.findings
    assert (finding.name, finding.details) == ("Odd 3000", {"seen_with": "glasses"})
    assert found.failures == {
        "odd.breaks": "RuntimeError: the odd library fell over",
        "odd.hangs": "DeviceTimeout: no answer within 1 s",
    }


def test_a_finder_sees_the_variables_of_this_process_too(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("ODD_EYES", "contact lenses")
    (finding,) = find_devices({}).findings
    assert finding.details == {"seen_with": "contact lenses"}


def test_a_check_that_breaks_is_a_problem_by_its_own_name() -> None:
    broken, good = sorted(run_checks({}), key=lambda check: check.status)
    assert (broken.name, broken.status) == ("odd.breaks", "problem")
    assert "the odd library fell over" in broken.text
    assert (good.name, good.status, good.todo) == ("odd driver", "warning", "update it")


def test_every_monitor_is_told_to_flash_for_so_long(tmp_path: Path) -> None:
    assert flash_monitors({"ODD_FLASHED": str(tmp_path / "flashed")}, 0.7) == {}
    assert (tmp_path / "flashed").read_text() == "0.7"
    assert "KeyError: 'ODD_FLASHED'" in flash_monitors({}, 0.7)["odd.flashes"]


def test_the_list_names_what_was_found_and_what_could_not_be_looked_for(bench: Path) -> None:
    answer = labctl("devices")
    assert answer.code == 0
    (line,) = [line for line in answer.out.splitlines() if "Odd 3000" in line]
    assert [word.strip() for word in line.strip("│").split("│")] == [
        "camera", "Odd 3000", "serial ODD1", "seen_with bare eyes",
    ]  # fmt: skip
    assert "odd.breaks: could not be looked for: RuntimeError: the odd library fell over" in answer.err
    assert "odd.hangs: could not be looked for: DeviceTimeout" in answer.err


def test_scripts_get_the_same_as_json(bench: Path) -> None:
    told = last_json(labctl("devices", "--json").out)
    assert told["findings"][0] == {
        "kind": "camera", "name": "Odd 3000", "where": "serial ODD1", "details": {"seen_with": "bare eyes"},
    }  # fmt: skip
    assert set(told["failures"]) == {"odd.breaks", "odd.hangs"}


def test_a_rig_is_looked_at_with_its_own_eyes(
    bench: Path, own_state_folder: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """A virtual lab tells drivers by variables where its devices are; the finders get the same ones."""
    from sim.world import World

    closed: list[bool] = []
    monkeypatch.setattr(World, "environment", {"ODD_EYES": "those of the rig"}, raising=False)
    monkeypatch.setattr(World, "close", lambda self: closed.append(True), raising=False)
    told = last_json(labctl("devices", "--rig", "sim", "--json").out)
    assert told["findings"][0]["details"] == {"seen_with": "those of the rig"}
    assert closed == [True]
    assert not (own_state_folder / "rigs" / "sim.holder.json").exists()


def test_the_note_of_a_holder_that_died_stays_until_its_devices_were_made_safe(
    bench: Path, own_state_folder: Path
) -> None:
    note = own_state_folder / "rigs" / "sim.holder.json"
    note.parent.mkdir(parents=True)
    note.write_text('{"pid": 1, "since": "yesterday"}')
    assert labctl("devices", "--rig", "sim").code == 0
    assert note.exists(), "to look is not to make safe"
    assert labctl("doctor", "--rig", "sim").code == 0
    assert not note.exists(), "every device was opened and made safe"


def test_a_rig_in_use_is_not_looked_at(bench: Path, own_state_folder: Path) -> None:
    with running("set", "lamp.power=0.4", "--rig", "sim"):
        wait_for(lambda: (own_state_folder / "rigs" / "sim.holder.json").exists())
        answer = labctl("devices", "--rig", "sim")
    assert answer.code == 4
    assert "rig 'sim' is held by process" in answer.err


def test_set_without_a_rig_is_refused(bench: Path) -> None:
    answer = labctl("devices", "--set", "rig.world.seed=3")
    assert (answer.code, answer.out) == (2, "")
    assert "there is no rig to change; give --rig too" in answer.err


def test_a_finder_that_is_no_function_is_named(monkeypatch: pytest.MonkeyPatch) -> None:
    from tests.bench_commands import oddlab

    monkeypatch.setattr(oddlab, "find", ["not", "a", "function"])
    with pytest.raises(BadInput, match=r"'odd.finds' of labctl.finders .* lacks __call__"):
        plugins.load("labctl.finders", "odd.finds")
