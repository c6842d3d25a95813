"""`${steps.NAME.OUTPUT}`: how a step says that it takes what an earlier step made.

A settings field takes a reference when its type is `Annotated[Reference, OutputKind("mask")]` (`Ref("mask")` for short,
where no type checker reads it). A field of bare `Reference` takes outputs of every kind.
"""

from __future__ import annotations

import re
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from typing import Annotated, Any, get_args, get_origin

from pydantic import BaseModel, GetCoreSchemaHandler, GetJsonSchemaHandler
from pydantic.json_schema import JsonSchemaValue
from pydantic_core import CoreSchema, core_schema

from labctl.suggest import did_you_mean, shown
from labctl.yaml_source import KeyPath, Located, Problem

PATTERN = r"^\$\{steps\.([A-Za-z0-9][A-Za-z0-9_-]{0,63})\.([A-Za-z0-9][A-Za-z0-9_-]{0,63})\}$"
"""What a reference looks like: the name of a step, the name of one of its outputs."""

ANY_KIND = "any"
"""Kind of a field that takes every output."""

_FORM = re.compile(PATTERN.removeprefix("^").removesuffix("$"))


@dataclass(frozen=True, order=True)
class Reference:
    """An output of an earlier step. Settings hold it as this object, files as `${steps.NAME.OUTPUT}`."""

    step: str
    output: str

    @classmethod
    def parse(cls, text: str) -> Reference:
        """The reference that `text` says. Raises ValueError for text of another form."""
        match = _FORM.fullmatch(text)
        if match is None:
            raise ValueError(f"'{text}' is no reference; write ${{steps.NAME.OUTPUT}}")
        return cls(match[1], match[2])

    def __str__(self) -> str:
        return f"${{steps.{self.step}.{self.output}}}"

    @classmethod
    def __get_pydantic_core_schema__(cls, source: Any, handler: GetCoreSchemaHandler) -> CoreSchema:
        as_text = core_schema.plain_serializer_function_ser_schema(str, return_schema=core_schema.str_schema())
        return core_schema.no_info_plain_validator_function(_validate, serialization=as_text)

    @classmethod
    def __get_pydantic_json_schema__(cls, schema: CoreSchema, handler: GetJsonSchemaHandler) -> JsonSchemaValue:
        return {"type": "string", "pattern": PATTERN}


@dataclass(frozen=True)
class OutputKind:
    """Marks a `Reference` field with the kind of output it takes, as steps declare it in `outputs`."""

    kind: str


def Ref(kind: str) -> Any:
    """The field type `Annotated[Reference, OutputKind(kind)]`."""
    return Annotated[Reference, OutputKind(kind)]


def references_of(model: BaseModel) -> dict[KeyPath, tuple[Reference, OutputKind]]:
    """All references in `model`, also inside nested models, lists and mappings, by field path, with the kind taken."""
    return dict(_walk(model, (), OutputKind(ANY_KIND), None))


def check_references(
    steps: Mapping[str, tuple[BaseModel | None, Mapping[str, str]]], located: Located, prefix: KeyPath
) -> list[Problem]:
    """Problems with the references between `steps`, in their order; empty when all fit.

    steps: name → (settings, output name → kind), in the order in which they run.
    located: the file, in which the settings of a step stand at (*prefix, name).
    A reference must name an earlier step and an output of the right kind. Any other `${...}` in the settings is a
    problem too: nothing would ever fill it in.
    """
    problems: list[Problem] = []
    names = list(steps)
    for index, (name, (model, _)) in enumerate(steps.items()):
        at = (*prefix, name)
        found = references_of(model) if model is not None else {}
        for path, (reference, kind) in found.items():
            message = _wrong(reference, kind, name, steps, names[:index])
            if message is not None:
                problems.append(located.problem((*at, *path), message))
        try:
            written = located.at(at)
        except KeyError:
            continue
        for path, text in _placeholders(written, ()):
            if path not in found:
                problems.append(located.problem((*at, *path), _stray(text)))
    return problems


def _validate(value: Any) -> Reference:
    if isinstance(value, Reference):
        return value
    if not isinstance(value, str):
        raise ValueError("a reference to an earlier step is needed; write ${steps.NAME.OUTPUT}")
    return Reference.parse(value)


def _wrong(
    reference: Reference,
    kind: OutputKind,
    name: str,
    steps: Mapping[str, tuple[BaseModel | None, Mapping[str, str]]],
    earlier: Sequence[str],
) -> str | None:
    before = f"the steps before '{name}' are {', '.join(earlier)}" if earlier else f"no step comes before '{name}'"
    if reference.step == name:
        return f"{reference} refers to the step itself; {before}"
    if reference.step not in steps:
        return f"{reference}: there is no step '{reference.step}'; {_guess(reference.step, earlier)}{before}"
    if reference.step not in earlier:
        return f"{reference}: the step '{reference.step}' runs after '{name}'; move it up; {before}"
    outputs = steps[reference.step][1]
    if reference.output not in outputs:
        has = ", ".join(f"{output} ({made})" for output, made in outputs.items()) or "none"
        missing = f"the step '{reference.step}' has no output '{reference.output}'"
        return f"{reference}: {missing}; {_guess(reference.output, list(outputs))}its outputs are {has}"
    made = outputs[reference.output]
    if kind.kind in (made, ANY_KIND):
        return None
    fitting = [str(Reference(step, out)) for step in earlier for out, is_ in steps[step][1].items() if is_ == kind.kind]
    available = f"of that kind are {', '.join(fitting)}" if fitting else "no earlier step makes one"
    return f"{reference} is of the kind '{made}', '{kind.kind}' is needed here; {available}"


def _guess(word: str, allowed: Sequence[str]) -> str:
    near = did_you_mean(word, allowed)
    return f"did you mean `{near}`? " if near else ""


def _stray(text: str) -> str:
    if _FORM.fullmatch(text):
        return f"{text} stands where no reference is taken; give the value itself"
    return f"{shown(text)} is not filled in; only a whole ${{steps.NAME.OUTPUT}} is, where a setting takes a reference"


def _placeholders(value: Any, path: KeyPath) -> Iterator[tuple[KeyPath, str]]:
    if isinstance(value, str) and "${" in value:
        yield path, value
    items: Any = value.items() if isinstance(value, dict) else enumerate(value) if isinstance(value, list) else ()
    for key, item in items:
        yield from _placeholders(item, (*path, key))


def _walk(
    value: Any, path: KeyPath, kind: OutputKind, annotation: Any
) -> Iterator[tuple[KeyPath, tuple[Reference, OutputKind]]]:
    if isinstance(value, Reference):
        yield path, (value, kind if kind.kind != ANY_KIND else _kind_in(annotation))
    elif isinstance(value, BaseModel):
        for name, field in type(value).model_fields.items():
            own = next((mark for mark in field.metadata if isinstance(mark, OutputKind)), OutputKind(ANY_KIND))
            yield from _walk(getattr(value, name), (*path, field.alias or name), own, field.annotation)
    elif isinstance(value, Mapping):
        for key, item in value.items():
            yield from _walk(item, (*path, key), kind, annotation)
    elif isinstance(value, (list, tuple)):
        for index, item in enumerate(value):
            yield from _walk(item, (*path, index), kind, annotation)


def _kind_in(annotation: Any) -> OutputKind:
    """The kind that a field type marks anywhere inside it: one field takes one kind."""
    if get_origin(annotation) is Annotated:
        kind = next((mark for mark in get_args(annotation)[1:] if isinstance(mark, OutputKind)), None)
        if kind is not None:
            return kind
    kinds = (_kind_in(part) for part in get_args(annotation))
    return next((kind for kind in kinds if kind.kind != ANY_KIND), OutputKind(ANY_KIND))
