from __future__ import annotations

from pathlib import Path
from types import SimpleNamespace
from typing import Any

import pytest
import yaml

from labctl.api import prepare
from labctl.calibration.record import Calibration
from labctl.calibration.shelf import Shelf
from labctl.errors import BadInput
from labctl.rig import Rig
from labctl.steps import StepContext, StepResult
from protocols.twin_fit.fitted import fitted_twin
from tests.protocols.small_rig import SMALL_RIG


def planned_fit(folder: Path, **settings: Any) -> Any:
    """The only step of a small protocol, planned."""
    protocol = {
        "version": 1, "name": "fit", "scene_px": [31, 31], "mask_cells": [16, 16], "rig": "as-built",
        "designs": {"disc": {"type": "disc"}}, "steps": {"fit_twin": {"type": "fit_twin", **settings}},
    }  # fmt: skip
    path = folder / "fit.yaml"
    path.write_text(yaml.safe_dump(protocol))
    overrides = tuple(f"rig.{change}" for change in (*SMALL_RIG, "world.seed=3"))
    (planned,) = prepare(path, overrides=overrides)
    return planned


def run(planned: Any, folder: Path) -> tuple[StepResult, list[str], Any]:
    said: list[str] = []
    with Rig(planned.setting.rig) as rig:
        context = StepContext(
            setting=planned.setting, folder=folder, run_folder=folder, inputs={}, stop_asked=lambda: False,
            report=lambda event: said.append(event["text"]) if event["op"] == "log" else None,
            content_hash="0123456789abcdef", open_rig=lambda: rig,
        )  # fmt: skip
        return planned.instance.step.run(context), said, rig.spec


def test_the_step_leaves_a_twin_its_page_and_a_copy_on_the_shelf(tmp_path):
    planned = planned_fit(tmp_path, instruments={"lamp": {"power": 1.0}})
    estimate = planned.instance.step.estimate(planned.setting)
    result, said, spec = run(planned, tmp_path)
    assert result.outputs == {"twin": tmp_path / "twin.npz"}
    twin = Calibration.load(tmp_path / "twin.npz")
    assert result.metrics["error_after"] < 1.2 < 2 < result.metrics["error_before"]
    assert result.metrics["exposures"] == twin.record.exposures
    assert abs(estimate.frames - twin.record.exposures) <= 12
    assert (tmp_path / "pages" / "twin.png").stat().st_size > 10_000
    newest = Shelf(spec.name).newest("twin")
    assert newest is not None
    assert newest.id == twin.id
    assert twin.raw["fitted"].shape[1:] == (16, 16)
    assert len(twin.raw["fitted"]) == len(twin.raw["fitted.exposure_s"]) == len(twin.raw["fitted.pattern"])
    assert any("crosstalk" in line for line in said)
    assert twin.record.readings["lamp.power"] == 1.0
    assert fitted_twin(spec, twin).settings.optics.margin_px == twin.record.settings["margin_px"]


def test_a_value_that_no_twin_has_is_refused_before_anything_moves(tmp_path):
    with pytest.raises(BadInput, match="no twin can be fitted in focus; it can in shift_px"):
        _checked(planned_fit(tmp_path, fit=["shift_px", "focus"]))


def test_an_instrument_that_the_rig_lacks_is_refused_before_anything_moves(tmp_path):
    with pytest.raises(BadInput, match="has no instrument 'laser'"):
        _checked(planned_fit(tmp_path, instruments={"laser": {"power": 1.0}}))


def _checked(planned: SimpleNamespace) -> None:
    planned.instance.step.check(planned.setting)
