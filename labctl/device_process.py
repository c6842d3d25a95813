"""A hardware device in a process of its own: the parent's side. The child's side is `labctl.device_child`.

A vendor library may hold the interpreter lock, hang, or crash; in a child it harms nobody else. Commands and answers
are small and go through a pipe; pixels and levels go through a `labctl.shared_block.SharedBlock`.
"""

from __future__ import annotations

import threading
import time
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

from labctl import errors
from labctl.errors import DeviceTimeout, HardwareError, LabctlError
from labctl.process import QUIT_GRACE_S, Child, ChildDied


class DeviceProcess:
    """One device child. `ask` says a command and returns the answer.

    device: its name in the rig, for error texts. module: what the child runs; it calls `device_child.serve`.
    """

    def __init__(
        self,
        device: str,
        module: str,
        log_path: Path,
        *,
        environment: Mapping[str, str] | None = None,
        inherit: Sequence[int] = (),
    ) -> None:
        self._device = device
        self._serial = 0
        self._talking = threading.RLock()
        log_path.parent.mkdir(parents=True, exist_ok=True)
        self._child = Child(log_path, module, environment=environment, inherit=inherit)

    @property
    def pid(self) -> int:
        """Process id of the child."""
        return self._child.pid

    @property
    def alive(self) -> bool:
        """Whether the process runs."""
        return self._child.alive

    @property
    def silent_s(self) -> float:
        """For how long the child has said nothing at all. It beats every `labctl.process.HEARTBEAT_S`."""
        return time.monotonic() - self._child.heard_s

    def ask(self, op: str, limit_s: float, **arguments: Any) -> dict[str, Any]:
        """Say command `op` and wait for its answer. Arguments and answer are JSON values.

        Raises what the child raised (a class of `labctl.errors`, else HardwareError), DeviceTimeout after `limit_s`,
        HardwareError when the child is gone. A late answer to an earlier command is never taken for this one's.
        """
        end = time.monotonic() + limit_s
        if not self._talking.acquire(timeout=max(limit_s, 0.0)):
            raise DeviceTimeout(f"{self._device}: '{op}' had to wait {limit_s:g} s for an earlier command to end")
        try:
            return self._answer(op, arguments, end, limit_s)
        finally:
            self._talking.release()

    def kill(self) -> None:
        """SIGKILL, at once."""
        self._child.kill()

    def end(self, grace_s: float = QUIT_GRACE_S) -> None:
        """Let the child make its device safe and leave; terminate, then kill it when it does not. Always reaps."""
        self._child.end(grace_s=grace_s)

    def _answer(self, op: str, arguments: Mapping[str, Any], end: float, limit_s: float) -> dict[str, Any]:
        self._serial += 1
        serial = self._serial
        self._child.send({"op": op, "serial": serial, **arguments})
        while True:
            try:
                message = self._child.next_message(end - time.monotonic())
            except ChildDied as died:
                raise HardwareError(f"{self._device}: {died}; open the rig anew") from None
            if message is None:
                raise DeviceTimeout(
                    f"{self._device}: no answer to '{op}' within {limit_s:g} s; its log is {self._child.log_path}"
                )
            if message.get("serial") != serial:
                continue
            if message["op"] == "failed":
                raise error_named(message["error"])(message["text"])
            answer: dict[str, Any] = message["answer"]
            return answer


def error_named(name: str) -> type[LabctlError]:
    """The class of `labctl.errors` called `name`; HardwareError for any other name."""
    found = getattr(errors, name, None)
    return found if isinstance(found, type) and issubclass(found, LabctlError) else HardwareError
