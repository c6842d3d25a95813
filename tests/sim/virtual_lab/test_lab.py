"""A lab as a whole: up in seconds, found through its environment alone, and gone with its owner in whatever way."""

from __future__ import annotations

import os
import shutil
import signal
import socket
import subprocess
import sys
import time
from collections.abc import Callable
from pathlib import Path

import numpy as np
import pytest

from labctl.errors import BadInput, HardwareError
from sim.virtual_lab.lab import JOIN_VARIABLE, LabSettings, VirtualLab
from tests.sim.virtual_lab.bench_process import Camera, Painter
from tests.sim.virtual_lab.virtual_bench import RIG_FILE, a_mask, a_scene, mask_levels, scene_levels, truth_json

pytestmark = [pytest.mark.virtual, pytest.mark.timeout(120), pytest.mark.usefixtures("lab_ground")]

SHAPE = (480, 640)


def settings(**errors: object) -> LabSettings:
    return LabSettings(truth=truth_json(**errors), scene_shape=SHAPE, mask_shape=SHAPE, display="auto")


def parts_of(folder: Path) -> list[int]:
    """Process ids that were given this folder."""
    found = []
    for process in Path("/proc").iterdir():
        if process.name.isdigit():
            try:
                command = (process / "cmdline").read_bytes()
            except OSError:
                continue
            if str(folder).encode() in command:
                found.append(int(process.name))
    return found


def wait_for(condition: Callable[[], bool], limit_s: float) -> bool:
    end_s = time.monotonic() + limit_s
    while not condition() and time.monotonic() < end_s:
        time.sleep(0.05)
    return condition()


def is_alive(pid: int) -> bool:
    try:
        os.kill(pid, 0)
    except ProcessLookupError:
        return False
    return b"State:\tZ" not in Path(f"/proc/{pid}/status").read_bytes()


def test_the_environment_is_all_that_a_driver_needs() -> None:
    with VirtualLab(settings()) as lab:
        environment = lab.environment
        assert list(Path(environment["GENICAM_GENTL64_PATH"]).glob("*.cti"))
        assert Path(environment["LABCTL_PRODUCER_FAULTS"]).is_file()
        _, address, port, _ = environment["VIRTUAL_LAMP"].split("::")
        with socket.create_connection((address, int(port)), timeout=5) as lamp:
            lamp.sendall(b"*IDN?\n")
            assert b"," in lamp.recv(200)
        painter = Painter(environment["DISPLAY"])
        painter.close()
        camera = Camera({"socket": environment["LABCTL_BENCH_SOCKET"], "memory": environment["LABCTL_BENCH_MEMORY"]})
        assert camera.expose() is not None
        camera.close()


def test_after_stop_no_process_file_or_socket_is_left() -> None:
    lab = VirtualLab(settings()).start()
    folder, pids = lab.folder, dict(lab.pids)
    assert folder is not None
    assert set(pids) == {"x-server", "instruments", "bench"}
    assert all(is_alive(pid) for pid in pids.values())
    lab.stop()
    lab.stop()
    assert not any(is_alive(pid) for pid in pids.values())
    assert not folder.exists()


@pytest.mark.parametrize("victim", ["owner", "keeper"])
def test_when_owner_or_keeper_is_killed_every_part_dies(victim: str) -> None:
    program = (
        "import sys, time\n"
        "from sim.virtual_lab.lab import VirtualLab\n"
        "from tests.sim.virtual_lab.test_lab import settings\n"
        "lab = VirtualLab(settings()).start()\n"
        "print(lab.folder, *lab.pids.values(), flush=True)\n"
        "time.sleep(60)\n"
    )
    with subprocess.Popen(
        [sys.executable, "-c", program], stdout=subprocess.PIPE, text=True, cwd=RIG_FILE.parents[2]
    ) as owner:
        assert owner.stdout is not None
        folder, *pids = owner.stdout.readline().split()
        try:
            parts = [int(pid) for pid in pids]
            assert all(is_alive(pid) for pid in parts)
            keepers = [pid for pid in parts_of(Path(folder)) if pid not in parts]
            assert len(keepers) == 1
            os.kill(owner.pid if victim == "owner" else keepers[0], signal.SIGKILL)
            assert wait_for(lambda: not any(is_alive(pid) for pid in [*parts, *keepers]), 5)
            if victim == "owner":
                assert wait_for(lambda: not Path(folder).exists(), 5)
        finally:
            owner.kill()
            shutil.rmtree(folder, ignore_errors=True)


def test_two_labs_stand_side_by_side_and_see_their_own_screens_only() -> None:
    with VirtualLab(settings()) as one, VirtualLab(settings()) as other:
        assert one.environment["DISPLAY"] != other.environment["DISPLAY"]
        painter = Painter(one.environment["DISPLAY"])
        painter.show((0, 0, 640, 480), scene_levels(a_scene()))
        painter.show((640, 0, 640, 480), mask_levels(a_mask()))
        time.sleep(0.1)
        frames = []
        for lab in (one, other):
            places = {
                "socket": lab.environment["LABCTL_BENCH_SOCKET"],
                "memory": lab.environment["LABCTL_BENCH_MEMORY"],
            }
            camera = Camera(places)
            frames.append(camera.expose())
            camera.close()
        painter.close()
    assert frames[0] is not None
    assert frames[1] is not None
    assert frames[0].mean() > 200
    assert frames[1].mean() < 70


def test_a_running_lab_is_joined_stands_for_the_new_truth_and_stays_up(monkeypatch: pytest.MonkeyPatch) -> None:
    with VirtualLab(settings()) as running:
        monkeypatch.setenv(JOIN_VARIABLE, str(running.folder))
        with VirtualLab(settings(shift_px=(2.0, 0.0))) as joined:
            assert joined.environment == running.environment
        assert running.ask_bench("truth")["optics"]["shift_px"] == [2.0, 0.0]
        other = LabSettings(truth=truth_json(), scene_shape=(600, 800), mask_shape=SHAPE)
        with pytest.raises(BadInput, match="start one of that size"):
            VirtualLab(other).start()


def test_joining_a_lab_that_is_not_there_says_what_to_do(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv(JOIN_VARIABLE, str(tmp_path))
    with pytest.raises(HardwareError, match="unset the variable"):
        VirtualLab(settings()).start()


def test_a_lab_that_cannot_start_says_why_and_leaves_nothing(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("PATH", str(tmp_path))
    lab = VirtualLab(settings())
    with pytest.raises(HardwareError, match="apt-get install"):
        lab.start()
    assert lab.folder is not None
    assert not lab.folder.exists()
    assert parts_of(lab.folder) == []


def test_hidden_hands_reach_bench_and_instruments() -> None:
    with VirtualLab(settings()) as lab:
        lab.ask_bench("fault", name="fail_next", count=1)
        places = {"socket": lab.environment["LABCTL_BENCH_SOCKET"], "memory": lab.environment["LABCTL_BENCH_MEMORY"]}
        camera = Camera(places)
        assert camera.expose() is None
        assert camera.expose() is not None
        camera.close()
        assert lab.ask_instruments(None)["lamp"] == 0
        with pytest.raises(HardwareError, match="refused"):
            lab.ask_instruments("lamp", fault="flood")


def test_up_prints_what_a_shell_must_export_and_ends_on_sigterm() -> None:
    command = [sys.executable, "-m", "sim.virtual_lab", "up", "--rig", str(RIG_FILE)]
    with subprocess.Popen(command, stdout=subprocess.PIPE, text=True) as process:
        assert process.stdout is not None
        exported = {}
        for line in process.stdout:
            if line.startswith("# ready"):
                break
            name, value = line.removeprefix("export ").strip().split("=", 1)
            exported[name] = value.strip("'")
        folder = Path(exported[JOIN_VARIABLE])
        assert (folder / "lab.json").is_file()
        assert exported["VIRTUAL_SHUTTER_HISLIP"].startswith("TCPIP")
        process.terminate()
        assert process.wait(20) == 0
    assert not folder.exists()


def test_a_lab_stays_up_when_the_thread_that_started_it_has_ended() -> None:
    import threading

    lab = VirtualLab(settings())
    starter = threading.Thread(target=lab.start)
    starter.start()
    starter.join()
    try:
        time.sleep(0.3)
        assert all(is_alive(pid) for pid in lab.pids.values())
        assert np.isfinite(lab.ask_bench("statistics")["frames"])
    finally:
        lab.stop()
