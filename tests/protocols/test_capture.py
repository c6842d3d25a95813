from __future__ import annotations

from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch

import labctl
from labctl.exposure import Exposure, still_plan
from labctl.rig_file import find_rig, load_rig
from protocols.capture import exposing, white_exposure
from protocols.simulation import ExposureRule, Simulation
from tests.protocols.captures import DISC, Session, pixels

FILL = 0.9


def test_the_nominal_rig_is_exposed_as_the_twin_was_in_training() -> None:
    simulation = Simulation(load_rig(find_rig("sim")), ExposureRule(FILL))
    wanted_s = float(simulation.twin.white_exposure_s(simulation.psf(torch.from_numpy(DISC)).sum(), FILL))
    with labctl.open_rig("sim") as rig:
        found_s = white_exposure(rig, DISC, (63, 63), (32, 32), FILL, first_id=0)
    assert found_s == pytest.approx(wanted_s, rel=0.005)


def test_the_nominal_rig_measures_what_the_twin_says_to_the_noise() -> None:
    scenes = np.random.default_rng(0).random((4, 1, 63, 63), dtype=np.float32)
    simulation = Simulation(load_rig(find_rig("sim")), ExposureRule(FILL))
    told = simulation.all_frames(simulation.shown(torch.from_numpy(scenes)), torch.from_numpy(DISC)).numpy()
    with labctl.open_rig("sim") as rig:
        time_s = white_exposure(rig, DISC, (63, 63), (32, 32), FILL, first_id=0)
        exposure = Exposure(exposure_s=time_s, roi=(32, 32))
        measured = rig.expose(still_plan(scenes, DISC, exposure, exposure_ids=range(100, 104))).pixels
    assert measured.mean() == pytest.approx(told.mean(), rel=0.005)
    signal_e = (told - 64) / 0.4031
    noise_dn = 0.4031 * np.sqrt(signal_e + 9)
    assert ((measured - told) / noise_dn).std() == pytest.approx(1.0, abs=0.05)


def test_a_stuck_pixel_does_not_shorten_the_exposure(monkeypatch: pytest.MonkeyPatch) -> None:
    with labctl.open_rig("sim") as rig:
        clean_s = white_exposure(rig, DISC, (63, 63), (32, 32), FILL, first_id=0)
        expose = rig.expose

        def with_a_stuck_pixel(plan: object) -> object:
            frames = expose(plan)  # type: ignore[arg-type]
            frames.pixels[:, :, 3, 4] = 4095
            return frames

        monkeypatch.setattr(rig, "expose", with_a_stuck_pixel)
        stuck_s = white_exposure(rig, DISC, (63, 63), (32, 32), FILL, first_id=0)
    assert stuck_s == pytest.approx(clean_s, rel=0.005)


def test_a_capture_sent_to_the_rig_in_parts_gives_the_same_frames(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    sent: list[int] = []
    plan = exposing.ExposurePlan

    def counted(**given: Any) -> Any:
        sent.append(len(given["scenes"]))
        return plan(**given)

    monkeypatch.setattr(exposing, "ExposurePlan", counted)
    found = []
    for part in (512, 7):
        monkeypatch.setattr(exposing, "PART", part)
        session = Session(tmp_path / str(part), {"train": 5, "test": 4, "repeats": 2})
        session.run()
        found.append(session.store())
    whole, parts = found
    assert sent == [18, 7, 7, 4]
    assert np.array_equal(pixels(whole), pixels(parts))
    for name in ("exposure_id", "sample_id", "label", "split", "repeat", "exposure_s", "saturated_fraction"):
        assert np.array_equal(whole.column(name), parts.column(name)), name
