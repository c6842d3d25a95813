"""Runs a capture step by itself on a simulated rig, as a run would, for the tests of the capture step."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import numpy as np
import yaml

from labctl.api import prepare
from labctl.frames.store import FrameStore
from labctl.rig import Rig
from labctl.steps import StepContext, StepResult
from sim.designs.masks import centre_distance

DISC = (centre_distance((32, 32)) <= 4).astype(np.float32)

BASE: dict[str, Any] = {
    "version": 1,
    "name": "captures",
    "scene_px": [63, 63],
    "mask_cells": [32, 32],
    "data": {"type": "digits"},
    "designs": {"disc": {"type": "disc"}},
    "steps": {
        "train": {"type": "train", "epochs": 1, "batch": 512, "exposure_s": 0.004},
        "capture": {
            "type": "capture",
            "mask": "${steps.train.mask}",
            "train": 12,
            "val": 0,
            "test": 6,
            "block": 4,
            "exposure_s": 0.004,
            "witness": "none",
        },
    },
}


@dataclass
class Session:
    """What one capture step is given and what it says. stop: ask it to stop at the end of its first block."""

    folder: Path
    settings: dict[str, Any] = field(default_factory=dict)
    rig: str = "as-built"
    answer: Callable[[str, tuple[str, ...]], str] | None = None
    with_rig: Callable[[Rig], None] = lambda rig: None
    stop: bool = False
    mask: np.ndarray = field(default_factory=lambda: DISC)
    overrides: tuple[str, ...] = ()
    train: dict[str, Any] = field(default_factory=dict)
    said: list[str] = field(default_factory=list)

    def run(self) -> StepResult:
        """Run the step, or go on with what it left in `folder`. `with_rig` may do something to the open rig before."""
        self.folder.mkdir(parents=True, exist_ok=True)
        steps = {"train": BASE["steps"]["train"] | self.train, "capture": BASE["steps"]["capture"] | self.settings}
        (self.folder / "protocol.yaml").write_text(yaml.safe_dump({**BASE, "steps": steps}, sort_keys=False))
        np.save(self.folder / "mask.npy", self.mask)
        planned = list(prepare(self.folder / "protocol.yaml", rig=self.rig, overrides=self.overrides))[1]
        step_folder = self.folder / "step"
        step_folder.mkdir(exist_ok=True)
        with Rig(planned.setting.rig) as rig:
            self.with_rig(rig)
            return planned.instance.step.run(
                StepContext(
                    setting=planned.setting,
                    folder=step_folder,
                    run_folder=self.folder,
                    inputs=dict.fromkeys(planned.inputs, self.folder / "mask.npy"),
                    report=self._hear,
                    stop_asked=lambda: self.stop,
                    content_hash=planned.hash,
                    open_rig=lambda: rig,
                    ask=self.answer,
                )
            )

    @property
    def frames(self) -> Path:
        """Folder of the set."""
        return self.folder / "step" / "frames"

    def store(self) -> FrameStore:
        """The set as it stands."""
        return FrameStore.open(self.frames)

    def _hear(self, message: dict[str, Any]) -> None:
        if message["op"] == "log":
            self.said.append(message["text"])


def pixels(store: FrameStore) -> np.ndarray:
    """(N, C, h, w) DN of all frames."""
    return store.read(range(len(store)))
