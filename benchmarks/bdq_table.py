"""What is left of the action and of the actor in clips, camera by camera: BDQ, its modules, and what it must beat.

    python benchmarks/bdq_table.py --out bdq [--clips msr3d_dev14.npz] [--designs original bdq_8] [--seeds 0 1 2]

Trains every camera by `train_video` (16 epochs; 7 on moving digits), then fresh networks on the finished camera: one
for the action, and for the actor a network of single frames, scored frame by frame and by its vote over a clip, one of
whole clips, and one of whole clips that knows the read-out. All read the hard staircase unless the name of the camera
ends in `_soft`. One line of OUT/cells.jsonl is one camera and seed; cells that are there are kept, so a run that was
stopped goes on. Writes OUT/bdq.md and OUT/bdq.png. Without --clips: moving digits.
"""

from __future__ import annotations

import argparse
import shutil
import time
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

import numpy as np
from cells import Cells, one_thread, say

PROTOCOL = Path(__file__).parents[1] / "configs" / "protocols" / "bdq.yaml"

DESIGNS: dict[str, tuple[str, str]] = {
    "original": ("{type: video_original}", "hard"),
    "downsample_16": ("{type: video_downsample, factor: 2}", "hard"),
    "downsample_8": ("{type: video_downsample, factor: 4}", "hard"),
    "blur_4": ("{type: video_blur, sigma_px: 4}", "hard"),
    "difference": ("{type: bdq, blur: null, quantise: null}", "hard"),
    "dead_zone_.05": ("{type: dead_zone, above: 0.05}", "hard"),
    "dead_zone_.1": ("{type: dead_zone, above: 0.1}", "hard"),
    "dead_zone_.15": ("{type: dead_zone, above: 0.15}", "hard"),
    "dead_zone_.2": ("{type: dead_zone, above: 0.2}", "hard"),
    "dead_zone_.3": ("{type: dead_zone, above: 0.3}", "hard"),
    "degrader_2": ("{type: learned_degrader, alpha: 2}", "hard"),
    "bdq_2": ("{type: bdq, alpha: 2}", "hard"),
    "bdq_8": ("{type: bdq, alpha: 8}", "hard"),
    "bdq_16": ("{type: bdq, alpha: 16}", "hard"),
    "bdq_2_soft": ("{type: bdq, alpha: 2}", "soft"),
    "bdq_8_soft": ("{type: bdq, alpha: 8}", "soft"),
    "B": ("{type: bdq, alpha: 2, difference: false, quantise: null}", "hard"),
    "Q": ("{type: bdq, alpha: 2, blur: null, difference: false}", "hard"),
    "BD": ("{type: bdq, alpha: 2, quantise: null}", "hard"),
    "BQ": ("{type: bdq, alpha: 2, difference: false}", "hard"),
    "DQ": ("{type: bdq, alpha: 2, blur: null}", "hard"),
}
"""Camera → its settings, and the read-out that it is trained for and judged by."""

HOW = """\
Percent of test clips, 95 % bootstrap over clips, seeds together; behind the strongest, who it is. *frame by frame* is
the mean over frames, which papers give; the other columns are of whole clips.
"""


def main() -> None:
    """See the module."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--out", type=Path, required=True)
    parser.add_argument("--clips", type=Path)
    parser.add_argument("--designs", nargs="+", choices=tuple(DESIGNS), default=tuple(DESIGNS))
    parser.add_argument("--seeds", nargs="+", type=int, default=[0, 1, 2])
    parser.add_argument("--table", action="store_true", help="only write table and picture of the cells there are")
    options = parser.parse_args()
    out: Path = options.out.absolute()
    one_thread(out / "work" / "state")
    cells = Cells(out / "cells.jsonl", ("data", "design", "seed"))
    data = "moving_digits" if options.clips is None else options.clips.stem
    wanted = [{"data": data, "design": name, "seed": seed} for seed in options.seeds for name in options.designs]
    for cell in [] if options.table else cells.missing(wanted):
        made = judged_cell(cell["design"], cell["seed"], options.clips, out)
        cells.add({**cell, **made})
        say(f"{cell['design']}, seed {cell['seed']}: action {np.mean(made['right']):.3f}, {made['seconds']:.0f} s")
    write_page(cells.of(data=data), out)


def judged_cell(design: str, seed: int, clips: Path | None, out: Path) -> dict[str, Any]:
    """One camera, trained and judged. Raises SystemExit where a step failed."""
    from ladder_cell import answers_of, climb

    from labctl.protocol import load_protocol, plan_run
    from labctl.rig_file import find_rig, load_rig
    from protocols.attack.record import AttackFolder

    settings, operator = DESIGNS[design]
    data = [] if clips is None else [f"data={{type: npz_clips, path: {clips.absolute()}}}"]
    changes = [
        *data,
        f"designs={{camera: {settings}}}",
        f"seeds=[{seed}]",
        f"steps.train.epochs={7 if clips is None else 16}",
        f"steps.train.operator={operator}",
        f"steps.action.operator={operator}",
        f"steps.actor.operator={operator}",
        "steps.audit=null",
        "steps.report=null",
    ]
    plan = plan_run(load_protocol(PROTOCOL, overrides=changes), load_rig(find_rig("sim-video")))
    work = out / "work" / f"{design}-{seed}"
    (work / "artifacts").mkdir(parents=True, exist_ok=True)
    controls = out / "work" / f"controls-{'digits' if clips is None else clips.stem}-{seed}"
    controls.mkdir(exist_ok=True)
    shared = work / "artifacts" / "attack-controls"
    if not shared.is_symlink():
        shared.symlink_to(controls, target_is_directory=True)
    began = time.process_time()
    done = climb(plan, work)
    if done.failed:
        raise SystemExit(f"{design}, seed {seed}: {done.failed}")
    results = {key.split("/")[0]: result for key, result in done.results.items()}
    attacks = [
        {**attack.as_row(), "items": [round(float(item), 4) for item in attack.items], "control": attack.reached}
        for attack in AttackFolder(results["actor"].outputs["attack"].parent)
    ]
    trained = {key: value for key, value in results["train"].metrics.items() if not isinstance(value, str)}
    shutil.rmtree(work)
    return {
        "right": [int(right) for right in answers_of(results["action"])[1]],
        "majority": results["action"].metrics["majority"],
        "trained": trained,
        "attacks": attacks,
        "seconds": round(time.process_time() - began, 1),
    }


def write_page(cells: Sequence[Mapping[str, Any]], out: Path) -> None:
    """`bdq.md` and `bdq.png` in `out`."""
    if not cells:
        raise SystemExit(f"there are no cells in {out}")
    from protocols.report.audit_figures import Panel, Point, tradeoff_figure

    lines = [
        HOW,
        "| camera | seeds | action | actor: strongest attacker | frame by frame | vote | whole clips "
        "| knows the read-out | sigma |",
        "|---" * 9 + "|",
    ]
    points = []
    for design in [name for name in DESIGNS if any(cell["design"] == name for cell in cells)]:
        own = [cell for cell in cells if cell["design"] == design]
        action = _interval([cell["right"] for cell in own])
        by_attack: dict[tuple[str, str, str], list[list[float]]] = {}
        proven: dict[tuple[str, str, str], bool] = {}
        for cell in own:
            for attack in cell["attacks"]:
                key = (attack["attacker"], attack["knows"], attack["where"])
                by_attack.setdefault(key, []).append(attack["items"])
                proven[key] = proven.get(key, True) and attack["proven"]
        found = {key: _interval(items) for key, items in by_attack.items()}
        best = max((key for key in found if proven[key]), key=lambda key: found[key][0], default=None)
        columns = [
            next((found[key] for key in found if _column(key) == name), None)
            for name in ("frame", "vote", "clip", "told")
        ]
        sigma = [cell["trained"].get("sigma_px") for cell in own if cell["trained"].get("sigma_px")]
        strongest = "–" if best is None else f"{_words(found[best])} ({_column(best)})"
        told = [strongest, *("–" if column is None else _words(column) for column in columns)]
        told.append(f"{np.mean(sigma):.2f}" if sigma else "–")
        seeds = ", ".join(str(cell["seed"]) for cell in own)
        lines.append(f"| {design} | {seeds} | {_words(action)} | " + " | ".join(told) + " |")
        if best is not None:
            points.append(Point(design, False, action, found[best]))
    chance = 100 * float(np.mean([attack["chance"] for cell in cells for attack in cell["attacks"]]))
    majority = 100 * float(np.mean([cell["majority"] for cell in cells]))
    lines += ["", f"Always naming the most frequent: action {majority:.1f}, actor {chance:.1f}."]
    (out / "bdq.md").write_text("\n".join(lines) + "\n")
    panels = [Panel("strongest attacker", "actor named right (%)", points, chance, None)]
    (out / "bdq.png").write_bytes(tradeoff_figure(panels, "action named right (%)").png)


def _column(key: tuple[str, str, str]) -> str:
    attacker, knows, where = key
    if "read-out" in knows:
        return "told"
    if where == "frame":
        return "frame"
    return "vote" if "frame" in attacker else "clip"


def _interval(items: Sequence[Sequence[float]]) -> tuple[float, float, float]:
    from protocols.metrics import mean_interval

    found = mean_interval([np.array(part, dtype=float) for part in items])
    return 100 * found.mean, 100 * found.low, 100 * found.high


def _words(interval: tuple[float, float, float]) -> str:
    return "{:.1f} [{:.1f}, {:.1f}]".format(*interval)


if __name__ == "__main__":
    main()
