"""Scene monitor: gamma, contrast, image of its pixels, flicker."""

from __future__ import annotations

import math
from pathlib import Path

import numpy as np
import pytest

from labctl.errors import RunFailed
from protocols.calibrate.bench import Bench
from protocols.calibrate.flicker import flicker_of
from protocols.calibrate.monitor import Monitor
from tests.protocols.calibrate.benches import bench, found_as_calibration, world_of


def test_gamma_contrast_and_geometry_are_those_of_the_monitor(tmp_path: Path):
    changes = ("twin.monitor.gamma=1.9", "twin.monitor.contrast=400", "twin.optics.scene_pitch_m=4.9e-3")
    with bench("monitor", tmp_path, seed=4, changes=changes) as lab:
        made = Monitor().measure(lab)
        found, true = made.values, world_of(lab).settings
        page = Monitor().draw(found_as_calibration(Monitor(), made, lab))
    assert found["scene_gamma"].value == pytest.approx(1.9, abs=4 * found["scene_gamma"].error)
    assert found["scene_contrast"].value == pytest.approx(400, abs=4 * found["scene_contrast"].error)
    assert found["scene_pitch_px"].value == pytest.approx(true.scene_px, abs=4 * found["scene_pitch_px"].error)
    assert found["scene_rotation_rad"].value == pytest.approx(0, abs=4 * found["scene_rotation_rad"].error)
    # A pinhole beside the middle turns and grows with the mask: by less than 0.02 px here.
    assert found["scene_shift_px"].value == pytest.approx(true.registration.shift_px, abs=0.06)
    assert found["flicker"].value < 1e-3
    assert made.warnings == ()
    assert len(page.axes) >= 4


def test_a_monitor_that_flickers_is_warned_of_with_what_to_do(tmp_path: Path, monkeypatch: pytest.MonkeyPatch):
    as_it_was, stream = Bench.frames, np.random.default_rng(2)

    def flickering(self: Bench, name: str, *args: object, **kwargs: object) -> np.ndarray:
        frames = as_it_was(self, name, *args, **kwargs)  # type: ignore[arg-type]
        light = 1 + 0.02 * stream.standard_normal((*frames.shape[:2], 1, 1))
        return (frames * light).round().astype(frames.dtype) if name == "flicker" else frames

    monkeypatch.setattr(Bench, "frames", flickering)
    with bench("monitor", tmp_path) as lab:
        made = Monitor().measure(lab)
    assert made.values["flicker"].value == pytest.approx(0.02, rel=0.5)
    assert any("expose for whole refreshes of the monitor" in warning for warning in made.warnings)


def test_a_mirrored_monitor_is_named(tmp_path: Path, monkeypatch: pytest.MonkeyPatch):
    as_it_was = Bench.frames

    def mirrored(self: Bench, name: str, scenes: np.ndarray, *args: object, **kwargs: object) -> np.ndarray:
        return as_it_was(self, name, scenes[..., ::-1], *args, **kwargs)  # type: ignore[arg-type]

    monkeypatch.setattr(Bench, "frames", mirrored)
    with (
        bench("monitor", tmp_path) as lab,
        pytest.raises(RunFailed, match="the image of the scene is mirrored left to right"),
    ):
        Monitor().measure(lab)


def test_a_monitor_that_stands_still_is_refused(tmp_path: Path):
    with (
        bench("monitor", tmp_path, changes=("twin.monitor.contrast=1.5",)) as lab,
        pytest.raises(RunFailed, match="the monitor does not modulate"),
    ):
        Monitor().measure(lab)


def test_flicker_beyond_photon_noise_is_found_and_photon_noise_alone_is_none():
    stream = np.random.default_rng(8)
    light = 2000 * (1 + 0.01 * stream.normal(size=40))
    frames = stream.poisson(light[:, None, None] * np.ones((40, 32, 32))).astype(np.uint16)
    found = flicker_of(frames, np.zeros((32, 32)))
    assert found.share == pytest.approx(np.std(light, ddof=1) / 2000, rel=0.1)
    assert found.sure
    assert flicker_of(frames[:12], np.zeros((32, 32))).sure, "as many as the monitor is asked by default"
    steady = stream.poisson(2000 * np.ones((40, 32, 32))).astype(np.uint16)
    calm = flicker_of(steady, np.zeros((32, 32)))
    assert not calm.sure
    assert calm.noise == pytest.approx(1 / math.sqrt(2000 * 1024), rel=0.1)
