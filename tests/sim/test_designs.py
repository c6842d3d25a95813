from __future__ import annotations

import numpy as np
import pytest
import torch
from PIL import Image

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


# Start, slope and limits of a learned mask


def test_a_mask_starts_from_a_file_as_it_is(tmp_path):
    wanted = Random(open_fraction=0.3).build(MASK, 1).mask()
    np.save(tmp_path / "mask.npy", wanted.numpy())
    Image.fromarray((255 * wanted.numpy()).astype(np.uint8)).save(tmp_path / "mask.png")
    for name in ("mask.npy", "mask.png"):
        learned = Learned(start="file", start_file=tmp_path / name)
        assert torch.equal(learned.build(MASK, 0).mask().detach(), wanted)
    grey = np.random.default_rng(0).uniform(0.1, 0.9, MASK)
    np.save(tmp_path / "grey.npy", grey)
    shown = Learned(start="file", start_file=tmp_path / "grey.npy", binary=False).build(MASK, 0).mask().detach()
    np.testing.assert_allclose(shown.numpy(), grey, atol=1e-6)


def test_the_fingerprint_of_a_start_file_is_its_content(tmp_path):
    for name, value in (("a.npy", 0.0), ("b.npy", 0.0), ("c.npy", 1.0)):
        np.save(tmp_path / name, np.full(MASK, value))
    a, b, c = (Learned(start="file", start_file=tmp_path / f"{name}.npy").fingerprint() for name in "abc")
    assert a == b != c


@pytest.mark.parametrize(
    ("values", "text"),
    [
        (np.zeros((16, 16)), r"holds 16x16 cells, the protocol has 32x32 \(mask_cells\)"),
        (np.full(MASK, 255.0), r"spans 255\.\.255; a transmittance lies in 0\.\.1: divide by the full scale"),
        (np.full(MASK, np.nan), r"spans nan\.\.nan"),
    ],
)
def test_a_start_file_that_is_no_such_mask_is_refused(values, text, tmp_path):
    np.save(tmp_path / "mask.npy", values)
    with pytest.raises(BadInput, match=text):
        Learned(start="file", start_file=tmp_path / "mask.npy").build(MASK, 0)
    with pytest.raises(BadInput, match=r"none\.npy' does not exist; give a \.npy array or a grey picture"):
        Learned(start="file", start_file=tmp_path / "none.npy").build(MASK, 0)
    with pytest.raises(ValueError, match="`start: file` and `start_file: PATH` go together"):
        Learned(start_file=tmp_path / "mask.npy")


@pytest.mark.parametrize("start", ["blob", "noise", "closed"])
@pytest.mark.parametrize("binary", [True, False])
@pytest.mark.parametrize("wanted", [0.02, 0.1, 0.4, (0.05, 0.07), (0.3, 1.0)])
def test_the_open_fraction_stays_where_it_is_told_while_the_mask_moves(start, binary, wanted):
    design = Learned(start=start, binary=binary, open_fraction=wanted).build(MASK, 0)
    least, most = wanted if isinstance(wanted, tuple) else (wanted, wanted)
    generator = torch.Generator().manual_seed(0)
    for _ in range(5):
        share = float(design.mask().detach().mean())
        # A grey mask whose cells all stand at -1 still passes sigmoid(-4) = 1.8 %.
        assert least - 6e-4 <= share <= most + (6e-4 if binary else 1e-3)
        with torch.no_grad():
            design.theta += 0.3 * torch.randn(MASK, generator=generator) - 0.2


def test_equal_cells_do_not_break_an_exact_open_fraction():
    design = Learned(open_fraction=0.25).build(MASK, 0)
    for level in (-5.0, 0.0, 5.0):
        with torch.no_grad():
            design.theta.fill_(level)
        assert int(design.mask().detach().sum()) == 256


def test_the_slope_is_annealed_until_the_mask_is_frozen_and_travels_in_the_state():
    design = Learned(slope=2.0, slope_end=32.0, freeze_from=0.5, binary=False).build(MASK, 0)
    slopes = []
    for progress in (0.0, 0.25, 0.5, 0.9):
        design.anneal(progress)
        slopes.append(float(design.steepness))
    assert slopes == pytest.approx([2, 8, 32, 32])
    again = Learned(slope=2.0, slope_end=32.0, binary=False).build(MASK, 5)
    again.load_state_dict(design.state_dict())
    assert torch.equal(again.mask(), design.mask())


def test_a_mask_frozen_from_the_beginning_is_its_own_start():
    start, learned = (Learned(freeze_from=f).build(MASK, 4) for f in (0.0, 0.75))
    start.anneal(0.0)
    assert not start.mask().requires_grad
    assert torch.equal(start.mask(), learned.mask().detach())


def test_straight_through_moves_every_cell_alike():
    design = Learned(surrogate="straight-through").build(MASK, 0)
    design.mask().sum().backward()
    assert bool((design.theta.grad == 1).all())


def test_a_mask_stands_still_until_it_is_told_to_move():
    design = Learned(move_from=0.3).build(MASK, 0)
    moves = []
    for progress in (0.0, 0.29, 0.3, 0.74, 0.75):
        design.anneal(progress)
        moves.append(design.mask().requires_grad)
    assert moves == [False, False, True, True, False]


def test_a_grey_mask_that_stands_still_keeps_its_slope_until_it_moves():
    design = Learned(binary=False, slope=2.0, slope_end=8.0, move_from=0.25, freeze_from=0.75).build(MASK, 0)
    start, slopes = design.mask().detach(), []
    for progress in (0.0, 0.2, 0.25, 0.5, 0.75, 1.0):
        design.anneal(progress)
        slopes.append(float(design.steepness))
        if progress < 0.25:
            assert torch.equal(design.mask().detach(), start)
    assert slopes == pytest.approx([2, 2, 2, 4, 8, 8])


def test_a_mask_that_is_frozen_before_it_may_move_is_refused():
    with pytest.raises(ValueError, match=r"move_from is 0\.8, freeze_from 0\.75: the mask would never move; let it"):
        Learned(move_from=0.8)
    assert not Learned(move_from=0.8, freeze_from=0.0).build(MASK, 0).learned.freeze_from
