"""`train`: the mask and the classifier learn together, in the twin of the rig."""

from __future__ import annotations

from collections.abc import Mapping
from typing import TYPE_CHECKING, Annotated, Any, ClassVar, Literal

import numpy as np
from annotated_types import Ge, Gt, Le, Lt

from labctl.steps import Estimate, Source, Step, StepContext, StepResult, StepSetting
from protocols.fit import check_fit, check_network

if TYPE_CHECKING:
    import torch
    from torch import Tensor

SECONDS_PER_STEP = 0.035
"""Measured for batch 32, 63x63 scenes and a 32x32 mask on one core; for estimates only."""

REFIT_EVERY = 8
"""Steps between new estimates of the normalisation while the mask still moves."""

REFIT_ITEMS = 256


class Train(Step):
    """Joint training of mask and classifier in simulation; a design with nothing to learn trains the classifier.

    Defaults are those that worked for faces at 63/32: AdamW one-cycle, label smoothing, random shifts. The design says
    its own rate and when it stands still, so that the classifier can settle on what will be displayed.
    """

    where: ClassVar[Literal["host", "child"]] = "child"
    outputs: ClassVar[Mapping[str, str]] = {"mask": "mask", "model": "model"}
    uses: ClassVar[frozenset[Source]] = frozenset({"data", "model", "design", "twin"})
    modules: ClassVar[tuple[str, ...]] = ("torch", "protocols.training_loop", "protocols.models", "sim.twin")

    type: Literal["train"]

    epochs: Annotated[int, Ge(1), Le(10_000)] = 16
    batch: Annotated[int, Ge(2), Le(4096)] = 32

    rate: Annotated[float, Gt(0), Le(1)] = 3e-3
    """Peak learning rate of the classifier."""

    weight_decay: Annotated[float, Ge(0), Le(1)] = 5e-4
    label_smoothing: Annotated[float, Ge(0), Lt(1)] = 0.1

    shift_px: Annotated[int, Ge(0), Le(64)] = 3
    """Training scenes are shifted at random by up to so many scene pixels each way."""

    flip: bool = True
    """Training scenes are mirrored left to right at random. Turn off where handedness means something (digits)."""

    fill: Annotated[float, Gt(0), Le(1)] = 0.9
    """A white scene exposes the brightest pixel to this share of the full well."""

    noise: bool = True
    """Train with photon, dark and read noise."""

    def check(self, setting: StepSetting) -> None:
        """Mask, scene and rig must fit; data must be there."""
        check_fit(setting)
        check_network(setting)

    def estimate(self, setting: StepSetting) -> Estimate:
        """Compute only."""
        items = 1000
        return Estimate(seconds=3 + self.epochs * items / self.batch * SECONDS_PER_STEP, disk_bytes=2 * 2**20)

    def run(self, context: StepContext) -> StepResult:
        """Train, or go on at the last checkpoint; writes `mask.npy` and `model.pt`."""
        import torch
        from torch import nn

        from protocols import training_loop as loop
        from protocols.augmentation import shift_and_flip
        from protocols.keys import stream_seed
        from protocols.model_file import TrainedCamera, answers, new_classifier, new_design, save_camera
        from protocols.models import settle_batch_norm
        from protocols.scenes import load_scenes
        from protocols.simulation import Simulation
        from protocols.splits import Split, spread
        from sim.noise import TorchDraws

        loop.prepare_torch()
        setting, seed = context.setting, int(context.setting.seed or 0)
        protocol = setting.protocol
        data = load_scenes(context)
        simulation = Simulation(setting.rig, fill=self.fill)
        train_rows, val_rows = data.part(Split.TRAIN), data.part(Split.VAL)
        rows = np.concatenate([train_rows, val_rows])  # the test split is not even looked at
        shown = simulation.shown(torch.from_numpy(data.images[rows]))
        labels = torch.from_numpy(data.labels[rows])
        train, val = torch.arange(len(rows)).split([len(train_rows), len(val_rows)])

        torch.manual_seed(stream_seed(seed, "start"))
        design = new_design(setting)
        frame_shape = tuple(design.readout(simulation.all_frames(shown[:1], design.mask().detach())).shape[-2:])
        classifier = new_classifier(protocol, frame_shape, len(data.class_names))
        schedule = loop.Schedule(len(train), self.epochs, self.batch, seed)

        def fit_normalisation(items: Tensor) -> None:
            frames = simulation.all_frames(shown[items], design.mask().detach())
            classifier.normalisation.fit(design.readout(frames).detach())

        few = train[torch.from_numpy(spread(len(train), REFIT_ITEMS))]
        fit_normalisation(few if design.learnable else train)
        optimiser, cycle, extra, extra_rates = self._optimisers(classifier, design, schedule.steps)
        criterion = nn.CrossEntropyLoss(label_smoothing=self.label_smoothing)

        def moves(step: int) -> bool:
            design.anneal(max(step, 0) / schedule.steps)
            return any(parameter.requires_grad for parameter in design.parameters())

        def draws(generator: torch.Generator) -> Any:
            return TorchDraws(generator) if self.noise else None

        def one_step(step: int, indices: Tensor, generator: torch.Generator) -> tuple[Tensor, Tensor]:
            moved = moves(step - 1)
            if moves(step) and step % REFIT_EVERY == 0:
                fit_normalisation(few)
            elif moved and not moves(step):
                fit_normalisation(train)
            classifier.train()
            items = train[indices]
            scenes = shift_and_flip(shown[items], self.shift_px, flip=self.flip, generator=generator)
            noise = draws(generator)
            logits = classifier(design(scenes, lambda scene, mask: simulation.frames(scene, mask, draws=noise)))
            return criterion(logits, labels[items]), logits.argmax(1) == labels[items]

        def validate() -> dict[str, float]:
            mask = design.mask().detach()
            values = {"aperture_ratio": float(mask.mean())} if design.learnable else {}
            if len(val):
                generator = torch.Generator().manual_seed(stream_seed(seed, "validation"))
                frames = simulation.all_frames(shown[val], mask, draws=draws(generator))
                named = answers(classifier, design.readout(frames).detach())
                values["val_accuracy"] = float((named == labels[val]).float().mean())
            return values

        final = loop.run_loop(
            context,
            schedule,
            state={
                "classifier": classifier,
                "design": design,
                "optimiser": optimiser,
                "cycle": cycle,
                **{f"mask_{i}": item for i, item in enumerate([*extra, *extra_rates])},
            },
            one_step=one_step,
            optimisers=[optimiser, *extra],
            rates=[cycle, *extra_rates],
            validate=validate,
        )
        mask = design.mask().detach()
        noise = draws(torch.Generator().manual_seed(stream_seed(seed, "settle")))
        settle_batch_norm(classifier, design.readout(simulation.all_frames(shown[train], mask, draws=noise)).detach())
        final |= validate()
        np.save(context.folder / "mask.npy", mask.numpy().astype(np.float32))
        camera = TrainedCamera(classifier, design, self.fill, data.class_names, (frame_shape[0], frame_shape[1]))
        save_camera(context.folder / "model.pt", camera)
        loop.drop_checkpoint(context)
        outputs = {"mask": context.folder / "mask.npy", "model": context.folder / "model.pt"}
        return StepResult(outputs, {**final, "aperture_ratio": float(mask.mean()), "skipped": len(data.skipped)})

    def _optimisers(self, classifier: Any, design: Any, steps: int) -> tuple[Any, Any, list[Any], list[Any]]:
        import torch

        optimiser = torch.optim.AdamW(classifier.parameters(), lr=self.rate, weight_decay=self.weight_decay)
        cycle = torch.optim.lr_scheduler.OneCycleLR(optimiser, max_lr=self.rate, total_steps=steps + 1)
        if not design.learnable:
            return optimiser, cycle, [], []
        own = torch.optim.Adam(design.parameters(), lr=design.rate)
        fade = torch.optim.lr_scheduler.CosineAnnealingLR(own, T_max=steps)
        return optimiser, cycle, [own], [fade]
