"""Patterns of a dynamic mask on a bench: another one for every scene, known again from the model file."""

from __future__ import annotations

from typing import TYPE_CHECKING

import numpy as np

from labctl.errors import BadInput
from labctl.exposure import FloatArray
from protocols.fit import built_design
from protocols.keys import stream_seed

if TYPE_CHECKING:
    from pathlib import Path

    from labctl.steps import StepSetting
    from protocols.capture.step import Capture
    from protocols.splits import IntArray
    from sim.designs.base import CameraDesign


class FramePatterns:
    """What each scene of the data is seen through: drawn from the design by the seed of the step and the scene.

    So it is the same at every rung, at every attempt and after an interruption, and whoever has the model file and the
    seed knows it again.
    """

    def __init__(self, design: CameraDesign, seed: int) -> None:
        self._design, self._seed = design, seed

    @classmethod
    def of_model(cls, path: Path, setting: StepSetting) -> FramePatterns | None:
        """Of the trained camera in `path`; None of a design that shows one mask, which is no pattern of a frame."""
        from protocols.model_file import load_camera

        design = load_camera(path, setting).design
        return cls(design, int(setting.seed or 0)) if design.dynamic else None

    def of(self, sample_ids: IntArray) -> FloatArray:
        """(n, H, W) float32, 0..1, of these scenes."""
        import torch

        drawn = []
        with torch.no_grad():
            for sample_id in sample_ids:
                seed = stream_seed(self._seed, "capture", "pattern", int(sample_id))
                drawn.append(self._design.draw(1, torch.Generator().manual_seed(seed))[0])
        return np.asarray(torch.stack(drawn).numpy(), dtype=np.float32)


def check_patterns(step: Capture, setting: StepSetting) -> None:
    """Raise BadInput unless a dynamic design is captured as it can be."""
    if not built_design(setting).dynamic:
        return
    if step.patterns is None or step.patterns.step != step.mask.step:
        text = (
            f"'{setting.design}' shows every frame another pattern; add the camera that draws them, "
            f"`patterns: ${{steps.{step.mask.step}.model}}`, of the step that made the mask"
        )
        raise BadInput(text, at=setting.at("patterns"))
    if step.witness != "none":
        text = (
            f"{step.witness} proves frames through one mask, '{setting.design}' shows every frame another pattern; "
            "set `witness: none`"
        )
        raise BadInput(text, at=setting.at("witness"))
    if step.repeats > 1:
        text = (
            f"{step.repeats} frames of a scene would be averaged, and '{setting.design}' shows it through one pattern; "
            "set `repeats: 1`"
        )
        raise BadInput(text, at=setting.at("repeats"))
