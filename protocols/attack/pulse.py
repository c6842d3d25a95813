"""How a long attack shows that it lives, and how it is stopped."""

from __future__ import annotations

import time
from collections.abc import Callable

from labctl.steps import StepContext

EVERY_S = 0.5


def pulse_of(context: StepContext, what: str, place: tuple[int, int]) -> Callable[[int, int], None]:
    """Tells the progress of part place[0] of place[1], and raises Stopped when the user asks to stop.

    What was trained of this attacker is lost then; finished ones are kept.
    """
    told = [0.0]

    def pulse(done: int, total: int) -> None:
        if time.monotonic() - told[0] > EVERY_S:
            told[0] = time.monotonic()
            context.progress(place[0] * 1000 + min(999, 1000 * done // max(total, 1)), place[1] * 1000, what)
            context.stop_here(f"{place[0]} of {place[1]} attackers are done, {what} is begun anew")

    return pulse
