"""Cameras for clips are judged by fresh networks: the read-out counts, controls decide, and the strongest is told."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
import yaml

from labctl.api import prepare
from labctl.config import ConfigError
from labctl.errors import BadInput, Stopped
from protocols.attack.record import Attack, AttackFolder
from protocols.attack.table import in_words, rows_of, strongest
from protocols.splits import Split
from protocols.video.attack import AttackVideo
from protocols.video.budget import ClipBudget
from protocols.video.control import SharpClips, clip_control
from protocols.video.evaluate import EvaluateVideo
from protocols.video.likeness import clip_psnr, clip_ssim, foreground
from protocols.video.networks.settings import LenetFrame
from protocols.video.recognising import (
    ClipRecogniser,
    LabelledClips,
    shifted,
    some_frames,
    train_clip_recogniser,
)
from protocols.video.reconstruct import ReconstructVideo
from protocols.video.restoring import ClipPairs, train_restorer
from protocols.video.transfer import reads_pixel_by_pixel, transfer_curve, undone
from tests.protocols import video_doubles as doubles

SHORT = {"epochs": 12, "first_cycle": 12, "shift_px": 0, "batch": 16, "rate": 1e-2}
LONG = {**SHORT, "epochs": 24, "first_cycle": 24}
TINY = {"epochs": 1, "first_cycle": 1, "shift_px": 0, "batch": 16}
NETWORK = {"type": "small-3d", "width": 8}
FRAME = {"type": "lenet-frame", "width": 8}
MODEL = "${steps.train.model}"


@pytest.fixture(autouse=True)
def held_cameras(monkeypatch: pytest.MonkeyPatch) -> None:
    """Cameras come from memory, and their clips without a rig."""
    monkeypatch.setattr("protocols.video.camera_file.load_video_camera", doubles.load_video_camera)
    monkeypatch.setattr("protocols.video.encoded.encoded", doubles.encoded)


def attack_step(**more: Any) -> AttackVideo:
    settings = {"attackers": [NETWORK], "told": [], "budget": SHORT, **more}
    return AttackVideo.model_validate({"type": "attack_video", "model": MODEL, **settings})


def evaluate_step(**more: Any) -> EvaluateVideo:
    settings = {"networks": [NETWORK], "budget": SHORT, **more}
    return EvaluateVideo.model_validate({"type": "evaluate_video", "model": MODEL, **settings})


def reconstruct_step(**more: Any) -> ReconstructVideo:
    settings = {"budget": SHORT, "identifiers": [FRAME], "identifier_budget": SHORT, **more}
    return ReconstructVideo.model_validate({"type": "reconstruct_video", "model": MODEL, **settings})


# What a read-out does to light


def test_the_curve_of_a_quantiser_shows_its_thresholds_and_where_zero_lies() -> None:
    curve = transfer_curve(doubles.Steps((-0.3, -0.1, 0.15)), "hard", (8, 8))
    assert curve.of_change
    assert curve.edges == pytest.approx([-0.3, -0.1, 0.15], abs=2 / 800)
    outputs, middles = curve.steps
    assert outputs == pytest.approx([-1, -1 / 3, 1 / 3, 1])
    assert middles == pytest.approx([-0.65, -0.2, 0.025, 0.575], abs=0.01)


def test_a_soft_quantiser_has_no_edges_and_can_be_turned_round_where_it_is_steep() -> None:
    design = doubles.Steps((0.0,), temperature=10.0)
    curve = transfer_curve(design, "soft", (8, 8))
    assert len(curve.edges) == 0
    assert curve.monotonic
    change = torch.tensor([-0.2, 0.0, 0.1])
    light = torch.stack([torch.full((3,), 0.5), 0.5 + change], 1)[:, :, None, None, None].expand(3, 2, 1, 4, 4)
    back = undone(design.read_clips(light, "soft"), curve)
    assert back[:, 0, 0, 0, 0].numpy() == pytest.approx(change.numpy(), abs=2e-3)


def test_told_the_read_out_a_hard_difference_becomes_the_clip_up_to_its_first_frame_and_the_steps() -> None:
    thresholds = tuple(float(edge) for edge in np.arange(-0.975, 1, 0.05))
    design = doubles.Steps(thresholds)
    rng = np.random.default_rng(0)
    steps = rng.uniform(-0.2, 0.2, (4, 5, 1, 6, 6)).astype(np.float32)
    light = torch.from_numpy(np.concatenate([np.full_like(steps[:, :1], 0.5), 0.5 + steps.cumsum(1)], 1))
    back = undone(design.read_clips(light, "hard"), transfer_curve(design, "hard", (6, 6)))
    assert back.shape == (4, 5, 2, 6, 6)
    assert float((back[:, :, :1] - (light[:, 1:] - light[:, :-1])).abs().max()) < 0.03  # half a step
    assert float((back[:, :, 1:] - (light[:, 1:] - light[:, :1])).abs().max()) < 5 * 0.03


def test_light_that_is_read_as_it_is_comes_back_as_light() -> None:
    light = torch.rand(3, 4, 1, 5, 5)
    back = undone(doubles.Plain().read_clips(light), transfer_curve(doubles.Plain(), "soft", (5, 5)))
    assert torch.allclose(back, light, atol=1e-6)


def test_a_read_out_that_goes_up_and_down_cannot_be_turned_round() -> None:
    class Folded(doubles.Plain):
        def read_clips(self, light: torch.Tensor, operator: Any = "soft") -> torch.Tensor:
            return (2 * light - 1).abs()

    curve = transfer_curve(Folded(), "soft", (5, 5))
    with pytest.raises(BadInput, match="cannot be turned round"):
        undone(torch.zeros(1, 2, 1, 5, 5), curve)


def test_a_blur_in_the_electronics_is_not_of_each_pixel_alone() -> None:
    class Blurred(doubles.Plain):
        def read_clips(self, light: torch.Tensor, operator: Any = "soft") -> torch.Tensor:
            return torch.nn.functional.avg_pool2d(light[:, :, 0], 3, 1, 1)[:, :, None]

    assert not reads_pixel_by_pixel(Blurred(), "soft", (8, 8))
    assert reads_pixel_by_pixel(doubles.Steps(), "hard", (8, 8))


# Likeness


def test_the_foreground_is_what_ever_leaves_the_static_background() -> None:
    clips = torch.full((1, 5, 1, 4, 4), 0.3)
    clips[0, 2, 0, 1, 1] = 0.9
    clips[0, 1, 0, 3, 3] = 0.34
    found = foreground(clips)
    assert found.sum() == 1
    assert found[0, 0, 0, 1, 1]


def test_a_blind_guess_looks_good_over_the_whole_clip_and_bad_where_it_moves() -> None:
    truth = torch.from_numpy(np.asarray(doubles.clip_set(12).clips))
    blind = truth.median(1, keepdim=True).values.expand_as(truth)
    whole, moving = clip_psnr(blind, truth), clip_psnr(blind, truth, foreground(truth))
    assert (whole > moving + 3).all()
    assert clip_ssim(truth, truth) == pytest.approx(np.ones(12))
    assert np.isnan(clip_psnr(blind[:, :1], blind[:, :1], foreground(blind[:, :1]))).all()


def test_psnr_of_an_error_of_a_tenth_is_twenty_db() -> None:
    truth = torch.full((2, 3, 1, 4, 4), 0.5)
    assert clip_psnr(truth + 0.1, truth) == pytest.approx([20, 20], abs=1e-5)


# Learning


def test_frames_of_a_clip_are_shifted_together() -> None:
    clips = torch.rand(5, 3, 2, 7, 7)
    moved = shifted(clips, 2, torch.Generator().manual_seed(1))
    assert moved.shape == clips.shape
    assert not torch.equal(moved, clips)
    alike = shifted(clips[:, :1].expand(-1, 3, -1, -1, -1), 2, torch.Generator().manual_seed(1))
    assert torch.equal(alike[:, 0], alike[:, 2])
    assert torch.equal(shifted(clips, 0, torch.Generator()), clips)


def test_random_frames_are_no_frame_twice() -> None:
    clips = torch.arange(6.0).view(1, 6, 1, 1, 1).expand(40, 6, 1, 1, 1)
    chosen = some_frames(clips, 4, torch.Generator().manual_seed(0)).flatten(1)
    assert all(len(set(row.tolist())) == 4 for row in chosen)
    assert some_frames(clips, 9, torch.Generator()).shape[1] == 6


def test_votes_of_frames_are_means_of_log_probabilities_and_shares_count_frames() -> None:
    class Known(torch.nn.Module):
        def forward(self, frames: torch.Tensor) -> torch.Tensor:
            return torch.where(frames.flatten(1)[:, :1] > 0, torch.tensor([5.0, 0.0]), torch.tensor([0.0, 1.0]))

    reader = ClipRecogniser(Known(), 1, by_frame=True)
    clips = torch.tensor([1.0, -1.0, -1.0]).view(1, 3, 1, 1, 1)  # one sure frame for 0, two unsure ones for 1
    named = reader.named(LabelledClips(clips, torch.tensor([1])))
    assert named.frames == pytest.approx([2 / 3])
    assert named.predicted.tolist() == [0]
    assert not named.clip[0]


def test_the_same_seed_gives_the_same_attacker_and_too_few_clips_are_refused() -> None:
    data = doubles.clip_set(30)
    clips, labels = torch.from_numpy(np.asarray(data.clips)), torch.from_numpy(data.actor)
    part, budget = LabelledClips(clips, labels), ClipBudget.model_validate({**TINY, "shift_px": 1})
    answers = [
        train_clip_recogniser(LenetFrame(width=8), budget, part, part, 3, seed=4)[0](clips).detach() for _ in range(2)
    ]
    assert torch.equal(*answers)
    one = LabelledClips(clips[:1], labels[:1])
    with pytest.raises(BadInput, match="1 validation clips"):
        train_clip_recogniser(LenetFrame(width=8), budget, part, one, 3, seed=0)


def test_a_budget_of_zero_is_refused() -> None:
    with pytest.raises(ValueError, match="greater than or equal to 1"):
        ClipBudget(epochs=0)


def test_the_control_is_made_once_and_shared_between_cameras(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    data = doubles.clip_set(60)
    task = SharpClips(data, "held", {split: data.part(split) for split in Split})
    budget = ClipBudget.model_validate(TINY)
    quiet = lambda done, total: None  # noqa: E731
    made = clip_control(tmp_path, task, LenetFrame(width=8), budget, seed=0, pulse=quiet)
    monkeypatch.setattr("protocols.video.control.train_clip_recogniser", None)
    again = clip_control(tmp_path, task, LenetFrame(width=8), budget, seed=0, pulse=quiet)
    assert np.array_equal(made.named.clip, again.named.clip)
    with pytest.raises(TypeError):  # another effort is another control
        clip_control(tmp_path, task, LenetFrame(width=8), ClipBudget(epochs=2), seed=0, pulse=quiet)


# Steps


def test_action_is_told_of_a_moving_thing_and_not_of_noise(tmp_path: Path) -> None:
    result = doubles.Bench(tmp_path, doubles.Steps()).run(evaluate_step(networks=[NETWORK, {**NETWORK, "width": 6}]))
    assert result.metrics["accuracy"] > 0.9
    assert result.metrics["majority"] == pytest.approx(0.5, abs=0.05)
    assert result.metrics["chance"] == 0.5
    assert result.metrics["accuracy/small-3d (width 6)"] > 0.8
    blind = doubles.Bench(tmp_path, doubles.Nothing()).run(evaluate_step(), design="blind")
    assert blind.metrics["accuracy"] < 0.75
    lines = (tmp_path / "artifacts" / "comparison.csv").read_text().splitlines()
    assert len(lines) == 3
    assert lines[1].startswith("blind,bench,simulated,judged,0,")


def test_answers_are_kept_by_clip(tmp_path: Path) -> None:
    doubles.Bench(tmp_path, doubles.Plain()).run(evaluate_step(budget=TINY))
    data = doubles.clip_set()
    with np.load(tmp_path / "artifacts/d/s0/judged/predictions.npz") as file:
        assert np.array_equal(file["sample_id"], data.clip_ids[data.part(Split.TEST)])
        assert np.array_equal(file["label"], data.action[data.part(Split.TEST)])


def test_the_read_outs_of_a_quantiser_differ_and_a_camera_without_one_has_one_only(tmp_path: Path) -> None:
    steep = doubles.Bench(tmp_path, doubles.Steps()).run(evaluate_step(budget=TINY))
    flat = doubles.Bench(tmp_path, doubles.Steps(temperature=2.0)).run(evaluate_step(budget=TINY), design="flat")
    assert 0 < steep.metrics["soft_hard_differ"] < flat.metrics["soft_hard_differ"]
    plain = doubles.Bench(tmp_path, doubles.Plain()).run(evaluate_step(budget=TINY), design="plain")
    assert plain.metrics["soft_hard_differ"] == 0


def test_networks_of_the_soft_read_out_can_be_asked_about_the_hard_one(tmp_path: Path) -> None:
    flat = doubles.Steps((-0.9, 0.9), temperature=3.0)  # hard steps that nothing crosses, soft tails that tell all
    bench = doubles.Bench(tmp_path, flat)
    soft = bench.run(evaluate_step(operator="soft"), "soft")
    fed = bench.run(evaluate_step(operator="hard", trained_on="soft"), "fed")
    assert soft.metrics["accuracy"] > fed.metrics["accuracy"] + 0.1
    told = json.loads((tmp_path / "artifacts/d/s0/fed/evaluation.json").read_text())
    assert (told["trained_on"], told["operator"]) == ("soft", "hard")


def test_the_stage_must_tell_what_is_done() -> None:
    with pytest.raises(ValueError, match="stands twice"):
        evaluate_step(networks=[NETWORK, NETWORK])


def test_shapes_are_found_in_open_clips_and_not_in_noise(tmp_path: Path) -> None:
    step = attack_step(attackers=[NETWORK, FRAME], must_reach=0.3)
    open_ = doubles.Bench(tmp_path, doubles.Plain()).run(step)
    assert open_.metrics["named_right"] > 0.9
    assert open_.metrics["proven"] == 3  # a network of frames is scored twice
    blind = doubles.Bench(tmp_path, doubles.Nothing()).run(step, design="blind")
    assert blind.metrics["named_right"] < 0.6
    attacks = list(AttackFolder(tmp_path / "artifacts/d/s0/judged"))
    assert {(a.where, a.items.dtype.kind) for a in attacks} == {("clip", "b"), ("frame", "f")}
    assert len(list((tmp_path / "artifacts/attack-controls").glob("*.npz"))) == 2  # shared


def test_an_attacker_that_loses_on_open_clips_proves_nothing(tmp_path: Path) -> None:
    result = doubles.Bench(tmp_path, doubles.Plain()).run(attack_step(budget={**TINY, "rate": 1e-6}, must_reach=0.9))
    assert result.metrics["proven"] == 0
    assert result.metrics["named_right"] is None


def test_who_knows_the_read_out_is_asked_too_unless_it_cannot_be_turned_round(tmp_path: Path) -> None:
    bench = doubles.Bench(tmp_path, doubles.Steps())
    bench.run(attack_step(told=[NETWORK], budget=TINY))
    knows = {attack.knows for attack in AttackFolder(tmp_path / "artifacts/d/s0/judged")}
    assert knows == {"all labels", "all labels and the read-out"}
    blind = doubles.Bench(tmp_path, doubles.Nothing())
    blind.run(attack_step(told=[NETWORK], budget=TINY), design="blind")
    assert any("told: left out" in line for line in blind.said)


def test_a_stopped_sweep_of_attackers_goes_on_where_it_was(tmp_path: Path) -> None:
    step = attack_step(attackers=[NETWORK, {**NETWORK, "width": 6}], budget=TINY)
    stopped = doubles.Bench(tmp_path, doubles.Plain(), stop_after=1)
    with pytest.raises(Stopped):
        stopped.run(step)
    first = next(iter(AttackFolder(tmp_path / "artifacts/d/s0/judged")))
    resumed = doubles.Bench(tmp_path, doubles.Plain())
    resumed.run(step)
    assert sum("actor by" in line for line in resumed.said) == 1
    whole = doubles.Bench(tmp_path / "whole", doubles.Plain())
    whole.run(step)
    attacks = {a.name: a for a in AttackFolder(tmp_path / "artifacts/d/s0/judged")}
    for attack in AttackFolder(tmp_path / "whole/artifacts/d/s0/judged"):
        assert np.array_equal(attack.items, attacks[attack.name].items)
    assert first.name in attacks


def test_actors_that_nobody_has_seen_cannot_be_named(tmp_path: Path) -> None:
    bench = doubles.Bench(tmp_path, doubles.Plain(), doubles.Clips(actors=False))
    with pytest.raises(BadInput, match=r"1 actors are in test clips and in no training clip \('bars'\)"):
        bench.run(attack_step(budget=TINY))


def test_open_clips_are_restored_and_noise_gives_no_more_than_the_mean_picture(tmp_path: Path) -> None:
    step = reconstruct_step(
        network={"type": "unet-3d", "width": 4},
        budget=LONG,
        identifiers=[{**FRAME, "width": 16}],
        identifier_budget=LONG,
    )
    open_ = doubles.Bench(tmp_path, doubles.Plain()).run(step)
    assert open_.metrics["psnr_db_clip_gain"] > 5
    assert open_.metrics["psnr_db_foreground_gain"] > 5
    assert open_.metrics["psnr_db_foreground"] < open_.metrics["psnr_db_clip"]
    assert open_.metrics["reidentification_clip"] > 0.8
    blind = doubles.Bench(tmp_path, doubles.Nothing()).run(step, design="blind")
    assert abs(blind.metrics["psnr_db_clip_gain"]) < 0.5
    assert blind.metrics["reidentification_clip"] < 0.6
    with np.load(tmp_path / "artifacts/d/s0/judged/restored.npz") as file:
        assert file["made"].shape == file["scenes"].shape == (2, doubles.FRAMES, doubles.SIDE, doubles.SIDE)


def test_a_difference_is_restored_to_the_frames_at_which_it_was_read(tmp_path: Path) -> None:
    result = doubles.Bench(tmp_path, doubles.Steps()).run(reconstruct_step(budget=TINY, identifier_budget=TINY))
    assert {"ssim_clip", "psnr_db_clip", "psnr_db_foreground"} <= set(result.metrics)
    with np.load(tmp_path / "artifacts/d/s0/judged/restored.npz") as file:
        assert file["scenes"].shape[1] == file["read"].shape[1] == doubles.FRAMES - 1


def test_a_restorer_starts_from_the_mean_picture() -> None:
    class Silent(torch.nn.Module):
        def __init__(self) -> None:
            super().__init__()
            self.gain = torch.nn.Parameter(torch.zeros(()))

        def forward(self, clips: torch.Tensor) -> torch.Tensor:
            return self.gain * clips[:, :, :1]

    truth = torch.rand(8, 3, 1, 4, 4)
    pairs = ClipPairs(torch.zeros(8, 3, 1, 2, 2), truth)
    restorer, _ = train_restorer(Silent(), ClipBudget.model_validate(TINY), pairs, pairs, seed=0)
    assert torch.allclose(restorer.restored(pairs.encoded)[0, 0, 0], truth.mean((0, 1, 2)), atol=1e-6)


# Table


def clip_attack(items: Any, where: Any, operator: str = "hard") -> Attack:
    n = len(items)
    return Attack(
        goal="actor", attacker="a", knows="all labels", where=where, stage="simulated", items=np.asarray(items),
        sample_ids=np.arange(n), chance=0.1, control=np.ones(n, dtype=bool), control_chance=0.1, needed=0.55,
        operator=operator,
    )  # fmt: skip


def test_soft_and_hard_read_outs_are_attacks_of_their_own_and_the_strongest_is_told() -> None:
    attacks = [
        clip_attack([0.2, 0.4, 0.6], "frame"),
        clip_attack([True, True, False], "clip"),
        clip_attack([True, True, True], "clip", "soft"),
    ]
    rows = rows_of([("bdq", 0, attack) for attack in attacks])
    assert len(rows) == 3
    best = strongest(rows, "bdq", "actor", operator="hard")
    assert best is not None
    assert best.interval.mean == pytest.approx(2 / 3)
    assert in_words(best).endswith("in whole clips, hard read-out")
    by_frame = strongest(rows, "bdq", "actor", where="frame")
    assert by_frame is not None
    assert by_frame.interval.mean == pytest.approx(0.4)
    assert "frame by frame" in in_words(by_frame)


# Bad input


def planned(tmp_path: Path, judge: dict[str, Any], **more: Any) -> None:
    """Plan a protocol in which a step judges a camera; raises what a user would read."""
    protocol = {
        "version": 1, "name": "judged", "scene_px": [32, 32], "mask_cells": [5, 5], "data": {"type": "moving_digits"},
        "designs": {"disc": {"type": "disc", "radius_cells": 2}},
        "steps": {"train": {"type": "train_video"}, "judge": {"model": MODEL, **judge}}, **more,
    }  # fmt: skip
    path = tmp_path / "protocol.yaml"
    path.write_text(yaml.safe_dump(protocol, sort_keys=False))
    prepare(path, rig="sim-video")


def test_single_pictures_are_no_clips(tmp_path: Path) -> None:
    with pytest.raises(ConfigError, match="needs clips, and 'digits' gives single pictures"):
        planned(tmp_path, {"type": "attack_video"}, data={"type": "digits"})


def test_a_camera_that_reads_single_frames_is_refused(tmp_path: Path) -> None:
    with pytest.raises(ConfigError, match="needs a camera that reads clips, and 'disc' reads single frames"):
        planned(tmp_path, {"type": "evaluate_video"})


@pytest.mark.parametrize(
    ("settings", "says"),
    [
        ({"type": "evaluate_video", "stage": "captured"}, "needs captured frames"),
        ({"type": "evaluate_video", "finetune": {"epochs": 1}}, "add `frames` and `trained_on`"),
        ({"type": "attack_video", "calibration": "${steps.calibrate.calibration}"}, "there are none; take it away"),
        ({"type": "attack_video", "attackers": []}, "has 0 items; at least 1 allowed"),
        ({"type": "evaluate_video", "operator": "firm"}, "'firm' is not allowed; allowed: soft, hard"),
        ({"type": "audit", "model": None, "demand": {"identity": {"at_most": 0.3}}}, "nobody attacks 'identity'"),
    ],
)
def test_settings_that_cannot_work_are_refused_before_anything_runs(
    tmp_path: Path, settings: dict[str, Any], says: str
) -> None:
    steps: dict[str, Any] = {"calibrate": {"type": "calibrate"}, "train": {"type": "train_video"}}
    if settings["type"] == "audit":
        settings = {key: value for key, value in settings.items() if key != "model"}
        steps["attack"] = {"type": "attack_video", "model": MODEL}
        steps["judge"] = settings
    else:
        steps["judge"] = {"model": MODEL, **settings}
    with pytest.raises(ConfigError, match=says):
        planned(tmp_path, {}, steps=steps, designs={"open": {"type": "video_original"}})
