"""`labctl devices` and `labctl doctor`: what is connected, and what must be right before a run."""

from __future__ import annotations

from dataclasses import asdict
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any

import typer

if TYPE_CHECKING:
    from collections.abc import Mapping

    from rich.table import Table
    from rich.text import Text

    from labctl.discovery import Discovery
    from labctl.doctor import Verdict

Overrides = Annotated[
    list[str] | None, typer.Option("--set", metavar="KEY=VALUE", help="Change one value, e.g. rig.world.seed=7.")
]
AsJson = Annotated[bool, typer.Option("--json", help="Print one JSON object as the last line of stdout.")]
Wait = Annotated[
    float, typer.Option("--wait", min=0, metavar="SECONDS", help="How long to wait for a rig that is in use.")
]

MARKS = {"ok": ("✓", "green"), "warning": ("!", "yellow"), "problem": ("✗", "red"), "skipped": ("·", "dim")}
NAME_COLUMNS = 15


def register(app: typer.Typer) -> None:
    """Add the commands to `app`."""
    app.command()(devices)
    app.command()(doctor)


def devices(
    rig: Annotated[
        str | None, typer.Option("--rig", help="Look with the eyes of this rig: its virtual lab is started for it.")
    ] = None,
    flash: Annotated[bool, typer.Option("--flash", help="Write its number on every monitor.")] = False,
    seconds: Annotated[float, typer.Option("--seconds", min=0.5, max=600, help="How long to flash.")] = 5.0,
    set_: Overrides = None,
    wait: Wait = 0.0,
    as_json: AsJson = False,
) -> None:
    """List monitors, cameras, producers and instruments that the drivers find. Moves nothing."""
    from labctl.cli.in_hand import read_rig
    from labctl.cli.talk import console, print_json, say
    from labctl.device_round import DeviceRound
    from labctl.errors import BadInput

    if rig is None:
        if set_:
            raise BadInput(f"--set {set_[0]}: there is no rig to change; give --rig too")
        found, unflashed = _look({}, flash, seconds)
    else:
        with DeviceRound(read_rig(rig, set_), wait_s=wait) as held:
            found, unflashed = _look(held.environment, flash, seconds)
    if as_json:
        findings = [{**asdict(finding), "details": dict(finding.details)} for finding in found.findings]
        print_json({"findings": findings, "failures": {**found.failures, **unflashed}})
        return
    if found.findings:
        console().print(_findings_table(found))
    else:
        say("nothing was found")
    missing = [kind for kind in ("monitor", "camera") if kind not in {finding.kind for finding in found.findings}]
    if missing:
        say(f"no {' and no '.join(missing)} was found; `labctl doctor` says why")
    for name, text in found.failures.items():
        say(f"{name}: could not be looked for: {text}")
    for name, text in unflashed.items():
        say(f"{name}: could not be flashed: {text}")


def doctor(
    protocol: Annotated[
        Path | None, typer.Argument(metavar="[PROTOCOL]", help="Protocol file that shall be able to run.")
    ] = None,
    rig: Annotated[
        str | None, typer.Option("--rig", help="Rig name or file; goes before the one in the protocol.")
    ] = None,
    out: Annotated[Path, typer.Option("--out", help="Folder of the run, whose disk is measured.")] = Path("runs"),
    set_: Overrides = None,
    wait: Wait = 0.0,
    as_json: AsJson = False,
) -> None:
    """Check all that a rig or a protocol needs, one line each, and say what to do.

    Opens every device by itself, takes one frame, and makes it safe again. Exit code 2: a file is wrong, 4: a device
    does not work, 1: something else keeps the protocol from running, 0: it can run.
    """
    from labctl.cli.in_hand import one_interrupt
    from labctl.cli.talk import console, print_json
    from labctl.doctor import examine, exit_code

    verdicts = []
    screen = console()
    with one_interrupt():
        for verdict in examine(protocol, rig, overrides=set_ or (), out=out, wait_s=wait):
            verdicts.append(verdict)
            if not as_json:
                screen.print(_verdict_line(verdict, screen.width))
    code = exit_code(verdicts)
    if as_json:
        checks = [{**asdict(verdict.check), "exit_code": int(verdict.stops)} for verdict in verdicts]
        print_json({"checks": checks, "exit_code": int(code)})
    else:
        screen.print(_sum(verdicts, what="the protocol" if protocol else "the rig" if rig else ""))
    raise typer.Exit(int(code))


def _look(environment: Mapping[str, str], flash: bool, seconds: float) -> tuple[Discovery, dict[str, str]]:
    from labctl.discovery import find_devices, flash_monitors

    return find_devices(environment), flash_monitors(environment, seconds) if flash else {}


def _findings_table(found: Discovery) -> Table:
    from rich.markup import escape
    from rich.table import Table

    table = Table()
    for name in ("kind", "name", "where", "more"):
        table.add_column(name, overflow="fold")
    before = None
    for finding in sorted(found.findings, key=lambda finding: finding.kind):
        if before not in (None, finding.kind):
            table.add_section()
        before = finding.kind
        said = f"{finding.name} {finding.where}"
        new = {key: _short(value) for key, value in finding.details.items() if value is not None}
        more = ", ".join(f"{key} {value}" for key, value in new.items() if value not in said)
        table.add_row(finding.kind, escape(finding.name), escape(finding.where), escape(more))
    return table


def _short(value: Any) -> str:
    return " ".join(map(str, value)) if isinstance(value, (list, tuple)) else str(value)


def _verdict_line(verdict: Verdict, width: int) -> Table:
    from rich.table import Table
    from rich.text import Text

    check = verdict.check
    mark, style = MARKS[check.status]
    text = Text(check.text, "" if check.status != "skipped" else "dim")
    if check.todo:
        text.append(f"\n→ {check.todo}", style)
    line = Table.grid(padding=(0, 1))
    line.add_column(width=1)
    line.add_column(width=NAME_COLUMNS, overflow="fold")
    line.add_column(overflow="fold", max_width=max(20, width - NAME_COLUMNS - 3))
    line.add_row(Text(mark, style), Text(check.name, "bold"), text)
    return line


def _sum(verdicts: list[Verdict], *, what: str) -> Text:
    from rich.text import Text

    counts = {status: sum(verdict.check.status == status for verdict in verdicts) for status in MARKS}
    said = [f"{counts[status]} {status}{'s' * (counts[status] > 1)}" for status in ("problem", "warning")]
    told = ", ".join(text for text in said if not text.startswith("0 ")) or "all well"
    stopped = any(verdict.stops for verdict in verdicts)
    if stopped:
        return Text(f"{told}; {what or 'it'} cannot run like this", "red")
    return Text(f"{told}; {what} can run" if what else told, "yellow" if counts["problem"] else "green")
