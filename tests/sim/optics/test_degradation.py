from __future__ import annotations

import numpy as np
import pytest
import torch
from skimage.filters import gaussian
from skimage.measure import block_reduce

from labctl.errors import BadInput
from sim.optics.caustic import caustic
from sim.optics.degradation import downsampled, pixelated, smoothed

FRAMES = torch.rand(2, 1, 24, 20, dtype=torch.float64, generator=torch.Generator().manual_seed(0))


@pytest.mark.parametrize("sigma_px", [0.4, 1.7, 5.0])
def test_software_blur_is_that_of_scikit_image(sigma_px):
    expected = np.stack([gaussian(frame, sigma_px, mode="nearest") for frame in FRAMES[:, 0].numpy()])
    np.testing.assert_allclose(smoothed(FRAMES, sigma_px)[:, 0].numpy(), expected, rtol=0, atol=1e-12)


def test_down_sampling_takes_means_of_blocks_and_pixelation_shows_them_as_large():
    expected = np.stack([block_reduce(frame, (4, 4), np.mean) for frame in FRAMES[:, 0].numpy()])
    small, large = downsampled(FRAMES, 4), pixelated(FRAMES, 4)
    np.testing.assert_allclose(small[:, 0].numpy(), expected)
    assert large.shape == FRAMES.shape
    assert torch.equal(large[..., ::4, ::4], small)
    torch.testing.assert_close(pixelated(large, 4), large)


def test_blocks_at_the_edge_are_the_mean_of_what_there_is_of_them():
    small = downsampled(FRAMES, 7)
    assert small.shape == (2, 1, 4, 3)
    torch.testing.assert_close(small[..., 3, 2], FRAMES[..., 21:, 14:].mean(dim=(-2, -1)))


@pytest.mark.parametrize(
    "degrade", [lambda f: smoothed(f, 3.0), lambda f: pixelated(f, 5), lambda f: downsampled(f, 5)]
)
def test_an_even_frame_stays_even_up_to_its_edge(degrade):
    even = degrade(torch.full((1, 1, 13, 11), 7.0, dtype=torch.float64))
    torch.testing.assert_close(even, torch.full_like(even, 7.0))


def test_degradations_that_are_none_are_refused():
    with pytest.raises(BadInput, match=r"sigma_px is 0\.0; more than 0 is needed"):
        smoothed(FRAMES, 0.0)
    with pytest.raises(BadInput, match="factor is 0; 1 or more pixels are needed"):
        downsampled(FRAMES, 0)


# The caustic


def test_a_flat_surface_passes_light_as_it_comes():
    even = caustic(torch.zeros(12, 9, dtype=torch.float64), rays_per_cell=3, room_cells=1)
    assert even.shape == (6, 5)
    torch.testing.assert_close(even[2:-2, 2:-2], torch.ones(2, 1, dtype=torch.float64))
    assert float(even.sum()) == pytest.approx(12)


def test_a_wedge_moves_light_towards_its_thicker_side():
    rows = torch.arange(12, dtype=torch.float64)[:, None] / 3
    bent = caustic(1.5 * rows.expand(12, 9), rays_per_cell=3, room_cells=2)
    middle = (bent.sum(1) * torch.arange(8)).sum() / bent.sum()
    assert float(middle) == pytest.approx(3.5 + 1.5)


def test_a_thick_middle_gathers_light_in_it():
    y, x = torch.meshgrid(*(torch.arange(n * 8) / 8 - n / 2 + 1 / 16 for n in (8, 8)), indexing="ij")
    lens = caustic(-0.5 * (y**2 + x**2).double(), rays_per_cell=8, room_cells=1)
    assert float(lens[4:6, 4:6].sum()) > 0.7 * 64  # rays at the very border are bent by half of what they should be
    assert float(lens.sum()) == pytest.approx(64)


def test_a_surface_that_throws_light_off_the_canvas_is_refused():
    rows = torch.arange(12, dtype=torch.float64)[:, None] / 3
    with pytest.raises(BadInput, match=r"a ray lands 1\.03 cells outside of 8x7; bend less or give more room"):
        caustic(2.7 * rows.expand(12, 9), rays_per_cell=3, room_cells=2)
    with pytest.raises(BadInput, match="a whole number of cells of 4 rays is needed"):
        caustic(torch.zeros(9, 8), rays_per_cell=4, room_cells=1)
