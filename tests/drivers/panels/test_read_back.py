"""What reading a picture back says about it."""

from __future__ import annotations

import numpy as np
import pytest

from drivers.panels.read_back import Colours, difference
from labctl.devices import Levels


def picture() -> Levels:
    return np.random.default_rng(0).integers(0, 256, (120, 160), dtype=np.uint8)


def grey(levels: Levels) -> Colours:
    return levels.astype(np.uint32) * 0x010101


def test_the_same_picture_has_no_difference() -> None:
    assert difference(picture(), grey(picture())) == ""


@pytest.mark.parametrize("channel", [0, 8, 16])
def test_one_level_of_one_colour_of_one_pixel_is_found(channel: int) -> None:
    seen = grey(picture())
    seen[7, 11] ^= 1 << channel
    assert difference(picture(), seen).startswith("1 of 19200 pixels differ, in rows 7..7 and columns 11..11; ")


def test_another_window_is_found_where_it_is() -> None:
    seen = grey(picture())
    seen[20:60, 100:140] = 0xC81E1E
    text = difference(picture(), seen)
    assert "1600 of 19200 pixels differ, in rows 20..59 and columns 100..139; something covers that part" in text


def test_a_changed_colour_curve_is_called_by_its_name() -> None:
    dimmed = (picture() * 0.5).astype(np.uint8)
    text = difference(picture(), grey(dimmed))
    assert "level 255 comes back as red 127, green 127, blue 127; switch colour management" in text
    warm = grey(picture()) & np.uint32(0xFFFF00) | grey(dimmed) & np.uint32(0xFF)
    assert "comes back as red 255, green 255, blue 127" in difference(picture(), warm)


@pytest.mark.parametrize("wrong", ["shifted", "scaled", "other picture", "all black"])
def test_a_shifted_or_scaled_picture_is_no_colour_change(wrong: str) -> None:
    levels = picture()
    seen = {
        "shifted": np.roll(levels, 1, axis=1),
        "scaled": levels.repeat(2, axis=0)[:120],
        "other picture": levels[::-1],
        "all black": 0 * levels,
    }[wrong]
    assert "another window covers it, or the desktop scales it" in difference(levels, grey(seen))


def test_another_number_of_pixels_is_said() -> None:
    assert difference(picture(), grey(picture())[:60]).startswith("160x60 pixels were read back, 160x120 were shown")
