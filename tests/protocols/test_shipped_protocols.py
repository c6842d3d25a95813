"""The protocols of the whole loop, as they are shipped, on every rig that is shipped."""

from __future__ import annotations

from functools import lru_cache
from pathlib import Path

import jsonschema
import pytest

from labctl.file_schemas import protocol_schema
from labctl.protocol import RunPlan, load_protocol, plan_run
from labctl.rig_file import find_rig, load_rig
from labctl.yaml_source import load_yaml

PROTOCOLS = Path(__file__).parents[2] / "configs" / "protocols"
WHOLE_LOOP = ("hardware-loop", "ladder")


@lru_cache
def planned(name: str, rig: str) -> RunPlan:
    return plan_run(load_protocol(PROTOCOLS / f"{name}.yaml"), load_rig(find_rig(rig)))


@pytest.mark.parametrize("name", WHOLE_LOOP)
def test_a_protocol_of_the_whole_loop_validates_against_its_own_schema(name):
    jsonschema.validate(load_yaml(PROTOCOLS / f"{name}.yaml").data, protocol_schema())


@pytest.mark.parametrize("rig", ["sim", "as-built", "virtual"])
@pytest.mark.parametrize("name", WHOLE_LOOP)
def test_a_protocol_of_the_whole_loop_can_be_planned_on_any_rig_by_its_name_alone(name, rig):
    plan = planned(name, rig)
    assert plan.rig.name == rig
    assert all(step.hash for step in plan)


def test_the_plan_says_how_often_training_will_ask_the_bench():
    [loop] = [step for step in planned("hardware-loop", "as-built") if step.instance.name == "loop"]
    digits_to_train_with = 1078
    assert loop.estimate.frames >= loop.instance.step.epochs * digits_to_train_with
    assert "trains with the hardware in the loop (physics_aware)" in loop.estimate.moves[0]


@pytest.mark.parametrize("name", WHOLE_LOOP)
def test_every_stage_is_asked_the_whole_test_split(name):
    steps = {step.instance.name: step.instance.step for step in planned(name, "as-built")}
    judged = [step.frames.step for step in steps.values() if step.type == "evaluate" and step.frames is not None]
    assert len(judged) > 3
    assert {steps[capture].test for capture in judged} == {"all"}
