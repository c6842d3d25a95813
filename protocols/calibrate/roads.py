"""Roads to the displays from what was measured of them, in place of those of the rig file."""

from __future__ import annotations

from collections.abc import Callable, Iterator, Mapping
from contextlib import contextmanager
from typing import TYPE_CHECKING

import numpy as np

from labctl.calibration.record import Calibration
from labctl.calibration.use import usable
from labctl.errors import BadInput
from labctl.rig_file import RigSpec
from labctl.roads import MonitorRoad, PanelRoad, Roads
from protocols.calibrate.response_table import strictly_rising

if TYPE_CHECKING:
    from labctl.rig import Rig

RESPONSES = ("panel_response", "monitor")
LARGEST_CONTRAST = 1e9
GAMMA_LIMITS = (0.2, 5.0)


def calibrated_roads(spec: RigSpec, calibrations: Mapping[str, Calibration]) -> Roads:
    """The roads of `spec` with the measured table and contrast of the panel, and the measured gamma of the monitor.

    calibrations: by kind; `panel_response` and `monitor` are used where they are there, else the rig file stands.
    """
    roads = spec.roads
    return Roads(
        panel_road(roads.mask, calibrations["panel_response"]) if "panel_response" in calibrations else roads.mask,
        monitor_road(roads.scene, calibrations["monitor"]) if "monitor" in calibrations else roads.scene,
    )


@contextmanager
def measured_roads(rig: Rig, calibrations: Mapping[str, Calibration], say: Callable[[str], None]) -> Iterator[None]:
    """Pictures go down `calibrated_roads` meanwhile, and down those of before afterwards.

    say: is told of stale calibrations. Raises BadInput for one of another bench, and where neither response is there.
    """
    kinds = [kind for kind in RESPONSES if kind in calibrations]
    if not kinds:
        there = ", ".join(calibrations) or "none"
        raise BadInput(
            f"showing by measured responses needs `panel_response` or `monitor`, there is {there}; add one to the "
            "kinds of the `calibrate` step, or take `calibration` away"
        )
    before, rig.roads = rig.roads, calibrated_roads(rig.spec, usable(calibrations, kinds, rig.spec, say))
    try:
        yield
    finally:
        rig.roads = before


def panel_road(road: PanelRoad, response: Calibration) -> PanelRoad:
    """`road` with the table and the contrast of a calibration `panel_response`."""
    table = np.asarray(response.arrays["table"], dtype=np.float64)
    floor = max(float(table[0]), 1 / LARGEST_CONTRAST)
    lut = strictly_rising((table - table[0]) / (table[-1] - table[0]))
    lut[0], lut[-1] = 0.0, 1.0
    return PanelRoad(cell_px=road.cell_px, gamma=road.gamma, contrast=1 / floor, lut=tuple(float(v) for v in lut))


def monitor_road(road: MonitorRoad, monitor: Calibration) -> MonitorRoad:
    """`road` with the gamma of a calibration `monitor`."""
    return MonitorRoad(pixel_px=road.pixel_px, gamma=float(np.clip(monitor.value("scene_gamma"), *GAMMA_LIMITS)))
