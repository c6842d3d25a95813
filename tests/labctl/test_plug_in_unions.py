"""A field that takes any plug-in of a group: told apart by `type`, and one broken plug-in does not spoil the others."""

from __future__ import annotations

from abc import abstractmethod
from pathlib import Path
from typing import Any, Literal

import pytest

from labctl import plugins
from labctl.config import ConfigError, validate_model
from labctl.errors import BadInput
from labctl.frozen import Frozen
from labctl.yaml_source import loads


class Square(Frozen):
    type: Literal["square"] = "square"
    side_m: float = 1.0


class Disc(Frozen):
    type: Literal["disc"] = "disc"
    radius_m: float = 1.0


class Nameless(Frozen):
    side_m: float = 1.0


class Shape(Frozen):
    type: Literal["unfinished"] = "unfinished"

    @abstractmethod
    def area(self) -> float:
        """In square metres."""


SHAPES = {
    "square": "tests.labctl.test_plug_in_unions:Square",
    "disc": "tests.labctl.test_plug_in_unions:Disc",
    "broken": "no_such_package:Shape",
    "nameless": "tests.labctl.test_plug_in_unions:Nameless",
    "unfinished": "tests.labctl.test_plug_in_unions:Shape",
    "function": "tests.labctl.test_plug_in_unions:installed",
}


def installed(folder: Path, monkeypatch: pytest.MonkeyPatch, offers: dict[str, str]) -> str:
    """A package `shapes` that offers plug-ins; returns their group."""
    group = f"labctl.test_{folder.name}"
    info = folder / "shapes-1.0.dist-info"
    info.mkdir()
    (info / "METADATA").write_text("Metadata-Version: 2.1\nName: shapes\nVersion: 1.0\n")
    (info / "entry_points.txt").write_text(f"[{group}]\n" + "".join(f"{n} = {v}\n" for n, v in offers.items()))
    monkeypatch.syspath_prepend(folder)
    return group


@pytest.fixture
def room(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> type[Frozen]:
    """Settings with a list of shapes, and one."""
    shape: Any = plugins.any_of(installed(tmp_path, monkeypatch, SHAPES))

    class Room(Frozen):
        shapes: tuple[shape, ...] = ()
        door: shape = Square()

    return Room


def test_each_is_read_as_what_its_type_names(room):
    read = validate_model(
        room, loads("{shapes: [{type: disc, radius_m: 2.0}, {type: square}], door: {type: disc}}", "r")
    )
    assert read.shapes == (Disc(radius_m=2.0), Square())
    assert read.door == Disc()
    assert read.model_dump()["shapes"][0] == {"type": "disc", "radius_m": 2.0}


@pytest.mark.parametrize(
    ("text", "line"),
    [
        ("{door: {type: dics}}", "r:1:15: door.type: 'dics' is not allowed; did you mean `disc`? "
         "allowed: broken, disc, function, nameless, square, unfinished"),
        ("{door: {radius_m: 1}}", "r:1:8: door.type: is missing; "
         "allowed: broken, disc, function, nameless, square, unfinished"),
        ("{shapes: [{type: disc, radius: 1}]}", "r:1:24: shapes[0].radius: unknown key; did you mean `radius_m`? "
         "allowed: type, radius_m"),
        ("{shapes: [{type: disc, radius_m: wide}]}", "r:1:34: shapes[0].radius_m: 'wide' is text; a plain number is "
         "needed, in metres as `_m` says"),
        ("{door: {type: broken}}", "(no_such_package:Shape, from shapes) cannot be imported: ModuleNotFoundError: "
         "No module named 'no_such_package'; repair or reinstall shapes"),
        ("{door: {type: nameless}}", "needs `type: Literal[\"nameless\"]`; mend the plug-in"),
        ("{door: {type: unfinished}}", "(tests.labctl.test_plug_in_unions:Shape, from shapes) lacks area; "
         "docs/plug-ins.md says which class to derive it from"),
        ("{door: {type: function}}", "is no settings model; mend the plug-in"),
    ],
)  # fmt: skip
def test_a_mistake_is_told_with_its_place_and_a_broken_plug_in_with_its_reason(room, text, line):
    with pytest.raises(ConfigError) as refused:
        validate_model(room, loads(text, "r"))
    assert line in str(refused.value)
    assert str(refused.value).startswith("r:1:")
    assert len(str(refused.value).splitlines()) == 1


def test_a_sole_plug_in_needs_no_choice(tmp_path, monkeypatch):
    only = plugins.any_of(installed(tmp_path, monkeypatch, {"disc": SHAPES["disc"]}))
    assert only is Disc


def test_a_group_without_plug_ins_says_to_install_again():
    with pytest.raises(BadInput, match=r"no plug-in of labctl\.nothing is installed.*install labctl again"):
        plugins.any_of("labctl.nothing")
