"""One virtual lab for all faults; after each of them nothing is left running, lit, or broken."""

from __future__ import annotations

import fcntl
import gc
import shutil
import time
import warnings
from collections.abc import Callable, Iterator
from contextlib import ExitStack
from itertools import combinations
from pathlib import Path

import numpy as np
import numpy.typing as npt
import pytest

from labctl.exposure import join_frames
from labctl.rig_file import find_rig, load_rig
from sim.virtual_lab.lab import JOIN_VARIABLE, VirtualLab
from sim.virtual_lab.world import VirtualLabSettings, lab_settings
from tests.faults.captures import FaultyLab
from tests.faults.processes import children, wait_until

INSTRUMENTS = ("lamp", "shutter")

UNCLOSED_SOCKET = "ignore:Exception ignored in.*socket:pytest.PytestUnraisableExceptionWarning"
"""pyvisa-py 0.8.1 leaves a TCP socket that could not connect to the garbage collector."""


def pytest_collection_modifyitems(items: list[pytest.Item]) -> None:
    """All of these want the virtual lab, and none may hang."""
    for item in items:
        if Path(__file__).parent in item.path.parents:
            item.add_marker("virtual")
            item.add_marker(pytest.mark.timeout(90))
            item.add_marker(pytest.mark.filterwarnings(UNCLOSED_SOCKET))


def need(*programs: str) -> None:
    """Skip the test where a program is missing; a failure where LABCTL_REQUIRE says so."""
    missing = [program for program in programs if shutil.which(program) is None]
    if missing:
        pytest.skip(f"{', '.join(missing)} not installed")


@pytest.fixture(scope="package")
def session_lab(tmp_path_factory: pytest.TempPathFactory) -> Iterator[FaultyLab]:
    """The lab, and captures that nobody disturbed."""
    need("Xvfb", "xrandr", "cc")
    with pytest.MonkeyPatch.context() as patch:
        patch.setenv("LABCTL_STATE", str(tmp_path_factory.mktemp("state")))
        patch.setenv("LABCTL_CACHE", str(tmp_path_factory.mktemp("cache")))
        patch.delenv(JOIN_VARIABLE, raising=False)
        with lab_of_the_rig() as lab:
            patch.setenv(JOIN_VARIABLE, str(lab.folder))
            faulty = FaultyLab(lab)
            whole = {}
            for kind in ("scenes", "live"):
                taken = faulty.capture(kind)
                assert taken.error is None
                whole[kind] = join_frames(taken.frames).pixels
                distance = nearest_pair_dn(whole[kind])
                assert distance >= 20, f"frames that are alike prove nothing ({kind}: {distance} DN)"
            yield FaultyLab(lab, whole)


@pytest.fixture
def faulty(session_lab: FaultyLab, monkeypatch: pytest.MonkeyPatch) -> Iterator[FaultyLab]:
    """The lab without a fault. Afterwards: no process more than before, no light, every fault taken back."""
    lab = session_lab.lab
    monkeypatch.setenv(JOIN_VARIABLE, str(lab.folder))
    before = children()
    truth = lab.ask_bench("truth")
    mend(lab)
    yield session_lab
    with warnings.catch_warnings():  # now, and not in the next test
        warnings.filterwarnings("ignore", r"unclosed <socket\.socket.*family=2", ResourceWarning)
        gc.collect()
    assert wait_until(lambda: children() <= before), f"left running: {children() - before}"
    light = lab.ask_instruments(None)
    mend(lab)
    for display, part in (("mask", "panel"), ("scene", "monitor")):
        times = {name: truth[part][name] for name in ("latency_s", "response_s")}
        lab.ask_bench("set", display=display, **times)
    assert light["lamp"] == 0.0, "the lamp is left on"
    assert light["shutter"] == 0.0, "the shutter is left open"


@pytest.fixture
def own_lab(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> Iterator[Callable[[], VirtualLab]]:
    """Starts labs of the test's own, to be destroyed. The rigs that are opened from then on join the last one."""
    with ExitStack() as labs:

        def start() -> VirtualLab:
            monkeypatch.delenv(JOIN_VARIABLE, raising=False)
            lab = labs.enter_context(lab_of_the_rig("xvfb"))
            monkeypatch.setenv(JOIN_VARIABLE, str(lab.folder))
            return lab

        yield start


def lab_of_the_rig(display: str = "auto") -> VirtualLab:
    """The lab of the virtual rig, without noise, to be entered."""
    spec = load_rig(find_rig("virtual"), overrides=["world.noise=false", f"world.display={display}"])
    assert isinstance(spec.world, VirtualLabSettings)
    return VirtualLab(lab_settings(spec.world, spec.twin, spec.roads))


def mend(lab: VirtualLab) -> None:
    """Take every fault back."""
    with Path(lab.environment["LABCTL_PRODUCER_FAULTS"]).open("r+b") as file:
        fcntl.flock(file, fcntl.LOCK_EX)
        file.truncate(0)
    for name in INSTRUMENTS:
        lab.ask_instruments(name, fault="none")
    lab.ask_instruments("lamp", fault="mains_on")


def nearest_pair_dn(pixels: npt.NDArray[np.uint16]) -> int:
    """By how much the two most similar frames differ where they differ most, and any of them from the dark."""
    frames = [np.full_like(pixels[0], pixels.min()), *pixels]
    return min(int(np.abs(one.astype(int) - other).max()) for one, other in combinations(frames, 2))


@pytest.fixture
def timed() -> Callable[[], float]:
    """Seconds since the test began."""
    begun_s = time.monotonic()
    return lambda: time.monotonic() - begun_s
