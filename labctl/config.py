"""Settings from files: `extends:`, `--set`, and validation that says every mistake with its place.

Three rules decide what a file that extends another one changes:

- Mappings merge key by key, and the extending file wins. New keys come after those of the base, so new steps run last.
- Everything else replaces: a list, a scalar, and a mapping that names another `type`, whose old settings mean nothing.
- `key: null` over a mapping of the base takes the key away (a step, a device). Over anything else it is the value null.

`--set a.b=c` assigns: the value replaces what stands at `a.b`, and null takes a mapping away there too. Missing parents
are made, so that a setting which only has a default can be set; a mistyped one is refused by the model as unknown key.
"""

from __future__ import annotations

import hashlib
import json
import re
from collections.abc import Sequence
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any, TypeVar

from pydantic import BaseModel, ValidationError

from labctl import plugins
from labctl.errors import BadInput
from labctl.suggest import did_you_mean, fields_of, is_model, loose_scalars, one_of, shown, spot_of, stands, wording
from labctl.yaml_source import (
    KeyPath,
    Located,
    Place,
    Problem,
    YamlError,
    dotted,
    dump_yaml,
    load_yaml,
    loads,
    plain,
)

__all__ = [
    "ConfigError",
    "Override",
    "Problem",
    "canonical_json",
    "content_hash",
    "dump_yaml",
    "load_config",
    "merge",
    "parse_override",
    "validate_model",
    "validate_typed",
]

Model = TypeVar("Model", bound=BaseModel)


class ConfigError(BadInput):
    """All that is wrong with a configuration, one line for each problem."""

    def __init__(self, problems: Sequence[Problem]) -> None:
        super().__init__(tuple(problems))
        self.problems = list(problems)

    def __str__(self) -> str:
        return "\n".join(str(problem) for problem in self.problems)


class Checked:
    """A file of which several parts are validated: what is wrong with any is gathered, so that all is told at once."""

    def __init__(self, located: Located) -> None:
        self.located = located
        self.problems: list[Problem] = []

    def model(self, model_class: type[Model]) -> Model | None:
        """The whole file as `model_class`; None when it is wrong."""
        try:
            return validate_model(model_class, self.located)
        except ConfigError as error:
            self.problems.extend(error.problems)
            return None

    def typed(self, group: str, *at: str) -> Any:
        """The mapping at `at` as the plug-in of `group` that its `type` names; None when it is wrong."""
        try:
            return validate_typed(group, self.located, at)
        except ConfigError as error:
            self.problems.extend(error.problems)
            return None


@dataclass(frozen=True)
class Override:
    """One `--set a.b=c`: the path, the value, and the text as it was given."""

    path: tuple[str, ...]
    value: Any
    text: str

    @property
    def place(self) -> Place:
        """`--set a.b=c`, which is where this value stands."""
        return Place(f"--set {self.text}")


def load_config(path: Path | str, *, overrides: Sequence[str] = (), prefix: str = "") -> Located:
    """Read a file, what it extends, and the overrides, into one mapping; every value keeps the place it came from.

    `extends:` names a file, or a list of files of which the later ones win, relative to the file it stands in.
    prefix: first key that every override carries before the keys of this file; messages keep it, as the user wrote it.
    Raises BadInput for a file that cannot be read or extends itself, and for an override that cannot be placed.
    """
    located = _load_extended(Path(path), ())
    for text in overrides:
        override = parse_override(text)
        if prefix and (override.path[0] != prefix or len(override.path) == 1):
            raise BadInput(f"{override.place}: a key after `{prefix}.` is needed")
        located = _assign(located, replace(override, path=override.path[1:]) if prefix else override)
    return located


def parse_override(text: str) -> Override:
    """Read `a.b=c`. The value is a YAML scalar, a `[list]` or a `{mapping}`; a step is addressed by its name.

    Raises BadInput when a key is empty, when there is no value, or when the value is not YAML.
    """
    keys, equals, value = text.partition("=")
    path = tuple(key.strip() for key in keys.split("."))
    if not equals or not all(path):
        raise BadInput(f"--set {text}: a path and a value are needed; write it like steps.train.epochs=3")
    value = value.strip()
    if not value:
        raise BadInput(f"--set {text}: there is no value; write null for nothing, '' for empty text")
    if value[0] not in "\"'[{|>" and re.search(r"(^|\s)#", value):
        raise BadInput(f"--set {text}: what follows # would be lost as a comment; put the value in quotes")
    try:
        located = loads(value, "value")
    except YamlError as error:
        raise BadInput(f"--set {text}: {error.what}; put text in quotes") from error
    if isinstance(located.data, (dict, list)) and value[0] not in "[{":
        action = "put text in quotes, or write [list] or {mapping}"
        raise BadInput(f"--set {text}: the value reads as {shown(located.data)}; {action}")
    return Override(path, located.data, text)


def merge(base: Located, child: Located) -> Located:
    """`child` over `base`, by the rules at the top of this file. A merged mapping keeps the place it has in `base`."""
    return _Merge(base, child).result()


def validate_model(model_class: type[Model], located: Located, at: KeyPath = ()) -> Model:
    """The settings at `at` as `model_class`. Raises ConfigError with all problems, in the order of the file.

    Scalars keep the type that they have in the file: "3" and true are no numbers, `on` is not true.
    """
    return _validate(model_class, located, at, _data_at(located, at))


def validate_typed(group: str, located: Located, at: KeyPath) -> Any:
    """The settings at `at` as the model that their `type:` names among the plug-ins of the entry-point group `group`.

    Raises ConfigError when `type` is missing or unknown, when the plug-in cannot be imported, and for its settings.
    """
    data = _data_at(located, at)
    known = plugins.names(group)
    if not isinstance(data, dict):
        raise ConfigError([located.problem(at, f"{stands(data)}; a mapping with a `type` is needed")])
    where = (*at, "type")
    if "type" not in data:
        beside = [str(key) for key in _data_at(located, at[:-1]) if key != at[-1]]
        near = did_you_mean(str(at[-1]), beside)
        guess = f"; or did you mean `{dotted((*at[:-1], near))}`?" if near else ""
        text = f"is missing; allowed: {', '.join(known) or 'none'}{guess}"
        raise ConfigError([Problem(located.place(at), where, text)])
    name = data["type"]
    if not isinstance(name, str):
        problem = f"{stands(name)}; allowed: {', '.join(known) or 'none'}"
        raise ConfigError([located.problem(where, problem)])
    if name not in known:
        raise ConfigError([located.problem(where, f"'{name}' is unknown; {one_of(name, known)}")])
    try:
        model_class = plugins.load(group, name)
    except BadInput as error:
        raise ConfigError([located.problem(where, str(error))]) from error
    if not is_model(model_class):
        text = f"the plug-in '{name}' of {group} is no settings model; mend the plug-in"
        raise ConfigError([located.problem(where, text)])
    if "type" not in fields_of(model_class):  # `type` chooses the plug-in; a plug-in need not repeat it
        data = {key: value for key, value in data.items() if key != "type"}
    return _validate(model_class, located, at, data)


def canonical_json(data: Any) -> bytes:
    """UTF-8 JSON with sorted keys and no spaces: equal data give equal bytes. 1 and 1.0 differ, as they do in a file.

    Raises BadInput for what is not plain data, for NaN and infinities.
    """
    try:
        text = json.dumps(plain(data), sort_keys=True, separators=(",", ":"), ensure_ascii=False, allow_nan=False)
    except ValueError as error:
        raise BadInput("data with NaN or an infinity has no canonical form; give finite numbers or null") from error
    return text.encode("utf-8")


def content_hash(data: Any) -> str:
    """SHA-256 of `canonical_json(data)`, as 64 hex digits."""
    return hashlib.sha256(canonical_json(data)).hexdigest()


# --- files that extend files, and overrides ------------------------------------------------------------------------


def _load_extended(path: Path, chain: tuple[Path, ...]) -> Located:
    located = load_yaml(path)
    if not isinstance(located.data, dict):
        what = "the file is empty" if located.data is None else stands(located.data)
        raise ConfigError([located.problem((), f"{what}; a mapping of settings is needed")])
    if "extends" not in located.data:
        return located
    chain = (*chain, path)
    base: Located | None = None
    for at, name in _parents(located):
        parent = path.parent / name
        if parent.resolve() in [file.resolve() for file in chain]:
            circle = " → ".join(str(file) for file in (*chain, parent))
            raise ConfigError([located.problem(at, f"the files extend each other in a circle: {circle}; break it")])
        if not parent.is_file():
            raise ConfigError([located.problem(at, f"cannot read {parent}: there is no such file; mend the path")])
        loaded = _load_extended(parent, chain)
        base = loaded if base is None else merge(base, loaded)
    own = Located({k: v for k, v in located.data.items() if k != "extends"}, located.places, located.key_places)
    if base is None:
        return own
    merged = merge(base, own)  # what is missing at the top belongs into the extending file, which is the user's
    return Located(merged.data, {**merged.places, (): own.place(())}, merged.key_places)


def _parents(located: Located) -> list[tuple[KeyPath, str]]:
    names = located.data["extends"]
    listed: list[tuple[KeyPath, Any]] = [(("extends",), names)]
    if isinstance(names, list):
        listed = [(("extends", index), name) for index, name in enumerate(names)]
    for at, name in listed:
        if not isinstance(name, str) or not name:
            raise ConfigError([located.problem(at, f"{stands(name)}; a file name, or a list of them, is needed")])
    return listed


def _assign(located: Located, override: Override) -> Located:
    for length in range(1, len(override.path)):
        around = override.path[:length]
        try:
            value = located.at(around)
        except KeyError:
            break
        if isinstance(value, list):
            action = f"replace the list as a whole: --set '{dotted(around)}=[...]'"
            raise BadInput(f"{override.place}: {dotted(around)} is a list (at {located.place(around)}); {action}")
        if value is not None and not isinstance(value, dict):
            raise BadInput(
                f"{override.place}: nothing can be set inside {dotted(around)}, where {stands(value)} "
                f"(at {located.place(around)}); shorten the path"
            )
    data: Any = override.value
    for key in reversed(override.path):
        data = {key: data}
    places: dict[KeyPath, Place] = {}
    keys: dict[KeyPath, Place] = {}
    _give_place(data, (), override.place, places, keys)
    return _Merge(located, Located(data, places, keys), assigned=override.path).result()


def _give_place(
    data: Any, path: KeyPath, place: Place, places: dict[KeyPath, Place], keys: dict[KeyPath, Place]
) -> None:
    places[path] = place
    items: Any = data.items() if isinstance(data, dict) else enumerate(data) if isinstance(data, list) else ()
    for key, item in items:
        if isinstance(key, str):
            keys[(*path, key)] = place
        _give_place(item, (*path, key), place, places, keys)


class _Merge:
    """One merge under way: collects the places while it walks both sides."""

    def __init__(self, base: Located, child: Located, assigned: KeyPath | None = None) -> None:
        self._base = base
        self._child = child
        self._assigned = assigned
        self._places: dict[KeyPath, Place] = {}
        self._keys: dict[KeyPath, Place] = {}

    def result(self) -> Located:
        return Located(self._merged(self._base.data, self._child.data, ()), self._places, self._keys)

    def _merged(self, old: Any, new: Any, path: KeyPath) -> Any:
        if not isinstance(old, dict) or not isinstance(new, dict) or path == self._assigned or _retyped(old, new):
            return self._taken(self._child, new, path)
        self._note(self._base, path)
        result = {}
        for key in [*old, *(key for key in new if key not in old)]:
            below = (*path, key)
            if key not in new:
                result[key] = self._taken(self._base, old[key], below)
            elif key not in old:
                result[key] = self._taken(self._child, new[key], below)
            elif not (new[key] is None and isinstance(old[key], dict)):
                result[key] = self._merged(old[key], new[key], below)
        return result

    def _taken(self, source: Located, value: Any, path: KeyPath) -> Any:
        self._note(source, path)
        if isinstance(value, dict):
            return {key: self._taken(source, item, (*path, key)) for key, item in value.items()}
        if isinstance(value, list):
            return [self._taken(source, item, (*path, index)) for index, item in enumerate(value)]
        return value

    def _note(self, source: Located, path: KeyPath) -> None:
        self._places[path] = source.place(path)
        if path and isinstance(path[-1], str):
            self._keys[path] = source.key_place(path)


def _retyped(old: dict[str, Any], new: dict[str, Any]) -> bool:
    return "type" in old and "type" in new and old["type"] != new["type"]


# --- validation ----------------------------------------------------------------------------------------------------


def _data_at(located: Located, at: KeyPath) -> Any:
    try:
        return located.at(at)
    except KeyError as error:
        raise ConfigError([Problem(located.place(at), at, "is missing; add it")]) from error


def _validate(model_class: type[Model], located: Located, at: KeyPath, data: Any) -> Model:
    loose = dict(loose_scalars(model_class, data))
    found: dict[KeyPath, Problem] = {(*at, *path): located.problem((*at, *path), text) for path, text in loose.items()}
    model: Model | None = None
    try:
        model = model_class.model_validate(data)
    except ValidationError as error:
        for problem in _problems(model_class, located, at, data, error):
            earlier = found.get(problem.path)
            if earlier is None:
                found[problem.path] = problem
            elif problem.path[len(at) :] not in loose and problem.message not in earlier.message:
                found[problem.path] = Problem(earlier.place, earlier.path, f"{earlier.message}; or: {problem.message}")
    except BadInput as error:  # raised by a validator of the model
        found.setdefault(at, located.problem(at, str(error)))
    if found or model is None:
        raise ConfigError(sorted(found.values(), key=lambda p: (p.place.file, p.place.line, p.place.column)))
    return model


def _problems(
    model_class: type[BaseModel], located: Located, at: KeyPath, data: Any, error: ValidationError
) -> list[Problem]:
    problems = []
    details = error.errors(include_url=False)
    for detail in details:
        loc = detail["loc"]
        if detail["type"] == "too_short" and any(
            other["loc"][: len(loc)] == loc and len(other["loc"]) > len(loc) for other in details
        ):
            continue  # pydantic counts good items only; the bad ones are said already
        spot = spot_of(model_class, detail, data)
        path = (*at, *spot.path)
        place = located.key_place(path) if spot.is_key else located.place(path)
        problems.append(Problem(place, path, wording(detail, spot)))
    return problems
