"""What to say about a wrong setting: what stands there, what is allowed there, and what was probably meant.

Pydantic says where in the model a value is wrong; here that becomes where in the file, in the words of the file.
"""

from __future__ import annotations

import difflib
import re
import types
from collections.abc import Iterable, Iterator, Mapping, Sequence
from collections.abc import Set as AbstractSet
from dataclasses import dataclass
from typing import Annotated, Any, Literal, TypeGuard, Union, get_args, get_origin

from pydantic import BaseModel
from pydantic.fields import FieldInfo
from pydantic_core import ErrorDetails

from labctl.yaml_source import KeyPath, holds

UNITS: Mapping[str, str] = {
    "m": "metres",
    "s": "seconds",
    "hz": "hertz",
    "px": "pixels",
    "deg": "degrees",
    "rad": "radians",
    "dn": "DN",
    "e": "electrons",
    "db": "dB",
    "bytes": "bytes",
    "bits": "bits",
    "cells": "mask cells",
    "v": "volts",
    "w": "watts",
}
"""Units that the last part of a key can carry."""


NAME_PATTERN = r"^[A-Za-z0-9][A-Za-z0-9_-]{0,63}$"
"""What protocols, rigs, designs, steps and instruments can be called."""


def unit_of(key: str) -> str | None:
    """`seconds` for `exposure_s`; None for a key without a unit, or with a compound one (`dark_e_per_s`)."""
    parts = key.split("_")
    if len(parts) < 2 or "per" in parts:
        return None
    return UNITS.get(parts[-1])


def did_you_mean(word: str, allowed: Iterable[str]) -> str | None:
    """The allowed word that `word` was probably meant to be, or None."""
    lower = {name.lower(): name for name in allowed}
    near = difflib.get_close_matches(word.lower(), lower, n=1, cutoff=0.6)
    return lower[near[0]] if near else None


def one_of(word: str, allowed: Sequence[str]) -> str:
    """`did you mean `train`? allowed: display, train`."""
    near = did_you_mean(word, allowed)
    return (f"did you mean `{near}`? " if near else "") + f"allowed: {', '.join(allowed) or 'none'}"


def shown(value: Any) -> str:
    """`value` as the file shows it, cut to one short line; collections by their kind."""
    if isinstance(value, bool) or value is None:
        return {True: "true", False: "false", None: "null"}[value]
    if isinstance(value, (dict, list)):
        return "a mapping" if isinstance(value, dict) else "a list"
    text = repr(value)
    return text if len(text) <= 60 else f"{text[:57]}..."


def stands(value: Any) -> str:
    """What stands in the file, as half a sentence: `'10 ms' is text`."""
    if isinstance(value, bool):
        return f"{str(value).lower()} is a truth value"
    if value is None or isinstance(value, (dict, list)):
        return f"{shown(value)} stands here"
    return f"{shown(value)} is {'text' if isinstance(value, str) else 'a number'}"


def loose_scalars(annotation: Any, value: Any, path: KeyPath = ()) -> Iterator[tuple[KeyPath, str]]:
    """Scalars that pydantic would turn into another type without a word: "3" or true for a number, `on` for true.

    Yields the path and what is wrong. In a file the type of a scalar is visible, so a wrong one is a mistake.
    """
    annotation = _bare(annotation)
    members = _members(annotation)
    if members:
        problems = [list(loose_scalars(member, value, path)) for member in members if _could_be(member, value)]
        if problems and all(problems):
            yield problems[0][0]
    elif annotation in (int, float, bool):
        is_truth = isinstance(value, bool)
        if isinstance(value, str) or (isinstance(value, (int, float)) and is_truth is not (annotation is bool)):
            yield path, needed(annotation, value, path)
    elif is_model(annotation) and isinstance(value, dict):
        for name, field in fields_of(annotation).items():
            if name in value:
                yield from loose_scalars(field.annotation, value[name], (*path, name))
    elif isinstance(value, dict):
        for key, item in value.items():
            yield from loose_scalars(_inside(annotation, key), item, (*path, key))
    elif isinstance(value, list):
        for index, item in enumerate(value):
            yield from loose_scalars(_inside(annotation, index), item, (*path, index))


def needed(kind: Any, value: Any, path: KeyPath) -> str:
    """What is wrong with a `value` where an int, float or bool is needed."""
    if kind is bool:
        return f"{stands(value)}; true or false is needed"
    key = next((step for step in reversed(path) if isinstance(step, str)), "")
    unit, number = unit_of(key), "whole number" if kind is int else "number"
    if unit is None:
        return f"{stands(value)}; a {number} is needed"
    return f"{stands(value)}; a plain {number} is needed, in {unit} as `_{key.split('_')[-1]}` says"


@dataclass(frozen=True)
class Spot:
    """Where an error of pydantic stands in the file, and which model and field say what is allowed there."""

    path: KeyPath
    model: type[BaseModel] | None = None
    field: FieldInfo | None = None
    is_key: bool = False
    tags: tuple[str, ...] = ()
    """The values of `type` that are allowed, where a tagged union is."""


def spot_of(model: type[BaseModel], error: ErrorDetails, data: Any) -> Spot:
    """Follow the location of `error` through the types of `model`, leaving out the names of union members in it."""
    here: Any = model
    owner: type[BaseModel] | None = None
    field: FieldInfo | None = None
    path: KeyPath = ()
    for step in error["loc"]:
        here = _bare(here)
        if step == "[key]":
            return Spot(path, owner, field, is_key=True)
        if members := _members(here):
            here = next((member for member in members if _is_called(member, step)), None)
            continue
        if here is None and error["type"] not in ("missing", "extra_forbidden") and not holds(data, step):
            continue
        owner, field = (here, fields_of(here).get(str(step))) if is_model(here) else (None, None)
        here = field.annotation if field is not None else _inside(here, step)
        data = data[step] if holds(data, step) else None
        path = (*path, step)
    if error["type"] in ("union_tag_invalid", "union_tag_not_found"):
        tag = str(error["ctx"]["discriminator"]).strip("'")
        return Spot((*path, tag), tags=tuple(_tags(_bare(here), tag)))
    return Spot(path, owner, field, is_key=error["type"] == "extra_forbidden")


def wording(error: ErrorDetails, spot: Spot) -> str:
    """What is wrong and what is allowed, in one line."""
    kind, value, limits = error["type"], error["input"], error.get("ctx", {})
    if kind == "missing":
        purpose = " ".join((spot.field.description or "").split("\n\n")[0].split()) if spot.field is not None else ""
        return f"is missing; {purpose}" if purpose else "is missing; add it"
    if kind == "extra_forbidden":
        allowed = list(fields_of(spot.model)) if spot.model is not None else None
        word = str(spot.path[-1])
        return "unknown key" + (f"; {one_of(word, allowed)}" if allowed is not None else "; remove it")
    if kind in _NUMBERS:
        return needed(_NUMBERS[kind], value, spot.path)
    if kind == "int_from_float":
        return f"{shown(value)} is not whole; a whole number is needed"
    if kind == "finite_number":
        return f"{shown(value)} is not allowed; a finite number is needed"
    if kind in _BOUNDS:
        phrase, name = _BOUNDS[kind]
        key = next((step for step in reversed(spot.path) if isinstance(step, str)), "")
        limit = " ".join(filter(None, (_number(limits[name]), unit_of(key))))
        return f"{shown(value)} is out of range; {phrase} {limit} is allowed"
    if kind == "multiple_of":
        return f"{shown(value)} is not a multiple of {limits['multiple_of']}"
    if kind in _LENGTHS:
        what, phrase, name = _LENGTHS[kind]
        length = limits["actual_length"] if limits.get("actual_length") is not None else len(value)
        return f"has {length} {what}{'' if length == 1 else 's'}; {phrase} {limits[name]} allowed"
    if kind in _SHAPES:
        return f"{stands(value)}; {_SHAPES[kind]} is needed"
    if kind in ("literal_error", "enum"):
        return _choice(value, str(limits["expected"]))
    if kind == "union_tag_invalid":
        return _choice(limits["tag"], str(limits["expected_tags"]))
    if kind == "union_tag_not_found":
        return f"is missing; allowed: {', '.join(spot.tags)}" if spot.tags else "is missing; add it"
    if kind == "string_pattern_mismatch":
        if limits["pattern"] == NAME_PATTERN:
            return f"{shown(value)} is no name; use up to 64 letters, digits, _ and -, a letter or a digit first"
        return f"{shown(value)} does not fit the pattern {limits['pattern']}"
    if kind in ("value_error", "assertion_error"):
        return str(limits.get("error") or error["msg"])
    return f"{shown(value)} is refused: {error['msg']}"


def is_model(annotation: Any) -> TypeGuard[type[BaseModel]]:
    """Whether `annotation` is a settings model."""
    return isinstance(annotation, type) and not get_args(annotation) and issubclass(annotation, BaseModel)


def fields_of(model: type[BaseModel]) -> dict[str, FieldInfo]:
    """Fields of `model` under the names that a file uses."""
    return {field.alias or name: field for name, field in model.model_fields.items()}


_NUMBERS = {
    "int_type": int,
    "int_parsing": int,
    "float_type": float,
    "float_parsing": float,
    "bool_type": bool,
    "bool_parsing": bool,
}
_BOUNDS = {
    "greater_than": ("more than", "gt"),
    "greater_than_equal": ("at least", "ge"),
    "less_than": ("less than", "lt"),
    "less_than_equal": ("at most", "le"),
}
_LENGTHS = {
    "too_short": ("item", "at least", "min_length"),
    "too_long": ("item", "at most", "max_length"),
    "string_too_short": ("character", "at least", "min_length"),
    "string_too_long": ("character", "at most", "max_length"),
}
_SHAPES = {
    "string_type": "text (in quotes where it looks like something else)",
    "path_type": "a path",
    "list_type": "a list",
    "tuple_type": "a list",
    "set_type": "a list",
    "frozen_set_type": "a list",
    "dict_type": "a mapping",
    "mapping_type": "a mapping",
    "model_type": "a mapping",
    "model_attributes_type": "a mapping",
}


def _number(limit: Any) -> str:
    return f"{limit:.12g}" if isinstance(limit, float) else str(limit)


def _choice(value: Any, expected: str) -> str:
    allowed = re.findall(r"'((?:[^'\\]|\\.)*)'", expected)
    if not allowed and isinstance(value, (int, float, str)):
        return f"{shown(value)} is not allowed; allowed: {expected}"
    if not allowed or not isinstance(value, str):
        return f"{stands(value)}; allowed: {expected}"
    return f"'{value}' is not allowed; {one_of(value, allowed)}"


def _bare(annotation: Any) -> Any:
    """`annotation` without Annotated, named aliases, and a sole alternative of None."""
    while True:
        if get_origin(annotation) is Annotated:
            annotation = get_args(annotation)[0]
        elif hasattr(annotation, "__value__"):
            annotation = annotation.__value__
        elif _is_union(annotation) and len(_without_none(annotation)) == 1:
            annotation = _without_none(annotation)[0]
        else:
            return annotation


def _is_union(annotation: Any) -> bool:
    return get_origin(annotation) in (Union, types.UnionType)


def _without_none(annotation: Any) -> list[Any]:
    return [member for member in get_args(annotation) if member is not type(None)]


def _members(annotation: Any) -> list[Any]:
    return _without_none(annotation) if _is_union(annotation) else []


def _is_called(member: Any, label: str | int) -> bool:
    """Whether pydantic means `member` of a union by `label`: the name of the model, or its tag."""
    member = _bare(member)
    if not is_model(member):
        return False
    tags = [_bare(field.annotation) for field in member.model_fields.values()]
    return member.__name__ == label or any(get_origin(tag) is Literal and label in get_args(tag) for tag in tags)


def _tags(annotation: Any, name: str) -> Iterator[str]:
    for member in map(_bare, _members(annotation)):
        if is_model(member) and name in member.model_fields:
            yield from map(str, get_args(_bare(member.model_fields[name].annotation)))


def _could_be(member: Any, value: Any) -> bool:
    """Whether `value` can be meant for `member` of a union: decided by the tag, where there is one."""
    bare = _bare(member)
    if not is_model(bare) or not isinstance(value, dict) or not isinstance(value.get("type"), str):
        return True
    return "type" not in bare.model_fields or _is_called(bare, value["type"])


def _inside(annotation: Any, step: str | int) -> Any:
    """Type of the item at `step` of a list or mapping type; None when it cannot be told."""
    origin, arguments = get_origin(annotation), get_args(annotation)
    if not isinstance(origin, type) or not arguments:
        return None
    if issubclass(origin, Mapping):
        return arguments[-1]
    if origin is tuple and arguments[-1] is not Ellipsis:
        return arguments[step] if isinstance(step, int) and step < len(arguments) else None
    return arguments[0] if issubclass(origin, (Sequence, AbstractSet)) else None
