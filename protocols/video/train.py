"""`train_video`: a camera for clips learns with a network that tells the action, against one that names the actor."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Annotated, ClassVar, Literal

from annotated_types import Ge, Gt, Le

from labctl.errors import BadInput
from labctl.steps import Estimate, Source, Step, StepContext, StepResult, StepSetting
from protocols.accelerator import DeviceName, Precision, check_accelerator
from protocols.fit import built_design, check_exposure
from protocols.splits import Split
from protocols.video.encodings import check_clips, check_networks
from protocols.video.networks import ActionNetwork, PrivacyNetwork, Small3d, SmallFrame
from protocols.video.readers import fingerprint_of, say_weights

SECONDS_PER_CLIP = 8e-3
"""Of one epoch, measured for 16 frames of 32x32 on one core; for estimates only."""


class TrainVideo(Step):
    """Adversarial training of a camera for clips. A design with nothing to learn is kept as it is.

    Defaults are those that worked for clips of 16 frames of 32x32. What the networks reach here says little: judge by
    `evaluate_video` and `attack_video`, which train fresh ones on the finished camera.
    """

    where: ClassVar[Literal["host", "child"]] = "child"
    outputs: ClassVar[Mapping[str, str]] = {"mask": "mask", "model": "video_model"}
    uses: ClassVar[frozenset[Source]] = frozenset({"data", "design", "twin"})
    modules: ClassVar[tuple[str, ...]] = ("torch", "lightning_fabric", "protocols.video.adversarial", "sim.twin")

    type: Literal["train_video"]

    alpha: Annotated[float, Ge(0), Le(1000)] = 2.0
    """Weight of the entropy of the privacy network, in nats per nat of the action. [code: 2 for SBU; forks: 1 for
    KTH, 8 for IPN] A design may have its own. 0: nothing is hidden."""

    epochs: Annotated[int, Ge(1), Le(10_000)] = 16
    batch: Annotated[int, Ge(2), Le(4096)] = 16

    accumulate: Annotated[int, Ge(1), Le(4096)] = 1
    """Parts that a batch is taken in, one after the other, for one step of the weights: less memory, same gradient but
    for batch normalisation."""

    rate: Annotated[float, Gt(0), Le(1)] = 2e-3
    """Learning rate of both networks (Adam); the design has its own."""

    operator: Literal["soft", "hard"] = "soft"
    """Which read-out the networks see. `hard`: the staircase as a device makes it, with the slope of the soft one. Who
    builds a hard camera should train for it."""

    frames_for_privacy: Annotated[int, Ge(1), Le(1024)] = 3
    """Random frames of each clip that the privacy network sees in a step. [code: 1]"""

    attackers: Annotated[int, Ge(1), Le(64)] = 1
    """Privacy networks; the camera minds the surest. [Wu et al. 2018]"""

    restart_every: Annotated[int, Ge(0), Le(10_000_000)] = 0
    """Steps after which one privacy network, in turn, starts afresh; 0: never. [Wu et al.: 200]"""

    reversal: bool = False
    """Turn the gradient of the privacy loss round in place of the entropy. [Ganin and Lempitsky 2015]"""

    network: ActionNetwork = Small3d()
    opponent: PrivacyNetwork = SmallFrame()

    shift_px: Annotated[int, Ge(0), Le(64)] = 2
    """Each clip is shifted at random by up to so much, all its frames alike."""

    noise: bool = True
    """Train with photon, dark and read noise."""

    exposure_s: Annotated[float, Gt(0), Le(60)] | Literal["auto"] = "auto"
    """`auto` exposes so that a white scene fills the sensor to `fill`; else seconds, the same for every mask."""

    fill: Annotated[float, Gt(0), Le(1)] = 0.9

    device: DeviceName = "auto"
    precision: Precision = "32-true"

    def check(self, setting: StepSetting) -> None:
        """There must be clips, a design that reads them, and networks that fit."""
        check_clips(setting)
        check_accelerator(self.device, setting.at("device"))
        if self.exposure_s != "auto":
            check_exposure(self.exposure_s, setting)
        if self.accumulate > self.batch // 2:
            raise BadInput(
                f"{self.accumulate} parts of a batch of {self.batch} have less than two clips each; use a larger batch",
                at=setting.at("accumulate"),
            )
        if self.reversal and self.restart_every:
            raise BadInput("belongs to the entropy of an ensemble, not to `reversal`", at=setting.at("restart_every"))
        check_networks((self.network, self.opponent), setting)

    def fingerprint(self) -> str:
        """See `Step.fingerprint`: what the weights hold that networks start from."""
        return fingerprint_of((self.network, self.opponent))

    def alpha_of(self, setting: StepSetting) -> float:
        """That of the design if it has one."""
        own = getattr(setting.design_settings(), "alpha", None)
        return self.alpha if own is None else float(own)

    def estimate(self, setting: StepSetting) -> Estimate:
        """Compute only."""
        if not built_design(setting).learnable:
            return Estimate(seconds=2, disk_bytes=2**20)
        clips = len(setting.protocol.data.labels()[0])
        seconds = 3 + self.epochs * clips * SECONDS_PER_CLIP * (0.5 + 0.5 * self.attackers)
        return Estimate(seconds=seconds, disk_bytes=4 * 2**20)

    def run(self, context: StepContext) -> StepResult:
        """Train, or go on at the last checkpoint; writes `mask.npy`, `model.pt` and how the thresholds moved."""
        import numpy as np

        from protocols import training_loop as loop
        from protocols.joint_training import as_saved
        from protocols.model_file import new_design
        from protocols.video.adversarial import AdversarialTraining, check_lengths
        from protocols.video.camera_file import save_video_camera
        from protocols.video.encodings import load_clips

        loop.prepare_torch()
        data, design = load_clips(context), new_design(context.setting)
        check_lengths(data, design)  # type: ignore[arg-type]
        if len(data.part(Split.TRAIN)) < 2:
            raise BadInput("there are fewer than two training clips; give the training split a share", at=("data",))
        training = AdversarialTraining(self, context, data, design)  # type: ignore[arg-type]
        final: dict[str, float] = {}
        if design.learnable:
            for network, names in ((self.network, data.action_names), (self.opponent, data.actor_names)):
                say_weights(context, network, training.read_shape, len(names))
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
                check_slopes=training.check_slopes,
            )
        else:
            context.log("this camera has nothing to learn; it is kept as it is")
        camera = training.camera()
        np.save(context.folder / "mask.npy", as_saved(camera.mask))
        np.savez_compressed(context.folder / "thresholds.npz", light=np.array(training.history.thresholds))
        save_video_camera(context.folder / "model.pt", camera)
        loop.drop_checkpoint(context)
        outputs = {"mask": context.folder / "mask.npy", "model": context.folder / "model.pt"}
        told = {"alpha": training.alpha, "clips": len(training.train_rows), "skipped": len(data.skipped)}
        return StepResult(outputs, {**final, **told, **camera.design.electronics()})
