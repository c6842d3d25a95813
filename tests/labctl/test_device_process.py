"""A device in a child process: answers, errors, time limits, death of either side."""

from __future__ import annotations

import os
import signal
import subprocess
import sys
import threading
import time
from collections.abc import Iterator
from pathlib import Path

import numpy as np
import pytest

from labctl.device_process import DeviceProcess
from labctl.errors import BadInput, DeviceTimeout, HardwareError
from labctl.shared_block import SharedBlock

CHILD = """
import os, time
from pathlib import Path
import numpy as np
from labctl.device_child import serve
from labctl.errors import BadInput
from labctl.shared_block import SharedBlock

def refuse(): raise BadInput("level is 300, 0..255 is allowed")
def crash(): raise ValueError("vendor")
def nap(seconds):
    time.sleep(seconds)
    return {"slept": seconds}
def fill(fd, value): SharedBlock.attach(fd).array((4,), np.uint16)[:] = value
serve(
    {"add": lambda a, b: {"sum": a + b}, "refuse": refuse, "crash": crash, "nap": nap, "die": lambda: os._exit(7), "fill": fill,
     "say": lambda: print("chatter") or {"display": os.environ["VLAB"]}},
    at_end=lambda: Path(os.environ["SAFE"]).write_text("safe"),
)
"""  # noqa: E501


@pytest.fixture
def block() -> Iterator[SharedBlock]:
    made = SharedBlock.make(64)
    yield made
    made.close()


@pytest.fixture
def child(tmp_path: Path, block: SharedBlock) -> Iterator[DeviceProcess]:
    (tmp_path / "child_under_test.py").write_text(CHILD)
    environment = {"PYTHONPATH": str(tmp_path), "VLAB": ":7", "SAFE": str(tmp_path / "safe")}
    made = DeviceProcess(
        "mask", "child_under_test", tmp_path / "logs" / "mask.log", environment=environment, inherit=[block.fd]
    )
    yield made
    made.end()


def test_a_command_is_answered(child: DeviceProcess) -> None:
    assert child.ask("add", 20, a=2, b=3) == {"sum": 5}
    assert child.ask("say", 20) == {"display": ":7"}, "what it prints must not get into the pipe"


def test_an_error_keeps_its_class_and_its_words(child: DeviceProcess) -> None:
    with pytest.raises(BadInput, match="level is 300"):
        child.ask("refuse", 20)
    with pytest.raises(HardwareError, match="ValueError: vendor"):
        child.ask("crash", 20)
    assert child.ask("add", 20, a=1, b=1) == {"sum": 2}


def test_a_late_answer_is_never_taken_for_the_next_one(child: DeviceProcess) -> None:
    child.ask("add", 20, a=0, b=0)
    with pytest.raises(DeviceTimeout, match=r"mask: no answer to 'nap' within 0\.1 s"):
        child.ask("nap", 0.1, seconds=0.5)
    assert child.ask("add", 20, a=4, b=4) == {"sum": 8}


def test_a_command_waits_no_longer_than_its_limit_for_an_earlier_one_to_end(child: DeviceProcess) -> None:
    child.ask("add", 20, a=0, b=0)
    long = threading.Thread(target=child.ask, args=("nap", 20), kwargs={"seconds": 1.0})
    long.start()
    time.sleep(0.2)
    began = time.monotonic()
    with pytest.raises(DeviceTimeout, match=r"mask: 'add' had to wait 0\.1 s for an earlier command to end"):
        child.ask("add", 0.1, a=1, b=1)
    assert time.monotonic() - began < 0.6
    long.join()
    assert child.ask("add", 20, a=4, b=4) == {"sum": 8}


def test_a_child_that_dies_is_an_error_for_good(child: DeviceProcess) -> None:
    for _ in range(2):
        with pytest.raises(HardwareError, match=r"mask: the child process \d+ died \(exit code 7\)"):
            child.ask("die", 20)


def test_memory_is_shared_and_leaves_nothing_behind(child: DeviceProcess, block: SharedBlock) -> None:
    child.ask("fill", 20, fd=block.fd, value=513)
    assert block.array((4,), np.uint16).tolist() == [513] * 4


def test_it_makes_its_device_safe_when_the_parent_lets_go(child: DeviceProcess, tmp_path: Path) -> None:
    child.ask("add", 20, a=0, b=0)
    child.end()
    assert (tmp_path / "safe").read_text() == "safe"
    assert not child.alive


def test_it_makes_its_device_safe_when_the_parent_is_killed(tmp_path: Path) -> None:
    (tmp_path / "child_under_test.py").write_text(CHILD)
    parent = f"""
import os, time
from pathlib import Path
from labctl.device_process import DeviceProcess
made = DeviceProcess("mask", "child_under_test", Path({str(tmp_path)!r}) / "log")
made.ask("add", 20, a=0, b=0)
print(made.pid, flush=True)
time.sleep(60)
"""
    environment = {**os.environ, "PYTHONPATH": str(tmp_path), "VLAB": ":7", "SAFE": str(tmp_path / "safe")}
    with subprocess.Popen(
        [sys.executable, "-c", parent], stdout=subprocess.PIPE, text=True, env=environment
    ) as process:
        assert process.stdout is not None
        pid = int(process.stdout.readline())
        process.send_signal(signal.SIGKILL)
    end = time.monotonic() + 10
    while Path(f"/proc/{pid}").exists() and time.monotonic() < end:
        time.sleep(0.02)
    assert (tmp_path / "safe").read_text() == "safe"
    assert not Path(f"/proc/{pid}").exists()
