"""A lab's own package of odd devices, as pip would leave it: what each does is in its name."""

from __future__ import annotations

import time
from collections.abc import Mapping
from pathlib import Path
from typing import Any, Literal

from labctl.devices import Camera, Instrument, OpenContext, Quantity
from labctl.errors import BadInput, HardwareError, InterlockError
from labctl.exposure import Frames, FrameTag
from labctl.findings import Check, Finding
from sim.devices import SimulatedCamera, SimulatedCameraSettings, SimulatedLampSettings
from sim.lamp import SimulatedLamp

ENTRY_POINTS = {
    "labctl.devices": {
        "odd.unplugged": "UnpluggedCamera",
        "odd.talkative": "TalkativeCamera",
        "odd.warm-lamp": "WarmLamp",
        "odd.deaf-lamp": "DeafLamp",
    },
    "labctl.finders": {"odd.finds": "find", "odd.breaks": "breaks", "odd.hangs": "hangs"},
    "labctl.checks": {"odd.checks": "check", "odd.breaks": "breaks"},
    "labctl.flashers": {"odd.flashes": "flash"},
}


class UnpluggedCamera(SimulatedCameraSettings):
    type: Literal["odd.unplugged"] = "odd.unplugged"  # type: ignore[assignment]

    def make(self, context: OpenContext) -> Camera:
        class Unplugged(SimulatedCamera):
            def open(self) -> None:
                raise HardwareError("the cable is out")

        return Unplugged(context.name, context.world, self.gain_limit_db)


class Talkative(SimulatedCamera):
    """Runs freely, counts what it lost, and has features."""

    streaming = False

    def start_stream(self) -> None:
        self.streaming = True
        self._next = 0

    def latest(self, timeout_s: float) -> Frames:
        assert self.streaming
        self._next += 7  # six frames were dropped in between
        self.arm(1)
        self.trigger(FrameTag(self._next))
        return self.fetch(timeout_s)

    def stop_stream(self) -> None:
        self.streaming = False

    def close(self) -> None:
        assert not self.streaming, "a camera must stand still when it is closed"
        super().close()

    def stats(self) -> Mapping[str, Any]:
        return {"drops": {"received": self._next // 7, "missing": 6 * self._next // 7}, "lost": 0, "adds_up": True}

    def describe_device(self) -> dict[str, Any]:
        identity = {"vendor": "Odd Optics", "model": "Odd 3000", "serial": "ODD1"}
        return {**super().describe_device(), "model": "chatty camera", "identity": identity}

    def features(self) -> Mapping[str, Mapping[str, Any]]:
        return {
            "Gamma": {"kind": "float", "writable": True, "value": self._gamma, "low": 0.5, "high": 2.0, "unit": ""},
            "TestPattern": {"kind": "enumeration", "writable": True, "value": "Off", "entries": ["Off", "Bars"]},
            "Temperature": {"kind": "float", "writable": False, "value": 41.5, "unit": "C"},
            "Reset": {"kind": "command", "writable": True, "value": None},
        }

    def get_feature(self, name: str) -> Any:
        return self.features()[name]["value"]

    def set_feature(self, name: str, value: Any) -> Any:
        if name != "Gamma" or not isinstance(value, (int, float)):
            raise BadInput(f"{name} cannot be {value!r}")
        if not 0.5 <= value <= 2.0:
            raise InterlockError(f"Gamma is {value}, 0.5..2 is allowed")
        self._gamma = float(value)
        return self._gamma

    _gamma = 1.0
    _next = 0


class TalkativeCamera(SimulatedCameraSettings):
    type: Literal["odd.talkative"] = "odd.talkative"  # type: ignore[assignment]

    def make(self, context: OpenContext) -> Camera:
        return Talkative(context.name, context.world, self.gain_limit_db)


class _LampSettings(SimulatedLampSettings):
    degrees: float = 30.0

    def declared_quantities(self) -> Mapping[str, Quantity]:
        temperature = Quantity("C", 0.0, 100.0, settable=False)
        return {**super().declared_quantities(), "temperature": temperature}


class WarmLamp(_LampSettings):
    type: Literal["odd.warm-lamp"] = "odd.warm-lamp"  # type: ignore[assignment]

    def make(self, context: OpenContext) -> Instrument:
        lamp = _Warm(context.name, context.rig_name, context.world, self.power_limit)
        lamp.degrees, lamp.quantities = self.degrees, self.declared_quantities()
        return lamp


class _Warm(SimulatedLamp):
    degrees = 0.0

    def read_quantity(self, name: str) -> float:
        return self.degrees if name == "temperature" else super().read_quantity(name)


class DeafLamp(_LampSettings):
    """Its thermometer does not answer."""

    type: Literal["odd.deaf-lamp"] = "odd.deaf-lamp"  # type: ignore[assignment]

    def make(self, context: OpenContext) -> Instrument:
        lamp = _Deaf(context.name, context.rig_name, context.world, self.power_limit)
        lamp.quantities = self.declared_quantities()
        return lamp


class _Deaf(SimulatedLamp):
    def read_quantity(self, name: str) -> float:
        if name == "temperature":
            raise HardwareError(f"{self.name}: the thermometer does not answer")
        return super().read_quantity(name)


def find(environment: Mapping[str, str]) -> list[Finding]:
    return [Finding("camera", "Odd 3000", "serial ODD1", {"seen_with": environment.get("ODD_EYES", "bare eyes")})]


def check(environment: Mapping[str, str]) -> list[Check]:
    return [Check("odd driver", "warning", "the odd library is old", "update it")]


def breaks(environment: Mapping[str, str]) -> list[Any]:
    raise RuntimeError("the odd library fell over")


def hangs(environment: Mapping[str, str]) -> list[Any]:
    time.sleep(60)
    return []


def flash(environment: Mapping[str, str], seconds: float) -> None:
    Path(environment["ODD_FLASHED"]).write_text(f"{seconds:g}")
