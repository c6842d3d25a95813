"""Every fault of a connection has its own error; afterwards the next answer is right, or there is no connection."""

from __future__ import annotations

import pytest
import pyvisa

from drivers.visa.errors import (
    InstrumentComplains,
    InstrumentError,
    InstrumentLost,
    InstrumentSilent,
    InstrumentTalksRubbish,
    Overload,
)
from drivers.visa.instrument import VisaInstrument
from labctl.errors import DeviceTimeout
from tests.drivers.visa.conftest import TRANSPORTS, Make, variable
from tests.sim.virtual_lab.instruments.process import Instruments

pytestmark = pytest.mark.filterwarnings(
    "ignore:Exception ignored in.*socket:pytest.PytestUnraisableExceptionWarning"  # see `lab`
)

FAULTS = [
    ({"fault": "late", "seconds": 0.45}, {"SOCKET": InstrumentSilent, "HISLIP": InstrumentSilent}),
    ({"fault": "silent"}, {"SOCKET": InstrumentSilent, "HISLIP": InstrumentSilent}),
    ({"fault": "half"}, {"SOCKET": InstrumentSilent, "HISLIP": InstrumentSilent}),
    # Over a raw socket pyvisa-py tells an ended connection from silence in nothing.
    ({"fault": "drop"}, {"SOCKET": InstrumentSilent, "HISLIP": InstrumentLost}),
    ({"fault": "reset"}, {"SOCKET": InstrumentLost, "HISLIP": InstrumentLost}),
    ({"fault": "rubbish"}, {"SOCKET": InstrumentTalksRubbish, "HISLIP": InstrumentTalksRubbish}),
    ({"fault": "value", "text": ""}, {"SOCKET": InstrumentTalksRubbish, "HISLIP": InstrumentTalksRubbish}),
    ({"fault": "value", "text": "50 %"}, {"SOCKET": InstrumentTalksRubbish, "HISLIP": InstrumentTalksRubbish}),
    ({"fault": "value", "text": "9.91E37"}, {"SOCKET": Overload, "HISLIP": Overload}),
    ({"fault": "value", "text": "-9.9E37"}, {"SOCKET": Overload, "HISLIP": Overload}),
    ({"fault": "value", "text": "NAN"}, {"SOCKET": Overload, "HISLIP": Overload}),
]


@pytest.mark.parametrize(("fault", "errors"), FAULTS, ids=lambda value: "-".join(map(str, value.values())))
def test_each_fault_ends_in_its_error_and_the_next_answers_are_right(
    lab: Instruments, lamp: VisaInstrument, transport: str, fault: dict, errors: dict
) -> None:
    lamp.set_quantity("power", 0.5)
    lab.inject("lamp", **fault)
    with pytest.raises(InstrumentError) as raised:
        lamp.read_quantity("power")
    assert type(raised.value) is errors[transport]
    assert raised.value.command == "SOUR:POW:LEV?"
    assert raised.value.resource == lab.resources[variable("lamp", transport)]
    for _ in range(3):
        assert lamp.read_quantity("power") == 0.5
        assert 20 < lamp.read_quantity("temperature") < 30


def test_a_silent_instrument_is_a_device_timeout_too(lab: Instruments, lamp: VisaInstrument) -> None:
    lab.inject("lamp", "silent")
    with pytest.raises(DeviceTimeout, match=r"no whole answer within 0\.3 s"):
        lamp.read_quantity("power")


def test_rubbish_is_shown_byte_by_byte(lab: Instruments, lamp: VisaInstrument) -> None:
    lab.inject("lamp", "rubbish")
    with pytest.raises(InstrumentTalksRubbish, match=r"xff.xfe.x80rubbish") as raised:
        lamp.read_quantity("power")
    assert raised.value.raw.startswith(b"\xff\xfe\x80rubbish")


def test_a_carriage_return_too_much_is_not_rubbish(lab: Instruments, lamp: VisaInstrument) -> None:
    lab.inject("lamp", "value", text="50.0\r")
    assert lamp.read_quantity("power") == 0.5


def test_without_our_driver_a_late_answer_answers_the_next_question(lab: Instruments) -> None:
    """What the driver is for: over a raw socket pyvisa-py alone is off by one from then on."""
    session = pyvisa.ResourceManager("@py").open_resource(lab.resources["VIRTUAL_LAMP"], timeout=200)
    session.read_termination = session.write_termination = "\n"
    try:
        lab.inject("lamp", "late", seconds=0.3)
        with pytest.raises(pyvisa.errors.VisaIOError):
            session.query("SOUR:POW:LEV?")
        assert session.query("*IDN?") == "0.0000"
    finally:
        session.close()


@pytest.mark.parametrize("fault", ["late", "silent", "drop", "reset", "rubbish"])
def test_a_setting_is_never_told_twice(lab: Instruments, lamp: VisaInstrument, fault: str) -> None:
    lab.inject("lamp", fault, seconds=0.45)
    with pytest.raises(InstrumentError):
        lamp.set_quantity("power", 0.25)
    assert lamp.read_quantity("power") == 0.25, "it was heard once; its answer was lost"
    assert lamp.set_quantity("power", 0.75) == 0.75


def test_an_instrument_that_is_switched_off_is_closed_until_it_is_opened_again(
    lab: Instruments, lamp: VisaInstrument
) -> None:
    lab.inject("lamp", "refuse")
    with pytest.raises(InstrumentLost):
        lamp.read_quantity("power")
    with pytest.raises(InstrumentLost, match="there is no connection"):
        lamp.read_quantity("power")
    lab.inject("lamp", "none")
    with pytest.raises(InstrumentLost, match="there is no connection"):
        lamp.read_quantity("power")
    lamp.safe()
    assert lamp.read_quantity("power") == 0.0


def test_one_that_stays_silent_is_closed(lab: Instruments, lamp: VisaInstrument) -> None:
    lab.inject("lamp", "silent", n=100)
    with pytest.raises(InstrumentSilent, match="connecting again failed as well"):
        lamp.read_quantity("power")
    lab.inject("lamp", "none")
    with pytest.raises(InstrumentLost, match="there is no connection"):
        lamp.read_quantity("power")


@pytest.mark.parametrize("transport", TRANSPORTS)
def test_nobody_at_the_resource_is_told_when_it_opens(lab: Instruments, make: Make, transport: str) -> None:
    lab.inject("lamp", "refuse")
    lamp = make("light-source", "lamp", transport)
    with pytest.raises(InstrumentLost, match="lamp: TCPIP0"):
        lamp.open()
    lab.inject("lamp", "none")
    lamp.open()
    assert lamp.read_quantity("power") == 0.0


def test_an_entry_in_the_error_queue_is_told_by_the_next_setting(lab: Instruments, lamp: VisaInstrument) -> None:
    lab.inject("lamp", "error", number=-310, text="System error")
    assert lamp.read_quantity("power") == 0.0
    with pytest.raises(InstrumentComplains, match=r'-310,"System error"'):
        lamp.set_quantity("power", 0.5)
    assert lamp.set_quantity("power", 0.5) == 0.5


def test_old_entries_in_the_error_queue_do_not_keep_it_from_being_safe(lab: Instruments, lamp: VisaInstrument) -> None:
    lamp.set_quantity("power", 1.0)
    lab.inject("lamp", "error", number=-310, text="System error")
    lamp.safe()
    assert lab.truth()["lamp"] == 0.0
