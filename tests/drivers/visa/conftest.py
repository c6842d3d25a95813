"""One set of virtual instruments for all tests of a file; each test finds them well and dark."""

from __future__ import annotations

import gc
import logging
from collections.abc import Callable, Iterator
from typing import Any

import pytest

from drivers.visa.instrument import VisaInstrument
from drivers.visa.settings import VisaSettings
from labctl.devices import OpenContext
from tests.sim.virtual_lab.instruments.process import Instruments, running_instruments

TRANSPORTS = ("SOCKET", "HISLIP")

Make = Callable[..., VisaInstrument]


@pytest.fixture(scope="module")
def running() -> Iterator[Instruments]:
    with running_instruments() as instruments:
        yield instruments


@pytest.fixture
def lab(running: Instruments, caplog: pytest.LogCaptureFixture) -> Iterator[Instruments]:
    """pyvisa-py leaves the socket of a refused HiSLIP connection to the garbage collector, and logs the error with it:
    what must not reach the next test is neither logged nor left over.
    """
    caplog.set_level(logging.CRITICAL + 1, logger="pyvisa")
    running.mend()
    yield running
    gc.collect()


def variable(instrument: str, transport: str) -> str:
    return f"VIRTUAL_{instrument.upper()}" + ("_HISLIP" if transport == "HISLIP" else "")


@pytest.fixture
def make(lab: Instruments) -> Iterator[Make]:
    """Makes instruments of the virtual lab, not yet opened; closes them in the end."""
    made: list[VisaInstrument] = []

    def instrument(file: str, which: str, transport: str = "SOCKET", **settings: Any) -> VisaInstrument:
        settings = {"timeout_s": 0.3, "resource": f"${variable(which, transport)}", **settings}
        context = OpenContext(which, "bench", environment=lab.resources)
        device = VisaSettings(instrument=file, **settings).make(context)
        assert isinstance(device, VisaInstrument)
        made.append(device)
        return device

    yield instrument
    lab.mend()
    for device in made:
        device.close()


@pytest.fixture(params=TRANSPORTS)
def transport(request: pytest.FixtureRequest) -> str:
    return str(request.param)


@pytest.fixture
def lamp(make: Make, transport: str) -> VisaInstrument:
    """The light source, opened."""
    device = make("light-source", "lamp", transport)
    device.open()
    return device
