"""Attacks and the audit: attackers are fair, controls decide what counts, and a verdict is that of the strongest."""

from __future__ import annotations

import csv
import json
from dataclasses import replace
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import numpy as np
import pytest
import torch
import yaml

from labctl.config import ConfigError
from labctl.errors import BadInput, RunFailed
from labctl.protocol import RunPlan, load_protocol, plan_run
from labctl.rig_file import find_rig, load_rig
from labctl.steps import StepContext
from labctl.store import RunFolder, create_run
from protocols.attack import control
from protocols.attack.attackers import Budget, Linear, PlainCnnAttacker, ResNet18Attacker, SmallResidualAttacker
from protocols.attack.audit import Bound, broken_demands
from protocols.attack.beliefs import Window, camera_behind, estimated_camera, light_of
from protocols.attack.control import SharpTask, control_of, needed_of
from protocols.attack.cycles import cycles
from protocols.attack.likeness import psnr_of, ssim_of
from protocols.attack.plain_cnn import PlainCnn
from protocols.attack.recognisers import Labelled, named_right, train_recogniser
from protocols.attack.record import Attack, AttackFolder
from protocols.attack.table import rows_of, strongest
from protocols.attack.targets import Target, target_of
from protocols.attack.views import FixedView, SharpView, cut
from protocols.data import ImageSet
from protocols.inversion.problem import LinearCamera
from protocols.metrics import mean_interval
from protocols.model_file import new_design
from protocols.report.sections import PARTS
from protocols.report.step import write_report
from protocols.simulation import ExposureRule, Simulation
from protocols.splits import Split

SIDE = 24
SMALL_RIG = ["twin.panel.stop_px=[32,32]", "twin.monitor.view_px=[24,24]", "twin.sensor.shape=[17,17]"]


def blobs(n: int, seed: int = 0) -> tuple[np.ndarray, np.ndarray]:
    """(n, SIDE, SIDE) pictures of a spot in one of three places, and which (n,)."""
    rng = np.random.default_rng(seed)
    labels = np.arange(n) % 3
    y, x = np.mgrid[:SIDE, :SIDE]
    at = np.array([[9, 9], [9, 14], [14, 11]])[labels] + rng.normal(0, 0.4, (n, 2))
    spots = np.exp(-((y - at[:, :1, None]) ** 2 + (x - at[:, 1:, None]) ** 2) / 8)
    return np.clip(0.15 + 0.7 * spots + rng.normal(0, 0.02, spots.shape), 0, 1), labels


def image_set(n: int = 90) -> ImageSet:
    pictures, labels = blobs(n)
    split = (np.arange(n) // 3 % 3).astype(np.uint8)
    names = ("left", "right", "low")
    return ImageSet(pictures[:, None].astype(np.float32), labels, split, names, np.arange(n))


def sharp_task(data: ImageSet, labels: np.ndarray | None = None) -> SharpTask:
    target = Target("identity", data.labels if labels is None else labels, data.class_names)
    return SharpTask(data, "data", target, *(data.part(split) for split in Split), (SIDE, SIDE))


QUICK = Budget.model_validate({"epochs": 2, "first_cycle": 1, "augmentation": {}})
LINEAR = Linear(type="linear", copies=1)


def quiet(done: int, total: int) -> None:
    """A pulse that nobody feels."""


# Attackers


def test_a_budget_of_zero_is_refused() -> None:
    with pytest.raises(ValueError, match="greater than or equal to 1"):
        Budget(epochs=0)


def test_cycles_double_and_use_the_whole_budget() -> None:
    assert cycles(Budget(epochs=70, first_cycle=10)) == [10, 20, 40]
    assert cycles(Budget(epochs=33, first_cycle=10)) == [10, 23]
    assert cycles(Budget(epochs=3, first_cycle=10)) == [3]


@pytest.mark.parametrize(
    "attacker", [LINEAR, Linear(type="linear", kind="logistic", copies=2)], ids=["ridge", "logistic"]
)
def test_a_linear_attacker_learns_what_can_be_learned_and_nothing_from_shuffled_labels(attacker: Linear) -> None:
    data = image_set()
    task = sharp_task(data)
    train, val, test = (task.part(rows, QUICK) for rows in (task.train, task.val, task.test))
    found, _ = train_recogniser(attacker, QUICK, train, val, 3, seed=0)
    assert named_right(found, test).mean() > 0.9
    shuffled = torch.from_numpy(np.random.default_rng(1).permutation(train.labels.numpy()))
    lost, _ = train_recogniser(attacker, QUICK, Labelled(train.view, shuffled), val, 3, seed=0)
    assert named_right(lost, test).mean() < 0.7


def test_a_network_stops_when_a_cycle_brings_nothing_and_says_when_the_budget_ended_it() -> None:
    task = sharp_task(image_set())
    train, val = task.part(task.train, QUICK), task.part(task.val, QUICK)
    attacker = SmallResidualAttacker(type="small-residual", width=4)
    _, short = train_recogniser(attacker, QUICK, train, val, 3, seed=0)
    assert (short.epochs, short.converged) == (2, False)
    long = Budget.model_validate({"epochs": 60, "first_cycle": 2, "augmentation": {}})
    wrong = Labelled(val.view, (val.labels + 1) % 3)  # learning can only make this worse
    _, ended = train_recogniser(attacker, long, train, wrong, 3, seed=0)
    assert ended.converged
    assert ended.epochs < 60


def test_the_same_seed_gives_the_same_attacker() -> None:
    task = sharp_task(image_set())
    parts = [task.part(rows, QUICK) for rows in (task.train, task.val, task.test)]
    attacker = PlainCnnAttacker(type="plain-cnn", width=4)
    answers = [
        train_recogniser(attacker, QUICK, parts[0], parts[1], 3, seed=3)[0].answers(
            parts[2].view.pictures(torch.arange(30), None)
        )
        for _ in range(2)
    ]
    assert torch.equal(*answers)


def test_the_plain_network_has_the_shape_of_a_classifier_and_one_step_lowers_its_loss() -> None:
    torch.manual_seed(0)
    network = PlainCnn(width=4, hidden=8, dropout=0.0).build((18, 20), 5)
    frames, labels = torch.randn(6, 1, 18, 20), torch.arange(6) % 5
    optimiser = torch.optim.SGD(network.parameters(), lr=0.05)
    losses = []
    for _ in range(2):
        loss = torch.nn.functional.cross_entropy(network(frames), labels)
        losses.append(float(loss.detach()))
        optimiser.zero_grad()
        loss.backward()
        optimiser.step()
    assert network(frames).shape == (6, 5)
    assert losses[1] < losses[0]
    assert ResNet18Attacker(type="resnet18").width == 64


def test_two_attackers_of_one_name_are_refused_but_not_two_widths() -> None:
    from pydantic import TypeAdapter

    from protocols.attack.any_attacker import Attackers

    kinds = TypeAdapter(Attackers)
    assert len(kinds.validate_python([{"type": "small-residual"}, {"type": "small-residual", "width": 24}])) == 2
    with pytest.raises(ValueError, match="stands twice"):
        kinds.validate_python([{"type": "linear"}, {"type": "linear"}])


# Views and controls


def test_the_centre_is_the_middle_of_the_scene() -> None:
    scene = torch.arange(25.0).reshape(1, 1, 5, 5)
    assert torch.equal(cut(scene, (3, 3)), scene[..., 1:4, 1:4])


def test_pictures_to_judge_by_are_not_changed_and_training_pictures_are() -> None:
    data, budget = image_set(), Budget.model_validate({"augmentation": {"shift_px": 2}})
    view = SharpView(data, np.arange(10), (SIDE, SIDE), budget.augmentation, soften=True)
    places = torch.arange(10)
    assert torch.equal(view.pictures(places, None), torch.from_numpy(data.images[:10]))  # type: ignore[index]
    generator = torch.Generator().manual_seed(0)
    assert not torch.equal(view.pictures(places, generator), view.pictures(places, None))
    fixed = FixedView(torch.from_numpy(data.images[:10]), shift_px=2)  # type: ignore[index]
    assert torch.equal(fixed.pictures(places, None), view.pictures(places, None))


def test_a_control_is_trained_once_and_shared(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    task, attacker = sharp_task(image_set()), SmallResidualAttacker(type="small-residual", width=4)
    first = control_of(tmp_path, task, attacker, QUICK, seed=0, pulse=quiet)
    kept, _ = control.sharp_recogniser(tmp_path, task, attacker, QUICK, seed=0, pulse=quiet)
    assert np.array_equal(named_right(kept, task.part(task.test, QUICK)), first.right)

    def never(*args: Any, **kwargs: Any) -> None:
        raise AssertionError("trained again")

    monkeypatch.setattr(control, "train_recogniser", never)
    again = control_of(tmp_path, task, attacker, QUICK, seed=0, pulse=quiet)
    assert np.array_equal(again.right, first.right)
    with pytest.raises(AssertionError, match="trained again"):
        control_of(tmp_path, task, attacker, QUICK, seed=1, pulse=quiet)


# Inversion


def test_a_psf_is_estimated_from_a_few_known_pictures() -> None:
    generator = torch.Generator().manual_seed(0)
    psf = torch.rand(1, 4, 4, generator=generator)
    camera = LinearCamera(psf, (3, 3), (13, 13), (16, 16))
    scenes = torch.rand(4, 1, 16, 16, generator=generator)
    window = Window((6, 6), (4, 4), (13, 13), (16, 16))
    found = estimated_camera(scenes, camera.forward(scenes), window)
    assert torch.allclose(found.psf[0, 0, 1:5, 1:5], psf[0], atol=0.02)
    assert float(found.psf[0, 0, 0].abs().max()) < 0.02
    with pytest.raises(BadInput, match="two or more are needed"):
        estimated_camera(scenes[:1], camera.forward(scenes[:1]), window)


@pytest.mark.parametrize("design", ["disc", "blur"])
def test_a_known_camera_foretells_the_frames_that_the_design_reads_out(tmp_path: Path, design: str) -> None:
    [setting] = [
        step.setting for step in planned(tmp_path) if (step.instance.name, step.instance.design) == ("train", design)
    ]
    built = new_design(setting)
    simulation = Simulation(setting.rig, ExposureRule(0.9), design=built)
    camera = SimpleNamespace(design=built, mask=built.mask().detach(), scene_shape=(SIDE, SIDE))
    seen: Any = SimpleNamespace(camera=camera, simulation=simulation, shape=(17, 17))
    scenes = torch.from_numpy(image_set(6).images[:])  # type: ignore[index]
    light = light_of(built.readout(simulation.frames(scenes, camera.mask)), seen)
    foretold = camera_behind(camera.mask, seen).forward(scenes)
    inside = (..., slice(4, -4), slice(4, -4))  # the rim of a blurred frame is continued, which is no convolution
    assert float((foretold - light)[inside].norm() / light[inside].norm()) < 0.01


def test_likeness_is_one_for_the_picture_itself_and_falls_with_noise() -> None:
    truth = torch.from_numpy(blobs(3)[0][:, None])
    noisy = truth + 0.1 * torch.randn(truth.shape, generator=torch.Generator().manual_seed(0))
    assert np.allclose(ssim_of(truth, truth), 1)
    assert np.all(ssim_of(noisy, truth) < 0.9)
    assert np.allclose(psnr_of(truth + 0.1, truth), 20, atol=0.01)
    assert np.all(psnr_of(truth, truth) == 60)


# The verdict


def attack(goal: str, right: float, *, n: int = 100, **changes: Any) -> Attack:
    items = np.arange(n) < round(right * n)
    found = Attack(
        goal=goal, attacker="linear", knows="all labels", where="frame", stage="simulated", items=items,
        sample_ids=np.arange(n), chance=0.1, control=np.arange(n) < 90, control_chance=0.1, needed=0.55,
    )  # fmt: skip
    return replace(found, **changes)


def test_the_verdict_is_that_of_the_strongest_attacker_that_succeeds_on_the_undegraded_picture() -> None:
    weak = attack("identity", 0.9, attacker="blind", control=np.arange(100) < 30)
    helped = attack("identity", 0.8, attacker="told", counts=False)
    rows = rows_of(
        [("disc", 0, a) for a in (attack("identity", 0.4), attack("identity", 0.6, attacker="cnn"), weak, helped)]
    )
    best = strongest(rows, "disc", "identity")
    assert best is not None
    assert (best.first.attacker, best.interval.mean) == ("cnn", 0.6)
    assert strongest(rows, "disc", "ssim") is None
    assert needed_of(0.5, 0.1) == pytest.approx(0.55)


def test_a_demand_is_broken_by_the_upper_end_of_the_interval_and_by_proving_nothing() -> None:
    rows = rows_of([("disc", 0, attack("identity", 0.4)), ("disc", 1, attack("identity", 0.42))])
    [row] = rows
    assert row.interval.high > 0.45 > row.interval.mean
    assert broken_demands({"identity": Bound(at_most=row.interval.high + 0.01)}, rows, ["disc"]) == []
    [said] = broken_demands({"identity": Bound(at_most=0.45)}, rows, ["disc"])
    assert "disc: identity: linear (all labels) names 41.0 %" in said
    assert said.endswith("at most 45.0 % is demanded")
    nobody = rows_of([("disc", 0, attack("identity", 0.1, control=np.zeros(100, bool)))])
    [said] = broken_demands({"identity": Bound(at_most=0.9)}, nobody, ["disc"])
    assert "nothing is proven" in said
    assert broken_demands({"identity": Bound(at_most=0.1, where="centre")}, rows, ["disc"]) != []


def test_an_attack_comes_back_from_the_disk_as_it_was(tmp_path: Path) -> None:
    folder = AttackFolder(tmp_path)
    made = attack("ssim", 0.5, items=np.linspace(0, 1, 100), where="centre", facts={"chosen": "ridge 1"})
    folder.add(made)
    assert folder.has(made.name)
    [found] = folder
    assert np.array_equal(found.items, made.items)
    assert (found.name, found.facts, found.measure) == (made.name, made.facts, "ssim")
    assert json.loads(folder.finish().read_text())[0]["mean"] == pytest.approx(0.5)


def test_the_mean_of_values_lies_in_its_interval_and_refuses_what_is_not_finite() -> None:
    values = np.random.default_rng(0).normal(3, 1, 400)
    found = mean_interval([values, values])
    assert found.low < values.mean() < found.high
    assert found.high - found.low == pytest.approx(4 * 1 / 20, rel=0.15)
    with pytest.raises(BadInput, match="finite"):
        mean_interval([[np.nan]])


# Steps


PROTOCOL: dict[str, Any] = {
    "version": 1,
    "name": "attacked",
    "rig": "sim",
    "scene_px": [SIDE, SIDE],
    "mask_cells": [8, 8],
    "model": {"type": "small-residual", "width": 4, "dropout": 0.0},
    "designs": {
        "disc": {"type": "disc", "radius_cells": 1.5},
        "blur": {"type": "blur", "optics": "pinhole", "sigma_px": 0.8},
    },
}
ATTACKS: dict[str, Any] = {
    "train": {"type": "train", "epochs": 1, "batch": 16, "exposure_s": 0.01},
    "simulated": {"type": "evaluate", "stage": "simulated", "model": "${steps.train.model}"},
    "identity": {
        "type": "attack_recognise", "model": "${steps.train.model}", "attackers": [{"type": "linear", "copies": 1}],
        "shots": [2],
    },
    "side": {
        "type": "attack_recognise", "model": "${steps.train.model}", "attackers": [{"type": "linear", "copies": 1}],
        "what": "side", "least_per_class": 5,
    },
    "inverted": {
        "type": "attack_invert", "model": "${steps.train.model}", "identifier": {"type": "linear", "copies": 1},
        "methods": [{"method": "tikhonov", "iterations": 20}, {"method": "regression", "copies": 1}],
        "psf": ["known", "estimated", "told"],
    },
    "audit": {"type": "audit", "demand": {"identity": {"at_most": 0.45}}},
}  # fmt: skip


def spots_file(folder: Path) -> Path:
    pictures, labels = blobs(90)
    path = folder / "spots.npz"
    side = np.where(labels == 1, "right", "left")
    np.savez(
        path, images=(255 * pictures).astype(np.uint8), identity=labels, split=np.arange(90) // 3 % 3, side=side,
        alone=np.zeros(90, dtype=int),
    )  # fmt: skip
    return path


def planned(folder: Path, *changes: str) -> RunPlan:
    data = {"type": "npz", "path": str(spots_file(folder))}
    path = folder / "attacked.yaml"
    path.write_text(yaml.safe_dump({**PROTOCOL, "data": data, "steps": ATTACKS}, sort_keys=False))
    return plan_run(load_protocol(path, overrides=changes), load_rig(find_rig("sim"), overrides=SMALL_RIG))


@pytest.mark.parametrize(
    ("change", "said"),
    [
        ("steps.identity.budget={epochs: 0}", "steps.identity.budget.epochs: 0 is out of range; at least 1 is allowed"),
        ("steps.side.what=sides", "steps.side.what: npz file"),
        ("steps.side.what=alone", "steps.side.what: 'alone' has 1 value"),
        ("steps.inverted.pairs=60", "steps.inverted.pairs: 60 is out of range; the training split has 30 pictures"),
        (
            "steps.inverted.psf_file=other.npy",
            "steps.inverted.psf_file: 'other.npy' is a PSF of another grid: 5x5, and",
        ),
        ("steps.audit.demand={expression: {at_most: 0.5}}", "nobody attacks 'expression' in this protocol"),
        ("data.identities=1", "at least 2"),
    ],
)
def test_bad_input_is_refused_with_its_place(
    change: str, said: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.chdir(tmp_path)
    np.save("other.npy", np.ones((5, 5)))
    with pytest.raises(ConfigError) as refused:
        planned(tmp_path, change)
    assert said in str(refused.value) or said in str(refused.value).replace("greater than or equal to", "at least")


def test_an_attribute_is_asked_for_by_the_name_of_its_array(tmp_path: Path) -> None:
    plan = planned(tmp_path)
    from protocols.scenes import scenes_of

    data = scenes_of(plan.protocol)
    target = target_of(plan.protocol, data, "side", 5)
    assert target.class_names == ("left", "right")
    assert np.array_equal(target.labels == 1, data.labels == 1)


@pytest.fixture(scope="module")
def audited(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A run folder with all attacks on one camera, and an audit whose demand is not kept."""
    folder = tmp_path_factory.mktemp("audit")
    plan = planned(folder, "compare=[disc]")
    run = create_run(folder / "run", plan)
    rows: list[dict[str, Any]] = []
    outputs: dict[Any, Path] = {}
    for step in plan:
        own = run.step_folder(step.key)
        own.mkdir(parents=True)
        inputs = {reference: outputs[str(reference)] for reference in step.inputs}
        context = StepContext(step.setting, own, run.path, inputs, lambda _: None, lambda: False, step.hash)
        if step.instance.step.type == "audit":
            with pytest.raises(RunFailed) as failed:
                step.instance.step.run(context)
            assert "the audit is not passed: disc: identity: linear" in str(failed.value)
            assert "at most 45.0 % is demanded" in str(failed.value)
            continue
        result = step.instance.step.run(context)
        outputs |= {f"${{steps.{step.instance.name}.{name}}}": path for name, path in result.outputs.items()}
        rows.append(
            {
                "name": step.key,
                "type": step.instance.step.type,
                "status": "finished",
                "hash": step.hash,
                "seconds": 0.0,
                "outputs": {name: str(path.relative_to(run.path)) for name, path in result.outputs.items()},
                "metrics": dict(result.metrics),
                "text": "",
            }
        )
        about = {"name": "attacked", "rig": "sim", "nature": "simulated", "status": "running", "reason": ""}
        run.write_summary({**about, "began": 0.0, "seeds": [0], "steps": rows})
    return run.path


def test_a_demand_that_is_not_kept_fails_the_run_and_keeps_table_verdicts_and_report(audited: Path) -> None:
    with (audited / "artifacts" / "audit" / "attacks.csv").open() as file:
        table = list(csv.DictReader(file))
    assert {row["goal"] for row in table} == {"identity", "side", "ssim", "psnr_db", "reidentification"}
    assert {row["knows"] for row in table if row["goal"] == "identity"} == {"all labels", "2 labels of each class"}
    verdicts = json.loads((audited / "artifacts" / "audit" / "audit.json").read_text())
    assert not verdicts["kept"]
    assert len(verdicts["broken"]) == 1
    write_report(RunFolder(audited), [part for part in PARTS if part[0] == "privacy"])
    page = (audited / "report.html").read_text()
    assert "The audit is not passed" in page
    for name in ("tradeoff", "mask-gallery", "reconstructions-inverted-disc"):
        assert (audited / "figures" / f"{name}.svg").stat().st_size > 0
        assert (audited / "figures" / f"{name}.pdf").stat().st_size > 0


def test_attackers_of_a_readable_camera_get_what_there_is(audited: Path) -> None:
    rows = json.loads((audited / "artifacts" / "inverted" / "disc" / "seed0" / "attacks.json").read_text())
    centre = {(row["goal"], row["attacker"], row["knows"]): row for row in rows if row["where"] == "centre"}
    known = centre["ssim", "tikhonov", "PSF known"]
    assert known["mean"] > known["chance"]
    assert centre["ssim", "tikhonov", "PSF estimated from 8 pairs"]["mean"] == pytest.approx(known["mean"], abs=0.15)
    assert all(row["control_chance"] < row["reached"] for row in rows)
    assert all(row["knows"] != "told the pattern of every frame" for row in rows)  # this mask stands still
