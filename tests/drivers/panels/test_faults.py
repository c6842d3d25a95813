"""What goes wrong with panels in a lab, done to a real window from outside. Never a hang, always words."""

from __future__ import annotations

import os
import signal
import subprocess
import sys
import time
from pathlib import Path

import numpy as np
import pytest

from drivers.panels import display as panel_display
from drivers.panels.monitors import list_monitors
from drivers.panels.slmpy_module import display_class
from labctl.errors import DeviceTimeout, HardwareError
from tests.drivers.panels.conftest import OpenPanel, children, panel
from tests.drivers.panels.screens import Screen, wait_until, xvfb


@pytest.fixture(autouse=True)
def _no_child_is_left() -> object:
    before = children()
    yield
    assert wait_until(lambda: children() <= before), f"left running: {children() - before}"


def white(display: panel_display.PanelDisplay) -> np.ndarray:
    return np.full(display.shape, 255, dtype=np.uint8)


def child_pid(display: panel_display.PanelDisplay) -> int:
    assert display._process is not None
    return display._process.pid


@pytest.mark.parametrize("monitor", [1, 7, "HDMI-1", "+640+0"])
def test_a_monitor_that_is_not_there_is_answered_with_a_list_of_those_that_are(
    screen: Screen, driver: str, monitor: int | str
) -> None:
    with pytest.raises(HardwareError, match=r"mask: there is no monitor .*; there are: 0 \(screen, 640x400\+0\+0"):
        panel(driver, screen, monitor=monitor).open()


def test_a_monitor_of_another_size_than_the_slm_is_refused(screen: Screen, driver: str) -> None:
    with pytest.raises(HardwareError, match=r"has 400 rows and 640 columns, the rig file says shape \[1080, 1920\]"):
        panel(driver, screen, shape=(1080, 1920)).open()


def test_without_a_display_it_says_what_to_set(driver: str, screen: Screen, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.delenv("DISPLAY", raising=False)
    screen_less = Screen("", screen.process)
    with pytest.raises(HardwareError, match=r"mask: DISPLAY is not set, .*`display: \":0\"`"):
        panel(driver, screen_less).open()


def test_a_display_server_that_is_not_there_is_named(driver: str, screen: Screen) -> None:
    with pytest.raises(HardwareError, match="mask: the display server :4711 cannot be reached"):
        panel(driver, screen, display=":4711").open()


def test_the_display_may_be_named_by_a_variable_which_must_be_set(screen: Screen, open_panel: OpenPanel) -> None:
    with pytest.raises(HardwareError, match=r"display is '\$NO_SUCH_SCREEN'"):
        panel("pygame", screen, display="$NO_SUCH_SCREEN").open()
    assert open_panel("pygame", screen, display="$DISPLAY").shape == (400, 640)


def test_a_display_server_that_hangs_is_a_timeout(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("drivers.panels.monitors.ANSWER_LIMIT_S", 0.5)
    with xvfb(tmp_path) as own:
        own.process.send_signal(signal.SIGSTOP)
        try:
            with pytest.raises(DeviceTimeout, match=r"does not answer within 0\.5 s"):
                panel("pygame", own).open()
        finally:
            own.process.send_signal(signal.SIGCONT)


def test_a_display_server_that_goes_away_is_noticed_by_the_next_call(
    driver: str, tmp_path: Path, open_panel: OpenPanel
) -> None:
    with xvfb(tmp_path) as own:
        display = open_panel(driver, own)
        own.process.kill()
        own.process.wait()
        begun = time.monotonic()
        with pytest.raises(HardwareError, match=rf"mask: .*the display server {own.display} cannot be reached"):
            display.show(white(display))
        with pytest.raises(HardwareError):
            display.safe()
        display.close()
        assert time.monotonic() - begun < 10


def test_a_killed_window_is_noticed_by_the_next_call_and_opens_again(
    driver: str, screen: Screen, open_panel: OpenPanel
) -> None:
    display = open_panel(driver, screen)
    os.kill(child_pid(display), signal.SIGKILL)
    with pytest.raises(HardwareError, match=r"mask: the child process \d+ died \(signal 9\).*may show the desktop"):
        display.show(white(display))
    display.open()
    display.show(white(display))
    assert (screen.frame_buffer_pixels() == 255).all()


def test_a_window_killed_while_it_plays_ends_the_wait(driver: str, screen: Screen, open_panel: OpenPanel) -> None:
    display = open_panel(driver, screen)
    playback = display.play(np.stack([white(display)] * 3), 5.0)
    os.kill(child_pid(display), signal.SIGKILL)
    with pytest.raises(HardwareError, match="died"):
        playback.wait(10)


def test_a_window_that_hangs_is_a_timeout_and_can_be_closed(
    driver: str, screen: Screen, open_panel: OpenPanel, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(panel_display, "SHOW_LIMIT_S", 0.5)
    display = open_panel(driver, screen)
    os.kill(child_pid(display), signal.SIGSTOP)
    with pytest.raises(DeviceTimeout, match=r"mask: no answer to 'show' within 0\.5 s"):
        display.show(white(display))
    display.close()


def test_a_window_that_hung_for_a_while_goes_on_with_the_right_picture(
    driver: str, screen: Screen, open_panel: OpenPanel, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(panel_display, "SHOW_LIMIT_S", 0.3)
    display = open_panel(driver, screen)
    os.kill(child_pid(display), signal.SIGSTOP)
    with pytest.raises(DeviceTimeout):
        display.show(white(display))
    os.kill(child_pid(display), signal.SIGCONT)
    monkeypatch.undo()
    wanted = np.random.default_rng(0).integers(0, 256, display.shape, dtype=np.uint8)
    display.show(wanted)
    assert (screen.frame_buffer_pixels() == wanted[..., None]).all()


def test_a_window_on_top_is_found_by_reading_back(driver: str, screen: Screen, open_panel: OpenPanel) -> None:
    display = open_panel(driver, screen, verify="every")
    found = r"mask: .* 2400 of 256000 pixels differ, in rows 50..89 and columns 100..159; something covers that part"
    with screen.covered(100, 50, 60, 40), pytest.raises(HardwareError, match=found):
        display.show(white(display))
    display.show(white(display))
    assert (screen.frame_buffer_pixels() == 255).all()


def test_the_window_of_a_killed_parent_goes_dark_and_away(driver: str, screen: Screen, tmp_path: Path) -> None:
    script = f"""
import sys, time
import numpy as np
from labctl.devices import OpenContext
from tests.drivers.panels.conftest import panel
from tests.drivers.panels.screens import Screen
display = panel({driver!r}, Screen({screen.display!r}, None))
display.open()
display.show(np.full(display.shape, 255, dtype=np.uint8))
print(display._process.pid, flush=True)
time.sleep(60)
"""
    with subprocess.Popen([sys.executable, "-c", script], stdout=subprocess.PIPE, text=True) as parent:
        assert parent.stdout is not None
        pid = int(parent.stdout.readline())
        assert (screen.frame_buffer_pixels() == 255).all()
        parent.kill()
    assert wait_until(lambda: not Path(f"/proc/{pid}").exists())
    assert (screen.frame_buffer_pixels() == 0).mean() > 0.99, "only the mouse cursor is there again"


def test_the_unrelated_slmpy_of_the_package_index_is_told_apart(
    screen: Screen, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    (tmp_path / "slmpy").mkdir()
    (tmp_path / "slmpy" / "__init__.py").write_text("class ModularityOptimizer: ...\n")
    monkeypatch.setenv("PYTHONPATH", str(tmp_path))
    with pytest.raises(
        HardwareError, match=r"mask: slmpy .* has no class SLMdisplay, so it is not slmPy.*pip uninstall"
    ):
        panel("slmpy", screen).open()


@pytest.mark.parametrize(
    ("module", "words"),
    [
        ("no_such_module", "the module 'no_such_module' is not installed"),
        ("no_such.module", "the module 'no_such.module' is not installed"),
        ("json", "has no class SLMdisplay; set `module`"),
    ],
)
def test_a_module_without_slmpys_class_is_refused(screen: Screen, module: str, words: str) -> None:
    with pytest.raises(HardwareError, match=f"mask: .*{words}"):
        panel(module, screen).open()


def test_without_wx_it_says_how_to_get_it(monkeypatch: pytest.MonkeyPatch) -> None:
    pytest.importorskip("slmcontrol")
    monkeypatch.setitem(sys.modules, "wx", None)
    monkeypatch.delitem(sys.modules, "slmcontrol.slm", raising=False)
    with pytest.raises(
        HardwareError, match=r"needs wxPython, which is not installed.*python -m drivers.panels.link_wx"
    ):
        display_class("slmcontrol.slm")


def test_slmpys_own_exception_is_what_is_reported(
    screen: Screen, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """slmPy's constructor waits for ever when its thread fails, as this one's does."""
    pytest.importorskip("wx")
    (tmp_path / "failing.py").write_text(
        "import threading\n"
        "class SLMdisplay:\n"
        "    def __init__(self, monitor):\n"
        "        def run(): raise ValueError(f'Invalid monitor (monitor {monitor}).')\n"
        "        threading.Thread(target=run).start()\n"
        "        threading.Event().wait()\n"
    )
    monkeypatch.setenv("PYTHONPATH", str(tmp_path))
    with pytest.raises(
        HardwareError, match=r"mask: slmPy's wx thread failed: ValueError: Invalid monitor \(monitor 0\)"
    ):
        panel("failing", screen).open()


def test_without_the_extra_it_says_what_to_install(
    screen: Screen, driver: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(panel_display, "find_spec", lambda name: None)
    with pytest.raises(HardwareError, match=r"mask: .* needs .*mss, not installed; pip install 'labctl\[slm\]'"):
        panel(driver, screen).open()


def test_many_openings_leave_no_process_memory_or_descriptor(screen: Screen) -> None:
    display = panel("pygame", screen)
    counts = []
    for _ in range(8):
        display.open()
        display.show(white(display))
        display.close()
        counts.append((len(children()), len(os.listdir("/proc/self/fd")), len(os.listdir("/dev/shm"))))  # noqa: PTH208
    assert counts[-1] <= counts[1]
    assert len(list_monitors({**os.environ, **screen.environment})) == 1
