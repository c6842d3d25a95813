"""The light path of simulated rigs: the moves of the sequenced one in virtual time, the pixels in blocks."""

from __future__ import annotations

from collections.abc import Iterator

import numpy as np

from labctl.devices import Display, Levels
from labctl.errors import BadInput
from labctl.exposure import Frames
from labctl.light_path import RigDevices
from labctl.roads import DevicePlan
from sim.devices import SimulatedCamera

BLOCK = 32
"""Exposures that are computed in one call."""


class SimulatedLightPath:
    """Yields the frames of `labctl.light_path.SequencedLightPath`, bit for bit, from simulated devices.

    Displays and clock are moved alike: the first pattern is shown before the first exposure and given twice the time
    to settle, every later one follows on the one before. So ghosts are the same too.
    """

    def stream(self, plan: DevicePlan, devices: RigDevices) -> Iterator[Frames]:
        """See `LightPath.stream`. Ts and Tm must be 1. Raises BadInput without a world and a simulated camera.

        When the reader stops early the displays go back to the exposure that was read last.
        """
        camera = _checked_camera(plan, devices)
        camera.configure(plan.exposure)
        camera.arm(len(plan))
        last_shown, last_read = -1, -1
        try:
            for start in range(0, len(plan), BLOCK):
                for index in range(start, min(start + BLOCK, len(plan))):
                    _show(plan, index, last_shown, devices)
                    last_shown = index
                    camera.trigger(plan.tags[index])
                    camera.finish_exposures()
                for frame in camera.fetch_all():
                    last_read += 1
                    yield frame
        finally:
            camera.disarm()
            if 0 <= last_read < last_shown:
                _show(plan, last_read, last_shown, devices)


def _show(plan: DevicePlan, index: int, before: int, devices: RigDevices) -> None:
    """Bring the displays from exposure `before` (-1: none yet) to exposure `index`, and let them settle."""
    mask: Levels = plan.mask_of(index)[0]
    changed = before < 0 or not np.array_equal(mask, plan.mask_of(before)[0])
    if changed:
        devices.mask.show(mask)
    if plan.scene_levels is not None and devices.scene is not None:
        devices.scene.show(plan.scene_levels[index, 0])
        changed = True
    settle_s = max(_settle_s(devices.mask), _settle_s(devices.scene))
    for _ in range(2 if before < 0 else int(changed)):
        devices.clock.sleep(settle_s)


def _settle_s(display: Display | None) -> float:
    return 0.0 if display is None else display.settle_s


def _checked_camera(plan: DevicePlan, devices: RigDevices) -> SimulatedCamera:
    if devices.world is None or not isinstance(devices.camera, SimulatedCamera):
        raise BadInput("this light path needs simulated devices; use light_path: sequenced")
    if plan.mask_levels.shape[1] != 1 or (plan.scene_levels is not None and plan.scene_levels.shape[1] != 1):
        raise BadInput("this light path shows one mask and one scene per exposure (Ts = Tm = 1)")
    return devices.camera
