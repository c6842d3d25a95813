"""How a calibrated value is told: with its uncertainty, no more digits than that supports, and a unit."""

from __future__ import annotations

import math

from labctl.calibration.record import CalibrationRecord, Value

SCALES: dict[str, tuple[tuple[str, float], ...]] = {
    "s": (("s", 1.0), ("ms", 1e-3), ("µs", 1e-6)),
    "rad": (("rad", 1.0), ("mrad", 1e-3)),
    "m": (("m", 1.0), ("mm", 1e-3), ("µm", 1e-6)),
}
"""Smaller units in which small numbers are easier to read."""

NOTHING = 1e-12
"""Seconds, radians or metres that are told as 0."""

NAMED_NUMBERS = 4
"""A value of more numbers is told by its range."""


def told(value: Value) -> str:
    """`9.98 ± 0.03 DN`; `(0.81 ± 0.01, −1.2 ± 0.01) px`; without ± where the error was not found out."""
    numbers = value.value if isinstance(value.value, tuple) else (value.value,)
    errors = value.error if isinstance(value.error, tuple) else (value.error,) * len(numbers)
    if value.unit in SCALES:  # what the arithmetic left of a zero is not a picosecond
        numbers = tuple(0.0 if abs(number) < NOTHING else number for number in numbers)
    unit, scale = _unit_for(value.unit, max((abs(number) for number in numbers), default=0.0))
    if len(numbers) > NAMED_NUMBERS:
        low, high = (_signed(f"{extreme / scale:.4g}") for extreme in (min(numbers), max(numbers)))
        return _with(f"{len(numbers)} values from {low} to {high}", unit)
    parts = [
        _one(number / scale, None if error is None else error / scale)
        for number, error in zip(numbers, errors, strict=True)
    ]
    return _with(parts[0] if len(parts) == 1 else f"({', '.join(parts)})", unit)


def told_values(record: CalibrationRecord, most: int | None = None) -> str:
    """The values of `record` in one line, each after its name; of more than `most`, how many are left out."""
    lines = [f"{name} {told(value)}" for name, value in list(record.values.items())[:most]]
    more = len(record.values) - len(lines)
    return "; ".join(lines) + (f"; and {more} more" if more else "")


def _one(value: float, error: float | None) -> str:
    if error is None or not math.isfinite(error) or error <= 0 or not math.isfinite(value):
        return _signed(f"{value:.4g}")
    power = math.floor(math.log10(error))
    if error / 10.0**power < 3.55:  # 0.012, but 0.4: two digits where one would round by more than a seventh [PDG]
        power -= 1
    if power < -5 or power > 4:
        exponent = math.floor(math.log10(max(abs(value), error)))
        decimals = max(0, exponent - power)
        shown = (_signed(f"{number / 10.0**exponent:.{decimals}f}") for number in (value, error))
        return f"({' ± '.join(shown)})e{exponent}"
    return " ± ".join(_signed(f"{round(number, -power):.{max(0, -power)}f}") for number in (value, error))


def _unit_for(unit: str, largest: float) -> tuple[str, float]:
    for name, scale in SCALES.get(unit, ()):
        if largest >= scale:
            return name, scale
    return (unit, 1.0) if unit not in SCALES or largest == 0 else SCALES[unit][-1]


def _with(text: str, unit: str) -> str:
    return text if unit == "1" else f"{text} {unit}"


def _signed(text: str) -> str:
    """With a true minus sign, and none before a zero; exponents keep theirs."""
    bare = text.removeprefix("-")
    return bare if bare == text or not bare.strip("0.") else f"−{bare}"
