"""A run is a folder of plain files. This module knows their names and nothing else does."""

from __future__ import annotations

import json
import os
import shutil
import time
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from filelock import FileLock, Timeout

from labctl.config import content_hash, dump_yaml, load_config
from labctl.durable import append_line, read_lines, write_json, write_whole
from labctl.errors import BadInput, RigBusy
from labctl.protocol import Protocol, RunPlan, parse_protocol
from labctl.rig_file import RigSpec, parse_rig

SUMMARY_SCHEMA = "labctl.run/1"
SPARE_BYTES = 64 * 2**20
"""Free space that must remain beyond what the plan foretells."""


@dataclass(frozen=True)
class RunFolder:
    """Paths inside one run folder, and the few files that the runner itself writes."""

    path: Path

    @property
    def protocol_file(self) -> Path:
        """The resolved protocol."""
        return self.path / "protocol.yaml"

    @property
    def rig_file(self) -> Path:
        """The resolved rig."""
        return self.path / "rig.yaml"

    @property
    def events_file(self) -> Path:
        """The run log as event-model documents."""
        return self.path / "events.jsonl"

    @property
    def metrics_file(self) -> Path:
        """Values of every epoch and block."""
        return self.path / "metrics.jsonl"

    @property
    def journal_file(self) -> Path:
        """What was started, finished, failed."""
        return self.path / "journal.jsonl"

    @property
    def summary_file(self) -> Path:
        """How the run stands, or how it ended."""
        return self.path / "summary.json"

    @property
    def progress_file(self) -> Path:
        """How far the running step is; for `labctl status`."""
        return self.path / "progress.json"

    @property
    def log_file(self) -> Path:
        """What child processes print."""
        return self.path / "child.log"

    @property
    def report_file(self) -> Path:
        """The report."""
        return self.path / "report.html"

    @property
    def artifacts(self) -> Path:
        """What the steps made, one folder per step instance."""
        return self.path / "artifacts"

    def step_folder(self, key: str) -> Path:
        """Folder of one step instance."""
        return self.artifacts.joinpath(*key.split("/"))

    def protocol(self) -> Protocol:
        """The resolved protocol, checked again."""
        return parse_protocol(load_config(self.protocol_file))

    def rig(self) -> RigSpec:
        """The resolved rig, checked again."""
        return parse_rig(load_config(self.rig_file))

    def summary(self) -> dict[str, Any]:
        """`summary.json`."""
        value: dict[str, Any] = json.loads(self.summary_file.read_text())
        return value

    def write_summary(self, value: Mapping[str, Any]) -> None:
        """Replace `summary.json`."""
        write_json(self.summary_file, {"schema": SUMMARY_SCHEMA, **value})

    def record_metric(self, key: str, index: int, values: Mapping[str, float]) -> None:
        """Append to `metrics.jsonl`. A value that is not finite is written as null."""
        row = {name: value if _finite(value) else None for name, value in values.items()}
        append_line(self.metrics_file, {"time": time.time(), "step": key, "index": index, "values": row}, sync=False)

    def metrics(self) -> list[dict[str, Any]]:
        """All rows of `metrics.jsonl`; where a resumed training wrote an epoch twice, the later row stands."""
        rows = {(row["step"], row["index"]): row for row in read_lines(self.metrics_file)}
        return list(rows.values())

    def lock(self) -> FileLock:
        """The lock that the process running this run holds. Raises RigBusy when another one does."""
        lock = FileLock(self.path / ".run.lock")
        try:
            lock.acquire(timeout=0)
        except Timeout:
            raise RigBusy(
                f"run {self.path} is being worked on by process {self.holder()}; see `labctl status {self.path}`"
            ) from None
        write_whole(self.path / ".run.pid", str(os.getpid()))
        return lock

    def holder(self) -> int | None:
        """Process id of whoever works on this run now, or None."""
        probe = FileLock(self.path / ".run.lock")
        try:
            probe.acquire(timeout=0)
        except Timeout:
            try:
                return int((self.path / ".run.pid").read_text())
            except (OSError, ValueError):
                return None
        probe.release()
        return None


def open_run(path: Path) -> RunFolder:
    """An existing run folder. Raises BadInput when `path` is none."""
    folder = RunFolder(path.expanduser().absolute())
    if not folder.summary_file.is_file():
        raise BadInput(f"{path} is no run folder (it has no summary.json); `labctl runs` lists the runs that are known")
    try:
        folder.summary()
    except (OSError, ValueError) as error:
        raise BadInput(f"{folder.summary_file} cannot be read: {error}; restore it or run anew") from error
    return folder


def check_new_run(path: Path, plan: RunPlan) -> Path:
    """Say whether `path` can become the folder of a new run; creates nothing. Returns it absolute.

    Raises BadInput when something is in the way, it cannot be written, or the disk is too full.
    """
    path = path.expanduser().absolute()
    try:
        _check_vacant(path)
        parent = next(folder for folder in (path, *path.parents) if folder.exists())
    except OSError as error:  # a name that is too long, a folder that may not be looked into
        raise BadInput(f"output folder {path}: {error.strerror or error}; give another --out") from error
    if not parent.is_dir():
        raise BadInput(f"output folder {path}: {parent} is a file; give another --out")
    if not os.access(parent, os.W_OK | os.X_OK):
        raise BadInput(f"output folder {path}: {parent} cannot be written; give another --out")
    if os.statvfs(parent).f_flag & os.ST_RDONLY:
        raise BadInput(f"output folder {path}: {parent} is on a read-only file system; give another --out")
    free, wanted = shutil.disk_usage(parent).free, plan.disk_bytes + SPARE_BYTES
    if free < wanted:
        raise BadInput(
            f"output folder {path}: {free / 2**20:.0f} MiB are free, the run needs about {wanted / 2**20:.0f} MiB; "
            "free some space or give another --out"
        )
    return path


def _check_vacant(path: Path) -> None:
    if path.exists() and not path.is_dir():
        raise BadInput(f"output folder {path}: a file of this name is in the way; give another --out")
    if (path / "summary.json").exists():
        raise BadInput(
            f"output folder {path} already holds a run; `labctl resume {path}` goes on with it, or give another --out"
        )
    if path.is_dir() and any(path.iterdir()):
        raise BadInput(f"output folder {path} is not empty; give a new or an empty one")


def create_run(path: Path, plan: RunPlan) -> RunFolder:
    """Make the folder of a new run and write what will be run. `path` comes from `check_new_run`."""
    folder = RunFolder(path)
    try:
        folder.artifacts.mkdir(parents=True)
        write_whole(folder.protocol_file, dump_yaml({**plan.protocol.resolved(), "rig": plan.rig.name}))
        write_whole(folder.rig_file, dump_yaml(plan.rig.resolved()))
    except OSError as error:
        raise BadInput(f"output folder {path}: {error.strerror or error}; give another --out") from error
    return folder


def protocol_hash(protocol: Protocol) -> str:
    """Content hash of the resolved protocol, without the name of its rig."""
    return content_hash({key: value for key, value in protocol.resolved().items() if key != "rig"})


def _finite(value: float) -> bool:
    return value == value and abs(value) != float("inf")
