"""The picture back from a lensless frame."""

import numpy as np
import pytest
import torch

from labctl.errors import BadInput
from protocols.inversion.variational import AdmmTv, Tikhonov
from protocols.reconstruction import best_method, qualities, quality, reconstruct
from protocols.twin_fit.free_form import FreeFormTwin, SceneResponse, ridge_twin
from tests.protocols.lensless_pictures import caustic, pictures

SHAPE = (48, 64)


def camera(*, field=None, curve=0.0, background=0.0):
    psf = 0.5 * caustic((33, 41), seed=2)[None]
    response = SceneResponse(torch.ones(SHAPE) if field is None else field, curve)
    return FreeFormTwin(psf, (16, 20), SHAPE, response, torch.tensor([background]))


def exposed(twin, scenes, noise=0.002):
    clean = twin.predict(scenes)
    return clean + noise * torch.from_numpy(np.random.default_rng(0).standard_normal(tuple(clean.shape))).float()


@pytest.fixture(scope="module")
def scenes():
    return pictures(3, SHAPE)


@pytest.mark.parametrize("method", [Tikhonov(ridge=1.0), AdmmTv(total_variation=1e-3, brightest=None)])
def test_a_reconstruction_is_far_nearer_to_the_picture_than_its_frame(scenes, method):
    twin = camera()
    frames = exposed(twin, scenes, noise=0.0005)
    for frame, scene in zip(frames, scenes, strict=True):
        raw = quality(frame * (frame * scene).sum() / frame.square().sum(), scene)
        found = quality(reconstruct(frame, twin, method), scene)
        assert found.psnr_db > raw.psnr_db + 3
        assert found.ssim > raw.ssim + 0.1


def test_light_is_turned_back_into_picture_values(scenes):
    field = torch.linspace(0.6, 1.4, SHAPE[1]).expand(SHAPE)
    twin = camera(field=field, curve=0.3, background=0.05)
    frame = exposed(twin, scenes)[0]
    method = AdmmTv(iterations=100, brightest=None)
    right = quality(reconstruct(frame, twin, method), scenes[0]).psnr_db
    for response, background in ((SceneResponse(torch.ones(SHAPE)), twin.background), (twin.response, torch.zeros(1))):
        ignorant = FreeFormTwin(twin.psf, twin.start, SHAPE, response, background)
        assert right > quality(reconstruct(frame, ignorant, method), scenes[0]).psnr_db + 2


def test_no_negative_light_and_no_variation_beat_the_best_ridge(scenes):
    twin = camera()
    frame = exposed(twin, scenes, noise=0.005)[0]
    linear = [quality(reconstruct(frame, twin, Tikhonov(ridge=r)), scenes[0]).psnr_db for r in 10.0 ** np.arange(-3, 2)]
    assert (
        quality(reconstruct(frame, twin, AdmmTv(total_variation=1e-3, brightest=None)), scenes[0]).psnr_db
        > max(linear) + 1
    )


def test_the_method_with_the_best_pictures_is_chosen(scenes):
    twin = camera()
    frames = exposed(twin, scenes, noise=0.01)
    candidates = (Tikhonov(ridge=1e-6), Tikhonov(ridge=0.1), Tikhonov(ridge=1e3))
    pairs = [(scene, frame, twin) for scene, frame in zip(scenes, frames, strict=True)]
    chosen, means = best_method(candidates, pairs)
    assert chosen is candidates[1]
    assert means[1] == max(means)


def test_quality_is_by_the_formula_and_knows_no_gain(scenes):
    true = scenes[0]
    shifted = (true * 0.5 + 0.1).clamp(0, 1)
    mse = float((shifted - true).double().square().mean())
    assert quality(shifted, true).psnr_db == pytest.approx(-10 * np.log10(mse), abs=1e-4)
    assert quality(shifted, true).ssim < 0.9 < quality((true + 0.001).clamp(0, 1), true).ssim


def test_what_only_the_middle_shows_is_judged_in_the_middle(scenes):
    found = scenes.clone()
    found[..., :8] = 0
    whole, centre = qualities(found, scenes), qualities(found, scenes, centre=(24, 32))
    assert [one.ssim for one in centre] == pytest.approx([1.0] * 3)
    assert all(one.psnr_db < 30 for one in whole)
    assert whole[0] == quality(found[0], scenes[0])
    with pytest.raises(BadInput, match="ask for less"):
        qualities(found, scenes, centre=(49, 10))


def test_a_frame_of_another_camera_is_refused(scenes):
    with pytest.raises(BadInput, match="the twin was fitted to"):
        reconstruct(torch.zeros(1, 10, 10), camera(), Tikhonov())
    with pytest.raises(BadInput, match="cannot be judged"):
        quality(scenes[0], scenes[0][:, :-1])


def test_a_twin_from_a_ridge_reconstructs_too(scenes):
    frames = exposed(camera(), scenes, noise=0.0)
    twin = ridge_twin(scenes[:2], frames[:2], ridge=1e-4, psf_shape=(33, 41))
    assert quality(reconstruct(frames[2], twin, Tikhonov(ridge=0.1)), scenes[2]).psnr_db > 14
