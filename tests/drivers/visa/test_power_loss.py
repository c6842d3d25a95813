"""The lamp loses its power during a capture: real driver, virtual lamp, simulated camera."""

from __future__ import annotations

from collections.abc import Iterator
from typing import Any

import numpy as np
import pytest

import labctl
from labctl.errors import InterlockError
from labctl.exposure import Exposure, Frames, join_frames, still_plan
from labctl.rig import Rig
from tests.sim.virtual_lab.instruments.process import Instruments

RIG = {
    "light_path": "sequenced",
    "instruments.lamp": {"type": "visa", "instrument": "light-source", "resource": "$VIRTUAL_LAMP_HISLIP"},
    "interlocks": [{"quantity": "lamp.emission", "within": 0.05, "of": "lamp.power", "every_s": 0.02}],
}


@pytest.fixture
def rig(lab: Instruments, monkeypatch: pytest.MonkeyPatch) -> Iterator[Any]:
    for name, resource in lab.resources.items():
        monkeypatch.setenv(name, resource)
    opened: list[Rig] = []

    def open_rig() -> Rig:
        opened.append(labctl.open_rig("sim", set=RIG))
        opened[-1].devices().instruments["lamp"].set_quantity("power", 0.8)
        return opened[-1]

    yield open_rig
    for one in opened:
        one.close()


def test_a_capture_stops_where_the_lamp_lost_power_and_goes_on_without_a_gap(lab: Instruments, rig: Any) -> None:
    rng = np.random.default_rng(0)
    scenes = rng.random((400, 1, 63, 63), dtype=np.float32)
    exposure = Exposure(exposure_s=0.002, roi=(32, 32))
    plan = still_plan(scenes, np.ones((32, 32)), exposure, exposure_ids=np.arange(400))
    delivered: list[Frames] = []

    def until_the_lamp_dies(opened: Rig) -> None:
        for frame in opened.stream(plan):
            delivered.append(frame)
            if len(delivered) == 100:
                lab.inject("lamp", "mains_off")

    opened = rig()
    with pytest.raises(InterlockError, match=r"lamp\.emission is 0, it must be within 0\.05 of 0\.8 as set"):
        until_the_lamp_dies(opened)
    assert 100 <= len(delivered) < 400
    assert opened.devices().instruments["lamp"].read_quantity("power") == 0.0, "the rig was made safe"
    with pytest.raises(InterlockError):
        opened.expose(plan)
    opened.close()
    acknowledged = len(delivered)
    lab.inject("lamp", "mains_on")
    with rig() as again:
        delivered.extend(again.stream(plan.part(acknowledged, 400)))
    whole = join_frames(delivered)
    assert np.array_equal(whole.exposure_ids, np.arange(400))
    with labctl.open_rig("sim", set={"light_path": "sequenced"}) as undisturbed:
        assert np.array_equal(whole.pixels, undisturbed.expose(plan).pixels)


def test_a_lamp_that_is_gone_altogether_stops_the_capture_too(lab: Instruments, rig: Any) -> None:
    scenes = np.ones((400, 1, 63, 63), dtype=np.float32)
    exposure = Exposure(exposure_s=0.002, roi=(32, 32))
    plan = still_plan(scenes, np.ones((32, 32)), exposure, exposure_ids=np.arange(400))
    opened = rig()
    lab.inject("lamp", "reset")
    with pytest.raises(InterlockError, match=r"lamp\.emission cannot be read: lamp: TCPIP0"):
        opened.expose(plan)
    assert lab.truth()["lamp"] == 0.0
