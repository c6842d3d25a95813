"""Whoever has an instrument's answer finds the bench as it says, however late the clock of the lab is."""

from __future__ import annotations

import time
from pathlib import Path

import pytest

from sim.virtual_lab.instruments.bench_light import BenchLight, Slot
from sim.virtual_lab.instruments.devices import Shutter, TranslationStage


@pytest.fixture
def light(tmp_path: Path) -> BenchLight:
    """An array that nothing keeps up to date by the clock."""
    return BenchLight(tmp_path / "array")


def test_a_stage_that_says_it_has_arrived_is_there_on_the_bench(light: BenchLight) -> None:
    stage = TranslationStage(light, seed=1)
    stage.execute("MOVE:ABS 0.5")
    assert light[Slot.STAGE] < 0.5e-3
    until = time.monotonic() + 10
    while stage.execute("MOVE:DONE?") != "1":
        assert time.monotonic() < until
        time.sleep(0.001)
    assert light[Slot.STAGE] == pytest.approx(0.5e-3, abs=1e-9)


def test_a_shutter_that_is_asked_after_its_travel_is_open_on_the_bench(light: BenchLight) -> None:
    shutter = Shutter(light, seed=1)
    shutter.execute("SHUT:STAT OPEN")
    time.sleep(0.02)
    assert shutter.execute("SHUT:STAT?") == "OPEN"
    assert light[Slot.SHUTTER] == 1.0
