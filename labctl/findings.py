"""What is found on a computer (`labctl devices`) and what is checked of it (`labctl doctor`).

Drivers offer both by entry points: `labctl.finders` are functions `find(environment) -> list[Finding]`, `labctl.checks`
functions `check(environment) -> list[Check]`. `environment` holds the variables of the process and those that a virtual
lab adds. Neither moves anything, and each ends within a few seconds.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import Any, Literal

Kind = Literal["monitor", "camera", "instrument", "producer"]
Status = Literal["ok", "warning", "problem", "skipped"]


@dataclass(frozen=True)
class Finding:
    """One thing that was found. where: how a rig file names it; details: plain JSON values."""

    kind: Kind
    name: str
    where: str
    details: Mapping[str, Any] = field(default_factory=dict)


@dataclass(frozen=True)
class Check:
    """One thing that was looked at. text: what was seen, with numbers; todo: the next action, empty when fine."""

    name: str
    status: Status
    text: str
    todo: str = ""
