"""`evaluate`: accuracy with its interval, and what the frames look like; the only step that reads the test split."""

from __future__ import annotations

import csv
import io
import json
from collections.abc import Mapping
from pathlib import Path
from typing import Annotated, Any, ClassVar, Literal

import numpy as np

from labctl.durable import write_json, write_whole
from labctl.errors import BadInput, RunFailed
from labctl.references import OutputKind, Reference
from labctl.steps import Estimate, Source, Step, StepContext, StepResult, StepSetting
from protocols.fit import check_captures, check_fit
from protocols.splits import Split

COLUMNS = (
    "design", "rig", "stage", "seed", "accuracy", "accuracy_low", "accuracy_high", "majority", "n_test", "blurriness",
    "aperture_ratio", "light_throughput",
)  # fmt: skip
EVALUATION_FILE, COMPARISON_FILE = "evaluation.json", "comparison.csv"


class Evaluate(Step):
    """Reads the test split once: simulated when no frames are given, captured otherwise.

    Writes `evaluation.json`, `predictions.npz` (label, predicted, sample_id) and renews `artifacts/comparison.csv`.
    """

    where: ClassVar[Literal["host", "child"]] = "child"
    outputs: ClassVar[Mapping[str, str]] = {"evaluation": "evaluation"}
    uses: ClassVar[frozenset[Source]] = frozenset({"data", "design", "model", "twin"})
    modules: ClassVar[tuple[str, ...]] = ("torch", "protocols.models", "skimage.measure")

    type: Literal["evaluate"]

    model: Annotated[Reference, OutputKind("model")]
    """The trained camera to test."""

    frames: Annotated[Reference, OutputKind("frames")] | None = None
    """Captured frames; without them the twin makes frames."""

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

    def estimate(self, setting: StepSetting) -> Estimate:
        """Compute only."""
        return Estimate(seconds=2, disk_bytes=2**20)

    def run(self, context: StepContext) -> StepResult:
        """Test."""
        import torch

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
        simulation = Simulation(setting.rig, camera.exposure)
        psf, open_psf = (simulation.psf(mask) for mask in (camera.mask, torch.ones_like(camera.mask)))
        change = camera.simulator_change(setting) if self.frames is None else None
        if change:
            context.log(f"careful: {change}; the accuracy below is not that of the trained camera: train again")
        frames, clean, labels, ids = self._test_frames(context, data, simulation, camera)
        predicted = camera.answers(torch.from_numpy(frames)).numpy()
        interval = accuracy_interval([predicted == labels])
        metrics: dict[str, Any] = {
            "stage": self.stage,
            "accuracy": interval.mean,
            "accuracy_low": interval.low,
            "accuracy_high": interval.high,
            "majority": majority_baseline(data.labels[data.part(Split.TRAIN)], labels),
            "n_test": len(labels),
            "blurriness": blurriness(frames[:, 0]),
            "blurriness_noise_free": None if clean is None else blurriness(clean[:, 0]),
            "aperture_ratio": aperture_ratio(camera.mask),
            "light_throughput": light_throughput(psf, open_psf),
            "exposure": camera.exposure.exposure_s,
            "white_e": simulation.white_e(psf),
            "simulator_changed": change,
        }
        np.savez_compressed(context.folder / "predictions.npz", label=labels, predicted=predicted, sample_id=ids)
        row = {"design": setting.design, "rig": setting.rig.name, "seed": setting.seed, **metrics}
        write_json(context.folder / EVALUATION_FILE, row)
        write_comparison(context.run_folder / "artifacts")
        return StepResult({"evaluation": context.folder / EVALUATION_FILE}, metrics)

    def _test_frames(self, context: StepContext, data: Any, simulation: Any, camera: Any) -> tuple[Any, Any, Any, Any]:
        """(frames, noise-free frames or None, labels, sample ids) of the test split."""
        import torch

        from protocols.captured import labelled_frames
        from protocols.keys import stream_seed
        from protocols.simulation import ShownScenes
        from sim.noise import TorchDraws

        if self.frames is not None:
            captured = labelled_frames(context.input(self.frames), camera.class_names)
            test = captured.part(Split.TEST)
            if len(test) == 0:
                raise RunFailed("no test frames were captured; set `test: all` in the capture step")
            return captured.frames[test], None, captured.labels[test], captured.sample_ids[test]
        test = data.part(Split.TEST)
        shown = ShownScenes(simulation, data.images, test)
        generator = torch.Generator().manual_seed(stream_seed(int(context.setting.seed or 0), "test"))
        noisy = simulation.all_frames(shown, camera.mask, draws=TorchDraws(generator))
        clean = simulation.all_frames(shown, camera.mask)
        return noisy.numpy(), clean.numpy(), data.labels[test], data.sample_ids[test]


def write_comparison(artifacts: Path) -> None:
    """Renew `comparison.csv` from all evaluations below `artifacts`, one row each, in a stable order."""
    rows = [json.loads(path.read_text()) for path in sorted(artifacts.glob(f"**/{EVALUATION_FILE}"))]
    stages = ("simulated", "captured", "finetuned")
    rows.sort(key=lambda row: (row["design"], stages.index(row["stage"]), row["seed"]))
    text = io.StringIO()
    writer = csv.DictWriter(text, COLUMNS, extrasaction="ignore", lineterminator="\n")
    writer.writeheader()
    writer.writerows(rows)
    write_whole(artifacts / COMPARISON_FILE, text.getvalue())
