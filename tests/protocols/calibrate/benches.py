"""Benches for single kinds of calibration on simulated rigs, with what they stand on given by hand."""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import numpy as np

from labctl.api import open_rig
from labctl.calibration.record import ArrayNote, Calibration, CalibrationRecord, Value
from protocols.calibrate.bench import Bench
from protocols.calibrate.kind import Found, Kind

SCENE_PX, CELLS = (63, 63), (32, 32)


@contextmanager
def bench(
    kind: str,
    folder: Path,
    *,
    rig: str = "as-built",
    seed: int = 1,
    changes: tuple[str, ...] = (),
    built_on: Mapping[str, Calibration] | None = None,
) -> Iterator[Bench]:
    """A bench of the rig with this seed. Dark and flat are the true ones unless given."""
    with open_rig(rig, set=[f"world.seed={seed}", *changes]) as opened:
        made = Bench(
            rig=opened,
            kind=kind,
            scene_px=SCENE_PX,
            cells=CELLS,
            frame_shape=opened.spec.twin.frame_shape(CELLS, SCENE_PX),
            built_on={},
            context=SimpleNamespace(folder=folder, stop_here=lambda text: None, log=lambda text: None),  # type: ignore[arg-type]
            first_id=1000,
        )
        made.built_on = {**true_maps(made), **(built_on or {})}
        yield made


def true_maps(bench: Bench) -> dict[str, Calibration]:
    """Dark frame and flat field of the world, exactly."""
    sensor = world_of(bench)._twin.sensor
    flat = sensor.flat(bench.frame_shape).numpy()
    dark = sensor.offset_dn(bench.frame_shape).numpy()
    return {
        "dark": calibration("dark", arrays={"dark_dn": dark}),
        "flat": calibration("flat", arrays={"flat": flat / flat[8:24, 8:24].mean()}),
    }


def world_of(bench: Bench) -> Any:
    """What is true there."""
    return bench.rig.devices().world


def calibration(
    kind: str, values: Mapping[str, float] | None = None, arrays: Mapping[str, np.ndarray] | None = None
) -> Calibration:
    """One by hand."""
    record = CalibrationRecord(
        kind=kind,
        rig="by hand",
        rig_hash="0",
        bench_hash="0",
        made=1.0,
        max_age_s=1.0,
        labctl="0",
        values={name: Value(value=value, error=None, unit="1") for name, value in (values or {}).items()},
    )
    return Calibration(record, dict(arrays or {}))


def found_as_calibration(kind: Kind, found: Found, bench: Bench) -> Calibration:
    """What the step would make of it."""
    notes: dict[str, ArrayNote] = {name: note for name, (_, note) in found.arrays.items()}
    record = calibration(kind.name).record.model_copy(update={"values": dict(found.values), "arrays": notes})
    return Calibration(record, {name: array for name, (array, _) in found.arrays.items()}, dict(bench.raw))
