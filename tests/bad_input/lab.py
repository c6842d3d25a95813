"""A small lab in a folder: a protocol and a rig that extend the shipped ones, and `labctl` in this process."""

from __future__ import annotations

import contextlib
import io
import os
import sys
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path
from unittest import mock

from labctl.cli import main

CONFIGS = Path(__file__).parents[2] / "configs"

PROTOCOL, RIG = "p.yaml", "bench.yaml"
RUN = ("run", PROTOCOL, "--out", "out/run")


@dataclass(frozen=True)
class Case:
    """One mistake: what is written or typed, and what must be said of it, place and path first.

    protocol, rig: lines after the `extends:` line of p.yaml and of bench.yaml, so they start at line 2.
    raw: a whole file in place of p.yaml or bench.yaml. make: prepares the folder.
    """

    name: str
    said: str
    protocol: str = ""
    rig: str = ""
    raw: tuple[str, str] | None = None
    args: tuple[str, ...] = RUN
    make: Callable[[Path], None] | None = None

    def write(self, folder: Path) -> None:
        """Make the lab in `folder`."""
        (folder / "base.yaml").write_text(
            f"extends: {CONFIGS}/protocols/quickstart.yaml\nrig: {RIG}\nsteps: {{report: null}}\n"
        )
        (folder / PROTOCOL).write_text(f"extends: base.yaml\n{self.protocol}\n")
        (folder / RIG).write_text(f"extends: {CONFIGS}/rigs/sim.yaml\n{self.rig}\n")
        if self.raw is not None:
            (folder / self.raw[0]).write_text(self.raw[1])
        if self.make is not None:
            self.make(folder)


@dataclass(frozen=True)
class Answer:
    """What a command said and how it ended."""

    code: int
    out: str
    err: str


def labctl(*args: str) -> Answer:
    """Run `labctl` with `args` in this process and the present folder, without a terminal."""
    out, err = io.StringIO(), io.StringIO()
    code = 0
    with (
        mock.patch.object(sys, "argv", ["labctl", *args]),
        mock.patch.object(sys, "stdin", io.StringIO()),
        contextlib.redirect_stdout(out),
        contextlib.redirect_stderr(err),
    ):
        try:
            main()
        except SystemExit as end:
            code = int(end.code or 0)
    return Answer(code, out.getvalue(), err.getvalue())


def listing(folder: Path) -> dict[str, tuple[int, int]]:
    """Size and time of everything below `folder`: equal listings mean that nothing was made, changed or removed."""
    found = {}
    for root, folders, files in os.walk(folder):
        for name in (*folders, *files):
            status = (Path(root) / name).stat()
            found[str((Path(root) / name).relative_to(folder))] = (status.st_size, status.st_mtime_ns)
    return found
