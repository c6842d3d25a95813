"""Joint training on a small grid: what it promises besides accuracy."""

from __future__ import annotations

import dataclasses
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from PIL import Image

from labctl.config import ConfigError
from labctl.errors import BadInput, RunFailed, Stopped
from labctl.protocol import load_protocol, plan_run
from labctl.rig_file import find_rig, load_rig
from labctl.steps import StepContext
from protocols import joint_training, scenes, simulation
from protocols.data import decoding
from protocols.model_file import TrainedCamera, load_camera, save_camera
from protocols.models import Normalisation
from protocols.scenes import scenes_of
from protocols.simulation import ShownScenes, Simulation
from sim import golden
from tests.protocols.small_rig import SMALL_RIG

SMALL = """
version: 1
name: small
scene_px: [31, 31]
mask_cells: [16, 16]
data: {type: digits}
designs:
  disc: {type: disc}
  learned: {type: learned, rate: 0.1}
steps:
  train: {type: train, epochs: 1, batch: 64, augmentation: {shift_px: 1}}
"""


@pytest.fixture
def plan(tmp_path: Path) -> Callable[..., Any]:
    """Plans SMALL with changes; the second step is that of the design `learned`."""

    def make(*changes: str, rig: Sequence[str] = ()) -> Any:
        path = tmp_path / "small.yaml"
        path.write_text(SMALL)
        return plan_run(load_protocol(path, overrides=changes), load_rig(find_rig("sim"), overrides=[*SMALL_RIG, *rig]))

    return make


@pytest.fixture
def run(tmp_path: Path) -> Callable[..., Any]:
    """Runs one planned step in a folder of its own; `stop` asks it to stop at once."""

    def go(planned: Any, name: str = "a", stop: bool = False, said: list[str] | None = None) -> Any:
        folder = tmp_path / name
        folder.mkdir(exist_ok=True)
        report = (
            (lambda m: said.append(m["text"]) if m["op"] == "log" else None) if said is not None else lambda m: None
        )
        context = StepContext(planned.setting, folder, tmp_path, {}, report, lambda: stop, planned.hash)
        return planned.instance.step.run(context)

    return go


def learned(planned: Any) -> Any:
    return next(step for step in planned if step.instance.design == "learned")


def test_a_stopped_training_ends_where_an_uninterrupted_one_ends(plan, run, tmp_path):
    planned = learned(plan())
    whole = run(planned, "whole")
    for _ in range(3):
        with pytest.raises(Stopped, match="checkpoint at step"):
            run(planned, "parts", stop=True)
    said: list[str] = []
    resumed = run(planned, "parts", said=said)
    assert said[0] == "goes on at step 3 of 17"
    assert resumed.metrics == whole.metrics
    a, b = (torch.load(tmp_path / name / "model.pt", weights_only=True) for name in ("whole", "parts"))
    assert all(torch.equal(a["classifier"][key], b["classifier"][key]) for key in a["classifier"])
    assert torch.equal(a["mask"], b["mask"])
    assert not (tmp_path / "parts" / "checkpoint.pt").exists()


def test_a_checkpoint_of_another_simulator_is_not_gone_on_with(plan, run, monkeypatch):
    planned = learned(plan())
    with pytest.raises(Stopped):
        run(planned, stop=True)
    monkeypatch.setattr(golden, "GOLDEN_FILL", 0.5)
    with pytest.raises(RunFailed, match=r"the simulator makes other frames than .*; remove .*checkpoint\.pt to train"):
        run(planned)


def test_mixed_precision_trains_the_network_and_leaves_light_in_float32(plan, run, tmp_path):
    result = run(learned(plan("steps.train.precision=bf16-mixed", "steps.train.epochs=3")), "mixed")
    assert result.metrics["val_accuracy"] > 0.5
    saved = torch.load(tmp_path / "mixed" / "model.pt", weights_only=True)
    assert {v.dtype for v in saved["classifier"].values() if v.is_floating_point()} == {torch.float32}
    exact = run(learned(plan("steps.train.epochs=3")), "exact")
    assert result.metrics["loss"] == pytest.approx(exact.metrics["loss"], rel=0.15)
    assert result.metrics["loss"] != exact.metrics["loss"]


def test_one_exposure_for_all_masks_gives_each_the_light_that_it_passes(plan, run):
    time = "steps.train.exposure_s=0.002"
    electrons = {
        s.instance.design: run(s, s.instance.design).metrics for s in plan(time, "designs.learned={type: open}")
    }
    openness = {name: metrics["aperture_ratio"] for name, metrics in electrons.items()}
    ratio = electrons["disc"]["white_e"] / electrons["learned"]["white_e"]
    assert ratio == pytest.approx(openness["disc"] / openness["learned"], rel=1e-4)
    free = {
        s.instance.design: run(s, "free" + s.instance.design).metrics["white_e"]
        for s in plan("designs.learned={type: open}")
    }
    assert free["disc"] == pytest.approx(free["learned"], rel=1e-3)


@pytest.mark.parametrize(("exposure_s", "electrons"), [(1e-5, r"0\.\d+"), (10.0, r"\S+e\+0[67]")])
def test_an_exposure_that_leaves_no_difference_between_frames_is_named_with_its_light(exposure_s, electrons, plan, run):
    design = "{type: pinhole}" if exposure_s < 1 else "{type: open}"
    planned = learned(plan(f"steps.train.exposure_s={exposure_s}", f"designs.learned={design}"))
    with pytest.raises(BadInput, match=rf"frames are the same, .* gives {electrons} electrons .* holds 10000"):
        run(planned)


def test_a_training_can_start_from_a_camera_of_another_run(plan, run, tmp_path):
    first = run(learned(plan("steps.train.epochs=4")), "first")
    model = tmp_path / "first" / "model.pt"
    again = run(
        learned(plan(f"steps.train.init={model}", "designs.learned.freeze_from=0", "steps.train.rate=1e-6")), "again"
    )
    assert np.array_equal(np.load(tmp_path / "again" / "mask.npy"), np.load(tmp_path / "first" / "mask.npy"))
    assert again.metrics["val_accuracy"] == pytest.approx(first.metrics["val_accuracy"], abs=0.03)
    fresh = run(learned(plan("steps.train.rate=1e-6", "designs.learned.freeze_from=0")), "fresh")
    assert fresh.metrics["val_accuracy"] < first.metrics["val_accuracy"] - 0.2


def test_a_camera_to_start_from_counts_by_content_not_by_path(plan, run, tmp_path):
    run(learned(plan()), "first")
    model = tmp_path / "first" / "model.pt"
    (tmp_path / "copy.pt").write_bytes(model.read_bytes())
    here, there = (learned(plan(f"steps.train.init={p}")).hash for p in (model, tmp_path / "copy.pt"))
    assert here == there != learned(plan()).hash


@pytest.mark.parametrize(
    ("changes", "rig", "text"),
    [
        (["mask_cells=[12,12]"], ["twin.panel.stop_px=[48,48]", "twin.sensor.shape=[20,20]"],
         "is a camera of another grid: 16x16 mask cells and 31x31 scene pixels, the protocol has 12x12 and 31x31"),
        (["model={type: small-residual, width: 8}"], [], "holds another network than the protocol describes; set `mod"),
    ],
)  # fmt: skip
def test_a_camera_of_another_grid_or_network_is_refused_before_anything_is_trained(
    changes, rig, text, plan, run, tmp_path
):
    run(learned(plan()), "first")
    where = f"steps.train.init={tmp_path / 'first' / 'model.pt'}"
    with pytest.raises(ConfigError, match=text):
        plan(where, *changes, rig=rig)


def test_a_learned_mask_cannot_start_from_a_camera_that_has_none(plan, run, tmp_path):
    disc = next(step for step in plan() if step.instance.design == "disc")
    run(disc, "disc")
    where = f"steps.train.init={tmp_path / 'disc' / 'model.pt'}"
    with pytest.raises(ConfigError, match=r"holds another design than .*; set `designs\.learned` to what it was"):
        plan(where)
    assert plan(where, "compare=[disc]")


def test_what_is_no_camera_is_refused(plan, tmp_path):
    (tmp_path / "model.pt").write_bytes(b"nothing")
    with pytest.raises(ConfigError, match=r"steps\.train\.init: .*is no trained camera, or damaged"):
        plan(f"steps.train.init={tmp_path / 'model.pt'}")
    with pytest.raises(
        ConfigError, match=r"steps\.train\.init: '.*none\.pt' does not exist; give the model\.pt of a run"
    ):
        plan(f"steps.train.init={tmp_path / 'none.pt'}")


@pytest.mark.skipif(torch.cuda.is_available(), reason="there is a GPU")
def test_a_gpu_that_is_not_there_is_refused(plan):
    with pytest.raises(ConfigError, match=r"steps\.train\.device: 'cuda' is asked for, torch finds no CUDA GPU"):
        plan("steps.train.device=cuda")


@pytest.mark.skipif(not torch.cuda.is_available(), reason="no GPU")
@pytest.mark.filterwarnings("ignore:.*does not have a deterministic implementation")
def test_mask_and_classifier_learn_on_a_gpu_too(plan, run):
    result = run(learned(plan("steps.train.device=cuda", "steps.train.epochs=3")), "gpu")
    assert result.metrics["val_accuracy"] > 0.5


def test_a_trained_camera_says_when_the_simulator_has_changed(plan, run, tmp_path, monkeypatch):
    planned = learned(plan())
    run(planned, "a")
    camera: TrainedCamera = load_camera(tmp_path / "a" / "model.pt", planned.setting)
    assert camera.simulator_change(planned.setting) is None
    monkeypatch.setattr(golden, "SIMULATOR_VERSION", 99)
    assert camera.simulator_change(planned.setting) is None  # another version that makes the same frames
    monkeypatch.setattr(golden, "GOLDEN_FILL", 0.5)
    assert "99 now" in str(camera.simulator_change(planned.setting))
    elsewhere = dataclasses.replace(camera, twin_hash="another twin")
    save_camera(tmp_path / "b.pt", elsewhere)
    assert load_camera(tmp_path / "b.pt", planned.setting).simulator_change(planned.setting) is None


def test_an_older_model_file_is_refused(plan, run, tmp_path):
    planned = learned(plan())
    run(planned, "a")
    saved = torch.load(tmp_path / "a" / "model.pt", weights_only=True)
    torch.save({**saved, "schema": "labctl.model/1"}, tmp_path / "old.pt")
    with pytest.raises(RunFailed, match=r"has schema labctl\.model/1; labctl\.model/2 is needed; train again"):
        load_camera(tmp_path / "old.pt", planned.setting)
    with pytest.raises(BadInput, match="reads frames of 16x16 pixels"):
        load_camera(
            tmp_path / "a" / "model.pt",
            dataclasses.replace(
                planned.setting,
                rig=load_rig(
                    find_rig("sim"), overrides=[*SMALL_RIG, "twin.optics.border=same", "twin.sensor.shape=[31,31]"]
                ),
            ),
        )


def test_a_camera_that_knows_other_classes_is_refused_before_anything_is_trained(plan, run, tmp_path):
    run(learned(plan()), "first")
    for person in ("ann", "bob", "cy"):
        (tmp_path / "people" / person).mkdir(parents=True)
        for number in range(4):
            pixels = np.random.default_rng(number).integers(0, 255, (31, 31), dtype=np.uint8)
            Image.fromarray(pixels).save(tmp_path / "people" / person / f"{number}.png")
    where = f"steps.train.init={tmp_path / 'first' / 'model.pt'}"
    people = f"data={{type: folder, path: {tmp_path / 'people'}}}"
    with pytest.raises(
        ConfigError, match=r"steps\.train\.init: .*tells 10 classes apart \('0', '1', '2' and 7 more\), the data have 3"
    ):
        plan(where, people)


def test_ten_people_are_not_taken_for_ten_digits(plan, run, tmp_path):
    first = learned(plan())
    run(first, "first")
    model = tmp_path / "first" / "model.pt"
    camera = load_camera(model, first.setting)
    save_camera(model, dataclasses.replace(camera, class_names=tuple(f"person {k}" for k in range(10))))
    with pytest.raises(ConfigError, match=r"tells 10 classes apart .* start from a camera of the same classes"):
        plan(f"steps.train.init={model}")


def test_a_camera_to_start_from_may_lie_in_the_home_folder(plan, run, tmp_path, monkeypatch):
    run(learned(plan()), "first")
    monkeypatch.setenv("HOME", str(tmp_path))
    assert run(learned(plan("steps.train.init=~/first/model.pt")), "again").metrics["val_accuracy"] > 0


@pytest.mark.parametrize("freeze_from", [0.0, 0.5, 1.0])
def test_a_finished_camera_is_normalised_by_the_mask_it_ends_with_and_all_scenes(
    freeze_from, plan, run, tmp_path, monkeypatch
):
    monkeypatch.setattr(joint_training, "REFIT_ITEMS", 16)
    planned = learned(plan(f"designs.learned.freeze_from={freeze_from}"))
    run(planned, "a")
    camera = load_camera(tmp_path / "a" / "model.pt", planned.setting)
    twin = Simulation(planned.setting.rig, camera.exposure)
    data = scenes_of(planned.setting.protocol)
    frames = twin.all_frames(ShownScenes(twin, data.images, data.part("train")), camera.mask)
    anew = Normalisation(camera.frame_shape)
    anew.fit(frames)
    assert torch.equal(camera.classifier.normalisation.mean_frame, anew.mean_frame)
    assert torch.equal(camera.classifier.normalisation.std, anew.std)


@pytest.mark.parametrize(
    "changes",
    [
        ["designs.learned={type: learned, binary: false, slope: 2.0, slope_end: 12.0, open_fraction: [0.05, 0.2]}"],
        ["steps.train.panel_steepness_end=20.0", "designs.learned.open_fraction=0.1"],
    ],
)
def test_annealing_and_limits_resume_to_the_same_bits(changes, plan, run, tmp_path):
    planned = learned(plan(*changes, rig=["twin.panel.surrogate=sigmoid"]))
    run(planned, "whole")
    for _ in range(9):
        with pytest.raises(Stopped):
            run(planned, "parts", stop=True)
    run(planned, "parts")
    _require_equal_models(tmp_path / "whole", tmp_path / "parts")


def test_a_training_from_a_camera_on_streamed_pictures_resumes_to_the_same_bits(plan, run, tmp_path, monkeypatch):
    draws = np.random.default_rng(0)
    for label in "abcd":
        (tmp_path / "tree" / label).mkdir(parents=True)
        for number in range(40):
            pixels = draws.integers(0, 255, (31, 31), dtype=np.uint8)
            Image.fromarray(pixels).save(tmp_path / "tree" / label / f"{number}.png")
    folder = f"data={{type: folder, path: {tmp_path / 'tree'}}}"
    run(learned(plan(folder)), "first")
    changes = (folder, "steps.train.batch=16", f"steps.train.init={tmp_path / 'first' / 'model.pt'}")
    monkeypatch.setattr(decoding, "IN_MEMORY_BYTES", 0)
    monkeypatch.setattr(simulation, "HELD_BYTES", 0)
    scenes._loaded.cache_clear()
    planned = learned(plan(*changes))
    run(planned, "whole")
    for _ in range(4):
        with pytest.raises(Stopped):
            run(planned, "parts", stop=True)
    run(planned, "parts")
    assert list((tmp_path / "cache").rglob("*.scenes")), "the pictures were streamed"
    _require_equal_models(tmp_path / "whole", tmp_path / "parts")


def _require_equal_models(one: Path, other: Path) -> None:
    a, b = (torch.load(folder / "model.pt", weights_only=True) for folder in (one, other))
    for part in ("classifier", "design"):
        assert a[part].keys() == b[part].keys()
        assert all(torch.equal(a[part][key], b[part][key]) for key in a[part]), part
    assert torch.equal(a["mask"], b["mask"])
