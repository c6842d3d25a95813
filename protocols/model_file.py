"""A trained camera on disk: the classifier, the mask it was trained with, and what is needed to use them again."""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any

import torch
from torch import Tensor

from labctl.errors import RunFailed

if TYPE_CHECKING:
    from labctl.protocol import Protocol
    from protocols.models import Classifier

SCHEMA = "labctl.model/1"


@dataclass(frozen=True)
class TrainedCamera:
    """Classifier with normalisation, mask (H, W) transmittance 0..1, exposure fill, class names."""

    classifier: Classifier
    mask: Tensor
    fill: float
    class_names: tuple[str, ...]
    frame_shape: tuple[int, int]


def save_camera(path: Path, camera: TrainedCamera) -> None:
    """Write a trained camera; tensors and plain values only, so that loading runs no code."""
    temporary = path.with_suffix(".tmp")
    torch.save(
        {
            "schema": SCHEMA,
            "classifier": camera.classifier.state_dict(),
            "mask": camera.mask.detach().cpu(),
            "fill": camera.fill,
            "class_names": list(camera.class_names),
            "frame_shape": list(camera.frame_shape),
        },
        temporary,
    )
    temporary.replace(path)


def load_camera(path: Path, protocol: Protocol) -> TrainedCamera:
    """Read a trained camera; the network is built from the protocol's `model:`. Raises RunFailed for another schema."""
    saved: dict[str, Any] = torch.load(path, weights_only=True)
    if saved.get("schema") != SCHEMA:
        raise RunFailed(f"{path} has schema {saved.get('schema')}; {SCHEMA} is needed; train again")
    shape = (int(saved["frame_shape"][0]), int(saved["frame_shape"][1]))
    classifier = new_classifier(protocol, shape, len(saved["class_names"]))
    classifier.load_state_dict(saved["classifier"])
    return TrainedCamera(classifier, saved["mask"], saved["fill"], tuple(saved["class_names"]), shape)


def new_classifier(protocol: Protocol, frame_shape: tuple[int, int], n_classes: int) -> Classifier:
    """An untrained classifier as the protocol's `model:` says. Its weights come from torch's global generator."""
    from protocols.models import Classifier

    return Classifier(protocol.model.build(frame_shape, n_classes), frame_shape)


@torch.no_grad()
def answers(classifier: Classifier, frames: Tensor, batch: int = 256) -> Tensor:
    """(N,) predicted classes of (N, 1, h, w) frames."""
    classifier.eval()
    return torch.cat([classifier(frames[i : i + batch]).argmax(1) for i in range(0, len(frames), batch)])
