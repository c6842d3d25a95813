"""The right picture on the right monitor: on two outputs with and without a window manager, and on a screen cut in two.

slmPy alone draws on the wrong monitor under some window managers and across both without one.
"""

from __future__ import annotations

import contextlib
import os
import subprocess
import threading
from collections.abc import Iterator
from pathlib import Path

import numpy as np
import pytest

from drivers.panels.finder import find_monitors
from drivers.panels.flash import flash, label
from drivers.panels.monitors import list_monitors
from labctl.devices import Levels
from tests.drivers.panels.conftest import OpenPanel
from tests.drivers.panels.screens import Screen, need_program, wait_until, xorg_with_two_monitors, xvfb

SERVERS = ("Xorg", "Xorg with openbox", "Xvfb cut in two")


@pytest.fixture(scope="module", params=SERVERS)
def two_monitors(request: pytest.FixtureRequest, tmp_path_factory: pytest.TempPathFactory) -> Iterator[Screen]:
    """Two monitors side by side, 0 left and 1 right."""
    folder = tmp_path_factory.mktemp("screens")
    if request.param == "Xvfb cut in two":
        with xvfb(folder, "1600x600") as screen:
            screen.run("xrandr", "--setmonitor", "LEFT", "800/100x600/100+0+0", "screen")
            screen.run("xrandr", "--setmonitor", "RIGHT", "800/100x600/100+800+0", "none")
            yield screen
        return
    with xorg_with_two_monitors(folder) as screen:
        if request.param == "Xorg":
            yield screen
        else:
            with window_manager(screen, folder):
                yield screen


@contextlib.contextmanager
def window_manager(screen: Screen, folder: Path) -> Iterator[None]:
    """openbox runs on `screen` meanwhile."""
    need_program("openbox")
    environment = {**os.environ, "HOME": str(folder), **screen.environment}
    with (folder / "openbox.log").open("wb") as log:
        process = subprocess.Popen(["openbox"], env=environment, stdout=log, stderr=log)
    try:
        yield
    finally:
        process.terminate()
        process.wait(10)


def shows(screen: Screen, left: Levels, right: Levels) -> bool:
    wanted = np.hstack([left, right])
    return bool((screen.grab() == wanted[..., None]).all())


def test_each_panel_has_its_own_monitor_and_neither_touches_the_other(
    driver: str, two_monitors: Screen, open_panel: OpenPanel
) -> None:
    name = [monitor.name for monitor in list_monitors(environment_of(two_monitors))][1]
    right = open_panel(driver, two_monitors, name="mask", monitor=name, shape=(600, 800))
    left = open_panel(driver, two_monitors, name="scene", monitor="left")
    random = np.random.default_rng(0)
    for _ in range(5):
        a, b = random.integers(0, 256, (2, 600, 800), dtype=np.uint8)
        left.show(a)
        right.show(b)
        assert shows(two_monitors, a, b)
    left.blank()
    assert shows(two_monitors, 0 * a, b)
    left.close()
    right.show(a)
    assert (two_monitors.grab()[:, 800:] == a[..., None]).all()


def test_a_monitor_is_found_by_index_name_and_place(two_monitors: Screen, open_panel: OpenPanel) -> None:
    name = [monitor.name for monitor in list_monitors(environment_of(two_monitors))][1]
    for wanted in (1, name, "right", "+800+0"):
        display = open_panel("pygame", two_monitors, monitor=wanted)
        white = np.full(display.shape, 255, dtype=np.uint8)
        display.show(white)
        assert (two_monitors.grab()[:, 800:] == 255).all()
        display.close()


def test_the_list_says_how_a_rig_file_names_them(two_monitors: Screen) -> None:
    left, right = find_monitors(environment_of(two_monitors))
    assert (left.kind, right.kind) == ("monitor", "monitor")
    assert [finding.where for finding in (left, right)] in (["DUMMY0", "DUMMY1"], ["LEFT", "RIGHT"])
    assert (left.details["left"], right.details["left"]) == (0, 800)
    assert right.details["columns"] == 800


def test_flash_writes_the_number_of_each_monitor_on_it_and_goes_away(two_monitors: Screen) -> None:
    environment = environment_of(two_monitors)
    monitors = list_monitors(environment)
    labels = [label(monitor) for monitor in monitors]
    assert not np.array_equal(*labels)
    flashing = threading.Thread(target=flash, args=(environment, 1.0))
    flashing.start()
    try:
        assert wait_until(lambda: shows(two_monitors, *labels))
    finally:
        flashing.join(20)
    assert not (two_monitors.grab() == 255).any()


def environment_of(screen: Screen) -> dict[str, str]:
    return {**os.environ, **screen.environment}
