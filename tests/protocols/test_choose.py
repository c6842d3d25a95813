from __future__ import annotations

import time
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from labctl.calibration.record import ArrayNote, Calibration, CalibrationRecord, Value
from labctl.calibration.validity import bench_hash
from labctl.errors import RunFailed
from labctl.rig_file import RigSpec, load_rig
from protocols.choose import disagreement, drawn_twins, posterior_of

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
