"""What a child gets of the rig is what the rig gives, to the bit and to the type of the error."""

from __future__ import annotations

import json
from collections.abc import Iterator
from typing import Any

import numpy as np
import pytest

from labctl import errors
from labctl.errors import BadInput, HardwareError, InterlockError, Stopped
from labctl.exposure import Exposure, still_plan
from labctl.rig import Rig
from labctl.rig_file import find_rig, load_rig
from labctl.rig_proxy import RigProxy, answer


@pytest.fixture
def rig() -> Iterator[Rig]:
    with Rig(load_rig(find_rig("as-built"))) as rig:
        yield rig


def proxy_of(rig: Rig, between: Any = lambda: None) -> RigProxy:
    """A proxy whose messages cross as the lines of text that they are in a pipe."""
    return RigProxy(rig.spec, lambda message: json.loads(json.dumps(answer(json_of(message), lambda: rig, between))))


def json_of(message: dict[str, Any]) -> dict[str, Any]:
    crossed: dict[str, Any] = json.loads(json.dumps(message))
    return crossed


def plan(exposure_s: float = 0.004) -> Any:
    random = np.random.default_rng(0)
    scenes, mask = random.uniform(size=(3, 1, 63, 63)).astype(np.float32), random.uniform(size=(32, 32))
    return still_plan(scenes, mask, Exposure(exposure_s=exposure_s, roi=(32, 32)), exposure_ids=[2**60, 3, 4])


def test_frames_are_those_of_the_rig_to_the_bit(rig: Rig) -> None:
    here, there = rig.expose(plan()), proxy_of(rig).expose(plan())
    assert np.array_equal(here.pixels, there.pixels)
    assert there.pixels.dtype == np.uint16
    assert there.exposure_ids.tolist() == [2**60, 3, 4]
    assert there.exposure_s.tolist() == here.exposure_s.tolist()
    assert there.saturation_dn == here.saturation_dn


def test_camera_and_instruments_answer_as_they_do_on_the_host(rig: Rig) -> None:
    devices = proxy_of(rig).devices()
    camera = rig.devices().camera
    assert devices.camera.exposure_limits_s == tuple(camera.exposure_limits_s)
    assert devices.camera.saturation_dn == camera.saturation_dn
    wished = Exposure(exposure_s=0.01234567, roi=(32, 32))
    assert devices.camera.configure(wished) == camera.configure(wished)
    assert devices.instruments["lamp"].set_quantity("power", 0.5) == 0.5
    assert rig.devices().instruments["lamp"].read_quantity("power") == 0.5


@pytest.mark.parametrize("error", [HardwareError, InterlockError, BadInput])
def test_errors_of_the_rig_cross_with_type_and_text(
    error: type[errors.LabctlError], rig: Rig, monkeypatch: pytest.MonkeyPatch
) -> None:
    def broken(plan: Any) -> Any:
        raise error("the shutter is stuck")

    monkeypatch.setattr(rig, "stream", broken)
    with pytest.raises(error, match="the shutter is stuck") as caught:
        proxy_of(rig).expose(plan())
    assert type(caught.value) is error


def test_an_error_of_a_kind_that_only_a_driver_knows_crosses_as_what_it_is_a_kind_of(
    rig: Rig, monkeypatch: pytest.MonkeyPatch
) -> None:
    class Stuck(HardwareError):
        pass

    def broken(plan: Any) -> Any:
        raise Stuck("stuck")

    monkeypatch.setattr(rig, "stream", broken)
    with pytest.raises(HardwareError, match="stuck"):
        proxy_of(rig).expose(plan())


def test_an_abort_ends_the_exposures_and_is_no_answer(rig: Rig) -> None:
    seen: list[int] = []

    def between() -> None:
        seen.append(1)
        if len(seen) == 2:
            raise Stopped("aborted by the user")

    with pytest.raises(Stopped):
        proxy_of(rig, between).expose(plan())
    assert len(seen) == 2
