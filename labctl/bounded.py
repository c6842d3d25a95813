"""Work that may hang, given only so long."""

from __future__ import annotations

import threading
import time
from collections.abc import Callable, Mapping
from typing import TypeVar

from labctl.errors import DeviceTimeout

Result = TypeVar("Result")


def within(limit_s: float, work: Callable[[], Result]) -> Result:
    """The result of `work`. Raises what it raises, or DeviceTimeout after `limit_s`; then it is left behind."""
    (outcome,) = all_within(limit_s, {"": work}).values()
    if isinstance(outcome, Exception):
        raise outcome
    return outcome


def all_within(limit_s: float, works: Mapping[str, Callable[[], Result]]) -> dict[str, Result | Exception]:
    """What came of each of `works`, all at once and all within `limit_s`; of one that hangs, DeviceTimeout.

    Each works in a thread of its own. One that hangs goes on, unheard, until the process ends.
    """
    outcomes: dict[str, Result | Exception] = {}

    def guarded(name: str, work: Callable[[], Result]) -> None:
        try:
            outcomes[name] = work()
        except Exception as error:  # noqa: BLE001 - it is the outcome
            outcomes[name] = error

    threads = [threading.Thread(target=guarded, args=item, daemon=True) for item in works.items()]
    end = time.monotonic() + limit_s
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join(max(0.0, end - time.monotonic()))
    late = DeviceTimeout(f"no answer within {limit_s:g} s")
    return {name: outcomes.get(name, late) for name in works}
