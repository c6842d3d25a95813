from __future__ import annotations

import math

import pytest
import torch
from pydantic import ValidationError
from torch import Tensor
from torch.nn import functional

from protocols.augmentation import Augmentation, augment, shift_and_flip


def generator(seed: int = 0) -> torch.Generator:
    return torch.Generator().manual_seed(seed)


def scenes(n: int = 6, height: int = 20, width: int = 16) -> Tensor:
    return torch.rand(n, 1, height, width, generator=generator(99))


def blob(height: int, width: int, row: float, column: float) -> Tensor:
    """One soft spot of light, about 2 pixels wide, with its centre at (row, column) from the middle of the picture."""
    y = torch.arange(height)[:, None] - (height - 1) / 2 - row
    x = torch.arange(width)[None, :] - (width - 1) / 2 - column
    return torch.exp(-(x**2 + y**2) / 8)[None, None]


def centre_of(scene: Tensor) -> tuple[float, float]:
    height, width = scene.shape[-2:]
    weights = scene[0, 0] / scene.sum()
    rows = (weights.sum(1) * (torch.arange(height) - (height - 1) / 2)).sum()
    columns = (weights.sum(0) * (torch.arange(width) - (width - 1) / 2)).sum()
    return float(rows), float(columns)


def test_nothing_is_changed_and_nothing_drawn_by_default():
    draws = generator()
    assert torch.equal(augment(scenes(), Augmentation(), draws), scenes())
    assert torch.equal(draws.get_state(), generator().get_state())


def test_shift_and_flip_draw_what_they_always_drew():
    settings = Augmentation(shift_px=3, flip=True)
    draws, other = generator(5), generator(5)
    for _ in range(3):
        assert torch.equal(augment(scenes(), settings, draws), shift_and_flip(scenes(), 3, flip=True, generator=other))
    # Pinned to what version 0.1 drew, so that its checkpoints go on to the same numbers.
    numbered = torch.arange(320.0).reshape(1, 1, 20, 16).repeat(4, 1, 1, 1) / 320
    found = augment(numbered, settings, generator(0))[:, 0, 10, 7] * 320
    assert found.round().int().tolist() == [184, 118, 135, 216]


@pytest.mark.parametrize(
    "settings",
    [{"shift_px": 3}, {"flip": True}, {"rotation_deg": 20}, {"zoom": 0.3}, {"brightness": 0.4}],
    ids=lambda settings: next(iter(settings)),
)
def test_each_change_is_drawn_anew_for_every_scene_and_again_for_the_same_seed(settings):
    same = scenes(1).repeat(16, 1, 1, 1)
    changed = augment(same, Augmentation(**settings), generator(1))
    assert changed.shape == same.shape
    assert 0 <= changed.min() <= changed.max() <= 1
    assert len({tuple(scene.flatten().tolist()) for scene in changed}) >= 2
    assert torch.equal(changed, augment(same, Augmentation(**settings), generator(1)))


@pytest.mark.parametrize("shape", [(41, 41), (41, 61)])
def test_a_turn_moves_a_spot_on_its_circle_within_the_limit(shape):
    """Also where the picture is not square: no shear."""
    spots = blob(*shape, 0, 12).repeat(200, 1, 1, 1)
    turned = augment(spots, Augmentation(rotation_deg=30), generator(2))
    angles = []
    for scene in turned:
        row, column = centre_of(scene[None])
        assert math.hypot(row, column) == pytest.approx(12, abs=0.15)
        angles.append(math.degrees(math.atan2(row, column)))
    assert -30.1 < min(angles) < -28
    assert 28 < max(angles) < 30.1


@pytest.mark.parametrize("shape", [(41, 41), (41, 61)])
def test_zoom_moves_a_spot_along_its_ray_by_the_factor(shape):
    spots = blob(*shape, 6, 8).repeat(200, 1, 1, 1)
    factors = []
    for scene in augment(spots, Augmentation(zoom=0.25), generator(3)):
        row, column = centre_of(scene[None])
        assert row / column == pytest.approx(0.75, abs=0.02)
        factors.append(math.hypot(row, column) / 10)
    assert 0.79 < min(factors) < 0.82
    assert 1.22 < max(factors) < 1.26
    assert sum(factor > 1 for factor in factors) == pytest.approx(100, abs=25), "as often larger as smaller"


def test_edges_repeat_so_that_no_dark_corner_gives_the_turn_away():
    white = torch.full((8, 1, 21, 21), 0.7)
    changed = augment(white, Augmentation(shift_px=4, flip=True, rotation_deg=45, zoom=0.5), generator(4))
    assert torch.allclose(changed, white, atol=1e-5)


def test_brightness_scales_radiance_and_stops_at_white():
    grey = torch.full((500, 1, 2, 2), 0.5)
    changed = augment(grey, Augmentation(brightness=0.4), generator(5))[:, 0, 0, 0] / 0.5
    assert 0.6 <= changed.min() < 0.62
    assert 1.38 < changed.max() <= 1.4
    assert augment(2 * grey, Augmentation(brightness=0.4), generator(5)).max() == 1


def test_what_is_off_takes_no_draw_from_what_is_on():
    """Brightness is drawn from the same numbers whether or not the others are named."""
    plain = augment(scenes(), Augmentation(brightness=0.2), generator(6))
    named = augment(scenes(), Augmentation(brightness=0.2, rotation_deg=0, zoom=0, shift_px=0), generator(6))
    assert torch.equal(plain, named)


def test_interpolation_keeps_the_light_of_a_smooth_scene():
    smooth = functional.avg_pool2d(scenes(8, 60, 60), 9, stride=1)
    changed = augment(smooth, Augmentation(rotation_deg=10), generator(7))
    assert float(changed.mean()) == pytest.approx(float(smooth.mean()), rel=0.01)


@pytest.mark.skipif(not torch.cuda.is_available(), reason="no GPU")
def test_scenes_on_a_gpu_are_changed_by_the_same_draws():
    settings = Augmentation(shift_px=2, flip=True, rotation_deg=10, zoom=0.1, brightness=0.2)
    there = augment(scenes().cuda(), settings, generator(8))
    assert there.device.type == "cuda"
    assert torch.allclose(there.cpu(), augment(scenes(), settings, generator(8)), atol=1e-4)


@pytest.mark.parametrize(
    "settings",
    [
        {"shift_px": -1},
        {"rotation_deg": 46},
        {"zoom": 1.5},
        {"brightness": 1.0},
        {"turn": 1},
        {"rotation_deg": math.nan},
    ],
)
def test_settings_out_of_range_are_refused(settings):
    with pytest.raises(ValidationError):
        Augmentation(**settings)
