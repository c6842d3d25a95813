"""A mask that is another one for every frame, captured on a bench; and what no panel can show, which is refused."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
import yaml

from labctl.api import prepare
from labctl.config import ConfigError
from labctl.errors import Stopped
from labctl.frames.store import FrameStore
from labctl.rig import Rig
from labctl.steps import StepContext
from protocols.capture.metadata import mask_facts
from protocols.capture.patterns import FramePatterns
from protocols.captured import labelled_frames
from protocols.data import Digits
from protocols.model_file import load_camera
from protocols.simulation import Simulation
from tests.protocols.captures import pixels
from tests.protocols.chain import CAPTURE, Chain

DYNAMIC = ("designs.disc.type=dynamic",)
OF_MODEL = {**CAPTURE, "patterns": "${steps.train.model}", "train": 12, "val": 0, "test": 8, "block": 4}
DIGITS = tuple("0123456789")


@pytest.fixture(scope="module")
def trained(tmp_path_factory) -> Chain:
    """A dynamic design after a very short training on the bench as designed."""
    chain = Chain(tmp_path_factory.mktemp("dynamic"), "sim", DYNAMIC, steps={})
    chain.run(train={"type": "train", "epochs": 1, "batch": 512, "exposure_s": 0.01})
    return chain


def captured(chain: Chain, folder: Path, **settings: Any) -> FrameStore:
    again = chain.copy(folder)
    again.run(capture=OF_MODEL | settings)
    return FrameStore.open(again.results["capture"].outputs["frames"])


def test_every_scene_is_taken_through_a_pattern_of_its_own_and_the_record_says_which(trained: Chain, tmp_path: Path):
    store = captured(trained, tmp_path, sentinel_every=7, dark_every=9, background_every=9)
    hashes, kinds = store.column("mask_hash"), store.column("kind")
    scenes = store.select(kind="scene")
    assert len(set(hashes[scenes].tolist())) == len(scenes) == 20
    fixed = {kind: set(hashes[kinds == kind].tolist()) for kind in ("sentinel", "background", "dark")}
    assert fixed["sentinel"] == fixed["background"] != fixed["dark"]
    assert len(fixed["sentinel"]) == len(fixed["dark"]) == 1
    camera, rig = _camera(trained), _setting(trained).rig
    patterns = FramePatterns(camera.design, 0).of(store.column("sample_id")[scenes])
    with Rig(rig) as opened:
        known = [mask_facts(pattern, opened) for pattern in patterns]
    records = [store.records[place] for place in scenes.tolist()]
    assert [(r.mask_hash, r.levels_hash) for r in records] == [(k["mask_hash"], k["levels_hash"]) for k in known]


def test_the_bench_shows_the_patterns_that_the_record_names(trained: Chain, tmp_path: Path):
    store, camera = captured(trained, tmp_path), _camera(trained)
    labelled, data = labelled_frames(store.folder, DIGITS), Digits().load((63, 63))
    simulation = Simulation(_setting(trained).rig, camera.exposure, design=camera.design)
    row_of = {int(sample): row for row, sample in enumerate(data.sample_ids)}
    shown = simulation.shown(torch.from_numpy(data.images[[row_of[int(s)] for s in labelled.sample_ids]]))

    def off(masks: np.ndarray) -> float:
        with torch.no_grad():
            clean = simulation.frames(shown, torch.from_numpy(masks)).numpy()
        return float(np.abs(clean - labelled.frames).mean())

    patterns = FramePatterns(camera.design, 0).of(labelled.sample_ids)
    # What is left is noise, of which there is a third of what another pattern would change.
    assert off(patterns) < 0.4 * off(np.roll(patterns, 1, axis=0))
    assert off(patterns) < 0.4 * off(np.repeat(camera.mask.numpy()[None], len(patterns), axis=0))


def test_both_light_paths_and_an_interruption_give_the_same_frames(trained: Chain, tmp_path: Path):
    whole = captured(trained, tmp_path / "whole")
    step_by_step = trained.copy(tmp_path / "sequenced")
    step_by_step.overrides = (*DYNAMIC, "rig.light_path=sequenced")
    step_by_step.run(capture=OF_MODEL)
    sequenced = FrameStore.open(step_by_step.results["capture"].outputs["frames"])
    resumed = _interrupted(trained, tmp_path / "resumed")
    for other in (sequenced, resumed):
        assert other.column("mask_hash").tolist() == whole.column("mask_hash").tolist()
    assert np.array_equal(pixels(resumed), pixels(whole))
    of_noise = pixels(sequenced).astype(float) - pixels(
        whole
    )  # another light path is another capture, with other noise
    assert np.abs(of_noise).mean() < 20
    assert np.abs(of_noise.mean(axis=0)).max() < 30


def test_rungs_of_a_ladder_share_the_pattern_of_their_scene_and_a_closed_frame_can_be_taken_off(trained, tmp_path):
    store = captured(trained, tmp_path, ladder=[1, 0.5], dark_every=10, closed_mask="subtract")
    by_sample: dict[int, set[str]] = {}
    for record in store.records:
        if record.kind == "scene":
            by_sample.setdefault(record.sample_id, set()).add(record.mask_hash)
    assert {len(hashes) for hashes in by_sample.values()} == {1}
    assert len(labelled_frames(store.folder, DIGITS).frames) == 20


def test_captured_frames_are_evaluated_and_learned_from_like_any_other(trained: Chain, tmp_path: Path):
    chain = trained.copy(tmp_path)
    chain.run(capture=OF_MODEL | {"test": 40})
    told = chain.run(
        captured={"type": "evaluate", "stage": "captured", "model": "${steps.train.model}",
                  "frames": "${steps.capture.frames}"},
    ).metrics  # fmt: skip
    assert told["n_test"] == 40
    tuned = chain.run(
        finetune={"type": "finetune", "model": "${steps.train.model}", "frames": "${steps.capture.frames}", "epochs": 1}
    )
    assert tuned.outputs["model"].is_file()


@pytest.mark.parametrize(
    ("settings", "text"),
    [
        ({"patterns": None}, r"add the camera that draws them, `patterns: \$\{steps\.train\.model\}`"),
        ({"witness": "templates"}, "proves frames through one mask, .* set `witness: none`"),
        ({"repeats": 2}, "2 frames of a scene would be averaged, .* set `repeats: 1`"),
    ],
)
def test_what_a_dynamic_mask_cannot_have_is_refused_before_anything_moves(settings, text, trained, tmp_path):
    with pytest.raises(ConfigError, match=text):
        captured(trained, tmp_path, **settings)


def test_a_design_with_one_mask_is_captured_through_it_by_the_same_settings(tmp_path):
    """So that one protocol compares both."""
    chain = Chain(tmp_path, "sim", steps={})
    chain.run(train={"type": "train", "epochs": 1, "batch": 512, "exposure_s": 0.01})
    chain.run(capture=OF_MODEL)
    store = FrameStore.open(chain.results["capture"].outputs["frames"])
    [shown] = set(store.column("mask_hash").tolist())
    with Rig(_setting(chain).rig) as rig:
        assert shown == mask_facts(np.load(chain.results["train"].outputs["mask"]), rig)["mask_hash"]


@pytest.mark.parametrize("step", ["capture", "display"])
@pytest.mark.parametrize("design", ["lens", "defocused_lens", "diffuser", "blur"])
def test_what_no_panel_can_show_is_refused_before_anything_moves(design, step, trained, tmp_path):
    chain = trained.copy(tmp_path)
    chain.overrides = (f"designs.disc.type={design}",)
    settings = {"capture": CAPTURE, "display": {"type": "display", "mask": "${steps.train.mask}"}}[step]
    with pytest.raises(ConfigError, match=r"'disc' is no mask but optics .* no panel can show, .* or use `pinhole`"):
        chain.run(**{step: settings})


def _setting(chain: Chain):
    return next(iter(prepare(chain.folder / "protocol.yaml", rig=chain.rig, overrides=chain.overrides))).setting


def _camera(chain: Chain):
    return load_camera(chain.results["train"].outputs["model"], _setting(chain))


def _interrupted(chain: Chain, folder: Path) -> FrameStore:
    """A capture that is stopped after its first block and goes on in another session."""
    again = chain.copy(folder)
    again.folder.mkdir(parents=True)
    path = folder / "protocol.yaml"
    steps = {**again.steps, "capture": OF_MODEL}
    whole = yaml.safe_load((chain.folder / "protocol.yaml").read_text())
    path.write_text(yaml.safe_dump({**whole, "steps": steps}, sort_keys=False))
    planned = list(prepare(path, rig=again.rig, overrides=again.overrides))[1]
    (folder / "step").mkdir()
    for stop in (True, False):
        with Rig(planned.setting.rig) as rig:
            context = StepContext(
                setting=planned.setting, folder=folder / "step", run_folder=folder,
                inputs={reference: again.outputs[str(reference)] for reference in planned.inputs},
                report=lambda message: None, stop_asked=lambda stop=stop: stop, content_hash=planned.hash,
                open_rig=lambda rig=rig: rig,
            )  # fmt: skip
            if stop:
                with pytest.raises(Stopped):
                    planned.instance.step.run(context)
            else:
                planned.instance.step.run(context)
    return FrameStore.open(folder / "step" / "frames")
