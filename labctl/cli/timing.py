"""`labctl timing` measures how long the devices of a rig take; `labctl sync` proves that frames show their patterns."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any, Literal

import typer

from labctl.cli.bench import AsJson, Overrides, RigName, Wait, With, set_meanwhile
from labctl.errors import ExitCode

if TYPE_CHECKING:
    from rich.table import Table

    from labctl.sync_proof import Proof
    from labctl.timing import DisplayTiming, Measurement, Timing

NAMED_DOUBTS = 10
"""Doubtful frames that are named one by one."""


def register(app: typer.Typer) -> None:
    """Add the commands to `app`."""
    app.command()(timing)
    app.command()(sync)


def timing(
    rig: RigName,
    longest: Annotated[
        float, typer.Option("--longest", min=0.01, max=30, metavar="SECONDS", help="How long to watch each step.")
    ] = 0.5,
    steps: Annotated[int, typer.Option("--steps", min=2, max=100, help="Steps in each direction.")] = 16,
    plot: Annotated[
        Path | None, typer.Option("--plot", metavar="PNG", help="The step responses. Default: beside timing.json.")
    ] = None,
    with_: With = None,
    set_: Overrides = None,
    wait: Wait = 0.0,
    as_json: AsJson = False,
) -> None:
    """Measure latency and settling of the displays and the delay of the camera, and keep them for this rig."""
    from labctl.cli.in_hand import read_rig, rig_in_hand
    from labctl.cli.talk import console, print_json, say
    from labctl.knobs import check_settings, knobs_of, turn
    from labctl.timing import measure_timing, save_timing

    spec = read_rig(rig, set_)
    spec.require(("mask", "camera"), "`labctl timing`")
    settings = set_meanwhile(with_)
    check_settings(spec, settings)
    with rig_in_hand(spec, wait_s=wait) as opened:
        turn(knobs_of(opened.devices()), settings)
        say(
            f"steps {', '.join(name for name in ('mask', 'scene') if name in spec.devices)} between dark and bright ..."
        )
        measured = measure_timing(opened, longest_s=longest, steps=steps)
    file = save_timing(measured.timing)
    picture = plot if plot is not None else file.with_suffix(".png")
    _plot(measured, picture)
    if as_json:
        print_json({**measured.timing.model_dump(mode="json"), "file": str(file), "plot": str(picture)})
    else:
        console().print(timing_table(measured.timing))
        console().print(camera_line(measured.timing))
    say(f"kept for this rig: {file}")
    say(f"step responses:    {picture}")


def sync(
    rig: RigName,
    which: Annotated[Literal["mask", "scene"], typer.Option("--which", help="On which display.")] = "mask",
    pairs: Annotated[int, typer.Option("--pairs", min=1, max=1_000_000, help="Patterns and frames.")] = 1000,
    patterns: Annotated[int, typer.Option("--patterns", min=2, max=256, help="Different patterns.")] = 16,
    settle: Annotated[
        float | None,
        typer.Option("--settle", min=0, max=60, metavar="SECONDS", help="Instead of the display's own; 0 shows why."),
    ] = None,
    seed: Annotated[int, typer.Option("--seed", min=0, help="Of patterns and order.")] = 0,
    with_: With = None,
    set_: Overrides = None,
    wait: Wait = 0.0,
    as_json: AsJson = False,
) -> None:
    """Prove from the frames themselves that each shows its own pattern. Exit code 4 when one does not."""
    from labctl.cli.in_hand import read_rig, rig_in_hand
    from labctl.cli.talk import console, print_json, say, shown_progress
    from labctl.knobs import check_settings, knobs_of, turn
    from labctl.sync_proof import prove

    spec = read_rig(rig, set_)
    spec.require((which, "mask", "camera"), "`labctl sync`")
    settings = set_meanwhile(with_)
    check_settings(spec, settings)
    with rig_in_hand(spec, wait_s=wait) as opened:
        turn(knobs_of(opened.devices()), settings)
        say(f"{patterns} template patterns, then {pairs} pairs on the {which} ...")
        with shown_progress("pairs") as progress:
            proof = prove(opened, which, pairs=pairs, patterns=patterns, seed=seed, settle_s=settle, progress=progress)
    if as_json:
        print_json(proof_as_json(proof))
    else:
        console().print(proof_table(proof, spec.name))
    for line in doubt_lines(proof):
        say(line)
    say(verdict_line(proof))
    if proof.doubts:
        raise typer.Exit(int(ExitCode.HARDWARE))


def timing_table(timing: Timing) -> Table:
    """A `Timing` for the terminal, in milliseconds."""
    from rich.table import Table

    table = Table(title=f"timing of rig '{timing.rig}', {timing.measured}", title_justify="left")
    table.add_column("ms")
    for name in timing.displays:
        table.add_column(name, justify="right")
    rows: dict[str, Callable[[DisplayTiming], str]] = {
        "latency": lambda found: _pm(found.latency_s, found.latency_spread_s),
        "rise, time constant": lambda found: _ms(found.rise_s),
        "fall, time constant": lambda found: _ms(found.fall_s),
        "settled to 0.5 % after": lambda found: _pm(found.settle_s - found.margin_s, found.settle_error_s),
        "waits, with margin": lambda found: _ms(found.settle_s),
        "exposure used": lambda found: _ms(found.exposure_s),
    }
    for label, cell in rows.items():
        table.add_row(label, *(cell(found) for found in timing.displays.values()))
    return table


def camera_line(timing: Timing) -> str:
    """The delays of the camera in a sentence."""
    camera = timing.camera
    low, high = _ms(camera.start_low_s), _ms(camera.start_high_s)
    starts = low if low == high else f"{low} to {high}"
    return (
        f"camera: an exposure begins {starts} ms after its trigger, ± {_ms(camera.start_jitter_s)}; its frame is there "
        f"{_ms(camera.frame_s)} ms after its end, at worst {_ms(camera.frame_worst_s)}"
    )


def proof_table(proof: Proof, rig: str) -> Table:
    """A `Proof` for the terminal."""
    from rich.table import Table

    title = f"{proof.pairs} {proof.which} patterns and frames on rig '{rig}'"
    table = Table(title=title, title_justify="left", show_header=False)
    table.add_column("")
    table.add_column("", justify="right")
    for label, value in {
        "show another pattern, or none": proof.count("wrong"),
        "show the one before": proof.count("stale"),
        "show a part of the one before": proof.count("torn"),
        "taken again": proof.retakes,
    }.items():
        table.add_row(label, str(value))
    table.add_section()
    for label, text in {
        "settling time": f"{_ms(proof.settle_s)} ms",
        "exposure": f"{_ms(proof.exposure_s)} ms",
        "rate": f"{proof.pairs_per_s:.4g} pairs/s",
        f"nearest two of {proof.patterns} patterns": f"{proof.separation:.4g} sigma apart",
        "least lead of the right pattern": f"{proof.least_margin:.3f}",
        "largest share of the one before": f"{proof.largest_share:.2%}",
    }.items():
        table.add_row(label, text)
    return table


def verdict_line(proof: Proof) -> str:
    """What was proved, in a sentence, and what to do when it was not."""
    right = proof.pairs - len(proof.doubts)
    said = f"{right} of {proof.pairs} frames show their own pattern and nothing else"
    return said if not proof.doubts else f"{said}; measure the settling with `labctl timing`, or raise `settle_s`"


def doubt_lines(proof: Proof) -> list[str]:
    """The first doubtful frames, one line each, and how many more there are."""
    named = [
        f"frame {doubt.frame_id} of pair {doubt.number} is {doubt.verdict.word}: pattern {doubt.asked} was asked for, "
        f"{doubt.verdict.match.index} is nearest, {doubt.verdict.previous_share:.0%} is {doubt.previous}, shown before"
        for doubt in proof.doubts[:NAMED_DOUBTS]
    ]
    more = len(proof.doubts) - len(named)
    return [*named, *([f"and {more} more"] if more else [])]


def proof_as_json(proof: Proof) -> dict[str, Any]:
    """`proof_table` for scripts."""
    names = (
        "which", "pairs", "patterns", "settle_s", "exposure_s", "seconds", "separation", "least_margin",
        "largest_share", "retakes",
    )  # fmt: skip
    told = {name: getattr(proof, name) for name in names}
    counts = {word: proof.count(word) for word in ("wrong", "stale", "torn")}
    doubts = [
        {
            "number": doubt.number, "frame_id": doubt.frame_id, "word": doubt.verdict.word, "asked": doubt.asked,
            "previous": doubt.previous, "nearest": doubt.verdict.match.index,
            "previous_share": doubt.verdict.previous_share,
        }
        for doubt in proof.doubts
    ]  # fmt: skip
    return {**told, **counts, "doubts": doubts}


def _plot(measured: Measurement, path: Path) -> None:
    from matplotlib.figure import Figure

    names = list(measured.steps)
    figure = Figure(figsize=(5.0 * len(names), 3.6), layout="constrained")
    for number, name in enumerate(names):
        found = measured.timing.displays[name]
        axes = figure.add_subplot(1, len(names), number + 1)
        for rise, colour, label in ((True, "tab:blue", "dark to bright"), (False, "tab:orange", "bright to dark")):
            steps = [step for step in measured.steps[name] if step.rise == rise]
            for index, step in enumerate(steps):
                shown = step.fraction if rise else 1 - step.fraction
                axes.plot(
                    1e3 * step.delay_s, 100 * shown, ".", markersize=3, color=colour, label=label if not index else None
                )
        axes.axvline(1e3 * found.settle_s, color="black", linewidth=0.8, label=f"waits {_ms(found.settle_s)} ms")
        axes.set_xlim(0, 1e3 * max(3 * found.settle_s, 5 * found.exposure_s))
        axes.set_xlabel("from picture shown to trigger (ms)")
        axes.set_ylabel("light, share of the step (%)")
        axes.set_title(f"{name}, rig '{measured.timing.rig}'")
        axes.legend(fontsize="small")
    figure.savefig(path, dpi=120)


def _ms(seconds: float) -> str:
    return f"{1e3 * seconds:.3g}" if abs(seconds) >= 1e-6 else "0"


def _pm(seconds: float, error_s: float) -> str:
    return f"{_ms(seconds)} ± {_ms(error_s)}"
