"""A small nominal rig: mask cell, scene pixel and sensor pixel are one."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from labctl.devices import OpenContext
from labctl.light_path import RigDevices
from labctl.roads import MonitorRoad, PanelRoad, Roads
from sim.devices import SimulatedCameraSettings, SimulatedMonitorSettings, SimulatedPanelSettings
from sim.twin import TwinSettings
from sim.world import AsBuiltWorldSettings, NominalWorldSettings, World

MASK, SCENE, FRAME = (32, 32), (63, 63), (32, 32)


def nominal_twin(**changes: dict[str, Any]) -> TwinSettings:
    """The nominal rig; each keyword changes values inside one block."""
    blocks: dict[str, dict[str, Any]] = {
        "optics": {"mask_pitch_m": 200e-6, "gap_m": 10e-3, "scene_distance_m": 0.25, "scene_pitch_m": 5.2e-3},
        "panel": {"shape": (256, 256), "stop_px": (128, 128), "response_s": 0.01},
        "monitor": {"shape": (127, 127), "view_px": (63, 63), "response_s": 0.005},
        "sensor": {"shape": (128, 128), "pitch_m": 208e-6},
        "light": {"photons_per_s": 15_000.0},
        "registration": {},
    }
    return TwinSettings.model_validate({name: block | changes.get(name, {}) for name, block in blocks.items()})


def open_devices(world: World, *, settle_s: float | None = None) -> RigDevices:
    """Panel, monitor and camera in `world`, opened."""

    def context(name: str) -> OpenContext:
        return OpenContext(name=name, rig_name="bench", world=world)

    panel = SimulatedPanelSettings(settle_s=settle_s).make(context("mask"))
    monitor = SimulatedMonitorSettings(settle_s=settle_s).make(context("scene"))
    camera = SimulatedCameraSettings().make(context("camera"))
    for device in (panel, monitor, camera):
        device.open()
    return RigDevices(panel, monitor, camera, {}, world.clock, world)


@pytest.fixture
def twin_settings() -> TwinSettings:
    return nominal_twin()


@pytest.fixture
def roads() -> Roads:
    return Roads(PanelRoad(cell_px=4), MonitorRoad(pixel_px=1))


@pytest.fixture
def rng() -> np.random.Generator:
    return np.random.default_rng(0)


@pytest.fixture
def make_world(tmp_path: Path, roads: Roads) -> Callable[..., World]:
    def make(
        settings: NominalWorldSettings | AsBuiltWorldSettings | None = None, twin: TwinSettings | None = None
    ) -> World:
        return (settings or NominalWorldSettings()).make(twin or nominal_twin(), roads, tmp_path)

    return make
