"""The section on the error budget: which error of the bench costs how much, in DN and in accuracy."""

from __future__ import annotations

import json
from collections.abc import Sequence
from typing import TYPE_CHECKING, Any

from protocols.report.optics import Pairs, file_name
from protocols.report.page import Block, Fold, Picture, Table, Text
from protocols.report.tables import Evidence, Made, ms, share

if TYPE_CHECKING:
    from protocols.report.budget_figure import Bars


def budget_section(evidence: Evidence, pairs: Pairs) -> list[Block]:
    """One table and one figure for each design; of several seeds the first, and what the others say of its ends."""
    blocks: list[Block] = []
    found = evidence.of("error_budget")
    for design in evidence.designs:
        for step in dict.fromkeys(made.instance.name for made in found):
            own = [made for made in found if (made.design, made.instance.name) == (design, step)]
            if own:
                blocks += _of_design(own, len(evidence.designs) > 1 or len({m.instance.name for m in found}) > 1)
    return blocks


def _of_design(own: Sequence[Made], several: bool) -> list[Block]:
    first, budgets = own[0], [json.loads(made.path("budget").read_text()) for made in own]
    budget = budgets[0]
    name = first.instance.key if several else f"seed {first.instance.seed}"
    blocks: list[Block] = [Text(_summary(budget, name))]
    if len(budgets) > 1:
        blocks.append(Text(_other_seeds(own[1:], budgets[1:])))
    blocks += [Text(f"Careful: {text}.", "careful") for text in budget["careful"]]
    changed = "\n".join(f"{term['title']:<28} {term['text']}" for term in _by_size(budget))
    return [
        *blocks,
        _table(budget, name),
        _picture(budget, f"budget-{file_name(first.instance.key)}"),
        Fold(f"What each error is, nominal → fitted ({name})", changed),
    ]


def _summary(budget: dict[str, Any], name: str) -> str:
    nominal, fitted, captured, sums = (budget[part] for part in ("nominal", "fitted", "captured", "interactions"))
    text = (
        f"{name}: frames of the nominal twin differ from {budget['scenes']} captured ones by "
        f"{nominal['in_noise']:.1f} times the noise ({nominal['rms_dn']:.0f} DN RMS), frames of the fitted twin by "
        f"{fitted['in_noise']:.2f} times ({fitted['rms_dn']:.0f} DN); noise alone is {budget['noise_rms_dn']:.0f} DN. "
        f"The classifier as it was trained is right in {share(nominal['accuracy'])} of simulated frames, "
        f"{share(fitted['accuracy'])} of frames of the fitted twin and {share(captured['accuracy'])} of captured ones "
        f"[{share(captured['accuracy_low'])}, {share(captured['accuracy_high'])}]; the majority class is "
        f"{share(captured['majority'])}."
    )
    if sums["explained_shape_sum"] is not None:
        text += (
            f" Taken alone, the errors below explain {share(sums['explained_shape_sum'])} of the difference in shape "
            f"together (100 % if they did not interact), and change the accuracy by {_points(sums['accuracy_sum'])} "
            f"points; all at once change it by {_points(sums['accuracy_whole'])}."
        )
    return text


def _other_seeds(own: Sequence[Made], budgets: Sequence[dict[str, Any]]) -> str:
    told = [
        f"seed {made.instance.seed}: {budget['nominal']['in_noise']:.1f} → {budget['fitted']['in_noise']:.2f} noise "
        f"floors, accuracy {share(budget['nominal']['accuracy'])} → {share(budget['fitted']['accuracy'])} "
        f"(captured {share(budget['captured']['accuracy'])})"
        for made, budget in zip(own, budgets, strict=True)
    ]
    return f"Other seeds, nominal → fitted: {'; '.join(told)}."


def _table(budget: dict[str, Any], name: str) -> Table:
    rows = []
    for term in _by_size(budget):
        alone, without = term["alone"], term["without"]
        rows.append(
            [
                term["title"],
                f"{alone['in_noise']:.1f}",
                f"{_whole(alone['explained_shape'])}",
                _change(alone["change"]),
                f"{without['in_noise']:.1f}",
                f"{_whole(without['explained_shape'])}",
                _change(without["change"]),
            ]
        )
    for title, end in (("none of them", "nominal"), ("all of them", "fitted")):
        change = _change(budget[end]["change"]) if end == "fitted" else "–"
        rows.append([f"{title} (the {end} twin)", f"{budget[end]['in_noise']:.1f}", "", change, "", "", ""])
    return Table(
        [
            "error",
            "with it alone: RMS (noise)",
            "shape explained",
            "accuracy (points)",
            "all but it: RMS (noise)",
            "shape lost",
            "accuracy (points)",
        ],
        rows,
        "Each error of the fitted twin put into the nominal twin alone, and taken out of the fitted twin alone; "
        f"predicted without noise against captured frames, exposed for {ms(budget['exposure_s']['simulated'])} in "
        f"simulation and {ms(budget['exposure_s']['captured'])} on the rig. RMS: over all pixels, in units of the "
        f"noise of the captured frames ({budget['noise_rms_dn']:.0f} DN), which is in it. Shape: the mean square that "
        "is left after one gain and one offset bring all predicted frames nearest to the captured ones, as a share of "
        "what the fitted twin explains of it. Accuracy: change against the nominal, or the fitted, twin, of the "
        "classifier as it was trained, on frames with noise, paired 95 % interval over scenes. Errors hide one "
        "another: one that alone makes things worse (negative) may be needed beside the others.",
    )


def _picture(budget: dict[str, Any], name: str) -> Picture:
    from protocols.report.budget_figure import budget_figure

    return Picture(
        name,
        budget_figure([term["title"] for term in _by_size(budget)], panels_of(budget)),
        "Bars begin at the nominal twin (blue line) and at the fitted twin (orange line). An error that explains much "
        "has a blue bar that reaches towards the orange line, and an orange bar that reaches back.",
    )


def panels_of(budget: dict[str, Any]) -> list[Bars]:
    """What the figure shows: two differences in units of the noise, and the accuracy."""
    from protocols.report.budget_figure import Bars

    terms, floor = _by_size(budget), budget["noise_rms_dn"]

    def bars(label: str, key: str, scale: float, marks: dict[str, float]) -> Bars:
        alone, without = ([scale * term[side][key] for term in terms] for side in ("alone", "without"))
        nominal, fitted = (scale * budget[end][key] for end in ("nominal", "fitted"))
        return Bars(label, nominal, fitted, alone, without, marks)

    return [
        bars("RMS difference (noise floors)", "rms_dn", 1 / floor, {"noise floor": 1.0}),
        bars("after gain and offset (noise floors)", "shape_rms_dn", 1 / floor, {"noise floor": 1.0}),
        bars("accuracy (%)", "accuracy", 100.0, {"captured": 100 * budget["captured"]["accuracy"]}),
    ]


def _by_size(budget: dict[str, Any]) -> list[dict[str, Any]]:
    """Largest first: by what is lost in shape without it, and alone."""

    def size(term: dict[str, Any]) -> float:
        return max(abs(term[side]["explained_shape"] or 0.0) for side in ("alone", "without"))

    return sorted(budget["terms"], key=size, reverse=True)


def _change(change: Sequence[float]) -> str:
    return f"{_points(change[0])} [{_points(change[1])}, {_points(change[2])}]"


def _points(value: float) -> str:
    text = f"{100 * value:+.1f}"
    return "0.0" if float(text) == 0 else text.replace("-", "−")


def _whole(value: float | None) -> str:
    return "–" if value is None else f"{100 * value:.0f} %".replace("-0 ", "0 ").replace("-", "−")
