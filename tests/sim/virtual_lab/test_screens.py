"""Two virtual monitors, on whichever X server is there, and a clear word when none is."""

from __future__ import annotations

import os
import subprocess
from pathlib import Path

import mss
import pytest

from labctl.errors import BadInput, HardwareError
from sim.virtual_lab.screens import MASK_MONITOR, SCENE_MONITOR, Screens, end_server, start_screens
from tests.sim.virtual_lab.conftest import SHAPE, need

pytestmark = [pytest.mark.virtual, pytest.mark.timeout(60)]


def test_two_monitors_of_the_wanted_size_stand_side_by_side(screens: Screens) -> None:
    listed = subprocess.run(
        ["xrandr", "-display", screens.display, "--listmonitors"],
        capture_output=True,
        text=True,
        check=True,
        timeout=10,
    ).stdout
    assert SCENE_MONITOR in listed
    assert MASK_MONITOR in listed
    with mss.MSS(display=screens.display) as reader:
        boxes = sorted(tuple(box[key] for key in ("left", "top", "width", "height")) for box in reader.monitors[1:])
    assert boxes == [(0, 0, 640, 480), (640, 0, 640, 480)]
    assert boxes == sorted(screens.monitors.values())


@pytest.mark.parametrize("kind", ["xvfb", "xorg"])
def test_monitors_may_differ_in_size(kind: str, tmp_path: Path) -> None:
    need({"xvfb": "Xvfb", "xorg": "Xorg"}[kind], "xrandr")
    screens = start_screens(kind, tmp_path, scene_shape=(600, 800), mask_shape=(768, 1024))  # type: ignore[arg-type]
    try:
        with mss.MSS(display=screens.display) as reader:
            sizes = [(box["height"], box["width"]) for box in reader.monitors[1:]]
        assert sorted(sizes) == [(600, 800), (768, 1024)]
    finally:
        end_server(screens.process)


def test_where_xorg_is_missing_auto_takes_xvfb_and_says_why(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    need("Xvfb", "xrandr")
    monkeypatch.setenv("PATH", _only(tmp_path, "Xvfb", "xrandr", "xkbcomp", "sh"))
    screens = start_screens("auto", tmp_path, scene_shape=SHAPE, mask_shape=SHAPE)
    end_server(screens.process)
    assert screens.kind == "xvfb"
    assert "xserver-xorg-video-dummy" in screens.note


@pytest.mark.parametrize(("choice", "package"), [("auto", "xvfb"), ("xvfb", "xvfb"), ("xorg", "xserver-xorg-core")])
def test_a_missing_server_is_named_with_its_package(
    choice: str, package: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("PATH", str(tmp_path))
    with pytest.raises(HardwareError, match=f"apt-get install .*{package}"):
        start_screens(choice, tmp_path, scene_shape=SHAPE, mask_shape=SHAPE)  # type: ignore[arg-type]


def test_a_server_that_does_not_start_says_why(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    need("xrandr")
    broken = tmp_path / "bin" / "Xvfb"
    broken.parent.mkdir()
    broken.write_text("#!/bin/sh\necho no such luck >&2\nexit 1\n")
    broken.chmod(0o755)
    monkeypatch.setenv("PATH", f"{broken.parent}:{os.environ['PATH']}")
    with pytest.raises(HardwareError, match=r"Xvfb did not start.*no such luck"):
        start_screens("xvfb", tmp_path, scene_shape=SHAPE, mask_shape=SHAPE)


def test_an_xorg_without_the_dummy_driver_names_its_package(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    need("xrandr")
    bare = tmp_path / "bin" / "Xorg"
    bare.parent.mkdir()
    bare.write_text(
        '#!/bin/sh\necho \'(EE) Failed to load module "dummy" (module does not exist, 0)\' > "$4"\nexit 1\n'
    )
    bare.chmod(0o755)
    monkeypatch.setenv("PATH", f"{bare.parent}:{os.environ['PATH']}")
    with pytest.raises(HardwareError, match="apt-get install xserver-xorg-video-dummy"):
        start_screens("xorg", tmp_path, scene_shape=SHAPE, mask_shape=SHAPE)


def test_a_monitor_too_small_for_x_is_refused(tmp_path: Path) -> None:
    need("Xorg", "xrandr")
    with pytest.raises(BadInput, match="64x64 or more"):
        start_screens("xorg", tmp_path, scene_shape=(16, 16), mask_shape=SHAPE)


def _only(folder: Path, *programs: str) -> str:
    """A PATH with just these programs."""
    place = folder / "only"
    place.mkdir()
    for program in programs:
        for directory in os.environ["PATH"].split(":"):
            if (Path(directory) / program).is_file() and not (place / program).exists():
                (place / program).symlink_to(Path(directory) / program)
    return str(place)
