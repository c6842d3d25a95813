from __future__ import annotations

import numpy as np
import pytest
import scipy.signal
import torch

from labctl.errors import BadInput
from sim.optics.convolution import convolve, convolve_window, transform_shape

DOUBLE = torch.float64
SHAPES = [
    ((19, 16), (8, 5)),  # directly, gradient by Fourier
    ((19, 16), (3, 2)),  # directly, gradient too
    ((12, 15), (1, 15)),  # by Fourier
    ((9, 16), (9, 16)),
]


PSF_BATCHES = [(1,), (2,), (1, 1), (2, 1), (1, 3), (2, 3)]


@pytest.mark.parametrize("border", ["valid", "same", "full"])
@pytest.mark.parametrize(("scene_shape", "psf_shape"), SHAPES)
@pytest.mark.parametrize("psf_batch", PSF_BATCHES)
@pytest.mark.parametrize("batch", [1, 2])
def test_convolution_agrees_with_scipy(rng, border, scene_shape, psf_shape, psf_batch, batch):
    scene, psf = rng.random((batch, 3, *scene_shape)), rng.random((*psf_batch, *psf_shape))
    found = convolve(torch.from_numpy(scene), torch.from_numpy(psf), border).numpy()
    each = psf if psf.ndim == 4 else psf[:, None]
    pictures = (max(batch, psf_batch[0]), 3)
    scenes, psfs = (np.broadcast_to(a, (*pictures, *a.shape[-2:])) for a in (scene, each))
    assert found.shape[:2] == pictures
    for place in np.ndindex(pictures):
        expected = scipy.signal.convolve(scenes[place], psfs[place], mode=border)
        np.testing.assert_allclose(found[place], expected, atol=1e-12)


@pytest.mark.parametrize("psf_shape", [(4, 4), (3, 3), (14, 2)])
def test_a_window_may_reach_beyond_the_image_and_finds_darkness_there(rng, psf_shape):
    scene, psf = torch.from_numpy(rng.random((1, 1, 15, 9))), torch.from_numpy(rng.random((1, *psf_shape)))
    image = convolve(scene, psf, "full")
    rows, columns = image.shape[-2:]
    window = convolve_window(scene, psf, (-3, -2), (rows + 5, columns + 6))
    torch.testing.assert_close(window[..., 3 : 3 + rows, 2 : 2 + columns], image)
    window[..., 3 : 3 + rows, 2 : 2 + columns] = 0
    assert float(window.abs().max()) == 0


@pytest.mark.parametrize("start", range(0, 33, 3))
def test_wrap_around_reaches_no_window(rng, start):
    scene, psf = torch.from_numpy(rng.random((1, 1, 20, 20))), torch.from_numpy(rng.random((1, 16, 16)))
    window = convolve_window(scene, psf, (start, 32 - start), (3, 3))
    whole = scipy.signal.convolve(scene[0, 0], psf[0])
    np.testing.assert_allclose(window[0, 0], whole[start : start + 3, 32 - start : 35 - start], atol=1e-12)


def test_the_cost_of_a_window_hangs_on_the_window_and_not_on_the_scene():
    assert transform_shape((63, 63), (32, 32), (31, 31), (32, 32)) == (64, 64)
    assert transform_shape((127, 127), (64, 64), (63, 63), (64, 64)) == (128, 128)
    scene = torch.rand(1, 1, 200, 200, dtype=DOUBLE, requires_grad=True)
    window = convolve_window(scene, torch.rand(1, 20, 20, dtype=DOUBLE), (100, 100), (10, 10))
    (slope,) = torch.autograd.grad(window.sum(), scene)
    reached = slope.abs().sum((0, 1)).nonzero()
    assert reached.min(0).values.tolist() == [81, 81]
    assert reached.max(0).values.tolist() == [109, 109]


@pytest.mark.parametrize("psf_shape", [(3, 3), (5, 5), (14, 14)])
def test_a_batch_and_its_pictures_one_by_one_give_the_same_to_the_bit(psf_shape):
    threads = torch.get_num_threads()
    torch.set_num_threads(1)
    try:
        scene, psf = torch.rand(5, 1, 33, 31), torch.rand(5, *psf_shape)
        batch = convolve(scene, psf, "same")
        for n in range(5):
            assert torch.equal(convolve(scene[n : n + 1], psf[n : n + 1], "same"), batch[n : n + 1])
    finally:
        torch.set_num_threads(threads)


@pytest.mark.parametrize("psf_shape", [(3, 3), (5, 4), (14, 14)])
def test_asking_for_gradients_does_not_change_the_image(psf_shape):
    scene, psf = torch.rand(2, 3, 20, 21), torch.rand(1, *psf_shape)
    plain = convolve(scene, psf)
    for leaves in ([scene], [psf], [scene, psf]):
        for leaf in leaves:
            leaf.requires_grad_()
        assert torch.equal(convolve(scene, psf).detach(), plain)
        for leaf in leaves:
            leaf.requires_grad_(False)


@pytest.mark.parametrize(("scene_shape", "psf_shape"), [((3, 4), (2, 2)), ((5, 4), (4, 1)), ((2, 15), (1, 14))])
@pytest.mark.parametrize(("border", "batch"), [("valid", 1), ("same", 2), ("full", 1)])
def test_convolution_has_true_gradients_of_first_and_second_order(scene_shape, psf_shape, border, batch):
    scene = torch.rand(2, 1, *scene_shape, dtype=DOUBLE, requires_grad=True)
    psf = torch.rand(batch, *psf_shape, dtype=DOUBLE, requires_grad=True)
    assert torch.autograd.gradcheck(lambda s, p: convolve(s, p, border), (scene, psf))
    assert torch.autograd.gradgradcheck(lambda s, p: convolve(s, p, border), (scene, psf), fast_mode=True)


@pytest.mark.parametrize("psf_shape", [(4, 5), (2, 16)])
def test_a_gradient_is_the_same_whatever_else_needs_one(psf_shape):
    scene, psf = torch.rand(3, 2, 6, 17, dtype=DOUBLE), torch.rand(1, *psf_shape, dtype=DOUBLE)
    both = torch.autograd.functional.vjp(convolve, (scene, psf), torch.ones_like(convolve(scene, psf)))[1]
    for place, alone in enumerate((scene.clone().requires_grad_(), psf.clone().requires_grad_())):
        pair = [scene, psf]
        pair[place] = alone
        image = convolve(*pair)
        torch.testing.assert_close(torch.autograd.grad(image.sum(), alone)[0], both[place])


@pytest.mark.parametrize("psf_shape", [(3, 3), (5, 5), (14, 14)])
def test_low_precision_and_autocast_end_at_the_convolution(psf_shape):
    scene, psf = torch.rand(2, 1, 20, 20), torch.rand(1, *psf_shape, requires_grad=True)
    exact = convolve(scene, psf)
    (slope,) = torch.autograd.grad(exact.sum(), psf)
    with torch.autocast("cpu", dtype=torch.bfloat16):
        image = convolve(scene, psf)
        (found,) = torch.autograd.grad(image.sum(), psf)
    assert image.dtype == torch.float32
    assert torch.equal(image, exact)
    assert torch.equal(found, slope)
    low = convolve(scene.bfloat16(), psf.half())
    assert low.dtype == torch.float32
    torch.testing.assert_close(low, exact, rtol=0.02, atol=0.02)
    assert convolve(scene, psf.double()).dtype == DOUBLE


def test_a_mask_larger_than_the_scene_is_refused():
    with pytest.raises(BadInput, match=r"mask larger than the scene: .* 9x4 sensor pixels, the scene 8x8"):
        convolve(torch.ones(1, 1, 8, 8), torch.ones(1, 9, 4))


def test_shapes_that_do_not_belong_together_are_refused():
    with pytest.raises(BadInput, match=r"a scene of shape \(2, 3, 8, 8\) meets a PSF of shape \(1, 2, 4, 4\)"):
        convolve(torch.ones(2, 3, 8, 8), torch.ones(1, 2, 4, 4))
    with pytest.raises(BadInput, match=r"a PSF of shape \(4, 4\)"):
        convolve(torch.ones(2, 3, 8, 8), torch.ones(4, 4))


def test_a_window_that_misses_the_image_is_refused():
    with pytest.raises(BadInput, match="the window of 5 pixels from 20 on misses the image, which spans 11 pixels"):
        convolve_window(torch.ones(1, 1, 8, 8), torch.ones(1, 4, 4), (0, 20), (5, 5))
