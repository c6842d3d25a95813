"""All attacks of a run as one table: intervals, controls, and the strongest attacker against each design."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from functools import cached_property
from typing import Any

import numpy as np

from protocols.attack.record import Attack
from protocols.data.enlarged import sources_of
from protocols.metrics import Interval, accuracy_interval, mean_interval

STAGE_WORDS = {"simulated": "simulated", "captured": "captured"}
_WHERE_WORDS = {
    "frame": "", "field": " over the whole scene", "centre": " in the centre", "clip": " in whole clips",
    "foreground": " in what moves",
}  # fmt: skip
GOALS = ("identity", "reidentification", "ssim", "psnr_db")
"""In the order of tables; attributes stand behind identity."""


@dataclass(frozen=True)
class Row:
    """One attacker against one design, over its seeds. by_seed: seed → attack."""

    design: str
    by_seed: Mapping[int, Attack]

    @property
    def first(self) -> Attack:
        """Of the first seed; what tells attacks apart is the same for all."""
        return self.by_seed[min(self.by_seed)]

    @cached_property
    def interval(self) -> Interval:
        """Over the test items, all seeds together, 95 %."""
        attacks = [self.by_seed[seed] for seed in sorted(self.by_seed)]
        orders = [np.argsort(attack.sample_ids, kind="stable") for attack in attacks]
        items = [attack.items[order] for attack, order in zip(attacks, orders, strict=True)]
        groups = sources_of([attack.sample_ids[order] for attack, order in zip(attacks, orders, strict=True)])
        if all(values.dtype == np.bool_ for values in items):
            return accuracy_interval(items, groups=groups)
        return mean_interval(items, groups=groups)

    @property
    def chance(self) -> float:
        """Without any camera; mean over seeds."""
        return float(np.mean([attack.chance for attack in self.by_seed.values()]))

    @property
    def reached(self) -> float:
        """On the undegraded picture; mean over seeds."""
        return float(np.mean([attack.reached for attack in self.by_seed.values()]))

    @property
    def needed(self) -> float:
        """On the undegraded picture; mean over seeds."""
        return float(np.mean([attack.needed for attack in self.by_seed.values()]))

    @property
    def proven(self) -> bool:
        """Whether the attacker succeeds where nothing is hidden, over its seeds."""
        return self.reached >= self.needed

    @property
    def converged(self) -> bool:
        """With every seed."""
        return all(attack.converged for attack in self.by_seed.values())

    @property
    def may_judge(self) -> bool:
        """Whether a verdict may rest on it."""
        return self.proven and self.first.counts

    def as_dict(self) -> dict[str, Any]:
        """Plain values, for CSV and JSON."""
        first = self.first
        return {
            "design": self.design,
            "goal": first.goal,
            "attacker": first.attacker,
            "knows": first.knows,
            "where": first.where,
            "stage": first.stage,
            "operator": first.operator,
            "measure": first.measure,
            "mean": self.interval.mean,
            "low": self.interval.low,
            "high": self.interval.high,
            "chance": self.chance,
            "control": self.reached,
            "control_needed": self.needed,
            "proven": self.proven,
            "converged": self.converged,
            "counts": first.counts,
            "note": first.note,
            "seeds": len(self.by_seed),
            "n_test": len(first.items),
            "train": first.facts.get("train"),
        }


def rows_of(attacks: Sequence[tuple[str, int, Attack]]) -> list[Row]:
    """Rows of (design, seed, attack), one for each design and attacker, in a stable order."""
    found: dict[tuple[str, str], dict[int, Attack]] = {}
    for design, seed, attack in attacks:
        found.setdefault((design, attack.name), {})[seed] = attack
    rows = [Row(design, by_seed) for (design, _), by_seed in found.items()]
    designs = list(dict.fromkeys(row.design for row in rows))
    return sorted(rows, key=lambda row: (designs.index(row.design), *_order(row.first), row.first.name))


def strongest(
    rows: Sequence[Row],
    design: str,
    goal: str,
    *,
    where: str | None = None,
    stage: str | None = None,
    operator: str | None = None,
) -> Row | None:
    """The attacker that got most, of those that a verdict may rest on; None where none proves anything."""
    fitting = [
        row
        for row in rows
        if row.design == design
        and row.first.goal == goal
        and row.may_judge
        and where in (None, row.first.where)
        and stage in (None, row.first.stage)
        and operator in (None, row.first.operator)
    ]
    return max(fitting, key=lambda row: row.interval.mean, default=None)


def goals_of(rows: Sequence[Row]) -> list[str]:
    """What was attacked, in the order of tables."""
    found = list(dict.fromkeys(row.first.goal for row in rows))
    return sorted(found, key=lambda goal: (_place(goal), found.index(goal)))


def in_words(row: Row) -> str:
    """`small-residual (all labels) names 77.3 % [71.9, 82.8]`."""
    first, interval = row.first, row.interval
    who = f"{first.attacker} ({first.knows})"
    where = _WHERE_WORDS[first.where]
    if first.goal in ("actor", "reidentification") and first.where == "frame":
        where = ", frame by frame"
    where += f", {first.operator} read-out" if first.operator else ""
    return f"{who} {'names' if first.measure == 'accuracy' else 'reaches'} {value_words(interval, first.goal)}{where}"


def value_words(interval: Interval, goal: str) -> str:
    """`77.3 % [71.9, 82.8]`, `0.62 [0.60, 0.64]` or `21.3 dB [21.0, 21.6]`."""
    if goal == "ssim":
        return f"{interval.mean:.2f} [{interval.low:.2f}, {interval.high:.2f}]"
    if goal == "psnr_db":
        return f"{interval.mean:.1f} dB [{interval.low:.1f}, {interval.high:.1f}]"
    mean, low, high = (100 * value for value in (interval.mean, interval.low, interval.high))
    return f"{mean:.1f} % [{low:.1f}, {high:.1f}]"


def _order(attack: Attack) -> tuple[float, str, str, str, str]:
    return _place(attack.goal), attack.goal, attack.operator, attack.stage, attack.where


def _place(goal: str) -> float:
    return float(GOALS.index(goal)) if goal in GOALS else 0.5
