"""What a panel driver promises: these pixels, there, when `show` returns. See `labctl.devices.Display`."""

from __future__ import annotations

import os
import signal
import time

import numpy as np
import pytest

from drivers.panels.display import PanelDisplay
from labctl.devices import Device, Display, Levels
from labctl.errors import BadInput, DeviceTimeout, HardwareError
from tests.drivers.panels.conftest import OpenPanel
from tests.drivers.panels.screens import Screen, wait_until


@pytest.fixture
def display(driver: str, screen: Screen, open_panel: OpenPanel) -> PanelDisplay:
    return open_panel(driver, screen)


def noise(display: PanelDisplay, seed: int) -> Levels:
    return np.random.default_rng(seed).integers(0, 256, display.shape, dtype=np.uint8)


def is_on(screen: Screen, levels: Levels) -> bool:
    return bool((screen.frame_buffer_pixels() == levels[..., None]).all())


def test_it_is_a_display_with_the_pixels_of_its_monitor(display: PanelDisplay) -> None:
    assert isinstance(display, Device)
    assert isinstance(display, Display)
    assert display.shape == (400, 640)
    said = display.describe_device()
    assert said["name"] == "mask"
    assert said["monitor"]["name"] == "screen"


def test_two_witnesses_see_exactly_the_levels_that_were_shown(display: PanelDisplay, screen: Screen) -> None:
    rows, columns = display.shape
    ramp = np.tile(np.arange(columns, dtype=np.int64) % 256, (rows, 1)).astype(np.uint8)
    one_pixel = np.zeros(display.shape, dtype=np.uint8)
    one_pixel[3, 7] = 255
    for levels in (noise(display, 0), ramp, one_pixel, np.asfortranarray(noise(display, 1)), noise(display, 2)[::-1]):
        display.show(levels)
        assert is_on(screen, levels)
        assert (screen.grab() == levels[..., None]).all()


def test_the_mouse_cursor_is_not_on_the_panel(driver: str, screen: Screen, open_panel: OpenPanel) -> None:
    screen.run("xsetroot", "-cursor_name", "crosshair")
    assert wait_until(lambda: screen.frame_buffer_pixels().any()), "Xvfb's own file has the cursor in it"
    display = open_panel(driver, screen)
    display.show(noise(display, 4))
    assert is_on(screen, noise(display, 4))


def test_a_picture_that_was_covered_comes_back_by_itself(display: PanelDisplay, screen: Screen) -> None:
    display.show(noise(display, 6))
    with screen.covered(100, 50, 60, 40):
        assert not is_on(screen, noise(display, 6))
    assert wait_until(lambda: is_on(screen, noise(display, 6)))


def test_when_show_returns_the_picture_is_on_the_screen(display: PanelDisplay, screen: Screen) -> None:
    late = []
    for turn in range(60):
        levels = noise(display, turn)
        before = time.monotonic()
        shown_s = display.show(levels)
        if not is_on(screen, levels):
            late.append(turn)
        assert before <= shown_s <= time.monotonic()
    assert late == []


def test_a_picture_handed_over_can_be_changed_without_changing_the_panel(display: PanelDisplay, screen: Screen) -> None:
    levels = noise(display, 5)
    display.show(levels)
    wanted = levels.copy()
    levels[:] = 0
    time.sleep(0.1)
    assert is_on(screen, wanted)


def test_it_is_blank_after_opening_and_by_blank_and_safe(driver: str, screen: Screen, open_panel: OpenPanel) -> None:
    display = open_panel(driver, screen, blank_level=77)
    assert is_on(screen, np.full(display.shape, 77, dtype=np.uint8))
    for dark in (display.blank, display.safe):
        display.show(noise(display, 9))
        dark()
        assert is_on(screen, np.full(display.shape, 77, dtype=np.uint8))


@pytest.mark.parametrize("wrong", ["rows", "columns", "sequence", "float", "int16", "bool", "list"])
def test_a_picture_of_another_shape_or_type_is_refused_and_the_panel_stays(
    screen: Screen, open_panel: OpenPanel, wrong: str
) -> None:
    display = open_panel("pygame", screen)
    rows, columns = display.shape
    display.show(noise(display, 3))
    picture: object = {
        "rows": np.zeros((rows + 1, columns), dtype=np.uint8),
        "columns": np.zeros((rows, columns - 1), dtype=np.uint8),
        "sequence": np.zeros((2, rows, columns), dtype=np.uint8),
        "float": np.zeros((rows, columns)),
        "int16": np.zeros((rows, columns), dtype=np.int16),
        "bool": np.zeros((rows, columns), dtype=bool),
        "list": [[0] * columns] * rows,
    }[wrong]
    with pytest.raises(BadInput, match=r"mask takes uint8 levels of shape \(400, 640\), got"):
        display.show(picture)  # type: ignore[arg-type]
    assert is_on(screen, noise(display, 3))


def test_a_sequence_reports_the_dwell_time_of_every_pattern_and_leaves_the_last(
    display: PanelDisplay, screen: Screen
) -> None:
    patterns = np.stack([noise(display, seed) for seed in range(4)])
    last = patterns[-1].copy()
    begun = time.monotonic()
    playback = display.play(patterns, 0.2)
    patterns[:] = 0
    dwell_s = playback.wait(10)
    took_s = time.monotonic() - begun
    assert dwell_s.shape == (4,)
    assert dwell_s.dtype == np.float64
    assert dwell_s == pytest.approx(0.2, rel=0.5)
    assert dwell_s.sum() <= took_s
    assert playback.wait(0).tolist() == dwell_s.tolist()
    assert is_on(screen, last)


def test_patterns_of_a_sequence_are_on_the_screen_in_their_order(display: PanelDisplay, screen: Screen) -> None:
    order = [40, 200, 90, 160, 10]
    playback = display.play(np.stack([np.full(display.shape, level, dtype=np.uint8) for level in order]), 0.15)
    seen = [0]
    while True:
        level = int(screen.frame_buffer_pixels()[200, 320, 0])
        if level != seen[-1]:
            seen.append(level)
        try:
            playback.wait(0.005)
            break
        except DeviceTimeout:
            continue
    assert seen[1:] == order


def test_a_slot_too_short_for_the_screen_shows_in_the_dwell_times(display: PanelDisplay) -> None:
    slot_s = 1e-4
    dwell_s = display.play(np.stack([noise(display, seed) for seed in range(5)]), slot_s).wait(10)
    assert (dwell_s[:-1] > 2 * slot_s).all()


def test_a_late_pattern_shows_in_the_result_and_takes_nothing_from_the_others(
    display: PanelDisplay,
) -> None:
    process = display._process
    assert process is not None
    playback = display.play(np.stack([noise(display, seed) for seed in range(8)]), 0.2)
    time.sleep(0.4)
    os.kill(process.pid, signal.SIGSTOP)
    time.sleep(0.6)
    os.kill(process.pid, signal.SIGCONT)
    dwell_s = playback.wait(10)
    assert (dwell_s > 0.5).sum() == 1
    assert (dwell_s > 0.05).all()
    assert dwell_s[-1] >= 0.199


def test_a_sequence_of_another_shape_or_without_time_is_refused(screen: Screen, open_panel: OpenPanel) -> None:
    display = open_panel("pygame", screen)
    for wrong in (
        noise(display, 0),
        np.zeros((2, 1, 1), dtype=np.uint8),
        np.zeros((2, *display.shape)),
        np.zeros((0, *display.shape), dtype=np.uint8),
    ):
        with pytest.raises(BadInput, match="mask"):
            display.play(wrong, 0.1)  # type: ignore[arg-type]
    for slot_s in (0.0, -1.0, float("nan"), float("inf")):
        with pytest.raises(BadInput, match="slot_s"):
            display.play(noise(display, 0)[None], slot_s)


def test_a_running_sequence_keeps_others_out_and_blank_stops_it(display: PanelDisplay, screen: Screen) -> None:
    playback = display.play(np.stack([noise(display, 0)] * 3), 5.0)
    with pytest.raises(DeviceTimeout, match="mask plays 3 patterns"):
        playback.wait(0.05)
    with pytest.raises(HardwareError, match="while a sequence plays"):
        display.show(noise(display, 1))
    begun = time.monotonic()
    display.safe()
    assert time.monotonic() - begun < 4
    assert is_on(screen, np.zeros(display.shape, dtype=np.uint8))
    with pytest.raises(HardwareError, match="stopped after 0 of 3 patterns"):
        playback.wait(1)
    display.show(noise(display, 1))


def test_safe_twice_and_close_twice_is_fine_and_it_opens_again(display: PanelDisplay, screen: Screen) -> None:
    display.show(noise(display, 0))
    for act in (display.safe, display.safe, display.close, display.close, display.safe):
        act()
    with pytest.raises(HardwareError, match="mask is not open"):
        display.show(noise(display, 0))
    display.open()
    display.show(noise(display, 1))
    assert is_on(screen, noise(display, 1))


def test_every_picture_is_read_back_when_asked_for(driver: str, screen: Screen, open_panel: OpenPanel) -> None:
    display = open_panel(driver, screen, verify="every")
    for seed in range(5):
        display.show(noise(display, seed))
        assert is_on(screen, noise(display, seed))
