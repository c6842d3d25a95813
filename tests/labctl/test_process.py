from __future__ import annotations

import os
import signal
import time
from pathlib import Path

import pytest

from labctl import process
from labctl.errors import RunFailed
from labctl.process import Child


def wait_until_gone(pid: int, limit_s: float = 10) -> bool:
    end = time.monotonic() + limit_s
    while time.monotonic() < end:
        if not Path(f"/proc/{pid}").exists():
            return True
        time.sleep(0.02)
    return False


def test_a_child_that_is_killed_is_noticed_with_its_signal_and_log(tmp_path: Path) -> None:
    child = Child(tmp_path / "log")
    os.kill(child.pid, signal.SIGKILL)
    with pytest.raises(RunFailed, match=r"died \(signal 9\); its log is .*log; `labctl resume`"):
        list(child.messages())
    child.end(grace_s=1)


def test_a_child_that_falls_silent_is_killed(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(process, "SILENCE_LIMIT_S", 1.0)
    child = Child(tmp_path / "log")
    os.kill(child.pid, signal.SIGSTOP)
    with pytest.raises(RunFailed, match="was silent for 1 s and was killed"):
        list(child.messages())
    child.end(grace_s=1)
    assert wait_until_gone(child.pid)


def test_a_child_ends_by_itself_when_its_parent_is_gone(tmp_path: Path) -> None:
    import subprocess
    import sys

    program = f"""
from pathlib import Path
import time
from labctl.process import Child
print(Child(Path({str(tmp_path / "log")!r})).pid, flush=True)
time.sleep(60)
"""
    parent = subprocess.Popen([sys.executable, "-c", program], stdout=subprocess.PIPE, text=True)
    assert parent.stdout is not None
    pid = int(parent.stdout.readline())
    parent.kill()
    parent.communicate()
    assert wait_until_gone(pid)


def test_a_child_that_fails_says_why_in_words(tmp_path: Path) -> None:
    child = Child(tmp_path / "log")
    child.send({"op": "warm", "modules": ["no_such_module"]})
    message = next(message for message in child.messages() if message is not None)
    assert message["op"] == "failed"
    assert "No module named 'no_such_module'" in message["text"]
    child.end(grace_s=5)
    assert "Traceback" in (tmp_path / "log").read_text()


def test_an_ended_child_is_reaped(tmp_path: Path) -> None:
    child = Child(tmp_path / "log")
    assert child.alive
    child.end(grace_s=5)
    assert not child.alive
    child.end(grace_s=0)
