"""References between steps."""

from __future__ import annotations

from typing import Annotated, Any

import pytest
from pydantic import Field, ValidationError

from labctl.config import ConfigError, validate_model
from labctl.frozen import Frozen
from labctl.references import PATTERN, OutputKind, Ref, Reference, check_references, references_of
from labctl.yaml_source import loads

Mask = Annotated[Reference, OutputKind("mask")]


class Nested(Frozen):
    frames: Annotated[Reference, OutputKind("frames")]


class Show(Frozen):
    mask: Mask
    """The mask to show."""

    spare: Mask | None = None
    more: tuple[Mask, ...] = ()
    named: dict[str, Mask] = Field(default_factory=dict)
    nested: Nested | None = None
    anything: Reference | None = None
    note: str = ""


class Train(Frozen):
    start: Ref("mask") | None = None  # type: ignore[valid-type]
    epochs: int = 1


def test_a_reference_is_read_and_written():
    reference = Reference.parse("${steps.train-2.mask_a}")
    assert reference == Reference("train-2", "mask_a")
    assert str(reference) == "${steps.train-2.mask_a}"


@pytest.mark.parametrize(
    "text", ["", "train.mask", "${train.mask}", "${steps.train}", "${steps.a.b.c}", "x${steps.a.b}", "${steps.a.b}\n"]
)
def test_other_forms_are_no_references(text):
    with pytest.raises(ValueError) as caught:
        Reference.parse(text)
    assert str(caught.value) == f"'{text}' is no reference; write ${{steps.NAME.OUTPUT}}"


def test_a_field_takes_the_text_and_gives_it_back():
    show = Show.model_validate({"mask": "${steps.train.mask}"})
    assert show.mask == Reference("train", "mask")
    assert show.model_dump(mode="json")["mask"] == "${steps.train.mask}"
    assert show.model_dump()["mask"] == "${steps.train.mask}"
    assert Show.model_validate_json(show.model_dump_json()) == show
    assert Show(mask=Reference("train", "mask")) == show


def test_a_field_that_is_no_reference_says_what_to_write():
    with pytest.raises(ConfigError) as caught:
        validate_model(Show, loads("mask: train.mask\nspare: 3\n", "p.yaml"))
    assert str(caught.value).splitlines() == [
        "p.yaml:1:7: mask: 'train.mask' is no reference; write ${steps.NAME.OUTPUT}",
        "p.yaml:2:8: spare: a reference to an earlier step is needed; write ${steps.NAME.OUTPUT}",
    ]


def test_in_a_schema_a_reference_is_text_with_a_pattern():
    schema = Show.model_json_schema()["properties"]["mask"]
    assert schema["type"] == "string"
    assert schema["pattern"] == PATTERN
    assert schema["description"] == "The mask to show."


def test_references_are_found_wherever_they_are_with_the_kind_they_need():
    one, two = "${steps.a.mask}", "${steps.b.frames}"
    data = {"mask": one, "spare": one, "more": [one, one], "named": {"x": one}, "nested": {"frames": two}}
    found = references_of(Show.model_validate({**data, "anything": two}))
    mask, frames = (Reference("a", "mask"), OutputKind("mask")), (Reference("b", "frames"), OutputKind("frames"))
    assert found == {
        ("mask",): mask,
        ("spare",): mask,
        ("more", 0): mask,
        ("more", 1): mask,
        ("named", "x"): mask,
        ("nested", "frames"): frames,
        ("anything",): (Reference("b", "frames"), OutputKind("any")),
    }
    assert references_of(Train()) == {}


OUTPUTS = {"train": {"mask": "mask", "weights": "model"}, "show": {}, "capture": {"frames": "frames"}}


def problems(**shown: Any) -> list[str]:
    """What is wrong with a protocol train → show → capture in which `show` has the settings `shown`."""
    settings = "".join(f"    {key}: {value}\n" for key, value in shown.items())
    text = f"steps:\n  train: {{epochs: 1}}\n  show:\n{settings}  capture: {{epochs: 1}}\n"
    located = loads(text, "p.yaml")
    models = {"train": Train(), "show": Show.model_validate(located.at(("steps", "show"))), "capture": Train()}
    steps = {name: (model, OUTPUTS[name]) for name, model in models.items()}
    return [str(problem) for problem in check_references(steps, located, ("steps",))]


def test_references_to_earlier_outputs_of_the_right_kind_are_fine():
    assert problems(mask="${steps.train.mask}", anything="${steps.train.weights}", note="costs $5") == []


@pytest.mark.parametrize(
    ("reference", "line"),
    [
        (
            "${steps.trian.mask}",
            "${steps.trian.mask}: there is no step 'trian'; did you mean `train`? the steps before 'show' are train",
        ),
        (
            "${steps.capture.mask}",
            "${steps.capture.mask}: the step 'capture' runs after 'show'; move it up; "
            "the steps before 'show' are train",
        ),
        (
            "${steps.show.mask}",
            "${steps.show.mask} refers to the step itself; the steps before 'show' are train",
        ),
        (
            "${steps.train.masks}",
            "${steps.train.masks}: the step 'train' has no output 'masks'; did you mean `mask`? "
            "its outputs are mask (mask), weights (model)",
        ),
        (
            "${steps.train.weights}",
            "${steps.train.weights} is of the kind 'model', 'mask' is needed here; "
            "of that kind are ${steps.train.mask}",
        ),
    ],
)
def test_a_reference_that_does_not_fit_says_what_does(reference, line):
    assert problems(mask=reference) == [f"p.yaml:4:11: steps.show.mask: {line}"]


def test_a_reference_to_a_kind_that_nobody_makes_says_so():
    nested = "{frames: '${steps.train.mask}'}"
    assert problems(mask="${steps.train.mask}", nested=nested) == [
        "p.yaml:5:22: steps.show.nested.frames: ${steps.train.mask} is of the kind 'mask', 'frames' is needed here; "
        "no earlier step makes one"
    ]


def test_in_the_first_step_nothing_can_be_referred_to():
    located = loads("steps:\n  one:\n    start: ${steps.two.mask}\n", "p.yaml")
    steps = {"one": (Train(start=Reference("two", "mask")), {})}
    assert [str(problem) for problem in check_references(steps, located, ("steps",))] == [
        "p.yaml:3:12: steps.one.start: ${steps.two.mask}: there is no step 'two'; no step comes before 'one'"
    ]


def test_placeholders_that_nothing_fills_in_are_problems():
    assert problems(mask="${steps.train.mask}", note="from ${HOME}") == [
        "p.yaml:5:11: steps.show.note: 'from ${HOME}' is not filled in; "
        "only a whole ${steps.NAME.OUTPUT} is, where a setting takes a reference"
    ]
    assert problems(mask="${steps.train.mask}", note="${steps.train.mask}") == [
        "p.yaml:5:11: steps.show.note: ${steps.train.mask} stands where no reference is taken; give the value itself"
    ]


def test_references_cannot_change():
    with pytest.raises(AttributeError):
        Reference("a", "b").step = "c"  # type: ignore[misc]
    with pytest.raises(ValidationError):
        Show(mask="x")  # type: ignore[arg-type]
