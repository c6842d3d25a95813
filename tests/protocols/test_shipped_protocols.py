"""The protocols that come with labctl can be planned on every rig that comes with it."""

from __future__ import annotations

from pathlib import Path

import jsonschema
import pytest

from labctl.file_schemas import protocol_schema
from labctl.protocol import RunPlan, load_protocol, plan_run
from labctl.rig_file import find_rig, load_rig
from labctl.yaml_source import load_yaml

PROTOCOLS = ("calibrate", "hardware-loop", "ladder", "quickstart")


def planned(configs: Path, name: str, rig: str) -> RunPlan:
    return plan_run(load_protocol(configs / "protocols" / f"{name}.yaml"), load_rig(find_rig(rig)))


@pytest.mark.parametrize("name", PROTOCOLS)
def test_a_shipped_protocol_validates_against_its_own_schema(name, configs):
    jsonschema.validate(load_yaml(configs / "protocols" / f"{name}.yaml").data, protocol_schema())


@pytest.mark.parametrize("rig", ["sim", "as-built", "virtual"])
@pytest.mark.parametrize("name", ["hardware-loop", "ladder"])
def test_a_protocol_for_any_rig_can_be_planned_on_it(name, rig, configs):
    plan = planned(configs, name, rig)
    assert plan.rig.name == rig
    assert all(step.hash for step in plan)


def test_the_plan_of_the_hardware_loop_says_how_often_the_bench_is_asked(configs):
    plan = planned(configs, "hardware-loop", "as-built")
    [loop] = [step for step in plan if step.instance.name == "loop"]
    epochs, scenes = loop.instance.step.epochs, 1078
    assert loop.estimate.frames >= epochs * scenes
    assert "trains with the hardware in the loop (physics_aware)" in loop.estimate.moves[0]


def test_no_rung_of_the_ladder_is_judged_by_frames_that_it_learned_from(configs):
    """Every captured evaluation reads the test split; what learned from captures had frames of the training split."""
    plan = planned(configs, "ladder", "as-built")
    steps = {step.instance.name: step.instance.step for step in plan}
    judged = [step for step in steps.values() if step.type == "evaluate" and step.frames is not None]
    assert len(judged) == 11
    assert all(steps[step.frames.step].test == "all" for step in judged)
