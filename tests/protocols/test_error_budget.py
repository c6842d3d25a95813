"""The error budget: its parts are the errors of the bench, its ends are the two twins, and it adds up what it can."""

from __future__ import annotations

import json
import math
import time
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
import yaml

from labctl.api import prepare
from labctl.calibration.record import ArrayNote, Calibration, CalibrationRecord, Value
from labctl.calibration.validity import bench_hash
from labctl.config import ConfigError
from labctl.errors import BadInput
from labctl.rig import Rig
from labctl.rig_file import RigSpec
from labctl.steps import StepContext
from protocols.error_budget.accounts import account_of, explained, interactions, shares
from protocols.error_budget.step import ErrorBudget
from protocols.error_budget.terms import TERMS, nominal_values, parted_flat, switched, terms_of
from protocols.report.budget import _summary, _table, panels_of
from protocols.report.budget_figure import draw_budget
from sim.sensor import Sensor

BASE: dict[str, Any] = {
    "version": 1,
    "name": "budget",
    "rig": "as-built",
    "scene_px": [24, 24],
    "mask_cells": [8, 8],
    "data": {"type": "digits"},
    "designs": {"disc": {"type": "disc", "radius_cells": 1.5}},
    "steps": {
        "train": {"type": "train", "epochs": 1, "batch": 256},
        "fit_twin": {"type": "fit_twin"},
        "capture": {
            "type": "capture", "mask": "${steps.train.mask}", "train": 2, "val": 0, "test": 60, "witness": "none",
        },
        "budget": {
            "type": "error_budget", "model": "${steps.train.model}", "twin": "${steps.fit_twin.twin}",
            "frames": "${steps.capture.frames}", "scenes": 40,
        },
    },
}  # fmt: skip
BENCH = ("rig.twin.panel.stop_px=[32, 32]", "rig.twin.monitor.view_px=[24, 24]")


def true_twin(spec: Any, *, without: tuple[str, ...] = ()) -> Calibration:
    """A perfect fit of an as-built bench: its true errors. Only a test may look at them."""
    errors = spec.world.errors()
    settings = spec.twin.sensor.model_copy(
        update={name: errors[name] for name in ("vignetting", "dark_offset", "prnu", "column_offset")}
        | {"map_seed": spec.world.seed}
    )
    sensor = Sensor(settings, dtype=torch.float64)
    numbers = {
        "shift_px": tuple(errors["shift_px"]),
        "rotation_rad": math.radians(errors["rotation_deg"]),
        "scale": errors["scale"],
        "blur_px": errors["blur_px"],
        "panel_gamma": errors["panel_gamma"],
        "log_contrast": math.log(errors["contrast"]),
        "stray": errors["stray"],
    }
    shape = spec.twin.frame_shape((8, 8), (24, 24))
    record = CalibrationRecord(
        kind="twin",
        rig=spec.name,
        rig_hash=spec.content_hash,
        bench_hash=bench_hash(spec),
        made=time.time(),
        max_age_s=1e5,
        values={k: Value(value=v, error=None, unit="1") for k, v in numbers.items() if k not in without},
        arrays={"flat": ArrayNote(unit="1", text="flat"), "dark_dn": ArrayNote(unit="DN", text="dark")},
        labctl="0",
    )
    return Calibration(record, {"flat": sensor.flat(shape).numpy(), "dark_dn": sensor.offset_dn(shape).numpy()})


@dataclass(frozen=True)
class Captured:
    """A camera that was trained, and frames that were captured with it."""

    folder: Path
    spec: RigSpec
    model: Path
    frames: Path


@pytest.fixture(scope="module")
def captured(tmp_path_factory: pytest.TempPathFactory) -> Captured:
    """Trained and captured in this very process."""
    folder, made = tmp_path_factory.mktemp("budget"), dict[str, Path]()
    with pytest.MonkeyPatch.context() as patch:
        patch.setenv("LABCTL_STATE", str(folder / "state"))
        planned = planned_steps(folder)
        with Rig(planned["train"].setting.rig) as rig:
            for name in ("train", "capture"):
                step, out = planned[name], folder / name
                out.mkdir()
                context = StepContext(
                    step.setting, out, folder, {ref: made[ref.output] for ref in step.inputs},
                    lambda message: None, lambda: False, step.hash, open_rig=lambda: rig,
                )  # fmt: skip
                made |= step.instance.step.run(context).outputs
    return Captured(folder, planned["train"].setting.rig, made["model"], made["frames"])


def planned_steps(folder: Path, *overrides: str) -> dict[str, Any]:
    (folder / "protocol.yaml").write_text(yaml.safe_dump(BASE, sort_keys=False))
    plan = prepare(folder / "protocol.yaml", overrides=[*BENCH, *overrides])
    return {planned.instance.name: planned for planned in plan}


@pytest.fixture
def budget(captured: Captured, tmp_path: Path) -> Any:
    """A function that runs the step with this twin and returns what it wrote, and what it said."""

    def run(twin: Calibration, *overrides: str) -> tuple[dict[str, Any], list[str]]:
        planned = planned_steps(tmp_path, *overrides)["budget"]
        twin.save(tmp_path / "twin.npz")
        step, said = planned.instance.step, list[str]()
        assert isinstance(step, ErrorBudget)
        inputs = {step.model: captured.model, step.twin: tmp_path / "twin.npz", step.frames: captured.frames}
        out = tmp_path / "step"
        out.mkdir(exist_ok=True)
        result = step.run(
            StepContext(
                planned.setting, out, tmp_path, inputs,
                lambda message: said.append(message["text"]) if message["op"] == "log" else None,
                lambda: False, planned.hash,
            )
        )  # fmt: skip
        return json.loads(result.outputs["budget"].read_text()), said

    return run


def test_the_budget_of_a_perfect_twin_ends_at_the_noise(captured: Captured, budget: Any) -> None:
    found, said = budget(true_twin(captured.spec))
    assert found["nominal"]["in_noise"] > 5
    assert found["fitted"]["in_noise"] == pytest.approx(1, abs=0.05)
    assert found["scenes"] == 40
    assert not any("noise floors from the captured" in text for text in said)
    by_name = {term["name"]: term for term in found["terms"]}
    assert set(by_name) == {
        "shift", "turn", "blur", "response", "leak", "vignetting", "pattern", "stray", "dark", "exposure",
    }  # fmt: skip
    for term in found["terms"]:
        assert term["without"]["explained"] > -0.01, f"without {term['name']} the perfect twin got better"
    needed = {name for name, term in by_name.items() if term["without"]["in_noise"] > 1.5}
    assert {"shift", "leak", "vignetting", "dark", "exposure"} <= needed
    assert by_name["response"]["without"]["explained"] == pytest.approx(0, abs=1e-3)  # the mask has no grey cells


def test_an_error_that_the_twin_lacks_is_said(captured: Captured, budget: Any) -> None:
    found, said = budget(true_twin(captured.spec, without=("shift_px",)))
    assert found["fitted"]["in_noise"] > 1.5
    assert any("there is an error that no term names" in text for text in said)


def test_a_budget_is_told_with_table_figure_and_what_does_not_add_up(captured: Captured, budget: Any) -> None:
    found, _ = budget(true_twin(captured.spec))
    sums = found["interactions"]
    assert sums["explained_sum"] == pytest.approx(sum(term["alone"]["explained"] for term in found["terms"]))
    assert sums["accuracy_whole"] == pytest.approx(found["fitted"]["accuracy"] - found["nominal"]["accuracy"])

    text, table = _summary(found, "seed 0"), _table(found, "seed 0")
    assert f"{found['nominal']['in_noise']:.1f} times the noise" in text
    assert len(table.rows) == len(found["terms"]) + 2
    assert {len(row) for row in table.rows} == {len(table.head)}
    panels = panels_of(found)
    figure = draw_budget([term["title"] for term in found["terms"]], panels)
    assert [len(axes.containers) for axes in figure.axes] == [2, 2, 2]
    for axes, panel in zip(figure.axes, panels, strict=True):
        ends = [bar.get_x() + bar.get_width() for bar in axes.containers[0]]
        assert ends == pytest.approx(list(panel.alone))


def test_frames_less_their_closed_mask_are_refused(tmp_path: Path) -> None:
    with pytest.raises(ConfigError, match="takes the frame of the closed mask off"):
        planned_steps(tmp_path, "steps.capture.closed_mask=subtract")


def test_a_twin_of_another_bench_is_refused(captured: Captured, budget: Any) -> None:
    twin = true_twin(captured.spec)
    record = twin.record.model_copy(update={"bench_hash": "0" * 64})
    with pytest.raises(BadInput, match="foreign"):
        budget(Calibration(record, twin.arrays))


# Switching


def fitted_values() -> dict[str, Any]:
    y, x = np.mgrid[-1:1:9j, -1:1:9j]
    radius = (y**2 + x**2) / 2
    pattern = 1 + 0.02 * np.random.default_rng(1).standard_normal(radius.shape)
    return {
        "shift_px": np.array([0.5, -1.0]),
        "stray": np.array(0.05),
        "flat_map": 1.1 * (1 - 0.3 * radius) * pattern,
        "dark_map_dn": np.full(radius.shape, 150.0),
        "new_value": np.array(3.0),
    }


def test_all_terms_on_is_the_fitted_twin_and_none_on_the_nominal_one() -> None:
    fitted, nominal = fitted_values(), {"shift_px": np.zeros(2), "stray": np.array(0.0)}
    y, x = np.mgrid[-1:1:9j, -1:1:9j]
    radius = (y**2 + x**2) / 2
    terms = terms_of(nominal, fitted, (0.01, 0.02))
    whole = {"nominal_flat": np.ones_like(radius), "radius_squared": radius}
    everything = switched(terms, {term.name for term in terms}, fitted, **whole)
    assert set(everything) == set(fitted)
    for name, value in fitted.items():
        assert np.allclose(everything[name], value), name
    assert switched(terms, (), fitted, **whole) == {}
    assert [term.name for term in terms] == ["shift", "vignetting", "pattern", "stray", "dark", "exposure", "other"]


def test_what_the_fit_did_not_move_is_no_term() -> None:
    same = {"shift_px": np.array([0.25, 0.0]), "stray": np.array(0.01)}
    assert terms_of(same, {**same, "stray": np.array(0.02)}, (0.01, 0.01)) == tuple(
        term for term in TERMS if term.name == "stray"
    )


def test_vignetting_and_pattern_share_the_flat_without_rest() -> None:
    flat = fitted_values()["flat_map"]
    y, x = np.mgrid[-1:1:9j, -1:1:9j]
    radius = (y**2 + x**2) / 2
    even, pattern = parted_flat(flat, radius)
    assert np.allclose(even * pattern, flat)
    assert 1 - even[0, 0] / even[4, 4] == pytest.approx(0.3, abs=0.02)
    assert pattern.std() == pytest.approx(0.02, rel=0.2)


def test_nominal_values_are_those_of_the_rig_file(captured: Captured) -> None:
    spec = captured.spec
    found = nominal_values(spec.twin.build(spec.roads), ["shift_px", "log_contrast", "gain_dn_per_e", "full_well_e"])
    assert found["shift_px"].tolist() == list(spec.twin.registration.shift_px)
    assert found["log_contrast"] == pytest.approx(math.log(spec.twin.panel.contrast))
    assert found["gain_dn_per_e"] == pytest.approx(spec.twin.sensor.gain_dn_per_e)
    assert found["full_well_e"] == spec.twin.sensor.full_well_e


# Accounts


def test_an_account_tells_rms_and_what_gain_and_offset_leave() -> None:
    draws = np.random.default_rng(0)
    predicted = draws.uniform(100, 900, (5, 1, 8, 8))
    noise = draws.normal(0, 10, predicted.shape)
    account = account_of(predicted, 2 * predicted + 50 + noise, np.array([True, True, False, True, False]))
    assert account.rms_dn == pytest.approx(np.sqrt(np.mean((predicted + 50 + noise) ** 2)))
    assert account.shape_rms_dn == pytest.approx(10, rel=0.15)
    assert account.accuracy == pytest.approx(0.6)


def test_shares_do_not_depend_on_the_noise_in_all_of_them() -> None:
    clean, noise = [9.0, 4.0, 1.0], 25.0
    assert explained(clean[1], clean[0], clean[2]) == pytest.approx(5 / 8)
    assert explained(clean[1] + noise, clean[0] + noise, clean[2] + noise) == pytest.approx(5 / 8)
    assert explained(4.0, 1.0, 2.0) is None


def test_independent_errors_add_up_to_one() -> None:
    draws = np.random.default_rng(0)
    first, second = (draws.normal(0, size, (200, 1, 10, 10)) for size in (3.0, 4.0))
    captured, right = first + second, np.ones(200, dtype=bool)
    nominal = account_of(np.zeros_like(captured), captured, right)
    fitted = account_of(captured, captured, right)
    rows = [shares(account_of(part, captured, right), nominal, fitted) for part in (first, second)]
    assert rows[0]["explained"] == pytest.approx(9 / 25, abs=0.02)
    told = interactions([{**row, "change": [0.0, 0.0, 0.0]} for row in rows], 0.0)
    assert told["explained_sum"] == pytest.approx(1, abs=0.03)
