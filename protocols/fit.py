"""Do protocol and rig fit together? Asked before anything moves."""

from __future__ import annotations

from collections.abc import Mapping
from typing import TYPE_CHECKING, Literal

from labctl.errors import BadInput, concerning
from labctl.references import Reference
from labctl.rig_file import ROLES
from labctl.steps import StepSetting
from labctl.suggest import one_of

if TYPE_CHECKING:
    from sim.designs.base import CameraDesign


def check_fit(setting: StepSetting) -> None:
    """Raise BadInput when the protocol has no data, or mask, scene, model, design and rig do not fit each other."""
    protocol = setting.protocol
    if protocol.data is None:
        raise BadInput("is missing; add pictures, for example `data: {type: digits}`", at=("data",))
    scene_px, cells = protocol.grids()
    for name, side in (("rows", 0), ("columns", 1)):
        if cells[side] > scene_px[side]:
            raise BadInput(
                f"mask larger than the scene: {cells[side]} {name} of cells, {scene_px[side]} {name} of scene pixels; "
                "use fewer cells or a larger scene_px",
                at=("mask_cells",),
            )
    setting.rig.twin.check_design(cells, scene_px, setting.rig.roads)
    built_design(setting)


def check_network(setting: StepSetting) -> None:
    """Raise BadInput when the model cannot read frames of the size that this rig and the read-out will give.

    Nor can it read what a camera for clips gives.
    """
    from sim.designs.video.base import VideoDesign

    if isinstance(built_design(setting), VideoDesign):
        raise BadInput(
            f"'{setting.design}' reads clips, and step '{setting.name}' learns from pictures; use `train_video`, or "
            "another design",
            at=("designs", str(setting.design)),
        )
    scene_px, cells = setting.protocol.grids()
    frame = setting.rig.twin.frame_shape(cells, scene_px)
    read = built_design(setting).read_shape(frame)
    with concerning(*(("scene_px",) if read == tuple(frame) else ("designs", str(setting.design)))):
        setting.protocol.model.build(read, 2)


def check_panel(setting: StepSetting, *, static: bool = False) -> None:
    """Raise BadInput when no panel can show the design; with `static`, also when every frame has another pattern."""
    design, at = built_design(setting), ("designs", str(setting.design))
    if not design.on_panel:
        raise BadInput(
            f"'{setting.design}' is no mask but optics that gather or bend light, which no panel can show, so step "
            f"'{setting.name}' cannot either; leave it to simulation (`train`, `evaluate` without frames), or use "
            "`pinhole` optics, whose frames are as sharp",
            at=at,
        )
    if static and design.dynamic:
        raise BadInput(
            f"'{setting.design}' shows every frame another pattern, and step '{setting.name}' works with one mask; "
            "leave it to simulation (`train`, `evaluate` without frames)",
            at=at,
        )


def built_design(setting: StepSetting) -> CameraDesign:
    """The design of a step, before anything is learned. Raises BadInput when it does not fit the mask."""
    with concerning("designs", str(setting.design)):
        design: CameraDesign = setting.design_settings().build(setting.protocol.grids()[1], int(setting.seed or 0))
    return design


def check_exposure(exposure_s: float, setting: StepSetting) -> None:
    """Raise BadInput outside the exposure times of the sensor that the rig file declares."""
    low, high = setting.rig.twin.exposure_limits_s
    if not low <= exposure_s <= high:
        raise BadInput(
            f"{exposure_s:g} is out of range; the camera of rig '{setting.rig.name}' allows {low:g}..{high:g} seconds",
            at=setting.at("exposure_s"),
        )


def check_instruments(wanted: Mapping[str, Mapping[str, float]], setting: StepSetting) -> None:
    """Raise BadInput for what the instruments of the rig do not have, and for values outside their declared limits."""
    there = {name: device for name, device in setting.rig.devices.items() if name not in ROLES}
    for name, quantities in wanted.items():
        at = setting.at("instruments", name)
        if name not in there:
            raise BadInput(f"rig '{setting.rig.name}' has no instrument '{name}'; {one_of(name, list(there))}", at=at)
        declared = there[name].declared_quantities()
        for quantity, value in quantities.items() if declared else ():
            if quantity not in declared:
                text = f"'{name}' has no quantity '{quantity}'; {one_of(quantity, list(declared))}"
                raise BadInput(text, at=(*at, quantity))
            limits = declared[quantity]
            if not limits.low <= value <= limits.high:
                text = f"{value:g} is out of range; '{name}' allows {limits.low:g}..{limits.high:g}"
                raise BadInput(text, at=(*at, quantity))


def check_captures(frames: Reference, split: Literal["train", "test"], least: int, setting: StepSetting) -> None:
    """Raise BadInput when the step behind `frames` is told to capture fewer than `least` scenes of `split`."""
    count = getattr(setting.protocol.steps[frames.step], split, "all")
    if isinstance(count, int) and count < least:
        text = f"{count} is out of range; step '{setting.name}' needs {least} or more scenes of the {split} split"
        raise BadInput(text, at=("steps", frames.step, split))
