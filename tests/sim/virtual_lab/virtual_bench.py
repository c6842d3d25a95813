"""The bench of configs/rigs/virtual.yaml without errors, and the twin and roads that it stands for."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import numpy as np
import numpy.typing as npt
import yaml

from labctl.rig_file import RoadSettings
from labctl.roads import Roads
from sim.twin_settings import TwinSettings
from sim.virtual_lab.bench.settings import Truth, truth_from
from sim.virtual_lab.world import VirtualLabSettings, bench_truth

RIG_FILE = Path(__file__).parents[3] / "configs" / "rigs" / "virtual.yaml"

NO_ERRORS: dict[str, Any] = {
    "shift_px": (0.0, 0.0), "rotation_deg": 0.0, "gap_error": 0.0, "blur_px": 0.0, "panel_gamma": 2.2,
    "contrast": 1e6, "crosstalk": 0.0, "vignetting": 0.0, "dark_offset": 0.0, "stray": 0.0, "prnu": 0.0,
    "dsnu": 0.0, "column_offset": 0.0,
}  # fmt: skip

SCENE_PX, MASK_CELLS, SENSOR_PX = (63, 63), (32, 32), (32, 32)
CELL_PX, PIXEL_PX = 4, 4


def roads() -> Roads:
    """The roads of the rig file."""
    made = RoadSettings.model_validate(yaml.safe_load(RIG_FILE.read_text())["roads"])
    return Roads(made.mask, made.scene)


def twin_settings(**registration: Any) -> TwinSettings:
    """The twin of the rig file, with such a registration."""
    values = yaml.safe_load(RIG_FILE.read_text())["twin"]
    return TwinSettings.model_validate(values | {"registration": registration})


def lab_settings(**changes: Any) -> VirtualLabSettings:
    """A lab without errors and noise, but for these."""
    return VirtualLabSettings(**({"noise": False, "sensor_px": SENSOR_PX, "seed": 1} | NO_ERRORS | changes))


def truth_json(**changes: Any) -> dict[str, Any]:
    """What the bench of such a lab is told."""
    return bench_truth(lab_settings(**changes), twin_settings(), roads())


def truth(**changes: Any) -> Truth:
    """The same, as the bench reads it."""
    return truth_from(truth_json(**changes))


def mask_levels(mask: npt.NDArray[np.float64]) -> npt.NDArray[np.uint8]:
    """Levels inside the field stop for a mask of cells, 0..1."""
    return roads().mask.levels(mask)


def scene_levels(scene: npt.NDArray[np.float64]) -> npt.NDArray[np.uint8]:
    """Levels in the view for a scene, 0..1."""
    return roads().scene.levels(scene)


def a_mask(seed: int = 0, share: float = 0.3) -> npt.NDArray[np.float64]:
    """A random binary mask of so many open cells."""
    return (np.random.default_rng(seed).random(MASK_CELLS) < share).astype(np.float64)


def a_scene(seed: int = 0) -> npt.NDArray[np.float64]:
    """A random scene."""
    return np.random.default_rng(1000 + seed).random(SCENE_PX)
