"""Files that extend files, `--set`, and what validation says about mistakes."""

from __future__ import annotations

import pickle
from pathlib import Path
from typing import Annotated, Any, Literal

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from pydantic import Field, field_validator

from labctl import plugins
from labctl.config import (
    ConfigError,
    canonical_json,
    content_hash,
    dump_yaml,
    load_config,
    merge,
    parse_override,
    validate_model,
    validate_typed,
)
from labctl.errors import BadInput
from labctl.frozen import Frozen
from labctl.yaml_source import Located, loads


class Optics(Frozen):
    """Where things are."""

    pitch_m: Annotated[float, Field(gt=0, le=0.01)]
    """Side of a mask cell.

    Not of a pixel.
    """

    gap_m: float = 1e-3


class Sgd(Frozen):
    type: Literal["sgd"] = "sgd"
    rate: float


class Adam(Frozen):
    type: Literal["adam"] = "adam"
    beta: Annotated[float, Field(lt=1)] = 0.9


class Train(Frozen):
    """A step."""

    type: Literal["train"]
    epochs: Annotated[int, Field(ge=1)] = 3
    exposure_s: Annotated[float, Field(gt=0, le=60)] = 0.01
    offset_px: int = 0
    shuffle: bool = True
    name: Annotated[str, Field(min_length=2, pattern="^[a-z]+$")] = "aa"
    mode: Literal["fast", "exact"] = "fast"
    sizes_px: Annotated[tuple[int, ...], Field(max_length=2)] = ()
    seeds: Annotated[tuple[Annotated[int, Field(ge=0)], ...], Field(min_length=1)] = (0,)
    area: tuple[int, int] | None = None
    optics: Optics | None = None
    optimiser: Annotated[Sgd | Adam, Field(discriminator="type")] = Sgd(rate=1.0)
    limit: float | Literal["auto"] = "auto"
    benches: dict[Annotated[str, Field(pattern="^[a-z]+$")], Optics] = Field(default_factory=dict)
    folder: Path = Path("data")

    @field_validator("folder")
    @classmethod
    def _no_root(cls, value: Path) -> Path:
        if value == Path("/"):
            raise ValueError("the root folder is not allowed; name a folder in it")
        return value


def lines(text: str, model: Any = Train, at: tuple[str, ...] = ()) -> list[str]:
    """What validation says about `type: train` followed by `text`, which starts in line 2."""
    with pytest.raises(ConfigError) as caught:
        validate_model(model, loads(f"type: train\n{text}", "p.yaml"), at)
    assert len(caught.value.problems) == len(str(caught.value).splitlines())
    return str(caught.value).splitlines()


ALLOWED = (
    "allowed: type, epochs, exposure_s, offset_px, shuffle, name, mode, sizes_px, seeds, area, optics, optimiser, "
    "limit, benches, folder"
)

MISTAKES = {
    "epoch: 3": f"p.yaml:2:1: epoch: unknown key; did you mean `epochs`? {ALLOWED}",
    "zzz: 3": f"p.yaml:2:1: zzz: unknown key; {ALLOWED}",
    "optics: {pitch: 1, pitch_m: 1e-3}": "p.yaml:2:10: optics.pitch: unknown key; did you mean `pitch_m`? "
    "allowed: pitch_m, gap_m",
    "optics:\n  gap_m: 1": "p.yaml:3:3: optics.pitch_m: is missing; Side of a mask cell.",
    "optimiser: {type: sgd}": "p.yaml:2:12: optimiser.rate: is missing; add it",
    "exposure_s: 10 ms": "p.yaml:2:13: exposure_s: '10 ms' is text; a plain number is needed, in seconds as `_s` says",
    'exposure_s: "0.1"': "p.yaml:2:13: exposure_s: '0.1' is text; a plain number is needed, in seconds as `_s` says",
    "exposure_s: true": "p.yaml:2:13: exposure_s: true is a truth value; "
    "a plain number is needed, in seconds as `_s` says",
    "exposure_s:": "p.yaml:2:12: exposure_s: null stands here; a plain number is needed, in seconds as `_s` says",
    "exposure_s: 61": "p.yaml:2:13: exposure_s: 61 is out of range; at most 60 seconds is allowed",
    "exposure_s: 0": "p.yaml:2:13: exposure_s: 0 is out of range; more than 0 seconds is allowed",
    "exposure_s: .nan": "p.yaml:2:13: exposure_s: nan is not allowed; a finite number is needed",
    "epochs: 0": "p.yaml:2:9: epochs: 0 is out of range; at least 1 is allowed",
    "epochs: abc": "p.yaml:2:9: epochs: 'abc' is text; a whole number is needed",
    "epochs: 2.5": "p.yaml:2:9: epochs: 2.5 is not whole; a whole number is needed",
    "epochs: true": "p.yaml:2:9: epochs: true is a truth value; a whole number is needed",
    "epochs: [1]": "p.yaml:2:9: epochs: a list stands here; a whole number is needed",
    "shuffle: on": "p.yaml:2:10: shuffle: 'on' is text; true or false is needed",
    "shuffle: 1": "p.yaml:2:10: shuffle: 1 is a number; true or false is needed",
    "name: 12": "p.yaml:2:7: name: 12 is a number; text (in quotes where it looks like something else) is needed",
    "name: a": "p.yaml:2:7: name: has 1 character; at least 2 allowed",
    "name: A1": "p.yaml:2:7: name: 'A1' does not fit the pattern ^[a-z]+$",
    "mode: fats": "p.yaml:2:7: mode: 'fats' is not allowed; did you mean `fast`? allowed: fast, exact",
    "mode: 3": "p.yaml:2:7: mode: 3 is a number; allowed: 'fast' or 'exact'",
    "sizes_px: [1, a]": "p.yaml:2:15: sizes_px[1]: 'a' is text; "
    "a plain whole number is needed, in pixels as `_px` says",
    "sizes_px: [1, 2, 3]": "p.yaml:2:11: sizes_px: has 3 items; at most 2 allowed",
    "seeds: []": "p.yaml:2:8: seeds: has 0 items; at least 1 allowed",
    "seeds: [-1]": "p.yaml:2:9: seeds[0]: -1 is out of range; at least 0 is allowed",
    "sizes_px: 3": "p.yaml:2:11: sizes_px: 3 is a number; a list is needed",
    "area: [1]": "p.yaml:2:7: area[1]: is missing; add it",
    "optics: 3": "p.yaml:2:9: optics: 3 is a number; a mapping is needed",
    "optimiser: {type: sdg}": "p.yaml:2:19: optimiser.type: 'sdg' is not allowed; "
    "did you mean `sgd`? allowed: sgd, adam",
    "optimiser: {rate: 1}": "p.yaml:2:12: optimiser.type: is missing; allowed: sgd, adam",
    "optimiser: {type: adam, beta: 1}": "p.yaml:2:31: optimiser.beta: 1 is out of range; less than 1 is allowed",
    "optimiser: {type: adam, beta: '0'}": "p.yaml:2:31: optimiser.beta: '0' is text; a number is needed",
    "optimiser: {type: sgd, rate: 1, beta: 1}": "p.yaml:2:33: optimiser.beta: unknown key; allowed: type, rate",
    "limit: abc": "p.yaml:2:8: limit: 'abc' is text; a number is needed; or: 'abc' is not allowed; allowed: auto",
    "benches: {A: {pitch_m: 1e-3}}": "p.yaml:2:11: benches.A: 'A' does not fit the pattern ^[a-z]+$",
    "benches: {a: {pitch_m: 1}}": "p.yaml:2:24: benches.a.pitch_m: 1 is out of range; at most 0.01 metres is allowed",
    "folder: /": "p.yaml:2:9: folder: the root folder is not allowed; name a folder in it",
}


@pytest.mark.parametrize("text", MISTAKES)
def test_a_mistake_is_named_with_place_path_and_what_is_allowed(text):
    assert lines(text) == [MISTAKES[text]]


def test_all_mistakes_are_said_at_once_in_the_order_of_the_file():
    assert lines("mode: slow\nepohcs: 2\nexposure_s: 1 h\noptics:\n  gap_m: x\n") == [
        "p.yaml:2:7: mode: 'slow' is not allowed; allowed: fast, exact",
        f"p.yaml:3:1: epohcs: unknown key; did you mean `epochs`? {ALLOWED}",
        "p.yaml:4:13: exposure_s: '1 h' is text; a plain number is needed, in seconds as `_s` says",
        "p.yaml:6:3: optics.pitch_m: is missing; Side of a mask cell.",
        "p.yaml:6:10: optics.gap_m: 'x' is text; a plain number is needed, in metres as `_m` says",
    ]


values = st.recursive(
    st.none() | st.booleans() | st.integers() | st.floats() | st.text("a1-.", max_size=4),
    lambda inner: st.lists(inner, max_size=3) | st.dictionaries(st.sampled_from([*Train.model_fields, "x"]), inner),
    max_leaves=8,
)


@settings(max_examples=300, deadline=None)
@given(st.dictionaries(st.sampled_from([*Train.model_fields, "x"]), values))
def test_whatever_the_file_holds_the_answer_is_a_model_or_a_list_of_problems(data: dict[str, Any]):
    problems: list[Any] | None = None
    try:
        assert isinstance(validate_model(Train, Located({"type": "train", **data})), Train)
    except ConfigError as error:
        problems = error.problems
    assert problems is None or len(problems) > 0


def test_good_settings_become_the_model():
    text = "type: train\nexposure_s: 1e-3\nsizes_px: [1, 2]\nlimit: 3\noptics: {pitch_m: 1e-5}\nepochs: 4.0\n"
    model = validate_model(Train, loads(text, "p.yaml"))
    assert (model.exposure_s, model.sizes_px, model.limit, model.epochs) == (1e-3, (1, 2), 3.0, 4)
    assert model.optics == Optics(pitch_m=1e-5)


def test_settings_deep_in_a_file_are_found_and_named_by_their_whole_path():
    located = loads("steps:\n  train:\n    type: train\n    epochs: -1\n", "p.yaml")
    with pytest.raises(ConfigError) as caught:
        validate_model(Train, located, ("steps", "train"))
    assert str(caught.value) == "p.yaml:4:13: steps.train.epochs: -1 is out of range; at least 1 is allowed"
    with pytest.raises(ConfigError) as caught:
        validate_model(Train, located, ("steps", "tune"))
    assert str(caught.value) == "p.yaml:2:3: steps.tune: is missing; add it"


def test_a_file_that_is_no_mapping_is_named_without_a_path():
    with pytest.raises(ConfigError) as caught:
        validate_model(Optics, loads("- 1", "p.yaml"))
    assert str(caught.value) == "p.yaml:1:1: a list stands here; a mapping is needed"


def test_a_compound_unit_is_not_mistaken_for_its_last_part():
    class Dark(Frozen):
        dark_e_per_s: float

    assert "in seconds" not in lines("dark_e_per_s: a", Dark)[1]


def test_a_validator_may_raise_bad_input():
    class Picky(Frozen):
        type: str

        @field_validator("type")
        @classmethod
        def _refuse(cls, value: str) -> str:
            raise BadInput(f"{value} is refused; give another")

    assert lines("", Picky) == ["p.yaml:1:1: train is refused; give another"]


def test_an_error_survives_the_way_out_of_another_process():
    with pytest.raises(ConfigError) as caught:
        validate_model(Optics, loads("gap_m: x", "p.yaml"))
    again = pickle.loads(pickle.dumps(caught.value))
    assert str(again) == str(caught.value)
    assert again.problems == caught.value.problems


# --- extends -------------------------------------------------------------------------------------------------------


def write(folder: Path, **files: str) -> None:
    for name, text in files.items():
        (folder / f"{name}.yaml").write_text(text)


def test_the_extending_file_wins_and_every_value_keeps_its_file(tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    write(
        tmp_path,
        base="name: base\nsteps:\n  train: {type: train, epochs: 3}\nseeds: [0, 1]\n",
        child="extends: base.yaml\nname: child\nsteps:\n  train:\n    epochs: 5\n  show: {type: display}\nseeds: [7]\n",
    )
    located = load_config("child.yaml")
    assert located.data == {
        "name": "child",
        "steps": {"train": {"type": "train", "epochs": 5}, "show": {"type": "display"}},
        "seeds": [7],
    }
    assert list(located.data["steps"]) == ["train", "show"]
    places = {path: str(place) for path, place in located.places.items()}
    assert places["name",] == "child.yaml:2:7"
    assert places["steps", "train"] == "base.yaml:3:10"
    assert places["steps", "train", "type"] == "base.yaml:3:17"
    assert places["steps", "train", "epochs"] == "child.yaml:5:13"
    assert places["steps", "show"] == "child.yaml:6:9"
    assert places["seeds", 0] == "child.yaml:7:9"
    assert ("seeds", 1) not in places
    assert str(located.key_place(("steps", "train", "epochs"))) == "child.yaml:5:5"
    assert str(located.key_place(("steps", "train", "type"))) == "base.yaml:3:11"


def test_a_mistake_in_a_base_file_is_reported_there(tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    (tmp_path / "rigs").mkdir()
    write(tmp_path, base="pitch_m: 10 um\n")
    write(tmp_path / "rigs", child="extends: ../base.yaml\ngap: 3\n")
    with pytest.raises(ConfigError) as caught:
        validate_model(Optics, load_config("rigs/child.yaml"))
    assert str(caught.value).splitlines() == [
        "rigs/../base.yaml:1:10: pitch_m: '10 um' is text; a plain number is needed, in metres as `_m` says",
        "rigs/child.yaml:2:1: gap: unknown key; did you mean `gap_m`? allowed: pitch_m, gap_m",
    ]


def test_of_several_bases_the_later_wins(tmp_path):
    write(tmp_path, a="x: 1\ny: 1\n", b="y: 2\nz: 2\n", c="extends: [a.yaml, b.yaml]\nz: 3\n")
    assert load_config(tmp_path / "c.yaml").data == {"x": 1, "y": 2, "z": 3}


def test_two_files_may_share_a_base(tmp_path):
    write(tmp_path, a="x: 1\n", b="extends: a.yaml\ny: 2\n", c="extends: [a.yaml, b.yaml]\n")
    assert load_config(tmp_path / "c.yaml").data == {"x": 1, "y": 2}


def test_a_circle_is_shown_whole(tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    write(tmp_path, a="extends: b.yaml\n", b="x: 1\nextends: [c.yaml]\n", c="extends: a.yaml\n")
    with pytest.raises(BadInput) as caught:
        load_config("a.yaml")
    assert str(caught.value) == (
        "c.yaml:1:10: extends: the files extend each other in a circle: a.yaml → b.yaml → c.yaml → a.yaml; break it"
    )


@pytest.mark.parametrize(
    ("text", "line"),
    [
        ("extends: none.yaml", "p.yaml:1:10: extends: cannot read none.yaml: there is no such file; mend the path"),
        ("extends: [3]", "p.yaml:1:11: extends[0]: 3 is a number; a file name, or a list of them, is needed"),
        ("extends:", "p.yaml:1:9: extends: null stands here; a file name, or a list of them, is needed"),
        ("- a", "p.yaml:1:1: a list stands here; a mapping of settings is needed"),
        ("", "p.yaml:1:1: the file is empty; a mapping of settings is needed"),
    ],
)
def test_a_file_that_cannot_be_put_together_is_refused(tmp_path, monkeypatch, text, line):
    monkeypatch.chdir(tmp_path)
    write(tmp_path, p=text)
    with pytest.raises(BadInput) as caught:
        load_config("p.yaml")
    assert str(caught.value) == line


def test_null_takes_a_mapping_of_the_base_away_and_is_a_value_elsewhere():
    base = loads("steps: {a: {type: t}, b: {type: t}}\nroi: [1, 2]\nlimit: 3\n", "base")
    child = loads("steps: {a: null}\nroi: null\nlimit: null\nfresh: null\n", "child")
    assert merge(base, child).data == {"steps": {"b": {"type": "t"}}, "roi": None, "limit": None, "fresh": None}


def test_another_type_replaces_the_whole_mapping():
    base = loads("d: {type: learned, rate: 1}\ne: {type: learned, rate: 1}", "base")
    child = loads("d: {type: pinhole}\ne: {type: learned, slope: 2}", "child")
    merged = merge(base, child)
    assert merged.data == {"d": {"type": "pinhole"}, "e": {"type": "learned", "rate": 1, "slope": 2}}
    assert ("d", "rate") not in merged.places


def test_merging_changes_neither_side():
    base, child = loads("a: {b: [1]}", "base"), loads("a: {c: [2]}", "child")
    merged = merge(base, child)
    merged.data["a"]["b"].append(3)
    assert (base.data, child.data) == ({"a": {"b": [1]}}, {"a": {"c": [2]}})


keys = st.sampled_from(["a", "b", "type"])
trees = st.recursive(st.none() | st.integers(0, 3), lambda inner: st.dictionaries(keys, inner), max_leaves=8)
mappings = st.dictionaries(st.sampled_from(["a", "b", "c"]), trees)


@settings(max_examples=200, deadline=None)
@given(mappings, mappings)
def test_every_merged_value_has_a_place_in_the_file_that_gave_it(old: dict[str, Any], new: dict[str, Any]):
    base, child = loads(dump_yaml(old), "base"), loads(dump_yaml(new), "child")
    merged = merge(base, child)
    source = {"base": base, "child": child}

    def visit(value: Any, path: tuple[str, ...]) -> None:
        place = merged.places[path]
        found = source[place.file].at(path)
        assert isinstance(found, dict) if isinstance(value, dict) else found == value
        assert place == source[place.file].places[path]
        for key, item in value.items() if isinstance(value, dict) else ():
            visit(item, (*path, key))

    visit(merged.data, ())


# --- --set ---------------------------------------------------------------------------------------------------------

PROTOCOL = "steps:\n  train: {type: train, optics: {pitch_m: 1e-3, gap_m: 1}, sizes_px: [1, 2]}\n  show: {type: t}\n"


@pytest.fixture
def protocol(tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    write(tmp_path, p=PROTOCOL)
    return Path("p.yaml")


def test_an_override_sets_one_value_and_is_its_place(protocol):
    located = load_config(protocol, overrides=["steps.train.epochs=7", "steps.train.sizes_px=[3, 4]"])
    assert located.data["steps"]["train"]["epochs"] == 7
    assert located.data["steps"]["train"]["sizes_px"] == [3, 4]
    assert str(located.place(("steps", "train", "epochs"))) == "--set steps.train.epochs=7"
    assert str(located.place(("steps", "train", "sizes_px", 1))) == "--set steps.train.sizes_px=[3, 4]"
    assert str(located.place(("steps", "train", "type"))) == "p.yaml:2:17"
    assert str(located.place(("steps", "train"))) == "p.yaml:2:10"


@pytest.mark.parametrize(
    ("text", "line"),
    [
        (
            "steps.train.epochs=abc",
            "--set steps.train.epochs=abc: steps.train.epochs: 'abc' is text; a whole number is needed",
        ),
        (
            "steps.train.optics.pitch=1",
            "--set steps.train.optics.pitch=1: steps.train.optics.pitch: unknown key; did you mean `pitch_m`? "
            "allowed: pitch_m, gap_m",
        ),
        (
            "steps.train.optic.gap_m=1",
            "--set steps.train.optic.gap_m=1: steps.train.optic: unknown key; did you mean `optics`? " + ALLOWED,
        ),
    ],
)
def test_a_wrong_override_is_reported_as_it_was_typed(protocol, text, line):
    with pytest.raises(ConfigError) as caught:
        validate_model(Train, load_config(protocol, overrides=[text]), ("steps", "train"))
    assert str(caught.value) == line


def test_an_override_makes_the_parents_it_needs(protocol):
    located = load_config(protocol, overrides=["steps.train.optimiser.rate=1"])
    assert located.data["steps"]["train"]["optimiser"] == {"rate": 1}


def test_an_override_replaces_a_whole_mapping_and_keeps_the_order_of_the_steps(protocol):
    located = load_config(protocol, overrides=["steps.train={type: train, epochs: 1}"])
    assert located.data["steps"]["train"] == {"type": "train", "epochs": 1}
    assert list(located.data["steps"]) == ["train", "show"]


def test_an_override_with_null_takes_a_step_away(protocol):
    assert list(load_config(protocol, overrides=["steps.train=null"]).data["steps"]) == ["show"]


def test_later_overrides_win(protocol):
    located = load_config(protocol, overrides=["steps.train.epochs=1", "steps.train.epochs=2"])
    assert located.data["steps"]["train"]["epochs"] == 2


@pytest.mark.parametrize(
    ("text", "line"),
    [
        (
            "steps.train.sizes_px.0=3",
            "--set steps.train.sizes_px.0=3: steps.train.sizes_px is a list (at p.yaml:2:69); "
            "replace the list as a whole: --set 'steps.train.sizes_px=[...]'",
        ),
        (
            "steps.train.type.x=3",
            "--set steps.train.type.x=3: nothing can be set inside steps.train.type, where 'train' is text "
            "(at p.yaml:2:17); shorten the path",
        ),
        ("epochs", "--set epochs: a path and a value are needed; write it like steps.train.epochs=3"),
        ("a..b=1", "--set a..b=1: a path and a value are needed; write it like steps.train.epochs=3"),
        ("=1", "--set =1: a path and a value are needed; write it like steps.train.epochs=3"),
        ("a=", "--set a=: there is no value; write null for nothing, '' for empty text"),
        ("a=#fff", "--set a=#fff: what follows # would be lost as a comment; put the value in quotes"),
        ("a=b #c", "--set a=b #c: what follows # would be lost as a comment; put the value in quotes"),
        ("a=b: c", "--set a=b: c: the value reads as a mapping; put text in quotes, or write [list] or {mapping}"),
        ("a=- c", "--set a=- c: the value reads as a list; put text in quotes, or write [list] or {mapping}"),
        (
            "a=[1",
            "--set a=[1: not YAML: expected ',' or ']', but got '<stream end>' (while parsing a flow sequence); "
            "put text in quotes",
        ),
    ],
)
def test_an_override_that_cannot_be_placed_is_refused(protocol, text, line):
    with pytest.raises(BadInput) as caught:
        load_config(protocol, overrides=[text])
    assert str(caught.value) == line


def test_the_value_of_an_override_is_yaml_1_2():
    values = {"1e-3": 0.001, "on": "on", "'3'": "3", "null": None, "{a: [1]}": {"a": [1]}, "a=b": "a=b", "'#f'": "#f"}
    assert {text: parse_override(f"x.y={text}").value for text in values} == values
    assert parse_override("x.y=1").path == ("x", "y")


# --- plug-ins ------------------------------------------------------------------------------------------------------


@pytest.fixture
def steps(monkeypatch):
    offered: dict[str, Any] = {"train": Train, "bare": Optics, "function": print}

    def load(group: str, name: str) -> Any:
        if name == "broken":
            raise BadInput(f"the plug-in 'broken' of {group} cannot be imported: ImportError: no torch; repair it")
        return offered[name]

    monkeypatch.setattr(plugins, "names", lambda group: sorted([*offered, "broken"]))
    monkeypatch.setattr(plugins, "load", load)


def typed(text: str) -> Any:
    return validate_typed("labctl.steps", loads(f"steps:\n  one: {text}\n", "p.yaml"), ("steps", "one"))


def test_the_type_chooses_the_settings_model(steps):
    assert typed("{type: train, epochs: 9}") == Train(type="train", epochs=9)


def test_a_plug_in_need_not_repeat_its_type(steps):
    assert typed("{type: bare, pitch_m: 1e-3}") == Optics(pitch_m=1e-3)


@pytest.mark.parametrize(
    ("text", "line"),
    [
        ("{type: trian}", "p.yaml:2:15: steps.one.type: 'trian' is unknown; did you mean `train`? "
         "allowed: bare, broken, function, train"),
        ("{epochs: 1}", "p.yaml:2:8: steps.one.type: is missing; allowed: bare, broken, function, train"),
        ("{type: 3}", "p.yaml:2:15: steps.one.type: 3 is a number; allowed: bare, broken, function, train"),
        ("train", "p.yaml:2:8: steps.one: 'train' is text; a mapping with a `type` is needed"),
        ("{type: broken}", "p.yaml:2:15: steps.one.type: the plug-in 'broken' of labctl.steps cannot be imported: "
         "ImportError: no torch; repair it"),
        ("{type: function}", "p.yaml:2:15: steps.one.type: the plug-in 'function' of labctl.steps is no settings "
         "model; mend the plug-in"),
        ("{type: train, epochs: 0}", "p.yaml:2:30: steps.one.epochs: 0 is out of range; at least 1 is allowed"),
        ("{type: bare, pitch: 1, pitch_m: 1e-3}", "p.yaml:2:21: steps.one.pitch: unknown key; did you mean `pitch_m`? "
         "allowed: pitch_m, gap_m"),
    ],
)  # fmt: skip
def test_a_wrong_typed_mapping_is_reported(steps, text, line):
    with pytest.raises(ConfigError) as caught:
        typed(text)
    assert str(caught.value) == line


def test_real_entry_points_are_listed_without_being_imported():
    assert plugins.names("labctl.light_paths") == ["sequenced", "simulated"]
    assert plugins.load("labctl.light_paths", "sequenced").__name__ == "SequencedLightPath"
    with pytest.raises(BadInput) as caught:
        plugins.load("labctl.light_paths", "sequence")
    assert str(caught.value) == (
        "'sequence' is no plug-in of labctl.light_paths; did you mean `sequenced`? allowed: sequenced, simulated"
    )


def install(folder: Path, package: str, value: str) -> None:
    info = folder / f"{package}-1.0.dist-info"
    info.mkdir()
    (info / "METADATA").write_text(f"Metadata-Version: 2.1\nName: {package}\nVersion: 1.0\n")
    (info / "entry_points.txt").write_text(f"[labctl.test_{folder.name}]\nbench = {value}\n")


def test_a_plug_in_that_fails_to_import_is_named_with_the_cause(tmp_path, monkeypatch):
    monkeypatch.syspath_prepend(tmp_path)
    (tmp_path / "broken_bench.py").write_text("1 / 0\n")
    install(tmp_path, "benches", "broken_bench:Bench")
    with pytest.raises(BadInput) as caught:
        plugins.load(f"labctl.test_{tmp_path.name}", "bench")
    assert str(caught.value) == (
        f"the plug-in 'bench' of labctl.test_{tmp_path.name} (broken_bench:Bench, from benches) cannot be imported: "
        "ZeroDivisionError: division by zero; repair or reinstall benches"
    )


def test_two_packages_must_not_offer_different_plug_ins_of_one_name(tmp_path, monkeypatch):
    monkeypatch.syspath_prepend(tmp_path)
    install(tmp_path, "one", "pathlib:Path")
    install(tmp_path, "two", "pathlib:PurePath")
    with pytest.raises(BadInput, match=r"is offered twice, by .*\(from one\).*; uninstall one"):
        plugins.load(f"labctl.test_{tmp_path.name}", "bench")


# --- hashes --------------------------------------------------------------------------------------------------------


def test_equal_data_have_equal_hashes_whatever_the_order_of_their_keys():
    assert canonical_json({"b": (1, 2.5), "a": "µ"}) == '{"a":"µ","b":[1,2.5]}'.encode()
    assert content_hash({"a": 1, "b": 2}) == content_hash({"b": 2, "a": 1})
    assert content_hash({"a": 1}) != content_hash({"a": 1.0})
    assert content_hash({}) == "44136fa355b3678a1146ad16f7e8649e94fb4fc21fe77e8310c060f61caaff8a"


def test_what_has_no_canonical_form_is_refused():
    with pytest.raises(BadInput) as caught:
        content_hash({"a": float("nan")})
    assert str(caught.value) == "data with NaN or an infinity has no canonical form; give finite numbers or null"


def test_the_resolved_file_gives_the_same_settings_again(tmp_path):
    model = Train(type="train", exposure_s=1e-5, name="on", area=(1, 2), optics=Optics(pitch_m=1e-3))
    path = tmp_path / "resolved.yaml"
    path.write_text(dump_yaml(model.model_dump(mode="json")))
    assert validate_model(Train, load_config(path)) == model


def test_given_data_without_a_file_can_be_validated_too():
    with pytest.raises(ConfigError) as caught:
        validate_model(Optics, Located({"pitch_m": -1}))
    assert str(caught.value) == "given settings: pitch_m: -1 is out of range; more than 0 metres is allowed"
