"""What the user sees while a run runs: a bar with rate and remaining time, one line per finished step."""

from __future__ import annotations

import sys
from collections.abc import Callable, Mapping
from types import TracebackType
from typing import Any, Self

from rich.console import Console
from rich.progress import (
    BarColumn,
    MofNCompleteColumn,
    Progress,
    ProgressColumn,
    Task,
    TaskID,
    TextColumn,
    TimeElapsedColumn,
    TimeRemainingColumn,
)
from rich.text import Text

from labctl.interrupts import Interrupts


class RateColumn(ProgressColumn):
    """Units per second."""

    def render(self, task: Task) -> Text:
        """Text of one bar."""
        speed = task.finished_speed or task.speed
        return Text("" if not speed else f"{speed:.1f} {task.fields.get('unit', '')}/s", style="dim")


class LiveProgress:
    """An observer that draws on stderr. On a terminal it shows a bar; elsewhere one line per step."""

    def __init__(self) -> None:
        self.console = Console(stderr=True, highlight=False)
        self._progress = Progress(
            TextColumn("{task.description}"),
            BarColumn(bar_width=24),
            MofNCompleteColumn(),
            RateColumn(),
            TimeElapsedColumn(),
            TimeRemainingColumn(),
            TextColumn("[dim]{task.fields[values]}"),
            console=self.console,
            transient=True,
            disable=not self.console.is_terminal,
        )
        self._task: TaskID | None = None
        self._key = self._unit = ""
        self._total = 0
        self._number = 0

    def see(self, event: Mapping[str, Any]) -> None:
        """One event of the runner."""
        kind = event["kind"]
        if kind == "run":
            plan = event["plan"]
            self._total = len(plan.steps)
            nature = plan.rig.nature_in_words
            self.console.print(
                f"{plan.protocol.name} on rig '{plan.rig.name}' ({nature}), {self._total} steps → {event['run']}",
                markup=False,
                soft_wrap=True,
            )
        elif kind == "step":
            self._see_step(event)
        elif kind == "progress":
            self._see_progress(event)
        elif kind == "log":
            self.console.print(f"      {event['text']}", style="dim", markup=False, soft_wrap=True)

    def look(self, done: int, total: int, unit: str) -> None:
        """How far the look at the data is, before anything runs."""
        self._key = "looking at the data"
        self._see_progress({"done": done, "total": total, "unit": unit, "values": {}})
        if done == total:
            self._drop_bar()

    def pause(self) -> None:
        """Take the bar away, so that a question can be asked."""
        self._progress.stop()

    def go_on(self) -> None:
        """Show the bar again."""
        self._progress.start()

    def _see_step(self, event: Mapping[str, Any]) -> None:
        status = event["status"]
        if status == "started":
            self._key = event["key"]
            self._number += 1
            return
        self._drop_bar()
        mark = {"finished": "[green]✓[/]", "kept": "[dim]·[/]", "failed": "[red]✗[/]", "stopped": "[yellow]■[/]"}[
            status
        ]
        if status == "kept":
            self._number += 1
            self.console.print(f"{mark} {self._number:>3}/{self._total} {event['key']}  [dim]finished earlier[/]")
            return
        numbers = _headline(event["metrics"])
        self.console.print(
            f"{mark} {self._number:>3}/{self._total} {event['key']}  [dim]{event['seconds']:.1f} s[/]  {numbers}"
        )

    def _see_progress(self, event: Mapping[str, Any]) -> None:
        values = "  ".join(f"{name} {_short(value)}" for name, value in event["values"].items())
        if self._task is not None and self._unit != event["unit"]:
            self._drop_bar()  # the step went on to something else
        if self._task is None:
            self._unit = event["unit"]
            self._task = self._progress.add_task(self._key, total=event["total"], unit=event["unit"], values=values)
        self._progress.update(self._task, completed=event["done"], total=event["total"], values=values)

    def _drop_bar(self) -> None:
        if self._task is not None:
            self._progress.remove_task(self._task)
            self._task = None

    def __enter__(self) -> Self:
        self._progress.start()
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self._progress.stop()


def interrupts_on_terminal() -> Interrupts:
    """Interrupts that tell the user what a Ctrl-C did."""
    return Interrupts(say=lambda text: print(f"\n{text}", file=sys.stderr, flush=True))  # noqa: T201


def ask_on_terminal(live: LiveProgress) -> Callable[[str, tuple[str, ...]], str] | None:
    """A function that puts a question of an operator step to the person at the terminal; None without a terminal."""
    if sys.stdin is None or not sys.stdin.isatty():
        return None

    def ask(question: str, answers: tuple[str, ...]) -> str:
        live.pause()
        try:
            while True:
                shown = f" [{'/'.join(answers)}]" if answers else ""
                answer = input(f"{question}{shown} ").strip()
                if not answers or answer in answers:
                    return answer
                live.console.print(f"'{answer}' is no answer here; allowed are {', '.join(answers)}")
        finally:
            live.go_on()

    return ask


HEADLINES = ("frames", "exposure_s", "val_accuracy", "aperture_ratio")


def _headline(metrics: Mapping[str, Any]) -> str:
    if "accuracy_low" in metrics:
        low, high = metrics["accuracy_low"], metrics["accuracy_high"]
        return f"accuracy {metrics['accuracy']:.3f} \\[{low:.3f}, {high:.3f}]"
    return "  ".join(f"{name} {_short(metrics[name])}" for name in HEADLINES if metrics.get(name) is not None)


def _short(value: Any) -> str:
    return f"{value:.3g}" if isinstance(value, float) else str(value)
