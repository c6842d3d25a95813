from __future__ import annotations

import numpy as np
import pytest
import torch

from labctl.errors import BadInput
from sim.designs.learned import Learned
from sim.designs.masks import Disc, Open, Pinhole, Random
from tests.sim.conftest import MASK, SCENE, nominal_twin

ALL = [Pinhole(), Disc(), Open(), Random(), Learned(), Learned(binary=False), Learned(start="closed")]


@pytest.mark.parametrize("settings", ALL, ids=lambda s: f"{s.type}-{s.model_dump().get('binary', '')}")
def test_every_design_gives_a_mask_for_the_panel_and_forms_frames_in_any_twin(settings, roads):
    design = settings.build(MASK, seed=3)
    mask = design.mask()
    assert mask.shape == MASK
    assert 0 <= float(mask.detach().min()) <= float(mask.detach().max()) <= 1
    np.testing.assert_array_equal(design.settings()["mask"], mask.detach().numpy())
    twin = nominal_twin().build(roads)
    frames = design(torch.rand(2, 1, *SCENE), lambda scene, mask: twin.measure(scene, mask, exposure_s=1e-3))
    assert frames.shape == (2, 1, 32, 32)
    assert bool(list(design.parameters())) == design.learnable == settings.learnable


def test_the_pinhole_opens_one_cell_and_open_opens_all():
    assert float(Pinhole().build((32, 31), 0).mask().sum()) == 1
    assert float(Pinhole().build((32, 31), 0).mask()[16, 15]) == 1
    assert float(Open().build(MASK, 0).mask().mean()) == 1


def test_a_disc_is_round_and_has_its_radius_or_open_fraction():
    disc = Disc(radius_cells=6).build(MASK, 0).mask()
    assert float(disc.sum()) == pytest.approx(np.pi * 36, rel=0.05)
    assert torch.equal(disc, disc.T)
    assert torch.equal(disc, disc.flip(0))
    share = Disc(open_fraction=0.1).build(MASK, 0).mask()
    assert float(share.sum()) == round(0.1 * 1024)
    with pytest.raises(ValueError, match="give radius_cells or open_fraction, not both"):
        Disc(radius_cells=4, open_fraction=0.1)
    with pytest.raises(BadInput, match=r"a disc of radius 0\.1 cells opens no cell"):
        Disc(radius_cells=0.1).build(MASK, 0)


def test_a_random_mask_opens_its_share_and_hangs_on_the_seed():
    first, same, other = (Random(open_fraction=0.3).build(MASK, seed).mask() for seed in (1, 1, 2))
    assert float(first.sum()) == round(0.3 * 1024)
    assert torch.equal(first, same)
    assert not torch.equal(first, other)


def test_a_learned_binary_mask_is_hard_forward_and_a_sigmoid_backward():
    design = Learned().build(MASK, 0)
    mask = design.mask()
    assert set(mask.detach().unique().tolist()) == {0.0, 1.0}
    mask.sum().backward()
    soft = torch.sigmoid(4 * design.theta.detach())
    torch.testing.assert_close(design.theta.grad, 4 * soft * (1 - soft))


def test_a_learned_mask_starts_as_told():
    def aperture(**settings):
        return float(Learned(**settings).build(MASK, 0).mask().detach().mean())

    assert aperture() == pytest.approx(np.pi * 16 / 1024, rel=0.1)
    assert aperture(start_radius_cells=8.0) == pytest.approx(np.pi * 64 / 1024, rel=0.1)
    assert aperture(start="noise") == pytest.approx(0.5, abs=0.05)
    assert aperture(start="closed") == 0
    assert 0.1 < aperture(start="noise", binary=False) < 0.9


def test_theta_stays_where_the_sigmoid_has_a_slope_and_freezes_at_the_end():
    design = Learned().build(MASK, 0)
    with torch.no_grad():
        design.theta += 100
    design.mask()
    assert float(design.theta.detach().max()) == 1
    design.anneal(0.5)
    assert design.mask().requires_grad
    design.anneal(0.8)
    assert not design.mask().requires_grad


def test_a_mask_can_be_learned_through_the_twin_to_match_a_disc(roads):
    twin, target = nominal_twin().build(roads), Disc(radius_cells=6).build(MASK, 0).mask()
    design = Learned(start_radius_cells=3.0).build(MASK, 0)
    scene = torch.rand(8, 1, *SCENE, generator=torch.Generator().manual_seed(0))
    wanted = twin.measure(scene, target, exposure_s=1e-3, quantise=False)
    optimiser = torch.optim.Adam(design.parameters(), lr=0.05)
    before = float((design.mask().detach() - target).abs().mean())
    for _ in range(60):
        optimiser.zero_grad()
        frames = design(scene, lambda s, m: twin.measure(s, m, exposure_s=1e-3, quantise=False))
        ((frames - wanted) ** 2).mean().backward()
        optimiser.step()
    assert float((design.mask().detach() - target).abs().mean()) < 0.5 * before


def test_a_mask_without_cells_is_refused():
    with pytest.raises(BadInput, match=r"mask_shape is \(0, 4\)"):
        Pinhole().build((0, 4), 0)
