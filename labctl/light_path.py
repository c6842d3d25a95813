"""How exposures happen: show, settle, trigger, fetch; or, on a simulated rig, one batched call."""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from typing import Any, Protocol

import numpy as np

from labctl.clock import Clock
from labctl.devices import Camera, Display, Instrument, Levels
from labctl.errors import BadInput
from labctl.exposure import Exposure, Frames
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
    """Shows every pattern, waits until the displays have settled, triggers, fetches. Works with any devices.

    The first pattern is shown once before the first exposure, so that what stood on the panel earlier
    cannot reach the first frame: a resumed capture starts like an uninterrupted one.
    """

    def stream(self, plan: DevicePlan, devices: RigDevices) -> Iterator[Frames]:
        """See `LightPath.stream`. Ts and Tm must be 1: sequences inside one exposure need `Display.play`."""
        if plan.mask_levels.shape[1] != 1 or (plan.scene_levels is not None and plan.scene_levels.shape[1] != 1):
            raise BadInput("this light path shows one mask and one scene per exposure (Ts = Tm = 1)")
        taken: Exposure = devices.camera.configure(plan.exposure)
        devices.camera.arm(len(plan))
        mask_now: Levels | None = None
        try:
            for index, tag in enumerate(plan.tags):
                changed = self._show_changes(plan, index, mask_now, devices)
                mask_now = plan.mask_of(index)[0]
                if index == 0:
                    devices.clock.sleep(self._settle_s(devices))
                if changed or index == 0:
                    devices.clock.sleep(self._settle_s(devices))
                devices.camera.trigger(tag)
                yield devices.camera.fetch(taken.exposure_s + FETCH_MARGIN_S)
        finally:
            devices.camera.disarm()

    @staticmethod
    def _show_changes(plan: DevicePlan, index: int, mask_now: Levels | None, devices: RigDevices) -> bool:
        changed = False
        mask = plan.mask_of(index)[0]
        if mask_now is None or not np.array_equal(mask, mask_now):
            devices.mask.show(mask)
            changed = True
        if plan.scene_levels is not None and devices.scene is not None:
            devices.scene.show(plan.scene_levels[index, 0])
            changed = True
        return changed

    @staticmethod
    def _settle_s(devices: RigDevices) -> float:
        return max(devices.mask.settle_s, devices.scene.settle_s if devices.scene is not None else 0.0)
