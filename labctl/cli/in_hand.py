"""A rig in the hands of a person at the bench: opened for one command, and safe again whatever ends it."""

from __future__ import annotations

import contextlib
import math
import signal
import time
from collections.abc import Callable, Iterator, Sequence
from types import FrameType

from labctl.cli.talk import say
from labctl.errors import HardwareError, Stopped
from labctl.rig import Rig
from labctl.rig_file import RigSpec, find_rig, load_rig

SIGNALS = (signal.SIGINT, signal.SIGTERM, signal.SIGHUP)


def read_rig(name: str, overrides: Sequence[str] | None) -> RigSpec:
    """The rig file of --rig with --set rig.KEY=VALUE. Raises BadInput; nothing is opened."""
    return load_rig(find_rig(name), overrides=overrides or (), prefix="rig")


@contextlib.contextmanager
def rig_in_hand(spec: RigSpec, *, wait_s: float) -> Iterator[Rig]:
    """Open `spec`, and make it safe on every way out; the first Ctrl-C, SIGTERM or SIGHUP is a KeyboardInterrupt.

    Further signals do not stop the rig from being made safe. Raises HardwareError when a device could not be, and
    Stopped for an interrupt that nobody took for the end.
    """
    rig = Rig(spec, wait_s=wait_s)
    try:
        with one_interrupt() as only_answer, rig:
            try:
                if rig.recovered_from is not None:
                    last = rig.recovered_from
                    left = (
                        f"the last holder, process {last.pid} since {last.since}, ended without making all of it safe"
                    )
                    say(f"{left}; it is safe now")
                yield rig
            finally:
                only_answer()
    except KeyboardInterrupt:
        raise Stopped("stopped by the user" + ("" if rig.safe_errors else "; the rig is safe")) from None
    finally:
        if rig.safe_errors:
            say("the rig could not be made safe: " + "; ".join(rig.safe_errors))
    if rig.safe_errors:
        raise HardwareError("look at the bench: what is named above may still be switched on")


def hold(seconds: float | None) -> None:
    """Wait for `seconds`, for ever when None; Ctrl-C ends it as well."""
    with contextlib.suppress(KeyboardInterrupt):
        end = math.inf if seconds is None else time.monotonic() + seconds
        while (left := end - time.monotonic()) > 0:
            time.sleep(min(left, 1.0))


@contextlib.contextmanager
def one_interrupt() -> Iterator[Callable[[], None]]:
    """The first Ctrl-C, SIGTERM or SIGHUP raises KeyboardInterrupt; further ones are only answered in words.

    Yields a function after whose call the first one is only answered too: nothing must tear what makes a rig safe.
    """
    raising = True

    def handle(number: int, frame: FrameType | None) -> None:
        nonlocal raising
        if not raising:
            say("the rig is being made safe; a moment, please")
            return
        raising = False
        raise KeyboardInterrupt

    def only_answer() -> None:
        nonlocal raising
        raising = False

    before = {number: signal.signal(number, handle) for number in SIGNALS}
    try:
        yield only_answer
    finally:
        for number, handler in before.items():
            signal.signal(number, handler)
