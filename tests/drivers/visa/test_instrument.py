"""What the driver promises of every instrument: identity, limits, read-back, and dark and closed on every way out."""

from __future__ import annotations

import subprocess
import sys
import textwrap
import threading
import time
from pathlib import Path

import pytest

from drivers.visa.errors import (
    InstrumentBusy,
    InstrumentComplains,
    InstrumentLost,
    InstrumentSilent,
    ReadBackDiffers,
    WrongInstrument,
)
from drivers.visa.finder import identify, list_visa
from drivers.visa.instrument import VisaInstrument
from labctl.devices import Instrument
from labctl.errors import BadInput, DeviceTimeout, HardwareError, InterlockError
from tests.drivers.visa.conftest import Make
from tests.sim.virtual_lab.instruments.process import Instruments

FILES = {
    "light-source": "lamp", "power-meter": "power_meter", "shutter": "shutter", "power-supply": "supply",
    "translation-stage": "stage",
}  # fmt: skip


def lamp_file(folder: Path, **changes: str) -> str:
    """A copy of the shipped light source with some text changed."""
    text = (Path(__file__).parents[3] / "drivers" / "instruments" / "light-source.yaml").read_text()
    for old, new in changes.values():
        assert old in text
        text = text.replace(old, new)
    path = folder / "lamp.yaml"
    path.write_text(text)
    return str(path)


@pytest.mark.parametrize("file", FILES)
def test_every_shipped_instrument_opens_reads_and_sets_all_it_has(make: Make, transport: str, file: str) -> None:
    device = make(file, FILES[file], transport)
    assert isinstance(device, Instrument)
    device.open()
    assert "labctl,Virtual" in device.describe_device()["identity"]
    for name, quantity in device.quantities.items():
        if quantity.settable:
            for value in (quantity.high, quantity.low):
                assert device.set_quantity(name, value) == pytest.approx(value, abs=1e-3 * quantity.high)
        assert quantity.low <= device.read_quantity(name) <= quantity.high


def test_the_light_on_the_bench_follows_what_is_set(lab: Instruments, make: Make) -> None:
    lamp, meter = make("light-source", "lamp"), make("power-meter", "power_meter")
    lamp.open()
    meter.open()
    for power in (0.2, 1.0):
        lamp.set_quantity("power", power)
        assert lab.truth()["lamp"] == pytest.approx(power)
        assert lamp.read_quantity("emission") == pytest.approx(power, rel=0.01)
        assert meter.read_quantity("power") == pytest.approx(1e-3 * power, rel=0.01)


def test_another_instrument_at_the_resource_is_refused_before_it_is_told_anything(
    lab: Instruments, make: Make, transport: str
) -> None:
    shutter = make("shutter", "shutter", transport)
    shutter.open()
    shutter.set_quantity("open", 1)
    shutter._connection.close()  # as after a crash: open, and nobody there
    wrong = make("light-source", "shutter", transport)
    with pytest.raises(WrongInstrument, match=r"'labctl,Virtual shutter,SN0001,1\.0' answers at TCPIP0"):
        wrong.open()
    assert lab.truth()["shutter"] == 1.0


def test_two_alike_are_told_apart_by_serial_number(make: Make) -> None:
    make("light-source", "lamp", identification="SN0001").open()
    with pytest.raises(WrongInstrument, match="SN0002"):
        make("light-source", "lamp", "HISLIP", identification="SN0002").open()


def test_an_instrument_serves_one_rig_at_a_time(make: Make, transport: str) -> None:
    first, second = make("light-source", "lamp", transport), make("light-source", "lamp", transport)
    first.open()
    first.set_quantity("power", 0.5)
    with pytest.raises(InstrumentBusy, match="in use by another rig or process"):
        second.open()
    assert first.read_quantity("power") == 0.5
    first.close()
    second.open()


def test_a_rig_can_narrow_the_limits_and_not_widen_them(lab: Instruments, make: Make) -> None:
    lamp = make("light-source", "lamp", limits={"power": (0.0, 0.3)})
    lamp.open()
    assert lamp.set_quantity("power", 0.3) == pytest.approx(0.3)
    with pytest.raises(InterlockError, match=r"lamp: power is 0\.31 1, 0\.\.0\.3 is allowed"):
        lamp.set_quantity("power", 0.31)
    assert lab.truth()["lamp"] == pytest.approx(0.3)
    with pytest.raises(BadInput, match="a rig can only narrow"):
        make("light-source", "lamp", limits={"power": (0.0, 2.0)})
    with pytest.raises(BadInput, match="there is no quantity 'powr'; did you mean `power`"):
        make("light-source", "lamp", limits={"powr": (0.0, 0.5)})


def test_a_switch_takes_its_positions_and_nothing_between(make: Make) -> None:
    shutter = make("shutter", "shutter")
    shutter.open()
    with pytest.raises(InterlockError, match=r"open is 0\.5, it can only be 0 \(CLOSED\), 1 \(OPEN\)"):
        shutter.set_quantity("open", 0.5)


def test_what_can_only_be_read_cannot_be_set(lamp: VisaInstrument) -> None:
    with pytest.raises(BadInput, match="temperature can only be read"):
        lamp.set_quantity("temperature", 20.0)


def test_a_read_back_that_differs_is_an_error(make: Make, tmp_path: Path) -> None:
    """This file reads the light, not the setting, and the lamp has lost its mains."""
    file = lamp_file(tmp_path, read=('read: "SOUR:POW:LEV?"', 'read: "MEAS:TEMP?"'))
    lamp = make(file, "lamp")
    with pytest.raises(ReadBackDiffers, match=r"power was set to 0 1 and reads back 0\.2\d*, more than 0\.002 off"):
        lamp.open()


def test_a_command_that_the_instrument_does_not_know_is_told(make: Make, tmp_path: Path) -> None:
    file = lamp_file(tmp_path, start=('start_up: ["*CLS"]', 'start_up: ["LIGHT:ON"]'))
    with pytest.raises(InstrumentComplains, match=r'after start-up the error queue holds -113,"Undefined header"'):
        make(file, "lamp").open()


def test_a_stage_has_arrived_when_the_setting_returns(lab: Instruments, make: Make) -> None:
    stage = make("translation-stage", "stage")
    stage.open()
    began_s = time.monotonic()
    stage.set_quantity("position", 0.02)
    assert time.monotonic() - began_s > 0.01
    assert lab.truth()["stage"] == pytest.approx(0.02, abs=1e-5)


def test_a_stage_that_is_stuck_is_stopped_and_told(lab: Instruments, make: Make, tmp_path: Path) -> None:
    text = (Path(__file__).parents[3] / "drivers" / "instruments" / "translation-stage.yaml").read_text()
    file = tmp_path / "stage.yaml"
    file.write_text(text.replace("limit_s: 30.0", "limit_s: 0.2"))
    stage = make(str(file), "stage")
    stage.open()
    lab.inject("stage", "stuck")
    with pytest.raises(DeviceTimeout, match=r"position has not arrived after 0\.2 s and was stopped"):
        stage.set_quantity("position", 0.01)


def test_safe_stops_a_stage_that_another_thread_is_moving(lab: Instruments, make: Make) -> None:
    stage = make("translation-stage", "stage")
    stage.open()
    stage.set_quantity("position", 0.0)
    errors: list[Exception] = []

    def move() -> None:
        try:
            stage.set_quantity("position", 0.025)
        except HardwareError as error:
            errors.append(error)

    mover = threading.Thread(target=move)
    mover.start()
    time.sleep(0.08)
    stage.safe()
    mover.join()
    assert 0.0 < lab.truth()["stage"] < 0.024
    assert "was made safe while position was being set" in str(errors[0])


def test_opening_makes_dark_what_was_left_burning(lab: Instruments, make: Make) -> None:
    lamp = make("light-source", "lamp")
    lamp.open()
    lamp.set_quantity("power", 1.0)
    lamp._connection.close()
    assert lab.truth()["lamp"] == 1.0
    make("light-source", "lamp").open()
    assert lab.truth()["lamp"] == 0.0


def test_a_lamp_whose_error_queue_does_not_answer_is_switched_off_all_the_same(
    lab: Instruments, make: Make, tmp_path: Path
) -> None:
    lamp = make("light-source", "lamp")
    lamp.open()
    lamp.set_quantity("power", 1.0)
    lamp._connection.close()
    file = lamp_file(tmp_path, queue=('start_up: ["*CLS"]', 'error_query: "SYST:NOPE?"'))
    with pytest.raises(InstrumentSilent, match=r"SYST:NOPE\?"):
        make(file, "lamp").open()
    assert lab.truth()["lamp"] == 0.0


def test_closing_leaves_it_dark_and_safe_works_when_closed(lab: Instruments, make: Make) -> None:
    lamp, other = make("light-source", "lamp"), make("light-source", "lamp")
    lamp.open()
    lamp.set_quantity("power", 1.0)
    lamp.close()
    assert lab.truth()["lamp"] == 0.0
    other.open()
    other.set_quantity("power", 1.0)
    other._connection.close()
    lamp.safe()
    assert lab.truth()["lamp"] == 0.0


def test_safe_reaches_the_lamp_over_a_new_connection_when_the_old_one_broke(
    lab: Instruments, lamp: VisaInstrument
) -> None:
    lamp.set_quantity("power", 1.0)
    lab.inject("lamp", "refuse")
    lab.inject("lamp", "none")
    lamp.safe()
    assert lab.truth()["lamp"] == 0.0


@pytest.mark.parametrize("fault", ["late", "silent", "half", "drop", "reset", "rubbish"])
def test_safe_reaches_the_lamp_through_every_fault(lab: Instruments, lamp: VisaInstrument, fault: str) -> None:
    lamp.set_quantity("power", 1.0)
    lab.inject("lamp", fault, seconds=0.45)
    lamp.safe()
    assert lab.truth()["lamp"] == 0.0


@pytest.mark.filterwarnings("ignore:Exception ignored in.*socket:pytest.PytestUnraisableExceptionWarning")
def test_safe_says_so_when_it_cannot_reach_the_lamp(lab: Instruments, lamp: VisaInstrument) -> None:
    lab.inject("lamp", "refuse")
    with pytest.raises(InstrumentLost):
        lamp.safe()
    with pytest.raises(InstrumentLost):
        lamp.close()
    lamp.close()


WAYS_OUT = {"the end": "", "an exception": "raise ZeroDivisionError", "sys.exit": "sys.exit(3)"}


@pytest.mark.parametrize("way", WAYS_OUT)
def test_a_process_that_ends_without_closing_leaves_the_light_off_and_the_shutter_closed(
    lab: Instruments, way: str
) -> None:
    code = """
        import sys
        from drivers.visa.settings import VisaSettings
        from labctl.devices import OpenContext
        for file, variable, quantity in (("light-source", "LAMP", "power"), ("shutter", "SHUTTER_HISLIP", "open")):
            settings = VisaSettings(instrument=file, resource="$VIRTUAL_" + variable)
            globals()[file] = settings.make(OpenContext(file, "bench", environment={environment!r}))
            globals()[file].open()
            globals()[file].set_quantity(quantity, 1)
        print("burning", flush=True)
        sys.stdin.readline()
        {way}
    """
    code = textwrap.dedent(code).format(environment=lab.resources, way=WAYS_OUT[way])
    with subprocess.Popen(
        [sys.executable, "-c", code], stdin=subprocess.PIPE, stdout=subprocess.PIPE, stderr=subprocess.DEVNULL
    ) as process:
        assert process.stdout is not None
        assert process.stdin is not None
        assert process.stdout.readline() == b"burning\n"
        assert lab.truth()["lamp"] == lab.truth()["shutter"] == 1.0
        process.stdin.write(b"\n")
        process.stdin.flush()
        process.wait(20)
    time.sleep(0.05)  # the shutter blade travels
    assert lab.truth()["lamp"] == lab.truth()["shutter"] == 0.0


def test_a_resource_that_names_a_missing_variable_is_told(make: Make) -> None:
    with pytest.raises(HardwareError, match="names the environment variable NO_SUCH_LAMP, which is not set"):
        make("light-source", "lamp", resource="$NO_SUCH_LAMP")
    with pytest.raises(BadInput, match="has a `\\$` without a name"):
        make("light-source", "lamp", resource="$ LAMP")


def test_without_pyvisa_the_error_says_what_to_install(
    make: Make, monkeypatch: pytest.MonkeyPatch, lab: Instruments
) -> None:
    lamp = make("light-source", "lamp")
    monkeypatch.setitem(sys.modules, "pyvisa", None)
    monkeypatch.setattr("drivers.visa.connection._managers", {})
    with pytest.raises(HardwareError, match=r"pip install 'labctl\[visa\]'"):
        lamp.open()


def test_an_unknown_backend_is_told(make: Make) -> None:
    with pytest.raises(HardwareError, match="VISA backend '@nosuch' cannot be loaded"):
        make("light-source", "lamp", backend="@nosuch").open()


def test_instruments_are_found_with_their_names_and_one_in_use_is_left_alone(lab: Instruments, make: Make) -> None:
    make("light-source", "lamp").open()
    found = {finding.where: finding.name for finding in list_visa(lab.resources)}
    assert found["$VIRTUAL_LAMP"] == "in use by a rig"
    assert "Virtual power meter" in found["$VIRTUAL_POWER_METER_HISLIP"]
    lab.inject("shutter", "silent", n=100)
    began_s = time.monotonic()
    answers = identify([lab.resources["VIRTUAL_SHUTTER"]], answer_s=0.2)
    assert list(answers.values()) == ["no answer within 0.2 s"]
    assert time.monotonic() - began_s < 5
