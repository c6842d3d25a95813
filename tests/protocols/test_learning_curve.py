from __future__ import annotations

import json
from pathlib import Path

import numpy as np
import pytest

from labctl.config import ConfigError
from protocols.learning_curve import draw_curve, point_of
from tests.protocols.chain import CAPTURE, Chain
from tests.protocols.test_finetune import FRAMES, MODEL, captured

__all__ = ["captured"]

CURVE = {
    "type": "learning_curve", "model": MODEL, "frames": FRAMES, "counts": [10, 40], "repeats": 2, "epochs": 6,
    "batch": 16,
}  # fmt: skip


def test_a_curve_stands_between_the_majority_and_what_all_captures_give(captured: Chain, tmp_path: Path) -> None:
    chain = captured.copy(tmp_path)
    result = chain.run(curve=CURVE)
    curve = json.loads(result.outputs["curve"].read_text())
    assert [point["count"] for point in curve["points"]] == [10, 40]
    assert curve["n_test"] == 60
    assert curve["captured"] == 40
    for point in curve["points"]:
        assert point["low"] <= point["accuracy"] <= point["high"]
        assert len(point["repeats"]) == 2
        assert point["accuracy"] == pytest.approx(np.mean(point["repeats"]))
    assert curve["points"][1]["accuracy"] > curve["majority"] + 0.2
    assert (result.outputs["curve"].parent / "curve.png").stat().st_size > 10_000


def test_what_was_fine_tuned_before_an_interruption_is_not_done_again(captured: Chain, tmp_path: Path) -> None:
    chain = captured.copy(tmp_path)
    first = chain.run(curve=CURVE).outputs["curve"].read_text()
    folder = chain.outputs["${steps.curve.curve}"].parent
    point = folder / "frames10-repeat1" / "point.json"
    known = json.loads(point.read_text())
    point.write_text(json.dumps({**known, "right": [not one for one in known["right"]]}))
    del chain.results["curve"]
    chain.run()
    again = json.loads((folder / "curve.json").read_text())
    before = json.loads(first)
    assert again["points"][1] == before["points"][1]
    assert again["points"][0]["repeats"][1] == pytest.approx(1 - before["points"][0]["repeats"][1])


def test_more_frames_than_will_be_captured_are_refused_before_anything_moves(tmp_path: Path) -> None:
    chain = Chain(tmp_path)
    chain.steps["capture"] = {**CAPTURE, "train": 30}
    with pytest.raises(ConfigError, match="step 'curve' needs 40 or more scenes of the train split"):
        chain.run(curve=CURVE)


def test_counts_grow(tmp_path: Path) -> None:
    with pytest.raises(ConfigError, match=r"counts are \[40, 10\]; give each once, from few to many"):
        Chain(tmp_path).run(curve={**CURVE, "counts": [40, 10]})


def test_the_interval_holds_the_spread_of_items_and_that_of_parts() -> None:
    rng = np.random.default_rng(1)
    same = rng.random(400) < 0.7
    of_items = point_of(40, [same, same, same])
    width = of_items["high"] - of_items["low"]
    assert width == pytest.approx(2 * 1.96 * np.sqrt(0.7 * 0.3 / 400), rel=0.15)
    parts = [np.arange(400) < count for count in (200, 280, 360)]
    assert point_of(40, parts)["high"] - point_of(40, parts)["low"] > 2 * width


def test_the_figure_names_its_axes_with_units() -> None:
    rng = np.random.default_rng(1)
    points = [point_of(count, [rng.random(50) < 0.6 for _ in range(3)]) for count in (40, 120)]
    start = {"accuracy": 0.3, "low": 0.2, "high": 0.4}
    axes = draw_curve({"points": points, "start": start, "majority": 0.1, "n_test": 50}).axes[0]
    assert axes.get_ylabel() == "accuracy on the test split (%)"
    assert axes.get_xlabel() == "captured training frames"
