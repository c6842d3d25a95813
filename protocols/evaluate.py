"""`evaluate`: accuracy with its interval, and what the frames look like; the only step that reads the test split."""

from __future__ import annotations

import csv
import io
import json
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any, ClassVar, Literal

import numpy as np
import numpy.typing as npt

from labctl.durable import write_json, write_whole
from labctl.errors import BadInput, RunFailed
from labctl.references import OutputKind, Reference
from labctl.steps import Estimate, Source, Step, StepContext, StepResult, StepSetting
from protocols.fit import check_captures, check_fit
from protocols.learning_from_captures import CORRECTIONS, check_corrections, measurement_for
from protocols.measurement import Corrections
from protocols.splits import IntArray, Split

if TYPE_CHECKING:
    from protocols.data import ImageSet
    from protocols.model_file import TrainedCamera
    from protocols.simulation import Simulation
    from sim.designs.base import Patterns

COLUMNS = (
    "design", "rig", "stage", "step", "seed", "accuracy", "accuracy_low", "accuracy_high", "majority", "n_test",
    "blurriness", "aperture_ratio", "light_throughput",
)  # fmt: skip
SEEN_FRAMES = 40
"""Frames whose blurriness is judged; the others are answered and let go."""

EVALUATION_FILE, COMPARISON_FILE = "evaluation.json", "comparison.csv"


class Evaluate(Step):
    """Reads the test split once: simulated when no frames are given, captured otherwise.

    Writes `evaluation.json`, `predictions.npz` (label, predicted, sample_id) and renews `artifacts/comparison.csv`.
    """

    where: ClassVar[Literal["host", "child"]] = "child"
    outputs: ClassVar[Mapping[str, str]] = {"evaluation": "evaluation"}
    uses: ClassVar[frozenset[Source]] = frozenset({"data", "design", "model", "twin"})
    modules: ClassVar[tuple[str, ...]] = ("torch", "protocols.models", "skimage.measure")

    newer: ClassVar[frozenset[str]] = CORRECTIONS

    type: Literal["evaluate"]

    model: Annotated[Reference, OutputKind("model")]
    """The trained camera to test."""

    frames: Annotated[Reference, OutputKind("frames")] | None = None
    """Captured frames; without them the twin makes frames."""

    calibration: Annotated[Reference, OutputKind("calibration")] | None = None
    """By which captured frames are corrected first; without it they stay as they were measured."""

    corrections: Corrections = "all"
    """With `calibration`: these parts of `dark`, `flat`, `gain`, `registration`, or all that it has."""

    stage: Literal["simulated", "captured", "finetuned"]
    """How the row is called in tables: simulated frames, captured frames as they are, or after fine-tuning."""

    def check(self, setting: StepSetting) -> None:
        """Mask, scene and rig must fit, and the stage must tell what is done."""
        check_fit(setting)
        if self.stage == "simulated" and self.frames is not None:
            raise BadInput("a simulated stage has no captured frames; take `frames` away", at=setting.at("frames"))
        if self.stage != "simulated" and self.frames is None:
            text = f"'{self.stage}' needs captured frames; add `frames: ${{steps.NAME.frames}}`"
            raise BadInput(text, at=setting.at("stage"))
        if self.frames is not None:
            check_captures(self.frames, "test", 1, setting)
        elif self.calibration is not None:
            raise BadInput("corrects captured frames, and there are none; take it away", at=setting.at("calibration"))
        check_corrections(self.calibration, self.corrections, setting)

    def estimate(self, setting: StepSetting) -> Estimate:
        """Compute only."""
        return Estimate(seconds=2, disk_bytes=2**20)

    def run(self, context: StepContext) -> StepResult:
        """Test."""
        import torch

        from protocols.data.enlarged import sources_of
        from protocols.metrics import (
            accuracy_interval,
            aperture_ratio,
            blurriness,
            light_throughput,
            majority_baseline,
        )
        from protocols.model_file import load_camera
        from protocols.scenes import load_scenes
        from protocols.simulation import Simulation
        from protocols.training_loop import prepare_torch

        prepare_torch()
        setting = context.setting
        data = load_scenes(context)
        camera = load_camera(context.input(self.model), setting)
        simulation = Simulation(setting.rig, camera.exposure, design=camera.design)
        psf, open_psf = (simulation.psf(mask) for mask in (camera.mask, torch.ones_like(camera.mask)))
        change = camera.simulator_change(setting) if self.frames is None else None
        if change:
            context.log(f"careful: {change}; the accuracy below is not that of the trained camera: train again")
        test = self._captured(context, camera) if self.frames else self._simulated(context, data, simulation, camera)
        interval = accuracy_interval([test.predicted == test.labels], groups=sources_of([test.sample_ids]))
        metrics: dict[str, Any] = {
            "stage": self.stage,
            "accuracy": interval.mean,
            "accuracy_low": interval.low,
            "accuracy_high": interval.high,
            "majority": majority_baseline(data.labels[data.part(Split.TRAIN)], test.labels),
            "n_test": len(test.labels),
            "blurriness": blurriness(test.frames[:, 0]),
            "blurriness_noise_free": None if test.noise_free is None else blurriness(test.noise_free[:, 0]),
            # Optics that no panel shows have no cells to be open: the share of the light that falls on the mask area.
            "aperture_ratio": aperture_ratio(camera.mask) if camera.design.on_panel else float(camera.mask.mean()),
            "light_throughput": light_throughput(psf, open_psf),
            "exposure": camera.exposure.exposure_s,
            "white_e": simulation.white_e(psf),
            "simulator_changed": change,
        }
        np.savez_compressed(
            context.folder / "predictions.npz",
            label=test.labels,
            predicted=test.predicted,
            sample_id=test.sample_ids,
        )
        row = {"design": setting.design, "rig": setting.rig.name, "step": setting.name, "seed": setting.seed, **metrics}
        write_json(context.folder / EVALUATION_FILE, row)
        write_comparison(context.run_folder / "artifacts")
        return StepResult({"evaluation": context.folder / EVALUATION_FILE}, metrics)

    def _captured(self, context: StepContext, camera: TrainedCamera) -> _Test:
        import torch

        from protocols.captured import labelled_frames

        assert self.frames is not None
        measurement = measurement_for(context, context.input(self.frames), self.calibration, self.corrections, camera)
        captured = labelled_frames(context.input(self.frames), camera.class_names, measurement)
        rows = captured.part(Split.TEST)
        if len(rows) == 0:
            raise RunFailed("no test frames were captured; set `test: all` in the capture step")
        frames = captured.frames[rows]
        predicted = camera.answers(torch.from_numpy(frames)).numpy()
        with torch.no_grad():
            first = camera.design.readout(torch.from_numpy(frames[:SEEN_FRAMES])).numpy()
        return _Test(predicted, captured.labels[rows], captured.sample_ids[rows], first, None)

    def _simulated(self, context: StepContext, data: ImageSet, simulation: Simulation, camera: TrainedCamera) -> _Test:
        import torch

        from protocols.keys import stream_seed
        from protocols.simulation import ShownScenes
        from sim.noise import TorchDraws

        rows = data.part(Split.TEST)
        shown = ShownScenes(simulation, data.images, rows)
        generator = torch.Generator().manual_seed(stream_seed(int(context.setting.seed or 0), "test"))
        predicted, first = [], torch.empty(0)
        for frames in simulation.chunks(shown, self._patterns(context, camera), draws=TorchDraws(generator)):
            predicted.append(camera.answers(frames))
            first = first if len(first) else camera.design.readout(frames[:SEEN_FRAMES])
        with torch.no_grad():
            clean = camera.design.readout(simulation.all_frames(shown[:SEEN_FRAMES], self._patterns(context, camera)))
        return _Test(
            torch.cat(predicted).numpy(), data.labels[rows], data.sample_ids[rows], first.numpy(), clean.numpy()
        )

    def _patterns(self, context: StepContext, camera: TrainedCamera) -> Patterns:
        """What the test scenes are seen through, the same ones every time; a dynamic design has fresh ones for them."""
        import torch

        from protocols.keys import stream_seed

        seed = stream_seed(int(context.setting.seed or 0), "test", "patterns")
        return camera.design.patterns(torch.Generator().manual_seed(seed))


@dataclass(frozen=True)
class _Test:
    """What came of the test split. frames, noise_free: (n, 1, h, w) DN as read out, the first SEEN_FRAMES only."""

    predicted: IntArray
    labels: IntArray
    sample_ids: IntArray
    frames: npt.NDArray[np.float32]
    noise_free: npt.NDArray[np.float32] | None


def write_comparison(artifacts: Path) -> None:
    """Renew `comparison.csv` from all evaluations below `artifacts`, one row each, in a stable order."""
    rows = [json.loads(path.read_text()) for path in sorted(artifacts.glob(f"**/{EVALUATION_FILE}"))]
    stages = ("simulated", "captured", "finetuned")
    rows.sort(key=lambda row: (row["design"], stages.index(row["stage"]), row.get("step", ""), row["seed"]))
    text = io.StringIO()
    writer = csv.DictWriter(text, COLUMNS, extrasaction="ignore", lineterminator="\n")
    writer.writeheader()
    writer.writerows(rows)
    write_whole(artifacts / COMPARISON_FILE, text.getvalue())
