"""The bench as a producer meets it: a socket, a screen that somebody draws on, frames and failures."""

from __future__ import annotations

import contextlib
import json
import select
import struct
import subprocess
import sys
import time
from collections.abc import Callable, Iterator
from pathlib import Path

import numpy as np
import numpy.typing as npt
import pytest

from sim.virtual_lab.bench.response import radiance, transmittance
from sim.virtual_lab.bench.shadow import ShadowCaster
from sim.virtual_lab.bench.silicon import Chip
from sim.virtual_lab.screens import MASK_MONITOR, SCENE_MONITOR, Screens, end_server
from tests.sim.virtual_lab.bench_process import Camera, Painter, RunningBench
from tests.sim.virtual_lab.virtual_bench import a_mask, a_scene, mask_levels, scene_levels, truth

pytestmark = [pytest.mark.virtual, pytest.mark.timeout(60)]

StartBench = Callable[..., RunningBench]
SETTLED_S = 0.06


@pytest.fixture
def painter(screens: Screens) -> Iterator[Painter]:
    made = Painter(screens.display)
    yield made
    made.close()


@contextlib.contextmanager
def camera_on(bench: RunningBench, number: int = 0) -> Iterator[Camera]:
    camera = Camera(bench.places, number)
    try:
        yield camera
    finally:
        camera.close()


def expected(mask: int, scene: int, exposure_s: float, *, share: float = 0.3) -> npt.NDArray[np.uint16]:
    stands = truth()
    through = transmittance(mask_levels(a_mask(mask, share)), stands.panel)
    light = ShadowCaster(stands).photons_per_s(through, radiance(scene_levels(a_scene(scene)), stands.monitor))
    return Chip(stands.silicon, seed=1, camera=0).read_out(
        light, exposure_s=exposure_s, gain_db=0.0, black_level_dn=64.0, frame=None
    )


def show_both(painter: Painter, screens: Screens, mask: int, scene: int) -> None:
    painter.show(screens.monitors[SCENE_MONITOR], scene_levels(a_scene(scene)))
    painter.show(screens.monitors[MASK_MONITOR], mask_levels(a_mask(mask)))


def test_a_frame_is_the_light_of_what_stands_on_the_screens(
    screens: Screens, start_bench: StartBench, painter: Painter
) -> None:
    with camera_on(start_bench()) as camera:
        assert camera.welcome[1:5] == (0, 32, 32, 12)
        for number in (0, 1):
            show_both(painter, screens, number, number)
            time.sleep(SETTLED_S)
            np.testing.assert_array_equal(camera.expose(), expected(number, number, 0.002))


def test_an_exposure_sees_the_new_pattern_only_after_latency_and_settling(
    screens: Screens, start_bench: StartBench, painter: Painter
) -> None:
    bench = start_bench(mask_latency_s=0.080, mask_response_s=0.0)
    with camera_on(bench) as camera:
        show_both(painter, screens, 0, 0)
        time.sleep(0.2)
        painter.show(screens.monitors[MASK_MONITOR], mask_levels(a_mask(1)))
        np.testing.assert_array_equal(camera.expose(0.002), expected(0, 0, 0.002))
        time.sleep(0.12)
        np.testing.assert_array_equal(camera.expose(0.002), expected(1, 0, 0.002))


def test_a_torn_frame_lies_between_the_two_patterns(
    screens: Screens, start_bench: StartBench, painter: Painter
) -> None:
    dim = 0.01  # open so little that 0.1 s does not fill the wells
    with camera_on(start_bench(mask_latency_s=0.05, mask_response_s=0.0)) as camera:
        painter.show(screens.monitors[SCENE_MONITOR], scene_levels(a_scene(0)))
        painter.show(screens.monitors[MASK_MONITOR], mask_levels(a_mask(0, dim)))
        time.sleep(0.15)
        drawn_s = painter.show(screens.monitors[MASK_MONITOR], mask_levels(a_mask(1, dim)))
        started_s = time.monotonic()
        frame = camera.expose(0.1)
    assert frame is not None
    old, new = (expected(mask, 0, 0.1, share=dim).astype(float) for mask in (0, 1))
    share = np.sum((frame - old) * (new - old)) / np.sum((new - old) ** 2)
    assert share == pytest.approx(1 - (drawn_s + 0.05 - started_s) / 0.1, abs=0.06)


def test_latency_and_response_can_be_changed_while_the_bench_runs(
    screens: Screens, start_bench: StartBench, painter: Painter
) -> None:
    bench = start_bench()
    assert bench.ask(op="set", display="mask", latency_s=5.0)["ok"]
    assert bench.ask(op="truth")["panel"]["latency_s"] == 5.0
    with camera_on(bench) as camera:
        show_both(painter, screens, 0, 0)
        time.sleep(SETTLED_S)
        frame = camera.expose()
        assert frame is not None
        assert frame.mean() < 70, "the panel is still closed"


def test_a_blank_monitor_is_taken_away_and_the_lamp_lights_what_stands_behind_it(
    screens: Screens, start_bench: StartBench, painter: Painter, tmp_path: Path
) -> None:
    array = tmp_path / "instruments"
    array.write_bytes(struct.pack("<4d", 1.0, 1.0, 0, 0))
    with camera_on(start_bench(array)) as camera:
        painter.show(screens.monitors[MASK_MONITOR], mask_levels(a_mask(0)))
        time.sleep(SETTLED_S)
        bright = camera.expose()
        array.write_bytes(struct.pack("<4d", 0.25, 1.0, 0, 0))
        dim = camera.expose()
        array.write_bytes(struct.pack("<4d", 1.0, 0.0, 0, 0))
        dark = camera.expose()
        assert bright is not None
        assert dim is not None
        assert dark is not None
        assert (dim.mean() - 64) / (bright.mean() - 64) == pytest.approx(0.25, rel=0.01)
        assert dark.max() == 64


def test_two_cameras_see_the_same_scene_with_noise_of_their_own(
    screens: Screens, start_bench: StartBench, painter: Painter
) -> None:
    bench = start_bench(noise=True)
    show_both(painter, screens, 0, 0)
    time.sleep(SETTLED_S)
    with camera_on(bench, 0) as first, camera_on(bench, 1) as second:
        one, other = first.expose(), second.expose()
        assert one is not None
        assert other is not None
        assert (one != other).mean() > 0.5
        assert one.mean() == pytest.approx(other.mean(), rel=0.01)


def test_a_camera_that_the_bench_does_not_have_is_refused(start_bench: StartBench) -> None:
    with camera_on(start_bench(), 4711) as camera:
        assert camera.welcome[1] != 0


def test_faults_on_demand_fail_or_delay_frames_and_are_over_afterwards(start_bench: StartBench) -> None:
    bench = start_bench()
    with camera_on(bench) as camera:
        bench.ask(op="fault", name="fail_next", count=2)
        assert [camera.expose() is None for _ in range(3)] == [True, True, False]
        bench.ask(op="fault", name="stall", seconds=0.5)
        before_s = time.monotonic()
        assert camera.expose() is not None
        assert time.monotonic() - before_s > 0.4
        assert bench.ask(op="statistics")["failed"] == 2
    refused = bench.ask(op="fault", name="earthquake")
    assert not refused["ok"]
    assert "stall, fail_next or die" in refused["error"]


def test_a_rebuilt_bench_stands_for_the_other_truth(
    screens: Screens, start_bench: StartBench, painter: Painter
) -> None:
    bench = start_bench(shift_px=(3.0, 0.0))
    show_both(painter, screens, 0, 0)
    time.sleep(SETTLED_S)
    with camera_on(bench) as camera:
        moved = camera.expose()
        straight = {**bench.ask(op="truth")}
        straight.pop("ok")
        straight["optics"]["shift_px"] = [0.0, 0.0]
        assert bench.ask(op="rebuild", truth=straight) == {"ok": True}
        np.testing.assert_array_equal(camera.expose(), expected(0, 0, 0.002))
        assert (moved != expected(0, 0, 0.002)).any()


def test_when_the_screens_go_frames_fail_and_nothing_hangs(screens: Screens, start_bench: StartBench) -> None:
    bench = start_bench()
    with camera_on(bench) as camera:
        assert camera.expose() is not None
        end_server(screens.process)
        before_s = time.monotonic()
        assert camera.expose() is None
        assert camera.expose() is None
        assert time.monotonic() - before_s < 3
    ready, _, _ = select.select([bench.process.stdout], [], [], 0.1)
    assert not ready, "nobody reads this pipe: what goes in fills it until the bench stands still"


def test_a_bench_without_screens_says_so_and_ends(tmp_path: Path, start_bench: StartBench) -> None:
    places = {**start_bench().places, "display": ":9999", "socket": str(tmp_path / "s")}
    config = json.loads((Path(places["control"]).parent / "config.json").read_text()) | {"places": places}
    (tmp_path / "config.json").write_text(json.dumps(config))
    done = subprocess.run(
        [sys.executable, "-P", "-m", "sim.virtual_lab.bench", str(tmp_path / "config.json")],
        capture_output=True,
        timeout=20,
        check=False,
        stdin=subprocess.DEVNULL,
    )
    assert "cannot be reached" in json.loads(done.stdout)["error"]
    assert done.returncode == 1
