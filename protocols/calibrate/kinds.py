"""All kinds of calibration by name, and the order in which they are made."""

from __future__ import annotations

from collections.abc import Iterable, Mapping

from labctl.errors import BadInput
from labctl.suggest import one_of
from protocols.calibrate.dark import Dark
from protocols.calibrate.kind import Kind

KINDS: Mapping[str, type[Kind]] = {kind.name: kind for kind in (Dark,)}


def in_order(wanted: Iterable[str]) -> list[str]:
    """`wanted` and all that they stand on, each after what it stands on. Raises BadInput for an unknown kind."""
    placed: dict[str, None] = {}

    def place(name: str) -> None:
        if name not in KINDS:
            raise BadInput(f"there is no calibration '{name}'; {one_of(name, list(KINDS))}")
        for before in KINDS[name].after:
            place(before)
        placed.setdefault(name)

    for name in sorted(wanted, key=lambda name: list(KINDS).index(name) if name in KINDS else -1):
        place(name)
    return list(placed)
