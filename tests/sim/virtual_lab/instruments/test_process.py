"""The process: what it serves, what outlives its consumers, and how it ends."""

from __future__ import annotations

import socket
import struct
import subprocess
import sys

import pytest
import pyvisa

from tests.sim.virtual_lab.instruments.process import NAMES, Instruments, running_instruments


@pytest.fixture(scope="module")
def lab():
    with running_instruments(seed=7) as instruments:
        yield instruments


def session(lab: Instruments, variable: str):
    opened = pyvisa.ResourceManager("@py").open_resource(lab.resources[variable], timeout=1000)
    opened.read_termination = opened.write_termination = "\n"
    return opened


def test_every_instrument_is_there_on_both_transports_and_says_who_it_is(lab: Instruments) -> None:
    for name in NAMES:
        answers = []
        for variable in (f"VIRTUAL_{name.upper()}", f"VIRTUAL_{name.upper()}_HISLIP"):
            with session(lab, variable) as instrument:
                answers.append(instrument.query("*IDN?"))
        assert answers[0] == answers[1]
        assert answers[0].startswith("labctl,Virtual ")
        assert answers[0].endswith(",SN0007,1.0")


def test_the_lamp_burns_on_when_its_consumer_is_gone_and_others_see_it(lab: Instruments) -> None:
    with session(lab, "VIRTUAL_LAMP") as lamp:
        lamp.write("SOUR:POW 40;:OUTP ON")
        assert lamp.query("*OPC?") == "1"
    with session(lab, "VIRTUAL_LAMP_HISLIP") as lamp, session(lab, "VIRTUAL_POWER_METER") as meter:
        assert float(lamp.query("SOUR:POW?")) == 40
        assert float(meter.query("MEAS:POW?")) == pytest.approx(4e-4, rel=0.01)


def test_the_array_on_disk_is_four_little_endian_floats(lab: Instruments) -> None:
    with session(lab, "VIRTUAL_SUPPLY") as supply:
        supply.write("VOLT 12;CURR 3;:OUTP ON")
        assert supply.query("*OPC?") == "1"
        lamp, shutter, stage, volts = struct.unpack("<4d", lab.array.read_bytes())
    assert volts == 12.0
    assert [lamp, shutter, stage] == [lab.truth()[name] for name in ("lamp", "shutter", "stage")]


def test_hislip_answers_status_and_clear(lab: Instruments) -> None:
    with session(lab, "VIRTUAL_SHUTTER_HISLIP") as shutter:
        shutter.write("NONSENSE")
        assert shutter.query("*OPC?") == "1"
        assert shutter.read_stb() & 0x04
        shutter.clear()
        shutter.write("*CLS")
        assert shutter.query("SYST:ERR?") == '+0,"No error"'
        assert shutter.read_stb() == 0


def test_a_request_that_makes_no_sense_is_told(lab: Instruments) -> None:
    for instrument, fault in (("lamp", "stuck"), ("toaster", "late"), ("stage", "mains_off")):
        with pytest.raises(ValueError, match=f"{instrument}|{fault}"):
            lab.inject(instrument, fault)


def test_bytes_that_are_no_hislip_end_the_connection_and_nothing_else(lab: Instruments) -> None:
    resource = lab.resources["VIRTUAL_LAMP_HISLIP"]
    port = int(resource.split("hislip0,")[1].split(":")[0])
    with socket.create_connection(("127.0.0.1", port), timeout=5) as connection:
        connection.sendall(b"GET / HTTP/1.1\r\n")  # as long as a header
        assert connection.recv(100) == b""
    with session(lab, "VIRTUAL_LAMP_HISLIP") as lamp:
        assert lamp.query("*OPC?") == "1"


def test_it_ends_with_its_standard_input() -> None:
    with running_instruments() as instruments:
        assert instruments.process.poll() is None
    assert instruments.process.poll() == 0


def test_it_imports_nothing_else_of_sim() -> None:
    code = (
        "import sim.virtual_lab.instruments.__main__, sys; print([name for name in sys.modules if name[:4] == 'sim.'])"
    )
    said = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True).stdout
    assert "virtual_lab" in said
    assert all(name.startswith("'sim.virtual_lab") for name in said.strip("[]\n").split(", "))
