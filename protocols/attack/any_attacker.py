"""The field of a step that takes any installed attacker, told apart by `type`."""

from __future__ import annotations

from typing import TYPE_CHECKING, Annotated

from annotated_types import MinLen
from pydantic import AfterValidator

from labctl import plugins
from protocols.attack.attackers import AttackerSettings

if TYPE_CHECKING:
    Attacker = AttackerSettings
else:
    Attacker = plugins.any_of("labctl.attackers")
"""Any recogniser that an attacker may train."""


def _each_once(attackers: tuple[AttackerSettings, ...]) -> tuple[AttackerSettings, ...]:
    names = [attacker.name for attacker in attackers]
    twice = sorted({name for name in names if names.count(name) > 1})
    if twice:
        raise ValueError(f"{', '.join(twice)} stands twice; name each attacker once")
    return attackers


Attackers = Annotated[tuple[Attacker, ...], MinLen(1), AfterValidator(_each_once)]
"""Attackers that are all tried; the strongest counts."""
