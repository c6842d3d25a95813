"""All kinds of calibration by name, and the order in which they are made."""

from __future__ import annotations

from collections.abc import Iterable, Mapping

from labctl.errors import BadInput
from labctl.suggest import one_of
from protocols.calibrate.dark import Dark
from protocols.calibrate.exposure import ExposureSearch
from protocols.calibrate.flat import Flat
from protocols.calibrate.kind import Kind
from protocols.calibrate.monitor import Monitor
from protocols.calibrate.panel_response import PanelResponse
from protocols.calibrate.photon_transfer import PhotonTransfer
from protocols.calibrate.point_spread import PointSpread
from protocols.calibrate.registration import Registration
from protocols.calibrate.settling import Settling
from protocols.calibrate.stray_light import StrayLight

KINDS: Mapping[str, type[Kind]] = {
    kind.name: kind
    for kind in (
        Settling,
        Dark,
        PhotonTransfer,
        Flat,
        ExposureSearch,
        StrayLight,
        PanelResponse,
        Monitor,
        Registration,
        PointSpread,
    )
}


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
