"""Do protocol and rig fit together? Asked before anything moves."""

from __future__ import annotations

from labctl.errors import BadInput
from labctl.steps import StepSetting


def check_fit(setting: StepSetting) -> None:
    """Raise BadInput when the protocol has no data or model, or mask, scene and rig do not fit each other."""
    protocol = setting.protocol
    if protocol.data is None:
        raise BadInput(f"step '{setting.name}' needs pictures; add `data:`, for example {{type: digits}}")
    scene_px, cells = protocol.grids()
    for name, side in (("rows", 0), ("columns", 1)):
        if cells[side] > scene_px[side]:
            raise BadInput(
                f"the mask has {cells[side]} {name}, the scene only {scene_px[side]}; "
                "mask_cells must not be larger than scene_px"
            )
    setting.rig.twin.check_design(cells, scene_px, setting.rig.roads)
    setting.design_settings()
