"""`labctl timing` and `labctl sync` as somebody at the terminal meets them."""

from __future__ import annotations

import json
import sys
from pathlib import Path
from typing import Any

import pytest
from PIL import Image

from labctl.cli import main
from labctl.errors import ExitCode
from labctl.timing import load_timing

SLOW = ("--set", "rig.light_path=sequenced", "--set", "rig.twin.monitor.response_s=0.004")


def labctl(*words: str) -> int:
    """Exit code of the command."""
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(sys, "argv", ["labctl", *words])
        with pytest.raises(SystemExit) as ended:
            main()
    return int(ended.value.code or 0)


def last_json(text: str) -> dict[str, Any]:
    found: dict[str, Any] = json.loads(text.strip().splitlines()[-1])
    return found


def test_timing_is_measured_kept_and_drawn(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    picture = tmp_path / "steps.png"
    assert labctl("timing", "--rig", "sim", *SLOW, "--steps", "2", "--plot", str(picture)) == ExitCode.OK
    said = capsys.readouterr()
    assert "settled to 0.5 % after" in said.out
    assert "camera: an exposure begins" in said.out
    assert str(picture) in said.err
    with Image.open(picture) as drawn:
        assert drawn.size[0] > 500
    kept = load_timing("sim")
    assert kept is not None
    assert set(kept.displays) == {"mask", "scene"}
    assert labctl("timing", "--rig", "sim", *SLOW, "--steps", "2", "--json") == ExitCode.OK
    assert last_json(capsys.readouterr().out)["displays"]["scene"]["settle_s"] > 0.02


def test_sync_ends_well_when_every_frame_shows_its_pattern(capsys: pytest.CaptureFixture[str]) -> None:
    assert labctl("sync", "--rig", "sim", *SLOW, "--pairs", "40", "--json") == ExitCode.OK
    told = last_json(capsys.readouterr().out)
    assert (told["pairs"], told["wrong"], told["stale"], told["torn"], told["doubts"]) == (40, 0, 0, 0, [])


@pytest.mark.parametrize("which", ["mask", "scene"])
def test_sync_ends_badly_when_nobody_waits(which: str, capsys: pytest.CaptureFixture[str]) -> None:
    words = ("sync", "--rig", "sim", *SLOW, "--pairs", "40", "--which", which, "--settle", "0")
    assert labctl(*words) == ExitCode.HARDWARE
    assert "is torn: pattern" in capsys.readouterr().err
    assert labctl(*words, "--json") == ExitCode.HARDWARE
    told = last_json(capsys.readouterr().out)
    assert told["wrong"] + told["stale"] + told["torn"] == len(told["doubts"]) > 30


def test_a_rig_without_a_scene_monitor_is_timed_by_its_lamp(capsys: pytest.CaptureFixture[str]) -> None:
    no_scene = ("--set", "rig.scene=null", "--set", "rig.safe_order=null")
    assert labctl("timing", "--rig", "sim", *no_scene, "--with", "lamp.power=1", "--steps", "2") == ExitCode.OK
    kept = load_timing("sim")
    assert kept is not None
    assert set(kept.displays) == {"mask"}
    assert labctl("timing", "--rig", "sim", *no_scene, "--steps", "2") == ExitCode.HARDWARE
    assert "check that light reaches the camera" in capsys.readouterr().err


def test_what_does_not_fit_the_rig_is_refused_before_it_opens(capsys: pytest.CaptureFixture[str]) -> None:
    no_scene = ("--set", "rig.scene=null", "--set", "rig.safe_order=null")
    assert labctl("sync", "--rig", "sim", *no_scene, "--which", "scene") == ExitCode.BAD_INPUT
    assert "needs the device scene" in capsys.readouterr().err
    assert labctl("timing", "--rig", "sim", "--with", "lamp.power=7") == ExitCode.BAD_INPUT
    assert "out of range" in capsys.readouterr().err
