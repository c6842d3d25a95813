"""One X server per module, and a panel on it with every driver that is installed."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from importlib.util import find_spec
from pathlib import Path
from typing import Any

import pytest

from drivers.panels.display import PanelDisplay
from drivers.panels.settings import PanelSettings, PygameSettings, SlmpySettings
from labctl.devices import OpenContext
from tests.drivers.panels.screens import Screen, xvfb

DRIVERS = ("pygame", "slmcontrol.slm", *(["slmpy"] if find_spec("slmpy") else []))
"""`pygame`, and the modules that have slmPy's class; slmPy itself only where a lab has installed it."""

OpenPanel = Callable[..., PanelDisplay]


@pytest.fixture(scope="module")
def screen(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Screen]:
    """A display server of this module's own."""
    with xvfb(tmp_path_factory.mktemp("xvfb")) as started:
        yield started


@pytest.fixture(params=DRIVERS)
def driver(request: pytest.FixtureRequest) -> str:
    """Every driver in turn."""
    name: str = request.param
    needed = ["pygame", "mss"] if name == "pygame" else ["wx", "mss", name.partition(".")[0]]
    missing = [package for package in needed if find_spec(package) is None]
    if missing:
        pytest.skip(f"not installed: {', '.join(missing)}")
    return name


@pytest.fixture
def open_panel() -> Iterator[OpenPanel]:
    """Opens panels and closes them afterwards."""
    opened: list[PanelDisplay] = []

    def open_one(driver: str, screen: Screen, **settings: Any) -> PanelDisplay:
        display = panel(driver, screen, **settings)
        opened.append(display)
        display.open()
        return display

    yield open_one
    for display in opened:
        display.close()


def panel(driver: str, screen: Screen, *, name: str = "mask", **settings: Any) -> PanelDisplay:
    """A panel, not yet opened."""
    return PanelDisplay(
        OpenContext(name, "test-rig", environment=screen.environment), panel_settings(driver, **settings)
    )


def panel_settings(driver: str, **settings: Any) -> PanelSettings:
    """Settings of the driver called `driver` in `DRIVERS`."""
    settings.setdefault("monitor", 0)
    return PygameSettings(**settings) if driver == "pygame" else SlmpySettings(module=driver, **settings)


def children() -> set[int]:
    """Process ids of this process's children."""
    return {int(pid) for task in Path("/proc/self/task").iterdir() for pid in (task / "children").read_text().split()}
