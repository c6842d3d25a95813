"""The PSF as a free form, from known scenes and their frames."""

import numpy as np
import pytest
import torch
from scipy.ndimage import gaussian_filter
from scipy.signal import convolve2d

from labctl.errors import BadInput
from protocols.cropped_deconvolution import Prior, constrained_solution, predicted, ridge_solution
from protocols.twin_fit.free_form import (
    FreeForm,
    choose,
    fit_free_form,
    noise_variance,
    normalised_error,
    ridge_psf,
    ridge_twin,
)
from tests.protocols.lensless_pictures import caustic, pictures

SCENE, PSF = (48, 64), (24, 32)
NOISE = 0.003
CONVERGED = FreeForm(field_order=0, curved=False, iterations=100, coupling=0.1)


def frames_of(scenes, psf, *, start=None, size=SCENE, noise=0.0, seed=1):
    start = ((PSF[0] - 1) // 2, (PSF[1] - 1) // 2) if start is None else start
    clean = predicted(scenes, psf, start=start, size=size)
    draws = torch.from_numpy(np.random.default_rng(seed).standard_normal(tuple(clean.shape))).to(clean.dtype)
    return clean + noise * draws


@pytest.fixture(scope="module")
def psf():
    return torch.stack([caustic(PSF, seed=0), 0.8 * caustic(PSF, seed=0)])


@pytest.fixture(scope="module")
def scenes():
    return pictures(6, SCENE, channels=2)


def error(found, true):
    return float((found - true).norm() / true.norm())


def test_the_ridge_finds_the_psf_where_there_is_no_noise(scenes, psf):
    frames = frames_of(scenes.double(), psf.double())
    found = ridge_psf(scenes, frames, psf_shape=PSF, ridge=1e-9, iterations=1000)
    assert found.dtype == torch.float64
    assert error(found, psf) < 0.01


@pytest.mark.parametrize(("size", "start"), [((25, 33), None), ((30, 40), (5, 11)), ((71, 95), (0, 0))])
def test_any_window_of_the_convolution_gives_the_same_psf(scenes, psf, size, start):
    full = np.stack([[convolve2d(x, h) for x, h in zip(s, psf.numpy(), strict=True)] for s in scenes.double().numpy()])
    top, left = (23, 31) if start is None else start  # the valid window is the one in the middle
    frames = full[..., top : top + size[0], left : left + size[1]]
    found = ridge_psf(scenes, frames, psf_shape=PSF, ridge=1e-9, start=start, iterations=1000)
    assert error(found, psf) < 0.03


def test_the_ridge_solves_its_normal_equations(scenes, psf):
    small, size = scenes[:2, :1, :9, :9].double(), (7, 8)
    frames = torch.from_numpy(np.random.default_rng(0).random((2, 1, *size)))
    weight = torch.from_numpy(np.random.default_rng(1).random((2, 1, *size))) + 0.1
    found = ridge_solution(small, frames, shape=(4, 5), start=(2, 3), ridge=0.1, weight=weight, tolerance=1e-12)
    units = torch.eye(20, dtype=torch.float64).reshape(20, 1, 4, 5)
    columns = torch.stack([predicted(small, unit, start=(2, 3), size=size).flatten() for unit in units], dim=1)
    heavy = (weight / weight.mean()).flatten()
    power = columns.T @ (heavy[:, None] * columns) + 0.1 * float(small.square().sum()) * torch.eye(20)
    torch.testing.assert_close(found.flatten(), torch.linalg.solve(power, columns.T @ (heavy * frames.flatten())))


def test_without_limits_the_constrained_solution_is_the_ridge(scenes, psf):
    frames = frames_of(scenes.double(), psf.double(), noise=NOISE)
    where = {"shape": PSF, "start": (11, 15)}
    ridge = ridge_solution(scenes.double(), frames, ridge=0.03, tolerance=1e-10, **where)
    free = Prior(ridge=0.03, non_negative=False)
    other = constrained_solution(scenes.double(), frames, prior=free, iterations=200, coupling=0.1, **where)
    assert error(other, ridge) < 0.01


def test_a_free_form_beats_the_best_ridge_where_there_is_noise(scenes, psf):
    frames = frames_of(scenes, psf, noise=NOISE)
    ridges = [ridge_psf(scenes, frames, psf_shape=PSF, ridge=ridge) for ridge in 10.0 ** np.arange(-4, 2)]
    form = fit_free_form(scenes, frames, CONVERGED, psf_shape=PSF)
    assert form.psf.min() >= 0
    assert error(form.psf, psf) < 0.8 * min(error(ridge, psf) for ridge in ridges)


def test_sparsity_leaves_fewer_pixels_and_total_variation_a_shorter_gradient(scenes, psf):
    frames = frames_of(scenes, psf, noise=NOISE)

    def fitted(**prior):
        return fit_free_form(scenes, frames, CONVERGED.model_copy(update=prior), psf_shape=PSF).psf

    def variation(image):
        return float(image.diff(dim=-1).abs().sum() + image.diff(dim=-2).abs().sum()) / float(image.sum())

    plain = fitted()
    assert (fitted(sparsity=0.01) > 1e-4).sum() < 0.9 * (plain > 1e-4).sum()
    assert variation(fitted(total_variation=1e-3)) < 0.8 * variation(fitted(total_variation=1e-9))
    assert float(fitted(sparsity=1.0).abs().max()) < 1e-3 * float(plain.max())


def test_the_response_of_the_scene_camera_is_found_with_the_psf(scenes, psf):
    rows, columns = torch.meshgrid(torch.linspace(-1, 1, 48), torch.linspace(-1, 1, 64), indexing="ij")
    field = 1 - 0.3 * columns - 0.4 * rows.square()
    frames = frames_of(field * scenes + 0.3 * scenes.square(), psf) + torch.tensor([0.01, 0.03])[:, None, None]
    train, last = slice(0, 5), slice(5, 6)
    errors = {}
    for name, settings in {
        "even": FreeForm(field_order=0, curved=False),
        "full": FreeForm(field_order=2, background=True, rounds=12),
    }.items():
        twin = fit_free_form(scenes[train], frames[train], settings, psf_shape=PSF)
        errors[name] = normalised_error(twin.predict(scenes[last])[0], frames[5])
    assert errors["full"] < 0.35 * errors["even"]
    found = twin.response.field / twin.response.field.mean()
    assert float((found - field / field.mean()).abs().mean()) < 0.05
    torch.testing.assert_close(twin.response.picture(twin.response.light(scenes)), scenes, atol=1e-4, rtol=1e-4)


def test_the_setting_that_predicts_unseen_pairs_is_chosen(scenes, psf):
    frames = frames_of(scenes[:4], psf, noise=0.05)
    ridges = (1e-6, 3e-2, 1e4)
    chosen, errors = choose(ridges, lambda s, f, r: ridge_twin(s, f, ridge=r, psf_shape=PSF), scenes[:4], frames)
    assert chosen == 3e-2
    assert errors[1] < min(errors[0], errors[2])


def test_noise_is_told_from_a_smooth_frame():
    draws = np.random.default_rng(0)
    smooth = np.stack([gaussian_filter(draws.random((2, 96, 96)), (0, 12, 12)) for _ in range(4)])
    smooth = (smooth - smooth.min()) / np.ptp(smooth)
    true = 1e-6 + 1e-4 * smooth
    frames = torch.from_numpy(smooth + np.sqrt(true) * draws.standard_normal(smooth.shape))
    ratio = noise_variance(frames).numpy() / true
    assert abs(ratio[smooth > 0.2].mean() - 1) < 0.05
    assert 0.5 < ratio[smooth < 0.1].mean() < 2


def test_noisy_pixels_count_less_when_pixels_are_weighted(scenes, psf):
    frames = frames_of(scenes, psf)
    weight = torch.ones_like(frames)
    weight[..., :10] = 1e-6
    spoiled = frames.clone()
    spoiled[..., :10] += 1.0
    kept = {"psf_shape": PSF, "ridge": 1e-6}
    assert error(ridge_psf(scenes, spoiled, weight=weight, **kept), psf) < 0.2
    assert error(ridge_psf(scenes, spoiled, **kept), psf) > 1


@pytest.mark.parametrize(
    ("spoil", "words"),
    [
        (lambda s, f: (s[:, :1], f), "same N and C"),
        (lambda s, f: (s[0], f), r"must be \(N, C, H, W\)"),
        (lambda s, f: (s, f * float("nan")), "not finite"),
        (lambda s, f: (s * 0, f), "black everywhere"),
        (lambda s, f: (s, torch.nn.functional.pad(f, (0, 60))), "leaves the convolution"),
    ],
)
def test_pairs_that_cannot_be_used_are_refused(scenes, psf, spoil, words):
    spoiled = spoil(scenes, frames_of(scenes, psf))
    with pytest.raises(BadInput, match=words):
        ridge_psf(*spoiled, psf_shape=PSF, ridge=0.1)
    with pytest.raises(BadInput, match=words):
        fit_free_form(*spoiled, FreeForm(), psf_shape=PSF)


def test_a_negative_ridge_and_a_choice_from_one_pair_are_refused(scenes, psf):
    with pytest.raises(BadInput, match="at least 0"):
        ridge_psf(scenes, frames_of(scenes, psf), psf_shape=PSF, ridge=-1.0)
    with pytest.raises(BadInput, match="at least 2"):
        choose((0.1,), lambda s, f, r: ridge_twin(s, f, ridge=r), scenes[:1], frames_of(scenes[:1], psf))
