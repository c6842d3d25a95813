from __future__ import annotations

import pytest
import torch

from labctl.errors import BadInput
from sim.surrogates import hard_step, staircase

DOUBLE = torch.float64


def slope_of(function, at: torch.Tensor) -> torch.Tensor:
    at = at.clone().requires_grad_()
    return torch.autograd.grad(function(at).sum(), at)[0]


def test_a_step_is_hard_in_value_whatever_stands_in_for_its_slope():
    x = torch.tensor([-2.0, -1e-9, 0.0, 1e-9, 2.0], dtype=DOUBLE)
    for surrogate in ("sigmoid", "straight-through"):
        assert hard_step(x, surrogate=surrogate, steepness=3.7).tolist() == [0, 0, 0, 1, 1]


def test_the_sigmoid_slope_is_that_of_the_sigmoid():
    x = torch.linspace(-2, 2, 41, dtype=DOUBLE)
    soft = torch.sigmoid(5 * x)
    found = slope_of(lambda v: hard_step(v, surrogate="sigmoid", steepness=5.0), x)
    torch.testing.assert_close(found, 5 * soft * (1 - soft))


def test_straight_through_has_slope_one_inside_and_none_outside():
    x = torch.tensor([-1.5, -0.5, 0.5, 1.5], dtype=DOUBLE)
    found = slope_of(lambda v: hard_step(v, surrogate="straight-through", steepness=5.0), x)
    assert found.tolist() == [0, 1, 1, 0]


@pytest.mark.parametrize("surrogate", ["sigmoid", "straight-through"])
def test_a_staircase_takes_the_nearest_level(surrogate):
    share = torch.tensor([-0.2, 0.0, 0.16, 0.17, 0.5, 0.84, 1.0, 1.3], dtype=DOUBLE)
    found = staircase(share, levels=4, surrogate=surrogate, steepness=8.0)
    torch.testing.assert_close(found, torch.tensor([0, 0, 0, 1, 2, 3, 3, 3], dtype=DOUBLE) / 3)


def test_the_slope_of_a_staircase_gathers_at_its_steps_and_still_sums_to_one_over_the_range():
    share = (torch.arange(30_000, dtype=DOUBLE) + 0.5) / 30_000
    slopes = {
        s: slope_of(lambda v, s=s: staircase(v, levels=4, surrogate="sigmoid", steepness=s), share) for s in (1e-3, 20)
    }
    for slope in slopes.values():
        assert float(slope.mean()) == pytest.approx(1, rel=1e-4)
    assert float(slopes[1e-3].std()) < 1e-3
    at_step, between = slopes[20][5_000], slopes[20][10_000]
    assert float(at_step) > 1000 * float(between)


def test_outside_the_range_a_staircase_cannot_move():
    outside = torch.tensor([-0.1, 1.1], dtype=DOUBLE)
    for surrogate in ("sigmoid", "straight-through"):
        assert slope_of(
            lambda v, s=surrogate: staircase(v, levels=4, surrogate=s, steepness=8.0), outside
        ).tolist() == [0, 0]


def test_a_staircase_of_one_level_and_a_flat_step_are_refused():
    with pytest.raises(BadInput, match="levels is 1; a staircase has 2 or more"):
        staircase(torch.zeros(1), levels=1, surrogate="sigmoid", steepness=1.0)
    with pytest.raises(BadInput, match=r"steepness is 0\.0; more than 0 is needed"):
        hard_step(torch.zeros(1), surrogate="sigmoid", steepness=0.0)
