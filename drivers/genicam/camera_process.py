"""The process of one camera, seen from ours: started, asked, listened to, ended. See `drivers.genicam.child`."""

from __future__ import annotations

import socket
import time
from collections.abc import Callable, Mapping, Sequence
from pathlib import Path
from typing import Any, TypeVar

from drivers.genicam.drops import Drops
from drivers.genicam.ring import FrameRing, Policy, SlotFrame
from labctl.device_process import DeviceProcess
from labctl.errors import HardwareError, LabctlError
from labctl.shared_block import SharedBlock

Used = TypeVar("Used")

END_GRACE_S = 1.5
"""What closing a camera in order may take before its process is killed."""


class CameraProcess:
    """One camera process. Raises HardwareError or DeviceTimeout from every call once it is gone or hangs."""

    def __init__(self, device: str, log_path: Path, environment: Mapping[str, str]) -> None:
        self._device = device
        self._ours, theirs = socket.socketpair()
        self._their_fd = theirs.fileno()
        self._ring: FrameRing | None = None
        self._block: SharedBlock | None = None
        self._not_taken = 0
        with theirs:
            self._process = DeviceProcess(
                device, "drivers.genicam.child", log_path, environment=environment, inherit=[self._their_fd]
            )

    @property
    def pid(self) -> int:
        """Process id."""
        return self._process.pid

    @property
    def alive(self) -> bool:
        """Whether the process runs."""
        return self._process.alive

    def ask(self, op: str, limit_s: float, **arguments: Any) -> dict[str, Any]:
        """One command; see `DeviceProcess.ask`. Every error names the camera."""
        try:
            return self._process.ask(op, limit_s, **arguments)
        except LabctlError as error:
            if str(error).startswith(f"{self._device}: "):
                raise
            raise type(error)(f"{self._device}: {error}") from None

    def open(
        self, producers: Sequence[Path], wanted: Mapping[str, Any], buffers: int, limit_s: float
    ) -> dict[str, Any]:
        """Open the camera that fits `wanted`; returns what it is."""
        paths = [str(path) for path in producers]
        try:
            return self.ask(
                "open", limit_s, producers=paths, wanted=dict(wanted), buffers=buffers, socket_fd=self._their_fd
            )
        except HardwareError as error:
            if self.alive:
                raise
            raise HardwareError(
                f"{self._device}: the producer {', '.join(paths)} brings the camera's process down ({error}); "
                "reinstall it, and check that it is built for this computer"
            ) from None

    def start(self, by_software: bool, policy: Policy, slots: int, frame_bytes: int, limit_s: float) -> None:
        """Start to grab into an empty ring of `slots` frames of up to `frame_bytes`."""
        if self._ring is None or self._ring.slot_bytes < frame_bytes or self._ring.slots != slots:
            self._attach_ring(slots, frame_bytes, limit_s)
        self.ask("start", limit_s, by_software=by_software, policy=policy)
        self._not_taken = 0

    def take(self, use: Callable[[SlotFrame], Used]) -> Used | None:
        """`use` of the oldest frame not yet taken, or None. See `FrameRing.take`."""
        taken = None if self._ring is None else self._ring.take(use)
        if taken is None:
            return None
        self._not_taken += taken[1]
        return taken[0]

    def skip_to(self, left: int) -> int:
        """Leave the newest `left` frames; returns how many were thrown away."""
        skipped = 0 if self._ring is None else self._ring.skip_to(left)
        self._not_taken += skipped
        return skipped

    @property
    def incomplete(self) -> int:
        """Incomplete frames since `start`."""
        return 0 if self._ring is None else int(self._ring.header["incomplete"])

    @property
    def failed(self) -> bool:
        """Whether the grab thread has lost the camera."""
        return self._ring is not None and bool(self._ring.header["failed"])

    def drops(self) -> Drops:
        """The counters since `start`."""
        if self._ring is None:
            return Drops()
        header = self._ring.header
        received = int(header["received"])
        return Drops(
            spanned=int(header["last_id"]) - int(header["first_id"]) + 1 if received else 0,
            received=received,
            missing=int(header["missing"]),
            incomplete=int(header["incomplete"]),
            underrun=int(header["underrun"]),
            not_taken=self._not_taken + int(header["refused"]),
            repeated=int(header["repeated"]),
        )

    def wait(self, end_s: float) -> None:
        """Until something happens (a frame, a failure) or the monotonic clock reaches `end_s`.

        Raises HardwareError when the process is gone.
        """
        self._ours.settimeout(max(0.0, end_s - time.monotonic()))
        try:
            if self._ours.recv(4096):
                return
        except (TimeoutError, BlockingIOError):
            return
        except OSError:
            pass
        raise HardwareError(f"{self._device}: the camera's process {self.pid} is gone")

    def end(self) -> None:
        """Let the camera be closed in order; the process is killed when that takes too long."""
        self._process.end(grace_s=END_GRACE_S)
        self._let_go()

    def kill(self) -> None:
        """End the process at once, whatever it is doing."""
        self._process.kill()
        self._process.end(grace_s=END_GRACE_S)
        self._let_go()

    def _let_go(self) -> None:
        self._ring = None
        if self._block is not None:
            self._block.close()
            self._block = None
        self._ours.close()

    def _attach_ring(self, slots: int, frame_bytes: int, limit_s: float) -> None:
        self._ring = None
        if self._block is not None:
            self._block.close()
        self._block = SharedBlock.make(FrameRing.bytes_needed(slots, frame_bytes))
        try:
            socket.send_fds(self._ours, [b"r"], [self._block.fd])
        except OSError as error:
            raise HardwareError(f"{self._device}: the camera's process is gone ({error})") from error
        self.ask("attach", limit_s, slots=slots, slot_bytes=frame_bytes)
        self._ring = FrameRing(self._block, slots, frame_bytes)
