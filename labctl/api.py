"""The notebook's way in, and the one code path behind `validate`, `plan`, `run` and `resume`."""

from __future__ import annotations

import contextlib
import logging
import sqlite3
import time
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from labctl.catalogue import Catalogue
from labctl.config import ConfigError, dump_yaml
from labctl.errors import BadInput, Stopped
from labctl.interrupts import Interrupts
from labctl.observers import Observer, Observers
from labctl.protocol import Progress, RunPlan, load_protocol, plan_run, unwatched
from labctl.rig import Rig
from labctl.rig_file import find_rig, load_rig
from labctl.runner import Ask, Outcome, Runner
from labctl.state import state_folder
from labctl.store import RunFolder, check_new_run, create_run, open_run

log = logging.getLogger(__name__)

RIG_PREFIX = "rig."


@dataclass(frozen=True)
class Run:
    """A run folder and how it ended."""

    folder: RunFolder
    outcome: Outcome | None = None

    @property
    def path(self) -> Path:
        """The run folder."""
        return self.folder.path

    @property
    def status(self) -> str:
        """`running`, `finished`, `failed` or `stopped`."""
        return str(self.folder.summary()["status"])

    @property
    def metrics(self) -> dict[str, Any]:
        """Final metrics by step: `{"train/learned/seed0": {...}}`."""
        return dict(self.folder.summary()["metrics"])

    def history(self) -> list[dict[str, Any]]:
        """Values of every epoch and block."""
        return self.folder.metrics()

    def artifact(self, key: str, output: str) -> Path:
        """Path of output `output` of step `key`. Raises BadInput when there is none."""
        for step in self.folder.summary()["steps"]:
            if step["name"] == key and output in step["outputs"]:
                return self.path / str(step["outputs"][output])
        raise BadInput(f"run {self.path} has no output '{output}' of step '{key}'; see summary.json for what there is")


def open_rig(rig: str | Path, *, set: Sequence[str] | Mapping[str, Any] = (), wait_s: float = 0.0) -> Rig:
    """Open a rig by name or path: `with labctl.open_rig("sim") as rig: frames = rig.expose(plan)`."""
    return Rig(load_rig(find_rig(str(rig)), overrides=_overrides(set)), wait_s=wait_s).open()


def run_protocol(
    path: str | Path,
    *,
    rig: str | Path | None = None,
    out: str | Path | None = None,
    set: Sequence[str] | Mapping[str, Any] = (),
    ask: Ask | None = None,
    observers: Sequence[Observer] = (),
) -> Run:
    """Run a protocol to its end; how it ended is in `Run.outcome`. Raises ConfigError or BadInput before anything runs.

    set: `{"steps.train.epochs": 3}` or `["steps.train.epochs=3"]`; keys under `rig.` change the rig file.
    ask: answers operator steps: called with the question and the allowed answers.
    """
    plan = prepare(Path(path), rig=None if rig is None else str(rig), overrides=_overrides(set))
    return execute_new(plan, out=None if out is None else Path(out), observers=observers, ask=ask)


def load_run(path: str | Path) -> Run:
    """A run that was made earlier."""
    return Run(open_run(Path(path)))


def prepare(
    path: Path, *, rig: str | None = None, overrides: Sequence[str] = (), progress: Progress = unwatched
) -> RunPlan:
    """Read, resolve, check and plan. Moves nothing, and writes nothing but decoded pictures in the cache folder."""
    protocol = load_protocol(path, overrides=[text for text in overrides if not text.startswith(RIG_PREFIX)])
    chosen = rig if rig is not None else protocol.file.rig
    if chosen is None:
        text = "is missing; add `rig: sim` to the protocol or give --rig sim"
        raise ConfigError([protocol.located.problem(("rig",), text)])
    try:
        rig_file = find_rig(chosen, beside=path)
    except BadInput as error:
        if rig is not None:
            raise BadInput(f"--rig {rig}: {error}") from error
        raise ConfigError([protocol.located.problem(("rig",), str(error))]) from error
    rig_overrides = [text for text in overrides if text.startswith(RIG_PREFIX)]
    rig_spec = load_rig(rig_file, overrides=rig_overrides, prefix=RIG_PREFIX.removesuffix("."))
    return plan_run(protocol, rig_spec, progress=progress)


def execute_new(
    plan: RunPlan,
    *,
    out: Path | None,
    observers: Sequence[Observer],
    ask: Ask | None = None,
    wait_s: float = 0.0,
    interrupts: Interrupts | None = None,
) -> Run:
    """Make a run folder for `plan` and run it there. Raises BadInput when it cannot be, or nobody can answer."""
    if ask is None:
        _refuse_questions(plan)
    path = check_new_run(out if out is not None else default_out(plan), plan)
    state_folder()  # without one the rig could not be locked
    return _execute(create_run(path, plan), plan, observers, ask, wait_s, interrupts)


def resume(
    path: Path,
    *,
    observers: Sequence[Observer] = (),
    ask: Ask | None = None,
    wait_s: float = 0.0,
    interrupts: Interrupts | None = None,
    progress: Progress = unwatched,
) -> Run:
    """Go on with a run: finished steps are kept, captures go on at the next frame, trainings at a checkpoint."""
    folder = open_run(path)

    def stoppable(done: int, total: int, unit: str) -> None:
        progress(done, total, unit)
        if interrupts is not None and interrupts.level:
            raise Stopped(f"{interrupts.reason}; what was decoded is kept")

    plan = plan_run(folder.protocol(), folder.rig(), progress=stoppable)
    return _execute(folder, plan, observers, ask, wait_s, interrupts)


def default_out(plan: RunPlan) -> Path:
    """`runs/DATE-TIME-PROTOCOL-RIG` in the current folder, made unique."""
    name = f"{time.strftime('%Y%m%d-%H%M%S')}-{plan.protocol.name}-{plan.rig.name}"
    path, number = Path("runs") / name, 1
    while path.exists():
        number += 1
        path = Path("runs") / f"{name}-{number}"
    return path


def _execute(
    folder: RunFolder,
    plan: RunPlan,
    observers: Sequence[Observer],
    ask: Ask | None,
    wait_s: float,
    interrupts: Interrupts | None,
) -> Run:
    lock = folder.lock()
    try:
        with contextlib.nullcontext(interrupts) if interrupts is not None else Interrupts() as listening:
            runner = Runner(
                folder, plan, interrupts=listening, observers=Observers([*observers]), ask=ask, wait_s=wait_s
            )
            outcome = runner.run()
    finally:
        lock.release()
        try:
            Catalogue().add(folder.path)
        except (sqlite3.Error, OSError) as error:  # the folder is the truth, the catalogue only a convenience
            log.warning("the run is not in the catalogue: %s", error)
    return Run(folder, outcome)


def _refuse_questions(plan: RunPlan) -> None:
    located = plan.protocol.located
    text = "asks an operator, but nobody can answer; run in a terminal, give run_protocol(ask=...), or remove the step"
    problems = [located.problem(("steps", name), text) for name, step in plan.protocol.steps.items() if step.asks]
    if problems:
        raise ConfigError(problems)


def _overrides(given: Sequence[str] | Mapping[str, Any]) -> list[str]:
    if isinstance(given, Mapping):
        return [f"{key}={_flow(value)}" for key, value in given.items()]
    return list(given)


def _flow(value: Any) -> str:
    import json

    return json.dumps(value) if not isinstance(value, str) else dump_yaml(value).strip()
