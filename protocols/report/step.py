"""`report`: one self-contained page that says what a run did, found and left open."""

from __future__ import annotations

import time
from collections.abc import Mapping, Sequence
from typing import Any, ClassVar, Literal

from labctl.durable import write_whole
from labctl.errors import LabctlError
from labctl.rig_file import NATURE_WORDS
from labctl.steps import Estimate, Step, StepContext, StepResult, StepSetting
from labctl.store import RunFolder
from protocols.report import tables
from protocols.report.calibration import calibrated_in_words
from protocols.report.page import FIGURES_FOLDER, Animation, Picture, Section, Text, render
from protocols.report.paper import Published
from protocols.report.people import people_in_words
from protocols.report.sections import PARTS, Part
from protocols.report.tables import Evidence, FramePairs, Score

SECONDS_PER_CALIBRATION = 0.6
"""For its page; measured on an idle machine, for estimates only."""


class Report(Step):
    """Writes `report.html` in the run folder, and its figures for papers into `figures/` beside it.

    Only facts of finished steps are told. A part that cannot be made is named with its reason instead.
    """

    where: ClassVar[Literal["host", "child"]] = "child"
    once: ClassVar[bool] = True
    outputs: ClassVar[Mapping[str, str]] = {"report": "report"}
    modules: ClassVar[tuple[str, ...]] = ("torch", "jinja2", "protocols.report.pictures", "sim.twin")

    newer: ClassVar[frozenset[str]] = frozenset({"published"})

    type: Literal["report"]

    published: Published | None = None
    """Published numbers that are put beside those of this run."""

    def check(self, setting: StepSetting) -> None:
        """What is put beside must be there."""
        if self.published is not None:
            self.published.check(setting.protocol.compared, setting.at("published"))

    def estimate(self, setting: StepSetting) -> Estimate:
        """Compute only."""
        kinds = sum(len(getattr(step, "kinds", ())) for step in setting.protocol.steps.values())
        return Estimate(seconds=4 + SECONDS_PER_CALIBRATION * kinds, disk_bytes=8 * 2**20)

    def run(self, context: StepContext) -> StepResult:
        """Read the run folder as it stands and write the page."""
        from protocols.training_loop import prepare_torch

        prepare_torch()
        missing = write_report(RunFolder(context.run_folder))
        for text in missing:
            context.log(text)
        return StepResult({"report": context.run_folder / "report.html"}, {"missing_parts": len(missing)})


def write_report(run: RunFolder, parts: Sequence[Part] = PARTS) -> list[str]:
    """Write the report and the figures of a run folder in any state; returns in words what is missing."""
    evidence = tables.read_evidence(run)
    pairs: dict[str, list[FramePairs]] = {}
    sections = []
    for anchor, title, write in parts:
        section = Section(anchor, title)
        try:
            section.blocks.extend(write(evidence, pairs))
        except Exception as error:  # noqa: BLE001 - one part must not take the others with it; the page says what is missing
            reason = str(error) if isinstance(error, LabctlError) else f"{type(error).__name__}: {error}"
            section.blocks.append(Text(f"This part could not be made: {reason}.", "missing"))
        if section.blocks:
            sections.append(section)
    figures = run.report_file.parent / FIGURES_FOLDER
    figures.mkdir(parents=True, exist_ok=True)
    for picture in (block for section in sections for block in section.blocks if isinstance(block, Picture)):
        for form in ("png", "svg", "pdf"):
            write_whole(figures / f"{picture.name}.{form}", getattr(picture.drawing, form))
    for moving in (block for section in sections for block in section.blocks if isinstance(block, Animation)):
        write_whole(figures / f"{moving.name}.gif", moving.gif)
    write_whole(run.report_file, render(sections, _title(evidence)))
    missing = [(s.title, b.text) for s in sections for b in s.blocks if isinstance(b, Text) and b.kind == "missing"]
    return [f"report, {title}: {text}" for title, text in missing]


# The head of the page


def _title(evidence: Evidence) -> dict[str, Any]:
    summary = evidence.summary
    done = sum(row["status"] == "finished" for row in evidence.steps)
    total, ended = len(evidence.steps), summary["status"]
    whole = "the step before this report is" if total == 1 else f"all {total} steps before this report are"
    status = f"{whole} finished" if done == total else f"incomplete: {done} of {total} steps finished"
    if ended in ("failed", "stopped"):
        status = f"{ended}: {done} of {total} steps finished" + (f"; {summary['reason']}" if summary["reason"] else "")
    try:
        found = tables.scores(evidence)
        lead, second = "", ""
        if not evidence.evaluates:
            lead, second = calibrated_in_words(evidence)
            lead = lead or people_in_words(evidence)
        if not lead:
            lead, second = _headline(found, evidence.rig.name)
    except (LabctlError, OSError, KeyError, ValueError) as error:
        lead, second = "The evaluations could not be read.", str(error)
    return {
        "name": summary["name"],
        "description": evidence.protocol.file.description,
        "rig": summary["rig"],
        "nature": NATURE_WORDS[summary["nature"]],
        "real": summary["nature"] == "real",
        "status": status,
        "complete": done == total and ended in ("running", "finished"),
        "began": _moment(summary["began"]),
        "made": _moment(time.time()),
        "alarms": _alarms(evidence),
        "headline": lead,
        "second": second,
        "designs": ", ".join(evidence.protocol.compared) or "none",
        "seeds": ", ".join(str(seed) for seed in summary["seeds"]),
    }


def _alarms(evidence: Evidence) -> list[str]:
    """What makes the numbers below untrustworthy, each once, with the evaluations that say so."""
    said: dict[str, list[str]] = {}
    for made in evidence.of("evaluate"):
        change = made.row["metrics"].get("simulator_changed")
        if change:
            said.setdefault(str(change), []).append(made.instance.key)
    return [
        f"The simulator is not the one that these cameras were trained in: {change}. Their accuracies on simulated "
        f"frames do not count; train again. Concerns {', '.join(keys)}."
        for change, keys in said.items()
    ]


def _headline(found: Sequence[Score], rig: str) -> tuple[str, str]:
    """Two sentences from the numbers: what was reached, and by how much it leads."""
    if not found:
        return f"A run on rig {rig} without an evaluation.", ""
    last = found[-1].step
    finals = sorted((s for s in found if s.step == last), key=lambda s: -s.interval.mean)
    best = finals[0]
    line = [s for s in found if s.design == best.design]
    named = {step: heading for step, _, heading in tables.columns_of(found)}
    told = " → ".join(f"{tables.short_percent(s.interval)} {named[s.step]}" for s in line)
    majority = best.mean("majority")
    lead = f"{best.design}: {told} (majority {tables.share(majority)})."
    if len(finals) == 1:
        return lead, ""
    second = finals[1]
    gap, _ = tables.difference(best, second)
    words = named[best.step]
    lead_by = f"{tables.points(gap)} points (paired, 95 % interval)"
    if gap.low > 0:
        return (
            lead,
            f"{best.design} is the highest of {len(finals)} designs {words}, ahead of {second.design} by {lead_by}.",
        )
    return lead, f"{best.design} and {second.design} are not told apart {words}: the difference is {lead_by}."


def _moment(seconds: float) -> str:
    return time.strftime("%Y-%m-%d %H:%M %Z", time.localtime(seconds))
