"""The commands. Each imports what it needs when it is called, so that `labctl --help` stays fast."""

from __future__ import annotations

import json
import os
import signal
import time
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any

import typer
from typer.core import TyperGroup

from labctl.cli import bench, calibration, dataset, preflight, study, timing
from labctl.cli.talk import print_json, say
from labctl.errors import BadInput, ExitCode, Stopped

if TYPE_CHECKING:
    from labctl.api import Run
    from labctl.protocol import RunPlan


class _Commands(TyperGroup):
    """Ctrl-C outside a run, as in a look at the data, ends in a word too; click's own end is silent."""

    def invoke(self, ctx: typer.Context) -> Any:  # type: ignore[override]
        """See `click.Group.invoke`. Raises Stopped."""
        try:
            return super().invoke(ctx)
        except KeyboardInterrupt:
            raise Stopped("stopped by the user; decoded pictures are kept, nothing else was begun") from None


app = typer.Typer(
    cls=_Commands,
    help="Design privacy-preserving cameras with the hardware in the loop.",
    no_args_is_help=True,
    add_completion=False,
    pretty_exceptions_enable=False,
    rich_markup_mode=None,
    context_settings={"help_option_names": ["-h", "--help"]},
)
runs_app = typer.Typer(help="List, show and compare runs.", invoke_without_command=True, rich_markup_mode=None)
app.add_typer(runs_app, name="runs")

ProtocolPath = Annotated[Path, typer.Argument(metavar="PROTOCOL", help="Protocol file (.yaml).")]
RunPath = Annotated[Path, typer.Argument(metavar="RUN", help="Run folder.")]
RigName = Annotated[str | None, typer.Option("--rig", help="Rig name or file; goes before the one in the protocol.")]
Overrides = Annotated[
    list[str] | None,
    typer.Option("--set", metavar="KEY=VALUE", help="Change one value, e.g. steps.train.epochs=3 or rig.world.seed=7."),
]
AsJson = Annotated[bool, typer.Option("--json", help="Print one JSON object as the last line of stdout.")]
Wait = Annotated[
    float, typer.Option("--wait", min=0, metavar="SECONDS", help="How long to wait for a rig that is in use.")
]


def _print_version(asked: bool) -> None:
    if asked:
        from labctl import __version__

        print(__version__)  # noqa: T201
        raise typer.Exit


@app.callback()
def _root(
    version: Annotated[
        bool, typer.Option("--version", callback=_print_version, is_eager=True, help="Print the version.")
    ] = False,
) -> None:
    """Design privacy-preserving cameras with the hardware in the loop."""


@app.command()
def validate(protocol: ProtocolPath, rig: RigName = None, set_: Overrides = None, as_json: AsJson = False) -> None:
    """Check a protocol, its rig, its data and its references; move and write nothing."""
    plan = _prepare(protocol, rig, set_)
    count = len(plan.steps)
    say(f"{protocol}: fine. {count} steps on rig '{plan.rig.name}' ({plan.rig.nature_in_words})")
    if as_json:
        print_json({"valid": True, "steps": count, "rig": plan.rig.name})


@app.command()
def plan(protocol: ProtocolPath, rig: RigName = None, set_: Overrides = None, as_json: AsJson = False) -> None:
    """Say what a run would do: what moves, how long it takes, how much it writes. Moves and writes nothing."""
    from labctl.cli.tables import plan_as_json, plan_table, show

    planned = _prepare(protocol, rig, set_)
    if as_json:
        print_json(plan_as_json(planned))
    else:
        show(plan_table(planned))


@app.command()
def run(
    protocol: ProtocolPath,
    rig: RigName = None,
    out: Annotated[
        Path | None, typer.Option("--out", help="Folder of the run; new or empty. Default: runs/...")
    ] = None,
    set_: Overrides = None,
    wait: Wait = 0.0,
    as_json: AsJson = False,
) -> None:
    """Run a protocol."""
    from labctl import api
    from labctl.cli.live import LiveProgress, ask_on_terminal, interrupts_on_terminal

    planned = _prepare(protocol, rig, set_)
    with interrupts_on_terminal() as interrupts, LiveProgress() as live:
        made = api.execute_new(
            planned, out=out, observers=[live], ask=ask_on_terminal(live), wait_s=wait, interrupts=interrupts
        )
    _end(made, as_json)


@app.command()
def resume(run: RunPath, wait: Wait = 0.0, as_json: AsJson = False) -> None:
    """Go on with a run that was stopped, failed or died."""
    from labctl import api
    from labctl.cli.live import LiveProgress, ask_on_terminal, interrupts_on_terminal

    with interrupts_on_terminal() as interrupts, LiveProgress() as live:
        made = api.resume(
            run, observers=[live], ask=ask_on_terminal(live), wait_s=wait, interrupts=interrupts, progress=live.look
        )
    _end(made, as_json)


@app.command()
def stop(run: RunPath) -> None:
    """Ask a run in another terminal to stop after its current block."""
    _signal(run, signal.SIGINT, "stops after its current block")


@app.command()
def abort(run: RunPath) -> None:
    """Ask a run in another terminal to stop at once; the rig is made safe."""
    _signal(run, signal.SIGTERM, "aborts")


@app.command()
def status(run: RunPath, as_json: AsJson = False) -> None:
    """Say how a run stands."""
    from labctl.cli.tables import show, summary_table
    from labctl.store import open_run

    folder = open_run(run)
    summary, holder = folder.summary(), folder.holder()
    if summary["status"] == "running" and holder is None:
        summary["status"], summary["reason"] = "died", f"its process is gone; `labctl resume {run}` goes on"
    progress = json.loads(folder.progress_file.read_text()) if holder and folder.progress_file.exists() else None
    if as_json:
        print_json({**summary, "pid": holder, "progress": progress})
        return
    show(summary_table(summary))
    if progress is not None:
        age = time.time() - progress["time"]
        say(f"{progress['step']}: {progress['done']}/{progress['total']} {progress['unit']}, {age:.0f} s ago")


@runs_app.callback()
def runs(
    context: typer.Context,
    root: Annotated[Path | None, typer.Option("--root", help="Also look for run folders below this folder.")] = None,
    as_json: AsJson = False,
) -> None:
    """List the runs known on this computer, newest first."""
    if context.invoked_subcommand is not None:
        return
    from dataclasses import asdict

    from labctl.catalogue import Catalogue
    from labctl.cli.tables import runs_table, show

    if root is not None and not root.is_dir():
        raise BadInput(f"--root {root}: there is no such folder; give a folder that holds runs")
    catalogue = Catalogue()
    for folder in (root, Path("runs")):
        if folder is not None and folder.is_dir():
            catalogue.scan(folder)
    rows = catalogue.runs()
    if as_json:
        print_json({"runs": [asdict(row) for row in rows]})
    else:
        show(runs_table(rows))


@runs_app.command("show")
def runs_show(run: RunPath, as_json: AsJson = False) -> None:
    """Show one run: its steps and their metrics."""
    status(run, as_json)


@runs_app.command("compare")
def runs_compare(
    run: Annotated[list[Path], typer.Argument(metavar="RUN...", help="Run folders.")],
    all_: Annotated[bool, typer.Option("--all", help="Every metric of every step, not just accuracies.")] = False,
    as_json: AsJson = False,
) -> None:
    """Put the accuracies of several runs side by side, or with --all every metric."""
    from labctl.cli.tables import accuracy_table, compare_table, show
    from labctl.store import open_run

    summaries = [open_run(path).summary() for path in run]
    if as_json:
        print_json({"runs": [{"run": s["run"], "rig": s["rig"], "metrics": s["metrics"]} for s in summaries]})
    else:
        show(compare_table(summaries) if all_ else accuracy_table(summaries))


@app.command("export-mask")
def export_mask(
    source: Annotated[
        Path,
        typer.Argument(metavar="MASK", help="mask.npy, or the folder of a step that made one (RUN/artifacts/...)."),
    ],
    out: Annotated[Path, typer.Option("--out", help="Folder for the files.")],
    pitch_m: Annotated[
        float | None, typer.Option("--pitch-m", help="Side of a printed cell in metres. Default: as on the rig.")
    ] = None,
    rig: Annotated[str | None, typer.Option("--rig", help="Rig name or file. Default: the rig of the run.")] = None,
    set_: Annotated[
        list[str] | None,
        typer.Option("--set", metavar="KEY=VALUE", help="A setting of the step `export`, e.g. polarity=closed."),
    ] = None,
    as_json: AsJson = False,
) -> None:
    """Write the files from which a mask is printed (GDSII, SVG, PNG), and compare each with the mask."""
    from labctl.cli.export import export_mask_files

    told = export_mask_files(source, out=out, pitch_m=pitch_m, rig=rig, overrides=set_ or [])
    for file in told["files"]:
        say(f"{out / file['file']}: read back, {file['read_back']['equal_cells']} cells equal")
    if as_json:
        print_json(told)


@app.command()
def schema(what: Annotated[str, typer.Argument(metavar="protocol|rig", help="Which file format.")]) -> None:
    """Print the JSON Schema of protocol or rig files, for editors."""
    from labctl.file_schemas import protocol_schema, rig_schema

    makers = {"protocol": protocol_schema, "rig": rig_schema}
    if what not in makers:
        raise BadInput(f"'{what}' has no schema; allowed are protocol and rig")
    print(json.dumps(makers[what](), indent=2))  # noqa: T201


bench.register(app)
calibration.register(app)
dataset.register(app)
preflight.register(app)
study.register(app)
timing.register(app)


def _prepare(protocol: Path, rig: str | None, overrides: list[str] | None) -> RunPlan:
    from labctl.api import prepare
    from labctl.cli.live import LiveProgress

    with LiveProgress() as live:
        return prepare(protocol, rig=rig, overrides=overrides or [], progress=live.look)


def _end(made: Run, as_json: bool) -> None:
    from labctl.cli.tables import result_table, show

    outcome = made.outcome
    assert outcome is not None
    table = result_table(made.folder.summary())
    if table is not None:
        show(table, error=True)
    if made.folder.report_file.exists():
        say(f"report: {made.folder.report_file}")
    say(f"run:    {made.path}")
    say(f"{outcome.status}" + (f": {outcome.reason}" if outcome.reason else ""))
    if outcome.exit_code != ExitCode.OK:
        if made.folder.log_file.exists() and outcome.exit_code == ExitCode.RUN_FAILED:
            say(f"log:    {made.folder.log_file}")
        say(f"go on with: labctl resume {made.path}")
    if as_json:
        print_json(
            {
                "run": str(made.path),
                "status": outcome.status,
                "reason": outcome.reason,
                "metrics": dict(outcome.metrics),
            }
        )
    raise typer.Exit(int(outcome.exit_code))


def _signal(run: Path, number: signal.Signals, what: str) -> None:
    from labctl.store import open_run

    folder = open_run(run)
    holder = folder.holder()
    if holder is None:
        raise BadInput(f"run {run} is not running (status {folder.summary()['status']}); nothing to stop")
    os.kill(holder, number)
    say(f"run {run} (process {holder}) {what}; see `labctl status {run}`")
