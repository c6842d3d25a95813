"""Running one step of a run folder inside a child process."""

from __future__ import annotations

import importlib
from functools import lru_cache
from pathlib import Path
from typing import TYPE_CHECKING, Any

from labctl.errors import RunFailed
from labctl.journal import Journal
from labctl.protocol import PlannedStep, RunPlan, plan_run
from labctl.rig_proxy import RigProxy
from labctl.steps import StepContext
from labctl.store import RunFolder

if TYPE_CHECKING:
    from labctl.child import Parent


def warm_up(modules: list[str]) -> None:
    """Import what the steps to come will need, while the parent does something else."""
    for module in modules:
        importlib.import_module(module)


@lru_cache(maxsize=1)
def _plan_of(run: Path) -> RunPlan:
    folder = RunFolder(run)
    return plan_run(folder.protocol(), folder.rig())


def run_step_of(run: Path, key: str, content_hash: str, parent: Parent) -> dict[str, Any]:
    """Run the step `key` of the run folder `run`; returns its outputs (relative paths) and metrics.

    Raises RunFailed when the step is not the one that the parent planned: data or files changed under the run.
    """
    folder = RunFolder(run)
    planned = next(step for step in _plan_of(run) if step.key == key)
    if planned.hash != content_hash:
        raise RunFailed(
            f"the data or the files of step {key} changed since the run was planned; `labctl resume` it anew"
        )
    rig = RigProxy(planned.setting.rig, parent.ask) if planned.instance.step.needs else None
    context = StepContext(
        setting=planned.setting,
        content_hash=planned.hash,
        folder=folder.step_folder(key),
        run_folder=folder.path,
        inputs=input_paths(planned, Journal(folder.journal_file), folder),
        report=parent.send,
        stop_asked=parent.stop_asked.is_set,
        open_rig=None if rig is None else lambda: rig,
    )
    result = planned.instance.step.run(context)
    return {"outputs": relative_outputs(result.outputs, folder), "metrics": dict(result.metrics)}


def input_paths(planned: PlannedStep, journal: Journal, folder: RunFolder) -> dict[Any, Path]:
    """Where the journal says that the inputs of a step lie."""
    paths = {}
    for reference, key in planned.inputs.items():
        entry = journal.last(key)
        if entry is None or entry.word != "finished":
            raise RuntimeError(f"step {planned.key} wants {reference}, but {key} is not finished")
        paths[reference] = folder.path / entry.outputs[reference.output]
    return paths


def relative_outputs(outputs: Any, folder: RunFolder) -> dict[str, str]:
    """Output paths as they stand in the journal: relative to the run folder, which may move."""
    return {name: str(Path(path).relative_to(folder.path)) for name, path in outputs.items()}
