"""What a word or a file puts onto a display."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest
from PIL import Image

from labctl.errors import BadInput
from labctl.patterns import level_pattern, mask_levels, mask_pattern, scene_levels, scene_pattern
from labctl.roads import MonitorRoad, PanelRoad

PANEL = (40, 60)


def test_open_and_closed_are_full_and_no_light_everywhere() -> None:
    road = PanelRoad(cell_px=4, gamma=2.2)
    assert (mask_levels(mask_pattern("open"), PANEL, road) == 255).all()
    assert (mask_levels(mask_pattern("closed"), PANEL, road) == 0).all()


def test_grey_goes_down_the_road_unless_levels_are_asked_for() -> None:
    road = MonitorRoad(gamma=2.2)
    by_road = scene_levels(scene_pattern("grey:128"), PANEL, road)
    assert np.unique(by_road).tolist() == [round(255 * (128 / 255) ** (1 / 2.2))]
    assert np.unique(level_pattern("grey:128").draw(PANEL)).tolist() == [128]


def test_a_checker_is_half_bright_and_changes_every_eight_cells() -> None:
    checker = mask_pattern("checker").draw((32, 32))
    assert checker.mean() == 0.5
    assert checker[0, 7] == 0
    assert checker[0, 8] == 1
    assert checker[8, 8] == 0


def test_a_grid_has_its_outermost_lines_on_the_edge_so_that_a_cut_picture_is_seen() -> None:
    grid = mask_pattern("grid").draw((30, 45))
    assert grid[0].all()
    assert grid[-1].all()
    assert grid[:, 0].all()
    assert grid[:, -1].all()
    assert grid[8].all()
    assert not grid[9, 9]


def test_a_mask_file_keeps_its_cells_and_lies_in_the_middle_of_the_panel(tmp_path: Path) -> None:
    mask = np.zeros((4, 6))
    mask[1, 2] = 1.0
    np.save(tmp_path / "m.npy", mask)
    shown = mask_levels(mask_pattern(str(tmp_path / "m.npy")), PANEL, PanelRoad(cell_px=2))
    expected = np.zeros(PANEL, dtype=np.uint8)
    expected[16 + 2 : 16 + 4, 24 + 4 : 24 + 6] = 255
    assert np.array_equal(shown, expected)


def test_a_photograph_gets_to_the_eye_as_it_was_coded(tmp_path: Path) -> None:
    """sRGB and a monitor of gamma 2.2 nearly cancel: mid grey stays mid grey, and the picture fits by its aspect."""
    Image.fromarray(np.full((120, 240, 3), 128, dtype=np.uint8)).save(tmp_path / "photo.png")
    shown = scene_levels(scene_pattern(str(tmp_path / "photo.png")), PANEL, MonitorRoad(gamma=2.2))
    assert abs(int(shown[20, 30]) - 128) <= 2
    assert (shown[:4] == 0).all(), "a picture of 1:2 leaves bars above and below on a panel of 2:3"


def test_pure_green_is_brighter_than_pure_blue(tmp_path: Path) -> None:
    for name, colour in (("green", (0, 255, 0)), ("blue", (0, 0, 255))):
        Image.new("RGB", (20, 20), colour).save(tmp_path / f"{name}.png")
    green, blue = (scene_pattern(str(tmp_path / f"{name}.png")).draw((20, 20))[10, 10] for name in ("green", "blue"))
    assert green == pytest.approx(0.7152)
    assert blue == pytest.approx(0.0722)


def test_levels_from_a_file_reach_the_panel_untouched(tmp_path: Path) -> None:
    levels = np.arange(40 * 60, dtype=np.uint32).reshape(PANEL).astype(np.uint8)
    Image.fromarray(levels).save(tmp_path / "l.png")
    assert np.array_equal(level_pattern(str(tmp_path / "l.png")).draw(PANEL), levels)


@pytest.mark.parametrize(
    ("said", "complaint"),
    [
        ("chequer", "neither a pattern nor a file; did you mean `checker`?"),
        ("grey", "a whole number 0..255 is needed after grey:"),
        ("grey:256", "a whole number 0..255 is needed after grey:"),
        ("two.npy", r"spans 0..2; 0..1 is allowed: divide by the full scale"),
        ("cube.npy", "holds 2x2x2 values; a grey"),
        ("text.npy", "cannot be read"),
        ("nan.npy", "spans nan..nan"),
        ("colour.png", "holds 5x5x3 values; a grey"),
    ],
)
def test_what_is_no_mask_is_refused(said: str, complaint: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(tmp_path)
    np.save("two.npy", np.array([[0.0, 2.0]]))
    np.save("cube.npy", np.zeros((2, 2, 2)))
    np.save("nan.npy", np.full((2, 2), np.nan))
    Path("text.npy").write_text("no array")
    Image.new("RGB", (5, 5)).save("colour.png")
    with pytest.raises(BadInput, match=complaint):
        mask_pattern(said)


def test_a_picture_larger_than_the_panel_is_never_cut_in_silence(tmp_path: Path) -> None:
    np.save(tmp_path / "large.npy", np.ones((41, 60)))
    Image.fromarray(np.zeros((41, 60), dtype=np.uint8)).save(tmp_path / "large.png")
    with pytest.raises(BadInput, match="needs 41x60 display pixels, the display has 40x60"):
        mask_levels(mask_pattern(str(tmp_path / "large.npy")), PANEL, PanelRoad())
    with pytest.raises(BadInput, match="needs 41x60 display pixels"):
        level_pattern(str(tmp_path / "large.png")).draw(PANEL)
