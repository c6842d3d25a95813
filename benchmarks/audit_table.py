"""What attackers get out of lensless cameras and software blur of equal task accuracy, simulated and as built.

    python benchmarks/audit_table.py --out audit --faces lfw_min20.npz --seeds 0 1 2 [--designs disc random] [--rig 401]

Brings every design to the same accuracy on the validation split (audit_cameras.py), attacks it as
configs/protocols/audit-faces.yaml does, on simulated frames and on captures of one as-built rig less their closed
mask, and writes OUT/audit.md and OUT/audit.png. One line of OUT/cells.jsonl is one design, seed and kind of frames;
cells that are there are kept, so a run that was stopped goes on. --stages cameras trains only.

--faces: as of lensless-faces.yaml, with an array `expression` for the leak of an attribute. Frames, models and
calibrations lie in OUT/work: they show faces.
"""

from __future__ import annotations

import argparse
import os
import shutil
import time
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

from audit_cameras import (
    CLOSE_ENOUGH,
    KNOBS,
    TARGET,
    Variant,
    mean_accuracy,
    model_of,
    nearest_knobs,
    plan_of,
    train_camera,
)
from cells import Cells, say

ATTACKED = ("simulated", "captured")

ATTACKS = ("named", "expression", "known", "learned", "learned_whole", "believed", "told", "long", "networks")
"""Steps of an attacked cell: names from frames; expression from frames; pictures by a known PSF; who is in those of
the centre, and of the whole scene, by an identifier of reconstructions; pictures by an estimated and a wrong PSF, and
by all training pairs; by the pattern of every frame, of masks that change; names again with a longer budget; pictures
by learned networks."""

USUAL_ATTACKS = ("named", "known", "learned", "believed", "told")

NETWORK = "{type: small-residual}"
LOOK = "augmentation: {shift_px: 3, flip: true}"
BUDGET = f"budget: {{epochs: 70, first_cycle: 10, {LOOK}}}"
LINEAR = "{type: linear, copies: 2}"
LONG = f"budget: {{epochs: 310, first_cycle: 10, {LOOK}}}"
IDENTIFIER = f"identifier: {NETWORK}, {BUDGET}"


def main() -> None:
    """See the module."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--out", type=Path, required=True)
    parser.add_argument("--faces", type=Path, required=True)
    parser.add_argument("--designs", nargs="+", choices=tuple(KNOBS), default=tuple(KNOBS))
    parser.add_argument("--seeds", nargs="+", type=int, default=[0])
    parser.add_argument("--attacked-seeds", nargs="+", type=int, help="of --seeds; without, all")
    parser.add_argument("--rig", type=int, default=401, help="seed of the as-built world")
    parser.add_argument("--stages", nargs="+", choices=("cameras", *ATTACKED), default=("cameras", *ATTACKED))
    parser.add_argument("--attacks", nargs="+", choices=ATTACKS, default=USUAL_ATTACKS)
    parser.add_argument("--table", action="store_true", help="only write table and picture of the cells there are")
    options = parser.parse_args()
    out: Path = options.out.absolute()
    (out / "work" / "cameras").mkdir(parents=True, exist_ok=True)
    os.environ.setdefault("OMP_NUM_THREADS", "1")
    os.environ["LABCTL_STATE"] = str(out / "work" / "state")
    data = f"{{type: npz, path: {options.faces.absolute()}, min_per_identity: 50}}"
    if not options.table:
        _all_cells(options, data, out)
    from audit_table_page import write_page

    write_page(merged(cells_of(out).of()), out)


def _all_cells(options: argparse.Namespace, data: str, out: Path) -> None:
    import torch

    torch.set_num_threads(1)
    first, others = options.seeds[0], options.seeds[1:]
    if "cameras" in options.stages:
        for design in options.designs:
            for knob in KNOBS[design][1]:
                _train(Variant(design, knob, first), data, out)
            for knob in nearest_knobs(design, [first], out)[:2]:
                for seed in others:
                    _train(Variant(design, knob, seed), data, out)
                if abs(mean_accuracy(design, knob, options.seeds, out) - TARGET) <= CLOSE_ENOUGH:
                    break
    for seed in options.attacked_seeds or options.seeds:
        for design in options.designs:
            knobs = nearest_knobs(design, options.seeds, out)
            for stage in ATTACKED:
                missing = [name for name in options.attacks if name not in there(out, design, seed, stage)]
                if stage not in options.stages or not knobs or not missing:
                    continue
                variant = Variant(design, knobs[0], seed)
                try:
                    cell = attacked_cell(variant, stage, data, options.rig, out, missing)
                except RuntimeError as error:
                    _say(f"{variant.name}, {stage}", {"failed": str(error)})
                    continue
                cells_of(out).add(cell)
                _say(f"{variant.name}, {stage}", {"accuracy": cell["accuracy"], "seconds": cell["seconds"]})


def _train(variant: Variant, data: str, out: Path) -> None:
    _say(variant.name, train_camera(variant, data, out))


def attacked_cell(
    variant: Variant, stage: str, data: str, rig: int, out: Path, attacks: Sequence[str]
) -> dict[str, Any]:
    """One design and seed, attacked on frames of one kind. Raises RuntimeError where a step failed."""
    from ladder_cell import climb

    began = time.process_time()
    folder = out / "work" / f"{variant.name}-{stage}"
    if stage == "captured":  # attacks that are there are kept, captures are taken anew
        shutil.rmtree(folder, ignore_errors=True)
    # Controls are the same for all designs of a seed: kept beside the cells.
    controls = out / "work" / f"controls-{variant.seed}"
    controls.mkdir(exist_ok=True)
    (folder / "artifacts").mkdir(parents=True, exist_ok=True)
    shared = folder / "artifacts" / "attack-controls"
    if not shared.is_symlink():
        shared.symlink_to(controls, target_is_directory=True)
    captured = stage == "captured"
    overrides = [f"data={data}", *variant.overrides, *attack_steps(variant, out, captured)]
    names = ("calibrate", "train", "capture", "judged", *attacks)
    plan = plan_of(overrides, only=names, rig=("as-built", f"world.seed={rig}") if captured else ("sim",))
    given = {}
    if captured:
        from dataclasses import replace

        first = replace(plan, steps=tuple(step for step in plan if step.instance.name == "calibrate"))
        given = climb(first, out / "work" / f"rig{rig}").results
    done = climb(plan, folder, given=given)
    if done.failed:
        raise RuntimeError(str(done.failed))
    cell = _cell_of(done, variant, stage, attacks)
    cell["seconds"] = round(time.process_time() - began, 1)
    shutil.rmtree(folder)
    return cell


def attack_steps(variant: Variant, out: Path, captured: bool) -> list[str]:
    """Overrides that take a trained camera, capture with it if so, and attack it."""
    of_frames, corrected = "", ""
    steps = [f"steps.train={{type: trained, path: {model_of(variant, out)}}}"]
    patterns = ', patterns: "${steps.train.model}"' if variant.design.startswith("dynamic") else ""
    if captured:
        of_frames = ', frames: "${steps.capture.frames}"'
        corrected = ', calibration: "${steps.calibrate.calibration}", corrections: [dark, flat, gain]'
        steps += [
            "steps.calibrate={type: calibrate, kinds: [dark, photon_transfer, flat], instruments: {lamp: {power: 1.0}},"
            " dark: {darken: {lamp: {power: 0.0}}}}",
            'steps.capture={type: capture, mask: "${steps.train.mask}", closed_mask: subtract, witness: none,'
            f" instruments: {{lamp: {{power: 1.0}}}}{patterns}}}",
        ]
    seen = f'model: "${{steps.train.model}}"{of_frames}{corrected}'
    kind = "captured" if captured else "simulated"
    return [
        *steps,
        f"steps.judged={{type: evaluate, stage: {kind}, {seen}}}",
        f"steps.named={{type: attack_recognise, {seen}, attackers: [{LINEAR}, {NETWORK}], {BUDGET}}}",
        f"steps.expression={{type: attack_recognise, what: expression, {seen}, attackers: [{LINEAR}, {NETWORK}], "
        f"{BUDGET}}}",
        f"steps.known={{type: attack_invert, {seen}, psf: [known], methods: [{{method: tikhonov}}, "
        f"{{method: admm_tv}}, {{method: fista}}, {{method: lmmse}}], reidentify: clean, {IDENTIFIER}}}",
        f"steps.learned={{type: attack_invert, {seen}, psf: [known], methods: [{{method: lmmse}}], "
        f"judged: [centre], {IDENTIFIER}}}",
        f"steps.learned_whole={{type: attack_invert, {seen}, psf: [known], methods: [{{method: lmmse}}], "
        f"judged: [field], {IDENTIFIER}}}",
        f"steps.believed={{type: attack_invert, {seen}, psf: [estimated, wrong], methods: [{{method: lmmse}}, "
        f"{{method: regression}}], reidentify: clean, {IDENTIFIER}}}",
        f"steps.told={{type: attack_invert, {seen}, psf: [told], methods: [{{method: tikhonov}}], reidentify: clean, "
        f"{IDENTIFIER}}}",
        f"steps.long={{type: attack_recognise, {seen}, attackers: [{NETWORK}], {LONG}}}",
        f"steps.networks={{type: attack_invert, {seen}, psf: [known], methods: [{{method: unrolled}}, "
        f"{{method: unet}}], reidentify: clean, {IDENTIFIER}}}",
        "steps.simulated=null",
        "steps.identity=null",
        "steps.inverted=null",
        "steps.audit=null",
    ]


def cells_of(out: Path) -> Cells:
    """Attacked cells, each with the steps that it was attacked by."""
    return Cells(out / "cells.jsonl", ("design", "seed", "stage", "steps"))


def merged(cells: Sequence[Mapping[str, Any]]) -> list[dict[str, Any]]:
    """Attacks of one design, seed and stage as one cell; of a step that was made twice, the later ones."""
    found: dict[tuple[str, int, str], dict[str, Any]] = {}
    for cell in cells:
        key, steps = (cell["design"], cell["seed"], cell["stage"]), cell["steps"].split()
        before = found.get(key, {"steps": "", "attacks": []})
        kept = [attack for attack in before["attacks"] if attack["step"] not in steps]
        found[key] = {**cell, "steps": f"{before['steps']} {cell['steps']}", "attacks": kept + cell["attacks"]}
    return list(found.values())


def there(out: Path, design: str, seed: int, stage: str) -> set[str]:
    """Steps that this cell was attacked by."""
    cells = cells_of(out).of(design=design, seed=seed, stage=stage)
    return {step for cell in cells for step in cell["steps"].split()}


def _cell_of(done: Any, variant: Variant, stage: str, steps: Sequence[str]) -> dict[str, Any]:
    from ladder_cell import answers_of

    from protocols.attack.record import AttackFolder

    results = {key.split("/")[0]: result for key, result in done.results.items()}
    judged, attacks = results["judged"], []
    for name in steps:
        for attack in AttackFolder(results[name].outputs["attack"].parent):
            items = [round(float(value), 4) for value in attack.items]
            control = round(attack.reached, 4)
            attacks.append({**attack.as_row(), "step": name, "items": items, "control": control})
    return {
        "design": variant.design,
        "knob": variant.knob,
        "seed": variant.seed,
        "stage": stage,
        "steps": " ".join(steps),
        "accuracy": judged.metrics["accuracy"],
        "right": [int(right) for right in answers_of(judged)[1]],
        "aperture_ratio": judged.metrics["aperture_ratio"],
        "blurriness": judged.metrics["blurriness_noise_free"],
        "attacks": attacks,
    }


def _say(name: str, told: dict[str, Any]) -> None:
    kept: Sequence[str] = ("val_accuracy", "accuracy", "aperture_ratio", "seconds", "failed")
    words = ", ".join(f"{key} {told[key]}" for key in kept if key in told)
    say(f"{name}: {words}")


if __name__ == "__main__":
    main()
