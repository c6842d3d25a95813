"""A trained camera on disk: the classifier, the mask it was trained with, and what is needed to use them again."""

from __future__ import annotations

import io
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any

import torch
from torch import Tensor

from labctl.durable import write_whole
from labctl.errors import RunFailed

if TYPE_CHECKING:
    from labctl.protocol import Protocol
    from labctl.steps import StepSetting
    from protocols.models import Classifier
    from sim.designs.base import CameraDesign

SCHEMA = "labctl.model/1"


@dataclass(frozen=True)
class TrainedCamera:
    """Classifier with normalisation, the design with what it has learned, exposure fill, class names."""

    classifier: Classifier
    design: CameraDesign
    fill: float
    class_names: tuple[str, ...]
    frame_shape: tuple[int, int]

    @property
    def mask(self) -> Tensor:
        """(H, W) transmittance 0..1 as it goes on the SLM."""
        return self.design.mask().detach()

    @torch.no_grad()
    def answers(self, frames: Tensor) -> Tensor:
        """(N,) classes named for measured frames (N, 1, h, w) in DN; the design reads them out first."""
        return answers(self.classifier, self.design.readout(frames))


def save_camera(path: Path, camera: TrainedCamera) -> None:
    """Write a trained camera; tensors and plain values only, so that loading runs no code."""
    saved = {
        "schema": SCHEMA,
        "classifier": camera.classifier.state_dict(),
        "design": camera.design.state_dict(),
        "fill": camera.fill,
        "class_names": list(camera.class_names),
        "frame_shape": list(camera.frame_shape),
    }
    write_tensors(path, saved)


def write_tensors(path: Path, value: dict[str, Any]) -> None:
    """Write tensors and plain values in one step, to the disk: a reader finds the old file or the new one."""
    content = io.BytesIO()
    torch.save(value, content)
    write_whole(path, content.getvalue())


def load_camera(path: Path, setting: StepSetting) -> TrainedCamera:
    """Read a trained camera; network and design are built as the protocol says. Raises RunFailed for another schema."""
    saved: dict[str, Any] = torch.load(path, weights_only=True)
    if saved.get("schema") != SCHEMA:
        raise RunFailed(f"{path} has schema {saved.get('schema')}; {SCHEMA} is needed; train again")
    shape = (int(saved["frame_shape"][0]), int(saved["frame_shape"][1]))
    classifier = new_classifier(setting.protocol, shape, len(saved["class_names"]))
    classifier.load_state_dict(saved["classifier"])
    design = new_design(setting)
    design.load_state_dict(saved["design"])
    return TrainedCamera(classifier, design, saved["fill"], tuple(saved["class_names"]), shape)


def new_design(setting: StepSetting) -> CameraDesign:
    """The camera design of a step, as it is before anything is learned."""
    design: CameraDesign = setting.design_settings().build(setting.protocol.grids()[1], int(setting.seed or 0))
    return design


def new_classifier(protocol: Protocol, frame_shape: tuple[int, int], n_classes: int) -> Classifier:
    """An untrained classifier as the protocol's `model:` says. Its weights come from torch's global generator."""
    from protocols.models import Classifier

    return Classifier(protocol.model.build(frame_shape, n_classes), frame_shape)


@torch.no_grad()
def answers(classifier: Classifier, frames: Tensor, batch: int = 256) -> Tensor:
    """(N,) predicted classes of (N, 1, h, w) frames."""
    classifier.eval()
    return torch.cat([classifier(frames[i : i + batch]).argmax(1) for i in range(0, len(frames), batch)])
