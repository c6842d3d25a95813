"""Which VISA resources there are, and what answers at them."""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from functools import partial
from typing import TYPE_CHECKING

from drivers.visa.connection import Connection, resource_manager
from drivers.visa.errors import InstrumentBusy, InstrumentSilent
from labctl.bounded import all_within
from labctl.errors import HardwareError

if TYPE_CHECKING:
    from labctl.findings import Finding

LISTING_S = 3.0
"""How long the libraries may search; a network without an answer must not hold up the list."""

ANSWER_S = 0.5
"""How long one instrument may take to say who it is; they are asked side by side."""


def find_resources(backend: str = "@py", limit_s: float = LISTING_S) -> list[str]:
    """VISA resources that announce themselves: USB, serial, GPIB, VXI-11, HiSLIP with zeroconf. Raw sockets do not.

    Raises HardwareError without pyvisa. What is not found within `limit_s` is left out.
    """
    manager = resource_manager(backend)
    found: list[str] = []

    def search() -> None:
        import warnings

        with warnings.catch_warnings():
            warnings.simplefilter("ignore")  # pyvisa-py warns about every optional package that is missing
            found.extend(manager.list_resources("?*"))

    all_within(limit_s, {backend: search})
    return sorted(found)


def identify(resources: Iterable[str], backend: str = "@py", answer_s: float = ANSWER_S) -> dict[str, str]:
    """By resource: the answer to `*IDN?`, or why there is none. Sets nothing; instruments in use are left alone."""
    answers = {resource: f"no answer within {answer_s:g} s" for resource in resources}
    asked = [resource for resource in answers if "ASRL" not in resource.upper()]
    answers |= {resource: "not asked" for resource in answers if resource not in asked}

    def ask(resource: str) -> None:
        terminations = {"read_termination": "\n", "write_termination": "\n"}
        connection = Connection("devices", resource, (), backend=backend, timeout_s=answer_s, **terminations)
        try:
            connection.open()
            answers[resource] = connection.identity
        except InstrumentBusy:
            answers[resource] = "in use by a rig"
        except InstrumentSilent:
            pass
        except HardwareError:
            answers[resource] = "no connection"
        finally:
            connection.close()

    all_within(10 * answer_s, {resource: partial(ask, resource) for resource in asked})
    return dict(answers)


def list_visa(environment: Mapping[str, str]) -> list[Finding]:
    """Every VISA resource that is announced or that `environment` names, with what answers there.

    A variable counts when its value is a VISA resource: that is how a virtual lab tells where its instruments are.
    Empty without pyvisa.
    """
    from labctl.findings import Finding

    try:
        announced = find_resources()
    except HardwareError:
        return []
    named = {value: name for name, value in environment.items() if _is_resource(value)}
    answers = identify(dict.fromkeys([*named, *announced]))
    return [
        Finding(
            kind="instrument",
            name=answer,
            where=f"${named[resource]}" if resource in named else resource,
            details={"resource": resource, "identity": answer},
        )
        for resource, answer in answers.items()
    ]


def _is_resource(text: str) -> bool:
    from pyvisa import rname

    if "::" not in text:
        return False
    try:
        rname.parse_resource_name(text)
    except (rname.InvalidResourceName, ValueError):
        return False
    return True
