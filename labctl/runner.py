"""Runs a plan: step by step, journalled, stoppable, resumable; the rig ends safe on every way out."""

from __future__ import annotations

import contextlib
import errno
import platform
import shutil
import time
from collections.abc import Callable, Iterator, Mapping
from dataclasses import dataclass
from typing import Any

from labctl import __version__
from labctl.child_step import input_paths, relative_outputs
from labctl.documents import DocumentLog
from labctl.durable import sync_tree, write_json
from labctl.errors import ExitCode, HardwareError, LabctlError, RunFailed, Stopped
from labctl.interrupts import Interrupts, StopLevel
from labctl.journal import Entry, Journal
from labctl.observers import Observers
from labctl.process import ABORT_GRACE_S, QUIT_GRACE_S, Child
from labctl.protocol import PlannedStep, RunPlan
from labctl.rig import Rig
from labctl.rig_proxy import RIG_OPS, answer
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
        earlier = folder.summary() if folder.summary_file.exists() else {}
        self._session_began = time.time()
        self._began = earlier.get("began", self._session_began)
        self._seconds_before = earlier.get("seconds", 0.0)
        self._progress_written = 0.0
        self._rig_notes: list[str] = list(earlier.get("rig_notes", []))

    def run(self) -> Outcome:
        """Run what is not finished yet. Never raises what a step raises: the outcome says it."""
        self._interrupts.on_kill = self._kill_child
        status, reason, code = "finished", "", ExitCode.OK
        try:
            self._run_steps()
        except Stopped as stopped:
            status, reason, code = "stopped", self._interrupts.reason or str(stopped), ExitCode.STOPPED
        except LabctlError as error:
            # Exit code 2 says that nothing was created, see docs/decisions/0003; here a run folder exists.
            code = ExitCode.HARDWARE if isinstance(error, HardwareError) else ExitCode.RUN_FAILED
            status, reason = "failed", str(error)
        except BaseException as error:  # noqa: BLE001 - whatever a plug-in raises, the rig must be made safe
            status, reason, code = "failed", self._in_words(error), ExitCode.RUN_FAILED
        unsafe = self._clean_up()
        if unsafe:
            status, code = "failed", ExitCode.HARDWARE
            reason = "; ".join([*filter(None, [reason]), "the rig could not be made safe: " + "; ".join(unsafe)])
        unwritten = self._last_words(status, reason)
        if unwritten:
            status = "failed" if status == "finished" else status
            code = ExitCode.RUN_FAILED if code == ExitCode.OK else code
            reason = "; ".join([*filter(None, [reason]), f"the end of the run could not be written: {unwritten}"])
        self._observers.see({"kind": "end", "status": status, "reason": reason})
        return Outcome(status, reason, code, self._metrics())

    def _in_words(self, error: BaseException) -> str:
        if isinstance(error, OSError) and error.errno in (errno.ENOSPC, errno.EDQUOT):
            return f"the disk that holds {self._folder.path} is full; free some space, then go on with `labctl resume`"
        return f"{type(error).__name__}: {error}"

    def _run_steps(self) -> None:
        self._documents.start(self._metadata())
        self._observers.see({"kind": "run", "run": str(self._folder.path), "plan": self._plan})
        self._write_summary("running", "")
        self._warm_child()
        if any(p.instance.step.needs and not self._finished(p) for p in self._plan):
            with self._interrupts.exposed():
                self._open_rig()  # a rig that is taken or broken is found before hours of training, not after
        for planned in self._plan:
            if self._interrupts.level:
                raise Stopped(self._interrupts.reason)
            self._run_step(planned)

    def _last_words(self, status: str, reason: str) -> str:
        """Write how the run ended, as far as the disk lets us; returns what could not be written, and why."""
        exit_status = {"finished": "success", "stopped": "abort"}.get(status, "fail")
        problems = []
        writes: list[Callable[[], None]] = [
            lambda: self._write_summary(status, reason),
            lambda: self._documents.stop(exit_status, reason),
            lambda: self._folder.progress_file.unlink(missing_ok=True),
        ]
        for write in writes:
            try:
                write()
            except OSError as error:
                problems.append(str(error))
        return "; ".join(problems)

    def _run_step(self, planned: PlannedStep) -> None:
        done = self._finished(planned)
        if done is not None:
            self._observers.see({"kind": "step", "key": planned.key, "status": "kept", "metrics": done.metrics})
            return
        self._set_aside(planned)
        began = time.monotonic()
        self._note(planned, "started", began)
        self._folder.step_folder(planned.key).mkdir(parents=True, exist_ok=True)
        try:
            with self._interrupts.exposed():  # an abort ends the work of a step, never the record of how it ended
                on_host = planned.instance.step.where == "host"
                result = self._run_on_host(planned) if on_host else self._run_in_child(planned)
        except Stopped as stopped:
            self._note(planned, "stopped", began, text=str(stopped))
            raise
        except Exception as error:
            self._note(planned, "failed", began, text=f"{error}")
            raise
        for output in result["outputs"].values():
            sync_tree(self._folder.path / output)
        self._note(planned, "finished", began, outputs=result["outputs"], metrics=result["metrics"])

    def _finished(self, planned: PlannedStep) -> Entry | None:
        """The entry of a step that is done: finished under this very hash, and its outputs are there."""
        entry = self._journal.finished(planned.key, planned.hash)
        if entry is None or not all((self._folder.path / output).exists() for output in entry.outputs.values()):
            return None
        return entry

    def _set_aside(self, planned: PlannedStep) -> None:
        """Move away what the step left under another hash (other data, other version): it must not be gone on with."""
        last, folder = self._journal.last(planned.key), self._folder.step_folder(planned.key)
        if last is not None and last.hash != planned.hash and folder.exists():
            aside = self._folder.path / "superseded" / f"{planned.key.replace('/', '-')}-{last.hash[:8]}"
            aside.parent.mkdir(exist_ok=True)
            if aside.exists():
                shutil.rmtree(aside)
            folder.rename(aside)
            text = f"{planned.key} changed since it was last run; what it had made lies in {aside}"
            self._observers.see({"kind": "log", "text": text})

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
        with self._rig_left_safe(planned):
            result: StepResult = planned.instance.step.run(self._context(planned))
        return {"outputs": relative_outputs(result.outputs, self._folder), "metrics": dict(result.metrics)}

    @contextlib.contextmanager
    def _rig_left_safe(self, planned: PlannedStep) -> Iterator[None]:
        """A step that moves the rig: what was exposed twice is noted, and the rig is safe on every way out."""
        taken_again = len(self._rig.retakes) if self._rig is not None else 0
        try:
            yield
        finally:
            if self._rig is not None:
                self._rig_notes += [
                    f"{planned.key}: exposure {retake.exposure_id} was taken again: {retake.reason}"
                    for retake in self._rig.retakes[taken_again:]
                ]
            unsafe = self._rig.safe() if self._rig is not None else []
        if unsafe:
            raise HardwareError("the rig could not be made safe after the step: " + "; ".join(unsafe))

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
            content_hash=planned.hash,
            open_rig=self._open_rig,
            interrupts=self._interrupts,
            ask=self._ask,
        )

    def _run_in_child(self, planned: PlannedStep) -> dict[str, Any]:
        moves = self._rig_left_safe(planned) if planned.instance.step.needs else contextlib.nullcontext()
        with moves:
            return self._follow_child(planned)

    def _follow_child(self, planned: PlannedStep) -> dict[str, Any]:
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
            if op in RIG_OPS:
                reply = answer(message, self._open_rig, self._interrupts.check)
                if self._interrupts.level > told:  # before the answer, so that no further exposures are asked for
                    told = self._interrupts.level
                    child.send({"op": "stop"})
                child.send(reply)
                continue
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
        if self._rig is None:  # `open` cleans up behind itself, so that even a wait for the lock can be aborted
            rig = Rig(self._plan.rig, run=str(self._folder.path), wait_s=self._wait_s)
            self._rig = rig
            rig.open()
            if rig.recovered_from is not None:
                last = rig.recovered_from
                ended = f"process {last.pid} (since {last.since}) ended without making all of the rig safe"
                text = f"{ended}; it was made safe before anything else"
                self._rig_notes.append(text)
                self._observers.see({"kind": "log", "text": text})
                self._documents.event(
                    "rig", {"rig": self._plan.rig.name, "text": text}, {"rig": "string", "text": "string"}
                )
            write_json(self._folder.path / "rig-as-opened.json", rig.describe())
        return self._rig

    def _warm_child(self) -> None:
        ahead = [p.instance.step for p in self._plan if p.instance.step.where == "child" and not self._finished(p)]
        if ahead:
            modules = sorted({module for step in ahead for module in step.modules})
            self._ready_child().send({"op": "warm", "modules": modules})

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
        try:
            if self._rig is None:
                return []
            self._rig.close()
            return self._rig.safe_errors
        except Exception as error:  # noqa: BLE001 - the child must still be reaped, and the run must say how it ended
            return [f"{type(error).__name__}: {error}"]
        finally:
            if self._child is not None:
                aborting = self._interrupts.level >= StopLevel.ABORT
                self._child.end(grace_s=ABORT_GRACE_S if aborting else QUIT_GRACE_S)

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
            last = self._journal.last(planned.key)
            entry = (
                last if last is not None and last.hash == planned.hash else Entry(planned.key, "waiting", planned.hash)
            )
            steps.append(
                {
                    "name": planned.key,
                    "type": planned.instance.step.type,
                    "status": entry.word,
                    "seconds": round(self._journal.seconds(planned.key), 3),
                    "hash": planned.hash,
                    "outputs": dict(entry.outputs),
                    "metrics": dict(entry.metrics),
                    "text": entry.text,
                }
            )
        self._folder.write_summary(
            {
                "run": str(self._folder.path),
                "name": self._plan.protocol.name,
                "rig": self._plan.rig.name,
                "simulated": self._plan.rig.simulated,
                "nature": self._plan.rig.nature,
                "status": status,
                "reason": reason,
                "began": self._began,
                "seconds": round(self._seconds_before + time.time() - self._session_began, 3),
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
