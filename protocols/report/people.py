"""The section on people: how often they knew who was in a captured frame."""

from __future__ import annotations

import json
from typing import Any

from protocols.report.optics import Pairs
from protocols.report.page import Block, Picture, Table, Text
from protocols.report.tables import Evidence, share


def people_section(evidence: Evidence, pairs: Pairs) -> list[Block]:
    """For each study: a table by design, the figure, and what to be careful about."""
    from protocols.report.figures import Drawing

    blocks: list[Block] = []
    for made in evidence.of("study"):
        path = made.path("study")
        told: dict[str, Any] = json.loads(path.read_text())
        png, svg, pdf = ((path.parent / f"study.{form}").read_bytes() for form in ("png", "svg", "pdf"))
        blocks += [
            Text(_summary(told)),
            *(Text(f"Careful: {line}.", "careful") for line in told["careful"]),
            Table(
                [
                    "design",
                    "people right",
                    "interval",
                    "answers",
                    "against chance",
                    "median time",
                    "blur of the frames",
                ],
                [_row(one, told["chance"]) for one in told["designs"]],
                "Share of right answers with its 95 % interval. The bootstrap draws whole participants with all their "
                "answers. Above: the whole interval is above chance. People do not train on such frames: where they "
                "cannot tell, a network still may.",
            ),
            Picture(f"people-{made.instance.name}", Drawing(png, svg, pdf), _caption(told)),
        ]
    return blocks


def people_in_words(evidence: Evidence) -> str:
    """For the head of a page without accuracies: what each study found; empty without a study."""
    return " ".join(_summary(json.loads(made.path("study").read_text())) for made in evidence.of("study"))


def _summary(told: dict[str, Any]) -> str:
    people, all_ = told["participants"], told["overall"]
    return (
        f"{people} {'person' if people == 1 else 'people'} chose among {told['choices']} reference pictures who is in "
        f"a captured frame, {told['answers']} times; {share(all_['accuracy'])} of the answers are right "
        f"[{share(all_['low'])}, {share(all_['high'])}]; guessing gives {share(told['chance'])}."
    )


def _caption(told: dict[str, Any]) -> str:
    text = "Left: by design. Right: against the blurriness of the frames as captured; grey: answers of like blurriness."
    curve = told["curve"]
    if curve is None:
        return f"{text} No curve: {told['no_curve']}."
    low, high = told["middle_interval"]
    return f"{text} The fitted curve is half-way to chance at {curve['middle']:.3f} [{low:.3f}, {high:.3f}]."


def _row(one: dict[str, Any], chance: float) -> list[str]:
    found, time = one["share"], one["median_response_ms"]
    return [
        one["design"],
        f"{share(found['accuracy'])} [{share(found['low'])}, {share(found['high'])}]",
        found["method"],
        str(found["answers"]),
        "above" if one["above_chance"] else "not told apart" if found["high"] >= chance else "below",
        "–" if time is None else f"{time / 1000:.2f} s",
        "–" if one["blurriness"] is None else f"{one['blurriness']:.3f}",
    ]
