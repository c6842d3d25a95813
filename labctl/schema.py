"""JSON Schema of the file formats, for editors: one schema per entry-point group, and how to put schemas together."""

from __future__ import annotations

import copy
from collections.abc import Callable, Mapping, Sequence
from typing import Any
from urllib.parse import quote, unquote

from pydantic.json_schema import models_json_schema

from labctl import plugins
from labctl.errors import BadInput
from labctl.suggest import is_model

Schema = dict[str, Any]

DIALECT = "https://json-schema.org/draft/2020-12/schema"

EXTENDS: Schema = {
    "description": "Files whose settings this file starts from, relative to this file; later ones win.",
    "oneOf": [{"type": "string", "minLength": 1}, {"type": "array", "items": {"type": "string", "minLength": 1}}],
}
"""Schema of the key `extends`, which `load_config` reads in every file."""


def typed_union_schema(group: str) -> Schema:
    """Any plug-in of `group`: a `oneOf` in which `type` tells which, with all definitions under `$defs`.

    Raises BadInput when a plug-in cannot be imported or is no settings model.
    """
    names = plugins.names(group)
    models = {name: plugins.load(group, name) for name in names}
    for name, model in models.items():
        if not is_model(model):
            raise BadInput(f"the plug-in '{name}' of {group} is no settings model and has no schema; mend the plug-in")
    if not models:
        return {"not": {}, "$defs": {}}
    # One call for all: pydantic then gives models of the same name different definitions.
    unique = list(dict.fromkeys(models.values()))
    found, whole = models_json_schema([(model, "validation") for model in unique])
    shared: Schema = whole.get("$defs", {})
    defs: Schema = {}
    choices = []
    for name, model in models.items():
        schema = _target(found[(model, "validation")], shared)
        schema["properties"] = {"type": {"const": name}, **schema.get("properties", {})}
        schema["properties"]["type"] = {"const": name, "description": f"`{name}` of {group}"}
        schema["required"] = ["type", *(key for key in schema.get("required", []) if key != "type")]
        key = f"{group}:{name}"
        defs[key] = schema
        choices.append({"$ref": _pointer(key)})
    return {"oneOf": choices, "$defs": {**_reached(defs, shared), **defs}}


def compose(
    title: str,
    properties: Mapping[str, Schema],
    *,
    required: Sequence[str] = (),
    defs: Mapping[str, Schema] | None = None,
    description: str = "",
) -> Schema:
    """The schema of a whole file: a mapping with these `properties` and no others.

    `$defs` anywhere inside the properties move to the top. Equal definitions of one name become one; different ones
    are numbered. `defs` are definitions that the properties refer to already. Raises BadInput when `required` names a
    property that is not there, since no file could then be right.
    """
    unknown = [name for name in required if name not in properties]
    if unknown:
        raise BadInput(f"the schema '{title}' requires {', '.join(unknown)} without describing it; add the property")
    top: Schema = copy.deepcopy(dict(defs or {}))
    schema: Schema = {
        "$schema": DIALECT,
        "title": title,
        **({"description": description} if description else {}),
        "type": "object",
        "properties": {name: _hoist(copy.deepcopy(part), top) for name, part in properties.items()},
        "required": list(required),
        "additionalProperties": False,
    }
    return {**schema, "$defs": top}


def _target(reference: Schema, shared: Schema) -> Schema:
    schema = reference
    while set(schema) == {"$ref"}:
        schema = shared[_name_in(schema["$ref"])]
    return copy.deepcopy(schema)


def _pointer(name: str) -> str:
    return "#/$defs/" + quote(name.replace("~", "~0").replace("/", "~1"), safe=":~")


def _name_in(pointer: str) -> str:
    return unquote(pointer.removeprefix("#/$defs/")).replace("~1", "/").replace("~0", "~")


def _reached(start: Schema, shared: Schema) -> Schema:
    """The shared definitions that `start` refers to, directly or through each other."""
    reached: Schema = {}
    waiting: list[Any] = [start]
    while waiting:
        for pointer in _pointers(waiting.pop()):
            name = _name_in(pointer)
            if name in shared and name not in reached:
                reached[name] = shared[name]
                waiting.append(shared[name])
    return reached


def _pointers(schema: Any) -> list[str]:
    if isinstance(schema, list):
        return [pointer for item in schema for pointer in _pointers(item)]
    if not isinstance(schema, dict):
        return []
    own = [schema["$ref"]] if isinstance(schema.get("$ref"), str) else []
    return own + [pointer for item in schema.values() for pointer in _pointers(item)]


def _hoist(schema: Any, top: Schema) -> Any:
    """Move every `$defs` inside `schema` into `top`, and let its references follow."""
    if isinstance(schema, list):
        return [_hoist(item, top) for item in schema]
    if not isinstance(schema, dict):
        return schema
    inner = schema.pop("$defs", None)
    if isinstance(inner, dict):
        renamed: dict[str, str] = {}
        for name, part in inner.items():
            renamed[name] = _free_name(name, part, inner, top, set(renamed.values()))
        follow = _following(renamed)
        for name, part in inner.items():
            top[renamed[name]] = follow(part)
        schema = follow(schema)
    return {key: _hoist(value, top) for key, value in schema.items()}


def _free_name(name: str, part: Any, inner: Schema, top: Schema, taken: set[str]) -> str:
    # Equal text means equal meaning only if what the text refers to is equal too.
    whole = {"part": part, "defs": _reached({"": part}, inner)}
    number, free = 1, name
    while free in taken or (free in top and {"part": top[free], "defs": _reached({"": top[free]}, top)} != whole):
        number += 1
        free = f"{name}__{number}"
    return free


def _following(renamed: Mapping[str, str]) -> Callable[[Any], Any]:
    moved = {_pointer(old): _pointer(new) for old, new in renamed.items()}

    def follow(schema: Any) -> Any:
        if isinstance(schema, list):
            return [follow(item) for item in schema]
        if isinstance(schema, dict):
            result = {key: follow(value) for key, value in schema.items()}
            if isinstance(schema.get("$ref"), str):
                result["$ref"] = moved.get(schema["$ref"], schema["$ref"])
            return result
        return schema

    return follow
