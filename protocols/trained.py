"""`trained`: a camera that another run trained, taken into this one as if it had been trained here."""

from __future__ import annotations

import hashlib
from collections.abc import Mapping
from pathlib import Path
from typing import ClassVar, Literal

import numpy as np

from labctl.durable import write_whole
from labctl.errors import BadInput, concerning
from labctl.steps import Estimate, Source, Step, StepContext, StepResult, StepSetting
from protocols.fit import check_fit, check_network
from protocols.scenes import load_scenes, scenes_of


class Trained(Step):
    """Takes `model.pt` of another run: the same grids, design, network and classes. It counts by content, not by path.

    Every seed of the protocol gets the same camera. Writes `mask.npy` and a copy of `model.pt`, so that the run stays
    whole when the other one is gone.
    """

    where: ClassVar[Literal["host", "child"]] = "child"
    outputs: ClassVar[Mapping[str, str]] = {"mask": "mask", "model": "model"}
    uses: ClassVar[frozenset[Source]] = frozenset({"data", "model", "design"})
    modules: ClassVar[tuple[str, ...]] = ("torch", "protocols.model_file")

    type: Literal["trained"]

    path: Path
    """`model.pt` of a `train` or `finetune` step; relative paths start in the current folder."""

    def check(self, setting: StepSetting) -> None:
        """Mask, scene and rig must fit each other and the camera."""
        from protocols.model_file import check_start

        check_fit(setting)
        check_network(setting)
        with concerning(*setting.at("path")):
            check_start(self.path, setting)

    def fingerprint(self) -> str:
        """See `Step.fingerprint`: what the file holds."""
        return hashlib.sha256(self._content()).hexdigest()

    def estimate(self, setting: StepSetting) -> Estimate:
        """Next to nothing. Looks at the data, so it is here that the camera must know the same classes."""
        from protocols.model_file import require_classes

        data = scenes_of(setting.protocol)
        with concerning(*setting.at("path")):
            require_classes(self.path, data.class_names, setting)
        return Estimate(seconds=1, disk_bytes=2 * 2**20)

    def run(self, context: StepContext) -> StepResult:
        """Copy, and write the mask beside it."""
        from protocols.model_file import load_camera, require_classes

        data = load_scenes(context)
        copy = context.folder / "model.pt"
        write_whole(copy, self._content())
        require_classes(copy, data.class_names, context.setting)
        camera = load_camera(copy, context.setting)
        if camera.twin_hash != context.setting.rig.twin_hash:
            context.log(f"'{self.path}' was trained in another twin than that of rig '{context.setting.rig.name}'")
        np.save(context.folder / "mask.npy", camera.mask.numpy().astype(np.float32))
        metrics = {"aperture_ratio": float(camera.mask.mean())}
        return StepResult({"mask": context.folder / "mask.npy", "model": copy}, metrics)

    def _content(self) -> bytes:
        try:
            return self.path.expanduser().read_bytes()
        except OSError as error:
            raise BadInput(f"'{self.path}' cannot be read: {error.strerror}; give the model.pt of a run") from error
