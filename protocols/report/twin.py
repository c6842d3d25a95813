"""The section on fitted twins: how far off rig file and fit are from frames that were not fitted, and the values."""

from __future__ import annotations

from collections.abc import Sequence
from typing import TYPE_CHECKING, Any

import numpy as np

from labctl.calibration.kinds import draw_page
from labctl.calibration.record import Calibration, Value
from labctl.calibration.telling import told
from protocols.report.optics import Pairs, file_name
from protocols.report.page import Block, Picture, Table, Text
from protocols.report.tables import Evidence, Made, duration
from protocols.twin_fit.priors import LEAK

if TYPE_CHECKING:
    from labctl.rig_file import RigSpec

GOOD = 1.2
"""Errors of up to so many noise floors are those of a twin that lacks nothing which these frames could show."""

JUDGED = ("error_before", "error_after", "noise_floor_dn")
"""Values of the file that judge the fit."""


def twin_section(evidence: Evidence, pairs: Pairs) -> list[Block]:
    """Held-out error before and after for every fit; values and page of the first one of each step and design."""
    fits = [(made, Calibration.load(made.path("twin"))) for made in evidence.of("fit_twin")]
    if not fits:
        return []
    blocks: list[Block] = [Text(_summary(fits)), _errors(fits)]
    shown = dict[tuple[str, str], tuple[Made, Calibration]]()
    for made, twin in fits:
        shown.setdefault((made.instance.name, made.design), (made, twin))
    for made, twin in shown.values():
        blocks += [Text(f"Careful, {made.instance.key}: {warning}", "careful") for warning in twin.record.warnings]
        blocks.append(_values(made, twin, evidence.rig))
        blocks.append(
            Picture(
                f"twin-{file_name(made.instance.key)}",
                _drawn(twin),
                f"{made.instance.key}: held-out frames as captured and as the fitted twin foretells them, its error in "
                "standard deviations of the noise, and how well the values are known.",
            )
        )
    return blocks


def _before_after(fits: Sequence[Calibration]) -> str:
    before, after = (_span([fit.value(name) for fit in fits]) for name in ("error_before", "error_after"))
    return (
        f"Held-out frames are foretold to within {after} times their noise by the fitted twin, {before} by the rig file"
    )


def _summary(fits: Sequence[tuple[Made, Calibration]]) -> str:
    twins = [twin for _, twin in fits]
    worst = max(twin.value("error_after") for twin in twins)
    verdict = (
        "So it lacks nothing that these frames could show."
        if worst <= GOOD
        else f"Above {GOOD:g} something is there that no value of the twin describes."
    )
    return f"{_before_after(twins)}; 1 would be noise alone. {verdict}"


def _errors(fits: Sequence[tuple[Made, Calibration]]) -> Table:
    rows = [
        [
            made.instance.key,
            f"{twin.value('error_before'):.3g}",
            f"{twin.value('error_after'):.3g}",
            f"{twin.value('noise_floor_dn'):.3g}",
            str(twin.record.exposures),
            duration(twin.record.seconds),
        ]
        for made, twin in fits
    ]
    return Table(
        ["fit", "before (noise floors)", "after (noise floors)", "noise floor (DN)", "exposures", "time"],
        rows,
        "RMS over all pixels of foretold minus captured frames, each pixel in units of its noise, for frames that were "
        "never fitted; before: the twin of the rig file.",
    )


def _values(made: Made, twin: Calibration, rig: RigSpec) -> Table:
    from protocols.error_budget.terms import nominal_values

    record = twin.record
    names = [name for name in record.values if name not in JUDGED]
    nominal = nominal_values(rig.twin.build(rig.roads), names)
    priors: dict[str, Any] = dict(record.settings.get("priors", {}))
    rows = []
    for name in names:
        value = record.values[name]
        before = _told_array(nominal[name], value.unit) if name in nominal else "–"
        rows.append([name, before, _prior(name, priors), told(value), value.text])
    rows += [
        [name, "–", "–", "×".join(map(str, twin.arrays[name].shape)), note.text]
        for name, note in record.arrays.items()
        if name in ("flat", "dark_dn", "panel_table", "psf_residual")
    ]
    return Table(
        ["value", "rig file", "prior ± its error, from", "fitted ± one standard deviation", "what it is"],
        rows,
        f"{made.instance.key}: what stands without ± was taken over from a calibration or from the rig file. Errors "
        "are of these captures and priors; they leave out what the model of the twin does not know.",
        words=True,
    )


def _prior(name: str, priors: dict[str, Any]) -> str:
    as_fitted = LEAK if name == "log_contrast" else name
    own = [prior for label, prior in priors.items() if label.partition("[")[0] == as_fitted]
    if not own:
        return "–"
    shown = [f"{prior['mean']:.4g} ± {prior['sigma']:.2g}".replace("-", "−") for prior in own]
    numbers = shown[0] if len(shown) == 1 else f"({', '.join(shown)})"
    numbers = f"1 / contrast {numbers}" if as_fitted == LEAK else numbers
    return f"{numbers}; {own[0].get('source', 'stated')}"


def _told_array(value: Any, unit: str) -> str:
    numbers = tuple(float(number) for number in np.ravel(value))
    return told(Value(value=numbers[0] if len(numbers) == 1 else numbers, error=None, unit=unit))


def _drawn(twin: Calibration) -> Any:
    from protocols.report.figures import styled

    return styled(draw_page)(twin)


def _span(values: Sequence[float]) -> str:
    low, high = f"{min(values):.3g}", f"{max(values):.3g}"
    return low if low == high else f"{low} to {high}"
