"""Runs a plan: step by step, journalled, stoppable, resumable; the rig ends safe on every way out."""

from __future__ import annotations

import platform
import time
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from typing import Any

from labctl import __version__
from labctl.child_step import input_paths, relative_outputs
from labctl.documents import DocumentLog
from labctl.durable import write_json
from labctl.errors import ExitCode, HardwareError, LabctlError, RunFailed, Stopped
from labctl.interrupts import Interrupts, StopLevel
from labctl.journal import Entry, Journal
from labctl.observers import Observers
from labctl.process import ABORT_GRACE_S, QUIT_GRACE_S, Child
from labctl.protocol import PlannedStep, RunPlan
from labctl.rig import Rig
from labctl.steps import StepContext, StepResult
from labctl.store import RunFolder, protocol_hash

PROGRESS_FILE_S = 0.5
"""How often at most `progress.json` is renewed."""

Ask = Callable[[str, tuple[str, ...]], str]


@dataclass(frozen=True)
class Outcome:
    """How a run ended."""

    status: str
    reason: str
    exit_code: ExitCode
    metrics: Mapping[str, Any]


class Runner:
    """One session of a run: the first, or a resume.

    idle → running → finished | failed | stopped. Whatever happens, the children are reaped, the rig is safe and
    closed, and summary, journal and run log say how it ended, in this order.
    """

    def __init__(
        self,
        folder: RunFolder,
        plan: RunPlan,
        *,
        interrupts: Interrupts,
        observers: Observers,
        ask: Ask | None = None,
        wait_s: float = 0.0,
    ) -> None:
        self._folder = folder
        self._plan = plan
        self._interrupts = interrupts
        self._observers = observers
        self._ask = ask
        self._wait_s = wait_s
        self._journal = Journal(folder.journal_file)
        self._documents = DocumentLog(folder.events_file)
        self._rig: Rig | None = None
        self._child: Child | None = None
        self._began = time.time()
        self._progress_written = 0.0
        self._rig_notes: list[str] = []

    def run(self) -> Outcome:
        """Run what is not finished yet. Never raises what a step raises: the outcome says it."""
        plan = self._plan
        self._interrupts.on_kill = self._kill_child
        self._documents.start(self._metadata())
        self._observers.see({"kind": "run", "run": str(self._folder.path), "plan": plan})
        self._write_summary("running", "")
        status, reason, code = "finished", "", ExitCode.OK
        try:
            self._warm_child()
            for planned in plan:
                self._interrupts.check()
                if self._interrupts.level:
                    raise Stopped(self._interrupts.reason)
                self._run_step(planned)
        except Stopped as stopped:
            status, reason, code = "stopped", self._interrupts.reason or str(stopped), ExitCode.STOPPED
        except LabctlError as error:
            # Exit code 2 says that nothing was created, see docs/decisions/0003; here a run folder exists.
            code = ExitCode.HARDWARE if isinstance(error, HardwareError) else ExitCode.RUN_FAILED
            status, reason = "failed", str(error)
        except Exception as error:  # noqa: BLE001 - a step of a plug-in may raise anything; the run must end in order
            status, reason, code = "failed", f"{type(error).__name__}: {error}", ExitCode.RUN_FAILED
        with self._interrupts.cleaning_up():
            unsafe = self._clean_up()
            if unsafe:
                reason = "; ".join(
                    [*([reason] if reason else []), "the rig could not be made safe: " + "; ".join(unsafe)]
                )
                status, code = "failed", ExitCode.HARDWARE
            metrics = self._metrics()
            self._write_summary(status, reason)
            self._documents.stop({"finished": "success", "stopped": "abort"}.get(status, "fail"), reason)
            self._folder.progress_file.unlink(missing_ok=True)
        self._observers.see({"kind": "end", "status": status, "reason": reason})
        return Outcome(status, reason, code, metrics)

    def _run_step(self, planned: PlannedStep) -> None:
        done = self._journal.finished(planned.key, planned.hash)
        if done is not None:
            self._observers.see({"kind": "step", "key": planned.key, "status": "kept", "metrics": done.metrics})
            return
        began = time.monotonic()
        self._note(planned, "started", began)
        self._folder.step_folder(planned.key).mkdir(parents=True, exist_ok=True)
        try:
            result = (
                self._run_on_host(planned) if planned.instance.step.where == "host" else self._run_in_child(planned)
            )
        except Stopped as stopped:
            self._note(planned, "stopped", began, text=str(stopped))
            raise
        except Exception as error:
            self._note(planned, "failed", began, text=f"{error}")
            raise
        with self._interrupts.shield():
            self._note(planned, "finished", began, outputs=result["outputs"], metrics=result["metrics"])

    def _note(
        self,
        planned: PlannedStep,
        word: Any,
        began: float,
        *,
        text: str = "",
        outputs: Mapping[str, str] | None = None,
        metrics: Mapping[str, Any] | None = None,
    ) -> None:
        seconds = time.monotonic() - began
        entry = Entry(planned.key, word, planned.hash, seconds, outputs or {}, metrics or {}, text)
        self._journal.write(entry)
        self._documents.step(planned.key, word, planned.hash, seconds, text)
        self._write_summary("running", "")
        self._observers.see(
            {
                "kind": "step",
                "key": planned.key,
                "status": word,
                "seconds": seconds,
                "text": text,
                "metrics": entry.metrics,
            }
        )

    def _run_on_host(self, planned: PlannedStep) -> dict[str, Any]:
        context = self._context(planned)
        result: StepResult = planned.instance.step.run(context)
        return {"outputs": relative_outputs(result.outputs, self._folder), "metrics": dict(result.metrics)}

    def _context(self, planned: PlannedStep) -> StepContext:
        def stop_asked() -> bool:
            self._interrupts.check()
            return self._interrupts.level >= StopLevel.AFTER_BLOCK

        return StepContext(
            setting=planned.setting,
            folder=self._folder.step_folder(planned.key),
            run_folder=self._folder.path,
            inputs=input_paths(planned, self._journal, self._folder),
            report=lambda message: self._on_message(planned, message),
            stop_asked=stop_asked,
            capture_hash=planned.hash,
            open_rig=self._open_rig,
            interrupts=self._interrupts,
            ask=self._ask,
        )

    def _run_in_child(self, planned: PlannedStep) -> dict[str, Any]:
        child = self._ready_child()
        child.send({"op": "step", "run": str(self._folder.path), "key": planned.key, "hash": planned.hash})
        told = StopLevel.NONE
        for message in child.messages():
            self._interrupts.check()
            if self._interrupts.level > told:
                told = self._interrupts.level
                child.send({"op": "stop"})
            if message is None:
                continue
            op = message["op"]
            if op == "done":
                return message
            if op == "stopped":
                raise Stopped(message["text"])
            if op == "failed":
                raise _error_of(message)
            self._on_message(planned, message)
        raise RunFailed("the child process ended without a word")

    def _on_message(self, planned: PlannedStep, message: dict[str, Any]) -> None:
        if message["op"] == "metric":
            self._folder.record_metric(planned.key, message["index"], message["values"])
        if message["op"] == "progress" and time.monotonic() - self._progress_written > PROGRESS_FILE_S:
            self._progress_written = time.monotonic()
            shown = {name: message[name] for name in ("done", "total", "unit", "values")}
            write_json(self._folder.progress_file, {"step": planned.key, "time": time.time(), **shown})
        self._observers.see({"kind": message["op"], "key": planned.key, **message})

    def _open_rig(self) -> Rig:
        if self._rig is None:
            rig = Rig(self._plan.rig, run=str(self._folder.path), wait_s=self._wait_s)
            with self._interrupts.shield():
                rig.open()
                self._rig = rig
            if rig.recovered_from is not None:
                last = rig.recovered_from
                died = f"process {last.pid} (since {last.since}) died holding the rig"
                text = f"{died}; it was made safe before anything else"
                self._rig_notes.append(text)
                self._observers.see({"kind": "log", "text": text})
                self._documents.event(
                    "rig", {"rig": self._plan.rig.name, "text": text}, {"rig": "string", "text": "string"}
                )
            write_json(self._folder.path / "rig-as-opened.json", rig.describe())
        return self._rig

    def _warm_child(self) -> None:
        modules = {m for p in self._plan if not self._kept(p) for m in p.instance.step.modules}
        if any(p.instance.step.where == "child" and not self._kept(p) for p in self._plan):
            self._ready_child().send({"op": "warm", "modules": sorted(modules)})

    def _kept(self, planned: PlannedStep) -> bool:
        return self._journal.finished(planned.key, planned.hash) is not None

    def _ready_child(self) -> Child:
        if self._child is None or not self._child.alive:
            if self._child is not None:
                self._child.end(grace_s=0)
            with self._interrupts.shield():
                self._child = Child(self._folder.log_file)
        return self._child

    def _kill_child(self) -> None:
        if self._child is not None:
            self._child.kill()

    def _clean_up(self) -> list[str]:
        """Rig first: light and masks must not wait for a child to end."""
        unsafe: list[str] = []
        if self._rig is not None:
            self._rig.close()
            unsafe = self._rig.safe_errors
        if self._child is not None:
            aborting = self._interrupts.level >= StopLevel.ABORT
            self._child.end(grace_s=ABORT_GRACE_S if aborting else QUIT_GRACE_S)
        return unsafe

    def _metadata(self) -> dict[str, Any]:
        return {
            "labctl_version": __version__,
            "plan_name": self._plan.protocol.name,
            "protocol_hash": protocol_hash(self._plan.protocol),
            "rig_name": self._plan.rig.name,
            "rig_hash": self._plan.rig.content_hash,
        }

    def _metrics(self) -> dict[str, Any]:
        entries = {planned.key: self._journal.finished(planned.key, planned.hash) for planned in self._plan}
        return {key: dict(entry.metrics) for key, entry in entries.items() if entry is not None and entry.metrics}

    def _write_summary(self, status: str, reason: str) -> None:
        steps = []
        for planned in self._plan:
            entry = self._journal.last(planned.key)
            current = entry is not None and entry.hash == planned.hash
            steps.append(
                {
                    "name": planned.key,
                    "type": planned.instance.step.type,
                    "status": entry.word if entry is not None and current else "waiting",
                    "seconds": round(self._journal.seconds(planned.key), 3),
                    "hash": planned.hash,
                    "outputs": dict(entry.outputs) if entry is not None and current else {},
                    "metrics": dict(entry.metrics) if entry is not None and current else {},
                    "text": entry.text if entry is not None and current else "",
                }
            )
        self._folder.write_summary(
            {
                "run": str(self._folder.path),
                "name": self._plan.protocol.name,
                "rig": self._plan.rig.name,
                "simulated": self._plan.rig.simulated,
                "status": status,
                "reason": reason,
                "began": self._began,
                "seconds": round(time.time() - self._began, 3),
                "seeds": list(self._plan.protocol.file.seeds),
                "designs": list(self._plan.protocol.compared),
                "protocol_hash": protocol_hash(self._plan.protocol),
                "rig_hash": self._plan.rig.content_hash,
                "rig_notes": self._rig_notes,
                "versions": versions(),
                "steps": steps,
                "metrics": self._metrics(),
            }
        )


def versions() -> dict[str, str]:
    """Versions of what a result depends on, found without importing it."""
    from importlib.metadata import PackageNotFoundError, version

    found = {"labctl": __version__, "python": platform.python_version(), "platform": platform.platform()}
    for package in ("torch", "numpy", "scipy", "scikit-learn", "scikit-image"):
        try:
            found[package] = version(package)
        except PackageNotFoundError:
            continue
    return found


def _error_of(message: Mapping[str, Any]) -> LabctlError:
    kind = HardwareError if message["exit_code"] == ExitCode.HARDWARE else RunFailed
    return kind(message["text"])
