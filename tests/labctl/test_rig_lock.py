from __future__ import annotations

import subprocess
import sys
import textwrap
from pathlib import Path

import pytest

from labctl.errors import RigBusy
from labctl.rig_lock import RigLock

HOLD = """
    import sys, time
    from pathlib import Path
    from labctl.rig_lock import RigLock
    lock = RigLock(Path({folder!r}), "bench")
    lock.acquire(run="runs/a")
    print("held", flush=True)
    sys.stdin.read()
"""


def holder_in(folder: Path) -> subprocess.Popen[str]:
    process = subprocess.Popen(
        [sys.executable, "-c", textwrap.dedent(HOLD).format(folder=str(folder))],
        stdin=subprocess.PIPE, stdout=subprocess.PIPE, text=True,
    )  # fmt: skip
    assert process.stdout is not None
    assert process.stdout.readline() == "held\n"
    return process


def end(process: subprocess.Popen[str]) -> None:
    process.kill()
    process.communicate()


def test_a_second_process_is_told_who_holds_the_rig(tmp_path: Path) -> None:
    holder = holder_in(tmp_path)
    try:
        with pytest.raises(
            RigBusy, match=rf"rig 'bench' is held by process {holder.pid} of .* run runs/a; wait for it"
        ):
            RigLock(tmp_path, "bench").acquire()
    finally:
        end(holder)


def test_a_killed_holder_frees_the_rig_and_is_remembered(tmp_path: Path) -> None:
    holder = holder_in(tmp_path)
    end(holder)
    lock = RigLock(tmp_path, "bench")
    last = lock.acquire()
    assert last is not None
    assert (last.pid, last.run) == (holder.pid, "runs/a")
    lock.release(safe=True)
    assert lock.acquire() is None
    lock.release(safe=True)


def test_a_rig_that_could_not_be_made_safe_is_remembered(tmp_path: Path) -> None:
    lock = RigLock(tmp_path, "bench")
    assert lock.acquire() is None
    lock.release(safe=False)
    assert lock.acquire() is not None
    lock.release(safe=True)


def test_rigs_of_other_names_are_free(tmp_path: Path) -> None:
    first, second = RigLock(tmp_path, "a"), RigLock(tmp_path, "b")
    first.acquire()
    second.acquire()
    first.release(safe=True)
    second.release(safe=True)
