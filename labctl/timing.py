"""How long the displays and the camera of a rig take: measured on the rig, kept for it, used by it.

`measure_timing` steps each display between dark and bright and takes short exposures at growing delays. The result
lies in the state folder of the rig; when the rig is opened again, `settle_display` gives each display the time that was
measured for it, unless the rig file sets one.
"""

from __future__ import annotations

import json
import logging
import math
import time
from collections.abc import Mapping
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any, Literal

import numpy as np
import numpy.typing as npt
from pydantic import ValidationError

from labctl.config import content_hash
from labctl.devices import Camera, Display, Levels
from labctl.durable import write_json
from labctl.errors import BadInput, HardwareError
from labctl.exposure import Exposure, Frames, FrameTag
from labctl.frame_order import CLOCK_ERROR_S
from labctl.frozen import Frozen
from labctl.light_path import FETCH_MARGIN_S, RigDevices
from labctl.metering import filling_exposure
from labctl.state import state_folder
from labctl.step_response import AT_REST, Step, response_of, settled_after

if TYPE_CHECKING:
    from labctl.rig import Rig
    from labctl.rig_file import RigSpec

log = logging.getLogger(__name__)

DARK_LEVEL, BRIGHT_LEVEL = 1, 255
"""The step. Level 0 everywhere would stand for a display that is taken away."""

LONGEST_S = 0.5
"""How long a display is watched after a step, unless told otherwise."""

SHORT_EXPOSURE_S = 2e-3
"""Exposures are no longer than this, even when the frames become dim: a long one smears the step."""

STEPS = 16
"""Steps in each direction. The first look of each comes at another delay, so that a slow camera sees all of them."""

LOOK_EVERY_S, MOST_STEPS = 5e-4, 48
"""So near to each other the first looks come when the number of steps is left open, and so many steps at most."""

LONG_STEPS = 4
"""Steps in each direction that are watched for the whole time. The others need not be, by then it is known how long."""

ENOUGH = 4.0
"""In settling times, how long those others are watched."""

TEMPLATES = 8
"""Frames at rest from which dark, bright and their noise are known."""

MARGIN, LEAST_MARGIN_S = 0.25, 5e-3
"""What is added to the measured settling, as a share of it and at least: the next picture may be slower than those
that were watched, and a busy computer adds milliseconds between display and camera."""

FIRST_GAP_S, GROWTH = 5e-4, 1.08
"""The delays of one step grow by this factor, at first by this time, but no faster than the camera goes."""

TRIGGERS = 20
"""Triggers from which the delay of the camera is known."""

SettleSource = Literal["rig file", "measured", "simulated", "not measured"]


class DisplayTiming(Frozen):
    """What was measured of one display. Times in seconds; see `labctl.step_response.Response`."""

    latency_s: float
    latency_spread_s: float
    rise_s: float
    fall_s: float
    settle_s: float
    """How long to wait from the picture being on the panel to the trigger. Covers latency and settling to within 0.5 %
    of a full step for exposures of `exposure_s` and longer, and `margin_s` beyond."""

    margin_s: float

    settle_error_s: float
    exposure_s: float
    """Of the frames that it was measured with."""

    noise: float
    """Standard deviation of one frame, as a share of the step."""

    steps: int
    device: dict[str, Any]
    """Which display it was, and in which world it stood."""


class CameraTiming(Frozen):
    """Delays of the camera after a trigger, in seconds."""

    start_low_s: float
    start_high_s: float
    """The exposure begins between these two, in the median. They are apart where only the frames tell the offset of
    the camera's clock: by at most what a frame takes beyond its exposure."""

    start_jitter_s: float
    """Standard deviation of the delay until the exposure begins."""

    frame_s: float
    """From trigger to frame, less the exposure; median."""

    frame_worst_s: float
    triggers: int
    exposure_s: float
    device: dict[str, Any]


class Timing(Frozen):
    """All delays of a rig, as kept in its state folder."""

    version: Literal[1] = 1
    rig: str
    rig_hash: str
    measured: str
    """Date and time, with the time zone."""

    displays: dict[str, DisplayTiming]
    camera: CameraTiming


@dataclass(frozen=True)
class Measurement:
    """A `Timing` and the steps that it comes from, by display."""

    timing: Timing
    steps: Mapping[str, tuple[Step, ...]]


def timing_file(rig_name: str) -> Path:
    """Where the timing of a rig is kept."""
    return state_folder() / "rigs" / rig_name / "timing.json"


def load_timing(rig_name: str) -> Timing | None:
    """What was measured last on this rig; None when nothing was, or when it cannot be read."""
    try:
        return Timing.model_validate_json(timing_file(rig_name).read_text())
    except FileNotFoundError:
        return None
    except (ValidationError, OSError) as error:
        log.warning("%s cannot be read (%s); run `labctl timing`", timing_file(rig_name), error)
        return None


def save_timing(timing: Timing) -> Path:
    """Keep `timing` for its rig; returns the file."""
    file = timing_file(timing.rig)
    file.parent.mkdir(parents=True, exist_ok=True)
    write_json(file, timing.model_dump(mode="json"))
    return file


def settle_display(spec: RigSpec, name: str, display: Display) -> SettleSource:
    """Give an opened display its `settle_s`; returns where it comes from.

    A time in the rig file holds; simulated displays know theirs; then what was measured of this very display counts.
    Otherwise the display keeps the safe value of its driver, and the log says so.
    """
    settings = spec.devices[name]
    if getattr(settings, "settle_s", None) is not None:
        return "rig file"
    if settings.simulated:
        return "simulated"
    timing = load_timing(spec.name)
    found = None if timing is None else timing.displays.get(name)
    if found is not None and found.device == identity(spec, name, display.describe_device()):
        display.settle_s = found.settle_s
        return "measured"
    why = "not measured" if found is None else "measured for another display or world"
    log.warning(
        "settling of display '%s' of rig '%s' is %s; waits %g s each time; run `labctl timing --rig %s`",
        name, spec.name, why, display.settle_s, spec.name,
    )  # fmt: skip
    return "not measured"


def identity(spec: RigSpec, name: str, description: Mapping[str, Any]) -> dict[str, Any]:
    """Which device a measurement belongs to: settings, model, serial number and size, and the world it stands in.

    Of a panel also the monitor that it is on and its refresh rate: `monitor: 1` may be another one tomorrow.
    """
    settings = {k: v for k, v in spec.devices[name].model_dump(mode="json").items() if k != "settle_s"}
    said = {key: description[key] for key in ("vendor", "model", "serial", "shape") if key in description}
    monitor = description.get("monitor")
    if isinstance(monitor, Mapping):
        said["monitor"] = {key: monitor.get(key) for key in ("name", "refresh_hz")}
    world = None if spec.world is None else content_hash(spec.world.model_dump(mode="json"))
    known: dict[str, Any] = json.loads(json.dumps({"settings": settings, "world": world, **said}))
    return known


def measure_timing(rig: Rig, *, longest_s: float = LONGEST_S, steps: int | None = STEPS) -> Measurement:
    """Measure every display of an opened rig, and its camera. Moves displays and camera; takes seconds.

    longest_s: how long each display is watched after a step; it must settle well within. steps: in each direction;
    None takes more with a slow camera, until looks come often enough to see a tail. What lights the scene must be on.
    Raises HardwareError when the frames do not show the step, or when a display does not settle.
    """
    if longest_s <= 0 or (steps is not None and steps < 1):
        raise BadInput(f"longest_s is {longest_s} and steps {steps}; a time above 0 s and at least 1 step are needed")
    devices, spec = rig.devices(), rig.spec
    displays: dict[str, Display] = {"mask": devices.mask}
    if devices.scene is not None:
        displays["scene"] = devices.scene
    for display in displays.values():
        display.show(_level(display, BRIGHT_LEVEL))
    devices.clock.sleep(longest_s)
    exposure = _short_exposure(devices)
    device = identity(spec, "camera", devices.camera.describe_device())
    camera, same_clock = _measure_camera(devices, exposure, device)
    start_s = (camera.start_low_s + camera.start_high_s) / 2
    cycle_s = exposure.exposure_s + camera.frame_s
    if steps is None:
        steps = min(MOST_STEPS, max(STEPS, math.ceil(cycle_s / LOOK_EVERY_S)))
    measured, traces = {}, {}
    for name, display in displays.items():
        bench = _StepBench(devices, display, exposure, None if same_clock else start_s)
        bench.rest(longest_s)
        taken: list[Step] = []
        watch_s = longest_s
        for number in range(steps):
            if number == LONG_STEPS:
                seen_s = max(settled_after(taken, bench.noise)) + cycle_s
                watch_s = min(longest_s, ENOUGH * seen_s)
            taken += [bench.step(rise, cycle_s * number / steps, watch_s) for rise in (False, True)]
        response = response_of(taken, exposure_s=exposure.exposure_s, noise=bench.noise)
        margin_s = max(MARGIN * response.settle_s, LEAST_MARGIN_S)
        measured[name] = DisplayTiming(
            **{**asdict(response), "settle_s": response.settle_s + margin_s},
            margin_s=margin_s,
            exposure_s=exposure.exposure_s,
            noise=bench.noise,
            steps=len(taken),
            device=identity(spec, name, display.describe_device()),
        )
        traces[name] = tuple(taken)
    stamp = time.strftime("%Y-%m-%d %H:%M:%S %z")
    timing = Timing(rig=spec.name, rig_hash=spec.content_hash, measured=stamp, displays=measured, camera=camera)
    return Measurement(timing, traces)


class _StepBench:
    """One display between dark and bright, everything else as it stands. It stands at bright before and after."""

    def __init__(self, devices: RigDevices, display: Display, exposure: Exposure, start_s: float | None) -> None:
        """start_s: from trigger to exposure; None where the camera reads the computer's own clock."""
        self._devices, self._display, self._exposure, self._start_s = devices, display, exposure, start_s
        self.noise = math.nan

    def rest(self, settle_s: float) -> None:
        """Know dark, bright and the noise of one frame, from frames taken `settle_s` after a change."""
        rest = {}
        for level in (DARK_LEVEL, BRIGHT_LEVEL):
            self._display.show(_level(self._display, level))
            self._devices.clock.sleep(settle_s)
            rest[level] = _pictures(_burst(self._devices, self._exposure, TEMPLATES))
        self._dark = rest[DARK_LEVEL].mean(axis=0)
        self._change = rest[BRIGHT_LEVEL].mean(axis=0) - self._dark
        self._power = float((self._change**2).sum())
        if self._power == 0:
            raise HardwareError(
                f"{self._display.name}: dark and bright give the same frame; check that light reaches the camera "
                "(lamp on, shutter open, display in view)"
            )
        at_rest = [self._fraction(pictures).std(ddof=1) for pictures in rest.values()]
        self.noise = float(np.sqrt(np.mean(np.square(at_rest))))

    def step(self, rise: bool, first_s: float, watch_s: float) -> Step:
        """Change the picture and look, first `first_s` after it is on the panel, then at growing delays."""
        clock, camera = self._devices.clock, self._devices.camera
        picture = _level(self._display, BRIGHT_LEVEL if rise else DARK_LEVEL)
        delays: list[float] = []
        frames: list[Frames] = []
        camera.configure(self._exposure)
        camera.arm(_most_frames(watch_s))
        begun_s = clock.now()
        shown_s = min(max(self._display.show(picture), begun_s), clock.now())
        due_s = first_s
        while due_s <= watch_s or len(frames) < AT_REST:
            clock.sleep(shown_s + due_s - clock.now())
            delay_s = clock.now() - shown_s
            camera.trigger(FrameTag(len(frames)))
            frames.append(camera.fetch(self._exposure.exposure_s + FETCH_MARGIN_S))
            delays.append(delay_s)
            due_s = max(delay_s * GROWTH, delay_s + FIRST_GAP_S)
        camera.disarm()
        fraction, triggered_s = self._fraction(_pictures(frames)), np.array(delays)
        exposed_s = np.array([float(frame.camera_time_s[0]) for frame in frames]) - shown_s
        if self._start_s is not None:
            exposed_s = triggered_s + self._start_s
        return Step(rise, triggered_s, fraction if rise else 1 - fraction, exposed_s)

    def _fraction(self, pictures: npt.NDArray[np.float64]) -> npt.NDArray[np.float64]:
        """(N,) where each frame stands between dark, 0, and bright, 1; every pixel counts by how much it changes."""
        return np.asarray(((pictures - self._dark) * self._change).sum(axis=(1, 2)) / self._power)


def _measure_camera(devices: RigDevices, exposure: Exposure, device: dict[str, Any]) -> tuple[CameraTiming, bool]:
    """Its delays, and whether it reads the computer's own clock."""
    clock, camera = devices.clock, devices.camera
    taken = camera.configure(exposure)
    camera.arm(TRIGGERS)
    triggered, arrived, stamped = [], [], []
    for number in range(TRIGGERS):
        triggered.append(clock.now())
        camera.trigger(FrameTag(number))
        frame = camera.fetch(taken.exposure_s + FETCH_MARGIN_S)
        arrived.append(clock.now())
        stamped.append(float(frame.camera_time_s[0]))
    camera.disarm()
    trigger_s, arrival_s, camera_s = np.array(triggered), np.array(arrived), np.array(stamped)
    low_s = float((trigger_s - camera_s).max())
    high_s = max(low_s, float((arrival_s - taken.exposure_s - camera_s).min()))
    same_clock = low_s - CLOCK_ERROR_S <= 0 <= high_s + CLOCK_ERROR_S
    if same_clock:
        low_s = high_s = 0.0
    delay_s = np.median(camera_s - trigger_s)
    beyond_s = arrival_s - trigger_s - taken.exposure_s
    timing = CameraTiming(
        start_low_s=float(delay_s + low_s),
        start_high_s=float(delay_s + high_s),
        start_jitter_s=float((camera_s - trigger_s).std()),
        frame_s=float(np.median(beyond_s)),
        frame_worst_s=float(beyond_s.max()),
        triggers=TRIGGERS,
        exposure_s=taken.exposure_s,
        device=device,
    )
    return timing, same_clock


def _short_exposure(devices: RigDevices) -> Exposure:
    """What fills the sensor, but no longer than `SHORT_EXPOSURE_S`, with the displays as they stand."""
    low_s, high_s = devices.camera.exposure_limits_s
    limits_s = (low_s, max(low_s, min(high_s, SHORT_EXPOSURE_S)))

    def take(exposure_s: float) -> Frames:
        return _burst(devices, Exposure(exposure_s=exposure_s), 1)[0]

    time_s = filling_exposure(take, limits_s, start_s=limits_s[1])
    return devices.camera.configure(Exposure(exposure_s=time_s))


def _burst(devices: RigDevices, exposure: Exposure, n: int) -> list[Frames]:
    camera: Camera = devices.camera
    taken = camera.configure(exposure)
    camera.arm(n)
    frames: list[Frames] = []
    for number in range(n):
        camera.trigger(FrameTag(number))
        frames.append(camera.fetch(taken.exposure_s + FETCH_MARGIN_S))
    camera.disarm()
    return frames


def _most_frames(watch_s: float) -> int:
    """How many frames a step takes at most, when the camera costs no time."""
    count, delay_s = AT_REST, 0.0
    while delay_s <= watch_s:
        delay_s = max(delay_s * GROWTH, delay_s + FIRST_GAP_S)
        count += 1
    return count


def _pictures(frames: list[Frames]) -> npt.NDArray[np.float64]:
    """(N, h, w) in DN, colours side by side."""
    return np.stack([frame.pixels[0].reshape(-1, frame.pixels.shape[-1]) for frame in frames]).astype(np.float64)


def _level(display: Display, level: int) -> Levels:
    return np.full(display.shape, level, dtype=np.uint8)
