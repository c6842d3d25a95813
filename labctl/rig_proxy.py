"""The rig as a step in a child process sees it: the child asks, the runner, which owns the rig, exposes and answers.

Arrays travel inside the messages, as .npy in base64: nothing is left on a disk when somebody is killed, least of all
scenes. A batch of 32 scenes of 63x63 costs some milliseconds. What goes wrong on the rig is raised in the child with
its own type and text, so that the run ends with the exit code that it would have ended with on the host.
"""

from __future__ import annotations

import base64
import io
from collections.abc import Callable, Iterator, Mapping
from dataclasses import fields
from typing import TYPE_CHECKING, Any

import numpy as np
import numpy.typing as npt

from labctl import errors
from labctl.errors import BadInput, HardwareError, LabctlError, RunFailed
from labctl.exposure import Exposure, ExposurePlan, Frames, join_frames

if TYPE_CHECKING:
    from labctl.rig import Rig
    from labctl.rig_file import RigSpec
    from labctl.roads import Roads

Message = dict[str, Any]

RIG_OPS = frozenset({"expose", "camera", "configure", "set_quantity"})
"""The `op` of every message that asks something of the rig."""


class RigProxy:
    """What a child may do with the rig: expose, ask the camera, set instruments. See `labctl.rig.Rig`.

    ask: sends a message to the runner and returns its answer.
    """

    def __init__(self, spec: RigSpec, ask: Callable[[Message], Message]) -> None:
        self.spec = spec
        self.roads: Roads = spec.roads
        self._ask = ask
        self._devices: ProxyDevices | None = None

    def expose(self, plan: ExposurePlan) -> Frames:
        """All frames of `plan`, as `Rig.expose`. Raises what the rig raises."""
        return unpack_frames(_answered(self._ask({"op": "expose", "plan": pack_plan(plan)}))["frames"])

    def stream(self, plan: ExposurePlan) -> Iterator[Frames]:
        """The frames of `expose`, one by one."""
        yield from self.expose(plan)

    def devices(self) -> ProxyDevices:
        """Camera and instruments, as far as a child needs them."""
        if self._devices is None:
            self._devices = ProxyDevices(self.spec, lambda message: _answered(self._ask(message)))
        return self._devices


class ProxyDevices:
    """The camera and the instruments behind a `RigProxy`."""

    def __init__(self, spec: RigSpec, ask: Callable[[Message], Message]) -> None:
        self.camera = ProxyCamera(ask)
        self.instruments = {
            name: ProxyInstrument(name, ask) for name, device in spec.devices.items() if device.kind == "instrument"
        }


class ProxyCamera:
    """Limits of the camera, and what it makes of wished settings. See `labctl.devices.Camera`."""

    def __init__(self, ask: Callable[[Message], Message]) -> None:
        self._ask = ask
        told = ask({"op": "camera"})
        low_s, high_s = told["exposure_limits_s"]
        self.exposure_limits_s: tuple[float, float] = (float(low_s), float(high_s))
        self.saturation_dn = int(told["saturation_dn"])

    def configure(self, settings: Exposure) -> Exposure:
        """What the camera really takes."""
        return Exposure.model_validate(self._ask({"op": "configure", "exposure": settings.model_dump(mode="json")}))


class ProxyInstrument:
    """Quantities of one instrument. See `labctl.devices.Instrument`."""

    def __init__(self, name: str, ask: Callable[[Message], Message]) -> None:
        self.name = name
        self._ask = ask

    def set_quantity(self, quantity: str, value: float) -> float:
        """Set with read-back."""
        message = {"op": "set_quantity", "instrument": self.name, "quantity": quantity, "value": value}
        return float(self._ask(message)["value"])


def answer(message: Mapping[str, Any], open_rig: Callable[[], Rig], between: Callable[[], None]) -> Message:
    """The runner's side: what the rig says to one question of the child, as a message with the `op` `answer`.

    between: called after every frame; what it raises (an abort) ends the exposures and is not told to the child.
    What the rig itself raises becomes part of the answer.
    """
    try:
        return {"op": "answer", **_done(message, open_rig(), between)}
    except (BadInput, HardwareError, RunFailed) as error:
        known = next(kind.__name__ for kind in type(error).__mro__ if kind.__module__ == errors.__name__)
        return {"op": "answer", "error": known, "text": str(error)}


def pack_plan(plan: ExposurePlan) -> Message:
    """A plan as plain JSON values."""
    return {
        "scenes": plan.scenes if isinstance(plan.scenes, str) else pack(plan.scenes),
        "masks": pack(plan.masks),
        "exposure": plan.exposure.model_dump(mode="json"),
        "exposure_ids": plan.exposure_ids.tolist(),
        "attempt": plan.attempt,
    }


def unpack_plan(told: Mapping[str, Any]) -> ExposurePlan:
    """The plan that `pack_plan` told."""
    return ExposurePlan(
        scenes="live" if told["scenes"] == "live" else unpack(told["scenes"]),
        masks=unpack(told["masks"]),
        exposure=Exposure.model_validate(told["exposure"]),
        exposure_ids=np.asarray(told["exposure_ids"], dtype=np.int64),
        attempt=int(told["attempt"]),
    )


def pack_frames(frames: Frames) -> Message:
    """Frames as plain JSON values."""
    told = {field.name: getattr(frames, field.name) for field in fields(frames)}
    return {name: pack(value) if isinstance(value, np.ndarray) else value for name, value in told.items()}


def unpack_frames(told: Mapping[str, Any]) -> Frames:
    """The frames that `pack_frames` told."""
    made: dict[str, Any] = {name: unpack(value) if isinstance(value, str) else value for name, value in told.items()}
    return Frames(**made)


def pack(array: npt.NDArray[Any]) -> str:
    """An array of any shape and type, to the bit, as text."""
    content = io.BytesIO()
    np.save(content, np.ascontiguousarray(array), allow_pickle=False)
    return base64.b64encode(content.getbuffer()).decode("ascii")


def unpack(text: str) -> npt.NDArray[Any]:
    """The array that `pack` told."""
    array: npt.NDArray[Any] = np.load(io.BytesIO(base64.b64decode(text)), allow_pickle=False)
    return array


def _done(message: Mapping[str, Any], rig: Rig, between: Callable[[], None]) -> Message:
    op = message["op"]
    if op == "expose":
        return {"frames": pack_frames(join_frames(list(_watched(rig.stream(unpack_plan(message["plan"])), between))))}
    camera = rig.devices().camera
    if op == "camera":
        return {"exposure_limits_s": list(camera.exposure_limits_s), "saturation_dn": int(camera.saturation_dn)}
    if op == "configure":
        return camera.configure(Exposure.model_validate(message["exposure"])).model_dump(mode="json")
    instrument = rig.devices().instruments[message["instrument"]]
    return {"value": float(instrument.set_quantity(message["quantity"], float(message["value"])))}


def _watched(frames: Iterator[Frames], between: Callable[[], None]) -> Iterator[Frames]:
    for frame in frames:
        yield frame
        between()


def _answered(told: Message) -> Message:
    if "error" not in told:
        return {name: value for name, value in told.items() if name != "op"}
    error: LabctlError = getattr(errors, told["error"])(told["text"])
    raise error
