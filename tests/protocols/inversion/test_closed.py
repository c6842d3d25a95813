"""Inversions that need nothing but frame and camera."""

import numpy as np
import pytest
import torch
from pydantic import TypeAdapter

from labctl.errors import BadInput
from protocols.inversion.fista import Fista
from protocols.inversion.methods import ClosedMethod, Method
from protocols.inversion.problem import LinearCamera
from protocols.inversion.proximal import VariationProx, gradient, gradient_adjoint
from protocols.inversion.separable import SeparableTikhonov, nearest_separable
from protocols.inversion.variational import AdmmTv, Tikhonov
from protocols.inversion.wiener import Wiener, blended, continued, falling_power
from protocols.reconstruction import middle
from sim.optics.separable import maximum_length_sequence, separable_mask
from tests.protocols.lensless_pictures import caustic, pictures

SCENE = (26, 30)
METHODS = [
    Wiener(noise_to_signal=1e-3),
    Tikhonov(ridge=1e-3),
    SeparableTikhonov(ridge=1e-3),
    AdmmTv(total_variation=1e-5, coupling=0.1, iterations=100),
    Fista(strength=1e-5, iterations=120, inner_iterations=2),
    Fista(strength=1e-4, prior="sparsity", iterations=120),
]


@pytest.fixture(scope="module")
def scenes():
    return pictures(3, SCENE)


def sharp(rows=7, columns=5):
    """A separable PSF (1, rows, columns) with a transfer function that is nowhere small: one bright line of each."""
    lines = [torch.full((n,), 0.1).index_fill(0, torch.tensor(n // 2), 1.0) for n in (rows, columns)]
    return (lines[0][:, None] * lines[1])[None]


def mse(found, true):
    return float((found - true).square().mean())


@pytest.mark.parametrize("method", METHODS, ids=lambda method: method.method)
@pytest.mark.parametrize("border", ["same", "full"])
def test_a_noise_free_scene_of_a_well_conditioned_camera_comes_back(scenes, method, border):
    camera = LinearCamera.of_border(sharp(), SCENE, border)
    found = method.invert(camera.forward(scenes), camera)
    assert found.shape == scenes.shape
    assert 0 <= float(found.min()) <= float(found.max()) <= 1
    assert mse(found, scenes) < 3e-4
    assert mse(found, scenes) < 0.01 * mse(scenes.mean(0, keepdim=True).expand_as(scenes), scenes)


@pytest.mark.parametrize("method", METHODS, ids=lambda method: method.method)
def test_what_a_valid_frame_shows_of_the_middle_comes_back(scenes, method):
    camera = LinearCamera.of_border(sharp(), SCENE, "valid")
    found, true = (middle(x, (16, 20)) for x in (method.invert(camera.forward(scenes), camera), scenes))
    assert mse(found, true) < 0.02 * mse(true.mean(0, keepdim=True).expand_as(true), true)


@pytest.mark.parametrize("method", METHODS, ids=lambda method: method.method)
def test_a_frame_is_inverted_as_if_it_were_alone(scenes, method):
    psf = torch.stack([sharp(), 2 * sharp().flip(-2).roll(1, -1), sharp()])
    camera = LinearCamera.of_border(psf, SCENE, "same")
    frames = camera.forward(scenes) * torch.tensor([1.0, 0.1, 5.0]).reshape(3, 1, 1, 1)
    together = method.invert(frames, camera)
    for n in range(3):
        which = slice(n, n + 1)
        torch.testing.assert_close(method.invert(frames[which], camera.some(which)), together[which], atol=2e-3, rtol=0)


def test_the_channels_may_have_psfs_of_their_own_and_the_fall_off_is_taken_back(scenes):
    psf = torch.cat([sharp(), 0.5 * sharp().roll(1, -1)])
    fall_off = torch.linspace(1, 0.5, SCENE[1]).expand(SCENE)
    camera = LinearCamera(psf, (3, 2), SCENE, SCENE, fall_off)
    coloured = torch.cat([scenes, scenes.flip(0)], dim=1)
    for method in (Wiener(noise_to_signal=1e-3), Tikhonov(ridge=1e-3), SeparableTikhonov(ridge=1e-3), METHODS[3]):
        assert mse(method.invert(camera.forward(coloured), camera), coloured) < 1e-3


def test_the_window_is_exact_where_light_fell_beside_the_sensor(scenes):
    camera = LinearCamera.of_border(caustic((21, 25), seed=1)[None], SCENE, "same")
    frames = camera.forward(scenes)
    blind = min(mse(Wiener(noise_to_signal=r).invert(frames, camera), scenes) for r in (1e-4, 1e-2, 1.0))
    for method in (Tikhonov(ridge=1e-2), Fista(strength=1e-4, iterations=200)):
        assert mse(method.invert(frames, camera), scenes) < 0.6 * blind


def test_four_iterations_come_near_the_end_where_the_window_is_a_third_of_the_convolution(scenes):
    camera = LinearCamera.of_border(caustic((21, 25), seed=1)[None], SCENE, "same")
    frames = camera.forward(scenes)
    converged = Tikhonov(ridge=1.0, iterations=300).solve(frames, camera)
    assert mse(Tikhonov(ridge=1.0, iterations=4).solve(frames, camera), converged) < 0.1 * mse(converged, scenes)


def test_without_room_wiener_is_exact_where_light_that_leaves_comes_back_on_the_other_side():
    scenes = pictures(3, (24, 32)).roll((9, 11), dims=(-2, -1))  # something bright at the rim
    spectrum = torch.fft.rfft2(scenes) * torch.fft.rfft2(sharp(), s=(24, 32))
    frames = torch.fft.irfft2(spectrum, s=(24, 32)).roll((-3, -2), dims=(-2, -1))
    camera = LinearCamera(sharp(), (3, 2), (24, 32), (24, 32))
    assert mse(Wiener(noise_to_signal=1e-6, prior="flat", room=0).invert(frames, camera), scenes) < 1e-6
    assert mse(Wiener(noise_to_signal=1e-6, prior="flat").invert(frames, camera), scenes) > 1e-4


def test_with_room_the_frame_blends_from_one_rim_into_the_opposite_one(scenes):
    scenes = scenes.roll((9, 11), dims=(-2, -1))  # something bright at the rim
    scenes = scenes * torch.linspace(1, 0.5, 26)[:, None]
    wide = blended(scenes, (36, 40))
    assert torch.equal(wide[..., :26, :30], scenes)
    first, last, between = scenes[..., 0, :], scenes[..., -1, :], wide[..., 26:, :30]
    torch.testing.assert_close((between - last[..., None, :]).sum(-2), 5 * (first - last))
    steps = wide[..., :30].roll(-1, -2) - wide[..., :30]
    assert float(steps[..., 25:, :].abs().max()) < 0.2 * float((first - last).abs().max())


def test_wiener_keeps_what_was_seen_and_lets_its_rim_fade_to_dark(scenes):
    frames = scenes + 0.1
    wide = continued(frames, (5, 8), (26 + 15, 30 + 8))
    assert torch.equal(wide[..., 5:31, 8:38], frames)
    beyond = wide[..., 30:, 8:38] / frames[..., -1:, :]
    assert bool((beyond.diff(dim=-2) < 0).all())
    assert 0 < float(beyond[..., -1, :].max()) < 0.03


@pytest.mark.parametrize("grid", [(8, 12), (9, 13)])
def test_the_power_of_natural_pictures_has_mean_one_over_the_whole_grid(grid):
    half = falling_power(grid, (4, 6))
    image = torch.fft.irfft2(half.sqrt(), s=grid)
    assert float(image.square().sum()) == pytest.approx(1.0)  # Parseval: the mean of the power over all frequencies


def test_the_ridge_in_closed_form_is_that_of_the_dense_matrix():
    rows, columns = torch.rand(6, generator=torch.Generator().manual_seed(0)), torch.linspace(0.2, 1, 4)
    psf = (rows[:, None] * columns).double()[None]
    frames = torch.from_numpy(np.random.default_rng(0).random((1, 1, 4, 7)))
    camera = LinearCamera.of_border(psf, (9, 10), "valid")
    units = torch.eye(90, dtype=torch.float64).reshape(90, 1, 9, 10)
    matrix = camera.forward(units).flatten(1).T
    ridge = 0.05 * float(psf.square().sum())
    dense = torch.linalg.solve(matrix.T @ matrix + ridge * torch.eye(90), matrix.T @ frames.flatten())
    closed = SeparableTikhonov(ridge=0.05).solve(frames, camera)
    torch.testing.assert_close(closed.flatten(), dense)
    iterated = Tikhonov(ridge=0.05, iterations=500).solve(frames, camera)
    torch.testing.assert_close(iterated, closed, atol=1e-4, rtol=1e-3)


def test_the_open_half_of_a_sequence_mask_goes_with_the_row_and_column_means():
    code = maximum_length_sequence(5, dtype=torch.float64)
    psf = separable_mask(code, code)
    scenes = pictures(2, (15, 15)).double()
    whole = LinearCamera(psf[None], (14, 14), (17, 17), (15, 15))  # every sensor pixel sees all of the scene
    parts = nearest_separable(psf, whole, 1e-6)
    assert parts.without_means
    found = SeparableTikhonov(ridge=1e-6).invert(whole.forward(scenes), whole)
    assert mse(found, scenes) < 1e-4
    with pytest.raises(BadInput, match=r"off by \d+\.?\d* % \(RMS\), by \d+\.?\d* % without row and column means"):
        SeparableTikhonov().invert(torch.ones(1, 1, 30, 30), LinearCamera.of_border(psf[None], (60, 60), "valid"))


def test_a_separable_camera_is_found_through_rounding_and_another_is_named_by_its_distance():
    camera = LinearCamera.of_border(sharp(), SCENE, "same")
    assert nearest_separable(sharp()[0], camera, 0.02).distance < 1e-6
    disc = torch.from_numpy((np.hypot(*np.mgrid[-4:5, -4:5]) < 3.3).astype(np.float32))
    with pytest.raises(BadInput, match="is not separable"):
        nearest_separable(disc, camera, 0.02)
    assert 0.1 < nearest_separable(disc, camera, 0.5).distance < 0.5


def test_the_proximal_map_of_variation_is_a_minimum():
    v = torch.from_numpy(np.random.default_rng(0).normal(0.5, 0.4, (1, 9, 8)))
    threshold, top = torch.tensor(0.15, dtype=torch.float64), torch.full((1, 1, 1), 0.9, dtype=torch.float64)
    found = VariationProx(v, top)(v, threshold, 1000)

    def cost(x):
        return float((x - v).square().sum() / 2 + threshold * gradient(x).square().sum(0).sqrt().sum())

    assert 0 <= found.min() <= found.max() <= 0.9
    draws = np.random.default_rng(1)
    for size in (1e-3, 1e-2, 0.1):
        moved = (found + size * torch.from_numpy(draws.standard_normal(v.shape))).clamp(0, 0.9)
        assert cost(found) <= cost(moved) + 1e-9
    slopes = gradient(torch.from_numpy(draws.random((2, 1, 9, 8))))
    image = torch.from_numpy(draws.random((2, 1, 9, 8)))
    torch.testing.assert_close((slopes * gradient(image)).sum(), (gradient_adjoint(slopes) * image).sum())


def test_admm_and_fista_end_at_the_same_picture_where_the_frame_decides(scenes):
    camera = LinearCamera.of_border(caustic((11, 13), seed=1)[None], SCENE, "full")
    frames = camera.forward(scenes[:1])
    one = AdmmTv(total_variation=1e-4, coupling=0.1, iterations=200).invert(frames, camera)
    other = Fista(strength=1e-4, iterations=200, inner_iterations=5).invert(frames, camera)
    assert float((middle(one, (20, 24)) - middle(other, (20, 24))).abs().mean()) < 3e-3


def test_no_light_no_camera_and_frames_that_are_no_numbers_are_refused(scenes):
    camera = LinearCamera.of_border(sharp(), SCENE, "same")
    for method in METHODS:
        with pytest.raises(BadInput, match="not finite"):
            method.invert(camera.forward(scenes) * float("nan"), camera)
        with pytest.raises(BadInput, match="needs to know the camera"):
            method.invert(camera.forward(scenes), None)
        burnt = camera.forward(scenes)
        burnt[-1, 0, -1, -1] = float("inf")
        with pytest.raises(BadInput, match="not finite"):
            method.invert(burnt, camera)
        with pytest.raises(BadInput, match="black everywhere"):
            method.invert(camera.forward(scenes), camera.with_psf(0 * sharp()))
        dark = method.invert(0 * camera.forward(scenes), camera)
        assert float(dark.max()) < 1e-6


def test_methods_are_told_apart_by_name_and_nothing_else_is_accepted():
    for method in METHODS:
        assert TypeAdapter(ClosedMethod).validate_python(method.model_dump()) == method
    with pytest.raises(ValueError, match="union_tag_invalid"):
        TypeAdapter(Method).validate_python({"method": "guess"})
