"""`display`: show a mask on the SLM, look at it with the camera, and keep pictures of both."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Annotated, ClassVar, Literal

import numpy as np
from annotated_types import Gt, Le

from labctl.exposure import Exposure, still_plan
from labctl.references import OutputKind, Reference
from labctl.steps import Estimate, Role, Source, Step, StepContext, StepResult, StepSetting
from protocols.capture import PILOT_IDS, white_exposure
from protocols.fit import check_fit, check_panel
from protocols.keys import first_exposure_id


class ShowMask(Step):
    """Shows the mask and takes one frame of a white scene through it: the first proof that panel and camera agree.

    Writes `panel-levels.png` (what the SLM shows) and `white-frame.npy` (DN).
    """

    where: ClassVar[Literal["host", "child"]] = "host"
    outputs: ClassVar[Mapping[str, str]] = {"white": "white-frame"}
    needs: ClassVar[frozenset[Role]] = frozenset({"mask", "scene", "camera"})
    uses: ClassVar[frozenset[Source]] = frozenset({"rig"})

    type: Literal["display"]

    mask: Annotated[Reference, OutputKind("mask")]
    """What to show; of a dynamic design, the pattern that stands for all."""

    fill: Annotated[float, Gt(0), Le(0.98)] = 0.9
    """The share of full scale that the white frame reaches."""

    def check(self, setting: StepSetting) -> None:
        """Mask, scene and rig must fit."""
        check_fit(setting)
        check_panel(setting)

    def estimate(self, setting: StepSetting) -> Estimate:
        """A few frames."""
        return Estimate(
            seconds=2, frames=1, disk_bytes=2**18, moves=("shows the mask on the SLM", "shows a white scene")
        )

    def run(self, context: StepContext) -> StepResult:
        """Show and look."""
        from PIL import Image

        mask = np.load(context.input(self.mask))
        rig, (scene_px, cells) = context.rig, context.setting.protocol.grids()
        roi = rig.spec.twin.frame_shape(cells, scene_px)
        first_id = first_exposure_id(context.content_hash)
        exposure_s = white_exposure(rig, mask, scene_px, roi, self.fill, first_id=first_id + PILOT_IDS)
        scene = np.ones((1, 1, *scene_px), dtype=np.float32)
        plan = still_plan(scene, mask, Exposure(exposure_s=exposure_s, roi=roi), exposure_ids=[first_id])
        frames = rig.expose(plan)
        Image.fromarray(rig.roads.mask.levels(mask)).save(context.folder / "panel-levels.png")
        path = context.folder / "white-frame.npy"
        np.save(path, frames.pixels[0, 0])
        pixels = frames.pixels.astype(np.float64)
        return StepResult(
            {"white": path},
            {
                "exposure_s": float(frames.exposure_s[0]),
                "mean_dn": float(pixels.mean()),
                "peak_dn": float(pixels.max()),
                "saturated_fraction": float(frames.saturated_fraction[0]),
            },
        )
