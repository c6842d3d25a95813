"""What goes wrong on purpose: each fault spoils the next answers of one instrument, then things are well again."""

from __future__ import annotations

import threading
from dataclasses import dataclass
from typing import Literal, get_args

Kind = Literal["late", "silent", "rubbish", "half", "drop", "reset", "value"]
"""late: after `seconds`. silent: never. rubbish: bytes that are no text. half: half a line, and no more. drop: half a
line, then the connection is closed. reset: it is reset. value: `text` instead of the answer."""

KINDS: tuple[str, ...] = get_args(Kind)


@dataclass(frozen=True)
class Fault:
    """What happens to one answer."""

    kind: Kind
    seconds: float = 0.0
    text: str = ""


class Faults:
    """The faults that wait for one instrument."""

    def __init__(self) -> None:
        self._lock = threading.Lock()
        self._fault: Fault | None = None
        self._left = 0

    def inject(self, fault: Fault, times: int) -> None:
        """Spoil the next `times` answers; replaces what was left of another fault."""
        with self._lock:
            self._fault, self._left = fault, times

    def clear(self) -> None:
        """From now on all is well."""
        with self._lock:
            self._fault, self._left = None, 0

    def take(self) -> Fault | None:
        """The fault of the answer that is about to be sent."""
        with self._lock:
            if self._left == 0:
                return None
            self._left -= 1
            return self._fault
