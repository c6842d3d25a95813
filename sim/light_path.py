"""The light path of simulated rigs: the moves of the sequenced one in virtual time, the pixels in blocks."""

from __future__ import annotations

from collections.abc import Iterator

from labctl.errors import BadInput
from labctl.exposure import Frames
from labctl.light_path import RigDevices, check_still, show_exposure
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
                    show_exposure(plan, index, last_shown, devices)
                    last_shown = index
                    camera.trigger(plan.tag(index))
                    camera.finish_exposures()
                for frame in camera.fetch_all():
                    last_read += 1
                    yield frame
        finally:
            camera.disarm()
            if 0 <= last_read < last_shown:
                show_exposure(plan, last_read, last_shown, devices)


def _checked_camera(plan: DevicePlan, devices: RigDevices) -> SimulatedCamera:
    if devices.world is None or not isinstance(devices.camera, SimulatedCamera):
        raise BadInput("this light path needs simulated devices; use light_path: sequenced")
    check_still(plan)
    return devices.camera
