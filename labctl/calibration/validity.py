"""May a calibration be used here and now? By rule, never silently."""

from __future__ import annotations

import time
from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any, Literal

from pydantic import BaseModel

from labctl.calibration.record import CalibrationRecord
from labctl.config import content_hash
from labctl.rig_file import RigSpec

Standing = Literal["good", "stale", "foreign"]
"""Of a calibration: fit for use; of this bench but too old, too warm or made otherwise; or of another bench."""

TEMPERATURE_UNITS = frozenset({"degC", "°C", "K"})


@dataclass(frozen=True)
class Verdict:
    """How a calibration stands, and why, one line for each reason."""

    standing: Standing
    reasons: tuple[str, ...] = ()

    @property
    def good(self) -> bool:
        """Whether it may be used."""
        return self.standing == "good"

    def __str__(self) -> str:
        return self.standing if not self.reasons else f"{self.standing}: {'; '.join(self.reasons)}"


def bench_hash(spec: RigSpec) -> str:
    """Hash of what makes a bench this bench: its devices and, where they are simulated, the world they stand in.

    What is believed about it (twin, roads), how it is exposed and what is recorded may change. Settings at their
    default do not count: a driver or a world that learns a new setting leaves every bench what it was.
    """
    world = None if spec.world is None else _told(spec.world)
    return content_hash({"devices": {name: _told(device) for name, device in spec.devices.items()}, "world": world})


def beliefs_of(spec: RigSpec, sections: tuple[str, ...]) -> dict[str, str]:
    """Hash of each of these sections of the twin. `roads` stands for both roads."""
    twin = spec.twin.model_dump(mode="json")
    roads = spec.file.roads.model_dump(mode="json")
    return {name: content_hash(roads if name == "roads" else twin.get(name)) for name in sections}


def judge(
    record: CalibrationRecord,
    spec: RigSpec,
    *,
    now: float | None = None,
    readings: Mapping[str, float | None] | None = None,
    version: int | None = None,
    settings: Mapping[str, Any] | None = None,
    holds_for: Mapping[str, Any] | None = None,
    newest: Mapping[str, str] | None = None,
) -> Verdict:
    """How `record` stands on this rig.

    now: seconds since 1970. readings: instruments now, where they were read. version, settings: of the method as it
    would be used today. holds_for: what it is wanted for; only keys that the record has are compared. newest: ids of
    the calibrations it would stand on today, by kind.
    """
    foreign = _foreign(record, spec)
    if foreign:
        return Verdict("foreign", foreign)
    reasons = [*_aged(record, time.time() if now is None else now), *_warmed(record, readings or {})]
    if version is not None and version != record.version:
        reasons.append(f"made by version {record.version} of the method, today's is {version}")
    if settings is not None:
        reasons += _differing("made with", record.settings, settings)
    reasons += _differing("holds for", record.holds_for, {k: v for k, v in (holds_for or {}).items()})
    for section, hashed in beliefs_of(spec, tuple(record.beliefs)).items():
        if hashed != record.beliefs[section]:
            reasons.append(f"`{section}` of the rig file changed since")
    for kind, known in (newest or {}).items():
        if record.built_on.get(kind, known) != known:
            reasons.append(f"stands on an older calibration of `{kind}`")
    return Verdict("stale", tuple(reasons)) if reasons else Verdict("good")


def _foreign(record: CalibrationRecord, spec: RigSpec) -> tuple[str, ...]:
    if record.rig != spec.name:
        return (f"of rig '{record.rig}', this is '{spec.name}'",)
    if record.bench_hash == bench_hash(spec):
        return ()
    changed = [
        name
        for name, device in spec.devices.items()
        if name in record.devices and _differs(record.devices[name].get("settings"), device)
    ]
    if changed:
        what = ", ".join(changed)
    elif spec.world is not None:
        what = "`world`, the simulated bench, or an instrument"
    else:
        what = "an instrument"
    return (f"of rig '{record.rig}' as it was before {what} changed",)


def _told(settings: BaseModel) -> dict[str, Any]:
    """Settings that are not at their default, and of which type they are."""
    told = {"type": getattr(settings, "type", None), **settings.model_dump(mode="json", exclude_defaults=True)}
    told.pop("settle_s", None)
    return told


def _differs(before: Any, device: BaseModel) -> bool:
    """Whether a setting that was recorded is another one now. One that was not known then says nothing."""
    now = device.model_dump(mode="json")
    return isinstance(before, Mapping) and any(
        now.get(key) != value for key, value in before.items() if key != "settle_s"
    )


def _aged(record: CalibrationRecord, now: float) -> list[str]:
    age_s = now - record.made
    if age_s > record.max_age_s:
        return [f"{in_words(age_s)} old, {in_words(record.max_age_s)} is allowed"]
    if age_s < -60:
        return [f"made {in_words(-age_s)} in the future; set the clock"]
    return []


def _warmed(record: CalibrationRecord, readings: Mapping[str, float | None]) -> list[str]:
    reasons = []
    for name, before in record.readings.items():
        here = readings.get(name)
        if record.units.get(name) in TEMPERATURE_UNITS and here is not None:
            change = here - before
            if abs(change) > record.max_temperature_change_k:
                limit = f"{record.max_temperature_change_k:g} K is allowed"
                reasons.append(f"{name} changed by {change:+.1f} K since, {limit}")
    return reasons


def _differing(word: str, there: Mapping[str, Any], here: Mapping[str, Any]) -> list[str]:
    return [
        f"{word} {name} {_plain(there[name])}, {_plain(value)} is wanted"
        for name, value in here.items()
        if name in there and _plain(there[name]) != _plain(value)
    ]


def _plain(value: Any) -> Any:
    return list(value) if isinstance(value, tuple) else value


def in_words(seconds: float) -> str:
    """A time span as people say it."""
    for unit, length in (("days", 86_400.0), ("hours", 3_600.0), ("minutes", 60.0)):
        if seconds >= 2 * length:
            return f"{seconds / length:.0f} {unit}"
    return f"{seconds:.0f} seconds"
