"""What a mask is asked for besides recognition: signs, normalisation, and what a training makes of it."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch

from labctl.config import ConfigError
from labctl.errors import Stopped
from labctl.protocol import load_protocol, plan_run
from labctl.rig_file import find_rig, load_rig
from labctl.steps import StepContext
from protocols.losses import MaskTerms, Opponent, invertibility, rip, similarity, total_variation
from sim.designs.losses import Adversarial, MaskLosses
from tests.protocols.small_rig import SMALL_RIG

SMALL = """
version: 1
name: small
scene_px: [31, 31]
mask_cells: [16, 16]
data: {type: digits}
model: {type: small-residual, width: 4}
designs:
  disc: {type: disc}
  learned: {type: learned, rate: 0.1}
steps:
  train: {type: train, epochs: 1, batch: 128, augmentation: {shift_px: 1}}
"""
ALL = "{similarity: 1, total_variation: 1, invertibility: 1, rip: 1, adversarial: {weight: 1, width: 4}}"


@pytest.fixture
def plan(tmp_path: Path) -> Callable[..., Any]:
    def make(*changes: str, rig: str = "sim") -> Any:
        path = tmp_path / "small.yaml"
        path.write_text(SMALL)
        return plan_run(load_protocol(path, overrides=changes), load_rig(find_rig(rig), overrides=SMALL_RIG))

    return make


@pytest.fixture
def run(tmp_path: Path) -> Callable[..., Any]:
    def go(planned: Any, name: str, stop: bool = False, heard: list[dict[str, Any]] | None = None) -> Any:
        folder = tmp_path / name
        folder.mkdir(exist_ok=True)
        report = heard.append if heard is not None else lambda message: None
        context = StepContext(planned.setting, folder, tmp_path, {}, report, lambda: stop, planned.hash)
        return planned.instance.step.run(context)

    return go


def learned(planned: Any) -> Any:
    return next(step for step in planned if step.instance.design == "learned")


def twin() -> Any:
    rig = load_rig(find_rig("sim"), overrides=SMALL_RIG)
    return rig.twin.build(rig.roads)


def blobs(n: int) -> torch.Tensor:
    """(n, 1, 31, 31) scenes with one bright square each, somewhere."""
    scenes = torch.full((n, 1, 31, 31), 0.1)
    places = np.random.default_rng(0).integers(4, 22, (n, 2))
    for scene, (row, column) in zip(scenes, places, strict=True):
        scene[0, row : row + 5, column : column + 5] = 0.9
    return scenes


# Signs and normalisation


def test_terms_of_the_mask_are_lowest_for_a_chessboard_and_for_an_open_mask():
    chess = torch.from_numpy(np.indices((16, 16)).sum(0) % 2).float()
    assert float(total_variation(chess)) == -2.0
    assert float(total_variation(torch.ones(16, 16))) == 0.0
    assert float(invertibility(torch.ones(16, 16))) == -1.0
    assert float(invertibility(chess)) == -0.5


def test_terms_of_the_mask_do_not_know_its_size():
    stripes = [torch.from_numpy(np.indices((n, n))[0] % 2).float() for n in (16, 64)]
    assert float(total_variation(stripes[0])) == float(total_variation(stripes[1])) == -1.0
    assert float(invertibility(stripes[0])) == float(invertibility(stripes[1]))


def test_an_even_binary_mask_is_pushed_to_get_new_edges():
    mask = torch.zeros(8, 8).requires_grad_()
    total_variation(mask).backward()
    assert bool((mask.grad < 0).all())  # going down the slope opens cells


def test_grey_cells_differ_by_as_much_as_they_pass_more_or_less_light():
    assert float(total_variation(torch.full((8, 8), 0.4))) == 0.0
    assert float(total_variation(torch.tensor([[0.2, 0.5], [0.2, 0.5]]))) == pytest.approx(-0.3)


def test_similarity_pushes_away_from_the_sharp_picture():
    sharp = blobs(6)
    even = sharp.mean(dim=(-2, -1), keepdim=True).expand_as(sharp)
    halfway = 0.5 * (sharp + even)
    assert float(similarity(sharp, sharp)) == 0.0
    assert float(similarity(even, sharp)) == pytest.approx(-1.0)
    assert float(similarity(even, sharp)) < float(similarity(halfway, sharp)) < 0
    assert float(similarity(0.3 * halfway, 0.3 * sharp)) == pytest.approx(float(similarity(halfway, sharp)), rel=1e-5)


def test_rip_is_the_energy_that_comes_through_and_falls_with_light():
    scenes = blobs(5)
    assert float(rip(scenes, scenes)) == pytest.approx(-1.0, abs=0.05)
    assert float(rip(2 * scenes, scenes)) == pytest.approx(4 * float(rip(scenes, scenes)))
    assert torch.isfinite(rip(scenes, torch.zeros_like(scenes)))


@pytest.mark.parametrize("term", ["similarity", "rip"])
def test_through_the_pinhole_a_scene_is_sharp_and_opening_the_mask_lowers_the_term(term):
    scenes, made = blobs(4), twin()
    terms = MaskTerms(
        MaskLosses(**{term: 1.0}), made, (31, 31), (16, 16), (16, 16), None, np.arange(4), torch.device("cpu")  # type: ignore[arg-type]
    )  # fmt: skip
    pinhole = torch.zeros(16, 16)
    pinhole[8, 8] = 1.0
    frames, places = torch.zeros(4, 1, 16, 16), torch.arange(4)
    through = [float(terms.added(scenes, mask, frames, places)) for mask in (pinhole, torch.ones(16, 16))]
    assert through[0] == pytest.approx(0.0, abs=1e-3)
    assert through[1] < -0.1


# The opponent


def opponent(**settings: Any) -> Opponent:
    torch.manual_seed(0)
    return Opponent(Adversarial(weight=1.0, width=8, **settings), (16, 16), (16, 16), None, torch.device("cpu"))


def normalised(frames: torch.Tensor) -> torch.Tensor:
    centred = frames - frames.mean(dim=0, keepdim=True)
    return centred / centred.std()


def test_a_reconstructor_learns_to_see_through_a_blur_and_not_through_nothing():
    scenes, made, torch_generator = blobs(128), twin(), torch.Generator().manual_seed(0)
    kernel = torch.zeros(16, 16)
    kernel[8, 8] = 1.0
    sharp = made.light(scenes, made.psf(kernel)[None, None])
    kernel[6:10, 6:10] = 1.0
    blurred = normalised(made.light(scenes, made.psf(kernel)[None, None]))
    nothing = torch.randn(blurred.shape, generator=torch_generator)
    failures = {}
    for name, frames in (("blurred", blurred), ("nothing", nothing)):
        rival = opponent(rate=5e-3)
        for step in range(80):
            places = torch.arange(32) + 32 * (step % 4)
            rival.learn(frames[places] if name == "blurred" else torch.randn(32, 1, 16, 16), sharp[places], places)
        failures[name] = float(rival.failure(frames, sharp, torch.arange(128)))
    assert failures["blurred"] < 0.3
    assert failures["nothing"] > 0.8


def test_the_slope_of_its_failure_leads_to_the_frames_and_not_to_its_weights():
    rival, frames = opponent(), normalised(blobs(8)[..., 8:24, 8:24]).requires_grad_()
    sharp = blobs(8)[..., 8:24, 8:24]
    rival.learn(frames, sharp, torch.arange(8))
    before = [parameter.clone() for parameter in rival.network.parameters()]
    for parameter in rival.network.parameters():
        parameter.grad = None
    rival.failure(frames, sharp, torch.arange(8)).backward()
    assert frames.grad is not None
    assert all(parameter.grad is None for parameter in rival.network.parameters())
    assert all(torch.equal(a, b) for a, b in zip(before, rival.network.parameters(), strict=True))


def test_a_recogniser_reads_another_label_than_the_task():
    labels = torch.arange(64) % 2
    torch.manual_seed(0)
    rival = Opponent(
        Adversarial(weight=1.0, width=4, opponent="recogniser", attribute="side"),
        (16, 16), (16, 16), (labels, 2), torch.device("cpu"),
    )  # fmt: skip
    frames = torch.randn(64, 1, 16, 16, generator=torch.Generator().manual_seed(0))
    frames[:, :, :, 8:] += labels[:, None, None, None].float()
    places = torch.arange(64)
    first = float(rival.failure(frames, frames, places))
    for _ in range(30):
        rival.learn(frames, frames, places)
    assert float(rival.failure(frames, frames, places)) < 0.5 * first


# In a training


def test_every_term_is_told_for_every_epoch_and_moves_the_mask(plan, run):
    heard: list[dict[str, Any]] = []
    asked = run(learned(plan(f"steps.train.losses={ALL}", "steps.train.epochs=2")), "asked", heard=heard)
    told = [message["values"] for message in heard if message["op"] == "metric"]
    names = {"term_similarity", "term_total_variation", "term_invertibility", "term_rip", "term_adversarial"}
    assert len(told) == 2
    assert all(names <= values.keys() for values in told)
    assert all(asked.metrics[name] == told[-1][name] for name in names)
    open_only = run(learned(plan("designs.learned.losses={invertibility: 300}", "steps.train.epochs=2")), "open")
    plain = run(learned(plan("steps.train.epochs=2")), "plain")
    assert open_only.metrics["aperture_ratio"] > plain.metrics["aperture_ratio"] + 0.1
    assert names.isdisjoint(plain.metrics)


def test_a_stopped_training_with_an_opponent_ends_where_an_uninterrupted_one_ends(plan, run, tmp_path):
    planned = learned(plan(f"steps.train.losses={ALL}"))
    whole = run(planned, "whole")
    for _ in range(3):
        with pytest.raises(Stopped, match="checkpoint at step"):
            run(planned, "parts", stop=True)
    assert run(planned, "parts").metrics == whole.metrics
    a, b = (torch.load(tmp_path / name / "model.pt", weights_only=True) for name in ("whole", "parts"))
    assert torch.equal(a["mask"], b["mask"])


def test_a_mask_that_is_another_one_for_every_frame_sees_the_terms_too(plan, run):
    dynamic = "designs.learned={type: dynamic}"
    heard: list[dict[str, Any]] = []
    run(learned(plan(dynamic, f"steps.train.losses={ALL}")), "dynamic", heard=heard)
    [values] = [message["values"] for message in heard if message["op"] == "metric"]
    assert -2 < values["term_total_variation"] < -0.05  # of the patterns, not of their mean
    assert -1 < values["term_similarity"] < 0


def test_losses_of_a_design_go_before_those_of_the_step_and_change_its_hash_alone(plan):
    plain = {step.instance.design: step.hash for step in plan()}
    own = {step.instance.design: step.hash for step in plan("designs.learned.losses={invertibility: 1}")}
    assert own["disc"] == plain["disc"]
    assert own["learned"] != plain["learned"]
    named = learned(plan("designs.learned.losses={rip: 2}", "steps.train.losses={similarity: 1}"))
    assert named.instance.step.losses_of(named.setting) == MaskLosses(rip=2)
    other = learned(plan("steps.train.losses={similarity: 1}"))
    assert other.instance.step.losses_of(other.setting) == MaskLosses(similarity=1)


def test_no_losses_leave_the_content_hash_as_it_was(plan):
    given = {step.key: step.hash for step in plan("designs.learned.losses={}", "steps.train.losses={}")}
    assert given == {step.key: step.hash for step in plan()}


@pytest.mark.parametrize(
    ("changes", "text"),
    [
        (["steps.train.losses={adversarial: {weight: 1, opponent: recogniser, attribute: expression}}"],
         r"steps\.train\.losses\.adversarial: data of the type 'digits' say nothing"),
        (["steps.train.losses={adversarial: {weight: 1, opponent: recogniser}}"],
         "`opponent: recogniser` and `attribute: NAME` go together"),
        (["steps.train.losses={rip: -1}"], r"steps\.train\.losses\.rip"),
        (["steps.train.losses={rip: 1}", "steps.train.learns=classifier"], "only a mask sees these, and it does not l"),
        (["steps.train.losses={rip: 1}", "steps.train.gradient=straight_through"], "is told by the simulator; use"),
    ],
)  # fmt: skip
def test_what_cannot_be_asked_of_a_mask_is_refused(changes, text, plan):
    with pytest.raises(ConfigError, match=text):
        plan(*changes)
