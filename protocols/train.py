"""`train`: mask and classifier learn together, in the twin of the rig or with the hardware in the loop."""

from __future__ import annotations

import hashlib
from collections.abc import Mapping
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, ClassVar, Literal

import numpy as np
from annotated_types import Ge, Gt, Le, Lt

from labctl.calibration.validity import in_words
from labctl.errors import BadInput, concerning
from labctl.references import OutputKind, Reference
from labctl.steps import Estimate, Role, Source, Step, StepContext, StepResult, StepSetting
from protocols.accelerator import DeviceName, Precision, check_accelerator
from protocols.augmentation import Augmentation
from protocols.fit import check_exposure, check_fit, check_instruments, check_network, check_panel
from protocols.loop_plan import FITTED_RULES, GradientRule, Learns, LoopPlan, plan_loop
from protocols.measurement import Corrections
from protocols.scenes import load_scenes, scenes_of
from protocols.splits import Split
from sim.designs.losses import MaskLosses

if TYPE_CHECKING:
    from protocols.data import ImageSet
    from protocols.joint_training import JointTraining

SECONDS_PER_ITEM = 1.1e-3
"""Measured for 63x63 scenes, a 32x32 mask and batches of 32 on one core; for estimates only."""

MOST_IDS = 2**25
"""Exposure ids that steps with the hardware in the loop may take; what lies above is that of pilots and validation."""


class Train(Step):
    """Joint training of mask and classifier; a design with nothing to learn trains the classifier.

    In simulation unless `gradient` names a rule that measures; then every frame comes from the bench. Defaults are
    those that worked for faces at 63/32: AdamW one-cycle, label smoothing, random shifts. The design says its own rate
    and when it stands still, so that the classifier can settle on what will be displayed.
    """

    version: ClassVar[int] = 3
    where: ClassVar[Literal["host", "child"]] = "child"
    outputs: ClassVar[Mapping[str, str]] = {"mask": "mask", "model": "model"}
    newer: ClassVar[frozenset[str]] = frozenset(
        {"gradient", "learns", "start", "twin", "calibration", "corrections", "reuse_frames", "instruments", "losses"}
    )
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

    gradient: GradientRule = "sim"
    """Where value and slope of the frames come from. `sim`: the simulator, or `twin`. Measured on the bench, with the
    slope of the rig file: `straight_through`; of `twin`: `physics_aware`; of `twin`, refitted meanwhile:
    `learned_twin`."""

    learns: Learns = "both"
    """What learns. `mask` needs a trained camera to start from, and moves the mask from the first step to the last."""

    start: Annotated[Reference, OutputKind("model")] | None = None
    """A trained camera of an earlier step to start from; as `init`."""

    twin: Annotated[Reference, OutputKind("twin")] | None = None
    """A fitted twin of the bench."""

    calibration: Annotated[Reference, OutputKind("calibration")] | None = None
    """What measured frames, and those of the fitted twin, are corrected by."""

    corrections: Corrections = "all"
    """With `calibration`: these parts of `dark`, `flat`, `gain`, `registration`, or all that it has."""

    reuse_frames: bool = True
    """Where the mask does not learn, on the bench: every scene is exposed once, and its frame shifted at random. Else
    randomly changed scenes are exposed at every step."""

    losses: MaskLosses = MaskLosses()
    """What is asked of a mask that learns besides recognition, in simulation; designs with `losses` of their own keep
    these. A mask that stands still does not see them."""

    instruments: dict[str, dict[str, float]] = {}
    """On the bench: quantities to set before, by instrument: `{lamp: {power: 0.8}}`."""

    @property
    def measures(self) -> bool:
        """Whether frames come from the bench."""
        return self.gradient != "sim"

    @property
    def needs(self) -> frozenset[Role]:  # type: ignore[override]
        """See `Step.needs`."""
        return frozenset({"mask", "scene", "camera"}) if self.measures else frozenset()

    @property
    def uses(self) -> frozenset[Source]:  # type: ignore[override]
        """See `Step.uses`."""
        simulated: frozenset[Source] = frozenset({"data", "model", "design", "twin"})
        return simulated | {"rig"} if self.measures else simulated

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
        self._check_sources(setting)
        self._check_learning(setting)
        self._check_losses(setting)
        if self.measures:
            check_panel(setting, static=True)
            check_instruments(self.instruments, setting)
        elif self.instruments:
            raise BadInput("nothing is exposed with `gradient: sim`; take this away", at=setting.at("instruments"))

    def losses_of(self, setting: StepSetting) -> MaskLosses:
        """What the mask of this design is asked for: its own losses, or else those of the step."""
        own: MaskLosses = getattr(setting.design_settings(), "losses", MaskLosses())
        return own or self.losses

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
        if self.losses_of(setting).adversarial is not None:
            from protocols.losses import check_losses

            with concerning(*setting.at("losses", "adversarial")):
                check_losses(self.losses_of(setting), setting.protocol.data)
        if self.init is not None:
            from protocols.model_file import require_classes

            with concerning(*setting.at("init")):
                require_classes(self.init, data.class_names, setting)
        items = self.epochs * len(data.part(Split.TRAIN))
        seconds = 3 + items * SECONDS_PER_ITEM
        if not self.measures:
            return Estimate(seconds=seconds, disk_bytes=2 * 2**20)
        plan, exposure_s = self._loop_plan(setting, data), self._exposure_s(setting)
        bench_s = plan.seconds(setting.rig, exposure_s)
        at_s = f"at {exposure_s:.3g} s" + (
            " as the twin of the rig file foretells" if self.exposure_s == "auto" else ""
        )
        changes = "one mask" if plan.mask_changes == 1 else f"up to {plan.mask_changes} masks"
        return Estimate(
            seconds=seconds + bench_s,
            frames=plan.exposures,
            disk_bytes=2 * 2**20 + self._kept_bytes(setting, plan),
            moves=(
                f"trains with the hardware in the loop ({self.gradient}): about {plan.exposures} exposures {at_s}, "
                f"{changes}, {in_words(bench_s)} of the bench",
            ),
        )

    def run(self, context: StepContext) -> StepResult:
        """Train, or go on at the last checkpoint; writes `mask.npy` and `model.pt`."""
        from protocols import training_loop as loop
        from protocols.joint_training import as_saved
        from protocols.model_file import save_camera

        loop.prepare_torch()
        data = load_scenes(context)
        training = self._training(context, data)
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
        told = training.told()
        camera = training.camera()
        np.save(context.folder / "mask.npy", as_saved(camera.mask))
        save_camera(context.folder / "model.pt", camera)
        loop.drop_checkpoint(context)
        training.tidy()
        outputs = {"mask": context.folder / "mask.npy", "model": context.folder / "model.pt"}
        metrics = {**final, "aperture_ratio": float(camera.mask.mean()), "skipped": len(data.skipped), **told}
        return StepResult(outputs, metrics)

    def _training(self, context: StepContext, data: ImageSet) -> JointTraining:
        setting = context.setting
        start = None if self.start is None else context.input(self.start)
        fitted, measurement = None, None
        if self.twin is not None:
            from labctl.calibration.record import Calibration
            from protocols.twin_fit.fitted import fitted_twin

            fitted = fitted_twin(setting.rig, Calibration.load(context.input(self.twin)))
        if self.calibration is not None:
            from labctl.calibration.shelf import CalibrationSet
            from protocols.measurement import Measurement

            scene_px, cells = setting.protocol.grids()
            shape = setting.rig.twin.frame_shape(cells, scene_px)
            calibrations = CalibrationSet(context.input(self.calibration))
            measurement = Measurement.of(setting.rig, calibrations, self.corrections, shape, context.log)
            measurement = measurement.searched() if self.exposure_s == "auto" else measurement
        if not self.measures:
            from protocols.joint_training import JointTraining

            return JointTraining(self, setting, data, start=start, twin=fitted, measurement=measurement)
        from protocols.capture.metadata import set_instruments
        from protocols.loop_training import LoopTraining

        set_instruments(self.instruments, context.rig)
        return LoopTraining(self, context, data, start=start, fitted=fitted, measurement=measurement)

    # What fits

    def _check_sources(self, setting: StepSetting) -> None:
        """Start, twin and calibration must be those that the rule asks for."""
        if self.start is not None and self.init is not None:
            raise BadInput("`start` and `init` both name a camera to start from; keep one", at=setting.at("init"))
        if self.gradient in FITTED_RULES and self.twin is None:
            text = f"{self.gradient} needs a fitted twin; add `twin: ${{steps.NAME.twin}}` of a `fit_twin` step"
            raise BadInput(text, at=setting.at("gradient"))
        if self.gradient == "straight_through" and self.twin is not None:
            text = "straight_through takes its slope from the rig file; take `twin` away, or use physics_aware"
            raise BadInput(text, at=setting.at("twin"))
        if self.calibration is None and self.corrections != "all" and self.corrections:
            text = "there is nothing to correct by; add `calibration: ${steps.NAME.calibration}`"
            raise BadInput(text, at=setting.at("corrections"))
        if self.calibration is not None and not self.measures and self.twin is None:
            text = (
                "frames of the rig file's own twin need no correction; add `twin`, use a rule that measures, or take "
                "this away"
            )
            raise BadInput(text, at=setting.at("calibration"))
        if self.measures and not self.noise:
            raise BadInput("a bench measures with noise; take this away, or use sim", at=setting.at("noise"))

    def _check_learning(self, setting: StepSetting) -> None:
        """A mask alone can learn only where it moves, for a classifier that knows something."""
        if self.learns != "mask":
            return
        if not self._moving_share(setting):
            text = f"design '{setting.design}' has no mask that learns; use classifier"
            raise BadInput(text, at=setting.at("learns"))
        if self.start is None and self.init is None:
            text = "a mask cannot learn for a classifier that knows nothing; add `start` or `init`, or use both"
            raise BadInput(text, at=setting.at("learns"))

    def _check_losses(self, setting: StepSetting) -> None:
        """Terms of the mask are told by the simulator, to a mask that learns."""
        if self.losses and self.learns == "classifier":
            raise BadInput(
                "only a mask sees these, and it does not learn here; take this away", at=setting.at("losses")
            )
        if self.measures and self.learns != "classifier" and self.losses_of(setting):
            text = (
                f"what the mask of '{setting.design}' is asked for besides recognition is told by the simulator; use "
                "`gradient: sim`, with `twin` for a fitted one, or take `losses` away"
            )
            raise BadInput(text, at=setting.at("gradient"))

    # What will happen

    def _loop_plan(self, setting: StepSetting, data: ImageSet) -> LoopPlan:
        from protocols.loop_training import BLOCK, EXPOSURES_PER_FORWARD
        from protocols.training_loop import Schedule

        train, val = (len(data.part(split)) for split in (Split.TRAIN, Split.VAL))
        steps = Schedule(train, self.epochs, self.batch, 0).steps
        moving = self._moving_share(setting)
        reused = self.reuse_frames and not moving
        if not reused and steps * self.batch * EXPOSURES_PER_FORWARD > MOST_IDS:
            most = MOST_IDS // EXPOSURES_PER_FORWARD
            text = f"{self.epochs} epochs are {steps * self.batch} exposures, {most} can be told apart; use fewer"
            raise BadInput(text, at=setting.at("epochs"))
        return plan_loop(
            steps=steps,
            epochs=self.epochs,
            moving_steps=round(moving * steps),
            train=train,
            val=val,
            searched=self.exposure_s == "auto",
            reused=reused,
            block=BLOCK,
        )

    def _moving_share(self, setting: StepSetting) -> float:
        """Share of the training in which the mask learns."""
        from protocols.model_file import new_design

        design = new_design(setting)
        if not design.learnable or self.learns == "classifier":
            return 0.0
        moves = []
        for progress in np.arange(100) / 100:
            design.anneal(float(progress))
            moves.append(any(parameter.requires_grad for parameter in design.parameters()))
        share = float(np.mean(moves))
        return 1.0 if share and self.learns == "mask" else share

    def _exposure_s(self, setting: StepSetting) -> float:
        """Exposure of the first mask, as the twin of the rig file foretells it."""
        from protocols.model_file import new_design
        from protocols.simulation import ExposureRule, Simulation

        design = new_design(setting)
        simulation = Simulation(setting.rig, ExposureRule(self.fill, self.exposure_s), design=design)
        return float(simulation.exposure_of(design.mask().detach()))

    def _kept_bytes(self, setting: StepSetting, plan: LoopPlan) -> int:
        scene_px, cells = setting.protocol.grids()
        shape = setting.rig.twin.frame_shape(cells, scene_px)
        return 2 * int(np.prod(shape)) * plan.exposures if plan.mask_changes == 1 else 0
