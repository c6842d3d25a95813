"""Settling: how long the displays take to show a picture, and the camera to begin an exposure."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING, Annotated, Any, ClassVar

import numpy as np
import numpy.typing as npt
from annotated_types import Ge, Gt, Le

from labctl.calibration.record import ArrayNote, Calibration, Value
from labctl.errors import HardwareError
from labctl.step_response import NOISE_SIGMAS, SETTLED, Response, Step, response_of, settled_after, step_fraction
from labctl.steps import StepSetting
from labctl.timing import (
    LONG_STEPS,
    LONGEST_S,
    MOST_STEPS,
    STEPS,
    Measurement,
    measure_timing,
    save_timing,
    settle_display,
)
from protocols.calibrate.kind import Found, Kind
from protocols.calibrate.page import CONCLUDED, MEASURED, in_style, list_values, sheet

if TYPE_CHECKING:
    from matplotlib.figure import Figure

    from protocols.calibrate.bench import Bench

LISTED = (
    ("settle", "settled after"),
    ("wait", "the rig waits"),
    ("latency", "latency"),
    ("rise", "rise"),
    ("fall", "fall"),
)

TAIL_SHARE = 0.03
"""Of a step that may be missing where its tail begins: from there on a display with gamma is exponential, too."""

LEAST_TAIL = 6
"""Frames of the tail that are needed."""

SHOWN_S = 5e-4
"""A display that is painted on a screen says no better than this when its picture was there: the painting takes its
time, and display servers count in milliseconds."""

LATE = 2.0
"""In settling times, from when on a display is at rest."""

FROM_STEP_TO_STEP = 0.02
"""Relative difference of what is missing from step to step, besides the noise of the frames."""

WIDENED = 1.4
"""By which the error of a settling time is widened: on 24 simulated benches (seeds 301 to 324) found and true values
lay 1.39 of the errors that its terms give apart, as root mean square. Which term falls short is not known."""

FRAMES_PER_STEP, REAL_FRAMES_PER_STEP = 60, 5
"""About; for the plan. Simulated cameras cost no time, and look more often."""

LOOK_S = 0.02
"""From one look to the next, roughly."""

SCATTERS_S = 2e-3
"""Standard deviation of a latency from which on it is worth a warning."""


class Settling(Kind):
    """Steps of each display between dark and bright, seen by short exposures at growing delays: see `labctl.timing`.

    It is measured before the others, and used at once: where the rig file sets no time, the displays wait as long as
    was measured. `labctl timing` keeps the same numbers in the same place.
    """

    name: ClassVar[str] = "settling"
    title: ClassVar[str] = "Settling and delays"
    version: ClassVar[int] = 2

    longest_s: Annotated[float, Gt(0), Le(60)] = LONGEST_S
    """How long each display is watched after a step."""

    steps: Annotated[int, Ge(2), Le(256)] | None = None
    """In each direction; None: more of them the slower the camera is."""

    def exposures(self, setting: StepSetting) -> int:
        """See `Kind.exposures`."""
        if setting.rig.simulated:
            return 4 * (self.steps or STEPS) * FRAMES_PER_STEP
        return 4 * (self.steps or MOST_STEPS) * REAL_FRAMES_PER_STEP

    def seconds(self, setting: StepSetting) -> float:
        """See `Kind.seconds`. Displays are not waited for: their settling is what is looked at."""
        return 4 * LONG_STEPS * self.longest_s + LOOK_S * self.exposures(setting)

    def measure(self, bench: Bench) -> Found:
        """See `Kind.measure`."""
        try:
            measured = measure_timing(bench.rig, longest_s=self.longest_s, steps=self.steps)
        except HardwareError as error:
            bench.refuse(str(error))
        save_timing(measured.timing)
        devices = bench.rig.devices()
        for name, display in (("mask", devices.mask), ("scene", devices.scene)):
            if display is not None:
                settle_display(bench.rig.spec, name, display)
        bench.taken += measured.timing.camera.triggers + sum(
            len(step.delay_s) for steps in measured.steps.values() for step in steps
        )
        values = _values(measured, 0.0 if bench.rig.spec.simulated else SHOWN_S)
        return Found(values=values, arrays=_traces(measured), warnings=_warnings(values))

    def draw(self, calibration: Calibration) -> Figure:
        """See `Kind.draw`."""
        return _page(calibration)


@dataclass(frozen=True)
class Settled:
    """When exposures begin that show a step to within `SETTLED`, in seconds from the picture being on the panel."""

    time_s: float
    error_s: float


def settled_of(steps: Sequence[Step], noise: float, late_s: float) -> Settled | None:
    """By the tail of these steps: whatever a display does before, there missing = exp(-(t - t0) / tau).

    Where what is missing of the step falls from TAIL_SHARE into the noise, a straight line is laid through its
    logarithm; it crosses `SETTLED` when the step has settled. noise: standard deviation of one frame, as a share of the
    step. late_s: from here on a frame shows the picture that all others are held against. None where fewer than
    LEAST_TAIL frames saw the tail: the display is faster than the camera.
    """
    delay = np.concatenate([_begun(step) for step in steps])
    missing = 1 - np.concatenate([step.fraction for step in steps])
    late = delay > late_s
    at_rest, at_rest_error = (float(missing[late].mean()), noise / late.sum() ** 0.5) if late.any() else (0.0, noise)
    missing -= at_rest
    least = max(4 * noise, SETTLED / 10)
    seen = ~late & (missing < TAIL_SHARE) & (missing > least)
    for _ in range(3):
        if seen.sum() < LEAST_TAIL or np.ptp(delay[seen]) == 0 or (missing[seen] <= 0).any():
            return None
        t, log = delay[seen], np.log(missing[seen])
        weight = (missing[seen] / max(noise, 1e-6)) ** 2
        weight = weight / (1 + weight * FROM_STEP_TO_STEP**2)  # no frame knows its place better than steps repeat
        design = np.stack([np.ones_like(t), t], axis=1)
        normal = design.T @ (design * weight[:, None])
        line = np.linalg.solve(normal, design.T @ (weight * log))
        if line[1] >= 0:
            return None
        # By the line from here on: chosen by what they show, dim frames would count only when noise lifts them.
        expected = np.exp(line[0] + line[1] * delay)
        seen = ~late & (expected < TAIL_SHARE) & (expected > least) & (missing > 0)
    scatter = float((weight * (log - design @ line) ** 2).sum()) / max(1, len(t) - 2)
    time_s = float((np.log(SETTLED) - line[0]) / line[1])
    slopes = np.array([1.0, time_s]) / line[1]
    chance_s2 = max(1.0, scatter) * float(slopes @ np.linalg.inv(normal) @ slopes)
    shape_s = TAIL_SHARE / -line[1]  # what is missing is exponential up to terms as small as itself
    rest_s = at_rest_error / SETTLED / -line[1]
    return Settled(max(0.0, time_s), float(np.sqrt(chance_s2 + shape_s**2 + rest_s**2)))


def _begun(step: Step) -> npt.NDArray[np.float64]:
    return step.delay_s if step.begun_s is None else step.begun_s


def _response(measured: Measurement, name: str) -> Response:
    """Of one display, with the delays counted to the exposures themselves: what the trigger takes is the camera's."""
    found = measured.timing.displays[name]
    steps = [Step(step.rise, _begun(step), step.fraction) for step in measured.steps[name]]
    return response_of(steps, exposure_s=found.exposure_s, noise=found.noise)


def _settled(measured: Measurement, name: str, response: Response, shown_s: float) -> tuple[float, float]:
    """The later of both directions, and its error: the spread of the latency, the clock of the camera and shown_s, what
    is not known of when the picture was there, have part in it.

    Where the tail of a direction is not seen, the middle between its last frame that was off and the next one.
    """
    found, camera = measured.timing.displays[name], measured.timing.camera
    clock_s = (camera.start_high_s - camera.start_low_s) / 12**0.5
    times = []
    for rise in (True, False):
        mine = [Step(rise, _begun(step), step.fraction) for step in measured.steps[name] if step.rise == rise]
        settled = settled_of(mine, found.noise, LATE * response.settle_s)
        if settled is None:
            seen_s, gap_s = settled_after(mine, found.noise)
            settled = Settled(max(0.0, seen_s - gap_s / 2), gap_s / 12**0.5)
        spread_s = response.latency_spread_s / len(mine) ** 0.5
        error_s = WIDENED * float(np.linalg.norm([settled.error_s, spread_s, clock_s, shown_s]))
        times.append((settled.time_s, error_s))
    return max(times)


def _latency(measured: Measurement, name: str, response: Response, shown_s: float) -> tuple[float, float]:
    """Until the light begins to change, and its error. Of a display that no frame caught changing, the middle between
    the last frame that showed nothing of the new picture and the first that showed all of it."""
    found = measured.timing.displays[name]
    if response.latency_spread_s > 0:
        return response.latency_s, float(np.hypot(response.latency_spread_s, shown_s))
    begun = np.concatenate([_begun(step) for step in measured.steps[name]])
    shown = np.concatenate([step.fraction for step in measured.steps[name]])
    tolerance = max(SETTLED, NOISE_SIGMAS * found.noise)
    latest = float((begun[shown < tolerance] + found.exposure_s).max(initial=0.0))
    first = float(begun[shown > 1 - tolerance].min())
    return max(0.0, (latest + first) / 2), float(np.hypot((first - latest) / 12**0.5, shown_s))


def _values(measured: Measurement, shown_s: float) -> dict[str, Value]:
    values: dict[str, Value] = {}
    for name, found in measured.timing.displays.items():
        response = _response(measured, name)
        settled_s, error = _settled(measured, name, response, shown_s)
        latency_s, latency_error = _latency(measured, name, response, shown_s)
        within = (
            f"From the picture on the panel to the first exposure of {1e3 * found.exposure_s:.3g} ms that shows the "
            f"{name} picture to within {SETTLED:.1%}"
        )
        waits = "The latest that was seen, to the trigger, and a margin: what the rig waits"
        told = {
            f"settle_{name}_s": (settled_s, error, within),
            f"wait_{name}_s": (found.settle_s, None, waits),
            f"latency_{name}_s": (latency_s, latency_error, "Until the light begins to change"),
            f"rise_{name}_s": (response.rise_s, None, "Time constant towards more light"),
            f"fall_{name}_s": (response.fall_s, None, "Time constant towards less light"),
        }
        values |= {key: Value(value=v, error=e, unit="s", text=text) for key, (v, e, text) in told.items()}
    camera = measured.timing.camera
    return values | {
        "camera_delay_s": Value(
            value=(camera.start_low_s + camera.start_high_s) / 2,
            error=float(np.hypot((camera.start_high_s - camera.start_low_s) / 12**0.5, camera.start_jitter_s)),
            unit="s",
            text="From trigger to exposure",
        ),
        "camera_frame_s": Value(
            value=camera.frame_s, error=None, unit="s", text="From trigger to frame, less exposure"
        ),
        "camera_frame_worst_s": Value(value=camera.frame_worst_s, error=None, unit="s", text="The longest of them"),
    }


def _traces(measured: Measurement) -> dict[str, tuple[npt.NDArray[np.float64], ArrayNote]]:
    arrays: dict[str, tuple[npt.NDArray[np.float64], ArrayNote]] = {}
    for name, steps in measured.steps.items():
        for way, rise in (("rise", True), ("fall", False)):
            mine = [step for step in steps if step.rise == rise]
            delay = np.concatenate([_begun(step) for step in mine])
            shown = np.concatenate([step.fraction for step in mine])
            arrays[f"{name}_{way}_delay_s"] = delay, ArrayNote(unit="s", text="From picture on the panel to exposure")
            arrays[f"{name}_{way}"] = shown, ArrayNote(unit="1", text="Share of the step that the frame shows")
        arrays[f"{name}_exposure_s"] = (
            np.array([measured.timing.displays[name].exposure_s]),
            ArrayNote(unit="s", text="Exposure of these frames"),
        )
    return arrays


def _warnings(values: Mapping[str, Value]) -> tuple[str, ...]:
    spreads = {name: values[f"latency_{name}_s"].error for name in ("mask", "scene") if f"latency_{name}_s" in values}
    return tuple(
        f"the latency of the {name} display scatters by {1e3 * spread_s:.2g} ms from step to step: it waits for its "
        "refresh, or the computer is busy"
        for name, spread_s in spreads.items()
        if isinstance(spread_s, float) and spread_s > SCATTERS_S
    )


@in_style
def _page(calibration: Calibration) -> Figure:
    names = [name for name in ("mask", "scene") if f"{name}_rise" in calibration.arrays]
    figure, axes = sheet(5.2, 2, 2)
    for place, name in enumerate(names):
        _steps(axes[0, place], calibration, name)
    for place, name in enumerate(names):
        listed = [(f"{key}_{name}_s", text) for key, text in LISTED]
        if place == 0:
            listed += [("camera_delay_s", "camera: to the exposure"), ("camera_frame_s", "camera: beyond the exposure")]
        list_values(
            axes[1, place], calibration, listed, "Mask display and camera" if name == "mask" else "Scene display"
        )
    for empty in range(len(names), 2):
        axes[0, empty].set_axis_off()
        axes[1, empty].set_axis_off()
    return figure


def _steps(axes: Any, calibration: Calibration, name: str) -> None:
    arrays = calibration.arrays
    exposure_s = float(arrays[f"{name}_exposure_s"][0])
    settled_s = calibration.value(f"settle_{name}_s")
    latency_s = calibration.value(f"latency_{name}_s")
    far_s = max(3 * settled_s, 2e-3)
    time_s = np.linspace(0, far_s, 400)
    for way, colour in (("rise", MEASURED), ("fall", CONCLUDED)):
        missing = np.abs(1 - arrays[f"{name}_{way}"])
        early = arrays[f"{name}_{way}_delay_s"] <= far_s
        axes.plot(
            1e3 * arrays[f"{name}_{way}_delay_s"][early], missing[early], ".", markersize=3, color=colour, label=way
        )
        model = 1 - step_fraction(time_s, latency_s, calibration.value(f"{way}_{name}_s"), exposure_s)
        axes.plot(1e3 * time_s, np.maximum(model, 1e-9), color=colour, linewidth=0.8)
    axes.axhline(SETTLED, color="#9aa3ad", linewidth=0.8)
    axes.axvline(1e3 * settled_s, color="#22272e", linestyle="--", linewidth=0.8, label="settled")
    axes.set(yscale="log", ylim=(1e-5, 2), xlabel="from picture to exposure (ms)", ylabel="missing of the step")
    axes.set_title(f"{name} display".capitalize())
    axes.legend()
