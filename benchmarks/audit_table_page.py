"""The audit table as Markdown and as a picture, from its cells."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np

if TYPE_CHECKING:
    from protocols.attack.table import Row
    from protocols.metrics import Interval

COLUMNS = (
    ("identity", "frame", "identity from frames"),
    ("expression", "frame", "expression from frames"),
    ("reidentification", "centre", "re-identified, centre"),
    ("reidentification", "field", "re-identified, whole"),
    ("ssim", "centre", "SSIM, centre"),
    ("ssim", "field", "SSIM, whole"),
)
"""Goal, where it is judged, heading."""

HOW = """\
The strongest attacker of each kind that succeeds on the undegraded picture, 95 % bootstrap interval over test pictures,
seeds together. Identity is the task itself here: who recognises frames gets what the task gets.
"""


APART = ("long", "networks", "learned_whole")
"""Steps that only some designs were attacked by: told in the list of all attackers, not compared."""


def write_page(cells: Sequence[Mapping[str, Any]], out: Path) -> None:
    """`audit.md` and `audit.png` in `out`."""
    if not cells:
        raise SystemExit(f"there are no cells in {out}")
    text = [HOW]
    for stage in ("simulated", "captured"):
        own = [cell for cell in cells if cell["stage"] == stage]
        if own:
            text += [f"### {stage} frames", "", *_strongest(own), "", *_differences(own), ""]
    text += ["### All attackers", "", *_everyone(cells)]
    (out / "audit.md").write_text("\n".join(text) + "\n")
    (out / "audit.png").write_bytes(_picture(cells))


def rows_in(cells: Sequence[Mapping[str, Any]], *, with_apart: bool = False) -> list[Row]:
    """Attacks of the cells as the audit step gathers them."""
    from protocols.attack.record import Attack
    from protocols.attack.table import rows_of

    attacks = []
    for cell in cells:
        for told in cell["attacks"]:
            if told["step"] in APART and not with_apart:
                continue
            accuracy = told["measure"] == "accuracy"
            plain = {name: value for name, value in told.items() if name not in _DERIVED}
            if told["step"] == "long":
                plain["attacker"] += " (four times the budget)"
            items = np.array(told["items"], dtype=bool if accuracy else float)
            ids = np.arange(len(items), dtype=np.int64)
            attack = Attack(**{**plain, "items": items, "sample_ids": ids, "control": np.array([told["control"]])})
            attacks.append((cell["design"], cell["seed"], attack))
    return rows_of(attacks)


_DERIVED = frozenset({"step", "measure", "mean", "reached", "proven", "n_test", "items", "control"})


def _strongest(cells: Sequence[Mapping[str, Any]]) -> list[str]:
    from protocols.attack.table import strongest, value_words

    rows = rows_in(cells)
    lines = [
        "| design | knob | seeds | open | blurriness | task accuracy | "
        + " | ".join(heading for *_, heading in COLUMNS)
        + " |",
        "|---" * (6 + len(COLUMNS)) + "|",
    ]
    for design, own in _by_design(cells).items():
        best = [strongest(rows, design, goal, where=where) for goal, where, _ in COLUMNS]
        told = [
            "–" if row is None else f"{value_words(row.interval, row.first.goal)} ({row.first.attacker})"
            for row in best
        ]
        open_share = float(np.mean([cell["aperture_ratio"] for cell in own]))
        blurs = [cell["blurriness"] for cell in own if cell["blurriness"] is not None]
        blur = f"{np.mean(blurs):.2f}" if blurs else "–"
        accuracy = value_words(_accuracy(own), "identity")
        seeds = ", ".join(str(cell["seed"]) for cell in own)
        lines.append(
            f"| {design} | {own[0]['knob']} | {seeds} | {open_share:.3f} | {blur} | {accuracy} | "
            + " | ".join(told)
            + " |"
        )
    chances = [next((r.chance for r in rows if (r.first.goal, r.first.where) == (g, w)), None) for g, w, _ in COLUMNS]
    cleans = [
        max((r.reached for r in rows if (r.first.goal, r.first.where) == (g, w)), default=None) for g, w, _ in COLUMNS
    ]
    for name, values in (("no camera", chances), ("undegraded picture", cleans)):
        lines.append(f"| *{name}* | | | | | | " + " | ".join("–" if v is None else f"{v:.2f}" for v in values) + " |")
    return lines


def _differences(cells: Sequence[Mapping[str, Any]]) -> list[str]:
    """The strongest attacker on each design minus the strongest on the learned mask, paired by test picture."""
    from protocols.attack.table import strongest
    from protocols.metrics import mean_interval

    rows, by_design = rows_in(cells), _by_design(cells)
    if "learned" not in by_design:
        return []
    lines = [
        "Minus the learned mask, paired by seed and test picture:",
        "",
        "| design | task accuracy | " + " | ".join(heading for *_, heading in COLUMNS) + " |",
        "|---" * (2 + len(COLUMNS)) + "|",
    ]
    for design, own in by_design.items():
        if design == "learned":
            continue
        theirs = {cell["seed"]: cell for cell in by_design["learned"]}
        shared = [cell["seed"] for cell in own if cell["seed"] in theirs]
        if not shared:
            continue
        gap = [
            np.array(next(c for c in own if c["seed"] == seed)["right"], float) - np.array(theirs[seed]["right"], float)
            for seed in shared
        ]
        told = [_gap_words(mean_interval(gap), "identity")]
        for goal, where, _ in COLUMNS:
            ours, other = (strongest(rows, name, goal, where=where) for name in (design, "learned"))
            if ours is None or other is None:
                told.append("–")
                continue
            pairs = [
                ours.by_seed[s].items.astype(float) - other.by_seed[s].items.astype(float)
                for s in shared
                if s in ours.by_seed and s in other.by_seed
            ]
            told.append(_gap_words(mean_interval(pairs), goal) if pairs else "–")
        lines.append(f"| {design} | " + " | ".join(told) + " |")
    return lines


def _everyone(cells: Sequence[Mapping[str, Any]]) -> list[str]:
    from protocols.attack.table import value_words

    lines = [
        "| frames | design | goal | where | attacker | knows | gets | no camera | control (needed) | |",
        "|---" * 10 + "|",
    ]
    for row in rows_in(cells, with_apart=True):
        first = row.first
        says = ("" if row.proven else "proves nothing; ") + ("" if row.converged else "budget ended first; ")
        lines.append(
            f"| {first.stage} | {row.design} | {first.goal} | {first.where} | {first.attacker} | {first.knows} | "
            f"{value_words(row.interval, first.goal)} | {row.chance:.3g} | {row.reached:.2f} ({row.needed:.2f}) | "
            f"{says}{first.note} |"
        )
    return lines


def _picture(cells: Sequence[Mapping[str, Any]]) -> bytes:
    from protocols.attack.table import strongest
    from protocols.report.audit_figures import Panel, Point, tradeoff_figure

    panels = []
    for goal, where, heading in COLUMNS:
        scale = 1.0 if goal == "ssim" else 100.0
        points, chances, cleans = [], [], []
        for stage in ("simulated", "captured"):
            own = [cell for cell in cells if cell["stage"] == stage]
            rows = rows_in(own)
            for design, parts in _by_design(own).items():
                best = strongest(rows, design, goal, where=where, stage=stage)
                if best is None:
                    continue
                chances.append(best.chance)
                cleans.append(best.reached)
                points.append(
                    Point(design, stage == "captured", _scaled(_accuracy(parts), 100), _scaled(best.interval, scale))
                )
        clean = scale * float(np.mean(cleans)) if cleans and goal != "ssim" else None
        chance = scale * float(np.mean(chances)) if chances else 0.0
        panels.append(Panel(heading, "SSIM" if goal == "ssim" else "named right (%)", points, chance, clean))
    return tradeoff_figure([panel for panel in panels if panel.points], "task accuracy (%)").png


def _by_design(cells: Sequence[Mapping[str, Any]]) -> dict[str, list[Mapping[str, Any]]]:
    found: dict[str, list[Mapping[str, Any]]] = {}
    for cell in sorted(cells, key=lambda cell: cell["seed"]):
        found.setdefault(cell["design"], []).append(cell)
    return found


def _accuracy(cells: Sequence[Mapping[str, Any]]) -> Interval:
    from protocols.metrics import accuracy_interval

    return accuracy_interval([np.array(cell["right"], dtype=bool) for cell in cells])


def _gap_words(gap: Interval, goal: str) -> str:
    scale, form = (1.0, "+.2f") if goal == "ssim" else (100.0, "+.1f")
    return f"{scale * gap.mean:{form}} [{scale * gap.low:{form}}, {scale * gap.high:{form}}]".replace("-", "−")


def _scaled(interval: Interval, scale: float) -> tuple[float, float, float]:
    return scale * interval.mean, scale * interval.low, scale * interval.high
