"""The features of a camera by name: read, written within their limits and read back. Runs in the camera's process.

A node that is used after its camera was closed takes the process down. Two threads at nodes at once stop it for ever:
one holds the lock of the node map and waits for the interpreter's, which the other one holds while it waits for the
node map. So every use of a node holds `Features.alone`.
"""

from __future__ import annotations

import threading
from collections.abc import Callable, Iterator, Mapping, Sequence
from functools import wraps
from typing import Any, Concatenate, ParamSpec, TypeVar

from genicam import genapi

from drivers.genicam.own_features import AUTOMATICS
from labctl.errors import BadInput, HardwareError
from labctl.suggest import did_you_mean

Value = bool | int | float | str
Given = ParamSpec("Given")
Result = TypeVar("Result")

ALIASES: Mapping[str, tuple[str, ...]] = {
    "ExposureTime": ("ExposureTime", "ExposureTimeAbs"),
    "Gain": ("Gain", "GainRaw"),
    "AcquisitionFrameRate": ("AcquisitionFrameRate", "AcquisitionFrameRateAbs"),
    "TickFrequency": ("TimestampTickFrequency", "GevTimestampTickFrequency", "DeviceTimestampFrequency"),
    "Latch": ("TimestampLatch", "GevTimestampControlLatch"),
    "LatchValue": ("TimestampLatchValue", "GevTimestampValue"),
}
"""Standard names, and those of cameras made before SFNC 2.0."""


def _alone(
    method: Callable[Concatenate[Features, Given], Result],
) -> Callable[Concatenate[Features, Given], Result]:
    """Hold `alone` during the method."""

    @wraps(method)
    def held(self: Features, /, *given: Given.args, **named: Given.kwargs) -> Result:
        with self.alone:
            return method(self, *given, **named)

    return held


class Features:
    """Features of one node map, until `close`."""

    def __init__(self, node_map: Any) -> None:
        self.alone = threading.RLock()
        self._node_map: Any = node_map

    @_alone
    def close(self) -> None:
        """Forget the node map; every later call raises HardwareError."""
        self._node_map = None

    @_alone
    def has(self, name: str) -> bool:
        """Whether there is such a feature and it can be used in some state of the camera."""
        node = self._find(name)
        return node is not None and node.node.get_access_mode() != genapi.EAccessMode.NI

    @_alone
    def writable(self, name: str) -> bool:
        """Whether it can be written now."""
        node = self._find(name)
        return node is not None and genapi.is_writable(node.node.get_access_mode())

    @_alone
    def name_of(self, name: str) -> str | None:
        """Which of the aliases of `name` this camera has."""
        return next((alias for alias in ALIASES.get(name, (name,)) if self.has(alias)), None)

    @_alone
    def read(self, name: str) -> Value:
        """The present value, asked from the camera and not from a cache."""
        node = self._node(name)
        if not genapi.is_readable(node.node.get_access_mode()):
            raise HardwareError(f"the feature {name} cannot be read now")
        return _plain(node.get_value(False, True))

    @_alone
    def read_or_none(self, name: str) -> Value | None:
        """As `read`; None where the camera does not have it or does not tell it now."""
        try:
            return self.read(name) if self.has(name) else None
        except (HardwareError, genapi.GenericException):
            return None

    @_alone
    def limits(self, name: str) -> tuple[float, float]:
        """Lowest and highest value of a number."""
        node = self._node(name)
        return float(node.min), float(node.max)

    @_alone
    def unit(self, name: str) -> str:
        """Unit of a number as the camera writes it; empty where it names none."""
        return str(self._node(name).unit)

    @_alone
    def step(self, name: str) -> int:
        """Increment of a whole number."""
        return int(self._node(name).inc)

    @_alone
    def entries(self, name: str) -> list[str]:
        """The values of an enumeration that can be chosen now."""
        node = self._node(name)
        return [
            entry.symbolic for entry in node.entries if genapi.is_available(entry.node.get_access_mode())
        ]  # entries of other sensors stay in the file of a family

    @_alone
    def write(self, name: str, value: Value) -> Value:
        """Set `name` and read it back. Numbers off the increment go to the nearest step.

        Raises BadInput for an unknown feature and for a value outside its limits, HardwareError when it is locked now.
        """
        node = self._node(name)
        if not genapi.is_writable(node.node.get_access_mode()):
            raise HardwareError(f"the feature {name} cannot be written now: it is read-only, or locked by another one")
        if isinstance(node, genapi.ICommand):
            node.execute()
            return True
        try:
            node.value = self._checked(name, node, value)
        except genapi.GenericException as error:
            raise HardwareError(f"the camera refused {name} = {value!r}: {_first_line(error)}") from error
        read_back = self.read_or_none(name)
        return value if read_back is None else read_back

    @_alone
    def write_clamped(self, name: str, value: float) -> float:
        """Set a number, moved to the nearest value that the camera allows now; read back."""
        low, high = self.limits(name)
        return float(self.write(name, min(max(value, low), high)))

    @_alone
    def put(self, name: str, value: Value) -> None:
        """Set `name` if the camera has it, lets it be written, and knows the value; a camera without it is fine."""
        if self.writable(name):
            node = self._node(name)
            if not isinstance(node, genapi.IEnumeration) or value in self.entries(name):
                self.write(name, value)

    @_alone
    def execute(self, name: str) -> None:
        """Run a command."""
        self._node(name).execute()

    @_alone
    def code(self, name: str) -> int:
        """The number behind the present value of an enumeration."""
        return int(self._node(name).get_int_value(False, True))

    def node(self, name: str) -> Any:
        """The node itself, for the grab thread, which ends before the node map does and uses it under `alone`."""
        return self._node(name)

    @_alone
    def describe(self, name: str) -> dict[str, Any]:
        """Kind, access, value, limits and unit of a feature as plain values."""
        node = self._node(name)
        mode = node.node.get_access_mode()
        found: dict[str, Any] = {
            "kind": type(node).__name__.removeprefix("I").lower(),
            "writable": genapi.is_writable(mode),
            "value": self.read_or_none(name) if genapi.is_readable(mode) else None,
        }
        if isinstance(node, (genapi.IInteger, genapi.IFloat)) and found["value"] is not None:
            found |= {"low": node.min, "high": node.max, "unit": node.unit}
        if isinstance(node, genapi.IEnumeration):
            found["entries"] = self.entries(name)
        return found

    @_alone
    def names(self) -> list[str]:
        """All features with a value or an action, as the camera's own tree lists them."""
        return [node.node.name for node in self._all()]

    def _all(self) -> Iterator[Any]:
        kinds = (
            genapi.IInteger, genapi.IFloat, genapi.IBoolean, genapi.IEnumeration, genapi.IString, genapi.ICommand
        )  # fmt: skip
        for node in self._map().nodes:
            if isinstance(node, kinds) and node.node.is_feature():
                yield node

    def _map(self) -> Any:
        if self._node_map is None:
            raise HardwareError("the camera is closed")
        return self._node_map

    def _find(self, name: str) -> Any:
        return getattr(self._map(), name, None) if name.isidentifier() else None

    def _node(self, name: str) -> Any:
        node = self._find(name)
        if node is None or not self.has(name):
            near = did_you_mean(name, self.names())
            raise BadInput(
                f"the camera has no feature {name}; "
                + (f"did you mean `{near}`?" if near else "`features()` of the camera lists all")
            )
        return node

    def _checked(self, name: str, node: Any, value: Value) -> Value:
        if isinstance(node, genapi.IBoolean):
            return _needed(name, value, isinstance(value, bool), "true or false")
        if isinstance(node, genapi.IEnumeration):
            entries = self.entries(name)
            return _needed(name, value, value in entries, f"one of {', '.join(entries)}")
        if isinstance(node, genapi.IString):
            return _needed(name, value, isinstance(value, str), "text")
        if isinstance(value, bool) or not isinstance(value, (int, float)):
            raise BadInput(f"the feature {name} is {value!r}; a number is needed")
        low, high, unit = node.min, node.max, node.unit
        if not low <= value <= high:
            raise BadInput(
                f"the feature {name} is {value:.12g}; {low:.12g}..{high:.12g} {unit}".rstrip() + " is allowed"
            )
        if isinstance(node, genapi.IInteger):
            return int(low + round((value - low) / node.inc) * node.inc)
        return float(value)


def switch_automatics_off(features: Features) -> list[str]:
    """Switch off what would change frames by itself; returns what could not be switched off."""
    for name, off in AUTOMATICS.items():
        features.put(name, off)
    return [name for name, off in AUTOMATICS.items() if features.read_or_none(name) not in (None, off)]


def set_trigger(features: Features, by_software: bool) -> None:
    """One frame per `TriggerSoftware`, or free run. Every other trigger (of a burst, a line) is switched off.

    Raises BadInput when the camera has no software trigger.
    """
    if by_software and not (features.has("TriggerMode") and features.has("TriggerSoftware")):
        raise BadInput("the camera has no software trigger; write `trigger: free-run` in the rig file")
    for selector in _selectors(features):  # the selector first: TriggerMode belongs to what it selects
        features.put("TriggerSelector", selector)
        features.put("TriggerMode", "Off")
    if by_software:
        features.put("TriggerSelector", "FrameStart")
        features.put("TriggerSource", "Software")
        features.write("TriggerMode", "On")


def _selectors(features: Features) -> Sequence[str]:
    return features.entries("TriggerSelector") if features.has("TriggerSelector") else ("",)


def _needed(name: str, value: Value, fits: bool, needed: str) -> Value:
    if not fits:
        raise BadInput(f"the feature {name} is {value!r}; {needed} is allowed")
    return value


def _plain(value: Any) -> Value:
    return value if isinstance(value, (bool, int, float, str)) else str(value)


def _first_line(error: Exception) -> str:
    return str(error).splitlines()[0][:200] if str(error) else type(error).__name__
