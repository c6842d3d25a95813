"""The frames of a trained camera as an attacker gets them: from the twin, or captured and corrected."""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING, Literal

import numpy as np
import torch

from labctl.errors import BadInput
from protocols.attack.recognisers import Labelled
from protocols.attack.views import FixedView, SimulatedView, SomeOf, View
from protocols.learning_from_captures import measurement_for
from protocols.model_file import load_camera
from protocols.simulation import Simulation
from protocols.splits import IntArray, Split

if TYPE_CHECKING:
    from labctl.references import Reference
    from labctl.steps import StepContext
    from protocols.attack.attackers import Budget
    from protocols.attack.targets import Target
    from protocols.data import ImageSet
    from protocols.measurement import Corrections
    from protocols.model_file import TrainedCamera


@dataclass(frozen=True)
class AttackedFrames:
    """Frames of one camera. row_of: row of the data of each frame. splits: (n,) its split."""

    camera: TrainedCamera
    simulation: Simulation
    view: View
    row_of: IntArray
    splits: IntArray
    stage: Literal["simulated", "captured"]
    sensor_shape: tuple[int, int]
    """(rows, columns) of a frame as the sensor gives it."""

    @property
    def shape(self) -> tuple[int, int]:
        """(rows, columns) of a frame as it is read."""
        return self.view.shape

    @property
    def centre(self) -> tuple[int, int]:
        """(rows, columns) of the middle of the scene that is as large as the sensor: what a small hole sees."""
        scene = self.camera.scene_shape
        return min(self.sensor_shape[0], scene[0]), min(self.sensor_shape[1], scene[1])

    def rows(self, target: Target, split: Split) -> IntArray:
        """Rows of the data, of one split, of which there are frames and labels, in the order of the frames."""
        rows = self.row_of[self.splits == split]
        return rows[target.labels[rows] >= 0]

    def places(self, rows: IntArray) -> IntArray:
        """Which frames belong to these rows of the data."""
        order = np.argsort(self.row_of, kind="stable")
        return order[np.searchsorted(self.row_of[order], rows)]

    def labelled(self, rows: IntArray, target: Target) -> Labelled:
        """The frames of these rows of the data with their labels."""
        return Labelled(SomeOf(self.view, self.places(rows)), torch.from_numpy(target.labels[rows]))


def attacked_frames(
    context: StepContext,
    data: ImageSet,
    model: Reference,
    frames: Reference | None,
    calibration: Reference | None,
    corrections: Corrections,
    budget: Budget,
) -> AttackedFrames:
    """The frames that a step attacks. Raises BadInput for captured frames that are none of the data."""
    setting = context.setting
    camera = load_camera(context.input(model), setting)
    simulation = Simulation(setting.rig, camera.exposure, design=camera.design)
    change = camera.simulator_change(setting) if frames is None else None
    if change:
        context.log(f"careful: {change}; what is attacked is not the trained camera: train again")
    scene_px, cells = setting.protocol.grids()
    sensor = setting.rig.twin.frame_shape(cells, scene_px)
    if frames is None:
        view: View = SimulatedView(
            simulation,
            camera.design,
            data,
            np.arange(len(data)),
            budget.augmentation,
            seed=int(setting.seed or 0),
        )
        return AttackedFrames(
            camera, simulation, view, np.arange(len(data)), data.split.astype(np.int64), "simulated", sensor
        )
    from protocols.captured import labelled_frames

    measurement = measurement_for(context, context.input(frames), calibration, corrections, camera)
    captured = labelled_frames(context.input(frames), camera.class_names, measurement)
    rows = {int(sample): row for row, sample in enumerate(data.sample_ids)}
    missing = [int(sample) for sample in captured.sample_ids if int(sample) not in rows]
    if missing:
        raise BadInput(f"{len(missing)} captured frames show pictures that the data do not have; capture these data")
    with torch.no_grad():
        read = camera.design.readout(torch.from_numpy(captured.frames))
    view = FixedView(read, shift_px=min(budget.augmentation.shift_px, 1))
    row_of = np.array([rows[int(sample)] for sample in captured.sample_ids], dtype=np.int64)
    return AttackedFrames(camera, simulation, view, row_of, captured.splits.astype(np.int64), "captured", sensor)
