"""The camera driver against the shortest loop over harvesters that also copies every frame, on our own producer.

The floor gives what the driver gives: every frame as an array of DN of its own. Shown beside it: the same loop when it
only copies the bytes into a ring that nobody reads. Flat out at 1920x1200 all lose frames, since the producer makes
them faster than anybody takes them. Processor time per frame counts the producer, the grabbing and the taking.
"""

from __future__ import annotations

import itertools
import json
import os
import subprocess
import sys
import threading
import time
from collections.abc import Callable, Iterator
from contextlib import AbstractContextManager, contextmanager
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from drivers.genicam.camera import GenicamCamera
from drivers.genicam.pixel_formats import NUMPY_UNPACKERS, unpacker
from drivers.genicam.settings import GenicamSettings
from labctl.exposure import Exposure
from sim.virtual_lab.producer.build import build_producer

SHAPE = (1200, 1920)
FRAMES, ROUNDS, PASSES = 100, 5, 3
PACED_HZ, PACED_FRAMES = 100.0, 400

BARE_LOOP = """
import json, os, sys, time
import numpy as np
from harvesters.core import Harvester

producer, pixel_format, frames = sys.argv[1], sys.argv[2], int(sys.argv[3])
harvester = Harvester()
harvester.add_file(producer)
harvester.update()
acquirer = harvester.create({"serial_number": "VLAB0001"})
nodes = acquirer.remote_device.node_map
nodes.PixelFormat.value = pixel_format
nodes.AcquisitionFrameRateEnable.value = False
nodes.ExposureTime.value = 10.0
acquirer.num_buffers = 8
acquirer.start()
with acquirer.fetch() as first:
    like = first.payload.components[0].data
    ring = [np.empty_like(like) for _ in range(16)]
to_ring = sys.argv[4] == "ring"
for _ in sys.stdin:
    begun_s = time.process_time()
    for number in range(frames):
        with acquirer.fetch() as buffer:
            data = buffer.payload.components[0].data
            if to_ring:
                np.copyto(ring[number % 16], data)
            else:
                frame = data.astype(np.uint16)
    print(json.dumps((time.process_time() - begun_s) / frames), flush=True)
os._exit(0)
"""

Grab = Callable[[], float]
"""Takes FRAMES frames; returns seconds of processor time for each."""


@pytest.fixture(scope="module")
def producer(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return build_producer(tmp_path_factory.mktemp("producer"))


@contextmanager
def camera_at(producer: Path, pixel_format: str, **features: bool | float) -> Iterator[GenicamCamera]:
    variables = {"GENICAM_GENTL64_PATH": str(producer.parent), "LABCTL_PRODUCER_SENSOR": f"{SHAPE[1]}x{SHAPE[0]}"}
    settings = GenicamSettings(serial="VLAB0001", pixel_format=pixel_format, features=dict(features))
    camera = GenicamCamera("camera", "benchmark", settings, variables)
    camera.open()
    try:
        camera.configure(Exposure(exposure_s=1e-5))
        camera.start_stream("every")
        yield camera
    finally:
        camera.close()


@contextmanager
def ours(producer: Path, pixel_format: str) -> Iterator[Grab]:
    with camera_at(producer, pixel_format, AcquisitionFrameRateEnable=False) as camera:
        pid = camera.describe_device()["pid"]

        def grab() -> float:
            begun_s = time.process_time() + processor_s(pid)
            for _ in range(FRAMES):
                camera.next_frame(10)
            return (time.process_time() + processor_s(pid) - begun_s) / FRAMES

        yield grab


@contextmanager
def bare(producer: Path, pixel_format: str, into: str) -> Iterator[Grab]:
    command = [sys.executable, "-c", BARE_LOOP, str(producer), pixel_format, str(FRAMES), into]
    environment = {**os.environ, "LABCTL_PRODUCER_SENSOR": f"{SHAPE[1]}x{SHAPE[0]}", "PYTHONUNBUFFERED": "1"}
    with subprocess.Popen(
        command, stdin=subprocess.PIPE, stdout=subprocess.PIPE, stderr=subprocess.DEVNULL, env=environment, text=True
    ) as process:

        def grab() -> float:
            assert process.stdin is not None
            assert process.stdout is not None
            process.stdin.write("\n")
            process.stdin.flush()
            return float(json.loads(process.stdout.readline()))

        yield grab
        assert process.stdin is not None
        process.stdin.close()


def processor_s(pid: int) -> float:
    """Processor time that a process has used so far."""
    fields = Path(f"/proc/{pid}/stat").read_text().rpartition(")")[2].split()
    return (int(fields[11]) + int(fields[12])) / os.sysconf("SC_CLK_TCK")


WAYS: dict[str, tuple[str, Callable[[Path, str], AbstractContextManager[Grab]]]] = {
    "labctl": ("ours", ours),
    "bare loop, arrays of DN": ("floor", lambda producer, name: bare(producer, name, "arrays")),
    "bare loop, bytes into a ring": ("other", lambda producer, name: bare(producer, name, "ring")),
}


@pytest.fixture(scope="module")
def processor_ms(request: pytest.FixtureRequest) -> Iterator[dict[tuple[str, str], list[float]]]:
    """Collects processor time per frame by format and way; prints the medians in the end."""
    found: dict[tuple[str, str], list[float]] = {}
    yield found
    reporter = request.config.pluginmanager.get_plugin("terminalreporter")
    for (name, way), times in found.items():
        reporter.write_line(f"{name}, {way}: {np.median(times):.2f} ms of processor time per frame")


@pytest.mark.parametrize(
    ("again", "pixel_format", "way"), list(itertools.product(range(PASSES), ["Mono8", "Mono12"], WAYS))
)
def test_flat_out(
    benchmark: Any, producer: Path, processor_ms: dict[Any, list[float]], again: int, pixel_format: str, way: str
) -> None:
    role, begin = WAYS[way]
    used = processor_ms.setdefault((pixel_format, way), [])
    with begin(producer, pixel_format) as grab:
        benchmark.pedantic(lambda: used.append(1e3 * grab()), rounds=ROUNDS, warmup_rounds=1)
    group = f"{FRAMES} frames 1920x1200 {pixel_format}, flat out"
    benchmark.extra_info.update(ratio_group=group, role=role, label=way, cpu_ms=used[-ROUNDS:])
    benchmark.extra_info["frames_per_s"] = round(FRAMES / benchmark.stats["median"])


def count() -> int:
    """Half a second or so of nothing but Python."""
    total = 0
    for number in range(5_000_000):
        total += number
    return total


@pytest.mark.parametrize(("again", "role"), list(itertools.product(range(PASSES), ["ours", "floor"])))
def test_paced_frames_leave_the_main_process_its_speed(benchmark: Any, producer: Path, again: int, role: str) -> None:
    """A loop in Python beside 100 frames/s that a second thread takes, against the loop alone."""
    benchmark.extra_info.update(ratio_group="a loop in Python, beside 100 frames/s of 1920x1200 Mono12", role=role)
    if role == "floor":
        benchmark.extra_info["label"] = "the loop alone"
        benchmark.pedantic(count, rounds=ROUNDS, warmup_rounds=1)
        return
    benchmark.extra_info["label"] = "beside the camera"
    with camera_at(producer, "Mono12", AcquisitionFrameRate=PACED_HZ) as camera:
        ending = threading.Event()
        taken: list[int] = []

        def take() -> None:
            while not ending.is_set():
                taken.append(len(camera.next_frame(10)))

        taker = threading.Thread(target=take)
        taker.start()
        benchmark.pedantic(count, rounds=ROUNDS, warmup_rounds=1)
        ending.set()
        taker.join()
        camera.stop_stream()
        benchmark.extra_info["drops"] = camera.stats()["drops"]


def test_paced_frames_all_arrive(benchmark: Any, producer: Path) -> None:
    def grab(camera: GenicamCamera) -> dict[str, int]:
        camera.start_stream("every")
        for _ in range(PACED_FRAMES):
            camera.next_frame(10)
        drops: dict[str, int] = camera.stats()["drops"]
        return drops

    with camera_at(producer, "Mono12", AcquisitionFrameRate=PACED_HZ) as camera:
        before = grab(camera)
        after = benchmark.pedantic(grab, args=(camera,), rounds=1)
    lost = {name: after[name] - before[name] for name in ("missing", "not_taken", "incomplete", "underrun")}
    benchmark.extra_info["lost"] = lost
    assert not any(lost.values()), lost


@pytest.mark.parametrize(("way", "role"), [("numba where it is installed", "ours"), ("numpy", "floor")])
def test_unpacking(benchmark: Any, way: str, role: str) -> None:
    packed = np.random.default_rng(0).integers(0, 256, SHAPE[0] * SHAPE[1] * 3 // 2, dtype=np.uint8)
    decode = unpacker("12p") if role == "ours" else NUMPY_UNPACKERS["12p"]
    benchmark.extra_info.update(ratio_group="1920x1200 Mono12p to DN", role=role, label=way)
    benchmark.pedantic(decode, args=(packed, SHAPE[0] * SHAPE[1]), rounds=50, warmup_rounds=2)
