"""Devices that give back what a recording holds, as long as they are asked what was asked then."""

from __future__ import annotations

import threading
from collections.abc import Mapping
from pathlib import Path
from typing import Any, ClassVar, Literal

import numpy as np
import numpy.typing as npt
from pydantic import TypeAdapter

from labctl.device_process import error_named
from labctl.devices import DeviceKind, DeviceSettings, Levels, OpenContext, Playback, Quantity
from labctl.errors import BadInput, HardwareError
from labctl.exposure import Exposure, Frames, FrameTag
from labctl.frozen import Frozen
from labctl.recording.recorder import FRAME_ARRAYS, told
from labctl.recording.tape import Call, TapeReader
from labctl.roads import Roads

QUANTITIES = TypeAdapter(dict[str, Quantity])

LOOK = "read_quantity"
"""A call that moves nothing, not even the clock of the replay. Whoever watches a quantity while a run goes on reads it
more or less often each time."""

CHECK = "check_shown"
"""A call that is recorded only when it failed."""

FREE = ("safe", "close", CHECK)
"""Calls that are let through where they were not recorded: so that a replay can be ended early, and those of CHECK."""


class ReplayClock:
    """The clock of the recording: every replayed call takes the time that it took then. See `labctl.clock.Clock`."""

    def __init__(self) -> None:
        self._now_s = 0.0

    def now(self) -> float:
        """Seconds on the clock of the recorded rig."""
        return self._now_s

    def sleep(self, seconds: float) -> None:
        """Let `seconds` pass at once."""
        self._now_s += max(0.0, seconds)

    def turn_to(self, now_s: float) -> None:
        """It is this time now."""
        self._now_s = now_s


class ReplayWorld:
    """The session that the replayed devices of a rig belong to.

    strayed: what was first asked otherwise than it was recorded; from then on no device answers any more.
    """

    def __init__(self, folder: Path, rig_hash: str) -> None:
        self.folder = folder
        self.clock = ReplayClock()
        self.strayed: str | None = None
        self._rig_hash = rig_hash

    def truth(self) -> dict[str, Any]:
        """What stands behind this rig."""
        return {"recording": str(self.folder), "rig_hash": self._rig_hash}


class ReplayWorldSettings(Frozen):
    """A recorded session stands behind the devices of this rig."""

    nature: ClassVar[str] = "replayed"
    type: Literal["replay"] = "replay"
    folder: str
    """Of one session: where its `rig.yaml` lies."""

    rig_hash: str
    """Content hash of the rig that was recorded; the replaying rig stands for it."""

    def make(self, twin: Any, roads: Roads, state_dir: Path) -> ReplayWorld:
        """The session. Raises BadInput when the folder is not there."""
        folder = Path(self.folder)
        if not folder.is_dir():
            raise BadInput(f"there is no recording in {folder}; correct `world.folder` of the rig file")
        return ReplayWorld(folder, self.rig_hash)


class _ReplaySettings(DeviceSettings):
    simulated: ClassVar[bool] = True
    needs_world: ClassVar[bool] = True

    def _tape(self, context: OpenContext) -> _Tape:
        if not isinstance(context.world, ReplayWorld):
            raise BadInput(f"{context.name}: {self.type} needs `world: {{type: replay, folder: ...}}`")
        reader = TapeReader(context.world.folder / context.name)
        if reader.kind != self.kind:
            raise BadInput(f"{context.name}: the recording is of a {reader.kind}, a {self.kind} is needed")
        return _Tape(context.name, reader, context.world)


class ReplayDisplaySettings(_ReplaySettings):
    """A recorded display."""

    kind: ClassVar[DeviceKind] = "display"
    type: Literal["replay.display"] = "replay.display"

    def make(self, context: OpenContext) -> ReplayDisplay:
        """See `DeviceSettings.make`."""
        return ReplayDisplay(self._tape(context))


class ReplayCameraSettings(_ReplaySettings):
    """A recorded camera."""

    kind: ClassVar[DeviceKind] = "camera"
    type: Literal["replay.camera"] = "replay.camera"

    def make(self, context: OpenContext) -> ReplayCamera:
        """See `DeviceSettings.make`."""
        return ReplayCamera(self._tape(context))


class ReplayInstrumentSettings(_ReplaySettings):
    """A recorded instrument."""

    kind: ClassVar[DeviceKind] = "instrument"
    type: Literal["replay.instrument"] = "replay.instrument"

    def make(self, context: OpenContext) -> ReplayInstrument:
        """See `DeviceSettings.make`."""
        return ReplayInstrument(self._tape(context))


class _Tape:
    """A tape that is being played. `call` gives what was given then, and raises what was raised then."""

    def __init__(self, device: str, reader: TapeReader, world: ReplayWorld) -> None:
        self.device, self.reader = device, reader
        self._world = world
        self._next = 0
        self._seen: dict[str, Call] = {}
        self._playing = threading.Lock()

    def call(self, name: str, *arguments: Any) -> Any:
        """The result of the next call. Raises HardwareError when another one was made then, and ever after."""
        wanted = [told(argument) for argument in arguments]
        with self._playing:
            if name in FREE and not self._comes(name, wanted):
                return None
            call = self._look(wanted) if name == LOOK else self._take(name, wanted)
            if name != LOOK:
                self._world.clock.turn_to(call.ended_s)
        if call.error is not None:
            raise error_named(call.error[0])(call.error[1])
        return call.result

    def _comes(self, name: str, wanted: list[Any]) -> bool:
        """Whether this call is the next one, looks left out."""
        for call in self.reader.calls[self._next :]:
            if call.name != LOOK:
                return self._world.strayed is None and (call.name, call.arguments) == (name, wanted)
        return False

    def _take(self, name: str, wanted: list[Any]) -> Call:
        if self._comes(name, wanted):
            while self.reader.calls[self._next].name == LOOK:
                self._pass()
            return self._pass()
        if self._world.strayed is None:
            self._world.strayed = self._stray(name, wanted)
        raise HardwareError(self._world.strayed)

    def _stray(self, name: str, wanted: list[Any]) -> str:
        made = _written(name, wanted)
        for number, call in enumerate(self.reader.calls[self._next :], self._next + 1):
            if call.name != LOOK:
                return (
                    f"{self.device}: call {number} of the recording is {_written(call.name, call.arguments)}, now "
                    f"{made} was made; replay the protocol that was recorded, from its beginning"
                )
        return (
            f"{self.device}: the recording ends after {len(self.reader.calls)} calls, now {made} was made; "
            "replay no more than was recorded"
        )

    def _look(self, wanted: list[Any]) -> Call:
        """The next reading of this quantity if it comes before anything else, else the last one."""
        for ahead in range(self._next, len(self.reader.calls)):
            call = self.reader.calls[ahead]
            if call.name != LOOK:
                break
            if call.arguments == wanted:
                while self._next <= ahead:
                    self._pass()
                return call
        last = self._seen.get(str(wanted[0]))
        if last is None:
            raise HardwareError(f"{self.device}: {_written(LOOK, wanted)} was not recorded by then")
        return last

    def _pass(self) -> Call:
        call = self.reader.calls[self._next]
        self._next += 1
        if call.name == LOOK:
            self._seen[str(call.arguments[0])] = call
        return call


class _Replay:
    def __init__(self, tape: _Tape) -> None:
        self.name = tape.device
        self._tape = tape

    def open(self) -> None:
        """See `Device.open`."""
        self._tape.call("open")

    def safe(self) -> None:
        """See `Device.safe`."""
        self._tape.call("safe")

    def close(self) -> None:
        """See `Device.close`."""
        self._tape.call("close")

    def describe_device(self) -> dict[str, Any]:
        """See `Device.describe_device`; what the recorded device said when it was opened."""
        return {**self._tape.reader.description, "replayed": True}


class ReplayDisplay(_Replay):
    """See `labctl.devices.Display`."""

    def __init__(self, tape: _Tape) -> None:
        super().__init__(tape)
        rows, columns = tape.reader.attributes["shape"]
        self.shape: tuple[int, int] = (rows, columns)
        self.settle_s: float = tape.reader.attributes["settle_s"]

    def show(self, levels: Levels) -> float:
        """See `Display.show`."""
        shown_s: float = self._tape.call("show", levels)
        return shown_s

    def check_shown(self) -> None:
        """See `SelfChecking.check_shown`."""
        self._tape.call(CHECK)

    def play(self, levels: Levels, slot_s: float) -> Playback:
        """See `Display.play`."""
        self._tape.call("play", levels, slot_s)
        return _ReplayPlayback(self._tape)

    def blank(self) -> None:
        """See `Display.blank`."""
        self._tape.call("blank")


class _ReplayPlayback:
    def __init__(self, tape: _Tape) -> None:
        self._tape = tape

    def wait(self, timeout_s: float) -> npt.NDArray[np.float64]:
        """See `Playback.wait`."""
        return np.array(self._tape.call("wait", timeout_s), dtype=np.float64)


class ReplayCamera(_Replay):
    """See `labctl.devices.Camera`."""

    def __init__(self, tape: _Tape) -> None:
        super().__init__(tape)
        attributes = tape.reader.attributes
        rows, columns = attributes["shape"]
        low_s, high_s = attributes["exposure_limits_s"]
        self.shape: tuple[int, int] = (rows, columns)
        self.saturation_dn: int = attributes["saturation_dn"]
        self.exposure_limits_s: tuple[float, float] = (low_s, high_s)

    def configure(self, exposure: Exposure) -> Exposure:
        """See `Camera.configure`."""
        return Exposure.model_validate(self._tape.call("configure", exposure))

    def arm(self, n: int) -> None:
        """See `Camera.arm`."""
        self._tape.call("arm", n)

    def trigger(self, tag: FrameTag) -> None:
        """See `Camera.trigger`."""
        self._tape.call("trigger", tag.exposure_id, tag.attempt)

    def fetch(self, timeout_s: float) -> Frames:
        """See `Camera.fetch`; the recorded frame, bit for bit."""
        kept = self._tape.call("fetch", timeout_s)
        arrays: Mapping[str, Any] = {name: self._tape.reader.array(kept["arrays"][name]) for name in FRAME_ARRAYS}
        return Frames(**arrays, saturation_dn=kept["saturation_dn"], attempt=kept["attempt"])

    def disarm(self) -> None:
        """See `Camera.disarm`."""
        self._tape.call("disarm")


class ReplayInstrument(_Replay):
    """See `labctl.devices.Instrument`. Readings may come more or less often than they were recorded."""

    def __init__(self, tape: _Tape) -> None:
        super().__init__(tape)
        self.quantities: Mapping[str, Quantity] = QUANTITIES.validate_python(tape.reader.attributes["quantities"])

    def read_quantity(self, name: str) -> float:
        """See `Instrument.read_quantity`."""
        value: float = self._tape.call(LOOK, name)
        return value

    def set_quantity(self, name: str, value: float) -> float:
        """See `Instrument.set_quantity`."""
        got: float = self._tape.call("set_quantity", name, value)
        return got


def _written(name: str, arguments: list[Any]) -> str:
    return f"{name}({', '.join(_short(argument) for argument in arguments)})"


def _short(argument: Any) -> str:
    if isinstance(argument, dict) and "sha256" in argument:
        return f"{argument['dtype']} {argument['shape']} {argument['sha256'][:12]}"
    return str(argument)
