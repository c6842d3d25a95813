"""Cameras of the producer, the control file of faults, and a bench in a process of its own."""

from __future__ import annotations

import subprocess
import sys
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING

import pytest

from sim.virtual_lab.producer.build import build_producer
from sim.virtual_lab.producer.control import inject_fault

if TYPE_CHECKING:
    from tests.sim.virtual_lab.producer.through_harvesters import Consumer, Grabber


@pytest.fixture(scope="session")
def producer(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return build_producer(tmp_path_factory.mktemp("producer"))


@pytest.fixture
def make_consumer(producer: Path, monkeypatch: pytest.MonkeyPatch) -> Iterator[Callable[..., Consumer]]:
    """Opens a consumer with these LABCTL_PRODUCER_... and LABCTL_BENCH_... variables; the sensor is small."""
    pytest.importorskip("harvesters")
    from tests.sim.virtual_lab.producer.through_harvesters import SENSOR, Consumer

    made: list[Consumer] = []

    def make(**variables: str) -> Consumer:
        settings = {"LABCTL_PRODUCER_SENSOR": f"{SENSOR[1]}x{SENSOR[0]}", **variables}
        for name, value in settings.items():
            monkeypatch.setenv(name, value)
        made.append(Consumer(producer))
        return made[-1]

    yield make
    for consumer in made:
        consumer.close()


@pytest.fixture
def camera(make_consumer: Callable[..., Consumer]) -> Grabber:
    """The first camera, exposing 1 ms at 200 frames per second."""
    grabber = make_consumer().open()
    grabber.set(ExposureTime=1000, AcquisitionFrameRate=200)
    return grabber


@dataclass
class FaultFile:
    """The control file of faults, and its first camera."""

    path: Path

    def inject(self, fault: str, value: float, serial: str = "VLAB0001") -> None:
        inject_fault(self.path, serial, fault, value)


@pytest.fixture
def faults(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> FaultFile:
    path = tmp_path / "faults.txt"
    monkeypatch.setenv("LABCTL_PRODUCER_FAULTS", str(path))
    return FaultFile(path)


class BenchProcess:
    """The bench of `small_bench.py` in a process of its own, told what to do over its stdin."""

    def __init__(self, folder: Path) -> None:
        self.variables = {
            "LABCTL_BENCH_SOCKET": str(folder / "bench.sock"),
            "LABCTL_BENCH_MEMORY": str(folder / "bench.memory"),
        }
        self._start()

    def _start(self) -> None:
        script = Path(__file__).with_name("small_bench.py")
        self.process = subprocess.Popen(
            [sys.executable, str(script), *self.variables.values()],
            stdin=subprocess.PIPE,
            stdout=subprocess.PIPE,
            text=True,
        )
        self.read()

    def read(self) -> str:
        return self.process.stdout.readline().strip()

    def tell(self, words: str) -> str:
        self.process.stdin.write(words + "\n")
        self.process.stdin.flush()
        return self.read()

    def kill(self) -> None:
        self.process.kill()
        self.process.wait()
        self.process.stdin.close()
        self.process.stdout.close()

    def restart(self) -> None:
        self._start()


@pytest.fixture
def bench(tmp_path_factory: pytest.TempPathFactory) -> Iterator[BenchProcess]:
    process = BenchProcess(tmp_path_factory.mktemp("b"))
    yield process
    process.kill()
