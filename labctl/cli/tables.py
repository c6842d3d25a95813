"""Tables for the terminal. Tables that are the answer go to stdout; with `error` they go to stderr."""

from __future__ import annotations

import time
from collections.abc import Mapping, Sequence
from typing import TYPE_CHECKING, Any

from rich.console import Console
from rich.table import Table

if TYPE_CHECKING:
    from labctl.catalogue import RunRow
    from labctl.protocol import RunPlan

COLOURS = {"finished": "green", "failed": "red", "died": "red", "stopped": "yellow", "running": "cyan"}


def show(table: Table, *, error: bool = False) -> None:
    """Print a table, never cut off where the output is not a terminal."""
    console = Console(stderr=error, highlight=False)
    if not console.is_terminal:
        console = Console(stderr=error, highlight=False, width=160)
    console.print(table)


def plan_table(plan: RunPlan) -> Table:
    """What a run would do."""
    nature = "simulated" if plan.rig.simulated else "REAL HARDWARE"
    table = Table(title=f"{plan.protocol.name} on rig '{plan.rig.name}' ({nature})", title_justify="left")
    for name in ("step", "type", "about", "frames", "disk", "what moves"):
        table.add_column(name, justify="right" if name in ("about", "frames", "disk") else "left")
    for step in plan:
        estimate = step.estimate
        table.add_row(
            step.key,
            step.instance.step.type,
            _duration(estimate.seconds),
            str(estimate.frames or ""),
            _size(estimate.disk_bytes),
            "; ".join(estimate.moves),
        )
    seconds, frames = sum(s.estimate.seconds for s in plan), sum(s.estimate.frames for s in plan)
    table.add_section()
    table.add_row("total", "", _duration(seconds), str(frames), _size(plan.disk_bytes), "nothing has moved yet")
    return table


def plan_as_json(plan: RunPlan) -> dict[str, Any]:
    """`plan_table` for scripts."""
    return {
        "protocol": plan.protocol.name,
        "rig": plan.rig.name,
        "simulated": plan.rig.simulated,
        "seconds": sum(step.estimate.seconds for step in plan),
        "disk_bytes": plan.disk_bytes,
        "steps": [
            {
                "name": step.key,
                "type": step.instance.step.type,
                "hash": step.hash,
                "seconds": step.estimate.seconds,
                "frames": step.estimate.frames,
                "disk_bytes": step.estimate.disk_bytes,
                "moves": list(step.estimate.moves),
            }
            for step in plan
        ],
    }


def summary_table(summary: Mapping[str, Any]) -> Table:
    """One run: its steps and their metrics."""
    colour = COLOURS.get(summary["status"], "white")
    reason = f": {summary['reason']}" if summary["reason"] else ""
    title = f"{summary['run']}\n[{colour}]{summary['status']}[/]{reason}"
    table = Table(title=title, title_justify="left")
    for name in ("step", "status", "seconds", "metrics"):
        table.add_column(name, justify="right" if name == "seconds" else "left")
    for step in summary["steps"]:
        status = step["status"]
        table.add_row(
            step["name"],
            f"[{COLOURS.get(status, 'dim')}]{status}[/]",
            f"{step['seconds']:.1f}",
            "  ".join(f"{name} {_number(value)}" for name, value in step["metrics"].items()),
        )
    return table


def result_table(summary: Mapping[str, Any]) -> Table | None:
    """Accuracy of every evaluation, one row per design and seed, one column per stage; None without evaluations."""
    cells: dict[str, dict[str, str]] = {}
    majority = None
    for step in summary["steps"]:
        metrics = step["metrics"]
        if "accuracy" not in metrics or "stage" not in metrics:
            continue
        row = "/".join(step["name"].split("/")[1:])
        cells.setdefault(row, {})[metrics["stage"]] = (
            f"{metrics['accuracy']:.3f} [{metrics['accuracy_low']:.3f}, {metrics['accuracy_high']:.3f}]".replace(
                "[", r"\["
            )
        )
        majority = metrics["majority"]
    if not cells:
        return None
    stages = [s for s in ("simulated", "captured", "finetuned") if any(s in row for row in cells.values())]
    title = f"accuracy on rig '{summary['rig']}', 95 % interval; always naming the largest class gives {majority:.3f}"
    table = Table(title=title, title_justify="left")
    table.add_column("design / seed")
    for stage in stages:
        table.add_column(stage, justify="right")
    for row, values in cells.items():
        table.add_row(row, *(values.get(stage, "") for stage in stages))
    return table


def runs_table(rows: Sequence[RunRow]) -> Table:
    """All known runs."""
    table = Table()
    for name in ("began", "protocol", "rig", "status", "took", "folder"):
        table.add_column(name, overflow="fold")
    for row in rows:
        began = time.strftime("%Y-%m-%d %H:%M", time.localtime(row.began))
        table.add_row(
            began,
            row.name,
            row.rig,
            f"[{COLOURS.get(row.status, 'white')}]{row.status}[/]",
            _duration(row.seconds),
            row.path,
        )
    return table


def compare_table(summaries: Sequence[Mapping[str, Any]]) -> Table:
    """Metrics of several runs, one row per step and metric."""
    table = Table()
    table.add_column("step")
    table.add_column("metric")
    for number, summary in enumerate(summaries, start=1):
        table.add_column(
            f"{number}: {summary['name']} on {summary['rig']}\n{summary['run']}", justify="right", overflow="fold"
        )
    keys = dict.fromkeys((key, name) for s in summaries for key, metrics in s["metrics"].items() for name in metrics)
    for key, name in keys:
        table.add_row(key, name, *(_number(s["metrics"].get(key, {}).get(name)) for s in summaries))
    return table


def _duration(seconds: float) -> str:
    if seconds < 1:
        return "" if seconds == 0 else "1 s"
    if seconds < 120:
        return f"{seconds:.0f} s"
    return f"{seconds / 60:.0f} min" if seconds < 7200 else f"{seconds / 3600:.1f} h"


def _size(count: int) -> str:
    return "" if count == 0 else f"{count / 2**20:.1f} MiB"


def _number(value: Any) -> str:
    if value is None:
        return "–"
    return f"{value:.4g}" if isinstance(value, float) else str(value)
