"""The section on privacy: what the strongest attackers got, what a verdict rests on, and all attacks."""

from __future__ import annotations

from collections.abc import Sequence
from itertools import product
from typing import TYPE_CHECKING, Any

import numpy as np

from labctl.errors import LabctlError
from protocols.attack.audit import attacks_in, broken_demands
from protocols.attack.table import Row, goals_of, in_words, rows_of, strongest, value_words
from protocols.report import tables
from protocols.report.optics import SHOWN_DESIGNS, Pairs, file_name
from protocols.report.page import Block, Picture, Table, Text, short_name
from protocols.report.tables import Evidence, Score

if TYPE_CHECKING:
    from protocols.report.audit_figures import Panel

EXAMPLE_ROWS = 4
"""Test pictures that reconstructions are shown of."""

MOST_COLUMNS = 9
"""More reconstructions side by side could not be looked at."""

GOAL_WORDS = {
    "actor": "actor from clips",
    "identity": "identity from frames",
    "reidentification": "identity from reconstructions",
    "ssim": "likeness (SSIM)",
    "psnr_db": "likeness (PSNR)",
}

OF_CLIPS = ("actor", "reidentification")
"""Goals that a network of single frames is judged on by the mean over the frames of a clip."""

WHERE_WORDS = {
    "frame": "frame",
    "field": "whole scene",
    "centre": "centre",
    "clip": "whole clip",
    "foreground": "what moves",
}


def audit_section(evidence: Evidence, pairs: Pairs) -> list[Block]:
    """Verdicts, trade-off, masks, reconstructions and the table; nothing where nobody attacked."""
    rows = rows_of(attacks_in(evidence))
    if not rows:
        return []
    return [
        *_verdict(evidence, rows),
        *tradeoff(evidence, rows),
        *_gallery(evidence),
        *_reconstructions(evidence),
        _strongest_table(evidence, rows),
        _table(rows),
    ]


def words_of(goal: str) -> str:
    """How a goal is called in a sentence."""
    return GOAL_WORDS.get(goal, f"{goal} from frames")


def _verdict(evidence: Evidence, rows: Sequence[Row]) -> list[Block]:
    blocks: list[Block] = []
    demand = next((step.demand for step in evidence.protocol.steps.values() if step.type == "audit"), {})  # type: ignore[attr-defined]
    broken = broken_demands(demand, rows, evidence.designs)
    if broken:
        blocks.append(Text(f"The audit is not passed. {'; '.join(broken)}.", "careful"))
    elif demand:
        asked = ", ".join(f"{words_of(goal)} at most {bound.at_most:g}" for goal, bound in demand.items())
        blocks.append(Text(f"The audit is passed: of no design did an attacker get more than {asked}."))
    goals = [goal for goal in goals_of(rows) if goal not in ("psnr_db",)]
    for design in evidence.designs:
        told = []
        for goal in goals:
            best = strongest(rows, design, goal)
            if any(row.design == design and row.first.goal == goal for row in rows):
                told.append(
                    f"{words_of(goal)}: "
                    + ("nothing is proven" if best is None else f"{in_words(best)}, {_stage(best)}")
                )
        if told:
            blocks.append(Text(f"{design}. {_capital('; '.join(told))}."))
    weak = sorted({row.first.attacker for row in rows if not row.proven})
    if weak:
        blocks.append(
            Text(
                f"Proves nothing, since it fails on the undegraded picture too: {', '.join(weak)} (where the table "
                "says so). No verdict rests on these.",
                "careful",
            )
        )
    unfinished = sum(not row.converged for row in rows)
    if unfinished:
        blocks.append(
            Text(
                f"Of {len(rows)} attackers {unfinished} were still getting better when their budget ended: what they "
                "got is a lower bound. Give them more epochs before you trust a small number."
            )
        )
    return blocks


def tradeoff(evidence: Evidence, rows: Sequence[Row]) -> list[Block]:
    """Accuracy against what attackers got; nothing where nothing was to be evaluated."""
    from protocols.report.audit_figures import tradeoff_figure

    found = tables.scores(evidence)
    panels = [panel for panel in _panels(evidence, rows, found) if panel.points]
    if not evidence.evaluates:
        return []
    if not panels:
        return [Text("No evaluation has finished, so utility cannot be set against attacks.", "missing")]
    return [
        Picture(
            "tradeoff",
            tradeoff_figure(panels, "task accuracy (%)"),
            "Utility against what the strongest attacker gets that succeeds on the undegraded picture; one mark for "
            "each design, bars are 95 % intervals. To the right is useful, down is private. Filled: simulated frames, "
            "open: captured ones. Dashed: what needs no camera (always naming the most frequent class; the mean "
            "training picture), and what attackers reach on undegraded pictures. Which attacker is strongest is found "
            "on the same test pictures, so the marks lie rather too high than too low.",
        )
    ]


def _panels(evidence: Evidence, rows: Sequence[Row], found: Sequence[Score]) -> list[Panel]:
    from protocols.report.audit_figures import Panel, Point

    panels = []
    for goal in goals_of(rows):
        if goal == "psnr_db":
            continue
        scale = 1.0 if goal == "ssim" else 100.0
        operators = _operators(rows)
        for where in _places(rows, goal):
            points, chances, cleans = [], [], []
            for design in evidence.designs:
                for stage, operator in product(("simulated", "captured"), operators):
                    best = strongest(rows, design, goal, where=where, stage=stage, operator=operator)
                    score = _score_at(found, design, stage, operator)
                    if best is None or score is None:
                        continue
                    chances.append(best.chance)
                    cleans.append(best.reached)
                    points.append(
                        Point(
                            f"{design}, {operator}" if len(operators) > 1 else design,
                            stage == "captured",
                            _scaled(score.interval, 100.0),
                            _scaled(best.interval, scale),
                        )
                    )
            title = _heading(goal, where, ",\n")
            chance = scale * float(np.mean(chances)) if chances else 0.0
            clean = scale * float(np.mean(cleans)) if cleans and goal != "ssim" else None
            unit = "SSIM" if goal == "ssim" else "named right (%)"
            panels.append(Panel(_capital(title), unit, points, chance, clean))
    return panels


def _gallery(evidence: Evidence) -> list[Block]:
    from protocols.report.audit_figures import gallery_figure

    masks, words = dict[str, Any](), dict[str, str]()
    judged = {}
    for made in evidence.of("evaluate"):
        if made.row["metrics"]["stage"] == "simulated":
            judged.setdefault(made.design, made.row["metrics"])
    for made in evidence.made:
        for output, kind in type(made.instance.step).outputs.items():
            if kind == "mask" and output in made.row["outputs"] and made.design not in masks:
                masks[made.design] = np.load(made.path(output))
                metrics = judged.get(made.design, {})
                open_share = tables.share(float(np.mean(masks[made.design])))
                blur = metrics.get("blurriness_noise_free")
                words[made.design] = f"{open_share} open" + ("" if blur is None else f"\nblurriness {blur:.2f}")
    if not masks:
        return []
    return [
        Picture(
            "mask-gallery",
            gallery_figure(masks, words),
            "Masks of the first seed, white is open, with their aperture ratio and the blurriness of their noise-free "
            "frames [Crete et al. 2007]. Blurriness says how frames look, not what can be got out of them. Where a "
            "mask changes from frame to frame, one that stands for all.",
        )
    ]


def _reconstructions(evidence: Evidence) -> list[Block]:
    from protocols.attack.inversion_attack import EXAMPLES
    from protocols.report.audit_figures import reconstructions_figure

    blocks: list[Block] = []
    for design in evidence.designs[:SHOWN_DESIGNS]:
        for made in (m for m in evidence.of("attack_invert") if m.design == design):
            if any(
                block.name == _figure_name(made.instance.name, design) for block in blocks if isinstance(block, Picture)
            ):
                continue
            path = made.folder / EXAMPLES
            if not path.exists():
                continue
            with np.load(path, allow_pickle=False) as file:
                scenes, frames, labels = file["scenes"], file["frames"], file["labels"]
                named = list(zip(file["names"].tolist(), file["made"], strict=True))[: MOST_COLUMNS - 2]
            kept = range(min(EXAMPLE_ROWS, len(scenes)))
            rows = [
                [scenes[i].astype(np.float32), frames[i], *(m[i].astype(np.float32) for _, m in named)] for i in kept
            ]
            heads = ["scene", "frame", *(_folded(name) for name, _ in named)]
            try:
                names = [short_name(evidence.data.class_names[labels[i]], 10) for i in kept]
            except LabctlError:
                names = [str(labels[i]) for i in kept]
            first = not blocks
            caption = (
                f"{design}, {made.instance.key}: test pictures, their frames (each on its own scale), and what each "
                "method makes of them"
                + (
                    " under each belief about the camera. Scenes and reconstructions share one scale."
                    if first
                    else ", as above."
                )
            )
            drawing = reconstructions_figure(rows, heads, names)
            blocks.append(Picture(_figure_name(made.instance.name, design), drawing, caption))
    if len(evidence.designs) > SHOWN_DESIGNS:
        blocks.append(
            Text(f"Reconstructions of the other {len(evidence.designs) - SHOWN_DESIGNS} designs are left out.")
        )
    return blocks


def _strongest_table(evidence: Evidence, rows: Sequence[Row]) -> Table:
    columns = [(goal, where) for goal in goals_of(rows) for where in _places(rows, goal)]
    lines = []
    for design in evidence.designs:
        for stage, operator in product(("simulated", "captured"), _operators(rows)):
            best = [
                strongest(rows, design, goal, where=where, stage=stage, operator=operator) for goal, where in columns
            ]
            if any(best):
                lines.append(
                    [
                        ", ".join(word for word in (design, stage, operator) if word),
                        *("–" if b is None else value_words(b.interval, b.first.goal) for b in best),
                    ]
                )
    heads = [_heading(goal, where, ", ") for goal, where in columns]
    return Table(
        ["design, frames", *heads],
        lines,
        "What the strongest attacker gets that succeeds on the undegraded picture, with 95 % bootstrap intervals over "
        "the test items, all seeds together. A dash: no such attacker.",
    )


def _table(rows: Sequence[Row]) -> Table:
    lines = []
    for row in rows:
        first = row.first
        control = f"{row.reached:.2f} of {row.needed:.2f}" if first.goal in ("ssim", "psnr_db") else (
            f"{100 * row.reached:.1f} of {100 * row.needed:.1f} %"
        )  # fmt: skip
        chance = f"{row.chance:.2f}" if first.goal == "ssim" else (
            f"{row.chance:.1f} dB" if first.goal == "psnr_db" else tables.share(row.chance)
        )  # fmt: skip
        says = [
            *([] if row.proven else ["proves nothing"]),
            *([] if row.converged else ["budget ended first"]),
            *([first.note] if first.note else []),
        ]
        lines.append(
            [
                row.design,
                first.goal.replace("_db", ""),
                first.attacker,
                first.knows,
                ", ".join(w for w in (_judged_words(first.goal, first.where), first.stage, first.operator) if w),
                value_words(row.interval, first.goal),
                chance,
                control,
                "; ".join(says),
            ]
        )
    return Table(
        ["design", "goal", "attacker", "knows", "judged", "gets", "without camera", "control, needed", ""],
        lines,
        "All attacks. Gets: share of test items named right, mean SSIM or mean PSNR, with 95 % intervals. Without "
        "camera: always naming the most frequent class, or showing the mean training picture. Control: what the same "
        "attacker with the same budget reaches on undegraded pictures, and what it has to reach there to prove "
        "anything (of methods of inversion the SSIM). The same stands in `attacks.csv` and `audit.json`.",
        words=True,
    )


def _operators(rows: Sequence[Row]) -> list[str]:
    """Read-outs that were attacked; one empty word where cameras have one only."""
    return list(dict.fromkeys(row.first.operator for row in rows))


def _score_at(found: Sequence[Score], design: str, stage: str, operator: str) -> Score | None:
    """The first evaluation of such frames, by networks that learned from the read-out that they are asked about."""
    fitting = [s for s in found if (s.design, s.stage, s.operator) == (design, stage, operator)]
    return min(fitting, key=lambda score: score.mixed, default=None)


def _places(rows: Sequence[Row], goal: str) -> list[str | None]:
    """Where a goal was judged. Of actors: anywhere, for the strongest attacker, and frame by frame, as papers do."""
    found: list[str | None] = list(dict.fromkeys(row.first.where for row in rows if row.first.goal == goal))
    return [None, *(where for where in found if where == "frame")] if goal == "actor" else found


def _heading(goal: str, where: str | None, between: str) -> str:
    if where is None:
        return f"{words_of(goal)}{between}strongest attacker"
    words = _judged_words(goal, where)
    return words_of(goal) if words == "frame" else f"{words_of(goal)}{between}{words}"


def _judged_words(goal: str, where: str) -> str:
    """What was judged. Of clips, `frame` is the mean over single frames."""
    return "frame by frame" if where == "frame" and goal in OF_CLIPS else WHERE_WORDS[where]


def _figure_name(step: str, design: str) -> str:
    return f"reconstructions-{file_name(step)}-{file_name(design)}"


def _folded(name: str) -> str:
    """`tikhonov, PSF estimated from 8 pairs` over a few short lines."""
    method, _, knows = name.partition(", ")
    lines, line = [method.replace("_", " ")], ""
    for word in knows.split():
        if line and len(line) + len(word) > 12:
            lines.append(line)
            line = word
        else:
            line = f"{line} {word}".strip()
    return "\n".join([*lines, line])


def _stage(row: Row) -> str:
    return f"{row.first.stage} frames"


def _scaled(interval: Any, scale: float) -> tuple[float, float, float]:
    return scale * interval.mean, scale * interval.low, scale * interval.high


def _capital(text: str) -> str:
    return text[0].upper() + text[1:]
