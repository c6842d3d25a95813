"""The one rule by which calibrations are used: a foreign one is refused, a stale one is warned of."""

from __future__ import annotations

from collections.abc import Callable, Iterable, Mapping

from labctl.calibration.record import Calibration
from labctl.calibration.validity import judge
from labctl.errors import BadInput
from labctl.rig_file import RigSpec


def usable(
    calibrations: Mapping[str, Calibration], kinds: Iterable[str], spec: RigSpec, say: Callable[[str], None]
) -> dict[str, Calibration]:
    """The calibrations of `kinds`, each held against this rig.

    say: is told, one line for each, what is stale and why, and what a calibration itself warns of. Raises BadInput for
    one that is not there, and for one of another bench: its numbers would be somebody else's.
    """
    wanted = list(dict.fromkeys(kinds))
    there = {kind: _needed(calibrations, kind) for kind in wanted}
    newest = {before: calibrations[before].id for before in _stood_on(there) if before in calibrations}
    for kind, calibration in there.items():
        verdict = judge(calibration.record, spec, newest=newest)
        if verdict.standing == "foreign":
            raise BadInput(
                f"the calibration `{kind}` is {'; '.join(verdict.reasons)}; run a `calibrate` step on this bench"
            )
        if not verdict.good:
            say(f"careful: the calibration `{kind}` is stale: {'; '.join(verdict.reasons)}; calibrate anew")
        for warning in calibration.record.warnings:
            say(f"calibration `{kind}`: {warning}")
    return there


def _needed(calibrations: Mapping[str, Calibration], kind: str) -> Calibration:
    if kind not in calibrations:
        there = ", ".join(calibrations) or "none"
        raise BadInput(
            f"the calibration `{kind}` is needed, there is {there}; add `{kind}` to the kinds of the `calibrate` step"
        )
    return calibrations[kind]


def _stood_on(calibrations: Mapping[str, Calibration]) -> set[str]:
    return {before for calibration in calibrations.values() for before in calibration.record.built_on}
