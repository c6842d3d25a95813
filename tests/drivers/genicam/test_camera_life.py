"""Opening and closing many times, Ctrl-C, and what is left behind: nothing."""

from __future__ import annotations

import gc
import os
import signal
import subprocess
import sys
import time
from pathlib import Path

import pytest

from tests.drivers.genicam.conftest import BRIEF, MakeCamera, children, id_shown, take

CYCLES = 20


def resident_kb() -> int:
    lines = Path("/proc/self/status").read_text().splitlines()
    return int(next(line for line in lines if line.startswith("VmRSS")).split()[1])


@pytest.mark.slow
def test_many_reopenings_leave_neither_memory_nor_descriptors_nor_processes(make_camera: MakeCamera) -> None:
    camera = make_camera()
    memory, descriptors = [], []
    for _ in range(CYCLES):
        camera.open()
        camera.configure(BRIEF)
        camera.arm(1)
        id_shown(take(camera))
        camera.close()
        gc.collect()
        memory.append(resident_kb())
        descriptors.append(len(os.listdir("/proc/self/fd")))  # noqa: PTH208 - it counts, it does not look
    assert memory[-1] - memory[9] < 1500, "kB"
    assert descriptors[-1] == descriptors[0]
    assert children() == []


def test_closing_and_making_safe_twice_is_fine_and_it_opens_again(make_camera: MakeCamera) -> None:
    camera = make_camera()
    camera.configure(BRIEF)
    for act in (camera.safe, camera.safe, camera.close, camera.close, camera.safe, camera.open, camera.open):
        act()
    camera.configure(BRIEF)
    camera.arm(1)
    take(camera)


def test_ctrl_c_of_the_parent_works_while_it_waits_for_a_frame(environment: dict[str, str]) -> None:
    script = (
        "import os\n"
        "from drivers.genicam.settings import GenicamSettings\n"
        "from labctl.devices import OpenContext\n"
        "from labctl.exposure import Exposure, FrameTag\n"
        "camera = GenicamSettings(serial='VLAB0001').make(OpenContext('camera', 'bench'))\n"
        "camera.open()\n"
        "camera.configure(Exposure(exposure_s=8.0))\n"
        "camera._kept._proven = True\n"
        "camera.arm(1)\n"
        "camera.trigger(FrameTag(0))\n"
        "print(camera.describe_device()['pid'], flush=True)\n"
        "try:\n"
        "    camera.fetch(20)\n"
        "except KeyboardInterrupt:\n"
        "    camera.close()\n"
        "    print('closed', flush=True)\n"
    )
    with subprocess.Popen(
        [sys.executable, "-c", script], stdout=subprocess.PIPE, text=True, env={**os.environ, **environment}
    ) as process:
        assert process.stdout is not None
        child = int(process.stdout.readline())
        time.sleep(0.3)
        begun_s = time.monotonic()
        process.send_signal(signal.SIGINT)
        assert process.stdout.readline() == "closed\n"
        assert process.wait(10) == 0
    assert time.monotonic() - begun_s < 4
    assert not Path(f"/proc/{child}").exists()


def test_a_killed_parent_takes_the_camera_process_with_it(environment: dict[str, str]) -> None:
    script = (
        "import time\n"
        "from drivers.genicam.settings import GenicamSettings\n"
        "from labctl.devices import OpenContext\n"
        "from labctl.exposure import Exposure\n"
        "camera = GenicamSettings(serial='VLAB0001').make(OpenContext('camera', 'bench'))\n"
        "camera.open()\n"
        "camera.configure(Exposure(exposure_s=0.001))\n"
        "camera.start_stream()\n"
        "print(camera.describe_device()['pid'], flush=True)\n"
        "time.sleep(60)\n"
    )
    with subprocess.Popen(
        [sys.executable, "-c", script], stdout=subprocess.PIPE, text=True, env={**os.environ, **environment}
    ) as process:
        assert process.stdout is not None
        child = int(process.stdout.readline())
        process.send_signal(signal.SIGKILL)
    end_s = time.monotonic() + 10
    while Path(f"/proc/{child}").exists() and time.monotonic() < end_s:
        time.sleep(0.02)
    assert not Path(f"/proc/{child}").exists()


def test_importing_the_driver_loads_no_vendor_library() -> None:
    script = (
        "import sys, drivers.genicam.camera, drivers.genicam.finder\n"
        "assert not {'harvesters', 'genicam', 'numba'} & set(sys.modules), sorted(sys.modules)\n"
    )
    subprocess.run([sys.executable, "-c", script], check=True, timeout=60)


def test_larger_and_smaller_regions_leave_no_shared_memory_behind(make_camera: MakeCamera) -> None:
    camera = make_camera()
    child = Path(f"/proc/{camera.describe_device()['pid']}/fd")
    open_files = []
    for rows in range(4, 44, 4):
        camera.configure(BRIEF.model_copy(update={"roi": (rows, rows)}))
        camera.arm(1)
        take(camera)
        open_files.append((len(list(child.iterdir())), len(os.listdir("/proc/self/fd"))))  # noqa: PTH208
    assert len(set(open_files)) == 1
