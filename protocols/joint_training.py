"""Mask and classifier learn together: one object that knows a step of it, and how the mask moves."""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

import numpy as np
import torch
from torch import Tensor, nn

from labctl.errors import BadInput
from protocols.accelerator import generator_on, open_fabric
from protocols.augmentation import augment
from protocols.keys import stream_seed
from protocols.losses import MaskTerms
from protocols.model_file import TrainedCamera, answers, load_camera, new_classifier, new_design
from protocols.models import Classifier, settle_batch_norm
from protocols.simulation import CHUNK, ExposureRule, ShownScenes, Simulation
from protocols.splits import Split, spread
from protocols.training_loop import Schedule, Stateful
from sim.golden import Golden, golden_frame
from sim.noise import TorchDraws

if TYPE_CHECKING:
    from pathlib import Path

    from labctl.steps import StepSetting
    from protocols.data import ImageSet
    from protocols.measurement import Measurement
    from protocols.train import Train
    from sim.designs.base import CameraDesign, Patterns
    from sim.twin import Twin

REFIT_EVERY = 8
"""Steps between new estimates of the normalisation while the mask still moves."""

REFIT_ITEMS = 256
SETTLE_ITEMS = 4096
"""Most training scenes that the last estimates look at; a set that does not fit in memory need not be seen whole."""


@dataclass(frozen=True)
class Optimisation:
    """The optimisers as the loop calls them, and everything of them that a checkpoint holds."""

    optimisers: list[Any]
    rates: list[Any]
    state: dict[str, Stateful]


class JointTraining:
    """Everything that a training step of `train` touches. A design with nothing to learn trains the classifier.

    start: a trained camera to start from. twin: stands for that of the rig file; frames of it pass `measurement`, as
    measured ones would.
    """

    def __init__(
        self,
        step: Train,
        setting: StepSetting,
        data: ImageSet,
        *,
        start: Path | None = None,
        twin: Twin | None = None,
        measurement: Measurement | None = None,
    ) -> None:
        self.step, self.seed, self.measurement = step, int(setting.seed or 0), measurement
        self.fabric = open_fabric(step.device, step.precision)
        self.device = self.fabric.device
        rule = ExposureRule(step.fill, step.exposure_s)
        torch.manual_seed(stream_seed(self.seed, "start"))
        self.design: CameraDesign = new_design(setting).to(self.device)
        self.simulation = Simulation(setting.rig, rule, device=self.device, twin=twin, design=self.design)
        train_rows, val_rows = data.part(Split.TRAIN), data.part(Split.VAL)  # the test split is not even looked at
        self.train = ShownScenes(self.simulation, data.images, train_rows)
        self.val = ShownScenes(self.simulation, data.images, val_rows)
        labels = torch.from_numpy(data.labels).to(self.device)
        self.train_labels, self.val_labels = labels[torch.from_numpy(train_rows)], labels[torch.from_numpy(val_rows)]
        self.class_names = data.class_names
        scene_px, cells = setting.protocol.grids()
        self.golden: Golden = golden_frame(setting.rig, cells, scene_px)
        self.scene_shape, self.twin_hash = scene_px, setting.rig.twin_hash

        shape = self.design.readout(self.simulation.all_frames(self.train[:1], self._mask_now())).shape
        self.frame_shape = (int(shape[-2]), int(shape[-1]))
        self.classifier: Classifier = new_classifier(setting.protocol, self.frame_shape, len(data.class_names))
        start = start or step.init
        if start is not None:
            self._start_from(load_camera(start, setting))
        self.classifier.to(self.device)
        self.learns_mask = self.design.learnable and step.learns != "classifier"
        self.learns_classifier = step.learns != "mask"
        self.design.requires_grad_(self.learns_mask)
        self.classifier.requires_grad_(self.learns_classifier)
        self.terms = self._new_terms(setting, train_rows)
        self.schedule = Schedule(len(self.train), step.epochs, step.batch, self.seed)
        self.few = self.train.some(spread(len(self.train), REFIT_ITEMS))
        self.many = self.train.some(spread(len(self.train), SETTLE_ITEMS))
        self.criterion = nn.CrossEntropyLoss(label_smoothing=step.label_smoothing)
        self.begin()

    def begin(self) -> None:
        """What must be known before the first step: the normalisation."""
        self.fit_normalisation(self.few if self._moves(0) else self.many)

    # What the loop calls

    def optimisation(self) -> Optimisation:
        """AdamW with a one-cycle rate for the network; Adam with the design's own rate, fading out, for the mask."""
        step, steps = self.step, self.schedule.steps
        state: dict[str, Any] = {"classifier": self.classifier, "design": self.design}
        optimisers, rates = list[Any](), list[Any]()
        if self.learns_classifier:
            optimiser = torch.optim.AdamW(self.classifier.parameters(), lr=step.rate, weight_decay=step.weight_decay)
            cycle = torch.optim.lr_scheduler.OneCycleLR(optimiser, max_lr=step.rate, total_steps=steps + 1)
            self._network, wrapped = self.fabric.setup(self.classifier, optimiser)
            state |= {"optimiser": optimiser, "cycle": cycle}
            optimisers, rates = [wrapped], [cycle]
        else:
            self._network = self.fabric.setup_module(self.classifier)
        if self.terms is not None:
            state["terms"] = self.terms
        if not self.learns_mask:
            return Optimisation(optimisers, rates, state)
        own = torch.optim.Adam(self.design.parameters(), lr=float(self.design.rate or 0))
        fade = torch.optim.lr_scheduler.CosineAnnealingLR(own, T_max=steps)
        state |= {"mask_0": own, "mask_1": fade}
        return Optimisation([*optimisers, self.fabric.setup_optimizers(own)], [*rates, fade], state)

    def one_step(self, step: int, indices: Tensor, generator: torch.Generator) -> tuple[Tensor, Tensor]:
        """Loss and which of the batch are right; see `run_loop`."""
        moved = self._moves(step - 1)
        if self._moves(step):
            if step % REFIT_EVERY == 0:
                self.fit_normalisation(self.few)
        elif moved:
            self.fit_normalisation(self.many)
        self.classifier.train(self.learns_classifier)
        labels = self.train_labels[indices.to(self.device)]
        scenes = augment(self.train[indices], self.step.augmentation, generator)
        draws = self._draws(generator)
        exposed: list[tuple[Tensor, Tensor]] = []

        def expose(scene: Tensor, mask: Tensor) -> Tensor:
            exposed.append((scene, mask))
            return self._frames(scene, mask, draws)

        # Only a design with a new pattern for every scene is told where to draw from: others draw nothing.
        frames = self.design(scenes, expose, generator) if self.design.dynamic else self.design(scenes, expose)
        logits = self._network(frames)
        loss = self.criterion(logits, labels)
        if self.terms is not None:  # of a design that exposes more than once for a frame, they judge the first mask
            loss = loss + self.terms.added(*exposed[0], self.classifier.normalisation(frames), indices)
        return loss, logits.argmax(1) == labels

    @torch.no_grad()
    def validate(self) -> dict[str, float]:
        """Accuracy on the validation split, with noise that is the same every time."""
        values = {"aperture_ratio": float(self._mask_now().mean())} if self.design.learnable else {}
        values |= {} if self.terms is None else self.terms.told()
        if len(self.val):
            draws = self._draws(torch.Generator().manual_seed(stream_seed(self.seed, "validation")))
            right, masks = 0, self._patterns("validation")
            for start in range(0, len(self.val), CHUNK):
                part = slice(start, start + CHUNK)
                scenes = self.val[part]
                frames = self.design.readout(self._frames(scenes, masks(len(scenes)), draws))
                right += int((answers(self.classifier, frames) == self.val_labels[part]).sum())
            values["val_accuracy"] = right / len(self.val)
        return values

    def settle(self) -> None:
        """Normalisation, if the mask moved to the last step, and batch statistics anew: nothing moves any more."""
        if self._moves(self.schedule.steps - 1):
            self.fit_normalisation(self.many)
        if not self.learns_classifier:
            return
        draws = self._draws(torch.Generator().manual_seed(stream_seed(self.seed, "settle")))
        frames = self._all_frames(self.many, draws)
        settle_batch_norm(self.classifier, self.design.readout(frames).detach())

    def fit_normalisation(self, scenes: ShownScenes) -> None:
        """Mean frame and scale from noise-free frames of these scenes."""
        frames = self._all_frames(scenes, None)
        try:
            self.classifier.normalisation.fit(self.design.readout(frames).detach())
        except BadInput as error:
            full_well_e = self.simulation.twin.settings.sensor.full_well_e
            raise BadInput(
                f"{error}; through this mask a white scene gives {self.white_e():.3g} electrons in a pixel that holds "
                f"{full_well_e:g}"
            ) from error

    def camera(self) -> TrainedCamera:
        """What was trained, on the CPU."""
        return TrainedCamera(
            classifier=self.classifier.cpu(),
            design=self.design.cpu(),
            exposure=self.simulation.exposure,
            class_names=self.class_names,
            frame_shape=self.frame_shape,
            scene_shape=self.scene_shape,
            twin_hash=self.twin_hash,
            golden=self.golden,
        )

    def white_e(self) -> float:
        """Electrons of a white pixel through the mask as it stands."""
        return self.simulation.white_e(self.simulation.psf(self._mask_now()))

    def told(self) -> dict[str, Any]:
        """What else the report shall tell, as metrics."""
        return {}

    def tidy(self) -> None:
        """Let go of what was kept for going on; called when what was trained is on the disk."""

    # How it does that

    def _moves(self, step: int) -> bool:
        progress = max(step, 0) / self.schedule.steps
        if self.learns_mask:
            self.design.anneal(progress)
            if not self.learns_classifier:  # there is no network that would have to settle on a mask at rest
                self.design.requires_grad_(True)
        end = self.step.panel_steepness_end
        if end is not None:
            first = float(self.simulation.twin.settings.panel.steepness)
            self.simulation.twin.steepness = first * (end / first) ** progress
        return any(parameter.requires_grad for parameter in self.design.parameters())

    def _new_terms(self, setting: StepSetting, rows: Any) -> MaskTerms | None:
        losses = self.step.losses_of(setting)
        if not losses or not self.learns_mask:
            return None
        grids, source = setting.protocol.grids(), setting.protocol.data
        return MaskTerms(losses, self.simulation.twin, *grids, self.frame_shape, source, rows, self.device)

    def _mask_now(self) -> Tensor:
        return self.design.mask().detach()

    def _frames(self, shown: Tensor, mask: Tensor, draws: Any) -> Tensor:
        """(N, 1, h, w) frames as the classifier will get them; those of a twin of the bench are corrected."""
        frames = self.simulation.frames(shown, mask, draws=draws)
        if self.measurement is None:
            return frames
        return self.measurement.correct(frames, self.simulation.exposure_of(mask))

    @torch.no_grad()
    def _all_frames(self, scenes: ShownScenes, draws: Any) -> Tensor:
        masks = self._patterns("statistics")
        parts = [scenes[at : at + CHUNK] for at in range(0, len(scenes), CHUNK)]
        return torch.cat([self._frames(part, masks(len(part)), draws) for part in parts])

    def _patterns(self, purpose: str) -> Patterns:
        """What scenes are seen through where nothing is learned: the mask, or draws that are the same every time."""
        return self.design.patterns(torch.Generator().manual_seed(stream_seed(self.seed, "patterns", purpose)))

    def _draws(self, generator: torch.Generator) -> TorchDraws | None:
        if not self.step.noise:
            return None
        if self.device.type == "cpu":
            return TorchDraws(generator)
        seed = int(torch.randint(2**62, (1,), generator=generator))
        return TorchDraws(generator_on(self.device, seed))

    def _start_from(self, camera: TrainedCamera) -> None:
        if camera.class_names != self.class_names:
            raise BadInput(
                f"the camera to start from tells {len(camera.class_names)} classes apart, the data have "
                f"{len(self.class_names)} or others; start from a camera of the same classes in this order"
            )
        self.classifier.load_state_dict(camera.classifier.state_dict())
        if self.design.learnable:
            self.design.load_state_dict(camera.design.state_dict())


def as_saved(mask: Tensor) -> np.ndarray:
    """(H, W) float32, as `mask.npy` holds it."""
    return mask.detach().cpu().numpy().astype(np.float32)
