"""Whole runs in processes of their own, to be interrupted and killed."""

from __future__ import annotations

import json
import os
import signal
import subprocess
import sys
import time
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import pytest

PROTOCOL = """
extends: {quickstart}
name: short
steps:
  train: {{type: train, epochs: 12, augmentation: {{shift_px: 3}}}}
  capture: {{type: capture, mask: "${{steps.train.mask}}", repeats: 3, block: 16, train: 200, val: 40, test: 100,
             witness: none, instruments: {{lamp: {{power: 1.0}}}}}}
  finetune: {{type: finetune, epochs: 3, model: "${{steps.train.model}}", frames: "${{steps.capture.frames}}"}}
  report: null
"""

TRAIN, CAPTURE = "train/learned/seed0", "capture/learned/seed0"


@dataclass
class Session:
    """One `labctl` process and the run folder it works on."""

    process: subprocess.Popen[str]
    run: Path

    def wait_for(self, look: Callable[[], bool], limit_s: float = 90.0) -> None:
        """Wait until `look` is true; fails when the process ends or the time is over."""
        end = time.monotonic() + limit_s
        while not look():
            assert self.process.poll() is None, f"ended with {self.process.returncode}: {self.process.communicate()}"
            assert time.monotonic() < end, "waited too long"
            time.sleep(0.005)

    def wait_for_training(self) -> None:
        """Until a checkpoint of the training is there."""
        self.wait_for(lambda: (self.run / "artifacts" / TRAIN / "checkpoint.pt").exists())

    def wait_for_capture(self, frames: int = 60) -> None:
        """Until so many frames are captured."""
        ledger = self.run / "artifacts" / CAPTURE / "frames" / "ledger.jsonl"
        self.wait_for(lambda: ledger.exists() and ledger.read_bytes().count(b"\n") >= frames)

    def frames(self) -> int:
        """Frames in the ledger."""
        return (self.run / "artifacts" / CAPTURE / "frames" / "ledger.jsonl").read_bytes().count(b"\n")

    def children(self) -> list[int]:
        """Process ids of the child processes."""
        listing = subprocess.run(["ps", "-o", "pid=", "--ppid", str(self.process.pid)], capture_output=True, text=True)
        return [int(pid) for pid in listing.stdout.split()]

    def kill_tree(self) -> None:
        """SIGKILL to the process and all its children at once."""
        for pid in [self.process.pid, *self.children()]:
            os.kill(pid, signal.SIGKILL)
        self.process.communicate()

    def end(self) -> tuple[int, dict[str, Any]]:
        """Wait for the end; exit code and the last line of stdout."""
        out, err = self.process.communicate(timeout=120)
        assert out.strip(), err
        return self.process.returncode, json.loads(out.strip().splitlines()[-1])

    def summary(self) -> dict[str, Any]:
        """summary.json."""
        value: dict[str, Any] = json.loads((self.run / "summary.json").read_text())
        return value

    def lamp(self) -> float:
        """What the simulated lamp, which outlives its computer, is set to."""
        (state,) = Path(os.environ["LABCTL_STATE"]).glob("rigs/as-built/*lamp*.json")
        return float(json.loads(state.read_text())["power"])


@pytest.fixture
def protocol(tmp_path: Path, configs: Path) -> Path:
    """A short protocol whose training and capture last long enough to be interrupted."""
    path = tmp_path / "short.yaml"
    path.write_text(PROTOCOL.format(quickstart=configs / "protocols" / "quickstart.yaml"))
    return path


@pytest.fixture
def labctl(tmp_path: Path, own_state_folder: Path) -> Iterator[Callable[..., Session]]:
    """Starts `labctl ... --json` in a session of its own; what still runs at the end of the test is killed."""
    started: list[Session] = []

    def start(*arguments: str | Path, run: Path) -> Session:
        command = [sys.executable, "-m", "labctl", *map(str, arguments), "--json"]
        process = subprocess.Popen(
            command, stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True, start_new_session=True, cwd=tmp_path
        )
        started.append(Session(process, run))
        return started[-1]

    yield start
    for session in started:
        if session.process.poll() is None:
            session.kill_tree()
