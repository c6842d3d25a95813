"""`finetune`: the classifier learns on from frames that were really measured; the mask stays as it is."""

from __future__ import annotations

from collections.abc import Mapping
from typing import TYPE_CHECKING, Annotated, ClassVar, Literal

from annotated_types import Ge, Gt, Le, Lt

from labctl.errors import BadInput
from labctl.references import OutputKind, Reference
from labctl.steps import Estimate, Source, Step, StepContext, StepResult, StepSetting
from protocols.accelerator import DeviceName, Precision, check_accelerator
from protocols.fit import check_captures

if TYPE_CHECKING:
    import torch
    from torch import Tensor


class Finetune(Step):
    """Fits the normalisation to the captured training frames, then trains the classifier on them.

    Only frames of the training split are learned from; the validation split is watched, the test split not touched.
    """

    where: ClassVar[Literal["host", "child"]] = "child"
    outputs: ClassVar[Mapping[str, str]] = {"model": "model"}
    uses: ClassVar[frozenset[Source]] = frozenset({"design", "model"})
    modules: ClassVar[tuple[str, ...]] = ("torch", "lightning_fabric", "protocols.training_loop", "protocols.models")

    type: Literal["finetune"]

    model: Annotated[Reference, OutputKind("model")]
    """What to start from."""

    frames: Annotated[Reference, OutputKind("frames")]
    """What to learn from."""

    epochs: Annotated[int, Ge(1), Le(10_000)] = 12
    batch: Annotated[int, Ge(2), Le(4096)] = 32

    rate: Annotated[float, Gt(0), Le(1)] = 1e-3
    """Peak learning rate."""

    weight_decay: Annotated[float, Ge(0), Le(1)] = 5e-4
    label_smoothing: Annotated[float, Ge(0), Lt(1)] = 0.1

    shift_px: Annotated[int, Ge(0), Le(16)] = 1
    """Frames are shifted at random by up to so many sensor pixels: a shifted scene shifts its coded frame."""

    device: DeviceName = "auto"
    precision: Precision = "32-true"

    def check(self, setting: StepSetting) -> None:
        """There must be training frames, and the device."""
        check_captures(self.frames, "train", 2, setting)
        check_accelerator(self.device, setting.at("device"))

    def estimate(self, setting: StepSetting) -> Estimate:
        """Compute only."""
        return Estimate(seconds=3 + self.epochs * 0.5, disk_bytes=2**20)

    def run(self, context: StepContext) -> StepResult:
        """Train, or go on at the last checkpoint; writes `model.pt`."""
        import torch
        from torch import nn

        from protocols import training_loop as loop
        from protocols.accelerator import open_fabric
        from protocols.augmentation import shift_and_flip
        from protocols.captured import labelled_frames
        from protocols.model_file import answers, load_camera, save_camera
        from protocols.models import settle_batch_norm

        loop.prepare_torch()
        seed = int(context.setting.seed or 0)
        camera = load_camera(context.input(self.model), context.setting)
        captured = labelled_frames(context.input(self.frames), camera.class_names)
        fabric = open_fabric(self.device, self.precision)
        frames = camera.design.readout(torch.from_numpy(captured.frames)).detach().to(fabric.device)
        labels = torch.from_numpy(captured.labels).to(fabric.device)
        if tuple(frames.shape[-2:]) != camera.frame_shape:
            raise BadInput(
                f"captured frames are {tuple(frames.shape[-2:])}, the model was trained on {camera.frame_shape}; "
                "capture with the region that the model was trained for"
            )
        train, val = (torch.from_numpy(captured.part(part)) for part in (0, 1))
        if len(train) < 2:
            raise BadInput(f"{len(train)} captured training frames; capture at least 2 (steps.<capture>.train)")
        classifier = camera.classifier.to(fabric.device)

        def validate() -> dict[str, float]:
            if not len(val):
                return {}
            return {"val_accuracy": float((answers(classifier, frames[val]) == labels[val]).float().mean())}

        before = validate()
        classifier.normalisation.fit(frames[train])
        schedule = loop.Schedule(len(train), self.epochs, self.batch, seed)
        optimiser = torch.optim.AdamW(classifier.parameters(), lr=self.rate, weight_decay=self.weight_decay)
        cycle = torch.optim.lr_scheduler.OneCycleLR(optimiser, max_lr=self.rate, total_steps=schedule.steps + 1)
        network, wrapped = fabric.setup(classifier, optimiser)
        criterion = nn.CrossEntropyLoss(label_smoothing=self.label_smoothing)

        def one_step(step: int, indices: Tensor, generator: torch.Generator) -> tuple[Tensor, Tensor]:
            classifier.train()
            items = train[indices]
            seen = shift_and_flip(frames[items], self.shift_px, flip=False, generator=generator)
            logits = network(seen)
            return criterion(logits, labels[items]), logits.argmax(1) == labels[items]

        final = loop.run_loop(
            context,
            schedule,
            state={"classifier": classifier, "optimiser": optimiser, "cycle": cycle},
            one_step=one_step,
            optimisers=[wrapped],
            rates=[cycle],
            validate=validate,
            backward=fabric.backward,
        )
        settle_batch_norm(classifier, frames[train])
        final |= validate()
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
