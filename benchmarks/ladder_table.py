"""The ladder as a table and a picture: every rung with interval, difference and distance to the ceiling."""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

import numpy as np
from ladder_statistics import Spread, crossed_interval

if TYPE_CHECKING:
    from matplotlib.figure import Figure

HOW = """\
Accuracy on the test split in %, mean over rigs x seeds. In brackets the 95 % interval for other rigs and other training
seeds, both drawn: rigs and seeds are crossed random effects, the variance of the mean is (MS_rig + MS_seed - MS_rest) /
(R S) or the largest of the three, with Satterthwaite's degrees of freedom. Differences are paired cell by cell (same
rig, same seed, same test pictures), and their intervals are made the same way. Left out: other test pictures, which are
the same in all cells. Only rigs for which a rung was reached with every seed count; a fit that was refused leaves its
rungs out, and `cells` says how many there are.
"""


@dataclass(frozen=True)
class Rung:
    """One rung. step: the `evaluate` step of the protocol that measures it. labels: labelled captures it learned from.

    before: the rung that it is compared with; None for the first.
    """

    name: str
    title: str
    step: str
    before: str | None
    labels: str = "0"


@dataclass(frozen=True)
class Row:
    """One line of the table; a difference is None where the cells of both rungs do not meet."""

    rung: Rung
    accuracy: Spread
    to_before: Spread | None
    to_ceiling: Spread | None


def rows_of(cells: Sequence[Mapping[str, Any]], rungs: Sequence[Rung], ceiling: str) -> list[Row]:
    """Rows of the rungs that at least one rig reached with every seed."""
    tables = {rung.name: _table(cells, rung.name) for rung in rungs}
    rows = []
    for rung in rungs:
        there = tables[rung.name]
        if not there:
            continue
        before = tables[rung.before] if rung.before else {}
        above = tables[ceiling] if rung.name != ceiling else {}
        rows.append(
            Row(rung, crossed_interval(list(there.values())), _difference(there, before), _difference(there, above))
        )
    return rows


def as_markdown(title: str, rows: Sequence[Row], cells: Sequence[Mapping[str, Any]]) -> str:
    """The table of one data set."""
    majority = np.mean([cell["majority"] for cell in cells])
    tests = sorted({cell["n_test"] for cell in cells})
    lines = [
        f"### {title}",
        "",
        f"Majority baseline {100 * majority:.1f} %; {', '.join(map(str, tests))} test pictures; "
        f"{len({cell['rig'] for cell in cells})} rigs x {len({cell['seed'] for cell in cells})} seeds.",
        "",
        "| rung | accuracy | minus the rung in brackets | minus the ceiling | sd rig / seed / rest | labels | cells |",
        "|---|---|---|---|---|---|---|",
    ]
    for row in rows:
        spreads = "–"
        if not math.isnan(row.accuracy.rig_sd):
            parts = (row.accuracy.rig_sd, row.accuracy.seed_sd, row.accuracy.rest_sd)
            spreads = " / ".join(f"{100 * sd:.1f}" for sd in parts)
        cells_of = (
            row.rung.title,
            _in_words(row.accuracy),
            "–" if row.to_before is None else f"{_in_words(row.to_before, sign=True)} ({row.rung.before})",
            "–" if row.to_ceiling is None else _in_words(row.to_ceiling, sign=True),
            spreads,
            row.rung.labels,
            str(row.accuracy.cells),
        )
        lines.append("| " + " | ".join(cells_of) + " |")
    return "\n".join(lines) + "\n"


def facts_as_markdown(cells: Sequence[Mapping[str, Any]]) -> str:
    """What the fits and the loops said of themselves: median (least to most) over all cells, and what failed."""
    values: dict[str, list[float]] = {}
    for cell in cells:
        for name, value in cell["facts"].items():
            values.setdefault(name, []).append(float(value))
    lines = ["| quantity | median | least | most | cells |", "|---|---|---|---|---|"]
    lines += [
        f"| {name} | {np.median(found):.4g} | {min(found):.4g} | {max(found):.4g} | {len(found)} |"
        for name, found in values.items()
    ]
    failed = [
        f"- rig {cell['rig']}, seed {cell['seed']}: {step}: {why}"
        for cell in cells
        for step, why in cell["failed"].items()
    ]
    return "\n".join([*lines, "", "Refused or failed:" if failed else "No step was refused or failed.", *failed]) + "\n"


def draw(ladders: Mapping[str, tuple[Sequence[Row], float]], ceiling: str) -> Figure:
    """Rungs from top to bottom, one column for each data set. ladders: title → (rows, majority baseline)."""
    from matplotlib import rc_context
    from matplotlib.figure import Figure

    from labctl.frames.figure_style import COMMON, INK, SOFT

    titles = list(dict.fromkeys(row.rung.title for rows, _ in ladders.values() for row in rows))
    place = {title: -number for number, title in enumerate(titles)}
    with rc_context(COMMON):
        figure = Figure(figsize=(3.0 + 2.6 * len(ladders), 0.9 + 0.27 * len(titles)), layout="constrained")
        panels = figure.subplots(1, len(ladders), sharey=True, squeeze=False)[0]
        for axes, (name, (rows, majority)) in zip(panels, ladders.items(), strict=True):
            for row in rows:
                colour = "#009E73" if row.rung.labels != "0" else "#D55E00"
                colour = {ceiling: INK, "ideal": "#0072B2"}.get(row.rung.name, colour)
                mean, low, high = (100 * v for v in (row.accuracy.mean, row.accuracy.low, row.accuracy.high))
                y = place[row.rung.title]
                if row.rung.name == ceiling and not math.isnan(low):
                    axes.axvspan(low, high, color=INK, alpha=0.08, linewidth=0)
                axes.plot([low, high], [y, y], color=colour, linewidth=1.6, solid_capstyle="butt")
                axes.plot(mean, y, "o", color=colour, markersize=4)
                right = mean if math.isnan(high) else high
                axes.annotate(f"{mean:.1f}", (right, y), (4, 0), textcoords="offset points", va="center", fontsize=6.5)
            axes.axvline(100 * majority, color=SOFT, linestyle="--", linewidth=0.8)
            axes.set(title=name, xlabel="accuracy on the test split / %", xlim=(0, 108))
            axes.grid(axis="x")
            axes.set_axisbelow(True)
        panels[0].set_yticks([place[title] for title in titles], titles)
        panels[0].set_ylim(-len(titles) + 0.4, 0.6)
        figure.supxlabel(
            "blue: simulated frames; orange: without labelled captures; green: with; black: the ceiling, its interval "
            "shaded; dashed: majority",
            fontsize=6.5,
            color=SOFT,
        )
    return figure


def _table(cells: Sequence[Mapping[str, Any]], rung: str) -> dict[int, list[float]]:
    """Rig → accuracies by seed, for rigs that reached the rung with every seed there is."""
    seeds = sorted({cell["seed"] for cell in cells})
    found = {(cell["rig"], cell["seed"]): cell["rungs"][rung] for cell in cells if rung in cell["rungs"]}
    rigs = sorted({rig for rig, _ in found})
    return {rig: [found[rig, seed] for seed in seeds] for rig in rigs if all((rig, seed) in found for seed in seeds)}


def _difference(ours: Mapping[int, list[float]], theirs: Mapping[int, list[float]]) -> Spread | None:
    both = [rig for rig in ours if rig in theirs]
    if not both:
        return None
    return crossed_interval(np.array([ours[rig] for rig in both]) - np.array([theirs[rig] for rig in both]))


def _in_words(spread: Spread, *, sign: bool = False) -> str:
    form = "+.1f" if sign else ".1f"
    if math.isnan(spread.low):
        return f"{100 * spread.mean:{form}}"
    return f"{100 * spread.mean:{form}} [{100 * spread.low:{form}}, {100 * spread.high:{form}}]"
