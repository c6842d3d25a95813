"""How exposures happen: show, settle, trigger, fetch; or, on a simulated rig, one batched call."""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from typing import Any, Protocol

import numpy as np

from labctl.clock import Clock
from labctl.devices import Camera, Display, Instrument
from labctl.errors import BadInput
from labctl.exposure import Frames
from labctl.roads import DevicePlan

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


class SequencedLightPath:
    """Shows every pattern, waits until the displays have settled, triggers, fetches. Works with any devices."""

    def stream(self, plan: DevicePlan, devices: RigDevices) -> Iterator[Frames]:
        """See `LightPath.stream`. Ts and Tm must be 1: sequences inside one exposure need `Display.play`."""
        check_still(plan)
        taken = devices.camera.configure(plan.exposure)
        devices.camera.arm(len(plan))
        try:
            for index in range(len(plan)):
                show_exposure(plan, index, index - 1, devices)
                devices.camera.trigger(plan.tag(index))
                yield devices.camera.fetch(taken.exposure_s + FETCH_MARGIN_S)
        finally:
            devices.camera.disarm()


def check_still(plan: DevicePlan) -> None:
    """Raise BadInput unless every exposure of `plan` sees one mask and one scene."""
    if not plan.is_still:
        raise BadInput("this light path shows one mask and one scene per exposure (Ts = Tm = 1)")


def show_exposure(plan: DevicePlan, index: int, before: int, devices: RigDevices) -> None:
    """Bring the displays from exposure `before` (-1: none of this plan yet) to exposure `index`, and let them settle.

    The first pattern gets twice the time, so that what stood on the panel earlier cannot reach the first frame: a
    resumed capture starts like an uninterrupted one. For a live scene the scene monitor, if there is one, is dark.
    """
    mask, scene = plan.mask_of(index)[0], plan.scene_of(index)
    changed = before < 0 or not np.array_equal(mask, plan.mask_of(before)[0])
    if changed:
        devices.mask.show(mask)
    if devices.scene is not None and scene is not None:
        devices.scene.show(scene[0])
        changed = True
    elif devices.scene is not None and before < 0:
        devices.scene.blank()
    settle_s = max(devices.mask.settle_s, 0.0 if devices.scene is None else devices.scene.settle_s)
    for _ in range(2 if before < 0 else int(changed)):
        devices.clock.sleep(settle_s)
