"""A whole training on the bench: what it exposes, what it says before, and where it ends when it is interrupted."""

from __future__ import annotations

import time
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch

from labctl.calibration.record import Calibration, CalibrationRecord, Value
from labctl.calibration.validity import bench_hash
from labctl.config import ConfigError
from labctl.errors import RunFailed, Stopped
from labctl.protocol import load_protocol, plan_run
from labctl.rig import Rig
from labctl.rig_file import find_rig, load_rig
from labctl.steps import StepContext
from tests.protocols.small_rig import SMALL_RIG

SMALL = """
version: 1
name: small
scene_px: [31, 31]
mask_cells: [16, 16]
data: {type: npz, path: FILE}
designs:
  learned: {type: learned, rate: 0.1}
steps:
  train: {type: train, epochs: 1, batch: 32, augmentation: {shift_px: 1}}
  fitted: {type: fit_twin}
  loop:
    type: train
    epochs: 1
    batch: 32
    augmentation: {shift_px: 1}
    gradient: straight_through
    start: ${steps.train.model}
"""
TRAIN, VAL, STEPS = 192, 40, 6
"""Scenes of two splits, and steps of one epoch."""


@pytest.fixture(scope="module")
def data(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Four digits, few of each."""
    from sklearn.datasets import load_digits

    digits = load_digits(n_class=4)
    n = TRAIN + 2 * VAL
    split = np.repeat([0, 1, 2], [TRAIN, VAL, VAL])
    path = tmp_path_factory.mktemp("data") / "digits.npz"
    np.savez(path, images=np.float32(digits.images[:n] / 16), identity=digits.target[:n], split=split)
    return path


@pytest.fixture(scope="module")
def trained(tmp_path_factory: pytest.TempPathFactory, data: Path) -> Path:
    """A camera that was trained in simulation."""
    folder = tmp_path_factory.mktemp("trained")
    (folder / "small.yaml").write_text(SMALL.replace("FILE", str(data)).replace("epochs: 1", "epochs: 6", 1))
    first = plan_run(load_protocol(folder / "small.yaml"), load_rig(find_rig("sim"), overrides=SMALL_RIG)).steps[0]
    context = StepContext(first.setting, folder, folder, {}, lambda message: None, lambda: False, first.hash)
    first.instance.step.run(context)
    return folder / "model.pt"


@pytest.fixture
def plan(tmp_path: Path, data: Path) -> Callable[..., Any]:
    """Plans the step `loop` with changes, on the as-built bench."""

    def make(*changes: str, rig: Sequence[str] = (), name: str = "as-built") -> Any:
        path = tmp_path / "small.yaml"
        path.write_text(SMALL.replace("FILE", str(data)))
        settings = load_rig(find_rig(name), overrides=[*SMALL_RIG, *rig])
        return plan_run(load_protocol(path, overrides=changes), settings).steps[2]

    return make


def rough_twin(path: Path, spec: Any) -> Path:
    """A twin file of the bench `spec` that knows little of it."""
    values = {
        "shift_px": (0.3, -0.2), "rotation_rad": 0.0, "scale": 1.0, "blur_px": 0.5, "panel_gamma": 2.2,
        "log_contrast": 4.6, "stray": 0.03, "photons_per_s": 15000.0, "vignetting": 0.2, "dark_offset": 0.02,
    }  # fmt: skip
    record = CalibrationRecord(
        kind="twin",
        rig=spec.name,
        rig_hash=spec.content_hash,
        bench_hash=bench_hash(spec),
        made=time.time(),
        max_age_s=86_400,
        values={name: Value(value=value, error=None, unit="1") for name, value in values.items()},
        labctl="0",
    )
    return Calibration(record).save(path)


@pytest.fixture
def run(tmp_path: Path, trained: Path) -> Callable[..., Any]:
    """Runs a planned step on its rig; `stop_at` asks it to stop when so many frames were asked for."""

    def go(planned: Any, name: str = "a", stop_at: int | None = None, asked: list[Any] | None = None) -> Any:
        folder = tmp_path / name
        folder.mkdir(exist_ok=True)
        taken: list[Any] = [] if asked is None else asked
        twin = rough_twin(tmp_path / "twin.npz", planned.setting.rig)
        with Rig(planned.setting.rig) as rig:
            expose = rig.expose
            rig.expose = lambda plan: taken.append(plan) or expose(plan)  # type: ignore[method-assign]
            context = StepContext(
                planned.setting,
                folder,
                tmp_path,
                {reference: trained if reference.output == "model" else twin for reference in planned.inputs},
                lambda message: None,
                lambda: stop_at is not None and sum(map(len, taken)) >= stop_at,
                planned.hash,
                open_rig=lambda: rig,
            )
            return planned.instance.step.run(context)

    return go


def weights(path: Path) -> dict[str, torch.Tensor]:
    saved = torch.load(path / "model.pt", weights_only=True)
    return {**saved["classifier"], "mask": saved["mask"]}


def same(a: dict[str, torch.Tensor], b: dict[str, torch.Tensor]) -> bool:
    return all(torch.equal(a[name], b[name]) for name in a)


@pytest.mark.parametrize(
    "changes",
    [
        ["learns=both"],
        ["learns=classifier"],
        ["gradient=learned_twin", "twin=${steps.fitted.twin}"],
    ],
    ids=["both", "classifier", "learned twin"],
)
def test_a_training_that_is_stopped_ends_at_the_bits_of_an_uninterrupted_one(changes, plan, run, tmp_path):
    planned = plan(*(f"steps.loop.{change}" for change in changes))
    whole = run(planned, "whole")
    for stop_at in (80, 160):
        with pytest.raises(Stopped):
            run(planned, "parts", stop_at=stop_at)
    parts = run(planned, "parts")
    assert parts.metrics == whole.metrics
    assert same(weights(tmp_path / "parts"), weights(tmp_path / "whole"))
    assert sorted(path.name for path in (tmp_path / "parts").iterdir() if path.is_file()) == [
        "exposure.json", "mask.npy", "model.pt",
    ]  # fmt: skip


def test_no_two_exposures_share_an_id(plan, run):
    asked: list[Any] = []
    run(plan(), asked=asked)
    ids = np.concatenate([plan.exposure_ids for plan in asked])
    assert len(np.unique(ids)) == len(ids)


def test_one_mask_stands_for_a_step_and_every_exposure_is_told(plan, run):
    asked: list[Any] = []
    metrics = run(plan(), asked=asked).metrics
    assert all(plan.masks.shape[0] == 1 for plan in asked)
    assert metrics["exposures"] == sum(map(len, asked))
    assert 1 <= metrics["mask_changes"] <= STEPS + 1
    assert plan().estimate.frames == pytest.approx(metrics["exposures"], abs=15)  # of the search for an exposure
    assert metrics["val_accuracy"] > 0.7  # 0.25 by chance


def test_where_only_the_classifier_learns_the_mask_is_shown_once_and_every_scene_is_exposed_once(plan, run, trained):
    asked: list[Any] = []
    planned = plan("steps.loop.learns=classifier", "steps.loop.epochs=3")
    metrics = run(planned, asked=asked).metrics
    assert metrics["mask_changes"] == 1
    scenes = [p for p in asked if p.exposure_ids[0] % 2**26 < 2**25]
    assert sum(map(len, scenes)) == TRAIN
    assert planned.estimate.moves[0].endswith("one mask, 0 seconds of the bench")
    shown = torch.load(trained, weights_only=True)["mask"].numpy()
    assert all(np.array_equal(p.masks[0, 0], shown) for p in scenes)


def test_the_network_is_scaled_by_what_the_bench_measures_and_not_by_the_simulation(plan, run, trained, tmp_path):
    run(plan("steps.loop.exposure_s=0.004"))  # the simulation took 0.015
    before, after = weights(trained.parent), weights(tmp_path / "a")
    simulated, measured = (float(saved["normalisation.mean_frame"].mean()) for saved in (before, after))
    assert measured < 0.5 * simulated, "a quarter of the light and the dark signal"
    # Batch statistics are those of the network as it ended: taken anew from all frames at hand, 64 at a time.
    counted = {int(value) for name, value in after.items() if name.endswith("num_batches_tracked")}
    assert counted == {TRAIN // 64}


def test_scenes_can_be_exposed_afresh_at_every_step(plan, run):
    asked: list[Any] = []
    changes = ("steps.loop.learns=classifier", "steps.loop.epochs=2", "steps.loop.reuse_frames=false")
    run(plan(*changes), asked=asked)
    steps = [p for p in asked if p.exposure_ids[0] % 2**26 < 2**25]
    assert sum(map(len, steps)) == 2 * TRAIN
    assert len({p.masks.tobytes() for p in asked}) == 2  # and that of the camera's look for light, alike


def test_what_does_not_learn_stays(plan, run, trained, tmp_path):
    before = {k: v for k, v in weights(trained.parent).items()}
    run(plan("steps.loop.learns=mask"), "mask")
    run(plan("steps.loop.learns=classifier"), "classifier")
    mask, classifier = weights(tmp_path / "mask"), weights(tmp_path / "classifier")
    network = [name for name in before if name.startswith("network")]
    assert all(torch.equal(mask[name], before[name]) for name in network)
    assert not torch.equal(mask["mask"], before["mask"])
    assert torch.equal(classifier["mask"], before["mask"])
    assert not all(torch.equal(classifier[name], before[name]) for name in network)


def test_a_bench_without_light_is_found_before_any_training(plan, run):
    with pytest.raises(RunFailed, match="no light reaches the camera"):
        run(plan("steps.loop.exposure_s=1e-5", rig=["twin.light.photons_per_s=0.001"]))


@pytest.mark.parametrize(
    ("change", "text"),
    [
        ("gradient=physics_aware", r"gradient: physics_aware needs a fitted twin; add `twin: \$\{steps\.NAME\.twin\}`"),
        ("gradient=learned_twin", r"gradient: learned_twin needs a fitted twin"),
        ("corrections=[dark]", r"corrections: there is nothing to correct by; add `calibration: "),
        ("noise=false", r"noise: a bench measures with noise"),
        ("instruments={lamp: {brightness: 1}}", r"instruments\.lamp\.brightness: 'lamp' has no quantity 'brightness'"),
    ],
)
def test_a_rule_that_lacks_something_is_refused_before_anything_moves(change, text, plan):
    with pytest.raises(ConfigError, match=text):
        plan(f"steps.loop.{change}")


def test_a_mask_cannot_learn_for_a_classifier_that_knows_nothing(plan):
    with pytest.raises(ConfigError, match=r"learns: a mask cannot learn for a classifier that knows nothing; add `sta"):
        plan("steps.loop.learns=mask", "steps.loop.start=null")
    with pytest.raises(ConfigError, match=r"learns: design 'learned' has no mask that learns; use classifier"):
        plan("steps.loop.learns=mask", "designs.learned.freeze_from=0")


def test_simulation_neither_needs_a_camera_nor_takes_instruments(plan):
    with pytest.raises(ConfigError, match=r"needs the devices? .*camera"):
        plan(rig=["camera=null", "safe_order=null"])
    with pytest.raises(ConfigError, match=r"instruments: nothing is exposed with `gradient: sim`"):
        plan("steps.loop.gradient=sim", "steps.loop.instruments={lamp: {power: 1}}")
    assert plan("steps.loop.gradient=sim").estimate.frames == 0


def test_settings_that_came_later_leave_the_hash_of_older_trainings_as_it_was(plan):
    simulated = plan("steps.loop.gradient=sim")
    assert (
        plan("steps.loop.gradient=sim", "steps.loop.learns=both", "steps.loop.corrections=all").hash == simulated.hash
    )
    assert plan("steps.loop.gradient=sim", "steps.loop.learns=mask").hash != simulated.hash
    other_bench = plan("steps.loop.gradient=sim", rig=["world.seed=2"])
    assert other_bench.hash == simulated.hash
    assert plan(rig=["world.seed=2"]).hash != plan().hash
