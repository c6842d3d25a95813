"""What the rig measures of its own delays, and what it does with it."""

from __future__ import annotations

import json
import logging
from collections.abc import Iterable
from pathlib import Path
from typing import Any, ClassVar, Literal

import numpy as np
import pytest

import labctl
from labctl.devices import DeviceKind, DeviceSettings, OpenContext
from labctl.errors import BadInput, HardwareError
from labctl.rig import Rig
from labctl.step_response import SETTLED, Step, response_of, step_fraction
from labctl.timing import Timing, load_timing, measure_timing, save_timing, settle_display, timing_file

PANEL_S, MONITOR_S = 0.002, 0.004
SLOW = {"twin.panel.response_s": PANEL_S, "twin.monitor.response_s": MONITOR_S}
GAMMA = 2.2


def settled_after(response_s: float) -> float:
    """When light that goes as level^2.2 has come to within 0.5 % while the level rises exponentially."""
    return float(-response_s * np.log(1 - (1 - SETTLED) ** (1 / GAMMA)))


def stepped(latency_s: float, response_s: float, noise: float = 0.0, seed: int = 0) -> list[Step]:
    """A step up and a step down, seen at random delays by exposures of 1 ms."""
    rng = np.random.default_rng(seed)
    delays = [np.sort(rng.uniform(0, 1, 90) ** 3) * 0.5 for _ in range(2)]
    return [
        Step(rise, delay_s, step_fraction(delay_s, latency_s, response_s, 1e-3) + noise * rng.standard_normal(90))
        for rise, delay_s in zip((True, False), delays, strict=True)
    ]


def many(steps: Iterable[list[Step]]) -> list[Step]:
    return [step for pair in steps for step in pair]


@pytest.mark.parametrize("rig", ["sim", "as-built"])
def test_the_settling_of_both_displays_is_measured_to_a_few_milliseconds(rig: str) -> None:
    with labctl.open_rig(rig, set=SLOW) as opened:
        measured = measure_timing(opened, steps=3)
    for name, response_s in (("mask", PANEL_S), ("scene", MONITOR_S)):
        found = measured.timing.displays[name]
        settled_s = found.settle_s - found.margin_s
        assert 0.97 * settled_after(response_s) < settled_s < 1.15 * settled_after(response_s)
        assert settled_s + found.settle_error_s > settled_after(response_s)
        assert found.margin_s >= 0.005
        assert found.latency_s < response_s
        assert found.fall_s < found.rise_s, "light falls faster than the level behind it"
        assert len(measured.steps[name]) == found.steps == 6
    assert measured.timing.camera.start_low_s == measured.timing.camera.start_high_s == 0.0


@pytest.mark.parametrize(("latency_s", "response_s"), [(0.012, 0.003), (0.0, 0.01), (0.03, 0.0005)])
def test_latency_and_time_constant_are_told_apart_in_spite_of_noise(latency_s: float, response_s: float) -> None:
    steps = many(stepped(latency_s, response_s, noise=0.002, seed=seed) for seed in range(6))
    found = response_of(steps, exposure_s=1e-3, noise=0.002)
    assert found.latency_s == pytest.approx(latency_s, abs=5e-4)
    assert found.rise_s == pytest.approx(response_s, rel=0.1, abs=1e-4)
    truth_s = latency_s + response_s * np.log(1 / SETTLED)
    assert truth_s - 1e-4 < found.settle_s < 1.2 * truth_s + 1e-3


def test_a_picture_that_waits_for_the_refresh_settles_as_late_as_its_latest_step() -> None:
    latencies = np.linspace(0.002, 0.018, 9)
    steps = many(stepped(latency_s, 1e-3, seed=seed) for seed, latency_s in enumerate(latencies))
    found = response_of(steps, exposure_s=1e-3, noise=1e-4)
    assert 0.5 * latencies.std() < found.latency_spread_s < 2 * latencies.std()
    assert found.settle_s > 0.018 + 1e-3 * np.log(1 / SETTLED)


def test_a_camera_slower_than_the_display_measures_it_all_the_same() -> None:
    rng, steps = np.random.default_rng(0), []
    for number in range(16):
        for rise in (False, True):
            delay_s = 0.05 * number / 16 + 0.05 * np.arange(6) + 5e-4 * rng.random()
            steps.append(Step(rise, delay_s, step_fraction(delay_s, 0.012, 0.003, 1e-3)))
    found = response_of(steps, exposure_s=1e-3, noise=1e-3)
    truth_s = 0.012 + 0.003 * np.log(1 / SETTLED)
    assert found.latency_s == pytest.approx(0.012, abs=1e-3)
    assert truth_s < found.settle_s + found.settle_error_s
    assert found.settle_s < truth_s + 0.004


def test_a_few_broken_frames_do_not_move_latency_and_time_constant() -> None:
    steps = stepped(0.012, 0.003)
    for step in steps:
        step.fraction[[5, 20, 40]] += 0.4
    found = response_of(steps, exposure_s=1e-3, noise=0.002)
    assert found.latency_s == pytest.approx(0.012, abs=5e-4)
    assert found.rise_s == pytest.approx(0.003, rel=0.1)


def test_a_display_that_never_settles_is_an_error_and_not_a_number() -> None:
    with pytest.raises(HardwareError, match="has not settled"):
        response_of(stepped(0.0, 0.2), exposure_s=1e-3, noise=1e-4)
    with pytest.raises(HardwareError, match="has not settled"), labctl.open_rig("sim", set=SLOW) as rig:
        measure_timing(rig, longest_s=0.01, steps=2)


def test_a_step_that_does_not_reach_the_camera_is_an_error_and_not_a_number() -> None:
    with pytest.raises(HardwareError, match="hidden in noise"):
        response_of(stepped(0.0, 0.01), exposure_s=1e-3, noise=0.3)
    with labctl.open_rig("sim", set=SLOW) as rig:
        scene = rig.devices().scene
        assert scene is not None
        scene.show = lambda levels: 0.0  # type: ignore[method-assign]  # dead, and nobody noticed
        with pytest.raises(HardwareError, match=r"hidden in noise|the same frame"):
            measure_timing(rig, steps=2)


def test_nonsense_is_refused() -> None:
    with labctl.open_rig("sim") as rig:
        for wrong in ({"longest_s": 0.0}, {"steps": 0}):
            with pytest.raises(BadInput, match="are needed"):
                measure_timing(rig, **wrong)  # type: ignore[arg-type]


class _Waiting(DeviceSettings):
    """A display setting that leaves the time to the rig, as those of real drivers do."""

    kind: ClassVar[DeviceKind] = "display"
    type: Literal["waiting"] = "waiting"
    monitor: str = "A"
    settle_s: float | None = None

    def make(self, context: OpenContext) -> Any:
        raise NotImplementedError


@pytest.fixture
def measured(caplog: pytest.LogCaptureFixture) -> Any:
    """A rig, opened, and the timing that `_Waiting` in place of its mask would have."""
    caplog.set_level(logging.WARNING, logger="labctl.timing")
    with labctl.open_rig("sim", set=SLOW) as rig:
        rig.spec.devices["mask"] = _Waiting()  # type: ignore[index]
        save_timing(measure_timing(rig, steps=2).timing)
        yield rig


def test_a_display_gets_the_time_that_was_measured_for_it(measured: Rig, caplog: pytest.LogCaptureFixture) -> None:
    mask, timing = measured.devices().mask, load_timing("sim")
    assert timing is not None
    mask.settle_s = 9.0
    assert settle_display(measured.spec, "mask", mask) == "measured"
    assert mask.settle_s == timing.displays["mask"].settle_s
    assert caplog.text == ""


@pytest.mark.parametrize("changed", ["monitor", "size", "world", "absent", "damaged"])
def test_a_display_that_was_not_measured_keeps_its_safe_time_and_the_log_says_so(
    measured: Rig, caplog: pytest.LogCaptureFixture, changed: str
) -> None:
    mask = measured.devices().mask
    mask.settle_s = 9.0
    spec = measured.spec
    if changed == "monitor":
        spec.devices["mask"] = _Waiting(monitor="B")  # type: ignore[index]
    elif changed == "size":
        mask.shape = (7, 7)
    elif changed == "world":
        object.__setattr__(spec, "world", spec.world.model_copy(update={"seed": 77}))
    elif changed == "absent":
        timing_file("sim").unlink()
    else:
        timing_file("sim").write_text("{")
    assert settle_display(spec, "mask", mask) == "not measured"
    assert mask.settle_s == 9.0
    assert "run `labctl timing --rig sim`" in caplog.text


def test_a_time_in_the_rig_file_goes_before_the_measured_one_and_simulated_displays_know_theirs(measured: Rig) -> None:
    mask = measured.devices().mask
    mask.settle_s = 9.0
    measured.spec.devices["mask"] = _Waiting(settle_s=9.0)  # type: ignore[index]
    assert settle_display(measured.spec, "mask", mask) == "rig file"
    scene = measured.devices().scene
    assert scene is not None
    scene.settle_s = 9.0
    assert settle_display(measured.spec, "scene", scene) == "simulated"
    assert mask.settle_s == scene.settle_s == 9.0


def test_an_opened_rig_says_how_long_it_waits_and_why() -> None:
    with labctl.open_rig("sim", set={"mask.settle_s": 0.03}) as rig:
        told = json.loads(json.dumps(rig.describe()))
    assert told["settle"]["mask"] == {"settle_s": 0.03, "from": "rig file"}
    assert told["settle"]["scene"]["from"] == "simulated"
    assert told["retakes"] == []


def test_what_was_measured_is_kept_with_date_rig_and_devices(own_state_folder: Path) -> None:
    with labctl.open_rig("sim", set=SLOW) as rig:
        timing = measure_timing(rig, steps=2).timing
    file = save_timing(timing)
    assert file == own_state_folder / "rigs" / "sim" / "timing.json"
    kept = load_timing("sim")
    assert kept == timing
    assert isinstance(kept, Timing)
    assert kept.rig_hash == rig.spec.content_hash
    assert kept.displays["scene"].device["model"] == "simulated display"
    assert kept.displays["scene"].exposure_s <= 2e-3
