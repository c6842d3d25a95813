"""A mask that is another one for every frame."""

from __future__ import annotations

import pytest
import torch

from labctl.errors import BadInput
from sim.designs.dynamic import Dynamic, drawn_cells
from tests.sim.conftest import MASK, SCENE, nominal_twin


def generator(seed=0):
    return torch.Generator().manual_seed(seed)


def test_every_cell_is_open_as_often_as_its_chance_says_and_every_pattern_equally_often_open():
    chances = torch.rand(6, 5, dtype=torch.float64, generator=generator(3)) ** 2
    patterns = drawn_cells(chances, 20_000, generator())
    assert set(patterns.unique().tolist()) == {0.0, 1.0}
    error = (patterns.mean(0) - chances).abs()
    assert float((error / (chances * (1 - chances) / 20_000).sqrt()).max()) < 4.5
    total = float(chances.sum())
    assert set(patterns.sum(dim=(1, 2)).tolist()) == {float(int(total)), float(int(total)) + 1}


def test_a_cell_that_is_always_or_never_open_stays_so():
    chances = torch.tensor([[1.0, 0.0, 0.5], [0.5, 1.0, 0.0]])
    patterns = drawn_cells(chances, 200, generator())
    assert bool((patterns[:, 0, 0] == 1).all())
    assert bool((patterns[:, 0, 1] == 0).all())
    assert 0.3 < float(patterns[:, 0, 2].mean()) < 0.7


def test_which_cells_open_together_is_left_to_chance():
    patterns = drawn_cells(torch.full((4, 4), 0.5), 8000, generator()).flatten(1)
    correlation = torch.corrcoef(patterns.T) - torch.eye(16)
    # Eight of sixteen are open, so of the others each is a little rarer: -1/15, and nothing beside it.
    torch.testing.assert_close(correlation, -(1 - torch.eye(16)).double() / 15, rtol=0, atol=0.06, check_dtype=False)


def test_patterns_differ_from_frame_to_frame_and_come_again_from_the_same_generator():
    design = Dynamic().build(MASK, 0)
    patterns = design.draw(6, generator(1)).detach()
    assert torch.equal(patterns, design.draw(6, generator(1)).detach())
    assert not torch.equal(patterns, design.draw(6, generator(2)).detach())
    assert len({pattern.numpy().tobytes() for pattern in patterns}) == 6


def test_no_cell_is_likelier_open_than_it_may_be_whatever_is_learned():
    design = Dynamic(likeliest=0.3).build(MASK, 0)
    with torch.no_grad():
        design.theta += 100
    assert float(design.chances().detach().max()) <= 0.3
    assert float(design.theta.detach().max()) == 1
    one, other = design.draw(2, generator()).detach()
    overlap = float((one * other).sum() / one.sum())
    assert overlap == pytest.approx(0.3, abs=0.1)


def test_the_mask_that_stands_for_all_is_the_likeliest_of_as_many_open_cells():
    design = Dynamic().build(MASK, 0)
    mask, chances = design.mask().detach(), design.chances().detach()
    assert float(mask.sum()) == round(float(chances.sum()))
    assert float(chances[mask == 1].min()) >= float(chances[mask == 0].max())


def test_the_slope_of_what_is_drawn_is_that_of_its_mean():
    design = Dynamic(shift_cells=2).build(MASK, 0)
    weights = torch.rand(4, *MASK, generator=generator(5))
    slopes = []
    for seed in range(300):
        design.zero_grad()
        (design.draw(4, generator(seed)) * weights).sum().backward()
        slopes.append(design.theta.grad.clone())
    # In the mean every shift is as likely, so the slope is that of the chances under all of them.
    shifts = range(-2, 3)
    mean = torch.stack([weights.roll((a, b), dims=(1, 2)).sum(0) for a in shifts for b in shifts]).mean(0)
    design.zero_grad()
    (design.chances() * mean).sum().backward()
    expected, found = design.theta.grad, torch.stack(slopes).mean(0)
    assert float((found - expected).norm() / expected.norm()) < 0.03
    assert float((found * expected).sum() / (found.norm() * expected.norm())) > 0.999


def test_a_shifted_pattern_keeps_its_cells():
    still, moved = (
        Dynamic(start_radius_cells=2).build(MASK, 0),
        Dynamic(start_radius_cells=2, shift_cells=6).build(MASK, 0),
    )
    a, b = (design.draw(400, generator()).detach() for design in (still, moved))
    assert {float(n) for n in a.sum((1, 2)).unique()} == {float(n) for n in b.sum((1, 2)).unique()}
    rows = torch.arange(32.0)

    def spread(patterns):
        middle = (patterns.sum(2) * rows).sum(1) / patterns.sum((1, 2))
        return float(middle.std())

    assert spread(b) > 2 * spread(a)  # a uniform shift of up to 6 cells has a standard deviation of 3.7


def test_frames_of_a_dynamic_mask_need_a_generator_and_each_has_a_pattern_of_its_own(roads):
    twin, design = nominal_twin().build(roads), Dynamic().build(MASK, 0)
    scene = torch.rand(1, 1, *SCENE, generator=generator()).expand(3, -1, -1, -1)

    def exposer(scene, mask):
        return twin.measure(scene, mask, exposure_s=1e-3, quantise=False)

    frames = design(scene, exposer, generator(1))
    assert frames.shape == (3, 1, 32, 32)
    assert float((frames[0] - frames[1]).detach().abs().max()) > 1
    with pytest.raises(BadInput, match="this design draws a new pattern for every frame; give the generator"):
        design(scene, exposer)


def test_the_chances_can_be_learned_through_the_twin(roads):
    """Towards a narrow blob, from frames of which each has another pattern."""
    twin, target = nominal_twin().build(roads), Dynamic(start_radius_cells=2.0).build(MASK, 1)
    design = Dynamic(start_radius_cells=6.0).build(MASK, 0)
    scene = torch.rand(8, 1, *SCENE, generator=generator())
    wanted = twin.measure(scene, target.chances().detach(), exposure_s=1e-3, quantise=False)
    optimiser, draws = torch.optim.Adam(design.parameters(), lr=0.05), generator(2)

    def off():
        return float((design.chances() - target.chances()).detach().abs().sum())

    before = off()
    for _ in range(40):
        optimiser.zero_grad()
        frames = design(scene, lambda s, m: twin.measure(s, m, exposure_s=1e-3, quantise=False), draws)
        (frames - wanted).mean(dim=0).square().mean().backward()
        optimiser.step()
    assert off() < 0.5 * before


def test_chances_stand_still_outside_of_their_time():
    design, moves = Dynamic(move_from=0.3).build(MASK, 0), []
    for progress in (0.0, 0.3, 0.74, 0.75):
        design.anneal(progress)
        moves.append(design.draw(2, generator()).requires_grad)
    assert moves == [False, True, True, False]
