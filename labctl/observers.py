"""Who watches a run. What an observer cannot do is logged and never fails the run."""

from __future__ import annotations

import logging
from collections.abc import Mapping
from typing import Any, Protocol

from labctl.interrupts import Aborted

log = logging.getLogger(__name__)


class Observer(Protocol):
    """Sees what happens, in order. `event` has a `kind`: run, step, progress, metric, log, end."""

    def see(self, event: Mapping[str, Any]) -> None:
        """One event."""


class Observers:
    """Several observers, each kept from harming the run."""

    def __init__(self, observers: list[Observer]) -> None:
        self._observers = observers

    def see(self, event: Mapping[str, Any]) -> None:
        """Pass one event on to all."""
        for observer in list(self._observers):
            try:
                observer.see(event)
            except Aborted:  # not the observer's: a signal came while it drew
                raise
            except Exception:  # an observer must never fail the run
                log.exception("observer %r failed and is left out from here on", observer)
                self._observers.remove(observer)
