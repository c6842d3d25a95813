"""kill -9 of everything, in training and in capture: nothing acknowledged is lost and nothing comes out different."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path

import numpy as np
import pytest

import labctl as labctl_api
from labctl.frames.store import FrameStore
from tests.system.conftest import CAPTURE, Session

pytestmark = pytest.mark.slow


def test_a_run_killed_in_training_and_in_capture_resumes_to_the_same_pixels_and_metrics(
    protocol: Path, labctl: Callable[..., Session], tmp_path: Path
) -> None:
    code, whole = labctl("run", protocol, "--out", tmp_path / "whole", run=tmp_path / "whole").end()
    assert code == 0
    killed = tmp_path / "killed"

    session = labctl("run", protocol, "--out", killed, run=killed)
    session.wait_for_training()
    session.kill_tree()
    assert labctl("status", killed, run=killed).end()[1]["status"] == "died"

    session = labctl("resume", killed, run=killed)
    session.wait_for_capture(frames=100)
    session.kill_tree()
    assert 0 < session.frames() < 3 * 340
    assert session.lamp() == 1.0, "the lamp stays on when its computer dies"

    code, resumed = labctl("resume", killed, run=killed).end()
    assert (code, resumed["status"]) == (0, "finished")
    assert any("made safe before anything else" in note for note in session.summary()["rig_notes"])
    assert session.lamp() == 0.0
    assert resumed["metrics"] == whole["metrics"]
    first, second = (FrameStore.open(run / "artifacts" / CAPTURE / "frames") for run in (tmp_path / "whole", killed))
    for index in range(3 * 340):
        assert np.array_equal(first.frame(index), second.frame(index))
    drop = {"camera_time_s", "host_time_s", "unix_time_s", "frame_id", "run_id"}
    for one, other in zip(first.records, second.records, strict=True):
        assert one.model_dump(exclude=drop) == other.model_dump(exclude=drop)


def test_a_rig_is_made_safe_at_the_next_open_after_a_kill(
    protocol: Path, labctl: Callable[..., Session], tmp_path: Path
) -> None:
    session = labctl("run", protocol, "--set", "steps.train.epochs=1", "--out", tmp_path / "run", run=tmp_path / "run")
    session.wait_for_capture()
    pid = session.process.pid
    session.kill_tree()
    assert session.lamp() == 1.0
    with labctl_api.open_rig("as-built") as rig:
        assert rig.recovered_from is not None
        assert rig.recovered_from.pid == pid
        assert session.lamp() == 0.0
    with labctl_api.open_rig("as-built") as rig:
        assert rig.recovered_from is None
