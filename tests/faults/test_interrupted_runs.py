"""Whole runs on the virtual rig that something ends: Ctrl-C, kill -9, the lamp. `labctl resume` completes each."""

from __future__ import annotations

import json
import os
import signal
import subprocess
import sys
import time
from collections.abc import Callable, Iterator
from pathlib import Path

import mss
import numpy as np
import numpy.typing as npt
import pytest

import labctl
from labctl.api import resume
from labctl.frames.store import FrameStore
from tests.faults.captures import FaultyLab
from tests.faults.processes import children, wait_until
from tests.faults.table import Row, keep

PROTOCOL = """
version: 1
name: short
rig: virtual
scene_px: [63, 63]
mask_cells: [32, 32]
data: {type: npz, path: {scenes}}
designs: {disc: {type: disc}}
steps:
  train: {type: train, epochs: 1, exposure_s: 0.002}
  capture:
    type: capture
    mask: ${steps.train.mask}
    train: 24
    val: 0
    test: 16
    block: 4
    exposure_s: 0.002
    witness: none
    instruments: {lamp: {power: 1.0}}
"""

CAPTURE, FRAMES = "capture/disc/seed0", 40

CHANGES = {
    "rig.world.noise": False,
    "rig.mask.settle_s": 0.06,
    "rig.scene.settle_s": 0.06,
    "rig.interlocks": [{"quantity": "lamp.emission", "within": 0.05, "of": "lamp.power", "every_s": 0.05}],
}


@pytest.fixture
def protocol(tmp_path: Path) -> Path:
    """A short protocol, and few random scenes for it."""
    rng = np.random.default_rng(0)
    scenes = rng.random((60, 9, 9), dtype=np.float32).repeat(7, 1).repeat(7, 2)
    split = np.repeat([0, 1, 2], [30, 10, 20])
    np.savez(tmp_path / "scenes.npz", images=scenes, identity=np.arange(60) % 2, split=split)
    (tmp_path / "short.yaml").write_text(PROTOCOL.replace("{scenes}", str(tmp_path / "scenes.npz")))
    return tmp_path / "short.yaml"


@pytest.fixture
def start(faulty: FaultyLab, protocol: Path, tmp_path: Path) -> Iterator[Callable[[], subprocess.Popen[str]]]:
    """Starts `labctl run` in a session of its own; what still runs at the end is killed."""
    started: list[subprocess.Popen[str]] = []

    def run() -> subprocess.Popen[str]:
        changes = [part for name, value in CHANGES.items() for part in ("--set", f"{name}={json.dumps(value)}")]
        command = [sys.executable, "-m", "labctl", "run", str(protocol), "--out", str(tmp_path / "run"), *changes]
        process = subprocess.Popen(
            [*command, "--json"], stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True, start_new_session=True
        )
        started.append(process)
        return process

    yield run
    for process in started:
        if process.poll() is None:
            process.kill()
        process.communicate()


def test_ctrl_c_gives_the_prompt_back_with_the_lamp_off_and_the_panels_blank(
    faulty: FaultyLab, start: Callable[[], subprocess.Popen[str]], tmp_path: Path
) -> None:
    process = start()
    wait_for_frames(tmp_path / "run", process, 8)
    below = children(process.pid)
    assert len(below) >= 3, "two panels and a camera"
    assert faulty.lab.ask_instruments(None)["lamp"] == 1.0
    begun_s = time.monotonic()
    process.send_signal(signal.SIGINT)
    out, err = process.communicate(timeout=60)
    seconds = time.monotonic() - begun_s
    assert process.returncode == 3, err
    assert seconds < 10
    check_safe(faulty, below)
    answer = json.loads(out.strip().splitlines()[-1])
    assert answer["status"] == "stopped"
    taken = frames_of(tmp_path / "run")
    check_completed(tmp_path / "run", taken)
    saw = f"{answer['reason']}; exit code 3; lamp off, panels blank, no process left after {seconds:.1f} s"
    keep(Row("Ctrl-C", "SIGINT to the parent during a capture", saw, "stopped; resumed", 0, 0, seconds))


def test_after_kill_9_of_the_parent_nothing_is_left_and_the_resumed_capture_is_whole(
    faulty: FaultyLab, start: Callable[[], subprocess.Popen[str]], tmp_path: Path
) -> None:
    process = start()
    wait_for_frames(tmp_path / "run", process, 8)
    below = children(process.pid)
    begun_s = time.monotonic()
    process.kill()
    process.communicate()
    assert wait_until(lambda: not any(alive(pid) for pid in below), 10), "children outlive their parent"
    seconds = time.monotonic() - begun_s
    check_blank(faulty)
    check_completed(tmp_path / "run", frames_of(tmp_path / "run"))
    saw = f"the run ends; its children are gone and the panels blank after {seconds:.1f} s; the next open switches off"
    keep(Row("parent killed", "kill -9 of labctl during a capture", saw, "killed; resumed", 0, 0, seconds))


def test_a_run_whose_lamp_loses_power_fails_with_words_and_is_completed_by_resume(
    faulty: FaultyLab, protocol: Path, tmp_path: Path
) -> None:
    class PowerCut:
        def see(self, event: dict[str, object]) -> None:
            if event["kind"] == "progress" and event.get("unit") == "frames" and event["done"] >= 8:
                faulty.lab.ask_instruments("lamp", fault="mains_off")

    begun_s = time.monotonic()
    run = labctl.run_protocol(protocol, out=tmp_path / "run", set=CHANGES, observers=[PowerCut()])
    seconds = time.monotonic() - begun_s
    assert run.outcome is not None
    assert (run.outcome.status, run.outcome.exit_code) == ("failed", 4)
    assert "lamp.emission is 0, it must be within 0.05 of 1 as set" in run.outcome.reason
    faulty.lab.ask_instruments("lamp", fault="mains_on")
    taken = frames_of(tmp_path / "run")
    assert 8 <= len(taken) < FRAMES
    check_completed(tmp_path / "run", taken)
    keep(Row("power loss of the lamp during a run", "instruments control: mains_off", run.outcome.reason,
             "run failed; resumed", 0, 0, seconds))  # fmt: skip


def wait_for_frames(run: Path, process: subprocess.Popen[str], count: int) -> None:
    ledger = run / "artifacts" / CAPTURE / "frames" / "ledger.jsonl"

    def there() -> bool:
        assert process.poll() is None, process.communicate()
        return ledger.exists() and ledger.read_bytes().count(b"\n") >= count

    assert wait_until(there, 60)


def frames_of(run: Path) -> npt.NDArray[np.uint16]:
    """(n, 1, h, w): all frames that the ledger acknowledges, of a capture that may not be complete."""
    store = FrameStore.open(run / "artifacts" / CAPTURE / "frames")
    return store.read(range(len(store)))


def check_completed(run: Path, taken: npt.NDArray[np.uint16]) -> None:
    """Resume; every frame is there once, in order, and those of before are untouched."""
    assert resume(run).status == "finished"
    captured = FrameStore.open(run / "artifacts" / CAPTURE / "frames")
    captured.check_whole()
    ids = captured.column("exposure_id")
    assert np.array_equal(ids, ids[0] + np.arange(FRAMES))
    assert np.array_equal(captured.read(range(len(taken))), taken)


def check_safe(faulty: FaultyLab, below: set[int]) -> None:
    light = faulty.lab.ask_instruments(None)
    assert light["lamp"] == light["shutter"] == 0.0
    assert not any(alive(pid) for pid in below), "a child is left behind"
    check_blank(faulty)


def check_blank(faulty: FaultyLab) -> None:
    with mss.MSS(display=faulty.lab.environment["DISPLAY"]) as screen:
        shot = screen.grab(screen.monitors[0])
    assert not np.frombuffer(shot.raw, dtype="<u4").__and__(0xFFFFFF).any(), "a panel is not blank"


def alive(pid: int) -> bool:
    try:
        os.kill(pid, 0)
    except ProcessLookupError:
        return False
    return Path(f"/proc/{pid}/stat").read_text().rpartition(")")[2].split()[0] != "Z"
