"""What steps that learn from captured frames have in common: their settings, and the frames as they see them."""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, ClassVar

from annotated_types import Ge, Gt, Le, Lt

from labctl.calibration.shelf import CalibrationSet
from labctl.errors import BadInput
from labctl.references import OutputKind, Reference
from labctl.steps import Step, StepContext, StepSetting
from protocols.accelerator import DeviceName, Precision, check_accelerator
from protocols.balanced import balanced_order
from protocols.captured import labelled_frames
from protocols.fit import check_captures
from protocols.measurement import Corrections, Measurement

if TYPE_CHECKING:
    import torch
    from torch import Tensor

    from protocols.model_file import TrainedCamera

CORRECTIONS = frozenset({"calibration", "corrections"})
"""Settings of a step that corrects captured frames."""


class LearningFromCaptures(Step):
    """Settings of a step that trains a classifier on the frames of a capture."""

    newer: ClassVar[frozenset[str]] = CORRECTIONS | {"samples"}

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

    samples: Annotated[Reference, OutputKind("samples")] | None = None
    """Where only a part of the training frames is learned from: in the order in which `choose` ranked them; without it,
    at random, spread evenly over the classes."""

    calibration: Annotated[Reference, OutputKind("calibration")] | None = None
    """By which frames are corrected first; without it they stay as they were measured."""

    corrections: Corrections = "all"
    """With `calibration`: these parts of `dark`, `flat`, `gain`, `registration`, or all that it has."""

    device: DeviceName = "auto"
    precision: Precision = "32-true"

    def check(self, setting: StepSetting) -> None:
        """There must be training frames, the device, and a calibration where one is asked for."""
        check_captures(self.frames, "train", 2, setting)
        check_accelerator(self.device, setting.at("device"))
        check_corrections(self.calibration, self.corrections, setting)


@dataclass(frozen=True)
class Captures:
    """Captured frames, corrected and read out by the design. frames: (N, 1, h, w); labels, sample_ids: (N,).

    train, val, test: places of each split.
    """

    frames: Tensor
    labels: Tensor
    sample_ids: Tensor
    train: Tensor
    val: Tensor
    test: Tensor
    exposure_s: float
    """Mean of what the camera took, on the first rung."""

    closed: bool
    """Whether the frames through the closed mask were taken off."""

    measurement: Measurement


def captures_of(
    step: LearningFromCaptures, context: StepContext, camera: TrainedCamera, device: torch.device
) -> Captures:
    """The frames that `step` learns from, on `device`. Raises BadInput for frames that the classifier cannot read."""
    import torch

    from labctl.frames.closed import has_closed
    from labctl.frames.store import FrameStore

    folder = context.input(step.frames)
    measurement = measurement_for(context, folder, step.calibration, step.corrections, camera)
    captured = labelled_frames(folder, camera.class_names, measurement)
    frames = camera.design.readout(torch.from_numpy(captured.frames)).detach().to(device)
    if tuple(frames.shape[-2:]) != camera.frame_shape:
        raise BadInput(
            f"captured frames are {tuple(frames.shape[-2:])}, the model was trained on {camera.frame_shape}; "
            "capture with the region that the model was trained for"
        )
    parts = [torch.from_numpy(captured.part(part)) for part in (0, 1, 2)]
    if len(parts[0]) < 2:
        raise BadInput(f"{len(parts[0])} captured training frames; capture at least 2 (steps.<capture>.train)")
    return Captures(
        frames=frames,
        labels=torch.from_numpy(captured.labels).to(device),
        sample_ids=torch.from_numpy(captured.sample_ids),
        train=parts[0],
        val=parts[1],
        test=parts[2],
        exposure_s=float(captured.exposure_s.mean()),
        closed=has_closed(FrameStore.open(folder)),
        measurement=measurement,
    )


def part_of(step: LearningFromCaptures, context: StepContext, captures: Captures, count: int, *, seed: int) -> Tensor:
    """Places of `count` training captures, or all if there are fewer; those of a smaller count are among them."""
    import numpy as np

    if step.samples is None:
        order = balanced_order(captures.labels[captures.train].cpu().numpy(), seed=seed)
    else:
        rank = {int(sample): place for place, sample in enumerate(np.load(context.input(step.samples)))}
        own = [rank.get(sample, len(rank)) for sample in captures.sample_ids[captures.train].tolist()]
        if own and min(own) == len(rank):
            raise BadInput("`samples` names none of the captured training scenes; capture those that it names")
        order = np.argsort(own, kind="stable")
    return captures.train[sorted(order[:count].tolist())]


def measurement_for(
    context: StepContext,
    frames: Path,
    calibration: Reference | None,
    corrections: Corrections,
    camera: TrainedCamera,
) -> Measurement:
    """The correction of a captured set that a step names; without `calibration` its frames stay as they are.

    Frames minus those through the closed mask stand on the black of the nominal twin in either case.
    """
    from labctl.frames.store import FrameStore

    _, height, width = FrameStore.open(frames).header.frame_shape
    calibrations = {} if calibration is None else CalibrationSet(context.input(calibration))
    measurement = Measurement.of(context.setting.rig, calibrations, corrections, (height, width), context.log)
    return as_bright_as_trained(measurement, frames, camera, context)


def as_bright_as_trained(
    measurement: Measurement, frames: Path, camera: TrainedCamera, context: StepContext
) -> Measurement:
    """`measurement` with the level at which `camera` learned, as far as the capture of the set `frames` tells it.

    Frames that still hold their leak keep the level that a search for the exposure gave them. Wanted light alone is
    told at the level of white in the training: by what white gave on the bench; where no exposure was searched, by
    exposure times, which holds under the light of the rig file.
    """
    from labctl.frames.closed import has_closed
    from labctl.frames.store import FrameStore
    from protocols.capture.exposures import exposure_beside
    from protocols.simulation import Simulation

    found = exposure_beside(frames)
    if not has_closed(FrameStore.open(frames)):
        searched = camera.exposure.exposure_s == "auto" and found.get("how") == "auto"
        return measurement.searched() if searched else measurement
    simulation = Simulation(context.setting.rig, camera.exposure, design=camera.design)
    psf = simulation.psf(camera.mask)
    if "wanted_white_dn_per_s" not in found:
        if camera.exposure.exposure_s == "auto":
            context.log(
                "careful: nobody measured what white gives on the bench without what leaks; the frames are told for "
                "the exposure time of the training, which holds only where the light is that of the rig file"
            )
        return measurement.lasting(float(simulation.exposure_s(psf)))
    twin = simulation.twin
    level_dn = simulation.white_e(psf) * float((1 + twin.stray) * twin.sensor.gain_dn_per_e)
    return measurement.standing_at(level_dn, found["wanted_white_dn_per_s"])


def check_corrections(calibration: Reference | None, corrections: Corrections, setting: StepSetting) -> None:
    """Raise BadInput for corrections that have nothing to stand on."""
    if calibration is None and corrections not in ("all", ()):
        text = "there is nothing to correct by; add `calibration: ${steps.NAME.calibration}`"
        raise BadInput(text, at=setting.at("corrections"))
