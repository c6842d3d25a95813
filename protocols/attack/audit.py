"""`audit`: the verdict over all attacks of a run, by the strongest attacker of each design."""

from __future__ import annotations

import csv
import io
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any, ClassVar, Literal

from annotated_types import Ge

from labctl.durable import write_json, write_whole
from labctl.errors import BadInput, RunFailed
from labctl.frozen import Frozen
from labctl.steps import Estimate, Step, StepContext, StepResult, StepSetting
from labctl.store import RunFolder
from labctl.suggest import one_of
from protocols.attack.record import Where

if TYPE_CHECKING:
    from labctl.protocol import Protocol
    from protocols.attack.table import Row
    from protocols.report.tables import Evidence

TABLE_FILE, AUDIT_FILE = "attacks.csv", "audit.json"
OF_INVERSION = ("reidentification", "ssim", "psnr_db")
ACTOR = "actor"
ATTACKS = ("attack_recognise", "attack_invert", "attack_video", "reconstruct_video")


class Bound(Frozen):
    """What the strongest attacker may reach at most."""

    at_most: Annotated[float, Ge(0)]
    """A share of 1 for names, SSIM as it is, PSNR in dB. The upper end of the 95 % interval must not lie above."""

    where: Where | None = None
    """Only attacks judged there; None: wherever the attacker gets most."""

    stage: Literal["simulated", "captured"] | None = None
    """Only attacks on such frames; None: on any."""

    operator: Literal["soft", "hard"] | None = None
    """Only attacks on this read-out of cameras for clips; None: on any."""


class Audit(Step):
    """Collects all attacks of all designs and seeds, says who was strongest, and fails where more was got than may be.

    Writes `attacks.csv` and `audit.json`. A failed demand fails the run; everything that was made is kept, and a report
    is written all the same if the protocol has one.
    """

    where: ClassVar[Literal["host", "child"]] = "child"
    once: ClassVar[bool] = True
    outputs: ClassVar[Mapping[str, str]] = {"audit": "audit"}

    type: Literal["audit"]

    demand: dict[str, Bound] = {}
    """By goal: `identity` or the attribute that an `attack_recognise` asks for, `actor` of clips, `reidentification`,
    `ssim`, `psnr_db`: `{identity: {at_most: 0.45}}`. Every design of the protocol has to keep it."""

    def check(self, setting: StepSetting) -> None:
        """There must be attacks, and of all that is demanded."""
        goals = attacked_goals(setting.protocol)
        if not goals:
            text = f"there is nothing to judge; add steps that attack: {', '.join(f'`{step}`' for step in ATTACKS)}"
            raise BadInput(text, at=setting.at())
        for goal in self.demand:
            if goal not in goals:
                text = f"nobody attacks '{goal}' in this protocol; {one_of(goal, goals)}"
                raise BadInput(text, at=setting.at("demand", goal))

    def estimate(self, setting: StepSetting) -> Estimate:
        """Compute only."""
        return Estimate(seconds=2, disk_bytes=2**20)

    def run(self, context: StepContext) -> StepResult:
        """Judge. Raises RunFailed where a demand is not kept."""
        from protocols.attack.table import goals_of, in_words, rows_of, strongest
        from protocols.report.tables import read_evidence

        evidence = read_evidence(RunFolder(context.run_folder))
        rows = rows_of(attacks_in(evidence))
        write_table(context.folder, rows)
        broken = broken_demands(self.demand, rows, evidence.designs)
        metrics: dict[str, Any] = {"attacks": len(rows), "proven": sum(row.proven for row in rows)}
        for design in evidence.designs:
            for goal in goals_of(rows):
                best = strongest(rows, design, goal)
                metrics[f"{goal}/{design}"] = None if best is None else best.interval.mean
                told = "no attacker proves anything" if best is None else in_words(best)
                context.log(f"{design}, {goal}: {told}")
        write_json(
            context.folder / AUDIT_FILE,
            {
                "demand": {goal: bound.model_dump() for goal, bound in self.demand.items()},
                "broken": broken,
                "kept": not broken,
                "verdicts": [
                    {
                        "design": design,
                        "goal": goal,
                        "strongest": None if best is None else best.as_dict(),
                    }
                    for design in evidence.designs
                    for goal in goals_of(rows)
                    for best in [strongest(rows, design, goal)]
                ],
                "attacks": [row.as_dict() for row in rows],
            },
        )
        if broken:
            self._report(context, evidence)
            table = context.folder / TABLE_FILE
            raise RunFailed(f"the audit is not passed: {'; '.join(broken)}. All attacks stand in {table}")
        return StepResult({"audit": context.folder / AUDIT_FILE}, metrics)

    def _report(self, context: StepContext, evidence: Evidence) -> None:
        """A step behind this one would not run any more: write the report now."""
        if any(step.type == "report" for step in evidence.protocol.steps.values()):
            from protocols.report.step import write_report

            write_report(RunFolder(context.run_folder))


def attacked_goals(protocol: Protocol) -> list[str]:
    """What the steps of a protocol are after."""
    goals: list[str] = []
    for step in protocol.steps.values():
        if step.type == "attack_recognise":
            goals.append(str(step.what))  # type: ignore[attr-defined]
        elif step.type == "attack_video":
            goals.append(ACTOR)
        elif step.type in ("attack_invert", "reconstruct_video"):
            goals += OF_INVERSION
    return list(dict.fromkeys(goals))


def attacks_in(evidence: Evidence) -> list[tuple[str, int, Any]]:
    """(design, seed, attack) of every finished attack step."""
    from protocols.attack.record import AttackFolder

    return [
        (made.design, int(made.instance.seed or 0), attack)
        for type_ in ATTACKS
        for made in evidence.of(type_)
        for attack in AttackFolder(made.folder)
    ]


def broken_demands(demand: Mapping[str, Bound], rows: Sequence[Row], designs: Sequence[str]) -> list[str]:
    """In words, every demand that a design does not keep. Where no attacker proves anything, none is kept."""
    from protocols.attack.table import in_words, strongest, value_words
    from protocols.metrics import Interval

    broken = []
    for goal, bound in demand.items():
        for design in designs:
            best = strongest(rows, design, goal, where=bound.where, stage=bound.stage, operator=bound.operator)
            limit = value_words(Interval(bound.at_most, bound.at_most, bound.at_most), goal).split(" [")[0]
            if best is None:
                broken.append(
                    f"{design}: no attacker on {goal} succeeds on the undegraded picture, so nothing is proven; give "
                    "attackers more budget"
                )
            elif best.interval.high > bound.at_most:
                broken.append(f"{design}: {goal}: {in_words(best)}, at most {limit} is demanded")
    return broken


def write_table(folder: Path, rows: Sequence[Row]) -> None:
    """`attacks.csv`, one line for each attacker against each design."""
    lines = [row.as_dict() for row in rows]
    text = io.StringIO()
    if lines:
        writer = csv.DictWriter(text, list(lines[0]), lineterminator="\n")
        writer.writeheader()
        writer.writerows(lines)
    write_whole(folder / TABLE_FILE, text.getvalue())
