"""`labctl snap`: the frame on the disk is the frame of the camera, and the file says how it was taken."""

from __future__ import annotations

import json
import re
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from PIL import Image

import labctl as package
from labctl.exposure import Exposure, still_plan
from tests.bad_input.lab import labctl
from tests.bench_commands.conftest import last_json

SNAP = ("snap", "--rig", "sim", "--scene", "checker", "--exposure", "0.0015")


def read(path: Path) -> tuple[np.ndarray, dict[str, Any]]:
    """Pixels in DN and metadata of a snapshot, by tools other than ours."""
    if path.suffix == ".npz":
        with np.load(path) as file:
            return file["pixels"], json.loads(str(file["labctl"]))
    with Image.open(path) as picture:
        if path.suffix == ".png":
            metadata = json.loads(picture.info["labctl"])
            return np.asarray(picture) / metadata["png_levels_per_dn"], metadata
        return np.asarray(picture), json.loads(picture.tag_v2[270])


def measured(n: int = 1) -> np.ndarray:
    """What the rig measures of the same exposure, by the way that a capture goes."""
    rows, columns = np.indices((63, 63))
    checker = ((rows // 8 + columns // 8) % 2).astype(np.float64)
    plan = still_plan(
        np.broadcast_to(checker, (n, 1, 63, 63)), np.ones((32, 32)), Exposure(exposure_s=0.0015), exposure_ids=range(n)
    )
    with package.open_rig("sim") as rig:
        return rig.expose(plan).pixels[:, 0]


@pytest.mark.parametrize("name", ["a.png", "a.tif", "a.npz"])
def test_every_format_holds_the_very_pixels_of_the_camera(name: str, bench: Path) -> None:
    answer = labctl(*SNAP, name)
    assert (answer.code, answer.err.splitlines()[-1]) == (0, f"written: {name}")
    pixels, told = read(bench / name)
    assert np.array_equal(pixels, measured()[0])
    assert told["rig"] == "sim"
    assert told["exposure_s"] == 0.0015
    assert told["shown"]["scene"]["said"] == "checker"
    assert told["quantities"] == {"lamp.power": 0.0}
    assert told["camera"]["model"] == "simulated camera"
    assert told.get("png_levels_per_dn", 16) == 16, "12 bits fill 16 bits when shifted by 4"


@pytest.mark.parametrize(
    ("setting", "option"), [("camera.exposure_s=0.5", "--exposure"), ("camera.gain_db=6", "--gain")]
)
def test_an_exposure_that_would_be_overruled_is_refused_before_anything_moves(
    setting: str, option: str, bench: Path
) -> None:
    answer = labctl("snap", "--rig", "sim", "--with", setting)
    assert answer.code == 2
    assert f"--with {setting}: the frames are taken with {option}; give that instead" in " ".join(answer.err.split())


def test_an_average_is_the_mean_of_all_frames_and_saturation_is_that_of_the_frames(bench: Path) -> None:
    answer = labctl(*SNAP, "a.npz", "--average", "5", "--json")
    pixels, told = read(bench / "a.npz")
    frames = measured(5)
    assert pixels == pytest.approx(frames.mean(axis=0), abs=1e-3)
    assert told["frame_ids"] == [0, 1, 2, 3, 4]
    assert last_json(answer.out)["saturated_fraction"] == pytest.approx((frames >= 4095).mean())


def test_the_histogram_shows_where_the_light_is(bench: Path) -> None:
    dark = labctl("snap", "--rig", "sim", "--mask", "closed", "--exposure", "0.001")
    bright = labctl("snap", "--rig", "sim", "--scene", "white", "--exposure", "1")
    assert dark.code == bright.code == 0
    assert "saturated 0.00 %" in dark.out
    assert float(re.search(r"saturated ([\d.]+) %", bright.out)[1]) > 50
    bars = [answer.out.splitlines()[5] for answer in (dark, bright)]
    assert "█" in bars[0][:8]
    assert "█" not in bars[0][-8:]
    assert bars[1].rstrip().endswith("█")
    assert "█" not in bars[1][:-1]


def test_light_is_switched_on_for_the_frame_and_off_after_it(
    bench: Path, lamp_power: Callable[[str], float | None]
) -> None:
    dark = last_json(labctl("snap", "--rig", "sim", "--exposure", "0.002", "--json").out)
    lit = last_json(labctl("snap", "--rig", "sim", "--exposure", "0.002", "--with", "lamp.power=0.5", "--json").out)
    assert lit["mean_dn"] > 3 * dark["mean_dn"]
    assert lit["quantities"] == {"lamp.power": 0.5}
    assert lamp_power("sim") == 0.0


def test_a_region_is_read_from_the_middle(bench: Path) -> None:
    assert labctl(*SNAP, "a.npz", "--roi", "10x20").code == 0
    pixels, told = read(bench / "a.npz")
    assert pixels.shape == (10, 20)
    assert told["shape"] == [10, 20]


@pytest.mark.parametrize("path", ["simulated", "sequenced"])
def test_both_light_paths_give_the_same_snapshot(path: str, bench: Path) -> None:
    assert labctl(*SNAP, f"{path}.npz", "--set", f"rig.light_path={path}").code == 0
    assert np.array_equal(read(bench / f"{path}.npz")[0], measured()[0])


def test_a_file_that_is_there_is_kept_unless_it_is_forced(bench: Path) -> None:
    (bench / "a.png").write_text("precious")
    answer = labctl(*SNAP, "a.png")
    assert (answer.code, answer.err) == (2, "a.png is there already; give another name, or --force to replace it\n")
    assert (bench / "a.png").read_text() == "precious"
    assert labctl(*SNAP, "a.png", "--force").code == 0
    assert read(bench / "a.png")[0].shape == (32, 32)


@pytest.mark.parametrize(
    ("args", "code", "said"),
    [
        (("a.jpg",), 2, "a.jpg: a snapshot is written as .png, .tif, .tiff, .npz"),
        (("nosuch/a.png",), 2, "nosuch/a.png: there is no folder nosuch; make it first"),
        (("--exposure", "-1"), 2, "Invalid value for '--exposure'"),
        (("--exposure", "11"), 4, "exposure_s is 11 s, 1e-05..10 s is allowed"),
        (("--roi", "10"), 2, "--roi 10: rows and columns are needed, such as --roi 480x640"),
        (("--roi", "64x64"), 4, "roi is 64x64, the sensor has 32x32"),
        (("--mask", "opne"), 2, "'opne' is neither a pattern nor a file; did you mean `open`?"),
        (("--with", "lamp.power"), 2, "'lamp.power': a name and a value are needed; write it like lamp.power=0.5"),
        (("--with", "lamp.power=2"), 2, "'lamp.power=2' is out of range; 0..1 is allowed"),
        (("--rig", "smi"), 2, "there is no rig 'smi'; did you mean `sim`?"),
        (("--set", "world.seed=3"), 2, "--set world.seed=3: a key after `rig.` is needed"),
    ],
)
def test_a_mistake_is_refused_in_words_and_writes_nothing(
    args: tuple[str, ...], code: int, said: str, bench: Path
) -> None:
    answer = labctl("snap", "--rig", "sim", *args)
    assert said in answer.err
    assert (answer.code, answer.out) == (code, "")
    assert list(bench.iterdir()) == []


def test_without_a_rig_the_way_to_name_one_is_told(bench: Path) -> None:
    answer = labctl("snap")
    assert answer.code == 2
    assert "--rig" in answer.err
    assert "LABCTL_BENCH_RIG" in answer.err


def test_a_rig_without_a_scene_monitor_says_so(bench: Path) -> None:
    answer = labctl(
        "snap", "--rig", "sim", "--scene", "white", "--set", "rig.scene=null", "--set", "rig.safe_order=null"
    )
    assert answer.code == 2
    assert "the scene 'white' needs the device scene, which rig 'sim' does not have" in answer.err


def test_a_rig_without_a_camera_says_so(bench: Path) -> None:
    answer = labctl("snap", "--rig", "sim", "--set", "rig.camera=null", "--set", "rig.safe_order=null")
    assert answer.code == 2
    assert "the device camera, which rig 'sim' does not have" in answer.err
