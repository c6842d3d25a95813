"""Screens, a bench on them, a painter and a camera, all private to the test."""

from __future__ import annotations

import json
import os
import shutil
import subprocess
import sys
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import pytest

from sim.virtual_lab.screens import MASK_MONITOR, SCENE_MONITOR, Screens, end_server, start_screens
from tests.sim.virtual_lab.bench_process import RunningBench
from tests.sim.virtual_lab.virtual_bench import truth_json

SHAPE = (480, 640)


def need(*programs: str) -> None:
    """Skip the test where a program is missing; a failure where LABCTL_REQUIRE says so."""
    missing = [program for program in programs if shutil.which(program) is None]
    if missing:
        pytest.skip(f"{', '.join(missing)} not installed")


@pytest.fixture(params=["xvfb", "xorg"])
def screens(request: pytest.FixtureRequest, tmp_path: Path) -> Iterator[Screens]:
    """Two monitors, on either server."""
    need({"xvfb": "Xvfb", "xorg": "Xorg"}[request.param], "xrandr")
    started = start_screens(request.param, tmp_path, scene_shape=SHAPE, mask_shape=SHAPE)
    yield started
    end_server(started.process)


@pytest.fixture
def start_bench(screens: Screens, tmp_path_factory: pytest.TempPathFactory) -> Iterator[Callable[..., RunningBench]]:
    """A bench on the screens, with these errors and settings of the lab."""
    benches: list[RunningBench] = []

    def start(instruments: Path | None = None, **changes: Any) -> RunningBench:
        folder = tmp_path_factory.mktemp("b")
        places = {
            "display": screens.display,
            "mask_monitor": screens.monitors[MASK_MONITOR],
            "scene_monitor": screens.monitors[SCENE_MONITOR],
            "socket": str(folder / "s"),
            "memory": str(folder / "m"),
            "control": str(folder / "c"),
            "instruments": None if instruments is None else str(instruments),
        }
        config = folder / "config.json"
        config.write_text(json.dumps({"truth": truth_json(**changes), "places": places}))
        process = subprocess.Popen(
            [sys.executable, "-P", "-m", "sim.virtual_lab.bench", str(config)],
            stdin=subprocess.PIPE,
            stdout=subprocess.PIPE,
            env={**os.environ, "OPENBLAS_NUM_THREADS": "1"},
        )
        bench = RunningBench(process, places)
        benches.append(bench)
        bench.wait_until_ready()
        return bench

    yield start
    for bench in benches:
        bench.end()


@pytest.fixture(scope="session")
def producer_cache(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """One cache for all labs of these tests, so that the producer is compiled once."""
    return tmp_path_factory.mktemp("producer-cache")


@pytest.fixture
def lab_ground(producer_cache: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """What a whole lab needs; none is joined."""
    need("Xvfb", "xrandr", "cc")
    monkeypatch.setenv("LABCTL_CACHE", str(producer_cache))
    monkeypatch.delenv("LABCTL_VIRTUAL_LAB", raising=False)
