"""A trained camera on disk: the classifier, the mask it was trained with, and what is needed to use them again."""

from __future__ import annotations

import io
import pickle
import zipfile
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any

import torch
from torch import Tensor, nn

from labctl.durable import write_whole
from labctl.errors import BadInput, RunFailed
from protocols.simulation import ExposureRule
from protocols.splits import some_of
from sim.golden import Golden, golden_change, golden_frame

if TYPE_CHECKING:
    from labctl.protocol import Protocol
    from labctl.steps import StepSetting
    from protocols.models import Classifier
    from sim.designs.base import CameraDesign

SCHEMA = "labctl.model/2"

UNREADABLE = (
    OSError, EOFError, RuntimeError, AttributeError, LookupError, TypeError, ValueError, pickle.UnpicklingError,
    zipfile.BadZipFile,
)  # fmt: skip
"""What torch raises on a file that is cut, altered, or none of its own."""


@dataclass(frozen=True)
class TrainedCamera:
    """Classifier with normalisation, the design with what it has learned, how it was exposed, class names, grids.

    frame_shape: of what the classifier reads, after the read-out of the design. golden: the reference frame of the
    simulator it was trained in; twin_hash: of the twin that made it.
    """

    classifier: Classifier
    design: CameraDesign
    exposure: ExposureRule
    class_names: tuple[str, ...]
    frame_shape: tuple[int, int]
    scene_shape: tuple[int, int]
    twin_hash: str
    golden: Golden

    @property
    def mask(self) -> Tensor:
        """(H, W) transmittance 0..1 as it goes on the SLM; for what is no static mask, see `CameraDesign.mask`."""
        return self.design.mask().detach()

    @torch.no_grad()
    def answers(self, frames: Tensor) -> Tensor:
        """(N,) classes named for measured frames (N, 1, h, w) in DN; the design reads them out first."""
        return answers(self.classifier, self.design.readout(frames))

    def simulator_change(self, setting: StepSetting) -> str | None:
        """What became of the simulator since this camera was trained, in words; None when it is the same.

        A camera of another twin has nothing to compare with, and None is returned.
        """
        if self.twin_hash != setting.rig.twin_hash:
            return None
        scene_px, cells = setting.protocol.grids()
        return golden_change(self.golden, golden_frame(setting.rig, cells, scene_px))


def save_camera(path: Path, camera: TrainedCamera) -> None:
    """Write a trained camera; tensors and plain values only, so that loading runs no code."""
    saved = {
        "schema": SCHEMA,
        "classifier": camera.classifier.state_dict(),
        "design": camera.design.state_dict(),
        "mask": camera.mask,
        "exposure": vars(camera.exposure),
        "class_names": list(camera.class_names),
        "frame_shape": list(camera.frame_shape),
        "scene_shape": list(camera.scene_shape),
        "twin_hash": camera.twin_hash,
        "golden": camera.golden.as_state(),
    }
    write_tensors(path, saved)


def write_tensors(path: Path, value: dict[str, Any]) -> None:
    """Write tensors and plain values in one step, to the disk: a reader finds the old file or the new one."""
    content = io.BytesIO()
    torch.save(value, content)
    write_whole(path, content.getvalue())


def load_camera(path: Path, setting: StepSetting) -> TrainedCamera:
    """Read a trained camera; network and design are built as the protocol says.

    Raises RunFailed for another schema, BadInput for other grids, another network or another design.
    """
    saved = _read(path)
    frame_shape = _pair(saved["frame_shape"])
    design = new_design(setting)
    _require_grids(path, saved, setting, design)
    classifier = new_classifier(setting.protocol, frame_shape, len(saved["class_names"]))
    _take(classifier, saved["classifier"], path, "network", "set `model:` to what it was trained with")
    if design.learnable or design.state_dict().keys() == saved["design"].keys():
        _take(design, saved["design"], path, "design", f"set `designs.{setting.design}` to what it was trained with")
    return TrainedCamera(
        classifier=classifier,
        design=design,
        exposure=ExposureRule(**saved["exposure"]),
        class_names=tuple(saved["class_names"]),
        frame_shape=frame_shape,
        scene_shape=_pair(saved["scene_shape"]),
        twin_hash=saved["twin_hash"],
        golden=Golden.of_state(saved["golden"]),
    )


def check_start(path: Path, setting: StepSetting) -> None:
    """Raise BadInput when training cannot start from the camera in `path`: other grids, network or design."""
    if not path.expanduser().is_file():
        raise BadInput(f"'{path}' does not exist; give the model.pt of a run (relative paths start in {Path.cwd()})")
    try:
        load_camera(path, setting)
    except RunFailed as error:
        raise BadInput(str(error)) from error


def require_classes(path: Path, class_names: tuple[str, ...], setting: StepSetting) -> None:
    """Raise BadInput when the camera in `path` names other classes: each output of its network stands for one."""
    known = load_camera(path, setting).class_names
    if known != class_names:
        raise BadInput(
            f"'{path}' tells {len(known)} classes apart ({some_of(known, 3)}), the data have {len(class_names)} "
            f"({some_of(class_names, 3)}); start from a camera of the same classes in this order, or take `init` away"
        )


def _read(path: Path) -> dict[str, Any]:
    try:
        saved: dict[str, Any] = torch.load(path.expanduser(), weights_only=True, map_location="cpu")
        schema = saved.get("schema")
    except UNREADABLE as error:
        raise RunFailed(f"{path} is no trained camera, or damaged ({type(error).__name__}); train again") from error
    if schema != SCHEMA:
        raise RunFailed(f"{path} has schema {schema}; {SCHEMA} is needed; train again")
    return saved


def _require_grids(path: Path, saved: dict[str, Any], setting: StepSetting, design: CameraDesign) -> None:
    scene_px, cells = setting.protocol.grids()
    mask, scene = _pair(saved["mask"].shape), _pair(saved["scene_shape"])
    if (mask, scene) != (cells, scene_px):
        raise BadInput(
            f"'{path}' is a camera of another grid: {mask[0]}x{mask[1]} mask cells and {scene[0]}x{scene[1]} scene "
            f"pixels, the protocol has {cells[0]}x{cells[1]} and {scene_px[0]}x{scene_px[1]}; "
            "change mask_cells and scene_px, or train a camera on this grid"
        )
    frame = design.read_shape(setting.rig.twin.frame_shape(cells, scene_px))
    if _pair(saved["frame_shape"]) != tuple(frame):
        raise BadInput(
            f"'{path}' reads frames of {saved['frame_shape'][0]}x{saved['frame_shape'][1]} pixels, rig "
            f"'{setting.rig.name}' and design '{setting.design}' give {frame[0]}x{frame[1]}; use the rig it was "
            "trained for, or train again"
        )


def _take(module: nn.Module, state: dict[str, Any], path: Path, what: str, next_action: str) -> None:
    try:
        module.load_state_dict(state)
    except RuntimeError as error:
        raise BadInput(f"'{path}' holds another {what} than the protocol describes; {next_action}") from error


def _pair(shape: Any) -> tuple[int, int]:
    return int(shape[0]), int(shape[1])


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
    """(N,) predicted classes of (N, 1, h, w) frames that lie where the classifier does."""
    classifier.eval()
    return torch.cat([classifier(frames[i : i + batch]).argmax(1) for i in range(0, len(frames), batch)])
