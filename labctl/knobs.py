"""The knobs of an open rig: quantities of its instruments, exposure and gain of its camera, the camera's features.

A knob is called `DEVICE.WHAT`: `lamp.power`, `camera.exposure_s`, `camera.Gamma`.
"""

from __future__ import annotations

import math
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from typing import Any, Protocol, runtime_checkable

from labctl.devices import Camera, Instrument, Quantity
from labctl.errors import BadInput
from labctl.exposure import Exposure
from labctl.light_path import RigDevices
from labctl.rig_file import ROLES, RigSpec
from labctl.suggest import one_of

Value = float | int | bool | str

USUAL_EXPOSURE_S = 0.01
"""What a camera is set to when nobody says an exposure time, as far as its limits allow."""


@runtime_checkable
class HasFeatures(Protocol):
    """What a camera offers beyond `Camera`, when its driver can reach the camera's own features."""

    def features(self) -> Mapping[str, Mapping[str, Any]]:
        """All features by name. Of each, as far as it is known: `kind` (`command` for an action), `writable`, `value`
        (None while it cannot be read), `unit`, the limits `low` and `high`, and `entries`, the words that are allowed.
        """

    def get_feature(self, name: str) -> Value:
        """The present value. Raises HardwareError."""

    def set_feature(self, name: str, value: Value) -> Value:
        """Set and read back. Raises BadInput for what is not there, InterlockError beyond the limits."""


@dataclass(frozen=True)
class Knob:
    """One thing that can be read, and perhaps set. low, high: limits in `unit`, None where there are none.

    read gives None where there is no value yet. set returns what was read back.
    """

    name: str
    unit: str
    low: float | None
    high: float | None
    settable: bool
    read: Callable[[], Value | None]
    set: Callable[[str], Value]
    choices: Sequence[str] = ()


def knobs_of(devices: RigDevices) -> dict[str, Knob]:
    """All knobs of an open rig by name; instruments first, then the camera."""
    made = [knob for name, device in devices.instruments.items() for knob in _of_instrument(name, device)]
    made += _of_exposure(devices.camera)
    if isinstance(devices.camera, HasFeatures):
        made += _of_features(devices.camera)
    return {knob.name: knob for knob in made}


def usual_exposure_s(camera: Camera) -> float:
    """An exposure time that nobody had to choose: `USUAL_EXPOSURE_S`, or the limit of the camera next to it."""
    low, high = camera.exposure_limits_s
    return min(max(USUAL_EXPOSURE_S, low), high)


def parse_setting(text: str) -> tuple[str, str]:
    """`lamp.power=0.5` as name and value. Raises BadInput when it is something else."""
    name, equals, value = (part.strip() for part in text.partition("="))
    device, _, what = name.partition(".")
    if not (equals and device and what and value):
        raise BadInput(f"'{text}': a name and a value are needed; write it like lamp.power=0.5")
    return name, value


def check_names(spec: RigSpec, names: Sequence[str]) -> None:
    """Raise BadInput for what a rig cannot have, as far as its file tells before it is opened.

    A device may be named alone.
    """
    for name in names:
        device, dot, what = name.partition(".")
        there = [*(known for known in spec.devices if known not in ROLES), *(["camera"] * ("camera" in spec.devices))]
        if device not in there:
            raise BadInput(f"'{name}': rig '{spec.name}' has no '{device}' to read or set; {one_of(device, there)}")
        declared = _declared(spec, device)
        if dot and declared and what not in declared:
            raise BadInput(f"'{name}': '{device}' has no quantity '{what}'; {one_of(what, list(declared))}")


def check_settings(spec: RigSpec, settings: Mapping[str, str]) -> None:
    """Raise BadInput for names and values that a rig will refuse, as far as its file tells before it is opened."""
    check_names(spec, list(settings))
    for name, value in settings.items():
        device, _, what = name.partition(".")
        quantity = _declared(spec, device).get(what)
        if quantity is not None:
            _number(name, value, quantity)


def find_knob(knobs: Mapping[str, Knob], name: str) -> Knob:
    """Knob `name`. Raises BadInput with the nearest one when there is none."""
    if name not in knobs:
        device = name.partition(".")[0]
        beside = [known for known in knobs if known.partition(".")[0] == device] or list(knobs)
        raise BadInput(f"there is no '{name}' on this rig; {one_of(name, beside)}")
    return knobs[name]


def chosen(knobs: Mapping[str, Knob], names: Sequence[str]) -> dict[str, Knob]:
    """The knobs called `names`, or all of a device that is named alone; all knobs when no name is given."""
    found: dict[str, Knob] = {}
    for name in names:
        beside = {known: knob for known, knob in knobs.items() if known.startswith(f"{name}.")}
        found |= beside or {name: find_knob(knobs, name)}
    return found or dict(knobs)


def turn(knobs: Mapping[str, Knob], settings: Mapping[str, str]) -> dict[str, Value]:
    """Set every knob in the order given; returns what was read back. Raises BadInput before the first one is set."""
    found = {name: find_knob(knobs, name) for name in settings}
    for name, knob in found.items():
        if not knob.settable:
            raise BadInput(f"'{name}' can only be read; `labctl get` lists what can be set")
    return {name: knob.set(settings[name]) for name, knob in found.items()}


def _declared(spec: RigSpec, device: str) -> Mapping[str, Quantity]:
    return {} if device == "camera" else spec.devices[device].declared_quantities()


def _number(name: str, value: str, quantity: Quantity) -> float:
    unit = "" if quantity.unit == "1" else f" {quantity.unit}"
    try:
        number = float(value)
    except ValueError:
        raise BadInput(f"'{name}={value}': a plain number is needed{unit and f', in{unit}'}") from None
    if not (math.isfinite(number) and quantity.low <= number <= quantity.high):
        raise BadInput(f"'{name}={value}' is out of range; {quantity.low:g}..{quantity.high:g}{unit} is allowed")
    return number


def _of_instrument(device: str, instrument: Instrument) -> list[Knob]:
    def knob(what: str, quantity: Quantity) -> Knob:
        name = f"{device}.{what}"
        return Knob(
            name, quantity.unit, quantity.low, quantity.high, quantity.settable,
            read=lambda: instrument.read_quantity(what),
            set=lambda value: instrument.set_quantity(what, _number(name, value, quantity)),
        )  # fmt: skip

    return [knob(what, quantity) for what, quantity in instrument.quantities.items()]


def _of_exposure(camera: Camera) -> list[Knob]:
    """A camera takes exposure and gain together and does not tell them before: the last ones taken are kept here."""
    taken: list[Exposure] = []
    low, high = camera.exposure_limits_s

    def configure(field: str, value: float) -> float:
        before = taken[-1] if taken else Exposure(exposure_s=usual_exposure_s(camera))
        taken.append(camera.configure(before.model_copy(update={field: value})))
        return float(getattr(taken[-1], field))

    def knob(field: str, quantity: Quantity) -> Knob:
        name = f"camera.{field}"
        return Knob(
            name, quantity.unit, quantity.low, quantity.high, True,
            read=lambda: getattr(taken[-1], field) if taken else None,
            set=lambda value: configure(field, _number(name, value, quantity)),
        )  # fmt: skip

    return [knob("exposure_s", Quantity("s", low, high)), knob("gain_db", Quantity("dB", 0.0, 48.0))]


def _of_features(camera: HasFeatures) -> list[Knob]:
    def knob(what: str, known: Mapping[str, Any]) -> Knob:
        readable = known.get("value") is not None
        return Knob(
            f"camera.{what}", str(known.get("unit", "")), known.get("low"), known.get("high"),
            bool(known.get("writable", True)),
            read=lambda: camera.get_feature(what) if readable else None,
            set=lambda value: camera.set_feature(what, _meant(value)),
            choices=tuple(known.get("entries") or ()),
        )  # fmt: skip

    return [knob(what, known) for what, known in camera.features().items() if known.get("kind") != "command"]


def _meant(text: str) -> Value:
    """The number, truth value or word that `text` writes."""
    if text.lower() in ("true", "false"):
        return text.lower() == "true"
    for kind in (int, float):
        try:
            return kind(text)
        except ValueError:
            continue
    return text
