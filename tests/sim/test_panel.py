from __future__ import annotations

import math

import numpy as np
import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st

from labctl.errors import BadInput
from labctl.roads import MonitorRoad, PanelRoad
from sim.monitor import centred_view, monitor_radiance, scene_pixels, shown_scene
from sim.panel import (
    SETTLED_RESPONSES,
    ghost_weight,
    panel_transmittance,
    quantise_levels,
    road_levels,
    settled_fraction,
    shown_transmittance,
)

DOUBLE = torch.float64


@pytest.mark.parametrize("gamma", [0.6, 1.0, 2.2])
@pytest.mark.parametrize("dtype", [torch.float32, DOUBLE])
def test_the_torch_road_takes_the_numpy_road_to_the_bit(gamma, dtype):
    road = PanelRoad(cell_px=3, gamma=gamma, contrast=80)
    mask = torch.linspace(0, 1, 2000, dtype=dtype).reshape(40, 50)
    for learned in (mask, mask.clone().requires_grad_()):
        levels = road_levels(learned, road).detach() * 255
        assert np.array_equal(levels.round().numpy().astype(np.uint8), road.levels(mask.numpy()))


@pytest.mark.parametrize("gamma", [1.0, 2.2])
def test_a_panel_that_its_road_knows_shows_the_mask_to_half_a_level(gamma):
    road = PanelRoad(cell_px=1, gamma=gamma, contrast=80)
    mask = torch.linspace(1 / 80, 1, 500, dtype=DOUBLE)[None]
    shown = shown_transmittance(mask, road, gamma=gamma, contrast=80.0)
    half_a_level = 0.5 / 255 * gamma
    assert float((shown - mask).abs().max()) <= half_a_level


@pytest.mark.parametrize("gamma", [0.6, 1.0, 2.2])
def test_a_closed_cell_still_gets_a_useful_gradient(gamma):
    road = PanelRoad(cell_px=4, gamma=gamma, contrast=100)
    mask = torch.zeros(3, 3, dtype=DOUBLE, requires_grad=True)
    shown_transmittance(mask, road, gamma=gamma, contrast=100.0).sum().backward()
    torch.testing.assert_close(mask.grad, torch.full((3, 3), 16 * 0.99, dtype=DOUBLE))
    mask.grad = None
    road_levels(mask, road).sum().backward()
    assert torch.isfinite(mask.grad).all()
    assert (mask.grad > 0).all()


def test_the_panel_spans_its_contrast_and_the_fill_factor_shades_what_is_open():
    share = torch.tensor([[0.0, 1.0]], dtype=DOUBLE)
    shown = panel_transmittance(share, gamma=2.0, contrast=50.0, fill_factor=0.9)
    torch.testing.assert_close(shown, torch.tensor([[0.02, 0.02 + 0.98 * 0.9]], dtype=DOUBLE))


@given(st.floats(0, 0.8))
def test_crosstalk_keeps_all_light_inside_the_panel(crosstalk):
    share = torch.rand(6, 7, dtype=DOUBLE, generator=torch.Generator().manual_seed(1))
    plain = panel_transmittance(share, gamma=1.0, contrast=100.0)
    mixed = panel_transmittance(share, gamma=1.0, contrast=100.0, crosstalk=crosstalk)
    assert float(mixed.sum()) == pytest.approx(float(plain.sum()), rel=1e-12)


def test_crosstalk_goes_to_the_four_neighbours():
    share = torch.zeros(5, 5, dtype=DOUBLE)
    share[2, 2] = 1.0
    lit = panel_transmittance(share, gamma=1.0, contrast=1e12, crosstalk=0.2)
    assert float(lit[2, 2]) == pytest.approx(0.8)
    assert [float(lit[at]) for at in ((1, 2), (3, 2), (2, 1), (2, 3))] == pytest.approx([0.05] * 4)
    assert float(lit[1, 1]) == pytest.approx(0, abs=1e-9)


def test_the_panel_has_true_gradients_in_its_values():
    share = (0.05 + 0.9 * torch.rand(4, 4, dtype=DOUBLE)).requires_grad_()
    values = [torch.tensor(v, dtype=DOUBLE, requires_grad=True) for v in (2.2, 60.0, 0.1)]

    def panel(share, gamma, contrast, crosstalk):
        return panel_transmittance(share, gamma=gamma, contrast=contrast, fill_factor=0.9, crosstalk=crosstalk)

    assert torch.autograd.gradcheck(panel, (share, *values))


def test_quantising_rounds_to_levels_and_lets_the_gradient_through():
    share = torch.tensor([0.1, 0.5, 0.9], dtype=DOUBLE, requires_grad=True)
    quantise_levels(share).sum().backward()
    torch.testing.assert_close(quantise_levels(share).detach() * 255, torch.round(share.detach() * 255))
    assert torch.equal(share.grad, torch.ones(3, dtype=DOUBLE))


@pytest.mark.parametrize("steepness", [0.5, 6.0])
def test_a_sigmoid_slope_gathers_between_two_levels_and_a_whole_step_still_sums_to_one(steepness):
    share = ((100 + torch.linspace(0, 1, 2001, dtype=DOUBLE)[:-1]) / 255).requires_grad_()
    rounded = quantise_levels(share, surrogate="sigmoid", steepness=steepness)
    assert torch.equal(rounded.detach(), quantise_levels(share.detach()))
    (slope,) = torch.autograd.grad(rounded.sum(), share)
    assert float(slope.mean()) == pytest.approx(1, abs=1e-3)
    assert int(slope.argmax()) == pytest.approx(1000, abs=1)


@pytest.mark.parametrize("road", [PanelRoad(cell_px=2, gamma=2.2, contrast=80), PanelRoad(lut=(0.0, 0.2, 1.0))])
def test_the_surrogate_of_the_levels_leaves_what_is_shown_and_reaches_every_cell(road, rng):
    values = rng.random((6, 6))
    values[0] = 0
    values[1] = 1
    shown, slopes = [], []
    for surrogate in ("straight-through", "sigmoid"):
        mask = torch.from_numpy(values).requires_grad_()
        panel = shown_transmittance(mask, road, gamma=2.2, contrast=80.0, surrogate=surrogate, steepness=6.0)
        shown.append(panel.detach())
        slopes.append(torch.autograd.grad(panel.sum(), mask)[0])
    assert torch.equal(shown[0], shown[1])
    assert (slopes[1] > 0).all()
    ratio = slopes[1] / slopes[0]
    assert 0.2 < float(ratio.min()) < 0.6
    assert 1.0 < float(ratio.max()) < 2.0


@pytest.mark.parametrize(("settle_s", "exposure_s"), [(0.0, 0.02), (0.013, 0.004), (0.03, 1.0)])
def test_the_ghost_is_the_mean_of_the_exponential_over_the_exposure(settle_s, exposure_s):
    time_s = settle_s + (np.arange(20_000) + 0.5) / 20_000 * exposure_s
    expected = np.exp(-time_s / 0.01).mean()
    assert ghost_weight(settle_s, exposure_s, 0.01) == pytest.approx(expected, rel=1e-4)


def test_a_settled_panel_leaves_no_ghost_at_all():
    assert ghost_weight(SETTLED_RESPONSES * 0.01, 1e-4, 0.01) == 0.0
    assert ghost_weight(SETTLED_RESPONSES * 0.01 * 0.999, 1e-4, 0.01) > 0.0
    assert ghost_weight(0.0, 1e-4, 0.0) == 0.0
    assert settled_fraction(math.inf, 0.01) == 1.0
    assert settled_fraction(0.0, 0.01) == 0.0


def test_the_monitor_undoes_its_road_to_half_a_level_and_glows_when_black():
    scene = torch.linspace(0, 1, 256, dtype=DOUBLE).reshape(1, 1, 16, 16)
    shown = shown_scene(scene, MonitorRoad(gamma=2.2), gamma=2.2, contrast=1000.0)
    assert float((shown - scene).abs().max()) < 0.006
    assert float(monitor_radiance(torch.zeros(1), gamma=2.2, contrast=500.0)) == pytest.approx(0.002)


def test_scene_pixels_are_means_of_whole_blocks(rng):
    picture = rng.random((1, 1, 6, 9))
    found = scene_pixels(torch.from_numpy(picture), 3)
    np.testing.assert_allclose(found[0, 0], picture[0, 0].reshape(2, 3, 3, 3).mean(axis=(1, 3)), atol=1e-15)
    with pytest.raises(BadInput, match="6x9 monitor pixels are no whole number of scene pixels of 4"):
        scene_pixels(torch.from_numpy(picture), 4)


def test_a_view_larger_than_the_display_is_refused():
    with pytest.raises(BadInput, match="a view of 9x3 pixels exceeds the display of 8x8"):
        centred_view(torch.zeros(8, 8), (9, 3))


TABLE = tuple(np.linspace(0, 1, 17) ** 1.7)


def test_a_road_with_the_table_of_the_panel_shows_the_mask_to_a_level(rng):
    road = PanelRoad(cell_px=2, contrast=200.0, lut=TABLE)
    mask = torch.from_numpy(rng.uniform(0.01, 1, (6, 5)))
    shown = panel_transmittance(
        torch.from_numpy(road.levels(mask.numpy())) / 255.0, gamma=1.0, contrast=200.0, lut=torch.tensor(TABLE).double()
    )
    wanted = mask.repeat_interleave(2, 0).repeat_interleave(2, 1)
    assert (shown - wanted).abs().max() < 1.2 * max(np.diff(TABLE)) * 16 / 255


def test_a_table_of_a_power_law_is_that_power_law():
    road, table = PanelRoad(gamma=2.2), PanelRoad(lut=tuple(np.linspace(0, 1, 256) ** 2.2))
    mask = np.linspace(0, 1, 200).reshape(10, 20)
    assert np.abs(road.levels(mask).astype(int) - table.levels(mask).astype(int)).max() <= 1


def test_a_mask_learns_through_a_table_like_through_a_gamma(rng):
    road = PanelRoad(lut=TABLE)
    mask = torch.from_numpy(rng.random((4, 4))).requires_grad_()
    shown = shown_transmittance(mask, road, gamma=1.0, contrast=1e6, lut=torch.tensor(TABLE).double())
    (slope,) = torch.autograd.grad(shown.sum(), mask)
    assert slope.numpy() == pytest.approx(np.ones((4, 4)), rel=1e-3)
    (road_slope,) = torch.autograd.grad(road_levels(mask, road).sum(), mask)
    finite = (
        np.interp(mask.detach() + 1e-4, TABLE, np.linspace(0, 1, 17))
        - np.interp(mask.detach() - 1e-4, TABLE, np.linspace(0, 1, 17))
    ) / 2e-4
    assert np.median(np.abs(road_slope.numpy() / finite - 1)) < 0.01


@pytest.mark.parametrize("table", [(0.0, 0.5, 0.4, 1.0), (0.1, 1.0), (0.0, 0.9)])
def test_a_table_that_cannot_be_inverted_is_refused(table):
    with pytest.raises(ValueError, match="must rise strictly from 0 to 1"):
        PanelRoad(lut=table)
