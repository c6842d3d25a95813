from __future__ import annotations

import re
import time
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from labctl.calibration.record import ArrayNote, Calibration, CalibrationRecord, Value
from labctl.calibration.validity import bench_hash
from labctl.errors import RunFailed
from labctl.frames.store import FrameStore
from labctl.rig_file import RigSpec, load_rig
from labctl.steps import StepResult
from protocols.choose import disagreement, drawn_ranks, drawn_twins, in_turn
from protocols.data import Digits
from protocols.twin_fit.fitted import posterior_of
from tests.protocols.chain import CAPTURE, TRAIN, Chain

RIGS = Path(__file__).parents[2] / "configs" / "rigs"


def fitted(spec: RigSpec, values: dict[str, Any], covariance: np.ndarray, labels: list[str]) -> Calibration:
    """A twin as a fit would leave it: these values beside the nominal ones."""
    record = CalibrationRecord(
        kind="twin",
        settings={"parameters": labels, "margin_px": 8},
        rig=spec.name,
        rig_hash=spec.content_hash,
        bench_hash=bench_hash(spec),
        made=time.time(),
        max_age_s=3600,
        values={name: Value(value=value, error=None, unit="1") for name, value in values.items()},
        arrays={"covariance": ArrayNote(unit="1", text="")},
        labctl="0",
    )
    return Calibration(record, {"covariance": covariance})


@pytest.fixture(scope="module")
def spec() -> RigSpec:
    return load_rig(RIGS / "sim.yaml")


def test_there_is_no_disagreement_where_all_answer_alike_however_unsure() -> None:
    unsure = np.full((3, 4), 0.25)
    assert disagreement(unsure, np.stack([unsure] * 5)) == pytest.approx(0, abs=1e-9)


def test_sure_and_opposite_answers_disagree_by_the_entropy_of_the_weights() -> None:
    one, other = np.array([[1.0, 0.0]]), np.array([[0.0, 1.0]])
    assert disagreement(one, np.stack([other, other])) == pytest.approx(np.log(2))
    assert disagreement(one, np.stack([one, other])) == pytest.approx(-0.75 * np.log(0.75) - 0.25 * np.log(0.25))


def test_the_score_does_not_depend_on_how_often_the_posterior_was_drawn_when_all_draws_are_alike() -> None:
    rng = np.random.default_rng(2)
    nominal, posterior = (rng.dirichlet(np.ones(5), size=7) for _ in range(2))
    few, many = (disagreement(nominal, np.stack([posterior] * draws)) for draws in (1, 16))
    np.testing.assert_allclose(few, many)


def test_drawn_twins_have_the_spread_of_the_posterior_and_no_negative_blur(spec: RigSpec) -> None:
    labels = ["shift_px[0]", "shift_px[1]", "blur_px"]
    covariance = np.array([[0.04, 0.03, 0], [0.03, 0.09, 0], [0, 0, 0.25]])
    calibration = fitted(spec, {"shift_px": (1.0, -0.5), "blur_px": 0.3}, covariance, labels)
    twins = list(drawn_twins(spec, calibration, 64, seed=1))
    shifts = np.array([twin.shift_px.numpy() for twin in twins])
    np.testing.assert_allclose(shifts.mean(axis=0), [1.0, -0.5], atol=0.12)
    np.testing.assert_allclose(np.cov(shifts.T), covariance[:2, :2], atol=0.04)
    blurs = np.array([float(twin.blur_px) for twin in twins])
    assert blurs.min() == 0
    assert blurs.max() > 0.8


def test_a_twin_without_a_covariance_is_refused_with_what_to_do(spec: RigSpec) -> None:
    calibration = fitted(spec, {"blur_px": 0.3}, np.zeros((2, 2)), ["blur_px"])
    with pytest.raises(RunFailed, match=r"names 1 parameters, its covariance is \(2, 2\); fit it anew"):
        posterior_of(calibration)


def test_a_sharp_choice_takes_the_highest_scores_and_a_flat_one_draws_at_random() -> None:
    scores = np.linspace(0.01, 1, 200)
    sharp, proportional, flat = (
        np.argsort(-drawn_ranks(scores, sharpness, seed=3))[:40] for sharpness in (100.0, 1.0, 0.0)
    )
    assert scores[sharp].mean() > 0.88
    assert scores[flat].mean() == pytest.approx(0.5, abs=0.12)
    assert scores[flat].mean() < scores[proportional].mean() < scores[sharp].mean()


def test_the_ranking_takes_its_share_of_any_beginning_from_each_order_and_names_everything_once() -> None:
    one, other = np.arange(100), np.random.default_rng(1).permutation(100)
    assert list(in_turn(one, other, 0.0)) == list(one)
    assert list(in_turn(one, other, 1.0)) == list(other)
    half = in_turn(one, other, 0.5)
    assert sorted(half) == list(range(100))
    assert len(set(half[:20]) & set(range(13))) >= 10


def test_scenes_are_ranked_captured_in_that_order_and_learned_from_with_the_twin_fitted_on(tmp_path: Path) -> None:
    """From choice to fine-tuning on a bench whose shadow stands elsewhere, which the twin was told roughly."""
    bench = ("rig.world.shift_px=[1.5, -1.0]", "rig.world.seed=4")
    chain = Chain(tmp_path, overrides=bench)
    chain.steps = {"train": TRAIN, "fit": {"type": "fit_twin"}}
    path = tmp_path / "twin.npz"
    spec = load_rig(RIGS / "as-built.yaml", overrides=[one.removeprefix("rig.") for one in bench])
    values = {"shift_px": (1.3, -1.1), "rotation_rad": 0.0}
    labels = ["shift_px[0]", "shift_px[1]"]
    fitted(spec, values, 0.05 * np.eye(2), labels).save(path)
    chain.results["fit"], chain.outputs["${steps.fit.twin}"] = StepResult({"twin": path}), path
    model, twin = "${steps.train.model}", "${steps.fit.twin}"
    chosen = chain.run(chosen={"type": "choose", "model": model, "twin": twin, "draws": 1}).outputs["samples"]
    ranked = np.load(chosen)
    data = Digits().load((63, 63))
    train = data.part(0)
    assert sorted(ranked) == sorted(data.sample_ids[train])
    classes = data.labels[[int(np.flatnonzero(data.sample_ids == sample)[0]) for sample in ranked[:30]]]
    assert list(np.bincount(classes, minlength=10)) == [3] * 10

    capture = {**CAPTURE, "train": 20, "val": 0, "test": 1, "samples": "${steps.chosen.samples}"}
    frames = FrameStore.open(chain.run(capture=capture).outputs["frames"])
    captured = frames.column("sample_id")[frames.select(split="train")]
    assert sorted(captured) == sorted(ranked[:20])

    tune = {"type": "finetune", "model": model, "frames": "${steps.capture.frames}", "epochs": 1, "batch": 256}
    chain.run(tune={**tune, "learns": "twin", "twin": twin})
    said = next(text for text in chain.said if "refitted" in text)
    first, last = (float(number) for number in re.findall(r"by (\d+\.\d+)", said))
    assert last < first

    again = {"type": "choose", "model": model, "twin": twin, "draws": 1, "frames": "${steps.capture.frames}"}
    left = np.load(chain.run(again=again).outputs["samples"])
    assert not set(left) & set(captured)
    assert len(left) == len(ranked) - 20
