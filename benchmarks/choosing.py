"""Are scenes that `choose` picks worth more than random ones? Fine-tuning on as many of each, on several as-built rigs.

    python benchmarks/choosing.py --model RUN/artifacts/train/learned/seed0/model.pt --rigs 4 --out FOLDER

For every rig the twin is fitted, all training scenes are captured once, and the camera is fine-tuned on parts of these
frames: at random and as ranked by `choose` at several sharpnesses. Differences are paired by rig.
"""

from __future__ import annotations

import argparse
import json
from pathlib import Path
from typing import Any

import numpy as np
import yaml

import labctl

CHOICES: dict[str, dict[str, float]] = {
    "random": {},
    "half": {"random_share": 0.5},
    "drawn": {"random_share": 0.0},
    "greedy": {"random_share": 0.0, "sharpness": 100.0},
}
"""Settings of `choose`; `random` does without it."""


def main() -> None:
    """Run all rigs, print and write the table."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--model", type=Path, required=True, help="model.pt of a camera trained on the rig `sim`")
    parser.add_argument("--out", type=Path, required=True)
    parser.add_argument("--rigs", type=int, default=4)
    parser.add_argument("--counts", type=int, nargs="+", default=[40, 120])
    parser.add_argument("--repeats", type=int, default=3)
    parser.add_argument("--exposure-s", type=float, default=0.01)
    options = parser.parse_args()
    options.out.mkdir(parents=True, exist_ok=True)
    path = options.out / "choosing.yaml"
    path.write_text(yaml.safe_dump(protocol(options), sort_keys=False))
    rows = [one_rig(path, options, seed) for seed in range(1, options.rigs + 1)]
    text = table(rows, options.counts)
    (options.out / "choosing.md").write_text(text)
    print(text)  # noqa: T201


def protocol(options: argparse.Namespace) -> dict[str, Any]:
    """Fit, rank, capture all, and a learning curve for each way to choose."""
    model, frames = "${steps.train.model}", "${steps.capture.frames}"
    curve = {
        "type": "learning_curve", "model": model, "frames": frames, "counts": options.counts,
        "repeats": options.repeats, "epochs": 20,
    }  # fmt: skip
    steps: dict[str, Any] = {
        "train": {"type": "trained", "path": str(options.model.absolute())},
        "fit": {"type": "fit_twin", "mask": "${steps.train.mask}"},
        "capture": {
            "type": "capture", "mask": "${steps.train.mask}", "val": 0, "exposure_s": options.exposure_s,
            "witness": "none",
        },
    }  # fmt: skip
    for name, settings in CHOICES.items():
        step = name.replace(" ", "_")
        if name != "random":
            ranked = {"type": "choose", "model": model, "twin": "${steps.fit.twin}", **settings}
            steps[f"choose_{step}"] = ranked
        samples = {} if name == "random" else {"samples": f"${{steps.choose_{step}.samples}}"}
        steps[step] = {**curve, **samples}
    return {
        "version": 1, "name": "choosing", "scene_px": [63, 63], "mask_cells": [32, 32], "data": {"type": "digits"},
        "designs": {"learned": {"type": "learned"}}, "steps": steps,
    }  # fmt: skip


def one_rig(path: Path, options: argparse.Namespace, seed: int) -> dict[str, Any]:
    """The curves of one rig, as `curve.json` has them; kept, so that another call goes on."""
    kept = options.out / f"rig{seed}.json"
    if not kept.exists():
        out = options.out / f"run{seed}"
        labctl.run_protocol(path, rig="as-built", set={"rig.world.seed": seed}, out=out)
        curves = {name: next(out.glob(f"artifacts/{name.replace(' ', '_')}/**/curve.json")) for name in CHOICES}
        found = {name: json.loads(curve.read_text()) for name, curve in curves.items()}
        kept.write_text(json.dumps(found))
    return dict(json.loads(kept.read_text()))


def table(rows: list[dict[str, Any]], counts: list[int]) -> str:
    """Mean accuracy over rigs, and the paired difference to random with its 95 % t interval over rigs."""
    from scipy.stats import t

    start = np.mean([row["random"]["start"]["accuracy"] for row in rows])
    lines = [
        f"{len(rows)} as-built rigs, {rows[0]['random']['n_test']} test frames each; before fine-tuning {start:.3f}",
        "",
        "| frames | choice | accuracy | minus random |",
        "|---|---|---|---|",
    ]
    for place, count in enumerate(counts):
        found = {name: np.array([row[name]["points"][place]["accuracy"] for row in rows]) for name in CHOICES}
        for name, accuracy in found.items():
            difference = accuracy - found["random"]
            reach = t.ppf(0.975, max(1, len(rows) - 1)) * difference.std(ddof=min(1, len(rows) - 1)) / len(rows) ** 0.5
            said = "" if name == "random" else f"{difference.mean():+.3f} ± {reach:.3f}"
            lines.append(f"| {count} | {name} | {accuracy.mean():.3f} | {said} |")
    return "\n".join(lines) + "\n"


if __name__ == "__main__":
    main()
