"""The run whose capture is killed: a small protocol on a simulated rig, trained once, captured by `labctl resume`."""

from __future__ import annotations

import json
import shutil
from pathlib import Path
from typing import Any

import numpy as np
import yaml

import labctl
from labctl.api import prepare, resume
from labctl.frames import header
from labctl.frames.record import FrameRecord
from labctl.frames.store import FrameStore
from labctl.frames.verify import verify

SHARD_FRAMES = 64
"""Small, so that many shards are completed while somebody kills."""

BLOCK = 8
KEY = "capture/disc/seed0"
TIMES = {"camera_time_s", "host_time_s", "unix_time_s", "frame_id"}
"""What differs from one capture to the next: clocks, and the numbers that a camera counts from when it is opened."""

PROTOCOL: dict[str, Any] = {
    "version": 1,
    "name": "killed",
    "scene_px": [63, 63],
    "mask_cells": [32, 32],
    "data": {"type": "digits"},
    "designs": {"disc": {"type": "disc"}},
    "steps": {
        "train": {"type": "train", "epochs": 1, "batch": 512, "exposure_s": 0.004},
        "capture": {
            "type": "capture",
            "mask": "${steps.train.mask}",
            "val": 0,
            "exposure_s": 0.004,
            "block": BLOCK,
            "dark_every": 100,
            "sentinel_every": 50,
            "repeats": 2,
        },
    },
}


def write_protocol(folder: Path, frames: int, rig: str) -> Path:
    """A protocol whose capture has at least so many frames."""
    path = folder / "killed.yaml"
    scenes = max(4, (frames - 10) // 2)
    while True:
        steps = PROTOCOL["steps"]
        capture = {**steps["capture"], "train": min(scenes, 1000), "test": max(4, scenes - 1000)}
        path.write_text(
            yaml.safe_dump({**PROTOCOL, "rig": rig, "steps": {**steps, "capture": capture}}, sort_keys=False)
        )
        planned = sum(plan.estimate.frames for plan in prepare(path))
        if planned >= frames:
            return path
        scenes += max(1, (frames - planned) // 2)


def run_undisturbed(protocol: Path, out: Path) -> None:
    """Train and capture, with nobody to kill it."""
    header.MOST_SHARD_FRAMES = SHARD_FRAMES
    run = labctl.run_protocol(protocol, out=out)
    assert run.outcome is not None
    assert run.outcome.status == "finished", run.outcome.reason


def without_capture(whole: Path, out: Path) -> None:
    """A copy of a finished run, as it was when only its training was done."""
    shutil.copytree(whole, out)
    shutil.rmtree(out / "artifacts" / "capture")
    for name in (".run.lock", ".run.pid"):
        (out / name).unlink(missing_ok=True)
    rows = (out / "journal.jsonl").read_text().splitlines(keepends=True)
    (out / "journal.jsonl").write_text("".join(row for row in rows if json.loads(row)["key"] != KEY))


def go_on(run: Path) -> None:
    """`labctl resume`, to the end of the run."""
    header.MOST_SHARD_FRAMES = SHARD_FRAMES
    outcome = resume(run).outcome
    assert outcome is not None
    assert outcome.status == "finished", outcome.reason


def frames_of(run: Path) -> Path:
    """The set of a run."""
    return run / "artifacts" / KEY / "frames"


def differences(run: Path, whole: Path) -> list[str]:
    """What `verify` finds in the capture of `run`, and where it differs from that of `whole`, but for times."""
    one, other = FrameStore.open(frames_of(run)), FrameStore.open(frames_of(whole))
    report = verify(one)
    found = [f"{getattr(report, word)} frames {word}" for word in ("missing", "duplicated", "corrupt")
             if getattr(report, word)]  # fmt: skip
    found += [finding.text for finding in report.findings if finding.severity == "error"]
    if len(one) != len(other):
        return [*found, f"{len(one)} frames instead of {len(other)}"]
    for place in range(len(one)):
        if not np.array_equal(one.frame(place), other.frame(place)):
            found.append(f"the pixels of frame {place} differ")
        mine, theirs = _lasting(one.records[place]), _lasting(other.records[place])
        if mine != theirs:
            names = [name for name in mine if mine[name] != theirs[name]]
            found.append(f"frame {place} differs in {', '.join(names)}")
    if [mark.word for mark in one.marks] != [mark.word for mark in other.marks]:
        found.append(f"{len(one.marks)} marks instead of {len(other.marks)}")
    return found


def _lasting(record: FrameRecord) -> dict[str, Any]:
    return {name: value for name, value in record.model_dump().items() if name not in TIMES | {"run_id"}}
