"""Which monitors there are, which one is meant, and what is checked of them."""

from __future__ import annotations

import os

import pytest
from pydantic import ValidationError

from drivers.panels.finder import check_monitors, find_monitors
from drivers.panels.monitors import Monitor, choose_monitor, list_monitors, parse_monitors, parse_outputs
from drivers.panels.settings import PanelSettings, PygameSettings, SlmpySettings
from labctl.errors import HardwareError
from labctl.findings import Check
from tests.drivers.panels.screens import Screen

LEFT = Monitor(0, "eDP-1", 0, 0, 1920, 1080, primary=True)
RIGHT = Monitor(1, "HDMI-1", 1920, -40, 1280, 1024)
ABOVE = Monitor(2, "DP-3", 0, -1080, 1920, 1080)

LISTED = """Monitors: 3
 0: +*eDP-1 1920/344x1080/194+0+0  eDP-1
 1: +HDMI-1 1280/376x1024/301+1920-40  HDMI-1
 2: WALL 1920/508x1080/285+0-1080  
"""

VERBOSE = """Screen 0: minimum 8 x 8, current 3200 x 1080, maximum 32767 x 32767
eDP-1 connected primary 1920x1080+0+0 (0x48) normal (normal left inverted right x axis y axis) 344mm x 194mm
\tGamma:      1.0:1.0:1.0
\tBrightness: 0.75
\tTransform:  1.000000 0.000000 0.000000
\t            0.000000 1.000000 0.000000
\t            0.000000 0.000000 1.000000
  1920x1080 (0x48) 138.700MHz +HSync -VSync *current +preferred
        h: width  1920 start 1968 end 2000 total 2080 skew    0 clock  66.68KHz
        v: height 1080 start 1083 end 1088 total 1111           clock  60.02Hz
HDMI-1 connected 1280x1024+1920-40 (0x63) left (normal left inverted right x axis y axis) 376mm x 301mm
\tGamma:      1.0:0.9:0.8
\tBrightness: 1.0
\tTransform:  1.500000 0.000000 0.000000
\t            0.000000 1.500000 0.000000
\t            0.000000 0.000000 1.000000
  1280x1024 (0x63) 108.000MHz +HSync +VSync *current +preferred
        h: width  1280 start 1328 end 1440 total 1688 skew    0 clock  63.98KHz
        v: height 1024 start 1025 end 1028 total 1066           clock  60.02Hz
DP-3 disconnected (normal left inverted right x axis y axis)
"""  # what xrandr 1.5 says, shortened


def environment_of(screen: Screen) -> dict[str, str]:
    return {**os.environ, **screen.environment}


def test_what_xrandr_says_is_understood() -> None:
    (first, output), (second, _), (third, none) = parse_monitors(LISTED)
    assert (first, output) == (LEFT, "eDP-1")
    assert second == RIGHT
    assert (third.name, third.top, none) == ("WALL", -1080, "")
    outputs = parse_outputs(VERBOSE)
    assert sorted(outputs) == ["HDMI-1", "eDP-1"]
    assert outputs["eDP-1"].gamma == pytest.approx((0.75, 0.75, 0.75)), "dimming is a gamma ramp too"
    assert outputs["eDP-1"].refresh_hz == 60.02
    assert outputs["HDMI-1"].gamma == (1.0, 0.9, 0.8)
    assert (outputs["HDMI-1"].scale, outputs["HDMI-1"].rotation) == ((1.5, 1.5), "left")


def test_a_monitor_is_chosen_by_index_name_or_place() -> None:
    there = [LEFT, RIGHT]
    for wanted, meant in ((0, LEFT), (1, RIGHT), ("HDMI-1", RIGHT), ("left", LEFT), ("right", RIGHT)):
        assert choose_monitor(there, wanted) is meant
    assert choose_monitor(there, "+1920-40") is RIGHT
    assert choose_monitor(there, "primary") is LEFT


def test_a_choice_that_is_not_clear_is_refused() -> None:
    with pytest.raises(HardwareError, match=r"monitor 'left' may be any of 0 .*; 2 .*; set `monitor` to an index"):
        choose_monitor([LEFT, RIGHT, ABOVE], "left")
    with pytest.raises(HardwareError, match=r"there is no monitor 3; there are: 0 .eDP-1, 1920x1080"):
        choose_monitor([LEFT, RIGHT], 3)
    with pytest.raises(HardwareError, match="there is no monitor 'primary'"):
        choose_monitor([RIGHT], "primary")
    with pytest.raises(HardwareError, match="there are: none"):
        choose_monitor([], 0)


WRONG_SETTINGS: list[dict[str, object]] = [
    {},
    {"monitor": -1},
    {"monitor": ""},
    {"monitor": 0, "shape": [0, 5]},
    {"monitor": 0, "blank_level": 256},
    {"monitor": 0, "verify": "sometimes"},
    {"monitor": 0, "settle_s": -1},
    {"monitor": 0, "colour": "red"},
]


@pytest.mark.parametrize("wrong", WRONG_SETTINGS)
@pytest.mark.parametrize("kind", [PygameSettings, SlmpySettings])
def test_wrong_settings_are_refused(kind: type[PanelSettings], wrong: dict[str, object]) -> None:
    with pytest.raises(ValidationError):
        kind.model_validate(wrong)


def check_named(name: str, checks: list[Check]) -> Check:
    (found,) = [check for check in checks if check.name == name]
    return found


def test_a_virtual_screen_is_listed_and_found_good(screen: Screen) -> None:
    (monitor,) = list_monitors(environment_of(screen))
    assert monitor.shape == (400, 640)
    checks = check_monitors(environment_of(screen))
    assert check_named("display server", checks).status == "ok"
    assert check_named("monitor screen", checks).status == "ok"
    assert "gamma ramps not known" in check_named("monitor screen", checks).text
    assert check_named("pygame driver", checks).status == "ok"


def test_scaling_rotation_and_gamma_are_problems_with_the_command_that_mends_them(
    screen: Screen, monkeypatch: pytest.MonkeyPatch
) -> None:
    from drivers.panels import finder

    (first, _), (second, _), _ = parse_monitors(LISTED)
    outputs = parse_outputs(VERBOSE)
    monitors = [_joined(first, outputs["eDP-1"]), _joined(second, outputs["HDMI-1"])]
    monkeypatch.setattr(finder, "list_monitors", lambda environment: monitors)
    checks = check_monitors(environment_of(screen))
    dimmed, bent = check_named("monitor eDP-1", checks), check_named("monitor HDMI-1", checks)
    assert (dimmed.status, bent.status) == ("problem", "problem")
    assert "gamma ramps are 0.75" in dimmed.text
    assert "xrandr --output eDP-1 --gamma 1:1:1" in dimmed.todo
    assert "scaled by 1.5x1.5, rotation left" in bent.text
    assert "--scale 1x1 --rotate normal" in bent.todo


def _joined(monitor: Monitor, output: object) -> Monitor:
    from drivers.panels.monitors import _with_output

    return _with_output(monitor, output)  # type: ignore[arg-type]


def test_without_a_display_nothing_is_found_and_nothing_is_wrong() -> None:
    assert find_monitors({}) == []
    assert check_named("display server", check_monitors({})).status == "skipped"


def test_a_display_server_out_of_reach_is_a_problem() -> None:
    check = check_named("display server", check_monitors({**os.environ, "DISPLAY": ":4711"}))
    assert check.status == "problem"
    assert ":4711 cannot be reached" in check.text
    assert "XAUTHORITY" in check.todo


def test_the_unrelated_slmpy_is_a_warning(tmp_path: object, monkeypatch: pytest.MonkeyPatch) -> None:
    (tmp_path / "slmpy.py").write_text("class ModularityOptimizer: ...\n")  # type: ignore[operator]
    monkeypatch.syspath_prepend(str(tmp_path))
    monkeypatch.setenv("PYTHONPATH", str(tmp_path))
    check = check_named("slmpy driver", check_monitors({}))
    assert check.status == "warning"
    assert "detects communities" in check.text
    assert check.todo.startswith("pip uninstall slmpy, then pip install git+")
