"""A calibration to begin with, for tests: of a rig that is described by its file alone."""

from __future__ import annotations

import time
from pathlib import Path
from typing import Any

import numpy as np

from labctl.calibration.record import ArrayNote, Calibration, CalibrationRecord, Value
from labctl.calibration.validity import beliefs_of, bench_hash
from labctl.rig_file import RigSpec, load_rig

CONFIGS = Path(__file__).parents[3] / "configs"


def rig(*overrides: str, name: str = "as-built") -> RigSpec:
    """A shipped rig with changes, `world.seed=3`."""
    return load_rig(CONFIGS / "rigs" / f"{name}.yaml", overrides=overrides)


def made(spec: RigSpec, kind: str = "dark", **changed: Any) -> Calibration:
    """A calibration of this very bench, an instant old."""
    record = CalibrationRecord(
        kind=kind,
        settings={"frames": 64},
        rig=spec.name,
        rig_hash=spec.content_hash,
        bench_hash=bench_hash(spec),
        beliefs=beliefs_of(spec, ("sensor",)),
        devices={"camera": {"settings": spec.devices["camera"].model_dump(mode="json")}},
        readings={"lamp.temperature": 25.0, "lamp.power": 1.0},
        units={"lamp.temperature": "degC", "lamp.power": "1"},
        made=time.time() - 1,
        max_age_s=3600.0,
        holds_for={"frame_shape": [4, 6]},
        values={
            "black_level_dn": Value(value=158.12, error=0.05, unit="DN", text="Black level"),
            "shift_px": Value(value=(0.5, -1.25), error=(0.01, 0.02), unit="px", text="Shift"),
        },
        arrays={"dark_dn": ArrayNote(unit="DN", text="Mean dark frame")},
        labctl="0.1.0",
    )
    draws = np.random.default_rng(0)
    return Calibration(
        record.model_copy(update=changed),
        {"dark_dn": draws.normal(158, 1, (4, 6))},
        {"dark": draws.integers(150, 165, (5, 4, 6)).astype(np.uint16), "dark.exposure_s": np.full(5, 1e-5)},
    )
