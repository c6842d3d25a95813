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
    table = Table(
        title=f"{plan.protocol.name} on rig '{plan.rig.name}' ({plan.rig.nature_in_words})", title_justify="left"
    )
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
        "nature": plan.rig.nature,
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


STAGES = ("simulated", "captured", "finetuned")


def result_table(summary: Mapping[str, Any]) -> Table | None:
    """Accuracy of every evaluation, one row per design and seed, a column for each; None without evaluations."""
    found = _evaluations(summary)
    if not found:
        return None
    majority = found[0]["majority"]
    title = f"accuracy on rig '{summary['rig']}', 95 % interval; always naming the largest class gives {majority:.3f}"
    table = Table(title=title, title_justify="left")
    table.add_column("design / seed")
    headings = _headings([summary])
    for heading in headings.values():
        table.add_column(heading, justify="right")
    for design in dict.fromkeys(row["design"] for row in found):
        rows = [row for row in found if row["design"] == design]
        seeds = dict.fromkeys(row["seed"] for row in rows)
        for seed in seeds:
            cells = {(row["stage"], row["step"]): row for row in rows if row["seed"] == seed}
            table.add_row(f"{design}/{seed}", *(_accuracy(cells[key]) if key in cells else "" for key in headings))
        if len(seeds) > 1:
            of = {key: [row["accuracy"] for row in rows if (row["stage"], row["step"]) == key] for key in headings}
            means = [f"{_mean(values):.3f}" if values else "" for values in of.values()]
            table.add_row(f"{design}, mean of {len(seeds)} seeds", *means, end_section=True)
    return table


def accuracy_table(summaries: Sequence[Mapping[str, Any]]) -> Table:
    """Accuracy of several runs side by side: one row per design and evaluation, the mean over seeds."""
    table = Table(title="accuracy, mean over seeds; intervals stand in the reports", title_justify="left")
    table.add_column("design")
    table.add_column("stage")
    cells: dict[tuple[str, str], dict[int, list[float]]] = {}
    headings = _headings(summaries)
    for number, summary in enumerate(summaries):
        table.add_column(f"{number + 1}: {summary['name']} on {summary['rig']}", justify="right")
        for row in _evaluations(summary):
            key = (row["design"], headings[row["stage"], row["step"]])
            cells.setdefault(key, {}).setdefault(number, []).append(row["accuracy"])
    for (design, stage), values in cells.items():
        means = [f"{_mean(values[n]):.3f}" if n in values else "–" for n in range(len(summaries))]
        table.add_row(design, stage, *means)
    return table


def _headings(summaries: Sequence[Mapping[str, Any]]) -> dict[tuple[str, str], str]:
    """What (stage, step) is called, by stage; the step is named where one run evaluates a stage in several steps."""
    of_runs = [dict.fromkeys((row["stage"], row["step"]) for row in _evaluations(summary)) for summary in summaries]
    several = {stage for keys in of_runs for stage in STAGES if sum(there == stage for there, _ in keys) > 1}
    keys = sorted({key: None for keys in of_runs for key in keys}, key=lambda key: STAGES.index(key[0]))
    return {(stage, step): f"{stage} ({step})" if stage in several else stage for stage, step in keys}


def _evaluations(summary: Mapping[str, Any]) -> list[dict[str, Any]]:
    """Metrics of all steps that report an accuracy for a stage, with their step, design and seed."""
    found = []
    for step in summary["steps"]:
        name, *cell = step["name"].split("/")
        if {"accuracy", "stage"} <= set(step["metrics"]) and cell:
            found.append({**step["metrics"], "step": name, "design": "/".join(cell[:-1]) or "–", "seed": cell[-1]})
    return found


def _accuracy(row: Mapping[str, Any]) -> str:
    return rf"{row['accuracy']:.3f} \[{row['accuracy_low']:.3f}, {row['accuracy_high']:.3f}]"


def _mean(values: Sequence[float]) -> float:
    return sum(values) / len(values)


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
