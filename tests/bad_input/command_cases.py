"""Mistakes on the command line: overrides, names, run folders, output folders."""

from __future__ import annotations

from pathlib import Path

from tests.bad_input.lab import PROTOCOL, RUN, Case


def _summary_is_broken(folder: Path) -> None:
    (folder / "torn").mkdir()
    (folder / "torn" / "summary.json").write_text('{"status": "fini')


COMMAND_CASES = [
    # --- the command line
    Case(
        "--rig unknown",
        "--rig as-buildt: there is no rig 'as-buildt'; did you mean `as-built`?",
        args=(*RUN, "--rig", "as-buildt"),
    ),
    Case(
        "--rig file missing",
        "--rig nosuch.yaml: there is no rig file 'nosuch.yaml'",
        args=(*RUN, "--rig", "nosuch.yaml"),
    ),
    Case(
        "--set typo in a key",
        "--set steps.train.epoch=3: steps.train.epoch: unknown key; did you mean `epochs`?",
        args=(*RUN, "--set", "steps.train.epoch=3"),
    ),
    Case(
        "--set typo in a step",
        "--set steps.tran.epochs=3: steps.tran.type: is missing",
        args=(*RUN, "--set", "steps.tran.epochs=3"),
    ),
    Case(
        "--set bad value",
        "--set steps.train.epochs=many: steps.train.epochs: 'many' is text; a whole number is needed",
        args=(*RUN, "--set", "steps.train.epochs=many"),
    ),
    Case(
        "--set without =",
        "--set steps.train.epochs: a path and a value are needed; write it like steps.train.epochs=3",
        args=(*RUN, "--set", "steps.train.epochs"),
    ),
    Case(
        "--set nothing",
        "--set steps.train.epochs=: there is no value; write null for nothing, '' for empty text",
        args=(*RUN, "--set", "steps.train.epochs="),
    ),
    Case(
        "--set into a list",
        "--set seeds.0=3: seeds is a list (at",
        args=(*RUN, "--set", "seeds.0=3"),
    ),
    Case(
        "--set typo in the rig",
        "--set rig.world.sed=3: world.sed: unknown key; did you mean `seed`?",
        args=(*RUN, "--set", "rig.world.sed=3"),
    ),
    Case(
        "--set bad value in the rig",
        "--set rig.twin.sensor.bits=99: twin.sensor.bits: 99 is out of range; at most 16 is allowed",
        args=(*RUN, "--set", "rig.twin.sensor.bits=99"),
    ),
    Case("unknown command", "Error: No such command 'rnu'. Did you mean 'run'?", args=("rnu", PROTOCOL)),
    Case("no protocol", "Error: Missing argument 'PROTOCOL'.", args=("run",)),
    Case(
        "unknown option",
        "Error: No such option: --fast (Possible options: --set, --wait)",
        args=("run", PROTOCOL, "--fast"),
    ),
    Case(
        "option of the wrong type",
        "Error: Invalid value for '--wait': Input should be a valid number, unable to parse string as a",
        args=("run", PROTOCOL, "--wait", "soon"),
    ),
    Case("schema of nothing", "'run' has no schema; allowed are protocol and rig", args=("schema", "run")),
    Case(
        "runs show no run",
        "nosuch is no run folder (it has no summary.json); `labctl runs` lists the runs that are known",
        args=("runs", "show", "nosuch"),
    ),
    Case(
        "runs compare no run",
        "nosuch is no run folder (it has no summary.json); `labctl runs` lists the runs that are known",
        args=("runs", "compare", "nosuch"),
    ),
    Case(
        "runs below no folder",
        "--root nosuch: there is no such folder; give a folder that holds runs",
        args=("runs", "--root", "nosuch"),
    ),
    Case(
        "resume no run",
        ". is no run folder (it has no summary.json); `labctl runs` lists the runs that are known",
        args=("resume", "."),
    ),
    Case(
        "status of no run",
        "nosuch is no run folder (it has no summary.json); `labctl runs` lists the runs that are known",
        args=("status", "nosuch"),
    ),
    Case(
        "status of a torn summary",
        "torn/summary.json cannot be read: Unterminated string starting at: line 1 column 12 (char 11);",
        args=("status", "torn"),
        make=_summary_is_broken,
    ),
    Case(
        "stop no run",
        "nosuch is no run folder (it has no summary.json); `labctl runs` lists the runs that are known",
        args=("stop", "nosuch"),
    ),
    Case(
        "abort no run",
        "nosuch is no run folder (it has no summary.json); `labctl runs` lists the runs that are known",
        args=("abort", "nosuch"),
    ),
    # --- the output folder
    Case(
        "--out onto a file",
        "a file of this name is in the way; give another --out",
        args=("run", PROTOCOL, "--out", "base.yaml"),
    ),
    Case(
        "--out below a file",
        "base.yaml is a file; give another --out",
        args=("run", PROTOCOL, "--out", "base.yaml/run"),
    ),
    Case("--out onto a full folder", "is not empty; give a new or an empty one", args=("run", PROTOCOL, "--out", ".")),
    Case(
        "--out onto a run",
        "already holds a run; `labctl resume ",
        args=("run", PROTOCOL, "--out", "torn"),
        make=_summary_is_broken,
    ),
    Case(
        "--out with an endless name",
        ": File name too long; give another --out",
        args=("run", PROTOCOL, "--out", "x" * 300),
    ),
]
