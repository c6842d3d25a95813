"""Simulated devices: displays, camera and lamp that stand in a `World` and keep its virtual time.

They keep the promises of `labctl.devices` as real ones do, errors and states included.
"""

from __future__ import annotations

import math
from collections import deque
from collections.abc import Mapping, Sequence
from typing import Annotated, Any, ClassVar, Literal

import numpy as np
import numpy.typing as npt
from annotated_types import Ge, Gt, Le

from labctl.devices import (
    Camera,
    DeviceKind,
    DeviceSettings,
    Display,
    Instrument,
    Levels,
    OpenContext,
    Playback,
    Quantity,
)
from labctl.errors import BadInput, DeviceTimeout, HardwareError, InterlockError
from labctl.exposure import Exposure, Frames, FrameTag, IntArray
from sim.lamp import SimulatedLamp, lamp_quantities
from sim.panel import settled_fraction
from sim.world import Shot, Shown, World

__all__ = [
    "SimulatedCamera", "SimulatedCameraSettings", "SimulatedDisplay", "SimulatedLamp", "SimulatedLampSettings",
    "SimulatedMonitorSettings", "SimulatedPanelSettings",
]  # fmt: skip

SETTLE_RESPONSES = 10.0
"""Default `settle_s` in response times; from 7.84 on a picture counts as reached."""

CAMERA_TICK_S = 1e-6
"""Exposure times are whole microseconds."""


class _SimulatedSettings(DeviceSettings):
    simulated: ClassVar[bool] = True
    needs_world: ClassVar[bool] = True


class SimulatedPanelSettings(_SimulatedSettings):
    """The SLM of the twin of this rig."""

    kind: ClassVar[DeviceKind] = "display"
    type: Literal["sim.panel"] = "sim.panel"
    settle_s: Annotated[float, Ge(0), Le(60)] | None = None
    """How long to wait after a change; None waits ten response times of the panel."""

    def make(self, context: OpenContext) -> Display:
        """See `DeviceSettings.make`. Raises BadInput without a world."""
        world = _world_of(context, self.type)
        panel = world.settings.panel
        display = SimulatedDisplay(context.name, world, panel.shape, panel.response_s, self.settle_s)
        world.panel = display
        return display


class SimulatedMonitorSettings(_SimulatedSettings):
    """The scene monitor of the twin of this rig."""

    kind: ClassVar[DeviceKind] = "display"
    type: Literal["sim.monitor"] = "sim.monitor"
    settle_s: Annotated[float, Ge(0), Le(60)] | None = None
    """How long to wait after a change; None waits ten response times of the monitor."""

    def make(self, context: OpenContext) -> Display:
        """See `DeviceSettings.make`. Raises BadInput without a world."""
        world = _world_of(context, self.type)
        monitor = world.settings.monitor
        display = SimulatedDisplay(context.name, world, monitor.shape, monitor.response_s, self.settle_s)
        world.monitor = display
        return display


class SimulatedCameraSettings(_SimulatedSettings):
    """The sensor of the twin of this rig, as a camera."""

    kind: ClassVar[DeviceKind] = "camera"
    type: Literal["sim.camera"] = "sim.camera"
    gain_limit_db: Annotated[float, Ge(0), Le(48)] = 48.0

    def make(self, context: OpenContext) -> Camera:
        """See `DeviceSettings.make`. Raises BadInput without a world."""
        return SimulatedCamera(context.name, _world_of(context, self.type), self.gain_limit_db)


class SimulatedLampSettings(_SimulatedSettings):
    """A lamp that lights the live scene. It keeps its power when the program dies."""

    kind: ClassVar[DeviceKind] = "instrument"
    type: Literal["sim.lamp"] = "sim.lamp"
    power_limit: Annotated[float, Gt(0), Le(1)] = 1.0

    def declared_quantities(self) -> Mapping[str, Quantity]:
        """See `DeviceSettings.declared_quantities`."""
        return lamp_quantities(self.power_limit)

    def make(self, context: OpenContext) -> Instrument:
        """See `DeviceSettings.make`. Raises BadInput without a world."""
        world = _world_of(context, self.type)
        return SimulatedLamp(context.name, context.rig_name, world, self.power_limit)


class SimulatedDisplay:
    """A panel or monitor: `show` takes no time, the picture follows exponentially. See `labctl.devices.Display`."""

    def __init__(
        self, name: str, world: World, shape: tuple[int, int], response_s: float, settle_s: float | None
    ) -> None:
        self.name = name
        self.shape = shape
        self.response_s = response_s
        self.settle_s = SETTLE_RESPONSES * response_s if settle_s is None else settle_s
        self._world = world
        self._levels: Levels = np.zeros(shape, dtype=np.uint8)
        self._before: npt.NDArray[np.float64] | None = None
        self._changed_s = -math.inf
        self._blank = True
        self._open = False

    def open(self) -> None:
        """Connect and go blank."""
        self._open = True
        self.blank()

    def safe(self) -> None:
        """Go blank."""
        self._go(np.zeros(self.shape, dtype=np.uint8))
        self._blank = True

    def close(self) -> None:
        """Let go; the last picture stays."""
        self._open = False

    def describe_device(self) -> dict[str, Any]:
        """See `Device.describe_device`."""
        return {
            "name": self.name, "model": "simulated display", "shape": list(self.shape),
            "response_s": self.response_s, "settle_s": self.settle_s,
        }  # fmt: skip

    def show(self, levels: Levels) -> float:
        """See `Display.show`."""
        self._check(levels, self.shape)
        self._go(levels.copy())
        self._blank = False
        return self._world.clock.now()

    def play(self, levels: Levels, slot_s: float) -> Playback:
        """See `Display.play`. Virtual time passes in `Playback.wait`, and the patterns with it."""
        self._check(levels, (len(levels), *self.shape))
        if not (slot_s > 0 and math.isfinite(slot_s)):
            raise BadInput(f"{self.name}: slot_s is {slot_s}; a time above 0 s is needed")
        return _Playback(self, self._world, levels.copy(), slot_s)

    def blank(self) -> None:
        """See `Display.blank`. The blank level is 0."""
        self._need_open()
        self.safe()

    def shown(self) -> Shown | None:
        """What the panel stands at now; None when it is blank and has settled."""
        since_s = self._world.clock.now() - self._changed_s
        if settled_fraction(since_s, self.response_s) == 1.0:
            return None if self._blank else Shown(self._levels)
        return Shown(self._levels, self._before, since_s)

    def _go(self, levels: Levels) -> None:
        now = self._world.clock.now()
        left = 1.0 - settled_fraction(now - self._changed_s, self.response_s)
        before = self._levels.astype(np.float64)
        if left > 0 and self._before is not None:
            before += left * (self._before - before)
        self._levels, self._before, self._changed_s = levels, before, now

    def _check(self, levels: Levels, shape: tuple[int, ...]) -> None:
        self._need_open()
        if not isinstance(levels, np.ndarray) or levels.dtype != np.uint8 or levels.shape != shape:
            got = f"{levels.dtype} {levels.shape}" if isinstance(levels, np.ndarray) else type(levels).__name__
            raise BadInput(f"{self.name} takes uint8 levels of shape {shape}, got {got}; take it down its road first")

    def _need_open(self) -> None:
        if not self._open:
            raise HardwareError(f"{self.name} is not open; call open() first")


class _Playback:
    def __init__(self, display: SimulatedDisplay, world: World, levels: Levels, slot_s: float) -> None:
        self._display, self._world, self._levels, self._slot_s = display, world, levels, slot_s
        self._dwell_s: npt.NDArray[np.float64] | None = None

    def wait(self, timeout_s: float) -> npt.NDArray[np.float64]:
        """See `Playback.wait`."""
        if self._dwell_s is not None:
            return self._dwell_s
        needed_s = self._slot_s * len(self._levels)
        if needed_s > timeout_s:
            self._world.clock.sleep(timeout_s)
            raise DeviceTimeout(f"{self._display.name} plays for {needed_s:.3g} s, the limit is {timeout_s:.3g} s")
        dwell = []
        for picture in self._levels:
            shown_s = self._display.show(picture)
            self._world.clock.sleep(self._slot_s)
            dwell.append(self._world.clock.now() - shown_s)
        self._dwell_s = np.array(dwell, dtype=np.float64)
        return self._dwell_s


class SimulatedCamera:
    """The sensor of the world behind the interface of a triggered camera. See `labctl.devices.Camera`.

    Frames not fetched wait in order. Pixels are computed when frames are fetched, from what stood there at the trigger.
    """

    def __init__(self, name: str, world: World, gain_limit_db: float) -> None:
        sensor = world.settings.sensor
        self.name = name
        self.shape = sensor.shape
        self.saturation_dn = sensor.top_dn
        self.exposure_limits_s = sensor.exposure_limits_s
        self.gain_limit_db = gain_limit_db
        self._world = world
        self._exposure: Exposure | None = None
        self._left = 0
        self._frame_id = 0
        self._pending: deque[tuple[int, Shot]] = deque()
        self._open = False

    def open(self) -> None:
        """Connect, not armed."""
        self._open = True
        self.disarm()

    def safe(self) -> None:
        """Leave the armed state."""
        self.disarm()

    def close(self) -> None:
        """Let go."""
        self.disarm()
        self._open = False

    def describe_device(self) -> dict[str, Any]:
        """See `Device.describe_device`."""
        return {
            "name": self.name, "model": "simulated camera", "shape": list(self.shape),
            "saturation_dn": self.saturation_dn, "exposure_limits_s": list(self.exposure_limits_s),
            "gain_limit_db": self.gain_limit_db,
        }  # fmt: skip

    def configure(self, exposure: Exposure) -> Exposure:
        """See `Camera.configure`. The exposure time is rounded to whole microseconds."""
        if not self._open:
            raise HardwareError(f"{self.name} is not open; call open() first")
        low, high = self.exposure_limits_s
        if not low <= exposure.exposure_s <= high:
            raise InterlockError(
                f"{self.name}: exposure_s is {exposure.exposure_s:.6g} s, {low:.6g}..{high:.6g} s is allowed; "
                "change the light or the mask instead"
            )
        if exposure.gain_db > self.gain_limit_db:
            raise InterlockError(
                f"{self.name}: gain_db is {exposure.gain_db:.4g} dB, at most {self.gain_limit_db:.4g} dB is allowed"
            )
        roi = exposure.roi or self.shape
        if roi[0] > self.shape[0] or roi[1] > self.shape[1]:
            raise InterlockError(
                f"{self.name}: roi is {roi[0]}x{roi[1]}, the sensor has {self.shape[0]}x{self.shape[1]}; "
                "use a smaller region"
            )
        rounded_s = min(max(round(exposure.exposure_s / CAMERA_TICK_S) * CAMERA_TICK_S, low), high)
        self._exposure = exposure.model_copy(update={"exposure_s": rounded_s, "roi": roi})
        return self._exposure

    def arm(self, n: int) -> None:
        """See `Camera.arm`. Frame ids count from 0 again. Raises HardwareError before `configure`."""
        if self._exposure is None or not self._open:
            raise HardwareError(f"{self.name} is not configured; call configure() before arm()")
        if n < 1:
            raise BadInput(f"{self.name}: cannot arm for {n} frames; 1 or more is needed")
        self._pending.clear()
        self._left, self._frame_id = n, 0

    def trigger(self, tag: FrameTag) -> None:
        """See `Camera.trigger`."""
        if self._left == 0 or self._exposure is None:
            raise HardwareError(f"{self.name} is not armed for another frame; call arm() with enough frames")
        self._left -= 1
        self._pending.append((self._frame_id, self._world.start(self._exposure, tag)))
        self._frame_id += 1

    def fetch(self, timeout_s: float) -> Frames:
        """See `Camera.fetch`."""
        if not self._pending:
            self._world.clock.sleep(timeout_s)
            raise DeviceTimeout(f"{self.name}: no frame within {timeout_s:.3g} s; trigger one first")
        left_s = self._end_s(self._pending[0][1]) - self._world.clock.now()
        if left_s > timeout_s:
            self._world.clock.sleep(timeout_s)
            raise DeviceTimeout(f"{self.name}: the frame needs another {left_s:.3g} s, the limit was {timeout_s:.3g} s")
        self._world.clock.sleep(left_s)
        return self._develop([self._pending.popleft()])

    def finish_exposures(self) -> None:
        """Let time pass until the last triggered exposure has ended; its frame stays to be fetched."""
        if self._pending:
            self._world.clock.sleep(self._end_s(self._pending[-1][1]) - self._world.clock.now())

    def fetch_all(self) -> Frames:
        """All frames triggered and not yet fetched, in one batch. Raises DeviceTimeout when there are none."""
        if not self._pending:
            raise DeviceTimeout(f"{self.name}: no frame was triggered; trigger one first")
        self.finish_exposures()
        taken, self._pending = list(self._pending), deque()
        return self._develop(taken)

    def disarm(self) -> None:
        """See `Camera.disarm`."""
        self._left = 0
        self._pending.clear()

    @staticmethod
    def _end_s(shot: Shot) -> float:
        return shot.start_s + shot.exposure.exposure_s

    def _develop(self, taken: Sequence[tuple[int, Shot]]) -> Frames:
        shots = [shot for _, shot in taken]
        return Frames(
            pixels=self._world.expose(shots),
            exposure_ids=_int64([shot.tag.exposure_id for shot in shots]),
            frame_ids=_int64([frame_id for frame_id, _ in taken]),
            exposure_s=np.array([shot.exposure.exposure_s for shot in shots]),
            gain_db=np.array([shot.exposure.gain_db for shot in shots], dtype=np.float64),
            camera_time_s=np.array([shot.start_s for shot in shots]),
            host_time_s=np.array([self._end_s(shot) for shot in shots]),
            saturation_dn=self.saturation_dn,
            attempt=shots[0].tag.attempt,
        )


def _int64(values: Sequence[int]) -> IntArray:
    return np.array(values, dtype=np.int64)


def _world_of(context: OpenContext, device_type: str) -> World:
    if context.world is None:
        raise BadInput(f"{context.name}: {device_type} needs a simulated world; give the rig file a `world`")
    world: World = context.world
    return world
