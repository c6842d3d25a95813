"""Quantities and features as a table: value, unit, limits."""

from __future__ import annotations

from collections.abc import Mapping

from rich.markup import escape
from rich.table import Table

from labctl.knobs import Knob, Value


def knob_table(knobs: Mapping[str, Knob], values: Mapping[str, Value | None], failures: Mapping[str, str]) -> Table:
    """One row per knob; what could not be read says why."""
    table = Table()
    table.add_column("name", no_wrap=True)
    table.add_column("value", justify="right")
    table.add_column("unit")
    table.add_column("allowed")
    before = ""
    for name, knob in knobs.items():
        device = name.partition(".")[0]
        if before and device != before:
            table.add_section()
        before = device
        value = f"[red]{escape(failures[name])}[/]" if name in failures else _shown(values[name])
        table.add_row(name, value, "" if knob.unit == "1" else knob.unit, _allowed(knob))
    return table


def _allowed(knob: Knob) -> str:
    if not knob.settable:
        return "[dim]read only[/]"
    if knob.choices:
        return ", ".join(knob.choices)
    if knob.low is None and knob.high is None:
        return ""
    low, high = ("" if limit is None else f"{limit:g}" for limit in (knob.low, knob.high))
    return f"{low} … {high}"


def _shown(value: Value | None) -> str:
    if value is None:
        return "[dim]–[/]"
    return f"{value:.6g}" if isinstance(value, float) else escape(str(value))
