"""The language of the virtual instruments, without a transport."""

from __future__ import annotations

from pathlib import Path

import pytest

from sim.virtual_lab.instruments.bench_light import BenchLight, Slot
from sim.virtual_lab.instruments.devices import LightSource, PowerSupply, TranslationStage
from sim.virtual_lab.instruments.scpi import header_pattern


@pytest.fixture
def light(tmp_path: Path) -> BenchLight:
    return BenchLight(tmp_path / "array")


@pytest.fixture
def lamp(light: BenchLight) -> LightSource:
    return LightSource(light, seed=1)


@pytest.mark.parametrize(
    "header", ["SOUR:POW:LEV?", "source:power:level?", ":SOUR:POW?", "Sour:Power?", "SOURCE:POW:LEVEL?"]
)
def test_short_and_long_forms_in_any_case_mean_the_same(lamp: LightSource, header: str) -> None:
    lamp.execute("SOUR:POW 25")
    assert lamp.execute(header) == "25.0000"


@pytest.mark.parametrize("header", ["SOURC:POW?", "SOUR:POWE?", "SOUR?", "POW?", "SOUR:POW:LEVE?", "SOUR POW?"])
def test_anything_between_short_and_long_is_an_undefined_header(lamp: LightSource, header: str) -> None:
    assert lamp.execute(header) is None
    assert lamp.execute("SYST:ERR?") == '-113,"Undefined header"'
    assert lamp.execute("SYST:ERR?") == '+0,"No error"'


def test_an_optional_first_node_can_be_left_out() -> None:
    pattern = header_pattern("[SOURce:]VOLTage[:LEVel]?")
    for header in ("VOLT?", "SOUR:VOLT?", ":VOLTAGE:LEV?", "SOURCE:VOLTAGE:LEVEL?"):
        assert pattern.fullmatch(header), header


def test_several_commands_in_a_line_share_their_path_and_answers_come_in_one_line(light: BenchLight) -> None:
    supply = PowerSupply(light, seed=1)
    assert supply.execute("SOUR:VOLT 5;CURR 1;:OUTP ON;*OPC?") == "1"
    assert supply.execute("SOUR:VOLT?;CURR?;:MEAS:VOLT?") == "5.0000;1.0000;5.0000"
    assert supply.execute("SYST:ERR?") == '+0,"No error"'


WRONG = [
    ("SOUR:POW", -109), ("SOUR:POW high", -104), ("SOUR:POW 101", -222), ("SOUR:POW 1,2", -108), ("OUTP MAYBE", -224),
]  # fmt: skip


@pytest.mark.parametrize(("command", "number"), WRONG)
def test_wrong_parameters_stand_in_the_error_queue_and_change_nothing(
    lamp: LightSource, command: str, number: int
) -> None:
    lamp.execute("SOUR:POW 30")
    lamp.execute(command)
    assert lamp.execute("SYST:ERR?").startswith(f"{number:+d},")
    assert lamp.execute("SOUR:POW?;:OUTP?") == "30.0000;0"


def test_the_error_queue_is_first_in_first_out_and_tells_its_overflow(lamp: LightSource) -> None:
    lamp.execute("SOUR:POW 101")
    for _ in range(40):
        lamp.execute("NONSENSE")
    errors = []
    while not (error := lamp.execute("SYST:ERR?")).startswith("+0"):
        errors.append(error)
    assert errors[0].startswith("-222")
    assert errors[-1] == '-350,"Queue overflow"'
    assert len(errors) == 20


def test_the_status_byte_follows_errors_and_masks(lamp: LightSource) -> None:
    assert lamp.execute("*CLS;*ESE 32;*SRE 32;*STB?") == "0"
    lamp.execute("NONSENSE")
    assert lamp.execute("*STB?") == str(0x04 | 0x20 | 0x40)
    assert lamp.execute("*ESR?") == "32"
    assert lamp.execute("*ESR?") == "0"
    assert lamp.execute("*CLS;*STB?") == "0"


def test_a_lamp_without_mains_is_dark_while_its_controller_tells_what_was_set(
    lamp: LightSource, light: BenchLight
) -> None:
    lamp.execute("SOUR:POW 80;:OUTP ON")
    assert light[Slot.LAMP] == pytest.approx(0.8)
    lamp.lose_mains()
    assert light[Slot.LAMP] == 0.0
    assert lamp.execute("SOUR:POW?;:OUTP?;:MEAS:POW?") == "80.0000;1;0.0000"
    lamp.regain_mains()
    assert light[Slot.LAMP] == 0.0, "it restarts dark"
    assert lamp.execute("SOUR:POW?;:OUTP?") == "0.0000;0"


def test_a_supply_at_its_current_limit_gives_way_with_the_voltage(light: BenchLight) -> None:
    supply = PowerSupply(light, seed=1)
    supply.execute("VOLT 10;CURR 0.1;:OUTP ON")
    assert supply.execute("MEAS:VOLT?;CURR?") == "5.0000;0.1000"
    assert light[Slot.SUPPLY] == pytest.approx(5.0)


def test_a_stage_takes_its_time_and_stops_where_it_is(light: BenchLight, monkeypatch: pytest.MonkeyPatch) -> None:
    now = [100.0]
    monkeypatch.setattr("sim.virtual_lab.instruments.devices.time.monotonic", lambda: now[0])
    stage = TranslationStage(light, seed=1)
    stage.execute("MOVE:ABS 10")
    now[0] += 0.04
    assert stage.execute("MOVE:DONE?;:POS?") == "0;4.00000"
    stage.execute("MOVE:STOP")
    now[0] += 1.0
    assert stage.execute("MOVE:DONE?;:POS?") == "1;4.00000"
    stage.execute("MOVE:ABS 0")
    now[0] += 1.0
    assert stage.execute("MOVE:DONE?;:POS?") == "1;0.00000"
