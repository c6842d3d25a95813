"""Coded apertures, lenses, diffuser and software degradations: what each of them is, and that its operator is true."""

from __future__ import annotations

import numpy as np
import pytest
import torch

from labctl.errors import BadInput
from labctl.roads import MonitorRoad, PanelRoad, Roads
from sim.designs.base import DesignSettings
from sim.designs.coded_apertures import FresnelZone, Mura, mura
from sim.designs.degradations import Blur, Downsample, Pixelate
from sim.designs.diffuser import Diffuser
from sim.designs.dynamic import Dynamic
from sim.designs.learned import Learned
from sim.designs.lenses import DefocusedLens, Lens
from sim.designs.masks import Disc, Open, Pinhole, Random
from sim.designs.separable import Mls
from sim.optics.separable import measure_separable, toeplitz_matrix
from tests.sim.conftest import MASK, SCENE, nominal_twin

DOUBLE = torch.float64

ON_PANEL = [
    Pinhole(), Disc(radius_cells=2), Open(), Random(), Learned(start_radius_cells=2), Mls(), Mura(), FresnelZone(),
    FresnelZone(binary=False), Dynamic(start_radius_cells=2),
]  # fmt: skip
BARE = [Lens(), DefocusedLens(blur_cells=4), Diffuser(smooth_cells=1, bend_cells=2)]
SOFTWARE = [Blur(sigma_px=1.2), Pixelate(block_px=3), Downsample(factor=2), Blur(optics="pinhole")]
ALL = [*ON_PANEL, *BARE, *SOFTWARE]


def named(settings):
    """Name of a case: all that its settings say."""
    return "-".join(map(str, settings.model_dump().values())) if isinstance(settings, DesignSettings) else None


def small_twin(**changes):
    """8x8 cells, 13x12 scene pixels, float64; off in everything unless told otherwise."""
    as_built = {"shift_px": (0.4, -0.3), "rotation_deg": 1.1, "scale": 1.01, "blur_px": 0.5}
    blocks = {
        "panel": {"shape": (32, 32), "stop_px": (32, 32), "contrast": 200.0},
        "monitor": {"view_px": (13, 12)},
        "light": {"stray": 0.02},
        "registration": as_built,
    }
    return nominal_twin(**blocks | changes).build(Roads(PanelRoad(cell_px=4), MonitorRoad(pixel_px=1)), dtype=DOUBLE)


def exact_twin():
    """The same rig as designed, with an opaque panel: a PSF is the mask."""
    return small_twin(panel={"shape": (32, 32), "stop_px": (32, 32), "contrast": 1e12}, light={}, registration={})


def psf_of(design, twin):
    mask = design.mask().detach().double()
    return twin.psf(mask) if design.on_panel else twin.psf_of_weights(mask)


def scenes(n=2, seed=0):
    return torch.rand(n, 1, 13, 12, dtype=DOUBLE, generator=torch.Generator().manual_seed(seed))


# Every family


@pytest.mark.parametrize("settings", ALL, ids=named)
def test_every_design_has_a_mask_that_a_panel_can_show_or_says_that_it_has_none(settings):
    design = settings.build(MASK, seed=3)
    mask = design.mask().detach()
    assert mask.shape == MASK
    assert float(mask.min()) >= 0
    assert design.on_panel == ("mask" in design.settings())
    if design.on_panel:
        assert float(mask.max()) <= 1
    else:
        assert float(mask.max()) > 1
    assert bool(list(design.parameters())) == design.learnable == settings.learnable
    assert settings.raw_frames != "unknown"


@pytest.mark.parametrize("settings", ALL, ids=named)
def test_a_design_is_the_same_for_the_same_seed_and_draws_what_frames_are_taken_through(settings):
    first, again = (settings.build(MASK, seed=3) for _ in range(2))
    assert torch.equal(first.mask(), again.mask())
    drawn, same = (d.draw(5, torch.Generator().manual_seed(1)).detach() for d in (first, again))
    assert drawn.shape == (5, *MASK)
    assert torch.equal(drawn, same)
    assert bool((drawn == first.mask()).all()) != first.dynamic
    generator = torch.Generator().manual_seed(1)
    assert first.patterns(generator)(5).shape == ((5, *MASK) if first.dynamic else MASK)


@pytest.mark.parametrize("settings", ALL, ids=named)
def test_every_design_as_a_whole_is_linear_with_its_adjoint_and_equal_to_its_dense_matrix(settings):
    twin, design = small_twin(), settings.build((8, 8), seed=3)
    psf = psf_of(design, twin)

    def read(scene):
        return design.readout(twin.light(scene, psf[None, None]))

    start, probe = scenes().requires_grad_(), None
    frames = read(start)
    probe = torch.rand(frames.shape, dtype=DOUBLE, generator=torch.Generator().manual_seed(5)) - 0.4
    (pulled,) = torch.autograd.grad(frames, start, probe)
    other = scenes(seed=1)
    torch.testing.assert_close((read(other) * probe).sum(), (other * pulled).sum())
    basis = torch.eye(13 * 12, dtype=DOUBLE).reshape(-1, 1, 13, 12)
    dense = read(basis).reshape(13 * 12, -1)
    torch.testing.assert_close(other.reshape(2, -1) @ dense, read(other).reshape(2, -1))


@pytest.mark.parametrize("settings", [Learned(start_radius_cells=2, binary=False)], ids=named)
def test_the_slope_of_a_grey_mask_is_the_true_one_through_the_whole_camera(settings):
    twin, design = exact_twin(), settings.build((8, 8), seed=3).double()
    probe = torch.rand(2, 1, 6, 5, dtype=DOUBLE, generator=torch.Generator().manual_seed(5))

    def loss(values):
        mask = torch.sigmoid(4 * values)
        psf = twin.psf(mask)
        return (twin.light(scenes(), psf[None, None]) * probe).sum()

    theta = design.theta.detach().clone().requires_grad_()
    (slope,) = torch.autograd.grad(loss(theta), theta)
    step = 2e-2 * torch.rand(8, 8, dtype=DOUBLE, generator=torch.Generator().manual_seed(2))
    # The panel has 256 levels, so the difference is taken where rounding is small against it.
    difference = loss((theta + step).detach()) - loss((theta - step).detach())
    assert float(difference) == pytest.approx(float(2 * (slope * step).sum()), rel=2e-2)


def test_a_separable_design_is_two_small_matrices_and_they_are_the_dense_one():
    twin, design = exact_twin(), Mls().build((8, 8), seed=0)
    scene, mask = scenes(), design.mask().double()
    ones, code = torch.ones(8, dtype=DOUBLE), 2 * mask[0] - 1  # the first row of the sequence is +1
    if float(mask[0, 0]) == 0:
        code = -code
    rows = (2 * mask - 1) @ code / 8
    left, right = (toeplitz_matrix(c, n, start=7, size=n - 7) for c, n in ((rows, 13), (code, 12)))
    flat = [toeplitz_matrix(ones, n, start=7, size=n - 7) for n in (13, 12)]
    separable = (measure_separable(scene, left, right) + measure_separable(scene, *flat)) / 2
    through = twin.light(scene, psf_of(design, twin)[None, None])
    torch.testing.assert_close(through, separable, rtol=1e-6, atol=1e-6)
    dense = (torch.kron(left, right) + torch.kron(*flat)) / 2
    torch.testing.assert_close(through.reshape(2, -1), scene.reshape(2, -1) @ dense.T, rtol=1e-6, atol=1e-6)


# Coded apertures


@pytest.mark.parametrize("side", [3, 5, 7, 13, 31])
def test_a_uniformly_redundant_array_and_its_decoder_correlate_to_one_peak(side):
    cells = mura(side)
    decoder = 2 * cells - 1
    decoder[0, 0] = 1
    peak = np.fft.ifft2(np.fft.fft2(cells) * np.conj(np.fft.fft2(decoder))).real
    assert peak[0, 0] == pytest.approx((side**2 - 1) / 2)
    peak[0, 0] = 0
    np.testing.assert_allclose(peak, 0, atol=1e-9)


def test_an_array_stands_in_the_middle_of_a_mask_that_is_no_prime_or_goes_on_around_it():
    closed, cyclic = (Mura(outside=outside).build((36, 32), 0).mask().numpy() for outside in ("closed", "cyclic"))
    middle = np.roll(mura(31), (15, 15), axis=(0, 1))
    for cells in (closed, cyclic):
        np.testing.assert_array_equal(cells[2:33, :31], middle)
    assert closed.sum() == middle.sum()
    np.testing.assert_array_equal(cyclic[33:, :31], middle[:3])
    np.testing.assert_array_equal(cyclic[2:33, 31], middle[:, 0])


def test_an_array_that_cannot_be_is_refused():
    with pytest.raises(BadInput, match="side_cells is 32, which is no prime; use 31"):
        Mura(side_cells=32).build((40, 40), 0)
    with pytest.raises(BadInput, match="side_cells is 37, the mask 32 along one side; use 31"):
        Mura(side_cells=37).build((32, 40), 0)
    with pytest.raises(BadInput, match="mask_cells has a side of 2; an array needs 3 cells or more"):
        Mura().build((2, 9), 0)


def test_zones_alternate_at_the_radii_of_fresnel():
    cells = FresnelZone(first_zone_cells=9.0).build((63, 63), 0).mask()
    row = cells[31, 31:].numpy()
    edges = np.flatnonzero(np.diff(row) != 0) + 0.5
    np.testing.assert_allclose(edges, 9.0 * np.sqrt(np.arange(len(edges)) + 0.5), atol=0.51)
    grey = FresnelZone(first_zone_cells=9.0, binary=False).build((63, 63), 0).mask()
    assert bool(((grey > 0.5) == (cells > 0.5)).all())
    assert float(grey.mean()) == pytest.approx(0.5, abs=0.02)


def test_zones_finer_than_a_cell_are_refused():
    with pytest.raises(BadInput, match=r"first_zone_cells is 3: at the edge of 32x32 cells .* use 5\.66 or more"):
        FresnelZone(first_zone_cells=3.0).build((32, 32), 0)
    FresnelZone(first_zone_cells=5.66).build((32, 32), 0)


# Light


@pytest.mark.parametrize(
    ("settings", "cells"),
    [
        (Lens(), 1024), (Lens(aperture=0.25), 256), (DefocusedLens(), 1024), (DefocusedLens(blur_cells=0.5), 1024),
        (Diffuser(bend_cells=3), 26 * 26), (Blur(), 1024), (Blur(optics="pinhole"), 1),
    ],
    ids=named,
)  # fmt: skip
def test_optics_without_a_panel_gather_the_light_of_their_whole_area(settings, cells, roads):
    twin = nominal_twin(panel={"contrast": 1e9}).build(roads, dtype=DOUBLE)
    pinhole = Pinhole().build(MASK, 0)
    white = torch.ones(1, 1, *SCENE, dtype=DOUBLE)

    def middle(design):
        return float(twin.irradiance(white, psf_of(design, twin))[0, 0, 16, 16])

    assert middle(settings.build(MASK, 0)) == pytest.approx(cells * middle(pinhole), rel=1e-5)


def test_a_lens_shows_what_the_pinhole_shows_with_the_light_of_all_cells(roads):
    twin = nominal_twin(panel={"contrast": 1e9}).build(roads, dtype=DOUBLE)
    scene = torch.rand(1, 1, *SCENE, dtype=DOUBLE, generator=torch.Generator().manual_seed(0))
    lens, pinhole = (twin.irradiance(scene, psf_of(s.build(MASK, 0), twin)) for s in (Lens(), Pinhole()))
    torch.testing.assert_close(lens, 1024 * pinhole, rtol=1e-5, atol=16)  # a panel of 1e9:1 leaks so much


def test_light_past_the_panel_knows_no_leak_no_fill_factor_and_no_levels(roads):
    panel = {"contrast": 10.0, "fill_factor": 0.5, "gamma": 1.7}
    twin = nominal_twin(panel=panel).build(roads, dtype=DOUBLE)
    lens = Lens().build(MASK, 0).mask().double()
    psf = twin.psf_of_weights(lens)
    assert float(psf.sum()) == pytest.approx(1024)
    assert int((psf > 1e-9).sum()) == 1
    weights = torch.full(MASK, 0.123456, dtype=DOUBLE)
    assert float(twin.psf_of_weights(weights).sum()) == pytest.approx(0.123456 * 1024)


def test_light_past_the_panel_is_registered_and_blurred_as_a_mask_would_be():
    twin, opaque = small_twin(), exact_twin()
    lens, pinhole = (s.build((8, 8), 0) for s in (Lens(), Pinhole()))
    sharp = small_twin(panel={"shape": (32, 32), "stop_px": (32, 32), "contrast": 1e12})
    torch.testing.assert_close(psf_of(lens, twin), 64 * psf_of(pinhole, sharp), rtol=1e-6, atol=1e-6)
    assert float((psf_of(lens, twin) > 1e-3).sum()) > float((psf_of(lens, opaque) > 1e-3).sum())


def test_a_rig_with_diffraction_brings_a_lens_to_the_sensor_by_rays(roads):
    colour = {"colour": "rggb", "channel_wavelength_m": (610e-9, 540e-9, 460e-9)}
    straight, diffracted = (
        nominal_twin(optics={"model": model, "margin_px": 8}, sensor=colour).build(roads)
        for model in ("shadow", "fresnel")
    )
    weights = DefocusedLens().build(MASK, 0).mask()
    psf = diffracted.psf_of_weights(weights)
    assert psf.shape == (3, 48, 48)
    for channel in psf:
        torch.testing.assert_close(channel, straight.psf_of_weights(weights))


def test_a_defocused_lens_is_an_even_disc_of_its_width():
    weights = DefocusedLens(blur_cells=9).build((31, 31), 0).mask()
    assert float(weights.sum()) == pytest.approx(31 * 31)
    assert torch.equal(weights, weights.T)
    level = float(weights[15, 15])
    assert float(weights.sum()) / level == pytest.approx(np.pi * 4.5**2, rel=0.01)
    assert float(weights[15, 15 + 4]) == pytest.approx(level, rel=0.05)
    assert float(weights[15, 15 + 5]) == 0


def test_defocus_and_bending_that_leave_the_mask_are_refused():
    with pytest.raises(BadInput, match="blur_cells is 40: the disc would reach beyond 32x32 mask cells, which hold 31"):
        DefocusedLens(blur_cells=40).build(MASK, 0)
    DefocusedLens(blur_cells=31).build(MASK, 0)
    with pytest.raises(BadInput, match=r"bend_cells is 16: on 32x32 mask cells no surface is left .* use 15 or less"):
        Diffuser(bend_cells=16).build(MASK, 0)


def test_a_diffuser_is_a_caustic_that_hangs_on_the_seed():
    first, other = (Diffuser().build(MASK, seed).mask() for seed in (1, 2))
    assert not torch.equal(first, other)
    assert float(first.std() / first.mean()) > 1.1  # bright lines on a dim ground, where an even spread would be 0.7
    rough, smooth = (Diffuser(smooth_cells=s).build(MASK, 1).mask() for s in (1.0, 4.0))
    assert float(rough.diff(dim=0).abs().sum()) > 1.5 * float(smooth.diff(dim=0).abs().sum())


# Software


def test_software_degrades_the_frames_of_its_optics_and_says_what_size_is_left():
    frames = torch.rand(2, 1, 32, 30, generator=torch.Generator().manual_seed(0))
    for settings, shape in ((Blur(), (32, 30)), (Pixelate(), (32, 30)), (Downsample(factor=4), (8, 8))):
        design = settings.build(MASK, 0)
        read = design.readout(frames)
        assert design.read_shape((32, 30)) == tuple(read.shape[-2:]) == shape
        assert float(read.std()) < 0.5 * float(frames.std())
        assert settings.raw_frames == "after-readout"
        assert torch.equal(design.mask(), Lens().build(MASK, 0).mask())
    shown = Blur(optics="pinhole").build(MASK, 0)
    assert shown.on_panel
    assert torch.equal(shown.mask(), Pinhole().build(MASK, 0).mask())
