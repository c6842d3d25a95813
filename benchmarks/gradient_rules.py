"""The four gradient rules while the bench departs from its rig file: direction of the slope, accuracy, exposures.

    python benchmarks/gradient_rules.py --out rules [--mismatch 0 0.5 1 2] [--seeds 0 1] [--epochs 1]

A bench is an as-built one whose errors are multiplied by the mismatch: 0 is the bench of the rig file, 1 the as-built
bench, 2 twice as far off. `physics_aware` has a twin fitted on that bench, by the step `fit_twin` and its exposures;
`learned_twin` starts at a twin that was never fitted, so it must find everything out from its own captures.

Cosine: the mask gradient of the training loss on one batch, by each rule, against the truth, over CELLS random cells,
half of them open. The truth is what the loss really changes by, on the noise-free bench, when one cell is opened or
closed: the move that a binary mask makes. That is no infinitesimal step, so the cosine stays below 1 where twin and
bench are the same, by the same for every rule. Asked at a camera that has learned on this bench (`straight_through`),
exposed as it was there, normalised by frames of the bench, for `sim` by simulated ones. A cosine over CELLS numbers
scatters by about (1 - cosine^2) / sqrt(CELLS). Accuracy: of mask and classifier trained on together for some epochs
from the simulated start, on the test split of digits, exposed on the bench. Seeds draw bench, start and training.
Writes OUT/rules.jsonl (a line for each rule, mismatch and seed), OUT/rules.md and OUT/rules.png.
"""

from __future__ import annotations

import argparse
import copy
import json
import os
import sys
import time
from collections.abc import Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np

if TYPE_CHECKING:
    import torch

    from labctl.calibration.record import Calibration
    from labctl.rig_file import RigSpec
    from labctl.steps import StepResult

RULES = ("sim", "straight_through", "physics_aware", "learned_twin")
COLOURS = {"sim": "#66707c", "straight_through": "#E69F00", "physics_aware": "#0072B2", "learned_twin": "#009E73"}

CELLS = 64
BATCH = 32
"""Scenes of the loss whose gradient is compared."""

NORMALISED = 256
"""Scenes whose frames give the normalisation."""

SMOOTHING = 0.1
"""Of labels, as in training."""

LEARNING_BATCHES = 16
"""Batches that `learned_twin` sees before its gradient is compared, as in the first half of an epoch."""

START_EPOCHS = 6

PROTOCOL = """
version: 1
name: rules
rig: as-built
seeds: [{seed}]
scene_px: [63, 63]
mask_cells: [32, 32]
data: {{type: digits}}
designs:
  learned: {{type: learned}}
steps:
  start: {{type: train, epochs: {start_epochs}, augmentation: {{shift_px: 3}}}}
  fitted: {{type: fit_twin, mask: "${{steps.start.mask}}", limit: 100, instruments: {{lamp: {{power: 1.0}}}}}}
"""
TRAINING = """
  {rule}: {{type: train, gradient: {rule}, epochs: {epochs}, augmentation: {{shift_px: 3}}, start: "{start}"{more}}}
"""
START = "${steps.start.model}"
MORE = {
    "sim": "",
    "straight_through": ", instruments: {lamp: {power: 1.0}}",
    "physics_aware": ', twin: "${steps.fitted.twin}", instruments: {lamp: {power: 1.0}}',
    "learned_twin": ', twin: "${steps.unfitted.twin}", instruments: {lamp: {power: 1.0}}',
}
UNFITTED = "  unfitted: {type: fit_twin, limit: 99, instruments: {lamp: {power: 1.0}}}\n"


def main() -> None:
    """Measure, and write what was found."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--out", type=Path, required=True)
    parser.add_argument("--mismatch", type=float, nargs="+", default=[0.0, 0.5, 1.0, 2.0])
    parser.add_argument("--seeds", type=int, nargs="+", default=[0, 1])
    parser.add_argument("--epochs", type=int, default=1)
    asked = parser.parse_args()
    asked.out.mkdir(parents=True, exist_ok=True)
    os.environ.setdefault("LABCTL_STATE", str((asked.out / "state").absolute()))
    found: list[dict[str, Any]] = []
    began = time.process_time()
    with (asked.out / "rules.jsonl").open("w") as lines:
        for seed in asked.seeds:
            start: dict[str, StepResult] = {}
            for mismatch in asked.mismatch:
                for row in cell(asked.out / "work", seed, mismatch, asked.epochs, start):
                    found.append(row)
                    lines.write(json.dumps(row) + "\n")
                    lines.flush()
                    sys.stderr.write(json.dumps(row) + "\n")
    table = as_markdown(found, asked.epochs)
    (asked.out / "rules.md").write_text(table)
    draw(found, asked.out / "rules.png")
    sys.stdout.write(f"{table}\n{time.process_time() - began:.0f} s of one core\n")


def cell(work: Path, seed: int, mismatch: float, epochs: int, start: dict[str, StepResult]) -> list[dict[str, Any]]:
    """One row for each rule on one bench. start: the camera of this seed; trained here when it is empty."""
    from ladder_cell import climb

    from labctl.protocol import load_protocol, plan_run
    from labctl.steps import StepResult

    folder = work / f"seed{seed}-mismatch{mismatch:g}"
    folder.mkdir(parents=True, exist_ok=True)
    rig = departing(seed + 1, mismatch)
    head = PROTOCOL.format(seed=seed, start_epochs=START_EPOCHS)
    (folder / "first.yaml").write_text(head)
    first = climb(plan_run(load_protocol(folder / "first.yaml"), rig), folder, given=start)
    _require(first.failed)
    place = f"learned/seed{seed}"
    start[f"start/{place}"] = first.results[f"start/{place}"]
    twin = first.results[f"fitted/{place}"].outputs["twin"]
    unfitted = StepResult({"twin": never_fitted(rig, twin).save(folder / "unfitted.npz")})
    text = (
        head
        + UNFITTED
        + "".join(TRAINING.format(rule=rule, epochs=epochs, start=START, more=MORE[rule]) for rule in RULES)
    )
    (folder / "rules.yaml").write_text(text)
    plan = plan_run(load_protocol(folder / "rules.yaml"), rig)
    done = climb(plan, folder, given={**first.results, f"unfitted/{place}": unfitted})
    _require(done.failed)
    setting = next(step.setting for step in plan if step.instance.name == "start")
    asked = done.results[f"straight_through/{place}"]
    closeness = cosines(setting, asked, {"physics_aware": twin, "learned_twin": unfitted.outputs["twin"]})
    fit = first.results[f"fitted/{place}"].metrics
    rows = []
    for rule in RULES:
        result = done.results[f"{rule}/{place}"]
        fitting = int(fit["exposures"]) if rule == "physics_aware" else 0
        rows.append(
            {
                "rule": rule,
                "mismatch": mismatch,
                "seed": seed,
                "cosine": closeness[rule],
                "accuracy": accuracy(setting, result),
                "exposures": int(result.metrics.get("exposures", 0)) + fitting,
                "mask_changes": int(result.metrics.get("mask_changes", 0)),
                "cpu_s": done.seconds[rule],
                "fit_cpu_s": first.seconds["fitted"],
                "twin_error": fit.get("error_after"),
            }
        )
    return rows


def departing(seed: int, mismatch: float) -> RigSpec:
    """The rig `as-built` whose bench has its errors of `seed` multiplied by `mismatch`."""
    from labctl.rig_file import find_rig, load_rig

    spec = load_rig(find_rig("as-built"), overrides=[f"world.seed={seed}"])
    errors, times = spec.world.errors(), mismatch
    nominal_gamma = spec.twin.panel.gamma
    changed = {
        "shift_px": [times * value for value in errors["shift_px"]],
        "rotation_deg": times * errors["rotation_deg"],
        "scale": 1 + times * (errors["scale"] - 1),
        "blur_px": times * errors["blur_px"],
        "panel_gamma": nominal_gamma + times * (errors["panel_gamma"] - nominal_gamma),
        "contrast": min(spec.twin.panel.contrast, errors["contrast"] / max(times, 1e-9)),
        **{name: times * errors[name] for name in ("vignetting", "dark_offset", "stray", "prnu", "column_offset")},
    }
    overrides = [f"world.{name}={json.dumps(value)}" for name, value in changed.items()]
    return load_rig(find_rig("as-built"), overrides=[f"world.seed={seed}", *overrides])


def never_fitted(spec: RigSpec, twin: Path) -> Calibration:
    """A twin file of this bench that holds what the rig file says, as if nobody had fitted anything."""
    from labctl.calibration.record import Calibration

    fitted = Calibration.load(twin)
    nominal = spec.twin.build(spec.roads)
    values = {}
    for name, value in fitted.record.values.items():
        owner = nominal if hasattr(nominal, name) else nominal.sensor
        if hasattr(owner, name):
            said = getattr(owner, name).detach().double().flatten().tolist()
            single = tuple(said) if isinstance(value.value, tuple) else said[0]
            values[name] = value.model_copy(update={"value": single})
    record = fitted.record.model_copy(update={"values": values, "arrays": {}})
    return Calibration(record)


def cosines(setting: Any, trained: StepResult, twins: dict[str, Path]) -> dict[str, float]:
    """Cosine of the mask gradient of each rule to the true one, over random cells."""
    import torch

    from labctl.calibration.record import Calibration
    from labctl.rig import Rig
    from labctl.rig_file import find_rig, load_rig
    from protocols.hardware_in_the_loop import HardwareExposer, LoopCamera, LoopExposure
    from protocols.model_file import load_camera
    from protocols.scenes import scenes_of
    from protocols.simulation import ExposureRule, Simulation
    from protocols.splits import Split
    from protocols.twin_fit.fitted import fitted_twin
    from protocols.twin_fit.refit import TwinRefit

    camera = load_camera(trained.outputs["model"], setting)
    data, spec = scenes_of(setting.protocol), setting.rig
    world = [f"world.{name}={json.dumps(value)}" for name, value in spec.world.model_dump(mode="json").items()]
    quiet = load_rig(find_rig("as-built"), overrides=[*world, "world.noise=false"])
    rows = data.part(Split.TRAIN)
    scenes, labels = torch.from_numpy(data.images[rows[:BATCH]]), torch.from_numpy(data.labels[rows[:BATCH]])
    mask, chosen = camera.mask, some_cells(camera.mask)
    camera.classifier.eval().requires_grad_(False)

    def loss(frames: torch.Tensor) -> torch.Tensor:
        logits = camera.classifier(frames)
        return torch.nn.functional.cross_entropy(logits, labels, label_smoothing=SMOOTHING)

    simulation = Simulation(spec, ExposureRule(0.9))
    fixed = Simulation(spec, ExposureRule(0.9, float(simulation.exposure_s(simulation.psf(mask)))))
    time_s, many = trained.metrics["exposure_s"], torch.from_numpy(data.images[rows[:NORMALISED]])
    found = {}
    with Rig(quiet) as rig:
        bench = LoopCamera(rig, camera.frame_shape)
        normal = bench.take(many, mask, time_s, range(NORMALISED)).pixels.astype(np.float32)
        camera.classifier.normalisation.fit(torch.from_numpy(normal))

        def measured(moved: torch.Tensor) -> float:
            frames = bench.take(scenes, moved, time_s, range(BATCH))
            return float(loss(torch.from_numpy(frames.pixels.astype(np.float32))))

        here, changes = measured(mask), []
        for row, column in chosen:
            flipped = mask.clone()
            flipped[row, column] = 1 - mask[row, column]
            changes.append((measured(flipped) - here) / float(flipped[row, column] - mask[row, column]))
        truth = torch.tensor(changes)
        for rule in RULES:
            moving = mask.clone().requires_grad_()
            normalisation = copy.deepcopy(camera.classifier.normalisation)
            if rule == "sim":
                camera.classifier.normalisation.fit(fixed.all_frames(fixed.shown(many), mask))
                frames = fixed.frames(fixed.shown(scenes), moving)
            else:
                given = twins.get(rule)
                fitted = None if given is None else fitted_twin(spec, Calibration.load(given))
                refit = TwinRefit(fitted) if rule == "learned_twin" and fitted is not None else None
                exposer = HardwareExposer(
                    bench,
                    rule,  # type: ignore[arg-type]
                    LoopExposure(time_s, mask, (1e-5, 10.0), None),
                    nominal=spec.twin.build(spec.roads),
                    fitted=fitted,
                    refit=refit,
                )
                for batch in range(1, 1 + LEARNING_BATCHES if refit else 1):
                    part = torch.from_numpy(data.images[rows[batch * BATCH : (batch + 1) * BATCH]])
                    exposer(part, moving, range(BATCH))
                frames = exposer(scenes, moving, range(BATCH))
            (gradient,) = torch.autograd.grad(loss(frames), moving)
            camera.classifier.normalisation = normalisation
            found[rule] = float(torch.cosine_similarity(gradient[tuple(chosen.T)], truth, dim=0))
    return found


def some_cells(mask: torch.Tensor) -> np.ndarray:
    """(n, 2) rows and columns of CELLS random cells, half of them open as far as there are so many."""
    random, picked = np.random.default_rng(0), []
    for state in (1.0, 0.0):
        places = np.argwhere(mask.numpy() == state)
        picked.append(random.permutation(places)[: CELLS // 2])
    return np.concatenate(picked)


def accuracy(setting: Any, result: StepResult) -> float:
    """Of a trained camera on the test split, as its bench measures it."""
    import torch

    from labctl.rig import Rig
    from protocols.capture.exposures import white_exposure
    from protocols.hardware_in_the_loop import LoopCamera
    from protocols.model_file import load_camera
    from protocols.scenes import scenes_of
    from protocols.splits import Split

    camera, data = load_camera(result.outputs["model"], setting), scenes_of(setting.protocol)
    rows = data.part(Split.TEST)
    with Rig(setting.rig) as rig:
        bench = LoopCamera(rig, camera.frame_shape)
        time_s = result.metrics.get("exposure_s")
        if time_s is None:  # trained in simulation: exposed as a capture would be
            mask = camera.mask.numpy()
            time_s = white_exposure(rig, mask, camera.scene_shape, camera.frame_shape, 0.9, first_id=1)
        frames = bench.take(torch.from_numpy(data.images[rows]), camera.mask, time_s, range(1000, 1000 + len(rows)))
    answers = camera.answers(torch.from_numpy(frames.pixels.astype(np.float32)))
    return float((answers.numpy() == data.labels[rows]).mean())


def as_markdown(found: Sequence[dict[str, Any]], epochs: int) -> str:
    """Mean over seeds, with the range of single seeds where there are several."""
    rows = [
        "| mismatch | rule | cosine to the true gradient | accuracy on the bench | exposures | mask changes |",
        "| ---: | --- | --- | --- | ---: | ---: |",
    ]
    for mismatch in sorted({row["mismatch"] for row in found}):
        for rule in RULES:
            of = [row for row in found if row["rule"] == rule and row["mismatch"] == mismatch]
            if of:
                counts = " | ".join(
                    f"{np.mean([row[name] for row in of]):.0f}" for name in ("exposures", "mask_changes")
                )
                rows.append(
                    f"| {mismatch:g} | {rule} | {_spread(of, 'cosine')} | {_spread(of, 'accuracy')} | {counts} |"
                )
    seeds = len({row["seed"] for row in found})
    rows += ["", f"{seeds} seeds, {epochs} epoch(s) on digits; in brackets lowest and highest of the seeds."]
    return "\n".join(rows) + "\n"


def draw(found: Sequence[dict[str, Any]], path: Path) -> None:
    """Cosine and accuracy over the mismatch, a line for each rule, a dot for each seed."""
    from matplotlib.figure import Figure

    figure = Figure(figsize=(9, 3.4), layout="constrained")
    labels = {"cosine": "cosine to the true mask gradient", "accuracy": "accuracy on the bench"}
    for axes, (name, label) in zip(figure.subplots(1, 2), labels.items(), strict=True):
        for place, rule in enumerate(RULES):
            of = [row for row in found if row["rule"] == rule]
            at = sorted({row["mismatch"] for row in of})
            mean = [np.mean([row[name] for row in of if row["mismatch"] == m]) for m in at]
            aside = 0.015 * (place - 1.5)
            axes.plot([m + aside for m in at], mean, color=COLOURS[rule], label=rule.replace("_", " "), lw=1.5)
            axes.plot([r["mismatch"] + aside for r in of], [r[name] for r in of], "o", color=COLOURS[rule], ms=4)
        axes.set_xlabel("errors of the bench, in those of the as-built one")
        axes.set_ylabel(label)
        axes.set_ylim(min(0.0, min(row[name] for row in found) - 0.05), 1.03)
        axes.grid(color="#e4e7eb")
        axes.set_axisbelow(True)
    figure.axes[0].legend(frameon=False, loc="lower left")
    figure.savefig(path, dpi=130)


def _spread(rows: Sequence[dict[str, Any]], name: str) -> str:
    values = [row[name] for row in rows]
    return f"{np.mean(values):.2f}" + (f" ({min(values):.2f}..{max(values):.2f})" if len(values) > 1 else "")


def _require(failed: dict[str, str]) -> None:
    if failed:
        raise SystemExit("; ".join(f"{name}: {why}" for name, why in failed.items()))


if __name__ == "__main__":
    main()
