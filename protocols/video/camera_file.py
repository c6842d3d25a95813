"""A trained camera for clips on disk: its settings, how it was exposed, and what its clips show."""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any

import torch
from torch import Tensor

from labctl.errors import BadInput, RunFailed
from protocols.model_file import UNREADABLE, new_design, write_tensors
from protocols.simulation import ExposureRule
from sim.designs.video.base import VideoDesign
from sim.golden import Golden, golden_change, golden_frame

if TYPE_CHECKING:
    from labctl.steps import StepSetting

SCHEMA = "labctl.video-model/1"


@dataclass(frozen=True)
class VideoCamera:
    """A design with what it has learned, how it was exposed, and the names of actions and actors.

    clip_shape: (T, h, w) of the light it reads. golden: the reference frame of the simulator it was trained in;
    twin_hash: of the twin that made it.
    """

    design: VideoDesign
    exposure: ExposureRule
    action_names: tuple[str, ...]
    actor_names: tuple[str, ...]
    clip_shape: tuple[int, int, int]
    scene_shape: tuple[int, int]
    twin_hash: str
    golden: Golden

    @property
    def mask(self) -> Tensor:
        """(H, W) what stands on the SLM, or weights; see `CameraDesign.mask`."""
        return self.design.mask().detach()

    def simulator_change(self, setting: StepSetting) -> str | None:
        """As `TrainedCamera.simulator_change`."""
        if self.twin_hash != setting.rig.twin_hash:
            return None
        scene_px, cells = setting.protocol.grids()
        return golden_change(self.golden, golden_frame(setting.rig, cells, scene_px))


def save_video_camera(path: Path, camera: VideoCamera) -> None:
    """Write a trained camera; tensors and plain values only, so that loading runs no code."""
    saved = {
        "schema": SCHEMA,
        "design": camera.design.state_dict(),
        "mask": camera.mask,
        "exposure": vars(camera.exposure),
        "action_names": list(camera.action_names),
        "actor_names": list(camera.actor_names),
        "clip_shape": list(camera.clip_shape),
        "scene_shape": list(camera.scene_shape),
        "twin_hash": camera.twin_hash,
        "golden": camera.golden.as_state(),
    }
    write_tensors(path, saved)


def load_video_camera(path: Path, setting: StepSetting) -> VideoCamera:
    """Read a trained camera; the design is built as the protocol says.

    Raises RunFailed for another schema or a damaged file, BadInput for another grid or design.
    """
    try:
        saved: dict[str, Any] = torch.load(path.expanduser(), weights_only=True, map_location="cpu")
        schema = saved.get("schema")
    except UNREADABLE as error:
        raise RunFailed(f"{path} is no trained camera, or damaged ({type(error).__name__}); train again") from error
    if schema != SCHEMA:
        raise RunFailed(f"{path} has schema {schema}; {SCHEMA} is needed, which `train_video` writes; train again")
    scene_px, cells = setting.protocol.grids()
    if (tuple(saved["mask"].shape), tuple(saved["scene_shape"])) != (tuple(cells), tuple(scene_px)):
        raise BadInput(
            f"'{path}' is a camera of another grid than the mask_cells {list(cells)} and scene_px {list(scene_px)} of "
            "the protocol; train a camera on this grid"
        )
    design = new_design(setting)
    if not isinstance(design, VideoDesign):
        raise BadInput(f"'{setting.design}' reads single frames, '{path}' is a camera for clips; name its own design")
    try:
        design.load_state_dict(saved["design"])
    except RuntimeError as error:
        raise BadInput(
            f"'{path}' holds another design than the protocol describes; set `designs.{setting.design}` to what it was "
            "trained with"
        ) from error
    design.anneal(1.0)
    frames, height, width = saved["clip_shape"]
    return VideoCamera(
        design=design.eval(),
        exposure=ExposureRule(**saved["exposure"]),
        action_names=tuple(saved["action_names"]),
        actor_names=tuple(saved["actor_names"]),
        clip_shape=(int(frames), int(height), int(width)),
        scene_shape=(int(saved["scene_shape"][0]), int(saved["scene_shape"][1])),
        twin_hash=saved["twin_hash"],
        golden=Golden.of_state(saved["golden"]),
    )
