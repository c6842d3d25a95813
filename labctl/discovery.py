"""What is connected to this computer, as the installed drivers find it, and what they find wrong with it."""

from __future__ import annotations

import os
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from typing import Any

from labctl import plugins
from labctl.bounded import all_within
from labctl.findings import Check, Finding

FINDERS, CHECKS, FLASHERS = "labctl.finders", "labctl.checks", "labctl.flashers"

LIMIT_S = 20.0
"""What all finders together, or all checks, may take."""


@dataclass(frozen=True)
class Discovery:
    """What was found, and by name of the finder why one found nothing."""

    findings: tuple[Finding, ...]
    failures: Mapping[str, str]


def find_devices(environment: Mapping[str, str]) -> Discovery:
    """Ask all finders at once. `environment`: what a virtual lab adds to the variables of this process.

    A finder that raises, or has not ended after LIMIT_S, is a line in `failures` and keeps no other from its answer.
    """
    findings: list[Finding] = []
    failures: dict[str, str] = {}
    for name, outcome in _ask(FINDERS, environment).items():
        if isinstance(outcome, Exception):
            failures[name] = _in_words(outcome)
        else:
            findings += outcome
    return Discovery(tuple(findings), failures)


def run_checks(environment: Mapping[str, str]) -> list[Check]:
    """The checks of all drivers. One that raises, or has not ended after LIMIT_S, is a problem of its own name."""
    checks: list[Check] = []
    for name, outcome in _ask(CHECKS, environment).items():
        if isinstance(outcome, Exception):
            todo = "see the text; `labctl devices` shows whether the driver finds anything"
            checks.append(Check(name, "problem", f"the check itself failed: {_in_words(outcome)}", todo))
        else:
            checks += outcome
    return checks


def flash_monitors(environment: Mapping[str, str], seconds: float) -> dict[str, str]:
    """Every monitor shows its number for `seconds`. Returns by name of the plug-in why one could not."""
    whole = {**os.environ, **environment}
    works = {name: _bound(FLASHERS, name, whole, seconds) for name in plugins.names(FLASHERS)}
    outcomes = all_within(seconds + LIMIT_S, works)
    return {name: _in_words(outcome) for name, outcome in outcomes.items() if isinstance(outcome, Exception)}


def _ask(group: str, environment: Mapping[str, str]) -> Mapping[str, Sequence[Any] | Exception]:
    whole = {**os.environ, **environment}
    return all_within(LIMIT_S, {name: _bound(group, name, whole) for name in plugins.names(group)})


def _bound(group: str, name: str, *arguments: object) -> Callable[[], Any]:
    return lambda: plugins.load(group, name)(*arguments)


def _in_words(error: Exception) -> str:
    return f"{type(error).__name__}: {error}"
