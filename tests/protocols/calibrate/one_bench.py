"""A bench for one kind of calibration: an opened simulated rig, what it stands on, and a folder for pictures."""

from __future__ import annotations

import time
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import labctl
from labctl.calibration.record import Calibration, CalibrationRecord
from labctl.calibration.validity import bench_hash
from labctl.rig import Rig
from labctl.steps import StepContext
from protocols.calibrate.bench import Bench
from protocols.calibrate.kind import Kind
from protocols.calibrate.kinds import KINDS, in_order

SCENE_PX, CELLS = (63, 63), (32, 32)


class CalibrationBench:
    """Measures kinds on one rig, each with what it stands on; what was measured stays."""

    def __init__(self, rig: Rig, folder: Path, settings: Mapping[str, Kind] | None = None) -> None:
        self.rig, self.folder = rig, folder
        self.settings = dict(settings or {})
        self.made: dict[str, Calibration] = {}

    @property
    def frame_shape(self) -> tuple[int, int]:
        shape: tuple[int, int] = self.rig.spec.twin.frame_shape(CELLS, SCENE_PX)
        return shape

    @property
    def true_twin(self) -> Any:
        """The truth, for comparisons only."""
        return self.rig._world._twin

    def bench(self, name: str) -> Bench:
        context = StepContext(
            setting=None,  # type: ignore[arg-type]
            folder=self.folder,
            run_folder=self.folder,
            inputs={},
            report=lambda _: None,
            stop_asked=lambda: False,
            content_hash="0" * 64,
        )
        return Bench(
            rig=self.rig,
            kind=name,
            scene_px=SCENE_PX,
            cells=CELLS,
            frame_shape=self.frame_shape,
            built_on={before: self.measure(before) for before in KINDS[name].after},
            context=context,
            first_id=(1 << 40) + (1 << 20) * list(KINDS).index(name),
        )

    def measure(self, name: str) -> Calibration:
        """The calibration `name` with the settings given; measured once."""
        for needed in in_order([name]):
            if needed not in self.made:
                self.made[needed] = self._measure(needed)
        return self.made[name]

    def _measure(self, name: str) -> Calibration:
        kind, bench, spec = self.settings.get(name, KINDS[name]()), self.bench(name), self.rig.spec
        found = kind.measure(bench)
        record = CalibrationRecord(
            kind=name,
            rig=spec.name,
            rig_hash=spec.content_hash,
            bench_hash=bench_hash(spec),
            made=time.time(),
            max_age_s=kind.max_age_s,
            holds_for=dict(found.holds_for),
            values=dict(found.values),
            arrays={array: note for array, (_, note) in found.arrays.items()},
            warnings=found.warnings,
            labctl=labctl.__version__,
        )
        return Calibration(record, {array: values for array, (values, _) in found.arrays.items()}, dict(bench.raw))


@contextmanager
def calibration_bench(
    folder: Path, rig: str = "as-built", settings: Mapping[str, Kind] | None = None, **changes: Any
) -> Iterator[CalibrationBench]:
    """An opened rig; changes: of its file, `world__seed=3`."""
    with labctl.open_rig(rig, set={key.replace("__", "."): value for key, value in changes.items()}) as opened:
        yield CalibrationBench(opened, folder, settings)
