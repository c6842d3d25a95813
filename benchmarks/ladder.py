"""What each remedy gives back of the gap between simulated and real, over simulated benches and training seeds.

    python benchmarks/ladder.py --out ladder --faces lfw_min20.npz [--workers 2] [--rigs 1 2 3] [--seeds 0 1]

Climbs configs/protocols/ladder.yaml for every as-built rig (`world.seed`), training seed and data set, step by step in
this process. Cameras are trained once for each seed, in the simulator that knows no rig. One line of OUT/cells.jsonl is
one cell; cells that are there are kept, so a run that was stopped goes on. Then OUT/ladder.md, OUT/ladder.png.

--faces: `images` (N, H, W), `identity` (N,), `split` (N,) in one npz file, as for lensless-faces.yaml; by default
faces_lfw/lfw_min20.npz in the folder that LABCTL_DATA names. Without it only digits are climbed. Frames, models and
calibrations lie in OUT/work while they are needed and are removed behind a cell: they show faces.
"""

from __future__ import annotations

import argparse
import os
import shutil
import sys
import time
from collections.abc import Sequence
from concurrent.futures import ProcessPoolExecutor, as_completed
from dataclasses import dataclass
from multiprocessing import get_context
from pathlib import Path
from typing import TYPE_CHECKING, Any

from cells import Cells, one_thread, say
from ladder_table import HOW, Rung, as_markdown, draw, facts_as_markdown, rows_of

if TYPE_CHECKING:
    from labctl.protocol import RunPlan

PROTOCOL = Path(__file__).parents[1] / "configs" / "protocols" / "ladder.yaml"
CEILING = "ceiling"

RUNGS = (
    Rung("ideal", "0  simulated frames", "simulated", None),
    Rung("untouched", "1  as built, untouched", "untouched", "ideal"),
    Rung("dark_flat_gain", "2  dark, flat, gain", "corrected", "untouched"),
    Rung("registration", "3  + registration", "registered", "dark_flat_gain"),
    Rung("closed", "3' minus closed mask; dark, flat, gain", "closed_corrected", "dark_flat_gain"),
    Rung("closed_registration", "3' + registration", "closed_registered", "closed"),
    Rung("twin", "4  twin fitted, classifier retrained", "twin_evaluated", "registration"),
    Rung("twin_mask", "4' twin fitted, mask and classifier", "twin_mask_evaluated", "twin"),
    Rung("labels_40", "5  fine-tuned on 40 frames", "finetuned_40", "untouched", "40"),
    Rung("labels_120", "5  fine-tuned on 120 frames", "finetuned_120", "labels_40", "120"),
    Rung("labels_240", "5  fine-tuned on 240 frames", "finetuned_240", "labels_120", "240"),
    Rung("loop", "6  hardware in the loop", "loop_evaluated", "labels_240", "all, in the loop"),
    Rung(CEILING, "ceiling: classifier trained on the rig", "ceiling_evaluated", "labels_240", "all, in the loop"),
)


EVALUATED = frozenset(rung.step for rung in RUNGS)


@dataclass(frozen=True)
class DataSet:
    """What is climbed with: overrides of the protocol."""

    name: str
    overrides: tuple[str, ...] = ()


@dataclass(frozen=True)
class Job:
    """All cells of one rig that are still to be climbed, of one data set after the other."""

    rig: int
    cells: tuple[tuple[DataSet, int], ...]
    out: Path


FACES_EPOCHS = {"train": 60, "twin_train": 10, "twin_mask_train": 14, "loop": 8, "ceiling": 10}
"""A few faces need more passes than the many digits of the protocol."""


WITHOUT_TWIN_MASK = ("steps.twin_mask_train=null", "steps.twin_mask_capture=null", "steps.twin_mask_evaluated=null")


def faces(path: Path) -> DataSet:
    """LFW-11. Faces may be mirrored, digits may not."""
    changes = [
        change
        for step, epochs in FACES_EPOCHS.items()
        for change in (f"steps.{step}.epochs={epochs}", f"steps.{step}.augmentation={{shift_px: 3, flip: true}}")
    ]
    learned = "{type: learned, start: blob, start_radius_cells: 3.0, rate: 0.01, move_from: 0.3}"
    return DataSet(
        "faces",
        (f"data={{type: npz, path: {path}, min_per_identity: 50}}", f"designs.learned={learned}", *changes),
    )


def main() -> None:
    """See the module."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--out", type=Path, required=True)
    parser.add_argument("--faces", type=Path, default=None)
    parser.add_argument("--data", nargs="+", choices=("faces", "digits"), default=("faces", "digits"))
    parser.add_argument("--rigs", nargs="+", type=int, default=list(range(1, 11)), help="seeds of as-built worlds")
    parser.add_argument("--seeds", nargs="+", type=int, default=[0, 1, 2], help="of the trainings")
    parser.add_argument("--workers", type=int, default=1)
    parser.add_argument(
        "--no-twin-mask", action="store_true", help="leave out rung 4', mask and classifier in the twin"
    )
    parser.add_argument("--table", action="store_true", help="only write table and picture of the cells there are")
    options = parser.parse_args()
    out: Path = options.out.absolute()
    out.mkdir(parents=True, exist_ok=True)
    os.environ.setdefault("OMP_NUM_THREADS", "1")
    sets = _data_sets(options.faces, options.data)
    if options.no_twin_mask:
        sets = [DataSet(data.name, (*data.overrides, *WITHOUT_TWIN_MASK)) for data in sets]
    if not options.table:
        _climb_all(sets, options.rigs, options.seeds, out, options.workers)
    write_table(out)


def write_table(out: Path) -> None:
    """`ladder.md` and `ladder.png` of the cells in `out`."""
    cells = _cells(out).of()
    if not cells:
        raise SystemExit(f"there are no cells in {out}; run without --table")
    names = {"faces": "LFW-11", "digits": "Digits"}
    parts, ladders = [], {}
    for data, title in names.items():
        own = [cell for cell in cells if cell["data"] == data]
        if own:
            rows = rows_of(own, RUNGS, CEILING)
            parts += [as_markdown(title, rows, own), facts_as_markdown(own)]
            ladders[title] = (rows, sum(cell["majority"] for cell in own) / len(own))
    (out / "ladder.md").write_text("\n".join([HOW, *parts]))
    draw(ladders, CEILING).savefig(out / "ladder.png", dpi=150)
    sys.stdout.write("\n".join(parts))


def _climb_all(sets: Sequence[DataSet], rigs: Sequence[int], seeds: Sequence[int], out: Path, workers: int) -> None:
    there = _cells(out).there
    jobs = [
        Job(rig, tuple((data, seed) for data in sets for seed in seeds if (data.name, rig, seed) not in there), out)
        for rig in rigs
    ]
    jobs = [job for job in jobs if job.cells]
    with ProcessPoolExecutor(max_workers=max(workers, 1), mp_context=get_context("spawn")) as pool:
        needed = sorted({(data, seed) for job in jobs for data, seed in job.cells}, key=lambda c: (c[0].name, c[1]))
        for future in as_completed([pool.submit(train_ideal, data, seed, out) for data, seed in needed]):
            say(future.result())
        for future in as_completed([pool.submit(climb_rig, job) for job in jobs]):
            say(future.result())


def train_ideal(data: DataSet, seed: int, out: Path) -> str:
    """The camera of one seed, trained by the `train` step of the protocol; kept in OUT/work/ideal."""
    from ladder_cell import climb

    one_thread(out / "work" / "state" / "ideal")
    path = _ideal(out, data, seed)
    if path.exists():
        return f"{data.name}, seed {seed}: the camera is there"
    plan = _only(_plan(["sim"], [*data.overrides, f"seeds=[{seed}]"]), "train")
    folder = path.with_suffix("")
    done = climb(plan, folder)
    [result] = done.results.values()
    result.outputs["model"].replace(path)
    shutil.rmtree(folder)
    return f"{data.name}, seed {seed}: camera trained in {done.seconds['train']:.0f} s: {dict(result.metrics)}"


def climb_rig(job: Job) -> str:
    """Climb with one rig; every cell is written as soon as it is there. Returns how long they took."""
    from ladder_cell import climb

    # A state folder of its own: as-built rigs share a name, and with it a lock and a shelf of calibrations.
    one_thread(job.out / "work" / "state" / f"rig{job.rig}")
    times, given = [], dict[str, Any]()
    for data, seed in job.cells:
        began = time.monotonic()
        folder = job.out / "work" / f"{data.name}-rig{job.rig}-seed{seed}"
        shutil.rmtree(folder, ignore_errors=True)
        model = _ideal(job.out, data, seed)
        changes = [*_without_train(data), f"seeds=[{seed}]", f"steps.train={{type: trained, path: {model}}}"]
        plan = _plan(["as-built", f"world.seed={job.rig}"], changes)
        if not given:
            kept = job.out / "work" / f"rig{job.rig}"
            given = climb(_only(plan, "calibrate"), kept).results
        done = climb(plan, folder, given=given)
        cell = _cell_of(done, data.name, job.rig, seed)
        cell["seconds"]["all"] = round(time.monotonic() - began, 1)
        _cells(job.out).add(cell)
        shutil.rmtree(folder)
        times.append(cell["seconds"]["all"])
    return f"rig {job.rig}: {len(times)} cells, {sum(times):.0f} s"


def _cell_of(done: Any, data: str, rig: int, seed: int) -> dict[str, Any]:
    from ladder_cell import answers_of, packed

    results = {key.split("/")[0]: result for key, result in done.results.items()}
    rungs, right = {}, {}
    for rung in RUNGS:
        if rung.step in results:
            answers = answers_of(results[rung.step])[1]
            rungs[rung.name], right[rung.name] = float(answers.mean()), packed(answers)
    judged = results["simulated"].metrics
    facts = {
        f"{step}.{name}": value
        for step, result in results.items()
        for name, value in result.metrics.items()
        if name in FACTS and value is not None and step not in EVALUATED
    }
    return {
        "data": data,
        "rig": rig,
        "seed": seed,
        "rungs": rungs,
        "right": right,
        "majority": judged["majority"],
        "n_test": judged["n_test"],
        "facts": facts,
        "failed": done.failed,
        "said": done.said,
        "seconds": done.seconds,
    }


FACTS = frozenset(
    {"aperture_ratio", "error_after", "error_before", "exposures", "mask_changes", "saturated_fraction", "val_accuracy"}
)
"""Metrics of steps that the table tells beside the accuracies."""


def _plan(rig: Sequence[str], overrides: Sequence[str]) -> RunPlan:
    from labctl.protocol import load_protocol, plan_run
    from labctl.rig_file import find_rig, load_rig

    protocol = load_protocol(PROTOCOL, overrides=[*overrides, "steps.report=null"])
    return plan_run(protocol, load_rig(find_rig(rig[0]), overrides=list(rig[1:])))


def _only(plan: RunPlan, name: str) -> RunPlan:
    from dataclasses import replace

    return replace(plan, steps=tuple(step for step in plan if step.instance.name == name))


def _without_train(data: DataSet) -> list[str]:
    return [change for change in data.overrides if not change.startswith("steps.train.")]


def _ideal(out: Path, data: DataSet, seed: int) -> Path:
    return out / "work" / "ideal" / f"{data.name}-seed{seed}.pt"


def _data_sets(given: Path | None, wanted: Sequence[str]) -> list[DataSet]:
    sets = []
    if "faces" in wanted:
        named = os.environ.get("LABCTL_DATA")
        path = given or (Path(named) / "faces_lfw" / "lfw_min20.npz" if named else None)
        if path is not None and path.is_file():
            sets.append(faces(path.absolute()))
        else:
            sys.stderr.write("no file with faces: give --faces FILE, or set LABCTL_DATA; faces are left out\n")
    if "digits" in wanted:
        sets.append(DataSet("digits"))
    return sets


def _cells(out: Path) -> Cells:
    return Cells(out / "cells.jsonl", ("data", "rig", "seed"))


if __name__ == "__main__":
    main()
