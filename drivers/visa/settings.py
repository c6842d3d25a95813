"""How a rig file names an instrument that speaks SCPI."""

from __future__ import annotations

import os
import string
from collections.abc import Mapping
from functools import cached_property
from typing import Annotated, ClassVar, Literal, Self

from annotated_types import Gt, Le
from pydantic import StringConstraints, model_validator

from drivers.visa.connection import Connection
from drivers.visa.instrument import VisaInstrument
from drivers.visa.instrument_file import InstrumentFile, Pattern, load_instrument_file
from labctl.devices import DeviceKind, DeviceSettings, Instrument, OpenContext, Quantity
from labctl.errors import BadInput, HardwareError


class VisaSettings(DeviceSettings):
    """An instrument behind a VISA resource. HiSLIP and USB tell late answers from new ones; prefer them to SOCKET."""

    kind: ClassVar[DeviceKind] = "instrument"
    type: Literal["visa"] = "visa"

    instrument: str
    """Name of a shipped instrument file (`light-source`, `power-supply` ...), or the path of a lab's own."""

    resource: Annotated[str, StringConstraints(min_length=1)]
    """VISA resource, as in `TCPIP0::192.168.1.20::5025::SOCKET`; `$NAME` is filled in from the environment."""

    identification: Pattern | None = None
    """What the answer to `*IDN?` must match besides the pattern of the file: a serial number, of two alike."""

    timeout_s: Annotated[float, Gt(0), Le(600)] | None = None
    """How long one answer may take; by default as the instrument file says."""

    limits: dict[str, tuple[float, float]] = {}
    """Lowest and highest value allowed here, by quantity; never wider than those of the file."""

    backend: str = "@py"
    """VISA library: `@py` is pyvisa-py, `@ivi` the library of a vendor, a path a particular one."""

    @model_validator(mode="after")
    def _file_fits(self) -> Self:
        self.declared_quantities()
        template = string.Template(self.resource)
        if not template.is_valid():
            raise BadInput(f"resource '{self.resource}' has a `$` without a name; write $NAME, or $$ for the sign")
        return self

    @cached_property
    def file(self) -> InstrumentFile:
        """The instrument file. Raises BadInput, ConfigError."""
        return load_instrument_file(self.instrument)

    def declared_quantities(self) -> Mapping[str, Quantity]:
        """See `DeviceSettings.declared_quantities`."""
        return self.file.declared(self.limits)

    def make(self, context: OpenContext) -> Instrument:
        """See `DeviceSettings.make`. Raises HardwareError when `resource` names a variable that is not set."""
        file = self.file
        patterns = [file.identification, *([self.identification] if self.identification else [])]
        connection = Connection(
            context.name,
            fill_in(self.resource, context.environment, context.name),
            patterns,
            backend=self.backend,
            timeout_s=file.timeout_s if self.timeout_s is None else self.timeout_s,
            read_termination=file.read_termination,
            write_termination=file.write_termination,
        )
        return VisaInstrument(context.name, file, connection, self.declared_quantities())


def fill_in(text: str, environment: Mapping[str, str], who: str) -> str:
    """`text` with every `$NAME` replaced from the process's environment and `environment`, which goes first."""
    try:
        return string.Template(text).substitute({**os.environ, **environment})
    except KeyError as error:
        name = str(error.args[0])
        message = f"{who}: '{text}' names the environment variable {name}, which is not set; set it, or write the value"
        raise HardwareError(message) from error
