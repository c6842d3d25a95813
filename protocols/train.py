"""`train`: the mask and the classifier learn together, in the twin of the rig."""

from __future__ import annotations

import hashlib
from collections.abc import Mapping
from pathlib import Path
from typing import Annotated, ClassVar, Literal

import numpy as np
from annotated_types import Ge, Gt, Le, Lt

from labctl.errors import BadInput, concerning
from labctl.steps import Estimate, Source, Step, StepContext, StepResult, StepSetting
from protocols.accelerator import DeviceName, Precision, check_accelerator
from protocols.augmentation import Augmentation
from protocols.fit import check_exposure, check_fit, check_network
from protocols.scenes import load_scenes, scenes_of
from protocols.splits import Split

SECONDS_PER_ITEM = 1.1e-3
"""Measured for 63x63 scenes, a 32x32 mask and batches of 32 on one core; for estimates only."""


class Train(Step):
    """Joint training of mask and classifier in simulation; a design with nothing to learn trains the classifier.

    Defaults are those that worked for faces at 63/32: AdamW one-cycle, label smoothing, random shifts. The design says
    its own rate and when it stands still, so that the classifier can settle on what will be displayed.
    """

    version: ClassVar[int] = 3
    where: ClassVar[Literal["host", "child"]] = "child"
    outputs: ClassVar[Mapping[str, str]] = {"mask": "mask", "model": "model"}
    uses: ClassVar[frozenset[Source]] = frozenset({"data", "model", "design", "twin"})
    modules: ClassVar[tuple[str, ...]] = ("torch", "lightning_fabric", "protocols.joint_training", "sim.twin")

    type: Literal["train"]

    epochs: Annotated[int, Ge(1), Le(10_000)] = 16
    batch: Annotated[int, Ge(2), Le(4096)] = 32

    rate: Annotated[float, Gt(0), Le(1)] = 3e-3
    """Peak learning rate of the classifier."""

    weight_decay: Annotated[float, Ge(0), Le(1)] = 5e-4
    label_smoothing: Annotated[float, Ge(0), Lt(1)] = 0.1

    augmentation: Augmentation = Augmentation(shift_px=3, flip=True)
    """How training scenes are changed at random; what is given replaces all of it. No `flip` where handedness means
    something (digits)."""

    exposure_s: Annotated[float, Gt(0), Le(60)] | Literal["auto"] = "auto"
    """`auto` exposes each mask so that a white scene fills the sensor to `fill`: light is free. A time in seconds is
    the same for every mask: then a small hole pays for the light it loses."""

    fill: Annotated[float, Gt(0), Le(1)] = 0.9
    """With `auto`: a white scene exposes the middle of the sensor to this share of the full well."""

    noise: bool = True
    """Train with photon, dark and read noise."""

    panel_steepness_end: Annotated[float, Gt(0), Le(1000)] | None = None
    """Anneal the slope of the panel's levels geometrically from `panel.steepness` of the rig to this; for grey masks on
    a rig with `panel.surrogate: sigmoid`. None keeps it."""

    init: Path | None = None
    """A trained camera (`model.pt` of another run, same grids and classes) to start from; mask and its slope included
    if learned."""

    device: DeviceName = "auto"
    precision: Precision = "32-true"

    def check(self, setting: StepSetting) -> None:
        """Mask, scene and rig must fit; data, device and a camera to start from must be there."""
        check_fit(setting)
        check_network(setting)
        check_accelerator(self.device, setting.at("device"))
        if self.exposure_s != "auto":
            check_exposure(self.exposure_s, setting)
        if self.panel_steepness_end is not None and setting.rig.twin.panel.surrogate != "sigmoid":
            raise BadInput(
                f"the panel of rig '{setting.rig.name}' is learned through {setting.rig.twin.panel.surrogate}, "
                "which has no steepness to anneal; set twin.panel.surrogate: sigmoid in the rig, or take this away",
                at=setting.at("panel_steepness_end"),
            )
        if self.init is not None:
            from protocols.model_file import check_start

            with concerning(*setting.at("init")):
                check_start(self.init, setting)

    def fingerprint(self) -> str:
        """See `Step.fingerprint`: what the camera to start from holds."""
        if self.init is None:
            return ""
        try:
            return hashlib.sha256(self.init.expanduser().read_bytes()).hexdigest()
        except OSError as error:
            raise BadInput(f"'{self.init}' cannot be read: {error.strerror}; give the model.pt of a run") from error

    def estimate(self, setting: StepSetting) -> Estimate:
        """Compute only. Looks at the data, so it is here that a camera to start from must know the same classes."""
        data = scenes_of(setting.protocol)
        if self.init is not None:
            from protocols.model_file import require_classes

            with concerning(*setting.at("init")):
                require_classes(self.init, data.class_names, setting)
        items = self.epochs * len(data.part(Split.TRAIN))
        return Estimate(seconds=3 + items * SECONDS_PER_ITEM, disk_bytes=2 * 2**20)

    def run(self, context: StepContext) -> StepResult:
        """Train, or go on at the last checkpoint; writes `mask.npy` and `model.pt`."""
        from protocols import training_loop as loop
        from protocols.joint_training import JointTraining, as_saved
        from protocols.model_file import save_camera

        loop.prepare_torch()
        data = load_scenes(context)
        training = JointTraining(self, context.setting, data)
        optimisation = training.optimisation()
        final = loop.run_loop(
            context,
            training.schedule,
            state=optimisation.state,
            one_step=training.one_step,
            optimisers=optimisation.optimisers,
            rates=optimisation.rates,
            validate=training.validate,
            backward=training.fabric.backward,
            golden=training.golden,
        )
        training.settle()
        final |= training.validate()
        final["white_e"] = training.white_e()
        camera = training.camera()
        np.save(context.folder / "mask.npy", as_saved(camera.mask))
        save_camera(context.folder / "model.pt", camera)
        loop.drop_checkpoint(context)
        outputs = {"mask": context.folder / "mask.npy", "model": context.folder / "model.pt"}
        metrics = {**final, "aperture_ratio": float(camera.mask.mean()), "skipped": len(data.skipped)}
        return StepResult(outputs, metrics)
