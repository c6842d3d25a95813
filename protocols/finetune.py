"""`finetune`: the classifier learns on from frames that were really measured; the mask stays as it is."""

from __future__ import annotations

from collections.abc import Mapping
from typing import TYPE_CHECKING, Annotated, ClassVar, Literal

from annotated_types import Ge, Gt, Lt

from labctl.errors import BadInput
from labctl.references import OutputKind, Reference
from labctl.steps import Estimate, Source, StepContext, StepResult, StepSetting
from protocols.fit import check_panel
from protocols.learning_from_captures import Captures, LearningFromCaptures, captures_of, part_of

if TYPE_CHECKING:
    from torch import Tensor

    from protocols.finetuning import TwinFrames
    from protocols.model_file import TrainedCamera

Learns = Literal["classifier", "normalisation", "twin"]


class Finetune(LearningFromCaptures):
    """Fits the normalisation to the captured training frames, then trains the classifier on them.

    Only frames of the training split are learned from; the validation split is watched, the test split not touched.
    """

    where: ClassVar[Literal["host", "child"]] = "child"
    outputs: ClassVar[Mapping[str, str]] = {"model": "model"}
    uses: ClassVar[frozenset[Source]] = frozenset({"design", "model"})
    modules: ClassVar[tuple[str, ...]] = ("torch", "lightning_fabric", "protocols.finetuning")
    newer: ClassVar[frozenset[str]] = LearningFromCaptures.newer | {"learns", "frames_limit", "twin", "twin_share"}

    type: Literal["finetune"]

    learns: Learns = "classifier"
    """What is fitted to the captures: the whole `classifier`; `normalisation` alone, that is mean frame, scale and
    batch statistics, which needs few frames and no labels; or the classifier with a `twin` that is fitted on to the
    captures and makes frames of all other training scenes, with fresh noise."""

    frames_limit: Annotated[int, Ge(2)] | None = None
    """Learn from so many captured training frames only; smaller limits take a part of what larger ones take."""

    twin: Annotated[Reference, OutputKind("twin")] | None = None
    """With `learns: twin`: the fitted twin to start from."""

    twin_share: Annotated[float, Gt(0), Lt(1)] = 0.5
    """With `learns: twin`: the share of frames in a batch that the twin makes."""

    def check(self, setting: StepSetting) -> None:
        """There must be training frames, the device, and a twin where one is to be learned with."""
        super().check(setting)
        if (self.learns == "twin") != (self.twin is not None):
            text = "`learns: twin` and `twin` belong together; give both (`twin: ${steps.NAME.twin}`) or none"
            raise BadInput(text, at=setting.at("learns" if self.twin is None else "twin"))
        if self.learns == "twin":
            check_panel(setting, static=True)
        if self.learns == "twin" and setting.protocol.data is None:
            raise BadInput("is missing; `learns: twin` makes frames of its training scenes", at=("data",))

    def estimate(self, setting: StepSetting) -> Estimate:
        """Compute only."""
        if self.learns == "normalisation":
            return Estimate(seconds=3, disk_bytes=2**20)
        return Estimate(seconds=3 + self.epochs * (2.0 if self.learns == "twin" else 0.5), disk_bytes=2**20)

    def run(self, context: StepContext) -> StepResult:
        """Train, or go on at the last checkpoint; writes `model.pt`."""
        from protocols import training_loop as loop
        from protocols.accelerator import open_fabric
        from protocols.finetuning import fine_tune, renormalise, validated
        from protocols.model_file import load_camera, save_camera

        loop.prepare_torch()
        seed = int(context.setting.seed or 0)
        camera = load_camera(context.input(self.model), context.setting)
        fabric = open_fabric(self.device, self.precision)
        captures = captures_of(self, context, camera, fabric.device)
        train = self._chosen(captures, seed, context)
        classifier = camera.classifier.to(fabric.device)
        before = validated(classifier, captures)
        if self.learns == "normalisation":
            final = renormalise(classifier, captures, train)
        else:
            made = self._twin_frames(context, camera, captures, train) if self.learns == "twin" else None
            final = fine_tune(
                self, context, fabric, classifier, captures, train, seed=seed, made=made, made_share=self.twin_share
            )
        if before and final["val_accuracy"] < before["val_accuracy"]:
            context.log(
                f"fine-tuning did not help: validation accuracy {before['val_accuracy']:.3f} before, "
                f"{final['val_accuracy']:.3f} after; try more epochs, a lower rate or more captures"
            )
        path = context.folder / "model.pt"
        classifier.cpu()
        save_camera(path, camera)
        loop.drop_checkpoint(context)
        return StepResult(
            {"model": path},
            {**final, **{f"{name}_before": value for name, value in before.items()}, "labelled_captures": len(train)},
        )

    def _chosen(self, captures: Captures, seed: int, context: StepContext) -> Tensor:
        if self.frames_limit is None:
            return captures.train
        if self.frames_limit > len(captures.train):
            context.log(f"frames_limit is {self.frames_limit}, {len(captures.train)} were captured; all are used")
        return part_of(self, context, captures, self.frames_limit, seed=seed)

    def _twin_frames(
        self, context: StepContext, camera: TrainedCamera, captures: Captures, train: Tensor
    ) -> TwinFrames:
        import numpy as np
        import torch

        from labctl.calibration.record import Calibration
        from protocols.finetuning import TwinFrames, refit_on
        from protocols.scenes import load_scenes
        from protocols.splits import Split
        from protocols.twin_fit.fitted import fitted_twin

        assert self.twin is not None
        data = load_scenes(context)
        twin = fitted_twin(context.setting.rig, Calibration.load(context.input(self.twin)), dtype=torch.float32)
        own = captures.sample_ids[train].numpy()
        refit_on(twin, context, context.input(self.frames), data, camera.mask, own)
        rows = data.part(Split.TRAIN)
        captured = np.isin(data.sample_ids[rows], own)
        further = rows[~captured] if (~captured).any() else rows
        return TwinFrames.of(twin, context, data, further, camera.design, captures)
