"""Benches of a simulated rig, one for each seed, opened one after the other, with their truth and what was calibrated.

For benchmarks that hold what was found against what is true.
"""

from __future__ import annotations

import tempfile
import time
from collections.abc import Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import labctl
from labctl.calibration.record import Calibration, CalibrationRecord
from labctl.calibration.validity import bench_hash
from labctl.references import Reference
from labctl.rig import Rig
from labctl.steps import StepContext
from protocols.calibrate.bench import Bench
from protocols.calibrate.dark import Dark
from protocols.calibrate.kind import Kind
from protocols.calibrate.kinds import KINDS, in_order

SCENE_PX, CELLS = (63, 63), (32, 32)
DRAWN = {"world.gain_error": "drawn", "world.read_noise_e": "drawn", "world.panel_response_s": "drawn"}
SETTINGS: Mapping[str, Kind] = {"dark": Dark(darken={"lamp": {"power": 0.0}})}
IDS_PER_KIND = 1 << 20


@dataclass
class Lab:
    """One opened rig, its truth, and what was measured of it so far."""

    seed: int
    rig: Rig
    world: Any
    made: dict[str, Calibration] = field(default_factory=dict)
    seconds: dict[str, float] = field(default_factory=dict)
    exposures: dict[str, int] = field(default_factory=dict)

    def calibration(self, kind: str) -> Calibration:
        """What was found of this kind; measured now with all that it stands on, when it was not yet."""
        for name in in_order([kind]):
            if name not in self.made:
                self.made[name] = self._measure(name)
        return self.made[kind]

    @property
    def sensor(self) -> Any:
        """The true sensor."""
        return self.world._twin.sensor

    @property
    def frame_shape(self) -> tuple[int, int]:
        """Of every frame."""
        shape: tuple[int, int] = self.rig.spec.twin.frame_shape(CELLS, SCENE_PX)
        return shape

    def _measure(self, name: str) -> Calibration:
        kind = SETTINGS.get(name, KINDS[name]())
        bench = Bench(
            rig=self.rig,
            kind=name,
            scene_px=SCENE_PX,
            cells=CELLS,
            frame_shape=self.frame_shape,
            built_on={before: self.made[before] for before in kind.after},
            context=_context(),
            first_id=(1 << 40) + IDS_PER_KIND * list(KINDS).index(name),
        )
        began = time.perf_counter()
        found = kind.measure(bench)
        self.seconds[name], self.exposures[name] = time.perf_counter() - began, bench.taken
        spec = self.rig.spec
        record = CalibrationRecord(
            kind=name, rig=spec.name, rig_hash=spec.content_hash, bench_hash=bench_hash(spec), made=time.time(),
            max_age_s=kind.max_age_s, holds_for=dict(found.holds_for), values=dict(found.values),
            built_on={before: self.made[before].id for before in kind.after},
            arrays={array: note for array, (_, note) in found.arrays.items()}, warnings=found.warnings,
            settings=kind.method(), version=kind.version, labctl=labctl.__version__,
        )  # fmt: skip
        return Calibration(record, {array: values for array, (values, _) in found.arrays.items()}, dict(bench.raw))


_open: dict[str, Any] = {"rig": "as-built", "set": dict(DRAWN), "lab": None}


def choose(rig: str, changes: Mapping[str, Any]) -> None:
    """Of which rig the benches are, and with which changes; before the first `lab`."""
    _open.update(rig=rig, set=dict(changes))


def lab(seed: int) -> Lab:
    """The bench of this seed; the one before is closed."""
    there: Lab | None = _open["lab"]
    if there is not None and there.seed == seed:
        return there
    close()
    rig = labctl.open_rig(_open["rig"], set={**_open["set"], "world.seed": seed})
    with tempfile.TemporaryDirectory() as folder:
        world = rig.spec.world.make(rig.spec.twin, rig.spec.roads, Path(folder))  # type: ignore[union-attr]
    _open["lab"] = Lab(seed, rig, world)
    return _open["lab"]


def close() -> None:
    """Close the bench that is open."""
    if _open["lab"] is not None:
        _open["lab"].rig.close()
        _open["lab"] = None


def _context() -> StepContext:
    nothing: Mapping[Reference, Path] = {}
    return StepContext(
        setting=None,  # type: ignore[arg-type]
        folder=Path(tempfile.gettempdir()) / "open_benches",
        run_folder=Path(tempfile.gettempdir()) / "open_benches",
        inputs=nothing,
        report=lambda _: None,
        stop_asked=lambda: False,
        content_hash="0" * 64,
    )
