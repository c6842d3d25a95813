"""The strict YAML reader and writer."""

from __future__ import annotations

import math
import pickle
from enum import StrEnum
from pathlib import Path
from typing import Any

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from labctl.errors import BadInput, ExitCode
from labctl.yaml_source import Located, Place, Problem, YamlError, dotted, dump_yaml, load_yaml, loads


@pytest.mark.parametrize(
    ("text", "value"),
    [
        ("1e-3", 0.001),
        ("1E3", 1000.0),
        ("-.5", -0.5),
        ("3.", 3.0),
        ("+12", 12),
        ("012", 12),
        ("0o17", 15),
        ("0xff", 255),
        (".inf", math.inf),
        ("-.Inf", -math.inf),
        ("~", None),
        ("null", None),
        ("True", True),
        ("false", False),
    ],
)
def test_numbers_and_words_follow_yaml_1_2(text, value):
    found = loads(text, "f").data
    assert found == value
    assert type(found) is type(value)


@pytest.mark.parametrize("text", ["on", "off", "yes", "No", "12:30:00", "1_000", "2026-01-01", "0b11", "017a", "1e"])
def test_what_only_yaml_1_1_converts_stays_text(text):
    assert loads(f"a: {text}", "f").data == {"a": text}


def test_nan_is_a_number():
    assert math.isnan(loads(".nan", "f").data)


def test_quoted_scalars_are_text():
    assert loads("[\"1\", 'true', \"\", '~']", "f").data == ["1", "true", "", "~"]


def test_an_empty_document_is_none():
    located = loads("# nothing\n", "f")
    assert located.data is None
    assert str(located.place(())) == "f:2:1"


def test_every_value_and_every_key_knows_its_place():
    located = loads("steps:\n  train:\n    sizes: [1,  20]\n    rate:   1e-3\n", "p.yaml")
    assert str(located.place(("steps", "train", "rate"))) == "p.yaml:4:13"
    assert str(located.key_place(("steps", "train", "rate"))) == "p.yaml:4:5"
    assert str(located.place(("steps", "train", "sizes", 1))) == "p.yaml:3:17"
    assert str(located.place(("steps", "train"))) == "p.yaml:3:5"
    assert str(located.place(())) == "p.yaml:1:1"


def test_something_without_a_place_has_that_of_its_nearest_parent():
    located = loads("a:\n  b: 1\n", "f")
    assert str(located.place(("a", "missing", 3))) == "f:2:3"
    assert str(Located({"a": 1}).place(("a",))) == "given settings"


def test_an_alias_stands_where_it_is_used_and_its_inside_where_it_is_written():
    located = loads("a: &one\n  x: 1\nb: *one\n", "f")
    assert located.data == {"a": {"x": 1}, "b": {"x": 1}}
    assert located.data["a"] is not located.data["b"]
    assert str(located.place(("b",))) == "f:3:4"
    assert str(located.place(("b", "x"))) == "f:2:6"


def test_a_surrogate_pair_as_json_writes_it_is_one_character():
    assert loads('["\\ud83d\\ude00"]', "f").data == ["\U0001f600"]


ANSWERS = {
    "a: 1\nb: 2\na: 3\n": "f:3:1: the key `a` stands twice, first at f:1:1; keep one",
    "x: {a: 1, 'a': 2}": "f:1:11: the key `a` stands twice, first at f:1:5; keep one",
    "1: x": 'f:1:1: the key 1 is a whole number; keys are text: write "1" in quotes',
    "true: x": 'f:1:1: the key true is a truth value; keys are text: write "true" in quotes',
    "~: x": 'f:1:1: the key ~ is null; keys are text: write "~" in quotes',
    "? \n: x": 'f:1:2: the key is empty; keys are text: write "" in quotes',
    "? [a]\n: x": "f:1:3: a list cannot be a key; use text",
    "? {a: 1}\n: x": "f:1:3: a mapping cannot be a key; use text",
    "a: &a {x: 1}\nb:\n  <<: *a\n": "f:3:3: merge keys (<<) are not read; repeat the keys, or `extends:` a file",
    "a: !!python/name:os.system x": "f:1:4: the tag tag:yaml.org,2002:python/name:os.system is not read; "
    "take it away, types follow from the setting",
    "a: ! x": "f:1:4: the tag ! is not read; take it away, types follow from the setting",
    "a: 1\n---\nb: 2\n": "f:2:1: a second document starts here; keep one document in a file",
    "a:\n\tb: 1\n": "f:2:1: a tab stands here; indent with spaces",
    "a: b: c\n": "f:1:5: not YAML: mapping values are not allowed here",
    "a: [1, 2\n": "f:2:1: not YAML: expected ',' or ']', but got '<stream end>' (while parsing a flow sequence)",
    "{mask: ${steps.train.mask}}": "f:1:9: not YAML: expected ',' or '}', but got '{' (while parsing a flow mapping); "
    "between { } or [ ], put a ${...} reference in quotes",
    "a: *b": "f:1:4: *b has no anchor before it; write &b at a value above",
    "a: &a [*a]": "f:1:8: *a has no anchor before it; write &a at a value above",
    "a: 1e999": "f:1:4: 1e999 is larger than any number here; write .inf for infinity",
    "a: " + "9" * 5000: f"f:1:4: {'9' * 40}... has too many digits",
    "a: \x07": "f:1:4: the character U+0007 is not allowed in YAML; remove it",
    'a: "\\ud83d"': "f:1:4: the text holds half of a surrogate pair; write the character itself",
    "%YAML 1.1\n---\na: on\n": "f:1:1: the file says it is YAML 1.1; 1.2 is read, take the line away",
    "[" * 70 + "]" * 70: "f:1:66: the nesting is deeper than 64; write it flatter",
}


@pytest.mark.parametrize("text", ANSWERS, ids=lambda text: repr(text[:20]))
def test_bad_yaml_is_refused_with_its_place(text):
    with pytest.raises(YamlError) as caught:
        loads(text, "f")
    assert str(caught.value) == ANSWERS[text]
    assert caught.value.exit_code == ExitCode.BAD_INPUT


def test_an_escape_beyond_unicode_is_refused():
    with pytest.raises(YamlError, match=r"^f:1:\d+: not YAML: "):
        loads('"\\UFFFFFFFF"', "f")


def test_a_quoted_merge_sign_is_an_ordinary_key():
    assert loads("'<<': 1", "f").data == {"<<": 1}


def test_aliases_that_unfold_without_end_are_refused():
    lines = ["a0: &a0 [1, 1, 1, 1, 1, 1, 1, 1, 1, 1]"]
    lines += [f"a{n}: &a{n} [{', '.join([f'*a{n - 1}'] * 10)}]" for n in range(1, 9)]
    with pytest.raises(YamlError, match="holds more than 100000 values once its aliases are followed; use fewer"):
        loads("\n".join(lines), "f")


def test_aliases_that_unfold_too_deep_are_refused():
    deep = "a0: &a0 1\n" + "\n".join(f"a{n}: &a{n} [*a{n - 1}]" for n in range(1, 100))
    with pytest.raises(YamlError, match="the file holds more than 64 levels once its aliases are followed; use fewer"):
        loads(deep, "f")


def test_an_unreadable_file_is_named_with_the_reason(tmp_path):
    path = tmp_path / "none.yaml"
    with pytest.raises(BadInput) as caught:
        load_yaml(path)
    assert str(caught.value) == f"cannot read {path}: No such file or directory; give the path of a YAML file"


def test_a_folder_is_no_file(tmp_path):
    with pytest.raises(BadInput) as caught:
        load_yaml(tmp_path)
    assert str(caught.value) == f"cannot read {tmp_path}: Is a directory; give the path of a YAML file"


def test_a_file_in_another_encoding_is_refused_at_the_byte(tmp_path):
    path = tmp_path / "latin.yaml"
    path.write_bytes(b"a: 1\nb: caf\xe9\n")
    with pytest.raises(YamlError) as caught:
        load_yaml(path)
    assert str(caught.value) == f"{path}:2:7: the byte 0xe9 is not UTF-8; save the file as UTF-8"


def test_a_byte_order_mark_is_no_part_of_the_first_key(tmp_path):
    path = tmp_path / "bom.yaml"
    path.write_bytes("\ufeffname: µ\n".encode())
    assert load_yaml(path).data == {"name": "µ"}


def test_an_error_survives_the_way_out_of_another_process():
    error = YamlError(Place("f", 1, 2), "what")
    assert str(pickle.loads(pickle.dumps(error))) == "f:1:2: what"


def test_paths_are_written_with_dots_and_brackets():
    assert dotted(("steps", "train", "sizes", 0, "x")) == "steps.train.sizes[0].x"
    assert str(Problem(Place("f", 1, 1), (), "is empty")) == "f:1:1: is empty"
    assert str(Problem(Place("--set a=1"), ("a",), "no")) == "--set a=1: a: no"


def test_a_missing_path_is_a_key_error():
    located = loads("a: [1]", "f")
    assert located.at(("a", 0)) == 1
    for path in [("b",), ("a", 1), ("a", "x"), ("a", 0, "x"), ("a", -1)]:
        with pytest.raises(KeyError):
            located.at(path)


def test_the_writer_keeps_the_order_and_puts_short_lists_on_one_line():
    text = dump_yaml({"steps": {"b": {"sizes": (1, 2)}, "a": {}}, "note": "two\nlines", "rate": 1e-5, "none": None})
    assert text == ("steps:\n  b:\n    sizes: [1, 2]\n  a: {}\nnote: |-\n  two\n  lines\nrate: 1.0e-05\nnone: null\n")


@pytest.mark.parametrize("text", ["1e-3", "0o17", "on", "12:30", "", "~", "1e999", "<<", "null", "- a", "a: b", "a #b"])
def test_text_that_looks_like_something_else_is_quoted(text):
    written = dump_yaml({"a": text})
    assert written[3] in "'\""
    assert loads(written, "f").data == {"a": text}


def test_a_lone_text_is_written_without_an_end_mark():
    assert dump_yaml("learned") == "learned\n"
    assert dump_yaml("a...\n...") == "|-\n  a...\n  ...\n"


def test_subclasses_are_written_as_what_they_are():
    class Colour(StrEnum):
        RED = "red"

    assert dump_yaml({"c": Colour.RED, "x": (1,)}) == "c: red\nx: [1]\n"


def test_data_that_does_not_fit_in_a_file_is_refused():
    with pytest.raises(BadInput) as caught:
        dump_yaml({"a": [Path("x")]})
    kind = type(Path("x")).__name__
    assert str(caught.value) == f"a[0] is a {kind}; only text, numbers, lists, mappings fit in a file"
    with pytest.raises(BadInput) as caught:
        dump_yaml({"a": {1: 2}})
    assert str(caught.value) == "a has the key 1; only text can be a key in a file"


words = st.text(st.characters(exclude_categories=["Cs"]), max_size=20) | st.sampled_from(
    ["1e-3", "on", "0x1", ".inf", "- a", "|", "...", "---", "a\n...\nb", " a\n b", "\n", "a\n\n", "#", "\ufeff", "\x85"]
)
scalars = st.none() | st.booleans() | st.integers() | st.floats(allow_nan=False) | words
trees = st.recursive(
    scalars, lambda inner: st.lists(inner, max_size=4) | st.dictionaries(words, inner, max_size=4), max_leaves=12
)


@settings(max_examples=300, deadline=None)
@given(trees)
def test_what_is_written_reads_back_the_same(tree: Any):
    found = loads(dump_yaml(tree), "f").data
    assert found == tree
    assert repr(found) == repr(tree), "equal, but of another type or order"


@settings(max_examples=300, deadline=None)
@given(st.text(max_size=40) | st.text("{}[]&*!|>'\"%@`-:?,# \n\tab1~$<", max_size=30))
def test_no_text_makes_the_reader_fail_in_another_way(text: str):
    found: Exception | None = None
    try:
        loads(text, "f")
    except YamlError as error:
        found = error
    assert found is None or str(found).startswith("f:")
