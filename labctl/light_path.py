"""How exposures happen: show, settle, trigger, fetch; or, on a simulated rig, one batched call."""

from __future__ import annotations

import contextlib
import logging
from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from typing import Any, Protocol

import numpy as np

from labctl.clock import Clock
from labctl.devices import Camera, Display, Instrument, Levels, SelfChecking
from labctl.errors import BadInput, HardwareError, InterlockError
from labctl.exposure import FloatArray, Frames
from labctl.frame_order import FrameOrder
from labctl.roads import DevicePlan

log = logging.getLogger(__name__)

FETCH_MARGIN_S = 5.0
"""What a camera may take beyond the exposure itself before its frame counts as lost."""


@dataclass(frozen=True)
class RigDevices:
    """The opened devices of a rig, by role."""

    mask: Display
    scene: Display | None
    camera: Camera
    instruments: Mapping[str, Instrument]
    clock: Clock
    world: Any = None


class LightPath(Protocol):
    """Turns a plan into frames, one by one, in order."""

    def stream(self, plan: DevicePlan, devices: RigDevices) -> Iterator[Frames]:
        """Yield `Frames` of length one for every exposure of `plan`, in order."""


@dataclass(frozen=True)
class Retake:
    """An exposure that was taken a second time because its first frame was lost or doubtful, and was thrown away."""

    exposure_id: int
    attempt: int
    """Of whoever asked for the exposure; see `FrameTag`."""

    reason: str


class SequencedLightPath:
    """Shows every pattern, waits until the displays have settled, triggers, fetches. Works with any devices.

    A frame is delivered only when it is the next one of the camera, carries the tag of its exposure, and began after
    its trigger as far as the clocks tell (`labctl.frame_order`), and when its patterns still stood on the displays
    after it, as far as those can tell. Otherwise, or when a device fails, the exposure is
    taken once more from the start, patterns included, under the same tag: nobody has seen the first frame. A second
    failure in a row is an error.
    """

    def __init__(self) -> None:
        self.retakes: list[Retake] = []
        """Every exposure that was taken twice since the rig was opened."""

    def stream(self, plan: DevicePlan, devices: RigDevices) -> Iterator[Frames]:
        """See `LightPath.stream`. Ts and Tm must be 1: sequences inside one exposure need `Display.play`."""
        check_still(plan)
        order = FrameOrder(devices.camera.name)
        exposure_s = _arm(plan, 0, devices)
        try:
            for index in range(len(plan)):
                try:
                    frame = self._take(plan, index, index - 1, devices, order, exposure_s)
                except InterlockError:
                    raise
                except HardwareError as error:
                    self._note(Retake(plan.tag(index).exposure_id, plan.tag(index).attempt, str(error)))
                    frame = self._take_again(plan, index, devices, order, error)
                yield frame
        except BaseException:
            with contextlib.suppress(HardwareError):  # what went wrong first says more
                devices.camera.disarm()
            raise
        devices.camera.disarm()

    def _take(
        self, plan: DevicePlan, index: int, before: int, devices: RigDevices, order: FrameOrder, exposure_s: float
    ) -> Frames:
        show_exposure(plan, index, before, devices)
        triggered_s = devices.clock.now()
        devices.camera.trigger(plan.tag(index))
        frame = devices.camera.fetch(exposure_s + FETCH_MARGIN_S)
        order.check(frame, plan.tag(index), triggered_s, devices.clock.now())
        for display in (devices.mask, devices.scene):
            if isinstance(display, SelfChecking):
                display.check_shown()
        return frame

    def _take_again(
        self, plan: DevicePlan, index: int, devices: RigDevices, order: FrameOrder, first: HardwareError
    ) -> Frames:
        """Exposure `index` from a fresh start: a camera armed anew has dropped what was under way."""
        try:
            devices.camera.disarm()
            order.restart()
            exposure_s = _arm(plan, index, devices)
            return self._take(plan, index, -1, devices, order, exposure_s)
        except HardwareError as second:
            again = "" if str(second) == str(first) else f"; taken again: {second}"
            raise type(second)(f"exposure {plan.tag(index).exposure_id} failed twice: {first}{again}") from first

    def _note(self, retake: Retake) -> None:
        self.retakes.append(retake)
        log.warning("exposure %d is taken again: %s", retake.exposure_id, retake.reason)


def check_still(plan: DevicePlan) -> None:
    """Raise BadInput unless every exposure of `plan` sees one mask and one scene."""
    if not plan.is_still:
        raise BadInput("this light path shows one mask and one scene per exposure (Ts = Tm = 1)")


def show_exposure(plan: DevicePlan, index: int, before: int, devices: RigDevices) -> None:
    """Bring the displays from exposure `before` (-1: none of this plan yet) to exposure `index`, and let them settle.

    A display whose picture stays is left alone. The others change first; then one wait lasts until the later of them
    has settled, each counted from the moment its own picture was on the panel. The first pattern gets twice the time,
    so that what stood on the panel earlier cannot reach the first frame: a resumed capture starts like an
    uninterrupted one. For a live scene the scene monitor, if there is one, is dark.
    """
    first = before < 0
    ready_s = devices.clock.now()
    if first or _differs(plan.plan.masks, index, before):
        ready_s = max(ready_s, _show(devices.mask, plan.mask_of(index)[0], devices.clock))
    if devices.scene is not None and not isinstance(plan.plan.scenes, str):
        scene = plan.scene_of(index)
        if scene is not None and (first or _differs(plan.plan.scenes, index, before)):
            ready_s = max(ready_s, _show(devices.scene, scene[0], devices.clock))
    elif devices.scene is not None and first:
        devices.scene.blank()
        ready_s = max(ready_s, devices.clock.now() + devices.scene.settle_s)
    if first:
        ready_s += max(devices.mask.settle_s, 0.0 if devices.scene is None else devices.scene.settle_s)
    devices.clock.sleep(ready_s - devices.clock.now())


def _differs(pictures: FloatArray, index: int, before: int) -> bool:
    return len(pictures) > 1 and not np.array_equal(pictures[index], pictures[before])


def _show(display: Display, levels: Levels, clock: Clock) -> float:
    """Show `levels`; returns when `display` will have settled.

    A display tells when its picture was on the panel; that moment lies within the call whatever clock it reads.
    """
    begun_s = clock.now()
    shown_s = display.show(levels)
    return min(max(shown_s, begun_s), clock.now()) + display.settle_s


def _arm(plan: DevicePlan, start: int, devices: RigDevices) -> float:
    """Ready for the exposures from `start` on; returns the exposure time that the camera really takes."""
    taken = devices.camera.configure(plan.exposure)
    devices.camera.arm(len(plan) - start)
    return taken.exposure_s
