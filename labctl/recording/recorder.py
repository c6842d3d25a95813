"""Devices that pass every call on to another device and write down what happened."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import asdict
from pathlib import Path
from typing import Any

import numpy as np
import numpy.typing as npt

from labctl.clock import Clock
from labctl.devices import Camera, Device, DeviceKind, Display, Instrument, Levels, Playback, Quantity, SelfChecking
from labctl.exposure import Exposure, Frames, FrameTag
from labctl.recording.tape import Call, TapeWriter, digest

FRAME_ARRAYS = ("pixels", "exposure_ids", "frame_ids", "exposure_s", "gain_db", "camera_time_s", "host_time_s")


def told(value: Any) -> Any:
    """An argument of a call as a JSON value. What no device takes, a list or a NaN, stands as its text."""
    if isinstance(value, np.ndarray):
        return digest(value)
    if isinstance(value, Exposure):
        return value.model_dump(mode="json")
    plain = isinstance(value, (int, str)) or (isinstance(value, float) and np.isfinite(value))
    return value if plain else repr(value)


def recorded(device: Any, kind: DeviceKind, folder: Path, clock: Clock) -> Any:
    """`device`, not yet opened, with every call of its interface recorded into the new `folder`.

    What a driver offers beyond the interfaces of `labctl.devices` is not recorded and not passed on.
    """
    return _RECORDERS[kind](device, TapeWriter(folder), clock)


class _Recorded:
    kind: DeviceKind

    def __init__(self, device: Device, tape: TapeWriter, clock: Clock) -> None:
        self.name = device.name
        self._device: Any = device
        self._tape, self._clock = tape, clock
        self._described = False

    def open(self) -> None:
        """See `Device.open`."""
        self._call("open", [], self._device.open)

    def safe(self) -> None:
        """See `Device.safe`."""
        self._describe()
        self._call("safe", [], self._device.safe)

    def close(self) -> None:
        """See `Device.close`."""
        self._call("close", [], self._device.close)

    def describe_device(self) -> dict[str, Any]:
        """See `Device.describe_device`. Not recorded as a call."""
        described: dict[str, Any] = self._device.describe_device()
        return described

    def _attributes(self) -> dict[str, Any]:
        raise NotImplementedError

    def _describe(self) -> None:
        """Once the device is open and the rig has told it what it must know, and before it is used."""
        if not self._described:
            self._described = True
            self._tape.about(self.kind, self._attributes(), self._device.describe_device())

    def _call(
        self, name: str, arguments: list[Any], work: Callable[[], Any], keep: Callable[[Any], Any] = lambda value: value
    ) -> Any:
        begun_s = self._clock.now()
        try:
            result = work()
        except Exception as error:
            raised = (type(error).__name__, str(error))
            self._tape.write(Call(name, arguments, begun_s, self._clock.now(), error=raised))
            raise
        self._tape.write(Call(name, arguments, begun_s, self._clock.now(), keep(result)))
        return result


class RecordedDisplay(_Recorded):
    """See `labctl.devices.Display`."""

    kind: DeviceKind = "display"
    _device: Display

    @property
    def shape(self) -> tuple[int, int]:
        """See `Display.shape`."""
        return self._device.shape

    @property
    def settle_s(self) -> float:
        """See `Display.settle_s`."""
        return self._device.settle_s

    @settle_s.setter
    def settle_s(self, value: float) -> None:
        self._device.settle_s = value

    def show(self, levels: Levels) -> float:
        """See `Display.show`."""
        shown_s: float = self._call("show", [told(levels)], lambda: self._device.show(levels))
        return shown_s

    def check_shown(self) -> None:
        """See `SelfChecking.check_shown`. Kept only when it fails: a check that goes well changes nothing."""
        if isinstance(self._device, SelfChecking):
            begun_s = self._clock.now()
            try:
                self._device.check_shown()
            except Exception as error:
                raised = (type(error).__name__, str(error))
                self._tape.write(Call("check_shown", [], begun_s, self._clock.now(), error=raised))
                raise

    def play(self, levels: Levels, slot_s: float) -> Playback:
        """See `Display.play`."""
        playback: Playback = self._call(
            "play", [told(levels), told(slot_s)], lambda: self._device.play(levels, slot_s), lambda _: None
        )
        return _RecordedPlayback(self, playback)

    def blank(self) -> None:
        """See `Display.blank`."""
        self._call("blank", [], self._device.blank)

    def _attributes(self) -> dict[str, Any]:
        return {"shape": list(self._device.shape), "settle_s": self._device.settle_s}


class _RecordedPlayback:
    def __init__(self, display: RecordedDisplay, playback: Playback) -> None:
        self._display, self._playback = display, playback

    def wait(self, timeout_s: float) -> npt.NDArray[np.float64]:
        """See `Playback.wait`."""
        dwell_s: npt.NDArray[np.float64] = self._display._call(
            "wait", [told(timeout_s)], lambda: self._playback.wait(timeout_s), lambda dwell: dwell.tolist()
        )
        return dwell_s


class RecordedCamera(_Recorded):
    """See `labctl.devices.Camera`."""

    kind: DeviceKind = "camera"
    _device: Camera

    @property
    def shape(self) -> tuple[int, int]:
        """See `Camera.shape`."""
        return self._device.shape

    @property
    def saturation_dn(self) -> int:
        """See `Camera.saturation_dn`."""
        return self._device.saturation_dn

    @property
    def exposure_limits_s(self) -> tuple[float, float]:
        """See `Camera.exposure_limits_s`."""
        return self._device.exposure_limits_s

    def configure(self, exposure: Exposure) -> Exposure:
        """See `Camera.configure`."""
        taken: Exposure = self._call("configure", [told(exposure)], lambda: self._device.configure(exposure), told)
        return taken

    def arm(self, n: int) -> None:
        """See `Camera.arm`."""
        self._call("arm", [n], lambda: self._device.arm(n))

    def trigger(self, tag: FrameTag) -> None:
        """See `Camera.trigger`."""
        self._call("trigger", [tag.exposure_id, tag.attempt], lambda: self._device.trigger(tag))

    def fetch(self, timeout_s: float) -> Frames:
        """See `Camera.fetch`."""
        frames: Frames = self._call("fetch", [told(timeout_s)], lambda: self._device.fetch(timeout_s), self._keep)
        return frames

    def disarm(self) -> None:
        """See `Camera.disarm`."""
        self._call("disarm", [], self._device.disarm)

    def _keep(self, frames: Frames) -> dict[str, Any]:
        arrays = {name: self._tape.keep(getattr(frames, name)) for name in FRAME_ARRAYS}
        return {"arrays": arrays, "saturation_dn": frames.saturation_dn, "attempt": frames.attempt}

    def _attributes(self) -> dict[str, Any]:
        camera = self._device
        return {
            "shape": list(camera.shape), "saturation_dn": camera.saturation_dn,
            "exposure_limits_s": list(camera.exposure_limits_s),
        }  # fmt: skip


class RecordedInstrument(_Recorded):
    """See `labctl.devices.Instrument`."""

    kind: DeviceKind = "instrument"
    _device: Instrument

    @property
    def quantities(self) -> Mapping[str, Quantity]:
        """See `Instrument.quantities`."""
        return self._device.quantities

    def read_quantity(self, name: str) -> float:
        """See `Instrument.read_quantity`."""
        value: float = self._call("read_quantity", [name], lambda: self._device.read_quantity(name))
        return value

    def set_quantity(self, name: str, value: float) -> float:
        """See `Instrument.set_quantity`."""
        got: float = self._call("set_quantity", [name, told(value)], lambda: self._device.set_quantity(name, value))
        return got

    def _attributes(self) -> dict[str, Any]:
        return {"quantities": {name: asdict(quantity) for name, quantity in self._device.quantities.items()}}


_RECORDERS: dict[str, type[_Recorded]] = {
    "display": RecordedDisplay, "camera": RecordedCamera, "instrument": RecordedInstrument,
}  # fmt: skip
