"""JSON Schemas for editors."""

from __future__ import annotations

from typing import Annotated, Any, Literal

import pytest
from jsonschema import Draft202012Validator
from pydantic import Field

from labctl import plugins
from labctl.errors import BadInput
from labctl.frozen import Frozen
from labctl.schema import EXTENDS, compose, typed_union_schema


def block(unit: str) -> Any:
    """A model called Block, another one for every unit."""

    class Block(Frozen):
        size: Annotated[float, Field(gt=0)]

    Block.__doc__ = f"A block in {unit}."
    return Block


FirstBlock, SecondBlock = block("metres"), block("pixels")


class Train(Frozen):
    """Trains."""

    type: Literal["train"]
    epochs: Annotated[int, Field(ge=1)] = 3
    """How often the data are seen."""

    block: FirstBlock | None = None  # type: ignore[valid-type]


class Show(Frozen):
    block: SecondBlock  # type: ignore[valid-type]
    """What to show."""


@pytest.fixture(autouse=True)
def offered(monkeypatch):
    models: dict[str, Any] = {"train": Train, "sim.show": Show, "again": Train}
    monkeypatch.setattr(plugins, "names", lambda group: sorted(models))
    monkeypatch.setattr(plugins, "load", lambda group, name: models[name])
    return models


def valid(schema: dict[str, Any], data: Any) -> bool:
    Draft202012Validator.check_schema(schema)
    return bool(Draft202012Validator(schema).is_valid(data))


def test_the_type_tells_which_settings_are_allowed():
    schema = typed_union_schema("labctl.steps")
    assert valid(schema, {"type": "train", "epochs": 2})
    assert valid(schema, {"type": "again"})
    assert valid(schema, {"type": "sim.show", "block": {"size": 1}})
    assert not valid(schema, {"type": "train", "epochs": 0})
    assert not valid(schema, {"type": "train", "epcohs": 1})
    assert not valid(schema, {"type": "sim.show"})
    assert not valid(schema, {"epochs": 2})
    assert not valid(schema, {"type": "other"})


def test_the_docstrings_of_fields_are_their_descriptions():
    definition = typed_union_schema("labctl.steps")["$defs"]["labctl.steps:train"]
    assert definition["properties"]["epochs"]["description"] == "How often the data are seen."
    assert definition["description"] == "Trains."
    assert definition["properties"]["type"]["const"] == "train"


def test_models_of_one_name_do_not_clash():
    definitions = typed_union_schema("labctl.steps")["$defs"].values()
    found = sorted(each["description"] for each in definitions if each.get("title") == "Block")
    assert found == ["A block in metres.", "A block in pixels."]


def test_every_definition_is_used_and_every_reference_leads_somewhere():
    schema = typed_union_schema("labctl.steps")
    pointers: set[str] = set()

    def visit(part: Any) -> None:
        if isinstance(part, dict) and "$ref" in part:
            pointers.add(part["$ref"])
        for item in part.values() if isinstance(part, dict) else part if isinstance(part, list) else ():
            visit(item)

    visit(schema)
    assert pointers == {f"#/$defs/{name}" for name in schema["$defs"]}


def test_a_group_without_plug_ins_allows_nothing(offered):
    offered.clear()
    assert typed_union_schema("labctl.none") == {"not": {}, "$defs": {}}
    assert not valid(typed_union_schema("labctl.none"), {"type": "x"})


def test_a_plug_in_without_settings_has_no_schema(offered):
    offered["odd"] = print
    with pytest.raises(BadInput) as caught:
        typed_union_schema("labctl.steps")
    assert str(caught.value) == (
        "the plug-in 'odd' of labctl.steps is no settings model and has no schema; mend the plug-in"
    )


def test_a_whole_file_is_put_together_from_parts():
    steps = {"type": "object", "additionalProperties": typed_union_schema("labctl.steps")}
    schema = compose(
        "Protocol",
        {"name": {"type": "string"}, "extends": EXTENDS, "steps": steps, "first": {"$ref": "#/$defs/Own"}},
        required=["name"],
        defs={"Own": {"type": "integer"}},
        description="What to do.",
    )
    assert schema["title"] == "Protocol"
    assert schema["description"] == "What to do."
    assert "$defs" not in schema["properties"]["steps"]["additionalProperties"]
    assert valid(schema, {"name": "a", "steps": {"x": {"type": "train"}}, "first": 1})
    assert valid(schema, {"name": "a", "extends": ["b.yaml", "c.yaml"]})
    assert not valid(schema, {"name": "a", "steps": {"x": {"type": "train", "block": {"size": 0}}}})
    assert not valid(schema, {"name": "a", "first": "x"})
    assert not valid(schema, {"name": "a", "other": 1})
    assert not valid(schema, {"steps": {}})


def test_different_definitions_of_one_name_stay_apart_and_equal_ones_become_one():
    def part(kind: str) -> dict[str, Any]:
        leaf = {"Leaf": {"type": kind}, "Tree": {"type": "array", "items": {"$ref": "#/$defs/Leaf"}}}
        return {"$ref": "#/$defs/Tree", "$defs": leaf}

    schema = compose("File", {"a": part("string"), "b": part("integer"), "c": part("string")})
    assert sorted(schema["$defs"]) == ["Leaf", "Leaf__2", "Tree", "Tree__2"]
    assert valid(schema, {"a": ["x"], "b": [1], "c": ["y"]})
    assert not valid(schema, {"a": [1]})
    assert not valid(schema, {"b": ["x"]})
    assert not valid(schema, {"c": [1]})


def test_composing_leaves_its_parts_as_they_were():
    part = typed_union_schema("labctl.steps")
    compose("File", {"a": part})
    assert "$defs" in part


def test_a_required_property_must_be_described():
    with pytest.raises(BadInput) as caught:
        compose("File", {}, required=["name"])
    assert str(caught.value) == "the schema 'File' requires name without describing it; add the property"
