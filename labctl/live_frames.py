"""Frames one after the other, for looking at: from the camera's own stream where it has one, else one by one."""

from __future__ import annotations

import contextlib
from collections.abc import Callable, Iterator
from typing import Protocol, runtime_checkable

from labctl.devices import Camera
from labctl.exposure import Exposure, Frames, FrameTag
from labctl.light_path import FETCH_MARGIN_S

BLOCK = 256
"""Frames for which a camera without a stream is armed at a time."""


@runtime_checkable
class Streams(Protocol):
    """What a camera offers beyond `Camera` when it can run freely: the last frame at any time, older ones dropped."""

    def start_stream(self) -> None:
        """Run freely with the exposure of the last `configure`."""

    def latest(self, timeout_s: float) -> Frames:
        """The newest frame not seen yet, as `Frames` of length one. Raises DeviceTimeout."""

    def stop_stream(self) -> None:
        """Stand still again. May be called twice."""


@contextlib.contextmanager
def live_frames(camera: Camera, exposure: Exposure) -> Iterator[Callable[[], Frames]]:
    """A function that waits for the next frame. Raises HardwareError when the camera fails, DeviceTimeout when late.

    The camera stands still again afterwards.
    """
    limit_s = camera.configure(exposure).exposure_s + FETCH_MARGIN_S
    if isinstance(camera, Streams):
        camera.start_stream()
        try:
            yield lambda: camera.latest(limit_s)
        finally:
            camera.stop_stream()
        return
    taken = 0

    def triggered() -> Frames:
        nonlocal taken
        if taken % BLOCK == 0:
            camera.disarm()
            camera.arm(BLOCK)
        camera.trigger(FrameTag(taken))
        taken += 1
        return camera.fetch(limit_s)

    try:
        yield triggered
    finally:
        camera.disarm()
