"""A rig in use: opened under a lock, made safe first, exposed, and made safe again on every way out."""

from __future__ import annotations

from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import asdict, replace
from types import TracebackType
from typing import Any, Self, cast

from labctl import plugins
from labctl.bounded import within
from labctl.clock import Clock, WallClock
from labctl.devices import Device, Display, OpenContext
from labctl.errors import BadInput, DeviceTimeout, HardwareError, LabctlError
from labctl.exposure import ExposurePlan, Frames, join_frames
from labctl.interlocks import InterlockGuard
from labctl.light_path import LightPath, Retake, RigDevices
from labctl.recording.session import RecordingSession
from labctl.rig_file import ROLES, RigSpec
from labctl.rig_lock import LastHolder, RigLock
from labctl.roads import to_device_plan
from labctl.state import state_folder
from labctl.timing import SettleSource, settle_display

WORLD_LIMIT_S = 20.0
"""How long a world, such as a virtual lab of several processes, may take to end. Nothing burns meanwhile."""


class Rig:
    """The devices of one set-up, as a context manager. `expose` and `stream` measure; they never give gradients.

    On opening, every device is brought to its safe state before anything else. When the last holder died without
    doing so, `recovered_from` says who that was.
    """

    def __init__(self, spec: RigSpec, *, run: str | None = None, wait_s: float = 0.0) -> None:
        self.spec = spec
        self.roads = spec.roads
        """The roads that pictures go down; set them to calibrated ones. `spec.roads` are those of the rig file."""
        self.recovered_from: LastHolder | None = None
        self.safe_errors: list[str] = []
        self._run = run
        self._wait_s = wait_s
        self._lock = RigLock(state_folder() / "rigs", spec.name)
        self._devices: dict[str, Device] = {}
        self._guard: InterlockGuard | None = None
        self._settle_from: dict[str, SettleSource] = {}
        self._world: Any = None
        self._path: LightPath = plugins.load("labctl.light_paths", spec.file.light_path)()
        self._open = False
        self._times_made_safe = 0

    def open(self) -> Self:
        """Take the lock, open the devices, make them safe. Raises RigBusy, HardwareError, or BadInput when settings do
        not fit the device they name; then nothing stays open.

        A device that does not open keeps no other from being opened and made safe, in the declared order: what
        somebody left switched on is switched off even when the camera is gone.
        """
        self._open = True
        failures: dict[str, LabctlError] = {}
        try:
            self.recovered_from = self._lock.acquire(run=self._run, wait_s=self._wait_s)
            if self.spec.world is not None:
                state = state_folder() / "rigs" / self.spec.name
                state.mkdir(parents=True, exist_ok=True)
                self._world = self.spec.world.make(self.spec.twin, self.spec.roads, state)
            recording = self._new_recording()
            for name in self.spec.safe_order:
                try:
                    self._open_device(name, recording)
                except LabctlError as error:
                    failures[name] = error
            if failures:
                unfit = all(isinstance(error, BadInput) for error in failures.values())
                text = "; ".join(_naming(name, error) for name, error in failures.items())
                raise (BadInput if unfit else HardwareError)(f"rig '{self.spec.name}' could not be opened: {text}")
            if self.spec.file.interlocks:
                self._guard = InterlockGuard(self.spec.file.interlocks, self._instruments())
                self._guard.start()
        except BaseException:
            self.close()
            raise
        return self

    def expose(self, plan: ExposurePlan) -> Frames:
        """All frames of `plan` at once; see `stream`."""
        return join_frames(list(self.stream(plan)))

    def stream(self, plan: ExposurePlan) -> Iterator[Frames]:
        """Frame by frame, each as `Frames` of length one, in the order of the plan.

        Raises BadInput when the plan does not fit the rig, HardwareError when a device fails, InterlockError when an
        interlock aborts it; see `labctl.interlocks`.
        """
        if not isinstance(plan.scenes, str):
            cells, scene_px = plan.masks.shape[-2:], plan.scenes.shape[-2:]
            self.spec.twin.check_design(cells, scene_px, self.roads)
        return self.stream_any(plan)

    def stream_any(self, plan: ExposurePlan) -> Iterator[Frames]:
        """As `stream`, for patterns on any grid: the twin is not asked whether it could train with them."""
        devices = self.devices()
        scene_shape = None if devices.scene is None else devices.scene.shape
        device_plan = to_device_plan(plan, self.roads, devices.mask.shape, scene_shape)
        if self._guard is None:
            return self._unless_made_safe(self._path.stream(device_plan, devices))
        return self._guard.stream(
            plan,
            lambda part: self._unless_made_safe(self._path.stream(replace(device_plan, plan=part), devices)),
            self.safe,
        )

    def devices(self) -> RigDevices:
        """The opened devices by role. Raises BadInput when the rig has no mask display or no camera."""
        if not self._open:
            raise BadInput(f"rig '{self.spec.name}' is not open; use `with labctl.open_rig(...) as rig:`")
        self.spec.require(("mask", "camera"), "an exposure")
        by_name: Mapping[str, Any] = self._devices
        return RigDevices(
            mask=by_name["mask"],
            scene=by_name.get("scene"),
            camera=by_name["camera"],
            instruments=self._instruments() if self._guard is None else self._guard.instruments,
            clock=self._clock(),
            world=self._world,
        )

    @property
    def is_open(self) -> bool:
        """Whether the rig is held and its devices can be used."""
        return self._open

    @property
    def retakes(self) -> Sequence[Retake]:
        """Exposures that were taken twice since the rig was opened, because the first frame was lost or doubtful."""
        return tuple(getattr(self._path, "retakes", ()))

    def _unless_made_safe(self, frames: Iterator[Frames]) -> Iterator[Frames]:
        """`frames`, as long as nobody makes the rig safe meanwhile: what is exposed after that is dark, not good."""
        before = self._times_made_safe
        try:
            for frame in frames:
                if self._times_made_safe != before:
                    raise HardwareError(
                        f"rig '{self.spec.name}' was made safe while it exposed; the frames since then are not "
                        "delivered; begin the exposures anew"
                    )
                yield frame
        finally:
            close = getattr(frames, "close", None)
            if close is not None:
                close()

    def safe(self) -> list[str]:
        """Bring every device to its safe state in the declared order; returns what went wrong, one line per device.

        Each device gets `safe_timeout_s`; a device that hangs does not keep the others from being made safe.
        """
        self.safe_errors = []
        self._times_made_safe += 1
        if self._guard is not None:
            self._guard.expect_nothing()
        for name in self.spec.safe_order:
            device = self._devices.get(name)
            if device is not None:
                error = _error_of(device.safe, self.spec.file.safe_timeout_s)
                if error is not None:
                    self.safe_errors.append(f"{name}: {error}")
        return self.safe_errors

    def close(self) -> None:
        """Make safe, close every device in the same order, let go of the lock. May be called twice."""
        if not self._open:
            return
        if self._guard is not None:
            self._guard.stop()
        errors = list(self.safe())
        self._guard = None
        for name in self.spec.safe_order:
            device = self._devices.get(name)
            if device is not None:
                error = _error_of(device.close, self.spec.file.safe_timeout_s)
                if error is not None:
                    errors.append(f"{name}: {error}")
        untouched = [name for name in self.spec.safe_order if name not in self._devices]
        self._open = False
        self._devices.clear()
        if hasattr(self._world, "close"):
            error = _error_of(self._world.close, WORLD_LIMIT_S)
            errors += [] if error is None else [f"world: {error}"]
        self.safe_errors = errors
        self._lock.release(safe=not errors and not untouched)

    def describe(self) -> dict[str, Any]:
        """What every device says about itself, the hash of the rig, and on a simulated rig the truth behind it."""
        return {
            "name": self.spec.name,
            "hash": self.spec.content_hash,
            "simulated": self.spec.simulated,
            "nature": self.spec.nature,
            "light_path": self.spec.file.light_path,
            "settle": {
                name: {"settle_s": cast(Display, self._devices[name]).settle_s, "from": source}
                for name, source in self._settle_from.items()
                if name in self._devices
            },
            "retakes": [asdict(retake) for retake in self.retakes],
            "devices": {name: device.describe_device() for name, device in self._devices.items()},
            "world": None if self._world is None else self._world.truth(),
        }

    def _open_device(self, name: str, recording: RecordingSession | None) -> None:
        context = OpenContext(name, self.spec.name, self._world, getattr(self._world, "environment", {}))
        device = self.spec.devices[name].make(context)
        if recording is not None:
            device = recording.wrap(name, device)
        device.open()
        self._devices[name] = device
        if self.spec.devices[name].kind == "display":
            self._settle_from[name] = settle_display(self.spec, name, cast(Display, device))
        device.safe()

    def _instruments(self) -> dict[str, Any]:
        return {name: device for name, device in self._devices.items() if name not in ROLES}

    def _clock(self) -> Clock:
        return WallClock() if self._world is None else cast(Clock, self._world.clock)

    def _new_recording(self) -> RecordingSession | None:
        record = self.spec.file.record
        return None if record is None else RecordingSession(self.spec, record, self._clock())

    def __enter__(self) -> Self:
        return self if self._open else self.open()

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self.close()


def _naming(device: str, error: Exception) -> str:
    text = str(error)
    return text if text.startswith(f"{device}: ") else f"{device}: {text}"


def _error_of(work: Callable[[], None], limit_s: float) -> str | None:
    """What went wrong with `work`, given so long; None when it went well."""
    try:
        within(limit_s, work)
    except DeviceTimeout as error:
        return str(error)
    except Exception as error:  # noqa: BLE001 - the other devices must still be made safe
        return f"{type(error).__name__}: {error}"
    return None
