from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest
import torch

from labctl.config import ConfigError
from protocols.balanced import balanced_order, ranked_in_turn
from tests.protocols.chain import CAPTURE, Chain

MODEL, FRAMES = "${steps.train.model}", "${steps.capture.frames}"
TUNE = {"type": "finetune", "model": MODEL, "frames": FRAMES, "epochs": 4}


@pytest.fixture(scope="module")
def captured(tmp_path_factory: pytest.TempPathFactory) -> Chain:
    """Trained in simulation, captured on a bench that is off."""
    with pytest.MonkeyPatch.context() as patch:
        patch.setenv("LABCTL_STATE", str(tmp_path_factory.mktemp("state")))
        chain = Chain(tmp_path_factory.mktemp("chain"))
        chain.run()
    return chain


def weights(path: Path) -> dict[str, torch.Tensor]:
    return torch.load(path, weights_only=True)["classifier"]


def test_normalisation_alone_moves_no_weight(captured: Chain, tmp_path: Path) -> None:
    chain = captured.copy(tmp_path)
    result = chain.run(tune={**TUNE, "learns": "normalisation"})
    before, after = weights(chain.outputs[MODEL]), weights(result.outputs["model"])
    moved = {name for name in before if not torch.equal(before[name], after[name])}
    of_statistics = ("running_mean", "running_var", "num_batches_tracked", "normalisation.mean_frame", ".std")
    assert "normalisation.mean_frame" in moved
    assert all(name.endswith(of_statistics) for name in moved)


def test_a_limit_takes_so_many_frames_of_all_classes(captured: Chain, tmp_path: Path) -> None:
    chain = captured.copy(tmp_path)
    assert chain.run(tune={**TUNE, "frames_limit": 20}).metrics["labelled_captures"] == 20
    assert chain.run(all={**TUNE}).metrics["labelled_captures"] == 40


def test_a_limit_above_what_was_captured_is_said(captured: Chain, tmp_path: Path) -> None:
    chain = captured.copy(tmp_path)
    assert chain.run(tune={**TUNE, "frames_limit": 100}).metrics["labelled_captures"] == 40
    assert "frames_limit is 100, 40 were captured; all are used" in chain.said


def test_new_settings_at_their_defaults_leave_the_hash_of_a_step_as_it_was(captured: Chain, tmp_path: Path) -> None:
    from labctl.protocol import _decisive  # what enters the hash
    from protocols.capture import Capture
    from protocols.evaluate import Evaluate
    from protocols.finetune import Finetune

    assert set(_decisive(Finetune(**TUNE))) == {
        "type", "model", "frames", "epochs", "batch", "rate", "weight_decay", "label_smoothing", "shift_px", "device",
        "precision",
    }  # fmt: skip
    stage = {"type": "evaluate", "model": MODEL, "stage": "simulated"}
    assert set(_decisive(Evaluate(**stage))) == {"type", "model", "frames", "stage"}
    assert not {"closed_mask", "samples"} & set(_decisive(Capture(**CAPTURE)))


def test_a_twin_is_asked_for_where_one_is_to_be_learned_with(captured: Chain, tmp_path: Path) -> None:
    with pytest.raises(ConfigError, match="`learns: twin` and `twin` belong together"):
        captured.copy(tmp_path).run(tune={**TUNE, "learns": "twin"})


def test_corrections_need_a_calibration(captured: Chain, tmp_path: Path) -> None:
    with pytest.raises(ConfigError, match="there is nothing to correct by; add `calibration"):
        captured.copy(tmp_path).run(tune={**TUNE, "corrections": ["dark"]})


def test_classes_take_turns_and_smaller_parts_lie_in_larger_ones() -> None:
    labels = np.array([0] * 50 + [1] * 20 + [2] * 3)
    order = balanced_order(labels, seed=4)
    assert sorted(order) == list(range(73))
    for count in (3, 6, 9, 20, 43):
        found = np.bincount(labels[order[:count]], minlength=3)
        left = found[np.array([50, 20, 3]) > found]
        assert left.max() - left.min() <= 1
    assert not np.array_equal(order, balanced_order(labels, seed=5))


def test_the_best_of_every_class_come_before_the_second_best_of_any() -> None:
    labels, scores = np.array([0, 0, 0, 1, 1]), np.array([0.9, 0.8, 0.7, 0.1, 0.2])
    assert list(ranked_in_turn(labels, scores)) == [0, 4, 1, 3, 2]
