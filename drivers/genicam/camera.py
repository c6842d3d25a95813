"""A GenICam camera behind the interface `labctl.devices.Camera`.

One trigger gives one frame or one error. A frame is handed out only when its id is the next one, its exposure began
after the trigger and lasted as long as was set, as far as the camera tells. DeviceTimeout from `trigger` or `fetch`
says that an exposure is lost, or not ready yet; a lost one does not count and can be triggered again. The camera never
does that by itself: only whoever holds the pattern on the display knows that it still stands there.
"""

from __future__ import annotations

import time
from collections import deque
from collections.abc import Mapping
from dataclasses import asdict
from typing import Any, Literal, NoReturn

import numpy as np

from drivers.genicam.kept_camera import KeptCamera
from drivers.genicam.own_features import check_free
from drivers.genicam.ring import Policy
from drivers.genicam.settings import GenicamSettings
from drivers.genicam.shots import CameraClock, Received, Shot, has_settled, judge_free, judge_triggered
from labctl.errors import BadInput, DeviceTimeout, HardwareError
from labctl.exposure import Exposure, Frames, FrameTag
from labctl.state import state_folder


class GenicamCamera:
    """See `labctl.devices.Camera`. Beyond it: a free-running stream, single features, and counters of lost frames.

    `shape`, `saturation_dn` and `exposure_limits_s` are the camera's own once it is open.
    """

    def __init__(self, name: str, rig_name: str, settings: GenicamSettings, environment: Mapping[str, str]) -> None:
        self.name = name
        self.shape = (0, 0)
        self.saturation_dn = 0
        self.exposure_limits_s = (0.0, 0.0)
        self._by_software = settings.trigger == "software"
        self._kept = KeptCamera(name, state_folder() / "devices" / f"{rig_name}-{name}.log", settings, environment)
        self._limit_s, self._list_limit_s = settings.answer_limit_s, settings.open_limit_s
        self._is_open = False
        self._state: Literal["idle", "shots", "stream"] = "idle"
        self._policy: Policy = "every"
        self._left = 0
        self._count = 0
        self._shots: deque[Shot] = deque()
        self._foreign = 0
        self._lost = 0
        self._taken_free = 0

    @property
    def clock(self) -> CameraClock | None:
        """How the camera's clock, in which `camera_time_s` counts, stands to ours; None where it does not tell."""
        return self._kept.clock

    def open(self) -> None:
        """Start the camera's process and open the camera. Raises HardwareError or BadInput with the cause."""
        if not self._is_open:
            self._kept.open()
            self._is_open = True
            self._adopt_sensor()

    def safe(self) -> None:
        """Leave the armed state; the camera stops."""
        self.disarm()
        self._kept.stop()

    def close(self) -> None:
        """Let go of the camera and end its process."""
        self.safe()
        self._kept.close()
        self._is_open = False

    def describe_device(self) -> dict[str, Any]:
        """See `Device.describe_device`. settable: which parts of an exposure this camera lets be set."""
        found: dict[str, Any] = {
            "name": self.name,
            "shape": list(self.shape),
            "saturation_dn": self.saturation_dn,
            "exposure_limits_s": list(self.exposure_limits_s),
            "trigger": "software" if self._by_software else "free-run",
            "features": dict(self._kept.written),
            **self.stats(),
        }
        if self._is_open:
            sensor, told = self._kept.sensor, self._kept.told
            limit_db = 0.0 if sensor.gain is None else sensor.gain.limit_db
            found |= {
                **{key: told[key] for key in ("identity", "formats", "chunks", "stubborn", "temperature_c")},
                "pixel_format": sensor.format.name,
                "filter_pattern": sensor.format.pattern,
                "gain_limit_db": limit_db,
                "settable": {"exposure": sensor.exposure_us is not None, "gain": limit_db > 0},
                "clock": None if self.clock is None else self.clock._asdict(),
                "pid": self._kept.pid,
            }
        return found

    def stats(self) -> dict[str, Any]:
        """Counters since the camera was made: `Drops`, exposures lost, frames that belonged to none, reopenings."""
        drops = self._kept.all_drops()
        return {
            "drops": {**asdict(drops), "lost_elsewhere": drops.lost_elsewhere},
            "lost_exposures": self._lost,
            "foreign_frames": self._foreign,
            "recoveries": self._kept.recoveries,
        }

    def configure(self, exposure: Exposure) -> Exposure:
        """See `Camera.configure`. The exposure time is rounded by the camera and read back; arming ends."""
        self._need_open()
        self._kept.sensor.check(self.name, exposure)
        self.disarm()
        taken = self._kept.configure(exposure)
        self.saturation_dn = self._kept.saturation_dn
        return taken

    def arm(self, n: int) -> None:
        """See `Camera.arm`. Frame ids are the camera's own, moved up where it counts from the start again, so that no
        id comes twice while this object lives; a frame of the camera in between shows as a gap. In free run, where
        frames are passed over on purpose, they count the frames handed out.

        After a new exposure time or gain, frames are taken and thrown away until one tells of it (`settle_frames`
        frames where frames do not tell).
        """
        self._need_configured("arm")
        if n < 1:
            raise BadInput(f"{self.name}: cannot arm for {n} frames; 1 or more is needed")
        self.disarm()
        self._start_shots()
        self._left = n

    def trigger(self, tag: FrameTag) -> None:
        """See `Camera.trigger`. Waits until the exposure before it has ended, so that no trigger is lost."""
        if self._left == 0:
            raise HardwareError(f"{self.name} is not armed for another frame; call arm() with enough frames")
        if self._shots:
            self._await(self._shots[-1], float("inf"))
        self._kept.compare_clocks()
        if not self._kept.acquiring:  # a lost exposure has stopped it
            self._start_shots()
        incomplete = self._kept.process.incomplete
        if self._by_software:
            self._throw_away_strays()
            started_ns = self._execute_trigger(tag)
        else:
            self._kept.process.skip_to(0)
            started_ns = time.monotonic_ns()
        self._left -= 1
        self._shots.append(Shot(tag, started_ns, started_ns, incomplete))

    def fetch(self, timeout_s: float) -> Frames:
        """See `Camera.fetch`. DeviceTimeout also says that the exposure is lost; then it may be triggered again."""
        if not self._shots:
            time.sleep(timeout_s)
            raise DeviceTimeout(f"{self.name}: no exposure is under way; trigger one first")
        shot = self._shots[0]
        frame = self._await(shot, time.monotonic() + timeout_s)
        if frame is None:
            raise DeviceTimeout(
                f"{self.name}: the frame of exposure {shot.tag.exposure_id} was not there after {timeout_s:.3g} s"
                + shot.refused
            )
        self._shots.popleft()
        return self._frames(frame, shot.tag)

    def disarm(self) -> None:
        """See `Camera.disarm`. Ends a stream too. A camera that waits for a trigger goes on waiting."""
        under_way = any(shot.frame is None for shot in self._shots)
        self._left = 0
        self._shots.clear()
        if under_way or self._state == "stream" or not self._by_software:
            self._kept.stop()
        self._state = "idle"

    def start_stream(self, policy: Policy = "latest") -> None:
        """Let the camera run free as configured. `every` keeps frames for `next_frame` as long as slots are free."""
        self._need_configured("start_stream")
        self.disarm()
        self._count, self._policy = 0, policy
        self._kept.start(by_software=False, policy=policy)
        self._state = "stream"

    def latest(self, timeout_s: float) -> Frames:
        """The newest frame of the stream that was not taken yet; those skipped count as not taken."""
        self._need_stream()
        self._kept.process.skip_to(1)
        return self.next_frame(timeout_s)

    def next_frame(self, timeout_s: float) -> Frames:
        """The oldest frame of the stream that is still there. Exposure ids count the frames, frame ids show the gaps.

        Raises DeviceTimeout when none comes in time; a camera that was gone is reopened before.
        """
        self._need_stream()
        end_s, refused = time.monotonic() + timeout_s, 0
        while True:
            frame = self._kept.take()
            if frame is not None:
                if not frame.repeated and has_settled(frame, self._kept.settled) is not False:
                    self._count += 1
                    return self._frames(frame, FrameTag(self._count - 1))
                self._foreign += 1
                refused += 1
            elif self._kept.process.failed or not self._kept.process.alive or time.monotonic() >= end_s:
                break
            else:
                self._kept.wait(end_s)
        state = f" but {refused} refused as foreign" if refused else ""
        if self._kept.is_gone():
            self._kept.reopen("it stopped sending frames")
            self._kept.start(by_software=False, policy=self._policy)
            state += "; the camera was gone and is back"
        raise DeviceTimeout(f"{self.name}: no frame came within {timeout_s:.3g} s{state}")

    def stop_stream(self) -> None:
        """End the stream."""
        self.disarm()

    def features(self) -> dict[str, dict[str, Any]]:
        """All features of the camera by name: kind, value, limits, unit, whether it can be written now."""
        self._need_open()
        return self._kept.sure(lambda process: process.ask("features", self._list_limit_s))

    def get_feature(self, name: str) -> Any:
        """The present value of a feature. Raises BadInput when the camera does not have it."""
        self._need_open()
        return self._kept.sure(lambda process: process.ask("get_feature", self._limit_s, name=name)["value"])

    def set_feature(self, name: str, value: bool | int | float | str) -> Any:
        """Write a feature that this driver does not set itself, and read it back; reopening repeats it.

        Afterwards the camera is to be configured anew, and its limits may be others. Raises BadInput for an unknown
        feature, one of our own, or a value outside its limits.
        """
        self._need_open()
        try:
            check_free(name)
        except BadInput as error:
            raise BadInput(f"{self.name}: {error}") from None
        self.safe()
        taken = self._kept.write_feature(name, value)
        self._adopt_sensor()
        return taken

    def _need_open(self) -> None:
        if not self._is_open:
            raise HardwareError(f"{self.name} is not open; call open() first")

    def _need_configured(self, what: str) -> None:
        if not self._is_open or self._kept.taken is None:
            raise HardwareError(f"{self.name} is not configured; call configure() before {what}()")

    def _need_stream(self) -> None:
        if self._state != "stream":
            raise HardwareError(f"{self.name} is not streaming; call start_stream() first")

    def _adopt_sensor(self) -> None:
        sensor = self._kept.sensor
        self.shape, self.exposure_limits_s = sensor.shape, sensor.exposure_limits_s
        self.saturation_dn = self._kept.saturation_dn

    def _start_shots(self) -> None:
        self._kept.start(self._by_software, "every" if self._by_software else "latest")
        self._state = "shots"

    def _execute_trigger(self, tag: FrameTag) -> int:
        try:
            return int(self._kept.process.ask("trigger", self._limit_s)["before_ns"])
        except HardwareError as error:
            self._lost += 1
            if self._kept.is_gone(error):
                self._kept.reopen(str(error))
            else:
                self._kept.stop()
            raise DeviceTimeout(
                f"{self.name}: whether exposure {tag.exposure_id} began is not known ({error}); the camera is ready "
                "again: trigger it again"
            ) from None

    def _await(self, shot: Shot, end_s: float) -> Received | None:
        """The frame of `shot`; None when it is not there at `end_s`. Raises DeviceTimeout when it is lost."""
        while shot.frame is None:
            if shot not in self._shots:
                raise DeviceTimeout(f"{self.name}: exposure {shot.tag.exposure_id} was dropped by disarm()")
            frame = self._kept.take()
            if frame is not None:
                self._assign(frame, shot)
                continue
            process, now_s = self._kept.process, time.monotonic()
            lost_s = shot.due_from_ns / 1e9 + self._kept.frame_s
            if not process.alive or process.failed:
                self._lose(shot, "the camera was gone")
            if self._by_software and process.incomplete > shot.incomplete_before:
                self._lose(shot, "its frame came incomplete")
            if now_s >= lost_s:
                self._lose(shot, f"no frame came within {self._kept.frame_s:.3g} s{shot.refused}")
            if now_s >= end_s:
                return None
            self._kept.wait(min(end_s, lost_s))
        return shot.frame

    def _assign(self, frame: Received, shot: Shot) -> None:
        if self._by_software:
            verdict = judge_triggered(frame, shot, self._kept.clock, self._kept.settled)
        else:
            verdict = judge_free(frame, shot, self._kept.clock, self._kept.settled, self._taken.exposure_s)
            shot.due_from_ns = time.monotonic_ns()
        if verdict.kind == "own":
            shot.frame = frame
        elif verdict.kind == "foreign":
            shot.passed, shot.why_passed = shot.passed + 1, verdict.why
            self._foreign += 1
        else:
            self._lose(shot, verdict.why)

    def _lose(self, shot: Shot, why: str) -> NoReturn:
        """Give the exposure up, bring the camera into a known state, and say so."""
        self._lost += 1
        if shot in self._shots:
            self._shots.remove(shot)
            self._left += 1
        if self._kept.is_gone():
            self._kept.reopen(why)
            state = "it is back"
        else:
            self._kept.stop()  # nothing of this exposure can come after the next start
            state = "it is ready again"
        raise DeviceTimeout(f"{self.name}: exposure {shot.tag.exposure_id} is lost: {why}; {state}: trigger it again")

    def _throw_away_strays(self) -> None:
        while self._kept.take() is not None:
            self._foreign += 1

    @property
    def _taken(self) -> Exposure:
        if self._kept.taken is None:
            raise HardwareError(f"{self.name} is not configured; call configure() first")
        return self._kept.taken

    def _frames(self, frame: Received, tag: FrameTag) -> Frames:
        taken, number = self._taken, frame.frame_id
        if self._state == "shots" and not self._by_software:
            number, self._taken_free = self._taken_free, self._taken_free + 1
        start_s = frame.camera_ns / 1e9 if frame.camera_ns else frame.host_ns / 1e9 - taken.exposure_s
        return Frames(
            pixels=frame.pixels[None, None],
            exposure_ids=np.array([tag.exposure_id], dtype=np.int64),
            frame_ids=np.array([number], dtype=np.int64),
            exposure_s=np.array([taken.exposure_s]),
            gain_db=np.array([taken.gain_db]),
            camera_time_s=np.array([start_s]),
            host_time_s=np.array([frame.host_ns / 1e9]),
            saturation_dn=self.saturation_dn,
            attempt=tag.attempt,
        )
