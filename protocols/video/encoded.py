"""Clips as a finished camera reads them, simulated or captured."""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING

import numpy as np
import torch
from torch import Tensor

from labctl.errors import RunFailed
from protocols.captured import labelled_frames
from protocols.keys import stream_seed
from protocols.simulation import Simulation
from protocols.video.light import ClipExposer, measured_light
from sim.noise import TorchDraws

if TYPE_CHECKING:
    from labctl.steps import StepContext
    from protocols.data.clips import ClipSet
    from protocols.measurement import Measurement
    from protocols.splits import IntArray, Split
    from protocols.video.camera_file import VideoCamera
    from sim.designs.video.base import Operator

READ_AT_ONCE = 64
"""Clips that are read out at a time: each for itself, unless the range of the quantiser is that of the batch."""


@dataclass(frozen=True)
class EncodedClips:
    """clips: (n, T', C, h', w') as read out. action, actor: (n,) int64 labels. clip_ids: (n,) int64, see `ClipSet`."""

    clips: Tensor
    action: Tensor
    actor: Tensor
    clip_ids: IntArray


def encoded(
    context: StepContext,
    data: ClipSet,
    camera: VideoCamera,
    split: Split,
    *,
    operator: Operator,
    frames: Path | None = None,
    measurement: Measurement | None = None,
) -> EncodedClips:
    """All clips of one split. Simulated noise is the same every time; captured clips that are not whole are left out.

    frames: a finished capture; measurement corrects it. Raises RunFailed when not one clip was captured whole.
    """
    rows = data.part(split)
    simulation = Simulation(context.setting.rig, camera.exposure, design=camera.design)
    exposer = ClipExposer(simulation)
    if frames is None:
        generator = torch.Generator().manual_seed(stream_seed(int(context.setting.seed or 0), "clips", int(split)))
        light = measured_light(exposer, data.clips, rows, camera.mask, draws=TorchDraws(generator))
    else:
        rows, light = _captured(context, data, camera, rows, frames, measurement, exposer)
    with torch.no_grad():
        read = [camera.design.read_clips(part, operator) for part in light.split(READ_AT_ONCE)]
    labels = (torch.from_numpy(values[rows]) for values in (data.action, data.actor))
    return EncodedClips(torch.cat(read), *labels, data.clip_ids[rows])


def _captured(
    context: StepContext,
    data: ClipSet,
    camera: VideoCamera,
    rows: IntArray,
    folder: Path,
    measurement: Measurement | None,
    exposer: ClipExposer,
) -> tuple[IntArray, Tensor]:
    """Rows of the clips that were captured whole, and their light (n, T, 1, h, w)."""
    found = labelled_frames(folder, camera.action_names, measurement)
    place = {int(sample): number for number, sample in enumerate(found.sample_ids)}
    wanted = data.clip_ids[rows, None] * data.frames + np.arange(data.frames)
    places = np.array([[place.get(int(sample), -1) for sample in clip] for clip in wanted]).reshape(wanted.shape)
    touched, whole = (places >= 0).any(axis=1), (places >= 0).all(axis=1)
    if not whole.any():
        raise RunFailed(
            f"{folder} holds no whole clip of this split: {int(touched.sum())} are there in part; capture all scenes "
            "of it (`train: all`, `val: all`, `test: all`)"
        )
    lost = int(touched.sum() - whole.sum())
    if lost:
        context.log(f"{lost} of {int(touched.sum())} captured clips miss a frame, or have a marked one: left out")
    frames = torch.from_numpy(found.frames[places[whole].reshape(-1)])
    with torch.no_grad():
        light = exposer.of_frames(frames, camera.mask)
    return rows[whole], light.unflatten(0, (int(whole.sum()), data.frames))
