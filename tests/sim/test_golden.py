from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest
import torch

from labctl.rig_file import find_rig, load_rig
from sim import golden, sensor
from sim.golden import Golden, golden_change, golden_frame

KEPT = Path(__file__).parent / "golden-sim-1.npz"
GRID = (32, 32), (63, 63)


@pytest.fixture(scope="module")
def now() -> Golden:
    return golden_frame(load_rig(find_rig("sim")), *GRID)


def test_the_shipped_rig_makes_the_frames_that_this_version_of_the_simulator_promises(now):
    with np.load(KEPT) as kept:
        then = Golden(int(kept["version"]), kept["frames"])
    assert golden_change(then, now) is None, (
        "frames of the shipped rig changed: if that is meant, raise SIMULATOR_VERSION and renew the kept frames"
    )
    assert then.version == golden.SIMULATOR_VERSION


def test_the_reference_frame_uses_the_sensor_without_saturating_it(now):
    clean, noisy = now.frames.astype(float)
    assert 64 < clean.min() < clean.max() < 4095
    assert clean.std() > 100
    assert 1 < (noisy - clean).std() < 100


def test_a_golden_frame_survives_its_checkpoint(now, tmp_path):
    torch.save(now.as_state(), tmp_path / "state.pt")
    back = Golden.of_state(torch.load(tmp_path / "state.pt", weights_only=True))
    assert (back.version, back.sha256) == (now.version, now.sha256)
    assert golden_change(back, now) is None


def test_rounding_of_another_machine_is_no_change_but_two_counts_are(now):
    frames = now.frames.copy()
    frames[0, 3, 5] += 1
    assert golden_change(Golden(1, frames), now) is None
    frames[0, 3, 5] += 1
    assert "0 % of the pixels of the reference frame differ, by up to 2 DN" in str(
        golden_change(Golden(1, frames), now)
    )


def test_other_physics_says_what_changed(now, monkeypatch):
    monkeypatch.setattr(sensor, "convert", lambda value, top: torch.floor(value).clamp(0, top) * 0.9)
    monkeypatch.setattr(golden, "SIMULATOR_VERSION", 7)
    change = golden_change(now, golden_frame(load_rig(find_rig("sim")), *GRID))
    assert change is not None
    assert change.startswith("the simulator makes other frames than when this model was trained (simulator version 1")
    assert "7 now): 100 % of the pixels" in change


def test_other_noise_is_a_change_too(now, monkeypatch):
    monkeypatch.setattr(sensor, "shot_noise", lambda electrons, draws: electrons)
    change = golden_change(now, golden_frame(load_rig(find_rig("sim")), *GRID))
    assert str(change).startswith("the simulator makes other noise than when")
