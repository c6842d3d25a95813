"""The shape of `bluesky.protocols`, without bluesky, and adapters that let its plans drive labctl devices.

bluesky tells devices by their methods, so nothing here imports it. Whatever takes long happens in a thread, and the
plan waits for its `Status`. `stage` and `unstage` have finished when they return: the RunEngine does not wait for
them when it cleans up. Nor does it tell a device that a plan failed: a lamp stays as it was set until the rig is made
safe, so open the rig with `with`. [bluesky 1.15, event-model 1.24]
"""

from __future__ import annotations

import contextlib
import hashlib
import math
import threading
import time
from collections.abc import Callable
from concurrent.futures import Future
from typing import Any, Protocol, TypeVar, runtime_checkable

import numpy as np

from labctl.clock import Clock, WallClock
from labctl.devices import Camera, Display, Instrument, Levels
from labctl.errors import BadInput, DeviceTimeout, HardwareError, InterlockError
from labctl.exposure import Exposure, Frames, FrameTag
from labctl.light_path import FETCH_MARGIN_S

Value = TypeVar("Value", contravariant=True)
Readings = dict[str, dict[str, Any]]
"""By key: `value` and `timestamp` (seconds since 1970)."""
DataKeys = dict[str, dict[str, Any]]
"""By key: `source`, `dtype`, `shape`, and where they apply `units` and `limits`."""


@runtime_checkable
class Status(Protocol):
    """Something under way. The methods are those of `DeviceStatus`."""

    @property
    def done(self) -> bool: ...  # noqa: D102
    @property
    def success(self) -> bool: ...  # noqa: D102
    def add_callback(self, callback: Callable[[Any], None]) -> None: ...  # noqa: D102
    def exception(self, timeout: float | None = 0.0) -> BaseException | None: ...  # noqa: D102


@runtime_checkable
class Readable(Protocol):
    """Has a name, and values that are described under the same keys."""

    @property
    def name(self) -> str: ...  # noqa: D102
    def read(self) -> Readings: ...  # noqa: D102
    def describe(self) -> DataKeys: ...  # noqa: D102


@runtime_checkable
class Triggerable(Protocol):
    """Measures when told to; `read` then gives what was measured."""

    def trigger(self) -> Status: ...  # noqa: D102


@runtime_checkable
class Stageable(Protocol):
    """Is made ready before a scan and cleaned up after it."""

    def stage(self) -> list[Any]: ...  # noqa: D102
    def unstage(self) -> list[Any]: ...  # noqa: D102


@runtime_checkable
class Movable(Protocol[Value]):
    """Goes to a value; `check_value` raises when it must not."""

    def set(self, value: Value, /) -> Status: ...  # noqa: D102
    def check_value(self, value: Value, /) -> None: ...  # noqa: D102


class DeviceStatus:
    """`work` in a thread of its own, begun when `after` has ended, however that ended."""

    def __init__(self, what: str, work: Callable[[], object], after: DeviceStatus | None = None) -> None:
        self._what = what
        self._future: Future[object] = Future()
        threading.Thread(target=self._run, args=(work, after), name=what, daemon=True).start()

    @property
    def done(self) -> bool:
        """Whether it has ended, well or badly."""
        return self._future.done()

    @property
    def success(self) -> bool:
        """Whether it has ended well."""
        return self.done and self._future.exception() is None

    def add_callback(self, callback: Callable[[Any], None]) -> None:
        """Call `callback(self)` at the end, from the thread of the work; at once when it has ended already."""
        self._future.add_done_callback(lambda _: callback(self))

    def exception(self, timeout: float | None = 0.0) -> BaseException | None:
        """What went wrong, or None. Raises DeviceTimeout when it has not ended after `timeout` seconds."""
        try:
            return self._future.exception(timeout)
        except TimeoutError:
            text = f"{self._what} has not ended after {timeout:g} s; wait longer or stop the device"
            raise DeviceTimeout(text) from None

    def wait(self, timeout: float | None = None) -> None:
        """Wait for the end; raises what went wrong, or DeviceTimeout."""
        error = self.exception(timeout)
        if error is not None:
            raise error

    def _run(self, work: Callable[[], object], after: DeviceStatus | None) -> None:
        if after is not None:
            after.exception(None)
        try:
            self._future.set_result(work())
        except Exception as error:  # noqa: BLE001 - raised where somebody waits
            self._future.set_exception(error)


class _Adapter:
    """One device, one thing at a time, in the order asked. hint: the key to plot."""

    parent: None = None

    def __init__(self, name: str, hint: str) -> None:
        self.name = name
        self.hints: dict[str, Any] = {"fields": [hint]}
        self._last: DeviceStatus | None = None

    def _start(self, what: str, work: Callable[[], object]) -> DeviceStatus:
        self._last = DeviceStatus(f"{self.name}: {what}", work, self._last)
        return self._last

    def _let_finish(self, limit_s: float = FETCH_MARGIN_S) -> None:
        if self._last is not None:
            with contextlib.suppress(DeviceTimeout):
                self._last.exception(limit_s)


class ReadableCamera(_Adapter):
    """A camera as a detector: every `trigger` takes one frame, `read` gives its numbers, `frame` is the frame itself.

    frames_per_arm: for how many triggers the camera is armed at a time. Exposure ids count on from first_exposure_id,
    over all scans. Raises BadInput when frames_per_arm is below 1.
    """

    def __init__(
        self, camera: Camera, exposure: Exposure, *, frames_per_arm: int = 1, first_exposure_id: int = 0
    ) -> None:
        super().__init__(camera.name, f"{camera.name}_mean_dn")
        if frames_per_arm < 1:
            raise BadInput(f"{camera.name}: frames_per_arm is {frames_per_arm}; 1 or more is needed")
        self.frame: Frames | None = None
        self._camera, self._exposure, self._frames_per_arm = camera, exposure, frames_per_arm
        self._next_id, self._left, self._time_s = first_exposure_id, 0, 0.0
        self._taken: Exposure | None = None

    def stage(self) -> list[Any]:
        """Configure and arm. Raises InterlockError beyond the limits of the camera."""
        self._taken = self._camera.configure(self._exposure)
        self._arm()
        return [self]

    def unstage(self) -> list[Any]:
        """Disarm, after the frame under way or when it does not come within its limit."""
        self._let_finish((self._taken or self._exposure).exposure_s + FETCH_MARGIN_S)
        self._taken = None
        self._camera.disarm()
        return [self]

    def trigger(self) -> DeviceStatus:
        """Take one frame. Raises HardwareError when not staged."""
        if self._taken is None:
            raise HardwareError(f"{self.name} is not staged; call stage() before trigger()")
        limit_s, tag = self._taken.exposure_s + FETCH_MARGIN_S, FrameTag(self._next_id)
        self._next_id += 1
        return self._start(f"frame {tag.exposure_id}", lambda: self._measure(tag, limit_s))

    def read(self) -> Readings:
        """Numbers of the last frame. Raises HardwareError when there is none yet."""
        frame = self.frame
        if frame is None:
            raise HardwareError(f"{self.name} has measured nothing yet; call trigger() and wait before read()")
        numbers = {
            "mean_dn": float(frame.pixels.mean()), "saturated_fraction": float(frame.saturated_fraction[0]),
            "exposure_s": float(frame.exposure_s[0]), "gain_db": float(frame.gain_db[0]),
            "exposure_id": int(frame.exposure_ids[0]), "frame_id": int(frame.frame_ids[0]),
        }  # fmt: skip
        return {f"{self.name}_{key}": {"value": value, "timestamp": self._time_s} for key, value in numbers.items()}

    def describe(self) -> DataKeys:
        """Keys and units of `read`."""
        units = {"mean_dn": "DN", "saturated_fraction": "1", "exposure_s": "s", "gain_db": "dB"}
        numbers = {key: {"dtype": "number", "units": unit} for key, unit in units.items()}
        ids = {key: {"dtype": "integer"} for key in ("exposure_id", "frame_id")}
        return {f"{self.name}_{key}": _key(self.name, **about) for key, about in {**numbers, **ids}.items()}

    def _arm(self) -> None:
        self._camera.arm(self._frames_per_arm)
        self._left = self._frames_per_arm

    def _measure(self, tag: FrameTag, limit_s: float) -> None:
        if self._left == 0:
            self._arm()
        self._left -= 1
        self._camera.trigger(tag)
        self.frame, self._time_s = self._camera.fetch(limit_s), time.time()


class MovableDisplay(_Adapter):
    """A display that moves to pictures; `read` says which one stands there. clock: that of the rig, for settling.

    For plans that say `mv`; those that compare positions, like `list_scan`, cannot compare pictures.
    """

    def __init__(self, display: Display, clock: Clock | None = None) -> None:
        super().__init__(display.name, f"{display.name}_picture")
        self._display, self._clock = display, clock or WallClock()
        self._picture, self._time_s = "unknown", time.time()

    def stage(self) -> list[Any]:
        """Blank."""
        self._let_finish()
        self._display.blank()
        self._stands("blank")
        return [self]

    unstage = stage

    def check_value(self, levels: Levels, /) -> None:
        """Raise BadInput unless `levels` is (rows, columns) uint8 of this panel."""
        shape = self._display.shape
        if not isinstance(levels, np.ndarray) or levels.dtype != np.uint8 or levels.shape != shape:
            got = f"{levels.dtype} {levels.shape}" if isinstance(levels, np.ndarray) else type(levels).__name__
            raise BadInput(f"{self.name} takes uint8 levels of shape {shape}, got {got}; take it down its road first")

    def set(self, levels: Levels, /) -> DeviceStatus:
        """Show `levels`; done when they are on the panel and have settled. Raises BadInput as `check_value`."""
        self.check_value(levels)
        picture = levels.copy()

        def show() -> None:
            self._display.show(picture)
            self._stands(hashlib.sha256(picture.tobytes()).hexdigest()[:16])

        return self._start("show", show)

    def read(self) -> Readings:
        """The first 16 hex digits of the SHA-256 of the levels shown, `blank`, or `unknown` before the first."""
        return {f"{self.name}_picture": {"value": self._picture, "timestamp": self._time_s}}

    def describe(self) -> DataKeys:
        """Key of `read`."""
        return {f"{self.name}_picture": _key(self.name, dtype="string")}

    def _stands(self, picture: str) -> None:
        self._clock.sleep(self._display.settle_s)
        self._picture, self._time_s = picture, time.time()


class MovableQuantity(_Adapter):
    """One quantity of an instrument, named `instrument_quantity`. Raises BadInput when the instrument lacks it."""

    def __init__(self, instrument: Instrument, quantity: str) -> None:
        name = f"{instrument.name}_{quantity}"
        super().__init__(name, name)
        if quantity not in instrument.quantities:
            has = ", ".join(instrument.quantities) or "none"
            raise BadInput(f"{instrument.name} has no quantity {quantity!r}; it has {has}")
        self._instrument, self._quantity = instrument, quantity
        self._limits = instrument.quantities[quantity]

    def check_value(self, value: float, /) -> None:
        """Raise InterlockError outside the limits, or when the quantity can only be read."""
        limits = self._limits
        if not limits.settable:
            raise InterlockError(f"{self.name} can only be read; set another quantity")
        if not (math.isfinite(value) and limits.low <= value <= limits.high):
            allowed = f"{limits.low:.6g}..{limits.high:.6g} (unit {limits.unit})"
            raise InterlockError(f"{self.name} was asked for {value:.6g}, {allowed} is allowed; choose a value within")

    def set(self, value: float, /) -> DeviceStatus:
        """Set and read back. Raises InterlockError as `check_value`, before anything moves."""
        self.check_value(value)
        return self._start(f"set {value:.6g}", lambda: self._instrument.set_quantity(self._quantity, float(value)))

    def read(self) -> Readings:
        """The present value."""
        value = self._instrument.read_quantity(self._quantity)
        return {self.name: {"value": value, "timestamp": time.time()}}

    def describe(self) -> DataKeys:
        """Key, unit and limits of `read`."""
        control = {"low": self._limits.low, "high": self._limits.high}
        return {self.name: _key(self.name, dtype="number", units=self._limits.unit, limits={"control": control})}


def _key(name: str, **about: Any) -> dict[str, Any]:
    return {"source": f"labctl:{name}", "shape": [], **about}
