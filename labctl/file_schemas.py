"""JSON Schema of whole protocol and rig files, with every plug-in that is installed; `labctl schema` prints them."""

from __future__ import annotations

from typing import Any

from labctl.protocol import ProtocolFile
from labctl.rig_file import RigFile
from labctl.schema import EXTENDS, Schema, compose, typed_union_schema


def protocol_schema() -> Schema:
    """Schema of a protocol file."""
    designs, steps = typed_union_schema("labctl.designs"), typed_union_schema("labctl.steps")
    return _file_schema(
        ProtocolFile,
        "labctl protocol",
        {
            "data": typed_union_schema("labctl.datasets"),
            "model": typed_union_schema("labctl.models"),
            "designs": {"type": "object", "additionalProperties": designs},
            "steps": {"type": "object", "minProperties": 1, "additionalProperties": steps},
        },
    )


def rig_schema() -> Schema:
    """Schema of a rig file."""
    device = typed_union_schema("labctl.devices")
    return _file_schema(
        RigFile,
        "labctl rig",
        {
            "twin": typed_union_schema("labctl.twins"),
            "world": typed_union_schema("labctl.worlds"),
            "mask": device,
            "scene": device,
            "camera": device,
            "instruments": {"type": "object", "additionalProperties": device},
        },
    )


def _file_schema(model: Any, title: str, parts: dict[str, Schema]) -> Schema:
    """The schema of `model` with its plug-in parts filled in; a file that extends another may leave out anything."""
    whole: Schema = model.model_json_schema()
    described = {name: part.get("description") for name, part in whole["properties"].items()}
    for name, part in parts.items():
        if described.get(name):
            part["description"] = described[name]
    properties = {"extends": EXTENDS, **whole["properties"], **parts}
    schema = compose(title, properties, defs=whole.get("$defs"), description=(model.__doc__ or "").strip())
    schema["anyOf"] = [{"required": ["extends"]}, {"required": whole["required"]}]
    return schema
