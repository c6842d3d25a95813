"""What is known of published sets of clips: their classes and splits, as data files of this package."""

from __future__ import annotations

import json
import re
from collections.abc import Sequence
from importlib.resources import files
from typing import Any, Literal

from labctl.errors import BadInput
from protocols.splits import some_of

KnownSet = Literal["kth", "sbu", "weizmann", "ipn_hand"]


def facts(name: KnownSet) -> dict[str, Any]:
    """The content of `sets/NAME.json`."""
    known: dict[str, Any] = json.loads((files("protocols.data.clips") / "sets" / f"{name}.json").read_text("utf-8"))
    return known


def matches(pattern: str, names: Sequence[str], *, what: str, rule: str) -> list[re.Match[str]]:
    """How `pattern` fits the end of each path. Raises BadInput with the names of those that it does not fit."""
    found = [re.search(rf"(?:^|/){pattern}$", name) for name in names]
    strange = [name for name, match in zip(names, found, strict=True) if match is None]
    if strange:
        raise BadInput(
            f"{what}: {len(strange)} of {len(names)} recordings are of no class, {some_of(strange)}; {rule}; "
            "rename or remove these"
        )
    return [match for match in found if match is not None]
