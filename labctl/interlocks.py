"""Interlocks: conditions on quantities of instruments that pause or abort an exposure, and keep doubtful frames back.

How a frame is vouched for. Every interlock is read before the first exposure, every `every_s` during them, and after
the last. A frame is delivered only once each interlock has a good reading that began after the frame was fetched, with
no bad one since the exposures began. So a reading costs nothing per frame: frames wait for the next reading, HELD of
them at most, and then one is taken at once. When a reading is bad, the frames that wait are dropped: they were exposed
since the last good reading. After a pause they are exposed again; after an abort they are missing, and a resumed
capture makes them. What goes wrong and is well again between two readings is not seen: choose `every_s` accordingly.
"""

from __future__ import annotations

import contextlib
import logging
import threading
import time
from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from typing import Annotated, Any, Literal, Self

from annotated_types import Ge, Le
from pydantic import StringConstraints, model_validator

from labctl.devices import Instrument, Quantity
from labctl.errors import InterlockError
from labctl.exposure import ExposurePlan, Frames
from labctl.frozen import Frozen

log = logging.getLogger(__name__)

HELD = 32
"""How many frames wait for a reading at most."""

Place = Annotated[str, StringConstraints(pattern=r"^[A-Za-z0-9][A-Za-z0-9_-]{0,63}\.[A-Za-z0-9][A-Za-z0-9_-]{0,63}$")]
"""INSTRUMENT.QUANTITY, as in `lamp.temperature`."""


class Interlock(Frozen):
    """A condition on one quantity. A quantity that cannot be read does not meet it."""

    quantity: Place
    """What is watched: INSTRUMENT.QUANTITY, as in `lamp.temperature`."""

    below: float | None = None
    """The value must stay below this."""

    above: float | None = None
    """The value must stay above this."""

    within: Annotated[float, Ge(0)] | None = None
    """How far the value may be from what was last set; holds while nothing is set since the rig was made safe."""

    of: Place | None = None
    """Of `within`: the quantity whose setting is expected, where another one is set than is watched."""

    action: Literal["pause", "abort"] = "abort"
    """`pause` waits until it holds again. `abort` makes the rig safe and ends, until the rig is opened anew."""

    when: Literal["open", "exposing"] = "open"
    """From when it counts: as long as the rig is open, or only during exposures, as for the light on the bench."""

    every_s: Annotated[float, Ge(0.02), Le(3600)] = 1.0
    """Time between two readings."""

    pause_limit_s: Annotated[float, Ge(0), Le(86400)] = 600.0
    """How long a pause may last; then it aborts."""

    message: str = ""
    """What to tell who reads the error: what to look at, whom to call."""

    @model_validator(mode="after")
    def _says_something(self) -> Self:
        if self.below is None and self.above is None and self.within is None:
            raise ValueError("an interlock needs a condition: below, above or within")
        if self.below is not None and self.above is not None and not self.above < self.below:
            raise ValueError(f"above {self.above:g} and below {self.below:g} cannot hold together")
        if self.of is not None and self.within is None:
            raise ValueError("`of` belongs to `within`; add it, or leave `of` away")
        return self

    def broken_by(self, value: float, expected: float | None) -> str | None:
        """Which condition `value` does not meet, in words; None when it meets all. expected: None when nothing is."""
        if self.below is not None and not value < self.below:
            return f"{self.quantity} is {value:.6g}, it must be below {self.below:g}"
        if self.above is not None and not value > self.above:
            return f"{self.quantity} is {value:.6g}, it must be above {self.above:g}"
        if self.within is not None and expected is not None and not abs(value - expected) <= self.within:
            return f"{self.quantity} is {value:.6g}, it must be within {self.within:g} of {expected:.6g} as set"
        return None


class WatchedInstrument:
    """An instrument of a guarded rig: remembers what was set, and is not read in the middle of a setting."""

    def __init__(self, device: Instrument) -> None:
        self.name = device.name
        self.quantities: Mapping[str, Quantity] = device.quantities
        self.expected: dict[str, float] = {}
        self._device = device
        self._turn = threading.Lock()

    def open(self) -> None:
        """See `Device.open`."""
        self._device.open()

    def safe(self) -> None:
        """See `Device.safe`. Waits for nobody; from now on nothing is expected."""
        self.expected.clear()
        self._device.safe()

    def close(self) -> None:
        """See `Device.close`."""
        self.expected.clear()
        self._device.close()

    def describe_device(self) -> dict[str, Any]:
        """See `Device.describe_device`."""
        return self._device.describe_device()

    def read_quantity(self, name: str) -> float:
        """See `Instrument.read_quantity`."""
        with self._turn:
            return self._device.read_quantity(name)

    def set_quantity(self, name: str, value: float) -> float:
        """See `Instrument.set_quantity`."""
        with self._turn:
            self.expected.pop(name, None)
            found = self._device.set_quantity(name, value)
            self.expected[name] = value
            return found


class InterlockGuard:
    """Watches the interlocks of an open rig and lets its exposures through. See the head of this file.

    instruments: the opened ones, by name. Use `instruments` of the guard instead of them from then on.
    """

    def __init__(self, interlocks: Sequence[Interlock], instruments: Mapping[str, Instrument]) -> None:
        self.instruments = {name: WatchedInstrument(device) for name, device in instruments.items()}
        self._watches = [_Watch(interlock) for interlock in interlocks]
        self._lock = threading.Lock()
        self._over = threading.Event()
        self._exposing = False
        self._tripped: str | None = None
        self._thread = threading.Thread(target=self._watch, name="labctl-interlocks", daemon=True)

    def start(self) -> None:
        """Begin to watch."""
        self._thread.start()

    def stop(self) -> None:
        """Watch no more. May be called twice."""
        self._over.set()
        if self._thread.is_alive():
            self._thread.join(1.0)

    def expect_nothing(self) -> None:
        """The rig is safe: what was set before is set no more."""
        for instrument in self.instruments.values():
            instrument.expected.clear()

    def stream(
        self,
        plan: ExposurePlan,
        expose: Callable[[ExposurePlan], Iterator[Frames]],
        make_safe: Callable[[], object],
    ) -> Iterator[Frames]:
        """The frames of `plan`, which `expose` makes of any part of it, as far as the interlocks vouch for them.

        Raises InterlockError after `make_safe()`; then no frame is delivered that was exposed since the last good
        reading, and its text says how many that were.
        """
        done = 0
        self._exposing = True
        try:
            seen = self._let_start(0, make_safe)
            while True:
                waiting: list[tuple[float, Frames]] = []
                with contextlib.closing(expose(plan.part(done, len(plan)))) as frames:  # type: ignore[type-var]
                    for frame in frames:
                        waiting.append((time.monotonic(), frame))
                        if len(waiting) >= HELD:
                            self._read_all()
                        for good in self._vouched(waiting, seen):
                            done += 1
                            yield good
                        if self._bad_readings() != seen:
                            break
                self._read_all()
                for good in self._vouched(waiting, seen):
                    done += 1
                    yield good
                if done == len(plan):
                    return
                seen = self._let_start(len(waiting), make_safe)
        finally:
            self._exposing = False

    def _vouched(self, waiting: list[tuple[float, Frames]], seen: int) -> Iterator[Frames]:
        """Takes those frames out of `waiting` that may be delivered."""
        with self._lock:
            good = sum(watch.bad for watch in self._watches) == seen
            until_s = min((watch.good_began_s for watch in self._watches), default=time.monotonic())
        while good and waiting and waiting[0][0] <= until_s:
            yield waiting.pop(0)[1]

    def _let_start(self, dropped: int, make_safe: Callable[[], object]) -> int:
        """Wait for the conditions that pause, raise for those that abort; returns how many bad readings there were.

        A bad one that comes after the readings on which it returns is one more than that.
        """
        since_s = time.monotonic()
        said = False
        while True:
            seen = self._bad_readings()
            self._read_all()
            with self._lock:
                tripped = self._tripped
                broken = [watch for watch in self._watches if watch.broken is not None]
            waited_s = time.monotonic() - since_s
            for watch in broken:
                if waited_s >= watch.interlock.pause_limit_s:
                    tripped = tripped or f"{watch.broken}, for more than {watch.interlock.pause_limit_s:g} s"
            if tripped is not None:
                make_safe()
                text = f"interlock: {tripped}; the rig was made safe"
                if dropped:
                    text += f"; {_frames(dropped)} exposed since the last good reading and not delivered"
                raise InterlockError(text)
            if not broken:
                if said:
                    log.warning("interlock: all conditions hold again after %.1f s, going on", waited_s)
                return seen
            if not said:
                log.warning(
                    "interlock: paused: %s; %s dropped and will be exposed again",
                    "; ".join(str(watch.broken) for watch in broken),
                    _frames(dropped),
                )
                said = True
            self._over.wait(min(watch.interlock.every_s for watch in broken))

    def _watch(self) -> None:
        due = {id(watch): 0.0 for watch in self._watches}
        dark = False
        while not self._over.is_set():
            for watch in self._watches:
                if time.monotonic() >= due[id(watch)] and self._counts(watch):
                    self._read(watch)
                    due[id(watch)] = time.monotonic() + watch.interlock.every_s
            if self._tripped is not None and not dark:
                dark = True  # the next exposure makes the whole rig safe; the light must not wait for it
                for instrument in self.instruments.values():
                    with contextlib.suppress(Exception):
                        instrument.safe()
            self._over.wait(min(watch.interlock.every_s for watch in self._watches) / 2)

    def _read_all(self) -> None:
        for watch in self._watches:
            self._read(watch)

    def _counts(self, watch: _Watch) -> bool:
        return self._exposing or watch.interlock.when == "open"

    def _read(self, watch: _Watch) -> None:
        interlock = watch.interlock
        with watch.turn:
            began_s = time.monotonic()
            try:
                broken = self._condition(interlock)
            except Exception as error:  # noqa: BLE001 - whatever keeps a driver from reading, nobody vouches for it
                broken = f"{interlock.quantity} cannot be read: {error}"
            if broken is not None and interlock.message:
                broken += f" ({interlock.message})"
            with self._lock:
                watch.broken = broken
                if broken is None:
                    watch.good_began_s = began_s
                elif self._counts(watch):
                    watch.bad += 1
                    if interlock.action == "abort" and self._tripped is None:
                        self._tripped = broken

    def _condition(self, interlock: Interlock) -> str | None:
        name, _, quantity = interlock.quantity.partition(".")
        while True:
            expected = self._expected(interlock)
            value = self.instruments[name].read_quantity(quantity)
            if self._expected(interlock) == expected:  # else it was set in the meantime, and this is the old value
                return interlock.broken_by(value, expected)

    def _expected(self, interlock: Interlock) -> float | None:
        name, _, quantity = (interlock.of or interlock.quantity).partition(".")
        return self.instruments[name].expected.get(quantity)

    def _bad_readings(self) -> int:
        with self._lock:
            return sum(watch.bad for watch in self._watches)


@dataclass
class _Watch:
    """What is known of one interlock."""

    interlock: Interlock
    broken: str | None = None
    good_began_s: float = -1.0
    bad: int = 0
    turn: threading.Lock = field(default_factory=threading.Lock)


def _frames(count: int) -> str:
    return "1 frame was" if count == 1 else f"{count} frames were"
