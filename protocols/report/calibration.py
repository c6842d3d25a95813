"""The section on calibrations: what was measured of the bench, how well, what was kept, and what to be careful with."""

from __future__ import annotations

import json
from collections.abc import Iterator
from dataclasses import dataclass
from functools import cached_property
from pathlib import Path
from typing import TYPE_CHECKING, Any

from labctl.calibration.kinds import draw_page, title_of
from labctl.calibration.shelf import SUFFIX, CalibrationSet
from labctl.calibration.telling import told, told_values
from labctl.calibration.validity import in_words
from labctl.errors import LabctlError
from protocols.report.optics import Pairs
from protocols.report.page import Block, Fold, Picture, Table, Text
from protocols.report.tables import Evidence, Made, duration

if TYPE_CHECKING:
    from labctl.calibration.record import Calibration

LINE_VALUES = 5
"""Values in the line of one calibration; all of them stand folded below."""

STANDING_FILE = "standing.json"


@dataclass(frozen=True)
class Used:
    """A calibration that a run used: its file, whether the run measured it, and why."""

    made: Made
    file: Path
    calibration: Calibration
    measured: bool
    why: str

    @property
    def place(self) -> str:
        """Its file as seen from the report."""
        return str(self.file.relative_to(self.made.run.path))

    def standing(self, began: float) -> str:
        """In words, as of the begin of the run."""
        if self.measured:
            return f"measured now: {self.why}"
        return f"kept, {in_words(max(0.0, began - self.calibration.record.made))} old"


@dataclass(frozen=True)
class Calibrations:
    """All that the `calibrate` steps of a run used, and what could not be read."""

    evidence: Evidence

    @cached_property
    def used(self) -> list[Used]:
        """In the order in which they were made. Raises LabctlError when one cannot be read."""
        return [used for made in self.evidence.of("calibrate") for used in _used_by(made)]


def calibration_section(evidence: Evidence, pairs: Pairs) -> list[Block]:
    """One row and one page per kind, the warnings, and where the raw frames are."""
    found = Calibrations(evidence).used
    if not found:
        return []
    began, several = float(evidence.summary["began"]), len(evidence.of("calibrate")) > 1
    rows, pages, lost = [], list[Block](), list[Block]()
    for used in found:
        record = used.calibration.record
        rows.append(
            [
                title_of(record.kind) + (f" ({used.made.instance.name})" if several else ""),
                told_values(record, LINE_VALUES) or "maps only",
                used.standing(began),
                f"{record.exposures}, {duration(record.seconds)}",
                used.file.name,
            ]
        )
        name = f"calibration-{used.made.instance.name if several else ''}{'-' if several else ''}{record.kind}"
        try:
            pages.append(Picture(name.replace("_", "-"), _page(used.calibration), _caption(used), half=False))
        except (LabctlError, KeyError, ValueError, TypeError) as error:  # one page must not take the table with it
            lost.append(Text(f"{title_of(record.kind)}: its page could not be drawn: {error}.", "missing"))
    folders = dict.fromkeys(str(used.file.parent.relative_to(used.made.run.path)) for used in found)
    table = Table(
        ["calibration", "values ± one standard deviation", "standing", "frames, time", "file"],
        rows,
        "What was kept was still good by rule: same bench, young enough, same temperature, same settings, and nothing "
        f"that it stands on was measured since. The files, with their raw frames, lie in {', '.join(folders)}; "
        "`labctl calibration show FILE` prints all of one.",
        words=True,
    )
    warnings = [
        Text(f"Careful, {title_of(used.calibration.kind).lower()}: {warning}", "careful")
        for used in found
        for warning in used.calibration.record.warnings
    ]
    return [table, *warnings, *pages, *lost, Fold("All calibrated values", "\n".join(_lines(found)))]


def calibrated_in_words(evidence: Evidence) -> tuple[str, str]:
    """For the head of a page without accuracies: how many calibrations, and whether they can be trusted; or nothing."""
    found = Calibrations(evidence).used
    if not found:
        return "", ""
    measured = [used for used in found if used.measured]
    kept = len(found) - len(measured)
    frames = sum(used.calibration.record.exposures for used in measured)
    parts = [f"{len(measured)} measured now with {frames} exposures"] * bool(measured)
    parts += [f"{kept} kept from before"] * bool(kept)
    lead = f"{_count(len(found), 'calibration')} of rig {evidence.rig.name}: {', '.join(parts)}."
    careful = [used for used in found if used.calibration.record.warnings]
    if not careful:
        return lead, "None carries a warning."
    names = ", ".join(title_of(used.calibration.kind).lower() for used in careful)
    return lead, f"Read the warnings of {names} before you rely on {'it' if len(careful) == 1 else 'them'}."


def _used_by(made: Made) -> Iterator[Used]:
    standing: dict[str, Any] = json.loads((made.folder / STANDING_FILE).read_text())
    folder = made.path("calibration")
    there = CalibrationSet(folder)
    for kind, how in standing.items():
        file = folder / f"{kind}{SUFFIX}"
        yield Used(made, file, there.need(kind, "the report"), bool(how["measured"]), str(how["why"]))


def _page(calibration: Calibration) -> Any:
    from protocols.report.figures import styled

    return styled(draw_page)(calibration)


def _caption(used: Used) -> str:
    record = used.calibration.record
    stands = ", ".join(title_of(kind).lower() for kind in record.built_on)
    raw = [(name, array) for name, array in used.calibration.raw.items() if "." not in name]
    frames = sum(len(array) for _, array in raw)
    text = f"{title_of(record.kind)}: {told_values(record, LINE_VALUES)}." if record.values else title_of(record.kind)
    if stands:
        text += f" It stands on: {stands}."
    if frames:
        text += f" Its {frames} raw frames are in {used.place}."
    return text


def _lines(found: list[Used]) -> Iterator[str]:
    for used in found:
        record = used.calibration.record
        yield f"{record.kind}  (id {used.calibration.id})"
        for name, value in record.values.items():
            yield f"    {name:<28} {told(value):<34} {value.text}".rstrip()
        for name, note in record.arrays.items():
            shape = "x".join(map(str, used.calibration.arrays[name].shape))
            yield f"    {name:<28} {shape + ' ' + ('' if note.unit == '1' else note.unit):<34} {note.text}".rstrip()


def _count(number: int, what: str) -> str:
    return f"{number} {what}{'' if number == 1 else 's'}"
