"""What attackers get out of lensless cameras and software blur of equal task accuracy, simulated and as built.

    python benchmarks/audit_table.py --out audit --faces lfw_min20.npz [--designs disc random] [--seeds 0 1] [--rig 401]

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
from collections.abc import Sequence
from pathlib import Path
from typing import Any

from audit_cameras import KNOBS, Variant, chosen_knob, model_of, plan_of, train_camera, variants
from cells import Cells, say

ATTACKED = ("simulated", "captured")

NETWORK = "{type: small-residual}"
LOOK = "augmentation: {shift_px: 3, flip: true}"
BUDGET = f"budget: {{epochs: 24, first_cycle: 8, {LOOK}}}"
LINEAR = "{type: linear, copies: 2}"
IDENTIFIER = f"identifier: {NETWORK}, {BUDGET}"


def main() -> None:
    """See the module."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--out", type=Path, required=True)
    parser.add_argument("--faces", type=Path, required=True)
    parser.add_argument("--designs", nargs="+", choices=tuple(KNOBS), default=tuple(KNOBS))
    parser.add_argument("--seeds", nargs="+", type=int, default=[0])
    parser.add_argument("--rig", type=int, default=401, help="seed of the as-built world")
    parser.add_argument("--stages", nargs="+", choices=("cameras", *ATTACKED), default=("cameras", *ATTACKED))
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

    write_page(cells_of(out).of(), out)


def _all_cells(options: argparse.Namespace, data: str, out: Path) -> None:
    import torch

    torch.set_num_threads(1)
    if "cameras" in options.stages:
        for variant in variants(options.designs, options.seeds[0]):
            _say(variant.name, train_camera(variant, data, out))
    for seed in options.seeds:
        for design in options.designs:
            knob = chosen_knob(design, options.seeds[0], out)
            for stage in ATTACKED:
                if stage not in options.stages or knob is None or (design, seed, stage) in cells_of(out).there:
                    continue
                variant = Variant(design, knob, seed)
                train_camera(variant, data, out)
                try:
                    cell = attacked_cell(variant, stage, data, options.rig, out)
                except RuntimeError as error:
                    _say(f"{variant.name}, {stage}", {"failed": str(error)})
                    continue
                cells_of(out).add(cell)
                _say(f"{variant.name}, {stage}", {"accuracy": cell["accuracy"], "seconds": cell["seconds"]})


def attacked_cell(variant: Variant, stage: str, data: str, rig: int, out: Path) -> dict[str, Any]:
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
    names = ("calibrate", "train", "capture", "judged", "named", "expression", "known", "learned", "believed", "told")
    plan = plan_of(overrides, only=names, rig=("as-built", f"world.seed={rig}") if captured else ("sim",))
    given = {}
    if captured:
        from dataclasses import replace

        first = replace(plan, steps=tuple(step for step in plan if step.instance.name == "calibrate"))
        given = climb(first, out / "work" / f"rig{rig}").results
    done = climb(plan, folder, given=given)
    if done.failed:
        raise RuntimeError(str(done.failed))
    cell = _cell_of(done, variant, stage, folder)
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
        f"steps.expression={{type: attack_recognise, what: expression, {seen}, attackers: [{LINEAR}], {BUDGET}}}",
        f"steps.known={{type: attack_invert, {seen}, psf: [known], methods: [{{method: tikhonov}}, {{method: lmmse}}], "
        f"reidentify: clean, {IDENTIFIER}}}",
        f"steps.learned={{type: attack_invert, {seen}, psf: [known], methods: [{{method: lmmse}}], judged: [centre], "
        f"{IDENTIFIER}}}",
        f"steps.believed={{type: attack_invert, {seen}, psf: [estimated, wrong], methods: [{{method: lmmse}}, "
        f"{{method: regression}}], reidentify: clean, {IDENTIFIER}}}",
        f"steps.told={{type: attack_invert, {seen}, psf: [told], methods: [{{method: tikhonov}}], reidentify: clean, "
        f"{IDENTIFIER}}}",
        "steps.simulated=null",
        "steps.identity=null",
        "steps.inverted=null",
        "steps.audit=null",
    ]


def cells_of(out: Path) -> Cells:
    """All cells, the last of each."""
    return Cells(out / "cells.jsonl", ("design", "seed", "stage"))


def _cell_of(done: Any, variant: Variant, stage: str, folder: Path) -> dict[str, Any]:
    from ladder_cell import answers_of

    from protocols.attack.record import AttackFolder

    results = {key.split("/")[0]: result for key, result in done.results.items()}
    judged, attacks = results["judged"], []
    for name in ("named", "expression", "known", "learned", "believed", "told"):
        for attack in AttackFolder(results[name].outputs["attack"].parent):
            items = [round(float(value), 4) for value in attack.items]
            control = round(attack.reached, 4)
            attacks.append({**attack.as_row(), "items": items, "control": control})
    return {
        "design": variant.design,
        "knob": variant.knob,
        "seed": variant.seed,
        "stage": stage,
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
