"""The section that puts a run beside a published table: numbers, order of merit, and what a reader must know."""

from __future__ import annotations

import itertools
import json
from collections.abc import Mapping, Sequence
from functools import cache
from importlib.resources import files
from typing import TYPE_CHECKING, Any, Literal

from labctl.errors import BadInput, RunFailed
from labctl.frozen import Frozen
from labctl.suggest import one_of

if TYPE_CHECKING:
    from protocols.metrics import Interval
    from protocols.report.page import Block
    from protocols.report.tables import Evidence, FramePairs, Score

Quantity = Literal["accuracy", "blurriness", "aperture"]

FEWEST = 3
"""Patterns below which an order says nothing."""


class Published(Frozen):
    """Which published numbers a report puts beside those of the run."""

    table: Literal["lensless-2023"] = "lensless-2023"

    column: str = "ms-63-32"
    """Column of the table: its data set and sizes."""

    patterns: dict[str, str]
    """Name of the pattern in the table by name of the design here. Other designs stand in the table without a rival."""

    def check(self, designs: Sequence[str], at: tuple[str | int, ...]) -> None:
        """Raise BadInput for a column, pattern or design that is not there."""
        known = read_published(self.table)
        if self.column not in known["columns"]:
            text = f"'{self.column}' is no column of {self.table}; {one_of(self.column, list(known['columns']))}"
            raise BadInput(text, at=(*at, "column"))
        for design, pattern in self.patterns.items():
            if pattern not in known["patterns"]:
                text = f"'{pattern}' is no pattern of {self.table}; {one_of(pattern, known['patterns'])}"
                raise BadInput(text, at=(*at, "patterns", design))
            if design not in designs:
                text = f"'{design}' is no design of this protocol; {one_of(design, list(designs))}"
                raise BadInput(text, at=(*at, "patterns", design))


@cache
def read_published(table: str) -> dict[str, Any]:
    """The published table of this name; see the files in `protocols/report/published`."""
    found: dict[str, Any] = json.loads((files("protocols.report") / "published" / f"{table}.json").read_text("utf-8"))
    return found


def rank_correlation(ours: Mapping[str, float], theirs: Mapping[str, float]) -> tuple[float, float, int] | None:
    """Spearman's rho, Kendall's tau-b and the number of patterns that both know; None for fewer than FEWEST."""
    from scipy.stats import kendalltau, spearmanr

    both = [name for name in ours if name in theirs]
    if len(both) < FEWEST:
        return None
    a, b = [ours[name] for name in both], [theirs[name] for name in both]
    return float(spearmanr(a, b).statistic), float(kendalltau(a, b).statistic), len(both)


def reversed_pairs(ours: Mapping[str, float], theirs: Mapping[str, float]) -> list[tuple[str, str]]:
    """Pairs (better there, better here) that the two put in opposite order."""
    both = [name for name in ours if name in theirs]
    pairs = []
    for a, b in itertools.combinations(both, 2):
        here, there = ours[a] - ours[b], theirs[a] - theirs[b]
        if here * there < 0:
            pairs.append((a, b) if there > 0 else (b, a))
    return pairs


def paper_section(evidence: Evidence, pairs: dict[str, list[FramePairs]]) -> list[Block]:
    """Nothing unless the `report` step names a published table."""
    from protocols.report import tables
    from protocols.report.page import Picture, Text
    from protocols.report.paper_figure import Point, trade_off_figure

    settings = _asked_for(evidence)
    if settings is None:
        return []
    published = read_published(settings.table)
    column = published["columns"][settings.column]
    found = tables.scores(evidence)
    judged = next((score.step for score in found if score.stage == "simulated"), found[0].step if found else None)
    scores = {score.design: score for score in found if score.step == judged}
    if not scores:
        raise RunFailed("no evaluation has finished, so there is nothing to put beside the published numbers")
    ours = _ours(scores)
    their = {q: _by_design(settings, column.get(q, {})) for q in ("accuracy", "blurriness", "aperture")}
    doubtful = {q: set(names) for q, names in column.get("doubtful", {}).items()}
    points = [
        Point(
            design,
            "here",
            ours["blurriness"][design],
            100 * s.interval.mean,
            100 * s.interval.low,
            100 * s.interval.high,
        )
        for design, s in scores.items()
        if design in ours["blurriness"]
    ]
    points += [
        Point(design, "published", their["blurriness"][design], value, value, value)
        for design, value in their["accuracy"].items()
        if design in scores
        and design in their["blurriness"]
        and settings.patterns[design] not in doubtful.get("blurriness", set())
    ]
    return [
        Text(
            f"Beside {published['title']}: {column['what']}. The published numbers are of other pictures than these: "
            "what can be compared is the order, not the digits."
        ),
        _table(settings, scores, ours, their),
        *_order(scores, ours, their),
        Picture(
            "paper-accuracy-against-blurriness",
            trade_off_figure(points),
            "Accuracy against blurriness of noise-free frames; filled: this run with its 95 % intervals, hollow: "
            "published. A camera that hides more and tells more stands further to the upper right, as far as blur "
            "hides anything: see the attacks.",
        ),
        *(Text(text, "careful") for text in column.get("careful", [])),
        *(Text(text) for text in published["ambiguities"]),
    ]


def _asked_for(evidence: Evidence) -> Published | None:
    for step in evidence.protocol.steps.values():
        asked: Published | None = getattr(step, "published", None)
        if asked is not None:
            return asked
    return None


def _ours(scores: Mapping[str, Score]) -> dict[str, dict[str, float]]:
    ours: dict[str, dict[str, float]] = {"accuracy": {}, "blurriness": {}, "aperture": {}}
    for design, score in scores.items():
        ours["accuracy"][design] = score.interval.mean
        blur = score.mean("blurriness_noise_free")
        blur = score.mean("blurriness") if blur is None else blur
        for quantity, value in (("blurriness", blur), ("aperture", score.mean("aperture_ratio"))):
            if value is not None:
                ours[quantity][design] = value
    return ours


def _by_design(settings: Published, by_pattern: Mapping[str, float]) -> dict[str, float]:
    return {design: by_pattern[name] for design, name in settings.patterns.items() if name in by_pattern}


def _table(
    settings: Published,
    scores: Mapping[str, Score],
    ours: Mapping[str, Mapping[str, float]],
    their: Mapping[str, Mapping[str, float]],
) -> Block:
    from protocols.report import tables
    from protocols.report.page import Table

    ranks = {"here": _ranks(ours["accuracy"], settings.patterns), "there": _ranks(their["accuracy"], scores)}
    rows = []
    for design, score in scores.items():
        rows.append(
            [
                design,
                settings.patterns.get(design, "–"),
                tables.percent(score.interval),
                _number(their["accuracy"].get(design), "{:.2f} %"),
                f"{ranks['here'].get(design, '–')} / {ranks['there'].get(design, '–')}",
                _number(ours["blurriness"].get(design), "{:.3f}"),
                _number(their["blurriness"].get(design), "{:.3f}"),
                _number(ours["aperture"].get(design), "{:.3f}"),
                _number(their["aperture"].get(design), "{:.3f}"),
            ]
        )
    head = [
        "design", "pattern", "accuracy", "published", "place here / there", "blur, noise-free", "published",
        "aperture ratio", "published",
    ]  # fmt: skip
    return Table(head, rows, "Places count only patterns of the published table that this run has; 1 is the best.")


def _order(
    scores: Mapping[str, Score],
    ours: Mapping[str, Mapping[str, float]],
    their: Mapping[str, Mapping[str, float]],
) -> list[Block]:
    from protocols.report import tables
    from protocols.report.page import Table, Text

    words = []
    for quantity, name in (("accuracy", "accuracy"), ("blurriness", "blurriness"), ("aperture", "aperture ratio")):
        found = rank_correlation(ours[quantity], their[quantity])
        if found is not None:
            rho, tau, n = found
            words.append(f"{name} Spearman {rho:+.2f}, Kendall {tau:+.2f} over {n} patterns")
    blocks: list[Block] = [Text(f"Agreement of the orders (1 is the same order): {'; '.join(words)}.")] if words else []
    rows = []
    for there, here in reversed_pairs(ours["accuracy"], their["accuracy"]):
        gap: Interval = tables.difference(scores[here], scores[there])[0]
        lead = f"{their['accuracy'][there] - their['accuracy'][here]:.2f}"
        rows.append([there, here, lead, tables.points(gap), "yes" if gap.low > 0 else "no"])
    if rows:
        head = ["ahead there", "ahead here", "lead there (points)", "lead here (paired)", "told apart here"]
        blocks.append(Table(head, rows, "Pairs that stand in another order here than there, by accuracy."))
    return blocks


def _ranks(values: Mapping[str, float], among: Any) -> dict[str, int]:
    kept = sorted((name for name in values if name in among), key=lambda name: -values[name])
    return {name: place for place, name in enumerate(kept, 1)}


def _number(value: float | None, form: str) -> str:
    return "–" if value is None else form.format(value)
