"""Networks start from files of the user's own: what fits is taken, what does not is named, and content counts."""

from __future__ import annotations

import shutil
from pathlib import Path
from typing import Any

import pytest
import torch
import yaml
from torch import nn

from labctl.api import prepare
from labctl.config import ConfigError
from labctl.errors import BadInput
from protocols.video.networks import Small3d, SmallFrame
from protocols.video.networks.settings import PlainFrame
from protocols.video.networks.weights import weights_in_words
from protocols.video.readers import file_name_of, name_of

SHAPE = (6, 1, 16, 16)
COLOUR = (6, 3, 16, 16)
FRAME, CLIP = SmallFrame(width=6), Small3d(width=4)


def saved(path: Path, network: nn.Module, **changes: Any) -> Path:
    """The state dict of a network in a file, with some keys changed; None takes one away."""
    state = {**network.state_dict(), **changes}
    torch.save({key: value for key, value in state.items() if value is not None}, path)
    return path


def trained(settings: Any, shape: tuple[int, int, int, int] = SHAPE, n_classes: int = 3) -> nn.Module:
    torch.manual_seed(7)
    return settings.build(shape, n_classes).eval()


def starting_from(settings: Any, path: Path) -> Any:
    return type(settings).model_validate({**settings.model_dump(), "weights": str(path)})


@pytest.mark.parametrize("settings", [FRAME, CLIP], ids=["frame", "clip"])
def test_a_network_answers_as_the_one_in_the_file_did(settings, tmp_path):
    before = trained(settings)
    torch.manual_seed(1)
    after = starting_from(settings, saved(tmp_path / "w.pt", before)).build(SHAPE, 3).eval()
    given = torch.randn(2, *(SHAPE if settings.reads == "clip" else SHAPE[1:]))
    assert torch.equal(after(given), before(given))


def test_for_other_classes_the_last_layer_starts_afresh_and_this_is_said(tmp_path):
    before = trained(FRAME, n_classes=9)
    settings = starting_from(FRAME, saved(tmp_path / "w.pt", before))
    after = settings.build(SHAPE, 3)
    for key, value in after.state_dict().items():
        assert (value.shape[0] == 3) if key.startswith("9.") else torch.equal(value, before.state_dict()[key]), key
    assert "another number of classes than in the file, 9.weight, 9.bias start afresh" in weights_in_words(
        settings, SHAPE, 3
    )
    assert "all of them were taken" in weights_in_words(settings, SHAPE, 9)
    assert weights_in_words(FRAME, SHAPE, 3) == ""


def test_a_file_without_a_last_layer_will_do(tmp_path):
    path = saved(tmp_path / "w.pt", trained(FRAME), **{"9.weight": None, "9.bias": None})
    assert "9.weight, 9.bias start afresh" in weights_in_words(starting_from(FRAME, path), SHAPE, 3)


def test_half_a_last_layer_is_not_mixed_with_a_fresh_one(tmp_path):
    path = saved(tmp_path / "w.pt", trained(FRAME), **{"9.weight": None, "9.bias": torch.full((3,), 5.0)})
    assert float(starting_from(FRAME, path).build(SHAPE, 3).state_dict()["9.bias"].abs().max()) < 5


@pytest.mark.parametrize("settings", [FRAME, CLIP], ids=["frame", "clip"])
def test_weights_for_colour_see_grey_as_grey_in_all_three(settings, tmp_path):
    before = trained(settings, COLOUR)
    settings = starting_from(settings, saved(tmp_path / "w.pt", before))
    given = torch.randn(2, *(SHAPE if settings.reads == "clip" else SHAPE[1:]))
    colour = given.expand(*given.shape[:-3], 3, *given.shape[-2:])
    torch.testing.assert_close(settings.build(SHAPE, 3).eval()(given), before(colour), rtol=1e-4, atol=1e-5)
    assert "summed over three colours" in weights_in_words(settings, SHAPE, 3)


def test_telling_what_is_taken_draws_no_random_numbers(tmp_path):
    settings = starting_from(FRAME, saved(tmp_path / "w.pt", trained(FRAME, n_classes=9)))
    torch.manual_seed(3)
    state = torch.get_rng_state()
    weights_in_words(settings, SHAPE, 3)
    assert torch.equal(torch.get_rng_state(), state)


@pytest.mark.parametrize(
    ("changes", "says"),
    [
        (
            {"0.weight": torch.zeros(6, 1, 5, 5)},
            r"'0.weight' has shape \(6, 1, 5, 5\), .* needs \(6, 1, 3, 3\)",
        ),
        ({"1.bias": None}, r"lack '1.bias' \(6\) of small-frame; describe the network"),
        ({"1.bias": None, "1.offset": torch.zeros(6)}, r"lack '1.bias' .* it has '1.offset' \(6\), which is not there"),
        ({"10.weight": torch.zeros(2, 2)}, r"have '10.weight' \(2, 2\), small-frame has not"),
        ({"9.weight": torch.zeros(3, 5)}, r"'9.weight' has shape \(3, 5\), small-frame needs \(3, 24\)"),
        ({"1.weight": torch.full((6,), float("nan"))}, "'1.weight' holds NaN or infinite values"),
        ({"epoch": 3}, "holds no state dict, since its 'epoch' is no tensor"),
    ],
)
def test_weights_of_another_network_are_refused_with_key_and_shape(changes, says, tmp_path):
    path = saved(tmp_path / "w.pt", trained(FRAME), **changes)
    with pytest.raises(BadInput, match=says):
        starting_from(FRAME, path).build(SHAPE, 3)


def test_a_missing_file_and_one_that_holds_something_else_are_refused(tmp_path):
    with pytest.raises(BadInput, match=r"none.pt' cannot be read: No such file .* nothing is downloaded"):
        starting_from(FRAME, tmp_path / "none.pt").build(SHAPE, 3)
    with pytest.raises(BadInput, match=r"none.pt' cannot be read: No such file"):
        starting_from(FRAME, tmp_path / "none.pt").fingerprint()
    (tmp_path / "text.pt").write_text("weights")
    with pytest.raises(BadInput, match=r"is no file of weights, or holds more than weights"):
        starting_from(FRAME, tmp_path / "text.pt").build(SHAPE, 3)
    torch.save(nn.Linear(2, 2), tmp_path / "module.pt")  # would run code of its own when read
    with pytest.raises(BadInput, match=r"holds more than weights; make it with torch.save\(network.state_dict"):
        starting_from(FRAME, tmp_path / "module.pt").build(SHAPE, 3)


def test_a_damaged_file_is_refused(tmp_path):
    path = saved(tmp_path / "w.pt", trained(FRAME))
    path.write_bytes(path.read_bytes()[:2000])
    with pytest.raises(BadInput, match="is no file of weights"):
        starting_from(FRAME, path).build(SHAPE, 3)


# What counts is what a file holds


def test_without_weights_settings_are_told_as_before_there_were_any():
    assert Small3d().identity() == '{"type":"small-3d","width":16,"dropout":0.2}'
    assert Small3d().fingerprint() == ""


def test_where_a_file_lies_does_not_count_and_what_it_holds_does(tmp_path):
    copy = shutil.copy(saved(tmp_path / "a.pt", trained(FRAME)), tmp_path / "b.pt")
    here, there = starting_from(FRAME, tmp_path / "a.pt"), starting_from(FRAME, copy)
    assert here.identity() == there.identity() != FRAME.identity()
    saved(tmp_path / "b.pt", trained(FRAME), **{"1.bias": torch.ones(6)})
    assert here.identity() != there.identity()


def test_tables_and_files_call_it_by_the_name_of_the_file(tmp_path):
    settings = PlainFrame(weights=tmp_path / "faces.pt")
    assert name_of(settings) == "plain-frame (weights faces.pt)"
    assert file_name_of(settings) == "plain-frame_weights_faces.pt"


def hashes(tmp_path: Path, attacker: dict[str, Any]) -> dict[str, str]:
    model = "${steps.train.model}"
    protocol = {
        "version": 1, "name": "weights", "scene_px": [32, 32], "mask_cells": [5, 5], "data": {"type": "moving_digits"},
        "designs": {"open": {"type": "video_original"}},
        "steps": {
            "train": {"type": "train_video"},
            "attack": {"type": "attack_video", "model": model, "attackers": [{"type": "small-3d"}, attacker]},
        },
    }  # fmt: skip
    path = tmp_path / "protocol.yaml"
    path.write_text(yaml.safe_dump(protocol, sort_keys=False))
    return {planned.instance.name: planned.hash for planned in prepare(path, rig="sim-video")}


def test_a_step_runs_again_when_its_weights_change_and_not_when_they_move(tmp_path):
    small = {"type": "plain-frame", "width": 4}
    network = trained(PlainFrame(width=4), (16, 1, 32, 32), 10)
    first = saved(tmp_path / "a.pt", network)
    moved = shutil.copy(first, tmp_path / "b.pt")
    without, of_first, of_moved = (
        hashes(tmp_path, {**small, **weights})["attack"]
        for weights in ({}, {"weights": str(first)}, {"weights": str(moved)})
    )
    assert of_first == of_moved != without
    saved(first, network, **{"1.bias": torch.ones(4)})
    assert hashes(tmp_path, {**small, "weights": str(first)})["attack"] != of_first


def test_weights_that_do_not_fit_are_refused_before_anything_runs(tmp_path):
    path = saved(tmp_path / "w.pt", trained(FRAME))
    with pytest.raises(ConfigError, match=r"steps.attack: .*'0.weight' has shape"):
        hashes(tmp_path, {"type": "plain-frame", "weights": str(path)})


def test_a_relative_path_is_kept_in_full_so_that_a_run_resumes_from_any_folder(tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    assert SmallFrame.model_validate({"weights": "w.pt"}).weights == tmp_path / "w.pt"
