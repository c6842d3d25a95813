"""A capture that is killed at random moments, or loses its power, ends as one that nobody disturbed: a small version.

The large one is `python -m tests.kills --kills 200 --frames 2000`, and the same with `--power-cut`.
"""

from __future__ import annotations

import os
import subprocess
import sys

import pytest

from tests.kills.harness import Result


def run(module: str, *options: str) -> str:
    """What `python -m MODULE` says; it must not fail. One thread: it forks."""
    environment = {**os.environ, "OMP_NUM_THREADS": "1"}
    ended = subprocess.run(
        [sys.executable, "-m", module, *options], env=environment, capture_output=True, text=True, check=False
    )
    assert ended.returncode == 0, ended.stdout + ended.stderr
    return ended.stdout


@pytest.mark.slow
def test_a_capture_killed_again_and_again_is_whole_and_equals_one_that_nobody_disturbed() -> None:
    said = run("tests.kills", "--kills", "18", "--frames", "120", "--power-cut", "0.4")
    assert "acknowledged frames lost: 0; differences: 0" in said
    assert "18 of " in said


@pytest.mark.parametrize("sync", ["block", "shard", "never"])
def test_a_writer_that_dies_between_any_two_calls_is_mended(sync: str) -> None:
    assert ", 0 went wrong" in run("tests.kills.every_call", "--every", "16", "--sync", sync)


def test_a_lost_frame_would_be_told() -> None:
    result = Result(lost=["kill 3"])
    assert "acknowledged frames lost: 1" in result.table()
