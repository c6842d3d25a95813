"""Which rigs must keep the promises of `labctl.devices` and `labctl.light_path`: all of `RIGS`, and more by path.

LABCTL_CONFORMANCE_RIG names further rig files, separated as in PATH; they are tested with the light path they name.
The tests move everything such a rig has, so nobody else may hold it.
"""

from __future__ import annotations

import math
import os
from collections.abc import Callable, Iterator
from functools import cache
from pathlib import Path

import numpy as np
import pytest

import labctl
from labctl.devices import Display
from labctl.exposure import Exposure, FloatArray, Frames, FrameTag, still_plan
from labctl.light_path import FETCH_MARGIN_S, RigDevices
from labctl.rig import Rig

RIGS = ("sim", "as-built")
"""Shipped rigs, in `configs/rigs`. A new driver joins with its emulated rig here."""

LIGHT_PATHS = ("simulated", "sequenced")

Backend = tuple[str, str | None]


def backends() -> list[Backend]:
    """(rig, light path or None for its own) of everything to be tested."""
    shipped: list[Backend] = [(name, path) for name in RIGS for path in LIGHT_PATHS]
    named = [file for file in os.environ.get("LABCTL_CONFORMANCE_RIG", "").split(os.pathsep) if file]
    return shipped + [(file, None) for file in named]


def backend_name(backend: Backend) -> str:
    name, light_path = backend
    return Path(name).stem if light_path is None else f"{name}-{light_path}"


@pytest.fixture(params=backends(), ids=backend_name)
def rig(request: pytest.FixtureRequest, configs: Path) -> Iterator[Rig]:
    """Every rig in turn, opened; afterwards closed, and safe without any error."""
    name, light_path = request.param
    file = configs / "rigs" / f"{name}.yaml" if light_path else name
    with labctl.open_rig(file, set={"light_path": light_path} if light_path else {}) as opened:
        yield opened
    assert opened.safe_errors == []


@pytest.fixture
def devices(rig: Rig) -> RigDevices:
    return rig.devices()


@pytest.fixture(params=["mask", "scene"])
def display(request: pytest.FixtureRequest, devices: RigDevices) -> Display:
    """Both displays in turn."""
    found: Display | None = getattr(devices, request.param)
    if found is None:
        pytest.skip("this rig has no scene display")
    return found


def whole_mask(rig: Rig) -> tuple[int, int]:
    """(H, W) cells of a mask that fills the SLM."""
    rows, columns = rig.devices().mask.shape
    return rows // rig.spec.roads.mask.cell_px, columns // rig.spec.roads.mask.cell_px


def whole_scene(rig: Rig) -> tuple[int, int]:
    """(H, W) pixels of a scene that fills the scene monitor."""
    scene = rig.devices().scene
    if scene is None:
        pytest.skip("this rig has no scene display")
    return scene.shape[0] // rig.spec.roads.scene.pixel_px, scene.shape[1] // rig.spec.roads.scene.pixel_px


def shoot(rig: Rig, mask: FloatArray, scene: FloatArray | None, exposure: Exposure, exposure_id: int = 0) -> Frames:
    """One frame of one scene (H, W), None for the live one, through one mask (H, W)."""
    scenes = "live" if scene is None else scene[None, None]
    return rig.expose(still_plan(scenes, mask, exposure, exposure_ids=[exposure_id]))


def fill(rig: Rig, mask: FloatArray, scene: FloatArray) -> Exposure:
    """An exposure that brings the bright pixels of this frame to 30..80 % of saturation."""
    low, high = rig.devices().camera.exposure_limits_s
    time_s = math.sqrt(low * high)
    for _ in range(20):
        frame = shoot(rig, mask, scene, Exposure(exposure_s=time_s))
        share = float(np.percentile(frame.pixels, 95)) / frame.saturation_dn
        if 0.3 <= share <= 0.8:
            return Exposure(exposure_s=time_s)
        time_s = min(max(time_s * (0.25 if share > 0.8 else 2.0), low), high)
    raise AssertionError(f"no exposure within {low:g}..{high:g} s fills the frame; change the light of the rig")


@pytest.fixture
def lit(rig: Rig) -> Callable[[], Exposure]:
    """Open mask, white scene: leaves both on the displays and returns an exposure that fills the frame."""

    @cache
    def light() -> Exposure:
        return fill(rig, np.ones(whole_mask(rig)), np.ones(whole_scene(rig)))

    return light


@pytest.fixture
def look(devices: RigDevices) -> Callable[[Exposure], Frames]:
    """Wait until the displays have settled, then take one frame of whatever stands there."""

    def take(exposure: Exposure) -> Frames:
        camera, settle_s = devices.camera, devices.mask.settle_s
        devices.clock.sleep(max(settle_s, devices.scene.settle_s if devices.scene is not None else 0.0))
        taken = camera.configure(exposure)
        camera.arm(1)
        camera.trigger(FrameTag(0))
        frame = camera.fetch(taken.exposure_s + FETCH_MARGIN_S)
        camera.disarm()
        return frame

    return take
