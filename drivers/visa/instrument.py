"""The driver of every SCPI instrument: what an instrument file says, done with read-back."""

from __future__ import annotations

import math
import re
import threading
import time
import weakref
from collections.abc import Mapping
from typing import Any

from drivers.visa.connection import Connection, at_exit
from drivers.visa.errors import (
    InstrumentComplains,
    Overload,
    ReadBackDiffers,
)
from drivers.visa.instrument_file import InstrumentFile, Motion, QuantityEntry
from labctl.devices import Quantity
from labctl.errors import BadInput, DeviceTimeout, HardwareError, InterlockError
from labctl.suggest import one_of

NO_VALUE = 9.9e37
"""From this magnitude on, a number means "no value": SCPI gives 9.9E37 for infinity, 9.91E37 for not a number."""

MAX_COMPLAINTS = 50
"""Entries of an error queue that are read at most; a queue that never empties is broken."""


class VisaInstrument:
    """See `labctl.devices.Instrument`. Opening identifies the instrument and goes to the safe state before all else.

    It also goes there on `close`, and when the interpreter ends without one.
    """

    def __init__(
        self, name: str, file: InstrumentFile, connection: Connection, quantities: Mapping[str, Quantity]
    ) -> None:
        self.name = name
        self.quantities = quantities
        self._file = file
        self._connection = connection
        self._open = False
        self._setting = threading.Lock()
        self._making_safe = threading.RLock()
        self._times_made_safe = 0

    def open(self) -> None:
        """Connect, identify, go to the safe state, then send the start-up commands.

        Raises InstrumentBusy, WrongInstrument, and other errors of `drivers.visa.errors`; then nothing stays open.
        """
        self._connection.open()
        self._open = True
        _opened.add(self)
        try:
            self.safe()
            for command in self._file.start_up:
                self._connection.tell(command)
            self._raise_complaints("start-up")
        except BaseException:
            self._let_go()
            raise

    def safe(self) -> None:
        """Reach the safe state, over a new connection when the old one is gone; breaks off a motion under way.

        A closed instrument is connected to for the while. Raises InstrumentError when it could not be reached or told.
        """
        self._times_made_safe += 1
        with self._making_safe:
            if self._open:
                self._insist_on_safe()
                return
            self._connection.open()
            try:
                self._insist_on_safe()
            finally:
                self._connection.close()

    def close(self) -> None:
        """Make safe and let go. Raises InstrumentError when it could not be made safe; it is let go of all the same."""
        if not self._open:
            return
        try:
            self.safe()
        finally:
            self._let_go()

    def describe_device(self) -> dict[str, Any]:
        """See `Device.describe_device`."""
        return {
            "name": self.name,
            "model": self._file.title,
            "identity": self._connection.identity,
            "resource": self._connection.resource,
            "quantities": {
                name: {"unit": quantity.unit, "low": quantity.low, "high": quantity.high}
                for name, quantity in self.quantities.items()
            },
        }

    def read_quantity(self, name: str) -> float:
        """See `Instrument.read_quantity`. Raises Overload when the instrument has no valid value."""
        entry = self._entry(name)
        return self._connection.ask(entry.read, lambda answer: self._value(name, entry, answer))

    def set_quantity(self, name: str, value: float) -> float:
        """See `Instrument.set_quantity`. Whether a setting that failed was heard is told by reading the quantity."""
        entry = self._entry(name)
        self._check(name, entry, value)
        with self._setting:
            return self._set(name, value, self._times_made_safe)

    def _set(self, name: str, value: float, seen: int | None) -> float:
        """seen: how often it was made safe before; None while it is being made safe, which nothing breaks off."""
        entry = self._file.quantities[name]
        told: float | str = value * entry.scale
        if entry.choices:
            told = next(word for word, choice in entry.choices.items() if choice == value)
        for template in entry.set:
            with self._connection.turn:
                self._check_not_made_safe(name, seen)
                self._connection.tell(template.format(value=told))
        self._raise_complaints(f"{name} = {value:g}")
        if entry.motion is not None:
            self._wait_for(name, entry.motion, seen)
        if entry.settle_s > 0:
            time.sleep(entry.settle_s)
        found = self._connection.ask(entry.read, lambda answer: self._value(name, entry, answer))
        # Rounding on the way to the instrument and back must not count, whatever the unit.
        if not math.isclose(found, value, rel_tol=1e-9, abs_tol=entry.allowed_difference):
            self._check_not_made_safe(name, seen)
            text = f"{self.name}: {name} was set to {value:g} {entry.unit} and reads back {found:g}, more than"
            text += f" {entry.allowed_difference:g} off; look at the instrument, or raise `tolerance` in its file"
            raise ReadBackDiffers(text, resource=self._connection.resource, command=entry.read, raw=str(found).encode())
        return found

    def _wait_for(self, name: str, motion: Motion, seen: int | None) -> None:
        until = time.monotonic() + motion.limit_s
        while not self._connection.ask(motion.query, lambda answer: re.search(motion.done, answer.strip())):
            self._check_not_made_safe(name, seen)
            if time.monotonic() >= until:
                if seen is not None:
                    self.safe()
                text = f"{self.name}: {name} has not arrived after {motion.limit_s:g} s and was stopped"
                raise DeviceTimeout(f"{text}; look what blocks it, or raise `limit_s` in the instrument file")
            time.sleep(motion.every_s)
        self._check_not_made_safe(name, seen)

    def _insist_on_safe(self) -> None:
        """Once more when it fails, over a new connection where there is none: safe settings may be repeated."""
        try:
            if not self._connection.alive:
                self._connection.renew()
            self._reach_safe()
        except HardwareError:
            if not self._connection.alive:
                self._connection.renew()
            self._reach_safe()

    def _reach_safe(self) -> None:
        """All steps, even when one fails: what can be switched off is switched off. Raises the first error then."""
        first: HardwareError | None = None
        try:
            self._complaints()  # old ones, of whatever went before, are no reason not to be safe
        except HardwareError as error:
            first = error  # nor is a queue that cannot be read
        for step in self._file.safe:
            try:
                if isinstance(step, str):
                    self._connection.tell(step)
                    self._raise_complaints(f"'{step}' of the safe state")
                else:
                    for name, value in step.items():
                        self._set(name, value, None)
            except HardwareError as error:
                first = first or error
        if first is not None:
            raise first

    def _complaints(self) -> list[str]:
        """What stands in the error queue; empties it."""
        found: list[str] = []
        query = self._file.error_query
        while query is not None and len(found) < MAX_COMPLAINTS:
            answer = self._connection.ask(query, _some_text).strip()
            if re.search(self._file.no_error, answer):
                break
            found.append(answer)
        return found

    def _raise_complaints(self, after: str) -> None:
        found = self._complaints()
        if found:
            text = f"{self.name}: after {after} the error queue holds {'; '.join(found[:5])}"
            text += " and more" if len(found) > 5 else ""
            query = self._file.error_query or ""
            text += "; check the commands in the instrument file against its manual"
            raise InstrumentComplains(
                text, resource=self._connection.resource, command=query, raw="\n".join(found).encode()
            )

    def _entry(self, name: str) -> QuantityEntry:
        if not self._open:
            raise HardwareError(f"{self.name} is not open; call open() first")
        if name not in self.quantities:
            raise BadInput(f"{self.name} has no quantity '{name}'; {one_of(name, list(self.quantities))}")
        return self._file.quantities[name]

    def _check(self, name: str, entry: QuantityEntry, value: float) -> None:
        limits = self.quantities[name]
        if not entry.set:
            raise BadInput(f"{self.name}: {name} can only be read; set another quantity")
        if not (math.isfinite(value) and limits.low <= value <= limits.high):
            text = f"{self.name}: {name} is {value} {limits.unit}, {limits.low:.6g}..{limits.high:.6g} is allowed"
            raise InterlockError(text)
        if entry.choices and value not in entry.choices.values():
            allowed = ", ".join(f"{choice:g} ({word})" for word, choice in entry.choices.items())
            raise InterlockError(f"{self.name}: {name} is {value:g}, it can only be {allowed}")

    def _check_not_made_safe(self, name: str, seen: int | None) -> None:
        if seen is not None and self._times_made_safe != seen:
            raise HardwareError(f"{self.name} was made safe while {name} was being set; set it again if it shall be")

    def _value(self, name: str, entry: QuantityEntry, answer: str) -> float:
        """The value that `answer` says. Raises ValueError for what is neither a number nor a known word."""
        text = answer.strip()
        for word, choice in entry.choices.items():
            if text.upper() == word.upper():
                return choice
        if _NO_NUMBER.fullmatch(text):
            number = math.nan
        elif _NUMBER.fullmatch(text):
            number = float(text)
        else:
            words = f" or one of {', '.join(entry.choices)}" if entry.choices else ""
            raise ValueError(f"a number{words} is needed")
        if not math.isfinite(number) or abs(number) >= NO_VALUE:
            said = f"{self.name}: {name} has no valid value, the instrument answers '{text}'"
            raise Overload(
                f"{said}; it is over range or not ready",
                resource=self._connection.resource,
                command=entry.read,
                raw=answer.encode(),
            )
        return number / entry.scale

    def _let_go(self) -> None:
        self._open = False
        _opened.discard(self)
        self._connection.close()


_opened: weakref.WeakSet[VisaInstrument] = weakref.WeakSet()

_NUMBER = re.compile(r"[+-]?(\d+\.?\d*|\.\d+)([eE][+-]?\d+)?")
_NO_NUMBER = re.compile(r"[+-]?(nan|inf(inity)?|ninf)", re.IGNORECASE)


def _some_text(answer: str) -> str:
    if not answer.strip():
        raise ValueError("some text is needed")
    return answer


def _close_all() -> None:
    for instrument in list(_opened):
        try:
            instrument.close()
        except HardwareError:
            continue  # the others must still be made safe


at_exit(_close_all)
