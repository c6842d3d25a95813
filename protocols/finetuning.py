"""Fine-tuning itself: a classifier goes on learning from frames that were captured, and from those of a fitted twin."""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np
import torch
from torch import Tensor, nn

from protocols import training_loop as loop
from protocols.accelerator import generator_on
from protocols.augmentation import shift_and_flip
from protocols.keys import stream_seed
from protocols.learning_from_captures import Captures, LearningFromCaptures
from protocols.model_file import answers
from protocols.models import Classifier, settle_batch_norm
from protocols.simulation import ExposureRule, ShownScenes, Simulation
from protocols.splits import spread
from sim.noise import TorchDraws

if TYPE_CHECKING:
    from lightning_fabric import Fabric

    from labctl.steps import StepContext
    from protocols.data import ImageSet
    from protocols.measurement import Measurement
    from sim.designs.base import CameraDesign
    from sim.twin import Twin

REFIT_BATCHES, REFIT_FRAMES = 8, 16
"""Batches of captures, and frames in each, that a twin is fitted on to, of each kind."""

NORMALISATION_ITEMS = 512
"""Most frames of the twin that mean frame, scale and batch statistics are taken from."""


class TwinFrames:
    """Frames that a fitted twin makes of scenes nobody captured, corrected as captured ones are.

    scenes: (n, 1, H, W) as the monitor shows them; labels: (n,). closed: the frame through the closed mask is taken
    off, as from captured ones.
    """

    def __init__(
        self,
        simulation: Simulation,
        scenes: ShownScenes,
        labels: Tensor,
        design: CameraDesign,
        measurement: Measurement,
        *,
        closed: bool,
    ) -> None:
        self._simulation, self._scenes, self.labels, self._design = simulation, scenes, labels, design
        self._measurement, self._closed, self._mask = measurement, closed, design.mask().detach()

    @classmethod
    def of(
        cls,
        twin: Twin,
        context: StepContext,
        data: ImageSet,
        rows: np.ndarray,
        design: CameraDesign,
        captures: Captures,
    ) -> TwinFrames:
        """Of these rows of the data, exposed as the captures were."""
        device = captures.frames.device
        rule = ExposureRule(1.0, captures.exposure_s)
        simulation = Simulation(context.setting.rig, rule, device=device, twin=twin)
        labels = torch.from_numpy(data.labels[rows]).to(device)
        scenes = ShownScenes(simulation, data.images, rows)
        return cls(simulation, scenes, labels, design, captures.measurement, closed=captures.closed)

    def __len__(self) -> int:
        return len(self.labels)

    @torch.no_grad()
    def frames(self, places: Tensor, generator: torch.Generator | None) -> Tensor:
        """(n, 1, h, w) frames of these scenes; without a generator noise-free."""
        draws = None if generator is None else self._draws(generator)
        twin, shown = self._simulation.twin, self._scenes[places]
        psf = self._simulation.cast(self._mask)
        exposure_s = self._simulation.exposure_s(psf)
        frames = twin.sensor.expose(twin.irradiance(shown, psf), exposure_s=exposure_s, draws=draws)
        if self._closed:
            leaking = twin.irradiance(shown, twin.psf(torch.zeros_like(self._mask)))
            leak = twin.sensor.expose(leaking, exposure_s=exposure_s, draws=draws)
            frames = self._measurement.of_light(frames - leak, exposure_s)
        else:
            frames = self._measurement.correct(frames, exposure_s)
        return self._design.readout(frames)

    def _draws(self, generator: torch.Generator) -> TorchDraws:
        device = self._simulation.device
        if device.type == "cpu":
            return TorchDraws(generator)
        return TorchDraws(generator_on(device, int(torch.randint(2**62, (1,), generator=generator))))


def refit_on(
    twin: Twin, context: StepContext, folder: Path, data: ImageSet, mask: Tensor, sample_ids: np.ndarray
) -> None:
    """Fit the twin on, in place, to the raw frames of these samples, those through the closed mask too.

    REFIT_BATCHES batches at most, spread over them. Says how far the twin was off before and after, over the noise.
    """
    from labctl.frames.store import FrameStore
    from protocols.twin_fit.refit import TwinRefit

    store, refit = FrameStore.open(folder), TwinRefit(twin, memory=1.0)
    row_of = {int(sample): row for row, sample in enumerate(data.sample_ids)}
    off: list[float] = []
    for kind, shown_mask in (("scene", mask), ("closed", torch.zeros_like(mask))):
        places = store.select(kind=kind)  # type: ignore[arg-type]
        of_samples = np.isin(store.column("sample_id")[places], sample_ids) & (store.column("rung")[places] == 0)
        places = np.array(
            [p for p in places[of_samples] if int(store.column("sample_id")[p]) in row_of], dtype=np.int64
        )
        for part in np.array_split(places[spread(len(places), REFIT_BATCHES * REFIT_FRAMES)], REFIT_BATCHES):
            if not len(part):
                continue
            rows = [row_of[int(sample)] for sample in store.column("sample_id")[part]]
            shown = twin.through_monitor(torch.from_numpy(np.asarray(data.images[np.array(rows)])))
            exposure_s = torch.from_numpy(store.column("exposure_s")[part])
            refit.update(shown, shown_mask, exposure_s, torch.from_numpy(store.read(part).astype(np.float32)))
            off.append(refit.residual)
    if off:
        context.log(f"the twin was refitted on {len(off)} batches of captures: off by {off[0]:.2f} of the noise at the "
                    f"first, by {off[-1]:.2f} at the last")  # fmt: skip


def fine_tune(
    step: LearningFromCaptures,
    context: StepContext,
    fabric: Fabric,
    classifier: Classifier,
    captures: Captures,
    train: Tensor,
    *,
    seed: int,
    made: TwinFrames | None = None,
    made_share: float = 0.0,
) -> dict[str, float]:
    """Fit the normalisation to the captures `train` (places), then train the classifier; goes on at a checkpoint.

    made: frames of a twin that are mixed in, `made_share` of each batch; then an epoch goes once through them, and
    captures are drawn at random beside them. The classifier is changed in place. Returns metrics.
    """
    frames, labels = captures.frames, captures.labels
    seen_first = [frames[train]]
    if made is not None:
        generator = torch.Generator().manual_seed(stream_seed(seed, "normalisation"))
        seen_first.append(made.frames(torch.from_numpy(spread(len(made), NORMALISATION_ITEMS)), generator))
    classifier.normalisation.fit(torch.cat(seen_first))
    beside = 0 if made is None else min(max(1, round(step.batch * (1 - made_share))), step.batch - 1)
    schedule = loop.Schedule(len(train) if made is None else len(made), step.epochs, step.batch - beside, seed)
    optimiser = torch.optim.AdamW(classifier.parameters(), lr=step.rate, weight_decay=step.weight_decay)
    cycle = torch.optim.lr_scheduler.OneCycleLR(optimiser, max_lr=step.rate, total_steps=schedule.steps + 1)
    network, wrapped = fabric.setup(classifier, optimiser)
    criterion = nn.CrossEntropyLoss(label_smoothing=step.label_smoothing)

    def one_step(_: int, indices: Tensor, generator: torch.Generator) -> tuple[Tensor, Tensor]:
        classifier.train()
        if made is None:
            seen, wanted = frames[train[indices]], labels[train[indices]]
        else:
            # The share is kept by drawing captures beside: few captures are seen often, but never alone.
            items = train[torch.randint(0, len(train), (beside,), generator=generator)]
            own = made.frames(indices, generator)
            seen, wanted = torch.cat([frames[items], own]), torch.cat([labels[items], made.labels[indices]])
        logits = network(shift_and_flip(seen, step.shift_px, flip=False, generator=generator))
        return criterion(logits, wanted), logits.argmax(1) == wanted

    final = loop.run_loop(
        context,
        schedule,
        state={"classifier": classifier, "optimiser": optimiser, "cycle": cycle},
        one_step=one_step,
        optimisers=[wrapped],
        rates=[cycle],
        validate=lambda: validated(classifier, captures),
        backward=fabric.backward,
    )
    settle_batch_norm(classifier, torch.cat(seen_first))
    return final | validated(classifier, captures)


def renormalise(classifier: Classifier, captures: Captures, train: Tensor) -> dict[str, float]:
    """Mean frame, scale and batch statistics anew from the captures `train` (places); weights stay as they are."""
    frames = captures.frames[train]
    classifier.normalisation.fit(frames)
    settle_batch_norm(classifier, frames)
    return validated(classifier, captures)


def validated(classifier: Classifier, captures: Captures) -> dict[str, float]:
    """Accuracy on the validation split; empty where none was captured."""
    if not len(captures.val):
        return {}
    right = answers(classifier, captures.frames[captures.val]) == captures.labels[captures.val]
    return {"val_accuracy": float(right.float().mean())}


def right_answers(classifier: Classifier, captures: Captures) -> Any:
    """(n,) bool: which frames of the test split are answered right."""
    right = answers(classifier, captures.frames[captures.test]) == captures.labels[captures.test]
    return right.cpu().numpy()
