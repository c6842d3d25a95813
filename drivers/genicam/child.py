"""The process of one camera: obeys the commands of `drivers.genicam.camera_process`. Run with `python -m`."""

from __future__ import annotations

import contextlib
import signal
import socket
import sys
import time
from collections.abc import Mapping, Sequence
from typing import TYPE_CHECKING, Any

from drivers.genicam.ring import FrameRing, Policy
from labctl.device_child import serve
from labctl.errors import HardwareError
from labctl.shared_block import SharedBlock

if TYPE_CHECKING:
    from drivers.genicam.features import Features, Value
    from drivers.genicam.grab import ChunkNodes, Grabber

SWITCH_S = 2e-4
"""The grab thread asks the producer without letting go of the interpreter lock; commands shall not wait long."""

CHUNKS = ("ExposureTime", "Gain")


class CameraInChild:
    """One camera, from `open` to the end of the process."""

    def __init__(self) -> None:
        self._harvester: Any = None
        self._acquirer: Any = None
        self._features: Features | None = None
        self._socket: socket.socket | None = None
        self._block: SharedBlock | None = None
        self._ring: FrameRing | None = None
        self._grabber: Grabber | None = None
        self._chunks: ChunkNodes | None = None

    def enumerate(self, producers: Sequence[str]) -> dict[str, Any]:
        """All cameras of the producers."""
        from drivers.genicam.enumeration import open_producers

        self._harvester, cameras = open_producers(producers)
        return {"cameras": cameras}

    def open(self, producers: Sequence[str], wanted: Mapping[str, Any], buffers: int, socket_fd: int) -> dict[str, Any]:
        """Open the camera and `prepare` it; returns who and what it is."""
        from drivers.genicam.enumeration import choose, create_camera, open_producers
        from drivers.genicam.features import Features

        self._socket = socket.socket(fileno=socket_fd)
        self._socket.setblocking(False)
        self._harvester, cameras = open_producers(producers)
        place = choose(cameras, wanted)
        self._acquirer = create_camera(self._harvester, place, buffers)
        signal.signal(signal.SIGINT, signal.SIG_IGN)  # harvesters has put its own handler there
        self._acquirer.num_buffers = buffers
        self._features = Features(self._acquirer.remote_device.node_map)
        self._count_incomplete()
        return {"identity": cameras[place], **self.prepare()}

    def prepare(self) -> dict[str, Any]:
        """Switch automatics off and chunks on, whatever other features were set; returns what the camera is then.

        Its limits follow other features (binning, a selector), so this is done again after those were written. Only
        while it does not grab.
        """
        from drivers.genicam.features import switch_automatics_off

        features = self._open_features()
        features.put("AcquisitionMode", "Continuous")
        stubborn = switch_automatics_off(features)
        chunks = self._enable_chunks()
        for axis in "XY":
            features.put(f"Offset{axis}", 0)
        return {
            "stubborn": stubborn,
            "formats": features.entries("PixelFormat"),
            "axes": [self._axis("Height", "OffsetY"), self._axis("Width", "OffsetX")],
            "exposure": self._number("ExposureTime"),
            "gain": self._number("Gain"),
            "trigger": features.has("TriggerSoftware"),
            "chunks": chunks,
            "temperature_c": features.read_or_none("DeviceTemperature"),
        }

    def configure(
        self, pixel_format: str, window: Sequence[int], exposure_us: float | None, gain: float | None
    ) -> dict[str, Any]:
        """Set format, window (top, left, rows, columns), exposure and gain; returns what the camera really took.

        While it grabs, format and window must be those it has already; `locked` says that the rest is locked then too.
        """
        features = self._open_features()
        exposures = [features.name_of(name) for name in ("ExposureTime", "Gain")]
        if self._grabber is None:
            features.write("PixelFormat", pixel_format)
            top, left, rows, columns = window
            for name, value in (("OffsetX", 0), ("OffsetY", 0), ("Width", columns), ("Height", rows)):
                features.put(name, value)
            for name, value in (("OffsetX", left), ("OffsetY", top)):
                features.put(name, value)
        elif not all(alias is None or features.writable(alias) for alias in exposures):
            return {"locked": True}
        taken = {
            name: None if alias is None or value is None else features.write_clamped(alias, value)
            for name, alias, value in zip(("exposure", "gain"), exposures, (exposure_us, gain), strict=True)
        }
        return {
            **taken,
            "locked": False,
            "window": [features.read_or_none(name) or 0 for name in ("OffsetY", "OffsetX", "Height", "Width")],
            "format_code": features.code("PixelFormat"),
            "dynamic_range_max": features.read_or_none("PixelDynamicRangeMax"),
        }

    def attach(self, slots: int, slot_bytes: int) -> None:
        """Take over the ring whose descriptor waits in the socket."""
        _, descriptors, _, _ = socket.recv_fds(self._open_socket(), 1, 1)
        self._ring = None
        if self._block is not None:
            self._block.close()
        self._block = SharedBlock.attach(descriptors[0])
        self._ring = FrameRing(self._block, slots, slot_bytes)

    def start(self, by_software: bool, policy: Policy) -> None:
        """Empty the ring and start to grab."""
        from drivers.genicam.features import set_trigger
        from drivers.genicam.grab import Grabber

        features = self._open_features()
        self.stop()
        if by_software or features.has("TriggerMode"):
            set_trigger(features, by_software)
        if self._ring is None or self._chunks is None:
            raise HardwareError("there is no ring to grab into")
        self._ring.clear()
        self._acquirer.start()
        ticks_hz = float(features.read_or_none(features.name_of("TickFrequency") or "") or 0)
        self._grabber = Grabber(self._acquirer, self._ring, policy, self._chunks, ticks_hz, self._notice)

    def stop(self) -> None:
        """Stop grabbing; fine in any state."""
        if self._grabber is not None:
            self._grabber.end()
            self._grabber = None
            self._acquirer.stop()

    def trigger(self) -> dict[str, int]:
        """Start an exposure; returns our clock before and after, in nanoseconds."""
        features = self._open_features()
        before_ns = time.monotonic_ns()
        features.execute("TriggerSoftware")
        return {"before_ns": before_ns, "after_ns": time.monotonic_ns()}

    def latch(self) -> dict[str, int]:
        """How the camera's clock stands to ours; nothing where it does not tell."""
        features = self._open_features()
        command, value = features.name_of("Latch"), features.name_of("LatchValue")
        if command is None or value is None:
            return {}
        before_ns = time.monotonic_ns()
        features.execute(command)
        after_ns = time.monotonic_ns()
        ticks_hz = float(features.read_or_none(features.name_of("TickFrequency") or "") or 1e9)
        camera_ns = round(int(features.read(value)) * 1e9 / ticks_hz)
        return {"offset_ns": camera_ns - (before_ns + after_ns) // 2, "within_ns": (after_ns - before_ns + 1) // 2}

    def failure(self) -> dict[str, str]:
        """What ended the grabbing by itself; empty when nothing did."""
        return {"why": "" if self._grabber is None else self._grabber.failure}

    def answers(self) -> dict[str, bool]:
        """Whether the camera itself, not a cache, still answers."""
        features = self._open_features()
        try:
            features.read("Width")
        except Exception as error:  # noqa: BLE001 - the answer is that it does not; the families of errors are many
            print(f"the camera does not answer: {error}", flush=True)  # noqa: T201 - goes to the log
            return {"camera": False}
        return {"camera": True}

    def get_feature(self, name: str) -> dict[str, Value]:
        """Read a feature."""
        return {"value": self._open_features().read(name)}

    def set_feature(self, name: str, value: Value) -> dict[str, Value]:
        """Write a feature and read it back."""
        return {"value": self._open_features().write(name, value)}

    def features(self) -> dict[str, Any]:
        """All features."""
        features = self._open_features()
        return {name: features.describe(name) for name in features.names()}

    def close(self) -> None:
        """Let go of the camera step by step; a step that fails keeps none of the others from being made."""
        if self._features is not None:
            self._features.close()
        steps = [self.stop]
        if self._acquirer is not None:
            steps.append(self._acquirer.destroy)
        if self._harvester is not None:
            steps.append(self._harvester.reset)
        for step in steps:
            try:
                step()
            except Exception as error:  # noqa: BLE001 - vendors raise anything here; the process ends next
                print(f"while closing: {type(error).__name__}: {error}", flush=True)  # noqa: T201 - goes to the log

    def _open_features(self) -> Features:
        if self._features is None:
            raise HardwareError("the camera is not open")
        return self._features

    def _open_socket(self) -> socket.socket:
        if self._socket is None:
            raise HardwareError("the camera is not open")
        return self._socket

    def _notice(self) -> None:
        with contextlib.suppress(BlockingIOError):  # it is full of notices: the parent will look anyway
            self._open_socket().send(b"f")

    def _count_incomplete(self) -> None:
        from harvesters.core import Callback

        camera = self

        class Incomplete(Callback):  # type: ignore[misc]
            def emit(self, context: object | None = None) -> None:
                if camera._grabber is not None:
                    camera._grabber.count_incomplete()

        self._acquirer.add_callback(self._acquirer.Events.INCOMPLETE_BUFFER, Incomplete())

    def _enable_chunks(self) -> bool:
        from drivers.genicam.grab import ChunkNodes

        features = self._open_features()
        known = features.entries("ChunkSelector") if features.has("ChunkSelector") else []
        told = {}
        features.put("ChunkModeActive", bool(set(CHUNKS) & set(known)))
        for name in CHUNKS:
            if name in known and features.has(f"Chunk{name}"):
                features.put("ChunkSelector", name)
                features.put("ChunkEnable", True)
                told[name] = features.node(f"Chunk{name}")
        self._chunks = ChunkNodes(features.alone, told.get("ExposureTime"), told.get("Gain"))
        return "ExposureTime" in told

    def _axis(self, length: str, offset: str) -> dict[str, Any]:
        features = self._open_features()
        low, high = features.limits(length)
        moves = features.has(offset) and features.writable(length)
        return {
            "low": int(low),
            "high": int(high),
            "step": features.step(length),
            "offset_step": features.step(offset) if moves else None,
        }

    def _number(self, name: str) -> dict[str, Any] | None:
        features = self._open_features()
        alias = features.name_of(name)
        if alias is None:
            return None
        low, high = features.limits(alias)
        return {"name": alias, "low": low, "high": high, "unit": features.unit(alias)}


def main() -> None:
    """Serve one camera."""
    sys.setswitchinterval(SWITCH_S)
    camera = CameraInChild()
    commands = (
        "enumerate", "open", "prepare", "configure", "attach", "start", "stop", "trigger", "latch", "answers",
        "failure", "get_feature", "set_feature", "features",
    )  # fmt: skip
    serve({name: getattr(camera, name) for name in commands}, at_end=camera.close)


if __name__ == "__main__":
    main()
