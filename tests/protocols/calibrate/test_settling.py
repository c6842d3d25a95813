"""Settling as a calibration: the number, its error, and that the rig uses what was measured."""

from __future__ import annotations

from pathlib import Path
from types import SimpleNamespace
from typing import Any

import numpy as np
import pytest

from labctl.errors import RunFailed
from labctl.step_response import SETTLED, Response, Step
from labctl.timing import load_timing
from protocols.calibrate.settling import Settling, _latency, _response, _settled, settled_of
from tests.protocols.calibrate.one_bench import calibration_bench

QUICK = {"settling": Settling(steps=3, longest_s=0.08)}


def tail(settled_s: float, response_s: float, noise: float, seed: int, gamma: float = 2.2) -> list[Step]:
    """Steps of light that goes as level^gamma and is settled at `settled_s`."""
    rng, steps = np.random.default_rng(seed), []
    latency_s = settled_s + response_s * np.log(1 - (1 - SETTLED) ** (1 / gamma))
    for _ in range(12):
        delay = np.sort(rng.uniform(0, 6 * settled_s, 80))
        level = 1 - np.exp(-np.maximum(0, delay - latency_s) / response_s)
        steps.append(Step(True, delay, level**gamma + noise * rng.standard_normal(80)))
    return steps


def test_the_tail_of_a_step_tells_when_it_has_settled() -> None:
    pulls = []
    for seed in range(20):
        true_s = 0.010 + 0.001 * seed
        found = settled_of(tail(true_s, 0.0025, 4e-4, seed), 4e-4, 2 * true_s)
        assert found is not None
        assert abs(found.time_s - true_s) < 3e-4
        pulls.append((found.time_s - true_s) / found.error_s)
    assert np.mean(np.abs(pulls) < 1) > 0.5
    assert np.mean(np.abs(pulls) < 2) > 0.85


def test_a_display_faster_than_the_camera_has_no_tail() -> None:
    steps = [Step(True, np.linspace(0, 0.1, 50), np.ones(50))]
    assert settled_of(steps, 1e-3, 0.05) is None


@pytest.mark.parametrize("response_s", [0.003])
def test_settling_is_found_within_a_millisecond_and_kept_for_the_rig(tmp_path: Path, response_s: float) -> None:
    changes = {"world__panel_response_s": response_s, "world__panel_gamma": 2.2, "world__contrast": 1e5}
    with calibration_bench(tmp_path, settings=QUICK, **changes) as here:
        found = here.measure("settling")
    true_s = -response_s * np.log(1 - (1 - SETTLED) ** (1 / 2.2))
    assert found.value("settle_mask_s") == pytest.approx(true_s, abs=1e-3)
    assert found.error("settle_mask_s") < 1e-3
    assert found.value("wait_mask_s") >= found.value("settle_mask_s") + 0.004
    assert found.value("settle_scene_s") < 1e-3
    kept = load_timing("as-built")
    assert kept is not None
    assert kept.displays["mask"].settle_s == found.value("wait_mask_s")
    Settling().draw(found).savefig(tmp_path / "page.png")


def test_of_a_display_that_no_frame_caught_changing_the_latency_lies_between_two_frames() -> None:
    rng, steps = np.random.default_rng(3), []
    for number in range(40):
        begun = 0.001 * number + 0.04 * np.arange(5)
        shown = (begun > 0.0103) + 2e-4 * rng.standard_normal(5)
        steps += [Step(rise, begun - 0.003, shown, begun) for rise in (True, False)]
    display = SimpleNamespace(
        timing=SimpleNamespace(displays={"mask": SimpleNamespace(exposure_s=1e-6, noise=2e-4)}),
        steps={"mask": tuple(steps)},
    )
    instant = Response(0.004, 0.0, 1e-6, 1e-6, 0.011, 0.0)
    latency_s, error_s = _latency(display, "mask", instant, 0.0)  # type: ignore[arg-type]
    assert latency_s == pytest.approx(0.0105, abs=1e-5)
    assert error_s == pytest.approx(0.001 / 12**0.5, rel=0.01)


def test_a_display_that_does_not_settle_is_refused(tmp_path: Path) -> None:
    slow = {"settling": Settling(steps=2, longest_s=0.05)}
    with (
        calibration_bench(tmp_path, settings=slow, world__panel_response_s=0.02) as here,
        pytest.raises(RunFailed, match=r"calibration `settling`: .*has not settled"),
    ):
        here.measure("settling")


def slow_camera(seed: int, *, jitter_s: float) -> dict[str, Any]:
    """Both directions of a display of 10 ms latency and 2 ms response, by 40 steps of a camera that takes 40 ms a frame
    and begins each exposure late, by another time each."""
    rng, steps = np.random.default_rng(seed), []
    for number in range(40):
        for rise in (True, False):
            delay = 0.001 * number + 0.04 * np.arange(5)
            begun = delay + 0.003 + jitter_s * rng.uniform(-1, 1, 5)
            level = 1 - np.exp(-np.maximum(0, begun - 0.010) / 0.002)
            share = level**2.2 if rise else 1 - (1 - level) ** 2.2
            steps.append(Step(rise, delay, share + 2e-4 * rng.standard_normal(5), begun))
    timing = SimpleNamespace(
        displays={"mask": SimpleNamespace(exposure_s=1e-6, noise=2e-4, settle_s=0.03)},
        camera=SimpleNamespace(start_low_s=0.003, start_high_s=0.003),
    )
    return {"timing": timing, "steps": {"mask": tuple(steps)}}


def test_with_a_slow_camera_the_slower_direction_counts_and_its_late_triggers_do_not() -> None:
    true_s = 0.010 - 0.002 * np.log(1 - (1 - SETTLED) ** (1 / 2.2))
    fall_s = 0.010 - 0.002 * np.log(SETTLED) / 2.2
    assert true_s - fall_s > 0.005
    for seed in range(5):
        for fewer in (1, 4):  # of the rise too few looks fall into the tail to lay a line through
            measured = slow_camera(seed, jitter_s=0.002)
            steps = [step for n, step in enumerate(measured["steps"]["mask"]) if not step.rise or n % (2 * fewer) == 0]
            measured["steps"]["mask"] = tuple(steps)
            display = SimpleNamespace(**measured)
            response = _response(display, "mask")  # type: ignore[arg-type]
            found_s, error_s = _settled(display, "mask", response, 0.0)  # type: ignore[arg-type]
            assert abs(found_s - true_s) < min(3 * error_s, 0.004)
            assert response.latency_s == pytest.approx(0.0105, abs=0.002)
