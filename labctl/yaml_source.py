"""YAML in and out: one strict reader that remembers where every value stands, and the writer it can read back.

The reader follows the core schema of YAML 1.2: `1e-3` is a number; `on`, `yes` and `12:30:00` are text. It refuses what
makes a settings file say something else than its reader thinks: duplicate keys, keys that are not text, tags, merge
keys (`<<`: use `extends:`, which keeps the places), several documents in one file. Anchors and aliases are fine.
"""

from __future__ import annotations

import re
from collections.abc import Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import yaml

from labctl.errors import BadInput

KeyPath = tuple[str | int, ...]
"""Keys and list indices from the top of a file to a value; () is the file as a whole."""

MAX_DEPTH = 64
MAX_VALUES = 100_000
"""Limits of one file after its aliases are followed: a few lines of nested aliases can stand for gigabytes."""


@dataclass(frozen=True, slots=True)
class Place:
    """Where something is written. Lines and columns count from 1; line 0 means that `file` alone says it all."""

    file: str
    line: int = 0
    column: int = 0

    def __str__(self) -> str:
        return f"{self.file}:{self.line}:{self.column}" if self.line else self.file


@dataclass(frozen=True)
class Problem:
    """One thing that is wrong with a file: where, at which setting, and what to do about it."""

    place: Place
    path: KeyPath
    message: str

    def __str__(self) -> str:
        return f"{self.place}: {dotted(self.path)}: {self.message}" if self.path else f"{self.place}: {self.message}"


@dataclass(frozen=True)
class Located:
    """Plain data (dict, list, str, int, float, bool, None) and the place of every value and of every key in it."""

    data: Any
    places: Mapping[KeyPath, Place] = field(default_factory=dict)
    key_places: Mapping[KeyPath, Place] = field(default_factory=dict)

    def at(self, path: KeyPath) -> Any:
        """The value at `path`. Raises KeyError when there is none."""
        value = self.data
        for step in path:
            if not holds(value, step):
                raise KeyError(dotted(path))
            value = value[step]
        return value

    def place(self, path: KeyPath) -> Place:
        """Place of the value at `path`, or of the nearest thing around it that stands anywhere."""
        for length in range(len(path), -1, -1):
            if path[:length] in self.places:
                return self.places[path[:length]]
        return Place("given settings")

    def key_place(self, path: KeyPath) -> Place:
        """Place of the key whose value is at `path`."""
        return self.key_places.get(path) or self.place(path)

    def problem(self, path: KeyPath, message: str) -> Problem:
        """`message` about the value at `path`, with its place."""
        return Problem(self.place(path), path, message)


class YamlError(BadInput):
    """A text that is not the YAML we read; `place` says where it goes wrong, `what` says how."""

    def __init__(self, place: Place, what: str) -> None:
        super().__init__(place, what)
        self.place = place
        self.what = what

    def __str__(self) -> str:
        return f"{self.place}: {self.what}"


def holds(data: Any, step: str | int) -> bool:
    """Whether `data` is a mapping with the key, or a list with the index, `step`."""
    if isinstance(data, list):
        return isinstance(step, int) and 0 <= step < len(data)
    return isinstance(data, dict) and step in data


def dotted(path: KeyPath) -> str:
    """`steps.train.sizes[0]` for ("steps", "train", "sizes", 0)."""
    text = "".join(f"[{step}]" if isinstance(step, int) else f".{step}" for step in path)
    return text.removeprefix(".")


def load_yaml(path: Path | str) -> Located:
    """Read a UTF-8 file. Raises BadInput when it cannot be read, YamlError (`file:line:column: what`) otherwise."""
    try:
        raw = Path(path).read_bytes()
    except OSError as error:
        raise BadInput(f"cannot read {path}: {error.strerror or error}; give the path of a YAML file") from error
    try:
        text = raw.decode("utf-8-sig")
    except UnicodeDecodeError as error:
        before = raw[: error.start].decode("utf-8-sig", errors="replace")
        place = _place_after(before, str(path))
        raise YamlError(place, f"the byte 0x{raw[error.start]:02x} is not UTF-8; save the file as UTF-8") from error
    return loads(text, str(path))


def loads(text: str, name: str) -> Located:
    """Read one YAML document; `name` stands for the file in every place. An empty document is None."""
    root = _Composer(text, name).document()
    places: dict[KeyPath, Place] = {}
    key_places: dict[KeyPath, Place] = {}
    return Located(_unfold(root, (), places, key_places), places, key_places)


def resolve_scalar(text: str) -> str | int | float | bool | None:
    """What unquoted `text` means in the core schema of YAML 1.2. Raises ValueError for a number beyond all range."""
    if text in _WORDS:
        return _WORDS[text]
    if _INTEGER.fullmatch(text):
        return int(text)
    if text[:2] in ("0o", "0x") and _BASED.fullmatch(text):
        return int(text[2:], 8 if text[1] == "o" else 16)
    if _FLOAT.fullmatch(text):
        value = float(text)
        if value in (float("inf"), float("-inf")):
            raise ValueError("is larger than any number here; write .inf for infinity")
        return value
    if _INFINITE.fullmatch(text):
        return float("-inf") if text[0] == "-" else float("inf")
    return float("nan") if text in (".nan", ".NaN", ".NAN") else text


def plain(data: Any, path: KeyPath = ()) -> Any:
    """A copy of `data` in dict, list, str, int, float, bool, None alone. Raises BadInput for anything else in it."""
    if data is None or isinstance(data, bool):
        return data
    for kind in (str, int, float):
        if isinstance(data, kind):
            return kind(data) if kind is not str else str.__str__(data)
    if isinstance(data, (list, tuple)):
        return [plain(item, (*path, index)) for index, item in enumerate(data)]
    if isinstance(data, Mapping):
        for key in data:
            if not isinstance(key, str):
                raise BadInput(f"{dotted(path) or 'the data'} has the key {key!r}; only text can be a key in a file")
        return {str.__str__(key): plain(item, (*path, key)) for key, item in data.items()}
    kind_name = type(data).__name__
    raise BadInput(f"{dotted(path) or 'the data'} is a {kind_name}; only text, numbers, lists, mappings fit in a file")


def dump_yaml(data: Any) -> str:
    """YAML that `loads` reads back as `plain(data)`. Keys keep their order, because steps run in it.

    Text that YAML 1.2 or 1.1 would take for something else is quoted, so that other tools read the same. Lists of
    scalars stand on one line.
    """
    text: str = yaml.dump(
        plain(data), Dumper=_Writer, sort_keys=False, allow_unicode=True, width=2**30, default_flow_style=False
    )
    # PyYAML ends a lone scalar with a mark in the first column, where nothing else that it writes has one.
    return text.removesuffix("...\n") if text.endswith("\n...\n") else text


# --- reading -------------------------------------------------------------------------------------------------------

_WORDS: dict[str, bool | None] = {
    **dict.fromkeys(("", "~", "null", "Null", "NULL"), None),
    **dict.fromkeys(("true", "True", "TRUE"), True),
    **dict.fromkeys(("false", "False", "FALSE"), False),
}
_INTEGER = re.compile(r"[-+]?[0-9]+")
_BASED = re.compile(r"0o[0-7]+|0x[0-9a-fA-F]+")
_FLOAT = re.compile(r"[-+]?(\.[0-9]+|[0-9]+(\.[0-9]*)?)([eE][-+]?[0-9]+)?")
_INFINITE = re.compile(r"[-+]?\.(inf|Inf|INF)")
_KINDS = {int: "a whole number", float: "a number", bool: "a truth value", type(None): "null"}


@dataclass(frozen=True, slots=True)
class _Node:
    """A value before its aliases are followed: a scalar, a list of nodes, or key → (place of the key, node)."""

    place: Place
    value: Any


class _Composer:
    """Turns the events of PyYAML into nodes, and refuses what `loads` refuses."""

    def __init__(self, text: str, name: str) -> None:
        self._text = text
        self._name = name
        self._anchors: dict[str, _Node] = {}
        try:
            self._loader = yaml.SafeLoader(text)
        except yaml.reader.ReaderError as error:
            code = ord(error.character) if isinstance(error.character, str) else error.character
            place = _place_after(text[: error.position], name)
            raise YamlError(place, f"the character U+{code:04X} is not allowed in YAML; remove it") from error

    def document(self) -> _Node:
        self._next()  # the start of the stream
        event = self._next()
        if isinstance(event, yaml.StreamEndEvent):
            return _Node(self._place(event), None)
        if event.version not in (None, (1, 2)):
            version = ".".join(map(str, event.version))
            raise YamlError(self._place(event), f"the file says it is YAML {version}; 1.2 is read, take the line away")
        root = self._node(self._next(), 0)
        self._next()  # the end of the document
        event = self._next()
        if not isinstance(event, yaml.StreamEndEvent):
            raise YamlError(self._place(event), "a second document starts here; keep one document in a file")
        return root

    def _next(self) -> Any:
        try:
            return self._loader.get_event()  # type: ignore[no-untyped-call]
        except yaml.MarkedYAMLError as error:
            mark = error.problem_mark or error.context_mark or self._loader.get_mark()
            place = Place(self._name, mark.line + 1, mark.column + 1)
            raise YamlError(place, self._wording(error, mark.line)) from error
        except (ValueError, OverflowError) as error:  # PyYAML computes with escapes and versions it has not checked
            mark = self._loader.get_mark()
            raise YamlError(Place(self._name, mark.line + 1, mark.column + 1), f"not YAML: {error}") from error

    def _wording(self, error: yaml.MarkedYAMLError, line: int) -> str:
        problem = str(error.problem)
        if "'\\t'" in problem:
            return "a tab stands here; indent with spaces"
        text = f"not YAML: {problem}" + (f" ({error.context})" if error.context else "")
        lines = self._text.splitlines()
        if line < len(lines) and "${" in lines[line]:
            text += "; between { } or [ ], put a ${...} reference in quotes"
        return text

    def _place(self, event: Any) -> Place:
        return Place(self._name, event.start_mark.line + 1, event.start_mark.column + 1)

    def _node(self, event: Any, depth: int) -> _Node:
        place = self._place(event)
        if isinstance(event, yaml.AliasEvent):
            if event.anchor not in self._anchors:
                what = f"*{event.anchor} has no anchor before it; write &{event.anchor} at a value above"
                raise YamlError(place, what)
            return _Node(place, self._anchors[event.anchor].value)
        if event.tag is not None:
            raise YamlError(place, f"the tag {event.tag} is not read; take it away, types follow from the setting")
        if depth > MAX_DEPTH:
            raise YamlError(place, f"the nesting is deeper than {MAX_DEPTH}; write it flatter")
        if isinstance(event, yaml.ScalarEvent):
            node = _Node(place, self._scalar(event, place))
        elif isinstance(event, yaml.SequenceStartEvent):
            node = _Node(place, self._items(depth))
        else:
            node = _Node(place, self._entries(depth))
        if event.anchor is not None:
            self._anchors[event.anchor] = node
        return node

    def _scalar(self, event: Any, place: Place) -> Any:
        text: str = event.value
        if event.implicit[0]:
            try:
                return resolve_scalar(text)
            except ValueError as error:
                reason = "has too many digits" if "digits" in str(error) else str(error)
                raise YamlError(place, f"{text if len(text) < 40 else text[:40] + '...'} {reason}") from error
        try:  # JSON writes one character beyond U+FFFF as two escapes
            return text.encode("utf-16", "surrogatepass").decode("utf-16")
        except UnicodeDecodeError as error:
            raise YamlError(place, "the text holds half of a surrogate pair; write the character itself") from error

    def _items(self, depth: int) -> list[_Node]:
        items = []
        while not isinstance(event := self._next(), yaml.SequenceEndEvent):
            items.append(self._node(event, depth + 1))
        return items

    def _entries(self, depth: int) -> dict[str, tuple[Place, _Node]]:
        entries: dict[str, tuple[Place, _Node]] = {}
        while not isinstance(event := self._next(), yaml.MappingEndEvent):
            node = self._node(event, depth + 1)
            key, place = node.value, node.place
            if isinstance(key, (list, dict)):
                raise YamlError(place, f"a {'list' if isinstance(key, list) else 'mapping'} cannot be a key; use text")
            if not isinstance(key, str):
                shown = event.value if isinstance(event, yaml.ScalarEvent) else key
                what = f"the key {shown} is {_KINDS[type(key)]}" if shown != "" else "the key is empty"
                raise YamlError(place, f'{what}; keys are text: write "{shown}" in quotes')
            if key == "<<" and isinstance(event, yaml.ScalarEvent) and event.implicit[0]:
                raise YamlError(place, "merge keys (<<) are not read; repeat the keys, or `extends:` a file")
            if key in entries:
                raise YamlError(place, f"the key `{key}` stands twice, first at {entries[key][0]}; keep one")
            entries[key] = (place, self._node(self._next(), depth + 1))
        return entries


def _unfold(node: _Node, path: KeyPath, places: dict[KeyPath, Place], key_places: dict[KeyPath, Place]) -> Any:
    """Plain data of `node`, its places added. What an alias stands for is copied, and keeps the places inside it."""
    if len(places) >= MAX_VALUES or len(path) > MAX_DEPTH:
        limit = f"more than {MAX_VALUES} values" if len(path) <= MAX_DEPTH else f"more than {MAX_DEPTH} levels"
        raise YamlError(node.place, f"the file holds {limit} once its aliases are followed; use fewer aliases")
    places[path] = node.place
    if isinstance(node.value, list):
        return [_unfold(item, (*path, index), places, key_places) for index, item in enumerate(node.value)]
    if isinstance(node.value, dict):
        key_places.update({(*path, key): place for key, (place, _) in node.value.items()})
        return {key: _unfold(item, (*path, key), places, key_places) for key, (_, item) in node.value.items()}
    return node.value


def _place_after(text: str, name: str) -> Place:
    return Place(name, text.count("\n") + 1, len(text) - text.rfind("\n"))


# --- writing -------------------------------------------------------------------------------------------------------


class _Writer(yaml.SafeDumper):
    def ignore_aliases(self, data: Any) -> bool:
        return True


def _write_text(writer: yaml.SafeDumper, text: str) -> yaml.Node:
    style = None
    if not text.replace("\n", "").isprintable():
        style = '"'
    elif _is_not_text(text):
        style = "'"
    elif "\n" in text:
        style = "|"
    return writer.represent_scalar("tag:yaml.org,2002:str", text, style=style)


def _write_list(writer: yaml.SafeDumper, items: list[Any]) -> yaml.Node:
    flat = not any(isinstance(item, (list, dict)) for item in items)
    return writer.represent_sequence("tag:yaml.org,2002:seq", items, flow_style=flat)


def _is_not_text(text: str) -> bool:
    try:
        return not isinstance(resolve_scalar(text), str)
    except ValueError:
        return True


_Writer.add_representer(str, _write_text)
_Writer.add_representer(list, _write_list)
