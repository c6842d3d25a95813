"""One cell of the ladder: every step of a protocol on one bench, in this process, with what came of it.

The steps are those of the protocol, as `labctl run` runs them; only journal, run log and child process are left out.
"""

from __future__ import annotations

import time
from collections.abc import Callable, Mapping
from contextlib import ExitStack
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import numpy as np

from labctl.errors import LabctlError
from labctl.protocol import PlannedStep, RunPlan
from labctl.references import Reference
from labctl.rig import Rig
from labctl.steps import StepContext, StepResult


@dataclass
class Climb:
    """What the steps of a plan made. failed: step → why, also of steps whose inputs were not made.

    seconds: of this process, step by step; waiting for a busy computer does not count.
    """

    results: dict[str, StepResult] = field(default_factory=dict)
    failed: dict[str, str] = field(default_factory=dict)
    seconds: dict[str, float] = field(default_factory=dict)
    said: list[str] = field(default_factory=list)


def climb(
    plan: RunPlan,
    folder: Path,
    *,
    given: Mapping[str, StepResult] | None = None,
    say: Callable[[str], None] = lambda text: None,
) -> Climb:
    """Run all steps of `plan` in `folder`, on one opened rig. A step that fails takes along what needs its outputs.

    given: by key, what was made for this rig already and is taken as it is.
    """
    done = Climb(dict(given or {}))
    with ExitStack() as stack:
        opened: list[Rig] = []

        def open_rig() -> Rig:
            if not opened:
                opened.append(stack.enter_context(Rig(plan.rig)))
            return opened[0]

        for planned in plan:
            name = planned.instance.name
            if planned.key in done.results:
                continue
            began = time.process_time()
            try:
                done.results[planned.key] = _run(planned, folder, done, open_rig, say)
            except LabctlError as error:
                done.failed[name] = str(error)
                say(f"{name} failed: {error}")
            except KeyError as missing:
                done.failed[name] = f"stands on {missing.args[0]}, which was not made"
            finally:
                if opened:
                    opened[0].safe()  # as between the steps of a run
            done.seconds[name] = round(time.process_time() - began, 2)
    return done


def answers_of(result: StepResult) -> tuple[np.ndarray, np.ndarray]:
    """(n,) sample ids in rising order, and whether each was named right, of an `evaluate` step."""
    with np.load(result.outputs["evaluation"].parent / "predictions.npz") as saved:
        order = np.argsort(saved["sample_id"])
        return saved["sample_id"][order], (saved["predicted"] == saved["label"])[order]


def packed(right: np.ndarray) -> str:
    """(n,) bool as hex digits."""
    return np.packbits(right).tobytes().hex()


def unpacked(text: str, n: int) -> np.ndarray:
    """(n,) bool back from `packed`."""
    return np.unpackbits(np.frombuffer(bytes.fromhex(text), dtype=np.uint8), count=n).astype(bool)


def _run(
    planned: PlannedStep, folder: Path, done: Climb, open_rig: Callable[[], Rig], say: Callable[[str], None]
) -> StepResult:
    own = folder / "artifacts" / Path(*planned.key.split("/"))
    own.mkdir(parents=True, exist_ok=True)
    name = planned.instance.name

    def report(message: dict[str, Any]) -> None:
        if message["op"] == "log":
            done.said.append(f"{name}: {message['text']}")
            say(done.said[-1])

    context = StepContext(
        setting=planned.setting,
        folder=own,
        run_folder=folder,
        inputs=_inputs(planned.inputs, done),
        report=report,
        stop_asked=lambda: False,
        content_hash=planned.hash,
        open_rig=open_rig,
    )
    return planned.instance.step.run(context)


def _inputs(wanted: Mapping[Reference, str], done: Climb) -> dict[Reference, Path]:
    return {reference: done.results[key].outputs[reference.output] for reference, key in wanted.items()}
