"""`labctl show`, `get` and `set`: what a person sets holds as long as the command, and the rig is safe afterwards."""

from __future__ import annotations

import contextlib
import json
import os
import signal
import subprocess
import sys
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from sim.devices import SimulatedDisplay
from tests.bad_input.lab import labctl
from tests.bench_commands.conftest import last_json


@pytest.fixture
def shown(monkeypatch: pytest.MonkeyPatch) -> list[tuple[str, np.ndarray]]:
    """Every picture that a display shows, with the display's name."""
    seen: list[tuple[str, np.ndarray]] = []
    real = SimulatedDisplay.show

    def show(self: SimulatedDisplay, levels: Any) -> float:
        seen.append((self.name, levels.copy()))
        return real(self, levels)

    monkeypatch.setattr(SimulatedDisplay, "show", show)
    return seen


@contextmanager
def running(*args: str) -> Iterator[subprocess.Popen[str]]:
    """`labctl` in a process of its own; killed at the end if it still runs."""
    process = subprocess.Popen(
        [sys.executable, "-m", "labctl", *args], stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True
    )
    try:
        yield process
    finally:
        if process.poll() is None:
            process.kill()
        process.communicate()


def wait_for(look: Callable[[], bool], limit_s: float = 60.0) -> None:
    end = time.monotonic() + limit_s
    while not look():
        assert time.monotonic() < end, "waited too long"
        time.sleep(0.02)


# --- show


def test_a_mask_is_shown_on_the_slm_by_its_road_and_nowhere_else(bench: Path, shown: list[Any]) -> None:
    mask = np.zeros((32, 32))
    mask[3, 5] = 0.5
    np.save(bench / "m.npy", mask)
    answer = labctl("show", "m.npy", "--on", "mask", "--rig", "sim", "--seconds", "0")
    assert answer.code == 0
    assert "mask (128x128 px, rig 'sim') shows m.npy until 0 s have passed" in answer.err
    ((name, levels),) = shown
    assert name == "mask"
    assert np.unique(levels[12:16, 20:24]).tolist() == [round(255 * 0.5 ** (1 / 2.2))]
    assert np.count_nonzero(levels) == 16


def test_raw_levels_pass_by_the_road(bench: Path, shown: list[Any]) -> None:
    assert labctl("show", "grey:77", "--on", "scene", "--levels", "--rig", "sim", "--seconds", "0").code == 0
    ((name, levels),) = shown
    assert name == "scene"
    assert np.unique(levels).tolist() == [77]


@pytest.mark.parametrize("number", [signal.SIGINT, signal.SIGTERM, signal.SIGHUP])
def test_any_way_to_end_it_leaves_the_lamp_dark(
    number: signal.Signals, bench: Path, lamp_power: Callable[[str], float | None], own_state_folder: Path
) -> None:
    holder = own_state_folder / "rigs" / "sim.holder.json"
    with running("show", "white", "--on", "scene", "--rig", "sim", "--with", "lamp.power=0.9") as process:
        wait_for(lambda: lamp_power("sim") == 0.9)
        time.sleep(0.3)
        process.send_signal(number)
        _, err = process.communicate(timeout=60)
    assert process.returncode == 0, err
    assert lamp_power("sim") == 0.0
    assert not holder.exists(), "the rig was let go, safe"


@pytest.mark.parametrize("before", [0, 1], ids=["after the end", "after a first Ctrl-C"])
def test_an_impatient_person_cannot_keep_the_rig_from_being_made_safe(
    before: int, bench: Path, lamp_power: Callable[[str], float | None], monkeypatch: pytest.MonkeyPatch
) -> None:
    """Ctrl-C again while the first device is made safe: the lamp, which comes last here, must still go dark."""
    real = SimulatedDisplay.close
    pressed: list[int] = []

    def close(self: SimulatedDisplay) -> None:
        pressed.append(1)
        os.kill(os.getpid(), signal.SIGINT)
        time.sleep(0.2)
        real(self)

    def hold(seconds: float | None) -> None:
        with contextlib.suppress(KeyboardInterrupt):
            for _ in range(before):
                os.kill(os.getpid(), signal.SIGINT)
                time.sleep(0.1)

    monkeypatch.setattr(SimulatedDisplay, "close", close)
    monkeypatch.setattr(SimulatedDisplay, "safe", lambda self: close(self) if lamp_power("sim") == 0.9 else None)
    monkeypatch.setattr("labctl.cli.in_hand.hold", hold)
    order = "rig.safe_order=[mask, scene, lamp, camera]"
    answer = labctl("set", "lamp.power=0.9", "--rig", "sim", "--set", order)
    assert answer.code == 0
    assert len(pressed) == 4
    assert "the rig is being made safe; a moment, please" in answer.err
    assert lamp_power("sim") == 0.0


def test_a_display_that_the_rig_has_not_is_named(bench: Path) -> None:
    args = ("--rig", "sim", "--set", "rig.scene=null", "--set", "rig.safe_order=null")
    answer = labctl("show", "white", "--on", "scene", *args)
    assert answer.code == 2
    assert "`labctl show --on scene` needs the device scene, which rig 'sim' does not have" in answer.err


def test_a_picture_too_large_for_the_display_is_refused_and_the_rig_is_safe(
    bench: Path, own_state_folder: Path
) -> None:
    np.save(bench / "m.npy", np.ones((33, 32)))
    answer = labctl("show", "m.npy", "--on", "mask", "--rig", "sim", "--seconds", "0")
    assert answer.code == 2
    assert "'m.npy' needs 132x128 display pixels, the display has 128x128" in answer.err
    assert not (own_state_folder / "rigs" / "sim.holder.json").exists()


# --- get


def test_all_knobs_are_listed_with_units_and_limits(bench: Path) -> None:
    answer = labctl("get", "--rig", "sim")
    assert answer.code == 0
    lines = {line.split()[1]: line for line in answer.out.splitlines() if line.startswith("│")}
    assert list(lines) == ["lamp.power", "camera.exposure_s", "camera.gain_db"]
    assert "0 … 1" in lines["lamp.power"]
    assert "1e-05 … 10" in lines["camera.exposure_s"]


def test_a_device_named_alone_gives_all_of_its_own(odd: None, rig: Callable[..., str]) -> None:
    file = rig("camera: {type: odd.talkative}\nlight_path: sequenced")
    values = last_json(labctl("get", "camera", "--rig", file, "--json").out)["values"]
    assert values == {
        "camera.exposure_s": None,
        "camera.gain_db": None,
        "camera.Gamma": 1.0,
        "camera.TestPattern": "Off",
        "camera.Temperature": 41.5,
    }


def test_one_deaf_thermometer_leaves_the_other_values_readable(odd: None, rig: Callable[..., str]) -> None:
    answer = labctl("get", "--rig", rig("instruments: {lamp: {type: odd.deaf-lamp}}"), "--json")
    told = last_json(answer.out)
    assert answer.code == 4
    assert told["values"]["lamp.power"] == 0.0
    assert told["failures"] == {"lamp.temperature": "lamp: the thermometer does not answer"}


@pytest.mark.parametrize(
    ("name", "said"),
    [
        ("lamb.power", "rig 'sim' has no 'lamb' to read or set; did you mean `lamp`?"),
        ("lamp.powr", "'lamp' has no quantity 'powr'; did you mean `power`?"),
        ("camera.exposure", "there is no 'camera.exposure' on this rig; did you mean `camera.exposure_s`?"),
        ("mask.level", "rig 'sim' has no 'mask' to read or set"),
    ],
)
def test_an_unknown_name_gets_the_nearest_one(name: str, said: str, bench: Path) -> None:
    for command in (("get", name), ("set", f"{name}=1")):
        answer = labctl(*command, "--rig", "sim")
        assert (answer.code, answer.out) == (2, "")
        assert said in answer.err


# --- set


def test_what_is_set_is_read_back_and_held_and_then_the_lamp_is_dark(
    bench: Path, lamp_power: Callable[[str], float | None], own_state_folder: Path
) -> None:
    with running("set", "lamp.power=0.25", "--rig", "sim", "--hold", "1.5", "--json") as process:
        assert process.stdout is not None
        told = json.loads(process.stdout.readline())
        assert told == {"values": {"lamp.power": 0.25}}
        assert lamp_power("sim") == 0.25, "it is told once it is so, and held from then on"
        _, err = process.communicate(timeout=60)
    assert "held until 1.5 s have passed; then the rig is made safe" in err
    assert lamp_power("sim") == 0.0


def test_exposure_and_gain_are_set_together_and_the_camera_rounds_them(bench: Path) -> None:
    settings = ("camera.exposure_s=0.0012345678", "camera.gain_db=6")
    told = last_json(labctl("set", *settings, "--rig", "sim", "--hold", "0", "--json").out)
    assert told["values"] == {"camera.exposure_s": 0.001235, "camera.gain_db": 6.0}


def test_a_feature_of_the_camera_takes_numbers_and_refuses_what_the_camera_refuses(
    odd: None, rig: Callable[..., str]
) -> None:
    file = rig("camera: {type: odd.talkative}\nlight_path: sequenced")
    args = ("--rig", file, "--hold", "0", "--json")
    assert last_json(labctl("set", "camera.Gamma=1.5", *args).out)["values"] == {"camera.Gamma": 1.5}
    beyond = labctl("set", "camera.Gamma=3", *args)
    assert (beyond.code, beyond.err) == (4, "Gamma is 3, 0.5..2 is allowed\n")
    only_read = labctl("set", "camera.Temperature=20", *args)
    assert (only_read.code, only_read.out) == (2, "")
    assert "'camera.Temperature' can only be read" in only_read.err


@pytest.mark.parametrize(
    ("setting", "said"),
    [
        ("lamp.power=1.5", "'lamp.power=1.5' is out of range; 0..1 is allowed"),
        ("lamp.power=nan", "'lamp.power=nan' is out of range"),
        ("lamp.power=bright", "'lamp.power=bright': a plain number is needed"),
        ("lamp.power", "a name and a value are needed; write it like lamp.power=0.5"),
        ("lamp=0.5", "a name and a value are needed; write it like lamp.power=0.5"),
    ],
)
def test_a_bad_value_is_refused_before_the_rig_is_touched(
    setting: str, said: str, bench: Path, own_state_folder: Path
) -> None:
    answer = labctl("set", setting, "--rig", "sim", "--hold", "0")
    assert answer.code == 2
    assert said in answer.err
    assert not own_state_folder.exists(), "nothing was locked or opened"


def test_no_knob_is_turned_when_one_of_them_cannot_be(odd: None, rig: Callable[..., str], lamp_power: Any) -> None:
    file = rig("camera: {type: odd.talkative}\nlight_path: sequenced")
    answer = labctl("set", "lamp.power=0.5", "camera.Gama=1", "--rig", file, "--hold", "0")
    assert answer.code == 2
    assert "there is no 'camera.Gama' on this rig; did you mean `camera.Gamma`?" in answer.err
    assert "lamp.power is" not in answer.err


def test_a_rig_in_use_is_not_touched(bench: Path, own_state_folder: Path) -> None:
    with running("set", "lamp.power=0.4", "--rig", "sim") as holder:
        wait_for(lambda: (own_state_folder / "rigs" / "sim.holder.json").exists())
        answer = labctl("get", "--rig", "sim")
        holder.send_signal(signal.SIGTERM)
        holder.communicate(timeout=60)
    assert answer.code == 4
    assert f"rig 'sim' is held by process {holder.pid}" in answer.err
