"""A camera that is kept: opened, set, grabbing, and, when it or its process is lost, reopened as it was."""

from __future__ import annotations

import time
from collections.abc import Callable, Mapping
from pathlib import Path
from typing import Any, TypeVar

import numpy as np

from drivers.genicam.camera_process import CameraProcess
from drivers.genicam.drops import Drops
from drivers.genicam.pixel_formats import decode, unpacker
from drivers.genicam.producers import find_producers
from drivers.genicam.ring import Flag, Policy, SlotFrame
from drivers.genicam.sensor_settings import Sensor, check_taken, microseconds, seconds, sensor_of
from drivers.genicam.settings import GenicamSettings
from drivers.genicam.shots import CameraClock, Received, Settled, has_settled
from drivers.genicam.window import centred, covering
from labctl.errors import DeviceTimeout, HardwareError
from labctl.exposure import Exposure

Result = TypeVar("Result")

SETTLE_LIMIT = 40
"""Frames after which a new exposure time must have taken effect."""

REOPEN_PAUSE_S = 0.3
CLOCK_S = 5.0
"""How often the camera's clock is compared with ours."""

LOOK_S = 1.0
"""How long to wait for a frame without looking whether the process still lives."""


class KeptCamera:
    """One camera and its process. `recoveries` counts the reopenings, `drops` sums what ended acquisitions lost."""

    def __init__(self, name: str, log: Path, settings: GenicamSettings, environment: Mapping[str, str]) -> None:
        self.name = name
        self.told: dict[str, Any] = {}
        """What the camera said of itself when it was opened."""
        self.taken: Exposure | None = None
        """What was configured, as the camera took it."""
        self.written: dict[str, Any] = dict(settings.features)
        """Features beyond the configuration, in the order in which they were set."""
        self.clock: CameraClock | None = None
        self.acquiring = False
        self.recoveries = 0
        self.drops = Drops()
        self._settings = settings
        self._environment = environment
        self._log = log
        self._process: CameraProcess | None = None
        self._sensor: Sensor | None = None
        self._in_camera: dict[str, Any] = {}
        self._proven = False
        self._why_lost = ""
        self._mode: tuple[bool, Policy] | None = None
        self._last_id: int | None = None
        self._ahead: int | None = None
        self._next_id = 0
        self._compared_s = 0.0

    @property
    def sensor(self) -> Sensor:
        """What the camera can do. Raises HardwareError before `open`."""
        if self._sensor is None:
            raise HardwareError(f"{self.name} is not open; call open() first")
        return self._sensor

    @property
    def process(self) -> CameraProcess:
        """The camera's process; reopened first when it was lost. Raises HardwareError before `open`."""
        if self._sensor is not None and self._process is None:
            self.reopen(self._why_lost)
        if self._process is None:
            raise HardwareError(f"{self.name} is not open; call open() first")
        return self._process

    @property
    def pid(self) -> int | None:
        """Process id of the camera's process; None while there is none."""
        return None if self._process is None else self._process.pid

    @property
    def saturation_dn(self) -> int:
        """The largest DN of a frame as configured."""
        told = self._in_camera.get("dynamic_range_max")
        if self._settings.saturation_dn is None and told:
            return min(int(told), self.sensor.saturation_dn)
        return self.sensor.saturation_dn

    @property
    def settled(self) -> Settled:
        """What a frame says of itself once the configuration has reached it."""
        alike = self.told["gain"] is not None and self.told["gain"]["name"] == "Gain"  # the chunk has its unit
        return Settled(self._in_camera["exposure"], self._in_camera["gain"] if alike else None)

    @property
    def frame_s(self) -> float:
        """How long after its trigger a frame may come until it counts as lost."""
        return (0.0 if self.taken is None else self.taken.exposure_s) + self._settings.frame_limit_s

    def open(self) -> None:
        """Start the process and open the camera. Raises HardwareError or BadInput with the cause."""
        settings = self._settings
        producers = find_producers(settings.producer, self._environment)
        wanted = settings.model_dump(include={"serial", "model", "user_id", "index"})
        process = CameraProcess(self.name, self._log, self._environment)
        try:
            told = process.open(producers, wanted, settings.buffers, settings.open_limit_s)
            for name, value in self.written.items():
                process.ask("set_feature", settings.answer_limit_s, name=name, value=value)
            if self.written:
                told |= process.ask("prepare", settings.open_limit_s)
            sensor = sensor_of(self.name, told, settings)
        except BaseException:
            process.kill()
            raise
        self._process, self.told, self._sensor = process, told, sensor
        self.acquiring, self._proven = False, False
        if sensor.format.packing != "none":
            unpacker(sensor.format.packing)  # compile now, not at the first frame

    def close(self) -> None:
        """Let go of the camera and end its process."""
        self.stop()
        if self._process is not None:
            self._process.end()
        self._process, self._sensor, self.taken = None, None, None

    def sure(self, work: Callable[[CameraProcess], Result]) -> Result:
        """Do what can be done twice; when the camera turns out to be gone, reopen it and do it once more."""
        process = self.process
        try:
            return work(process)
        except HardwareError as error:
            if not self.is_gone(error):
                raise
            self.reopen(str(error))
        return work(self.process)

    def is_gone(self, error: Exception | None = None) -> bool:
        """Whether camera or process must be given up: dead, lost, or not answering in time."""
        process = self._process
        if process is None or not process.alive or process.failed or isinstance(error, DeviceTimeout):
            return True
        try:
            return not process.ask("answers", self._settings.answer_limit_s)["camera"]
        except HardwareError:
            return True

    def reopen(self, why: str) -> None:
        """Kill what is left of the process, and look for the camera until it is there again as it was.

        Raises HardwareError when it does not come back in time; the next use looks for it again.
        """
        self._abandon(why)
        end_s = time.monotonic() + self._settings.reopen_limit_s
        while True:
            try:
                self.open()
                if self.taken is not None:
                    self._repeat(self.taken)
            except HardwareError as error:
                self._abandon(why)
                if time.monotonic() > end_s:
                    raise HardwareError(
                        f"{self.name} is lost ({why}) and did not come back within "
                        f"{self._settings.reopen_limit_s:g} s: {error}; check its power and cable"
                    ) from None
                time.sleep(REOPEN_PAUSE_S)
            else:
                self.recoveries += 1
                return

    def configure(self, exposure: Exposure) -> Exposure:
        """Set exposure, gain and region; returns what the camera took. It stops when that is needed.

        When it fails, nothing is configured: the camera may have taken a part of it.
        """
        process, proven = self._process, self._proven
        self.taken, self._proven = None, False
        taken, told = self.sure(lambda process: self._set(process, exposure))
        self._proven = proven and self._process is process and told == self._in_camera
        self.taken, self._in_camera = taken, told
        return taken

    def write_feature(self, name: str, value: bool | int | float | str) -> Any:
        """Write a feature and read it back; reopening repeats it. Only while the camera does not grab.

        Others may change with it, limits and exposure time too: the camera is to be configured anew, also when this
        fails. A feature or value that was refused (BadInput) changes nothing.
        """
        limit_s, settings = self._settings.answer_limit_s, self._settings
        try:
            taken = self.sure(lambda process: process.ask("set_feature", limit_s, name=name, value=value)["value"])
        except HardwareError:
            self.taken, self._proven = None, False
            raise
        self.taken, self._proven = None, False
        self.written[name] = value
        prepared = self.sure(lambda process: process.ask("prepare", settings.open_limit_s))
        self.told |= prepared
        self._sensor = sensor_of(self.name, self.told, settings)
        return taken

    def start(self, by_software: bool, policy: Policy) -> None:
        """Grab, if that is not yet done this way. Afterwards every frame is exposed as configured."""
        self.sure(lambda process: self._start(process, by_software, policy))

    def compare_clocks(self) -> None:
        """See how the camera's clock stands to ours, when the last look is a while ago."""
        if time.monotonic() - self._compared_s > CLOCK_S:
            self.sure(self._compare)

    def stop(self) -> None:
        """Stop grabbing, in any state. A camera that does not stop is given up; the next use reopens it."""
        if self.acquiring and self._process is not None:
            try:
                self._process.ask("stop", self._settings.answer_limit_s)
            except HardwareError as error:
                self._abandon(str(error))
                return
            self.drops += self._process.drops()
        self.acquiring = False

    def take(self) -> Received | None:
        """The next frame that came, decoded and cut to the region; None when there is none."""
        frame = None if self._process is None else self._process.take(self._decoded)
        if frame is not None and not frame.repeated:
            self._last_id = frame.camera_id
            self._ahead, self._next_id = frame.frame_id - frame.camera_id, frame.frame_id + 1
        return frame

    def wait(self, end_s: float) -> None:
        """Until a frame or a failure has come, or the monotonic clock reaches `end_s`, or a while has passed."""
        try:
            self.process.wait(min(end_s, time.monotonic() + LOOK_S))
        except HardwareError:
            time.sleep(0.01)  # the process is gone; whoever waits asks whether it is alive

    def all_drops(self) -> Drops:
        """The counters of all acquisitions, that under way included."""
        return self.drops + self._process.drops() if self.acquiring and self._process is not None else self.drops

    def _abandon(self, why: str) -> None:
        self._why_lost = why
        process, self._process = self._process, None
        if process is not None:
            if self.acquiring:
                self.drops += process.drops()
            process.kill()
        self.acquiring = False

    def _repeat(self, before: Exposure) -> None:
        if self._process is not None:
            after, self._in_camera = self._set(self._process, before)
            if after != before:
                raise HardwareError(f"after reopening it the camera took {after} instead of {before}")

    def _set(self, process: CameraProcess, exposure: Exposure) -> tuple[Exposure, dict[str, Any]]:
        sensor, gain = self.sensor, self.sensor.gain
        rows, columns = exposure.roi or sensor.shape
        (top, height), (left, width) = covering(rows, sensor.rows), covering(columns, sensor.columns)
        window = [top, left, height, width]
        if self.acquiring and window != self._in_camera["window"]:
            self.stop()
        told: dict[str, Any] = {"locked": True}
        while told["locked"]:
            told = process.ask(
                "configure",
                self._settings.answer_limit_s,
                pixel_format=sensor.format.name,
                window=window,
                exposure_us=None if sensor.exposure_us is None else microseconds(exposure.exposure_s),
                gain=None if gain is None else gain.to_camera(exposure.gain_db),
            )
            if told["locked"]:
                self.stop()
        if told["window"] != window:
            raise HardwareError(
                f"{self.name}: the camera reads the window {told['window']} (top, left, rows, columns) instead of "
                f"{window}; binning or decimation may stand in the way"
            )
        taken = Exposure(
            exposure_s=exposure.exposure_s if told["exposure"] is None else seconds(told["exposure"]),
            gain_db=0.0 if gain is None else gain.to_db(told["gain"]),
            roi=(rows, columns),
        )
        check_taken(self.name, exposure, taken)
        return taken, told

    def _start(self, process: CameraProcess, by_software: bool, policy: Policy) -> None:
        if not self.acquiring or self._mode != (by_software, policy):
            self._begin(process, by_software, policy)
            self._compare(process)
        self._proven = self._proven or (not self.told["chunks"] and self._settings.settle_frames == 0)
        if not self._proven:
            self._settle(process, by_software, policy)

    def _begin(self, process: CameraProcess, by_software: bool, policy: Policy) -> None:
        self.stop()
        _, _, height, width = self._in_camera["window"]
        frame_bytes = self.sensor.format.frame_bytes(height * width)
        process.start(by_software, policy, self._settings.slots, frame_bytes, self._settings.answer_limit_s)
        self.acquiring, self._mode = True, (by_software, policy)
        self._last_id, self._ahead = None, None

    def _compare(self, process: CameraProcess) -> None:
        told = process.ask("latch", self._settings.answer_limit_s)
        self.clock = CameraClock(**told) if told else None
        self._compared_s = time.monotonic()

    def _settle(self, process: CameraProcess, by_software: bool, policy: Policy) -> None:
        """Throw frames away until one tells that it was exposed as set, or `settle_frames` when they do not tell."""
        seen = 0
        for _ in range(SETTLE_LIMIT):
            before = process.incomplete
            if by_software:
                process.ask("trigger", self._settings.answer_limit_s)
            frame = self._next(process, before)
            if frame is None:
                if process.failed:
                    why = process.ask("failure", self._settings.answer_limit_s)["why"]
                    raise HardwareError(f"{self.name}: grabbing ended: {why}")
                if self.is_gone():
                    raise HardwareError(f"{self.name}: the camera does not answer")
                if by_software:
                    self._begin(process, by_software, policy)  # the frame of that trigger may still be on its way
                continue
            seen += 1
            word = has_settled(frame, self.settled)
            if word or (word is None and seen >= self._settings.settle_frames):
                self._proven = True
                return
        raise HardwareError(
            f"{self.name}: of {SETTLE_LIMIT} frames {seen} came, and none was exposed for {self.settled.exposure_us} "
            "us as set; close what else may set the camera"
        )

    def _next(self, process: CameraProcess, incomplete: int) -> Received | None:
        """The next frame; None when none comes in time, or an incomplete one or a failure comes instead."""
        end_s = time.monotonic() + self.frame_s
        while (frame := self.take()) is None:
            if process.failed or not process.alive or process.incomplete > incomplete or time.monotonic() >= end_s:
                return None
            self.wait(end_s)
        return frame

    def _decoded(self, frame: SlotFrame) -> Received:
        form, window, code = self.sensor.format, self._in_camera["window"], self._in_camera["format_code"]
        count = frame.height * frame.width
        if [frame.height, frame.width] != window[2:] or frame.format_code != code:
            raise HardwareError(
                f"{self.name}: a frame of {frame.height}x{frame.width} in format {frame.format_code:#x} came, not of "
                f"{window[2]}x{window[3]} in {code:#x}; close what else may set the camera"
            )
        if frame.padding:
            raise HardwareError(
                f"{self.name}: the rows of a frame are padded by {frame.padding} bytes, which this driver does not "
                "read; choose a region or a `pixel_format` whose rows need no padding"
            )
        if len(frame.data) < form.frame_bytes(count):
            raise HardwareError(
                f"{self.name}: a frame has {len(frame.data)} bytes, {form.frame_bytes(count)} are needed; "
                "the producer's buffers are too small"
            )
        rows, columns = (self.taken.roi if self.taken is not None else None) or self.sensor.shape
        top = centred(rows, self.sensor.shape[0]) - window[0]
        left = centred(columns, self.sensor.shape[1]) - window[1]
        ahead = max(0, self._next_id - frame.camera_id) if self._ahead is None else self._ahead
        whole = decode(frame.data, count, form.packing, form.bits).reshape(frame.height, frame.width)
        return Received(
            pixels=np.ascontiguousarray(whole[top : top + rows, left : left + columns]),
            camera_id=frame.camera_id,
            previous_id=self._last_id,
            frame_id=frame.camera_id + ahead,
            camera_ns=0 if frame.flags & Flag.NO_CAMERA_CLOCK else frame.camera_ns,
            host_ns=frame.host_ns,
            exposure_us=frame.exposure_us,
            gain=frame.gain,
            repeated=bool(frame.flags & Flag.REPEATED_ID),
        )
