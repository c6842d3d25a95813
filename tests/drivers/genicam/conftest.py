"""Cameras to test: those of our own producer, which can be made to fail from outside, and `viky.cti` of genicam."""

from __future__ import annotations

import os
from collections.abc import Callable, Iterator
from pathlib import Path

import numpy as np
import numpy.typing as npt
import pytest

from drivers.genicam.camera import GenicamCamera
from drivers.genicam.settings import GenicamSettings
from labctl.exposure import Exposure, Frames, FrameTag
from sim.virtual_lab.producer.build import build_producer
from sim.virtual_lab.producer.control import inject_fault
from sim.virtual_lab.producer.pattern import pattern_dn

SENSOR = (48, 64)
BRIEF = Exposure(exposure_s=0.002)

MakeCamera = Callable[..., GenicamCamera]
Fault = Callable[..., None]


@pytest.fixture(scope="session")
def producer(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return build_producer(tmp_path_factory.mktemp("producer"))


@pytest.fixture
def environment(producer: Path, tmp_path: Path) -> dict[str, str]:
    """What tells a child of the producer and of its cameras."""
    return {
        "GENICAM_GENTL64_PATH": str(producer.parent),
        "LABCTL_PRODUCER_SENSOR": f"{SENSOR[1]}x{SENSOR[0]}",
        "LABCTL_PRODUCER_FAULTS": str(tmp_path / "faults"),
    }


@pytest.fixture
def make_camera(environment: dict[str, str]) -> Iterator[MakeCamera]:
    """Opens cameras with short limits; afterwards all are closed and no process of theirs is left."""
    made: list[GenicamCamera] = []

    def make(name: str = "camera", more: dict[str, str] | None = None, **settings: object) -> GenicamCamera:
        chosen = {
            "serial": "VLAB0001", "answer_limit_s": 2.0, "frame_limit_s": 1.0, "reopen_limit_s": 10.0, **settings
        }  # fmt: skip
        camera = GenicamCamera(name, "bench", GenicamSettings.model_validate(chosen), {**environment, **(more or {})})
        made.append(camera)
        camera.open()
        return camera

    yield make
    for camera in made:
        camera.close()
    assert children() == []


@pytest.fixture
def camera(make_camera: MakeCamera) -> GenicamCamera:
    return make_camera()


@pytest.fixture
def fault(environment: dict[str, str]) -> Fault:
    """Makes the camera fail at its next exposure or node access."""
    control = Path(environment["LABCTL_PRODUCER_FAULTS"])

    def inject(name: str, value: float, serial: str = "VLAB0001") -> None:
        inject_fault(control, serial, name, value)

    return inject


def take(camera: GenicamCamera, exposure_id: int = 0, timeout_s: float = 20.0) -> Frames:
    camera.trigger(FrameTag(exposure_id))
    return camera.fetch(timeout_s)


def id_shown(frame: Frames, top: int = 0, left: int = 0, shift: int = 0) -> int:
    """The id, modulo 256, of the test picture in a frame whose region begins at (top, left), proved by every pixel.

    shift: bits by which the format's DN lie below (positive) or above 12 bits.
    """
    pixels = frame.pixels[0, 0].astype(np.int64)
    for number in range(256):
        wanted = pattern_of(pixels.shape, number, top, left, shift)
        if np.array_equal(wanted, pixels):
            return number
    raise AssertionError("this is no frame of the test pattern")


def pattern_of(shape: tuple[int, ...], number: int, top: int, left: int, shift: int) -> npt.NDArray[np.int64]:
    levels = pattern_dn((shape[0], shape[1]), number, offset_x=left, offset_y=top).astype(np.int64)
    return levels >> shift if shift >= 0 else levels << -shift


def children() -> list[str]:
    """Command lines of the camera processes that this test process has started and that still run."""
    found = []
    for status in Path("/proc").glob("[0-9]*/status"):
        try:
            lines = status.read_text()
            command = (status.parent / "cmdline").read_bytes().replace(b"\0", b" ").decode()
        except OSError:
            continue
        if f"PPid:\t{os.getpid()}\n" in lines and "drivers.genicam" in command:
            found.append(command)
    return found
