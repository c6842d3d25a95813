"""A training step of labctl against a minimal loop, written by hand, of the same optics and network.

The hand-written loop has what the learning needs and nothing else: no checkpoints, no progress, no Fabric, no keyed
random streams. Ratio: `ours` over `floor`, goal at most 1.05.
"""

from __future__ import annotations

import itertools
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from torch import nn

from labctl.protocol import load_protocol, plan_run
from labctl.rig_file import find_rig, load_rig
from labctl.steps import StepContext
from protocols.augmentation import augment
from protocols.joint_training import REFIT_EVERY, JointTraining
from protocols.scenes import scenes_of
from protocols.training_loop import prepare_torch, run_loop
from sim.noise import TorchDraws

PROTOCOL = """
version: 1
name: step
scene_px: [63, 63]
mask_cells: [32, 32]
data: {type: digits}
designs:
  disc: {type: disc}
  learned: {type: learned, freeze_from: 1.0}    # freezing looks at all scenes once, whatever the length
steps:
  train: {type: train, epochs: 1, augmentation: {shift_px: 3, flip: true}}
"""
STEPS = 16
PASSES = 4
"""Both loops take turns so often: a busy machine hits both alike."""


def planned_of(design: str, folder: Path) -> Any:
    path = folder / "step.yaml"
    path.write_text(PROTOCOL)
    plan = plan_run(load_protocol(path), load_rig(find_rig("sim")))
    return next(step for step in plan if step.instance.design == design)


def training_of(planned: Any) -> JointTraining:
    prepare_torch()
    return JointTraining(planned.instance.step, planned.setting, scenes_of(planned.setting.protocol))


def ours(planned: Any, folder: Path) -> Callable[[], None]:
    """STEPS steps through `run_loop`, as the step `train` makes them."""
    training = training_of(planned)
    short = type(training.schedule)(items=32 * STEPS, epochs=1, batch=32, seed=0)
    training.schedule = short
    optimisation = training.optimisation()
    context = StepContext(planned.setting, folder, folder, {}, lambda message: None, lambda: False, planned.hash)

    def run() -> None:
        run_loop(
            context,
            short,
            state=optimisation.state,
            one_step=training.one_step,
            optimisers=optimisation.optimisers,
            rates=[],
            validate=dict,
            backward=training.fabric.backward,
            golden=training.golden,
        )

    return run


def floor(planned: Any) -> Callable[[], None]:
    """The same arithmetic in the shortest loop that does it."""
    training = training_of(planned)
    simulation, design, classifier = training.simulation, training.design, training.classifier
    scenes, labels = training.train.held, training.train_labels
    few = training.few.held
    optimisers: list[torch.optim.Optimizer] = [torch.optim.AdamW(classifier.parameters(), lr=3e-3, weight_decay=5e-4)]
    if design.learnable:
        optimisers.append(torch.optim.Adam(design.parameters(), lr=0.03))
    criterion = nn.CrossEntropyLoss(label_smoothing=0.1)
    generator = torch.Generator().manual_seed(0)
    order = torch.from_numpy(np.random.default_rng(0).permutation(32 * STEPS))
    assert scenes is not None
    assert few is not None

    def run() -> None:
        for step in range(STEPS):
            items = order[32 * step : 32 * step + 32]
            if design.learnable and step % REFIT_EVERY == 0:
                with torch.no_grad():
                    mask = design.mask()
                    frames = torch.cat([simulation.frames(few[i : i + 128], mask) for i in (0, 128)])
                classifier.normalisation.fit(frames)
            classifier.train()
            batch = augment(scenes[items], training.step.augmentation, generator)
            logits = classifier(simulation.frames(batch, design.mask(), draws=TorchDraws(generator)))
            loss = criterion(logits, labels[items])
            for optimiser in optimisers:
                optimiser.zero_grad(set_to_none=True)
            loss.backward()
            for optimiser in optimisers:
                optimiser.step()

    return run


@pytest.mark.parametrize(
    ("again", "design", "role"), list(itertools.product(range(PASSES), ["disc", "learned"], ["ours", "floor"]))
)
def test_training_step(benchmark: Any, again: int, design: str, role: str, tmp_path: Path) -> None:
    planned = planned_of(design, tmp_path)
    run = ours(planned, tmp_path) if role == "ours" else floor(planned)
    benchmark.extra_info.update(
        ratio_group=f"{STEPS} training steps, 63/32, batch 32, {design} mask",
        role=role,
        label="labctl" if role == "ours" else "minimal loop by hand",
    )
    benchmark.pedantic(run, rounds=4, warmup_rounds=1)
