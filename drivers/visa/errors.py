"""What can go wrong between us and an instrument. Each error carries the resource, the command and the bytes seen."""

from __future__ import annotations

from labctl.errors import DeviceTimeout, HardwareError, RigBusy


class InstrumentError(HardwareError):
    """An exchange with an instrument failed. Base of the errors below.

    resource: the VISA resource; command: what was sent last, "" before the first; raw: what came back, b"" for nothing.
    """

    def __init__(self, text: str, *, resource: str, command: str = "", raw: bytes = b"") -> None:
        super().__init__(text)
        self.resource = resource
        self.command = command
        self.raw = raw


class InstrumentLost(InstrumentError):
    """Nobody answers at the resource, or the connection broke. Not the cause of a wrong value, ever."""


class InstrumentSilent(InstrumentError, DeviceTimeout):
    """No whole answer came within the time limit: none, half a line, or one that is late."""


class InstrumentTalksRubbish(InstrumentError):
    """The answer is not what the command asks for: no text, no number, none of the known words."""


class Overload(InstrumentError):
    """The instrument says that it has no valid value: over range, or SCPI's 9.91E37 for "not a number"."""


class InstrumentComplains(InstrumentError):
    """The error queue of the instrument holds entries after a setting."""


class ReadBackDiffers(InstrumentError):
    """The instrument took the setting, and reports another value."""


class WrongInstrument(InstrumentError):
    """Something else than the expected instrument answers at the resource."""


class InstrumentBusy(RigBusy):
    """Another rig or another process holds the instrument."""
