"""The devices of a rig one after the other, each on its own: a broken one keeps none of the others from its turn."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from types import TracebackType
from typing import Any, Self, TypeVar

from labctl.bounded import within
from labctl.devices import Device, OpenContext
from labctl.rig_file import RigSpec
from labctl.rig_lock import LastHolder, RigLock
from labctl.state import state_folder

Seen = TypeVar("Seen")

OPEN_LIMIT_S = 30.0
"""What one device may take to open and to be looked at."""


class DeviceRound:
    """Holds the lock of a rig and the world of its devices, but opens none by itself.

    On a rig whose last holder died, the next one is told so again unless every device was made safe here.
    """

    def __init__(self, spec: RigSpec, *, wait_s: float = 0.0) -> None:
        self.spec = spec
        self.recovered_from: LastHolder | None = None
        self._wait_s = wait_s
        self._lock = RigLock(state_folder() / "rigs", spec.name)
        self._world: Any = None
        self._made_safe: set[str] = set()
        self._unsafe: set[str] = set()

    @property
    def environment(self) -> Mapping[str, str]:
        """Variables that a virtual lab adds for drivers."""
        added: Mapping[str, str] = getattr(self._world, "environment", {})
        return added

    def look_at(self, name: str, look: Callable[[Device], Seen]) -> Seen:
        """Open device `name`, make it safe, `look`, make it safe again and close it.

        Raises what the device raises, DeviceTimeout when it takes longer than it may.
        """
        context = OpenContext(name, self.spec.name, self._world, self.environment)
        device = self.spec.devices[name].make(context)

        def open_and_look() -> Seen:
            device.open()
            device.safe()
            return look(device)

        limit_s = self.spec.file.safe_timeout_s
        self._unsafe.add(name)
        try:
            return within(OPEN_LIMIT_S, open_and_look)
        finally:
            try:
                within(limit_s, device.safe)
                self._unsafe.discard(name)
                self._made_safe.add(name)
            finally:
                within(limit_s, device.close)

    def __enter__(self) -> Self:
        """Raises RigBusy when another process holds the rig, HardwareError when its world does not start."""
        self.recovered_from = self._lock.acquire(wait_s=self._wait_s)
        try:
            if self.spec.world is not None:
                state = state_folder() / "rigs" / self.spec.name
                state.mkdir(parents=True, exist_ok=True)
                self._world = self.spec.world.make(self.spec.twin, self.spec.roads, state)
        except BaseException:
            self._release()
            raise
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        try:
            if hasattr(self._world, "close"):
                within(self.spec.file.safe_timeout_s, self._world.close)
        finally:
            self._release()

    def _release(self) -> None:
        all_safe = self._made_safe == set(self.spec.devices)
        self._lock.release(safe=not self._unsafe and (all_safe or self.recovered_from is None))
