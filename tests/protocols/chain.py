"""Runs the steps of a small protocol one after the other in this process, as a run would, for tests of learning."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import yaml

from labctl.api import prepare
from labctl.rig import Rig
from labctl.steps import StepContext, StepResult

SMALL: dict[str, Any] = {
    "version": 1,
    "name": "chain",
    "scene_px": [63, 63],
    "mask_cells": [32, 32],
    "data": {"type": "digits"},
    "model": {"type": "small-residual", "width": 8, "dropout": 0.0},
    "designs": {"disc": {"type": "disc"}},
}

TRAIN: dict[str, Any] = {"type": "train", "epochs": 1, "batch": 128, "exposure_s": 0.01}
CAPTURE: dict[str, Any] = {
    "type": "capture", "mask": "${steps.train.mask}", "train": 40, "val": 20, "test": 60, "exposure_s": 0.01,
    "witness": "none",
}  # fmt: skip


@dataclass
class Chain:
    """Steps by name, and what each made. `run` goes on with those that are new."""

    folder: Path
    rig: str = "as-built"
    overrides: tuple[str, ...] = ()
    steps: dict[str, dict[str, Any]] = field(default_factory=lambda: {"train": TRAIN, "capture": CAPTURE})
    results: dict[str, StepResult] = field(default_factory=dict)
    said: list[str] = field(default_factory=list)
    outputs: dict[Any, Path] = field(default_factory=dict)

    def run(self, **more: Mapping[str, Any]) -> StepResult:
        """Run the steps that have not run yet, with these behind them; returns what the last one made."""
        self.steps |= {name: dict(settings) for name, settings in more.items()}
        self.folder.mkdir(parents=True, exist_ok=True)
        path = self.folder / "protocol.yaml"
        path.write_text(yaml.safe_dump({**SMALL, "steps": self.steps}, sort_keys=False))
        plan = prepare(path, rig=self.rig, overrides=self.overrides)
        for planned in plan:
            if planned.instance.name in self.results:
                continue
            folder = self.folder / "artifacts" / planned.instance.name
            folder.mkdir(parents=True, exist_ok=True)
            with Rig(planned.setting.rig) as rig:
                context = StepContext(
                    setting=planned.setting,
                    folder=folder,
                    run_folder=self.folder,
                    inputs={reference: self.outputs[str(reference)] for reference in planned.inputs},
                    report=self._hear,
                    stop_asked=lambda: False,
                    content_hash=planned.hash,
                    open_rig=lambda rig=rig: rig,
                )
                result = planned.instance.step.run(context)
            self.results[planned.instance.name] = result
            made = {f"${{steps.{planned.instance.name}.{name}}}": there for name, there in result.outputs.items()}
            self.outputs |= made
        return result

    def copy(self, folder: Path) -> Chain:
        """Another chain that goes on from here."""
        return Chain(folder, self.rig, self.overrides, dict(self.steps), dict(self.results), [], dict(self.outputs))

    def _hear(self, message: dict[str, Any]) -> None:
        if message["op"] == "log":
            self.said.append(message["text"])
