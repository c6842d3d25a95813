"""What every display promises. See `labctl.devices.Display`."""

from __future__ import annotations

import numpy as np
import pytest

from labctl.devices import Device, Display, Levels
from labctl.errors import BadInput, DeviceTimeout, HardwareError
from labctl.light_path import RigDevices
from tests.conformance.conftest import Lit, Look


def full(display: Display) -> Levels:
    return np.full(display.shape, 255, dtype=np.uint8)


def test_it_is_a_display_and_says_who_it_is(display: Display) -> None:
    assert isinstance(display, Device)
    assert isinstance(display, Display)
    assert display.describe_device()["name"] == display.name
    assert display.settle_s >= 0


def test_when_show_returns_the_picture_is_on_the_panel(
    display: Display, devices: RigDevices, lit: Lit, look: Look
) -> None:
    exposure = lit()
    before = devices.clock.now()
    shown_s = display.show(np.zeros(display.shape, dtype=np.uint8))
    assert before <= shown_s <= devices.clock.now()
    dark = look(exposure).pixels.mean()
    display.show(full(display))
    bright = look(exposure).pixels.mean()
    assert bright > 2 * dark


def test_a_picture_handed_over_can_be_changed_without_changing_the_panel(
    display: Display, lit: Lit, look: Look
) -> None:
    exposure = lit()
    levels = full(display)
    display.show(levels)
    before = look(exposure).pixels.mean()
    levels[:] = 0
    assert look(exposure).pixels.mean() == pytest.approx(before, rel=0.1)


def test_more_of_the_panel_gives_more_light(display: Display, lit: Lit, look: Look) -> None:
    exposure, means = lit(), []
    for share in (0.25, 0.5, 1.0):
        levels = np.zeros(display.shape, dtype=np.uint8)
        levels[: round(share * display.shape[0])] = 255
        display.show(levels)
        means.append(look(exposure).pixels.mean())
    assert means == sorted(means)
    assert means[0] < means[-1]


@pytest.mark.parametrize("make_dark", ["blank", "safe"])
def test_blank_and_safe_are_dark(display: Display, lit: Lit, look: Look, make_dark: str) -> None:
    exposure = lit()
    display.show(np.zeros(display.shape, dtype=np.uint8))
    closed = look(exposure).pixels.mean()
    display.show(full(display))
    opened = look(exposure).pixels.mean()
    getattr(display, make_dark)()
    assert look(exposure).pixels.mean() < closed + 0.1 * (opened - closed)


@pytest.mark.parametrize("wrong", ["rows", "columns", "sequence", "float", "int16", "list"])
def test_a_picture_of_another_shape_or_type_is_refused(display: Display, wrong: str) -> None:
    rows, columns = display.shape
    picture: object = {
        "rows": np.zeros((rows + 1, columns), dtype=np.uint8),
        "columns": np.zeros((rows, columns - 1), dtype=np.uint8),
        "sequence": np.zeros((2, rows, columns), dtype=np.uint8),
        "float": np.zeros((rows, columns)),
        "int16": np.zeros((rows, columns), dtype=np.int16),
        "list": [[0] * columns] * rows,
    }[wrong]
    with pytest.raises(BadInput, match=display.name):
        display.show(picture)  # type: ignore[arg-type]


def test_a_sequence_reports_the_dwell_time_of_every_pattern(display: Display) -> None:
    patterns = np.stack([full(display), np.zeros(display.shape, dtype=np.uint8), full(display)])
    slot_s = max(0.1, 2 * display.settle_s)
    playback = display.play(patterns, slot_s)
    patterns[:] = 0
    dwell_s = playback.wait(3 * slot_s + 5.0)
    assert dwell_s.shape == (3,)
    assert dwell_s.dtype == np.float64
    assert dwell_s == pytest.approx(slot_s, rel=0.5)
    assert playback.wait(0.0).tolist() == dwell_s.tolist(), "asked again it says the same"


def test_a_sequence_of_another_shape_or_without_time_is_refused(display: Display) -> None:
    for wrong in (full(display), np.zeros((2, 1, 1), dtype=np.uint8), np.zeros((2, *display.shape))):
        with pytest.raises(BadInput, match=display.name):
            display.play(wrong, 0.1)  # type: ignore[arg-type]
    for slot_s in (0.0, -1.0, float("nan")):
        with pytest.raises(BadInput, match="slot_s"):
            display.play(full(display)[None], slot_s)


def test_whoever_waits_too_short_for_a_sequence_is_told_and_can_wait_again(display: Display) -> None:
    slot_s = max(0.2, 2 * display.settle_s)
    playback = display.play(full(display)[None], slot_s)
    with pytest.raises(DeviceTimeout, match=display.name):
        playback.wait(slot_s / 10)
    assert playback.wait(slot_s + 5.0).shape == (1,)


def test_safe_twice_and_close_twice_is_fine(display: Display) -> None:
    display.show(full(display))
    for act in (display.safe, display.safe, display.close, display.close):
        act()
    with pytest.raises(HardwareError, match=display.name):
        display.show(full(display))
    display.open()
    display.show(full(display))
