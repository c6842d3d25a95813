"""An instrument as data: the YAML file that says how it is identified, what it has, and where it rests.

`drivers/instruments/` holds files that ship with labctl; a lab copies the nearest one and edits it.
"""

from __future__ import annotations

import re
import string
from functools import cache
from pathlib import Path
from typing import Annotated, Any, Self

from annotated_types import Ge, Gt, Le
from pydantic import AfterValidator, Field, StringConstraints, model_validator

from labctl.config import load_config, validate_model
from labctl.devices import Quantity
from labctl.errors import BadInput
from labctl.frozen import Frozen
from labctl.suggest import NAME_PATTERN, one_of

SHIPPED = Path(__file__).parent.parent / "instruments"
"""Instrument files that come with labctl."""

DEFAULT_TOLERANCE = 1e-3
"""How far a read-back may be from what was set, as a share of the range, where the file does not say."""


def _is_pattern(text: str) -> str:
    try:
        re.compile(text)
    except re.error as error:
        raise ValueError(f"is no regular expression: {error}") from error
    return text


def _is_command(text: str) -> str:
    if not text.isascii() or not text.isprintable() or not text.strip():
        raise ValueError("a command is printable ASCII text without a line end")
    return text


def _is_template(text: str) -> str:
    try:
        names = [name for _, name, _, _ in string.Formatter().parse(_is_command(text)) if name is not None]
    except ValueError as error:
        raise ValueError(f"is no template: {error}") from error
    if any(name != "value" for name in names):
        raise ValueError("may hold {value}, with a format such as {value:.3f}, and no other field")
    return text


Pattern = Annotated[str, AfterValidator(_is_pattern)]
"""A regular expression, looked for anywhere in the answer."""

Command = Annotated[str, AfterValidator(_is_command)]
Template = Annotated[str, AfterValidator(_is_template)]
"""A command with `{value}` in it, in the format of Python: `SOUR:POW {value:.2f}`."""

QuantityName = Annotated[str, StringConstraints(pattern=NAME_PATTERN)]


class Motion(Frozen):
    """How to know that something which takes time, such as a stage, has arrived."""

    query: Command
    """Asked again and again after a setting."""

    done: Pattern
    """The answer that says that it has arrived."""

    limit_s: Annotated[float, Gt(0), Le(3600)]
    """How long it may take. Then it is brought to the safe state and the setting fails."""

    every_s: Annotated[float, Ge(0.001), Le(10)] = 0.05
    """Time between two questions."""


class QuantityEntry(Frozen):
    """One quantity: its unit and limits, and the commands that read and set it."""

    unit: str
    """Unit in which labctl gives and takes the value, "1" for a plain number."""

    low: float
    high: float

    read: Command
    """Query whose answer is the value."""

    set: tuple[Template, ...] = ()
    """Commands that set it, in order. Without them the quantity is read only."""

    scale: Annotated[float, Gt(0)] = 1.0
    """Value in the instrument's own unit for 1 in `unit`: 100 for an instrument that speaks of percent."""

    choices: dict[str, float] = {}
    """Of a switch: the word that the instrument takes and gives, and its value, as in `{"OFF": 0, "ON": 1}`."""

    stays: bool = False
    """The safe state leaves it where it is: a position."""

    tolerance: Annotated[float, Ge(0)] | None = None
    """How far the read-back may be from what was set, in `unit`; by default a thousandth of the range."""

    settle_s: Annotated[float, Ge(0), Le(600)] = 0.0
    """Wait between setting and read-back."""

    motion: Motion | None = None
    """For what takes time to arrive; comes before `settle_s`."""

    @model_validator(mode="after")
    def _fits_together(self) -> Self:
        if not self.low < self.high:
            raise ValueError(f"low {self.low:g} must be below high {self.high:g}")
        if self.set and not any("{value" in template for template in self.set):
            raise ValueError("no command of `set` holds {value}; write where the value goes")
        outside = [word for word, value in self.choices.items() if not self.low <= value <= self.high]
        if outside:
            raise ValueError(f"the choice '{outside[0]}' is outside of {self.low:g}..{self.high:g}")
        trial: Any = next(iter(self.choices), self.low * self.scale)
        for template in self.set:
            try:
                template.format(value=trial)
            except ValueError as error:
                raise ValueError(f"'{template}' cannot carry {trial!r}: {error}") from error
        return self

    @property
    def allowed_difference(self) -> float:
        """How far a read-back may be from what was set, in `unit`."""
        return DEFAULT_TOLERANCE * (self.high - self.low) if self.tolerance is None else self.tolerance


class InstrumentFile(Frozen):
    """An instrument, as its YAML file describes it."""

    title: str

    identification: Pattern
    """What the answer to `*IDN?` must match; anything else at the resource is refused before it is told anything."""

    read_termination: str = "\n"
    write_termination: str = "\n"

    timeout_s: Annotated[float, Gt(0), Le(600)] = 2.0
    """How long one answer may take."""

    quantities: Annotated[dict[QuantityName, QuantityEntry], Field(min_length=1)]

    safe: tuple[Command | dict[str, float], ...] = ()
    """The way to the safe state, in order: a command as text, or quantities with values, `{power: 0}`."""

    error_query: Command | None = "SYST:ERR?"
    """Takes one entry from the error queue. null: the instrument has none."""

    no_error: Pattern = r"^\s*[+-]?0+\s*(,|$)"
    """Answer to `error_query` when the queue is empty."""

    start_up: tuple[Command, ...] = ()
    """Commands after the identification and the safe state, whenever it is opened."""

    @model_validator(mode="after")
    def _safe_state_is_reachable(self) -> Self:
        for step in self.safe:
            for name, value in step.items() if isinstance(step, dict) else ():
                entry = self.quantities.get(name)
                if entry is None or not entry.set:
                    known = [name for name, entry in self.quantities.items() if entry.set]
                    raise ValueError(f"the safe state sets '{name}'; {one_of(name, known)}")
                if not entry.low <= value <= entry.high:
                    raise ValueError(f"the safe {name} {value:g} is outside of {entry.low:g}..{entry.high:g}")
                if entry.choices and value not in entry.choices.values():
                    raise ValueError(f"the safe {name} {value:g} is none of its choices")
        return self

    def declared(self, limits: dict[str, tuple[float, float]]) -> dict[str, Quantity]:
        """The quantities as `labctl.devices` knows them, narrowed by `limits`.

        Raises BadInput for limits of unknown quantities, and for limits that are wider than the instrument's.
        """
        for name, (low, high) in limits.items():
            if name not in self.quantities:
                raise BadInput(f"limits: there is no quantity '{name}'; {one_of(name, list(self.quantities))}")
            entry = self.quantities[name]
            if not entry.low <= low <= high <= entry.high:
                text = f"limits: {name} {low:g}..{high:g} is not within {entry.low:g}..{entry.high:g} {entry.unit}"
                raise BadInput(f"{text}; a rig can only narrow what the instrument allows")
        return {
            name: Quantity(
                entry.unit,
                *limits.get(name, (entry.low, entry.high)),
                settable=bool(entry.set),
                choices=tuple(entry.choices.values()),
                stays=entry.stays,
            )
            for name, entry in self.quantities.items()
        }


def load_instrument_file(name: str) -> InstrumentFile:
    """The instrument file that ships as `name`, or lies at the path `name`.

    Raises BadInput when there is none, ConfigError with file, line and column for what is wrong in it.
    """
    path = Path(name)
    if "/" not in name and path.suffix not in (".yaml", ".yml"):
        path = SHIPPED / f"{name}.yaml"
        if not path.is_file():
            known = sorted(file.stem for file in SHIPPED.glob("*.yaml"))
            raise BadInput(f"there is no instrument file '{name}'; {one_of(name, known)}, or the path of a .yaml file")
    elif not path.is_file():
        where = "" if path.is_absolute() else f" in {Path.cwd()}"
        raise BadInput(f"there is no instrument file '{name}'{where}; give its path or the name of a shipped one")
    return _loaded(path.resolve(), path.stat().st_mtime_ns)


@cache
def _loaded(path: Path, changed_ns: int) -> InstrumentFile:
    """One reading for every state of a file: settings are validated often."""
    return validate_model(InstrumentFile, load_config(path))
