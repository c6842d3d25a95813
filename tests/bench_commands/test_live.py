"""`labctl live`: frames counted, lost ones told, a picture that is never half."""

from __future__ import annotations

import signal
import sys
import time
from collections.abc import Callable
from pathlib import Path

import numpy as np
import pytest
from PIL import Image
from scipy import ndimage

from labctl.focus import focus_figure
from labctl.preview import RED, preview_picture, write_preview
from tests.bad_input.lab import labctl
from tests.bench_commands.conftest import last_json
from tests.bench_commands.test_show_get_set import running, wait_for

LIVE = ("live", "--rig", "sim", "--scene", "checker", "--exposure", "0.001")


def test_it_ends_after_so_many_frames_and_says_what_it_saw(bench: Path) -> None:
    answer = labctl(*LIVE, "--frames", "12", "--json")
    told = last_json(answer.out)
    assert answer.code == 0
    assert told["frames"] == 12
    assert told["frames_per_s"] > 0
    assert 0 < told["mean_dn"] < 4095
    assert told["focus"] > 0
    assert told["counters"] == {}


def test_it_ends_after_so_many_seconds(bench: Path) -> None:
    labctl(*LIVE, "--frames", "1")  # libraries are loaded
    began = time.monotonic()
    assert labctl(*LIVE, "--seconds", "0.5").code == 0
    assert 0.5 <= time.monotonic() - began < 10


def test_a_camera_that_runs_freely_is_let_run_and_its_losses_are_told(odd: None, rig: Callable[..., str]) -> None:
    file = rig("camera: {type: odd.talkative}\nlight_path: sequenced")
    answer = labctl("live", "--rig", file, "--exposure", "0.001", "--frames", "5", "--json")
    assert answer.code == 0
    assert last_json(answer.out)["counters"] == {"received": 5, "missing": 30, "lost": 0}
    assert "missing 30" in answer.err


def test_the_preview_is_always_a_whole_picture(bench: Path) -> None:
    preview = bench / "live.png"
    with running(*LIVE, "--preview", str(preview)) as process:
        wait_for(preview.exists)
        seen = set()
        end = time.monotonic() + 1.5
        while time.monotonic() < end:
            with Image.open(preview) as picture:
                assert picture.size == (384, 384)
                seen.add(np.asarray(picture).tobytes())
        process.send_signal(signal.SIGINT)
        _, err = process.communicate(timeout=60)
    assert process.returncode == 0, err
    assert len(seen) > 1, "it was never refreshed"
    assert [path.name for path in bench.iterdir()] == ["live.png"]


def test_saturated_pixels_are_red_and_black_is_black() -> None:
    pixels = np.zeros((384, 400), dtype=np.uint16)
    pixels[10, 20] = 4095
    picture = preview_picture(pixels, 4095)
    assert picture.shape == (384, 400, 3)
    assert tuple(picture[10, 20]) == RED
    assert not picture[0].any()


def test_a_preview_that_can_no_longer_be_written_does_not_end_the_watching(
    bench: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    def full(*args: object) -> None:
        raise OSError(28, "No space left on device")

    monkeypatch.setattr("labctl.cli.viewfinder.write_preview", full)
    answer = labctl(*LIVE, "--frames", "3", "--preview", "p.png", "--json")
    assert answer.code == 0
    assert last_json(answer.out)["frames"] == 3
    assert "not written: No space left on device" in answer.err


def test_the_focus_figure_falls_with_every_step_of_blur_and_is_none_without_structure() -> None:
    scene = np.kron(np.indices((8, 8)).sum(0) % 2, np.ones((8, 8))) * 3000.0
    figures = [focus_figure(ndimage.gaussian_filter(scene, sigma), 4095) for sigma in (0.0, 0.5, 1.0, 2.0, 4.0)]
    assert figures == sorted(figures, reverse=True)
    assert figures[0] > 10 * figures[3]
    assert focus_figure(np.full((20, 20), 1234), 4095) == pytest.approx(0.0, abs=1e-12)


def test_the_focus_figure_is_the_variance_of_the_laplacian() -> None:
    pixels = np.zeros((9, 9))
    pixels[4, 4] = 1.0
    expected = (16 + 4) / 81  # the Laplacian of a point: -4 and four ones, with mean 0
    assert focus_figure(pixels, 1.0) == pytest.approx(expected)


def test_half_a_file_is_never_left_behind(tmp_path: Path) -> None:
    with pytest.raises(OSError, match="No such file"):
        write_preview(np.zeros((4, 4), dtype=np.uint16), 4095, tmp_path / "nosuch" / "p.png")
    assert list(tmp_path.iterdir()) == []


@pytest.mark.parametrize(
    ("args", "said"),
    [
        (("--preview", "p.jpg"), "p.jpg: a preview is a .png file"),
        (("--preview", "nosuch/p.png"), "nosuch/p.png: there is no folder nosuch for such a file; make it first"),
        (("--frames", "0"), "Invalid value for '--frames'"),
        (("--scene", "nosuch.npy"), "'nosuch.npy' is neither a pattern nor a file"),
    ],
)
def test_a_mistake_is_refused_in_words(args: tuple[str, ...], said: str, bench: Path) -> None:
    answer = labctl("live", "--rig", "sim", *args)
    assert (answer.code, answer.out) == (2, "")
    assert said in answer.err
    assert list(bench.iterdir()) == []


def test_help_of_every_bench_command_loads_no_heavy_library() -> None:
    import subprocess

    code = (
        "import sys\nfrom labctl.cli.app import app\n"
        "try:\n    app(['--help'], prog_name='labctl')\nexcept SystemExit:\n    pass\n"
        "print(sorted({'numpy', 'torch', 'scipy', 'PIL', 'pydantic'} & set(sys.modules)))"
    )
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True)
    assert done.stdout.splitlines()[-1] == "[]"
