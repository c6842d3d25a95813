"""Inversions that learn from pairs."""

import subprocess
import sys

import numpy as np
import pytest
import torch
from pydantic import ValidationError
from scipy.ndimage import gaussian_filter

from labctl.errors import BadInput, RunFailed
from protocols.inversion.examples import Exposed, Pairs, through
from protocols.inversion.gaussian import FrameCovariance, NormalPictures
from protocols.inversion.learned import UNet, Unrolled
from protocols.inversion.lmmse import Lmmse
from protocols.inversion.method import FitBudget, FitRun
from protocols.inversion.methods import load_fitted, save_fitted
from protocols.inversion.problem import LinearCamera
from protocols.inversion.regression import Regression
from protocols.inversion.variational import Tikhonov
from protocols.inversion.wiener import Wiener

SCENE, PSF = (15, 15), (8, 8)
BUDGET = FitBudget(steps=40, batch=8, validate_every=20, patience=10)
LMMSE = Lmmse(shares=(0.0, 0.8), noises=(1e-2, 0.1))
UNROLLED = Unrolled(steps=3, width=6, rate=1e-2)
METHODS = [
    LMMSE,
    Regression(copies=2),
    UNROLLED,
    UNet(start=LMMSE, width=8, levels=2, rate=3e-3, copies=1),
    UNet(start=Regression(copies=2), width=8, levels=2, rate=3e-3, copies=1),
]


def soft(count, seed):
    """Pictures of one kind (count, 1, 15, 15): three blobs of light, each near a place of its own."""
    draws = np.random.default_rng(seed)
    drawn = np.zeros((count, *SCENE))
    for row, column in ((4, 4), (4, 11), (11, 7)):
        places = np.rint(draws.normal(0, 1, (count, 2))).astype(int).clip(-2, 2)
        drawn[np.arange(count), row + places[:, 0], column + places[:, 1]] += draws.uniform(0.3, 1, count)
    drawn = gaussian_filter(drawn, (0, 1.5, 1.5))
    return torch.from_numpy(drawn / drawn.max())[:, None].float()


@pytest.fixture(scope="module")
def camera():
    psf = (np.random.default_rng(0).random((1, *PSF)) < 0.5).astype(np.float32)
    return LinearCamera.of_border(torch.from_numpy(psf), SCENE, "valid")


@pytest.fixture(scope="module")
def sets(camera):
    see = through(camera, 0.01)
    return Exposed(soft(120, 1), see), Exposed(soft(30, 2), see)


def judged(camera, seed=9):
    pictures = soft(30, 3)
    frames, _ = through(camera, 0.01)(pictures, torch.Generator().manual_seed(seed))
    return pictures, frames


def fitted(method, sets, budget=BUDGET, **kept):
    return method.fit(*sets, FitRun(budget, torch.Generator().manual_seed(4), **kept))


def mse(found, true):
    return float((found - true).square().mean())


@pytest.mark.parametrize("method", METHODS, ids=lambda m: m.method + (m.start.method if isinstance(m, UNet) else ""))
def test_what_was_learned_beats_the_mean_picture_and_lasts_on_disk(method, camera, sets, tmp_path):
    found = fitted(method, sets)
    pictures, frames = judged(camera)
    inverted = found.invert(frames, camera)
    mean = sets[0].pictures.mean(0, keepdim=True).expand_as(pictures)
    assert mse(inverted, pictures) < (0.75 if method is UNROLLED else 0.4) * mse(mean, pictures)
    torch.testing.assert_close(found.invert(frames[3:4], camera), inverted[3:4], atol=1e-5, rtol=0)
    save_fitted(tmp_path / "inversion.pt", method, found)
    again = load_fitted(tmp_path / "inversion.pt", method)
    assert again.record == found.record
    torch.testing.assert_close(again.invert(frames, camera), inverted, atol=1e-6, rtol=0)
    with pytest.raises(RunFailed, match="another inversion"):
        load_fitted(tmp_path / "inversion.pt", Lmmse(rank=7))


@pytest.mark.parametrize("method", METHODS[2:4], ids=lambda m: m.method)
def test_a_network_is_better_for_having_learned(method, camera, sets):
    found = fitted(method, sets)
    (_, first), *_, (_, last) = found.record.curve
    assert found.record.validation_mse < 0.99 * first
    assert found.record.steps == BUDGET.steps
    assert found.record.ended_by == "budget"
    assert found.record.validation_mse <= last


def test_training_ends_when_validation_gets_no_better(sets):
    hopeless = Unrolled(steps=1, width=4, rate=1e-9)
    record = fitted(hopeless, sets, FitBudget(steps=500, batch=2, validate_every=1, patience=2)).record
    assert record.ended_by == "converged"
    assert record.steps < 30


def test_the_network_of_the_best_look_is_kept(camera, sets):
    frames, _ = through(camera, 0.01)(soft(10, 2), torch.Generator().manual_seed(2))
    validation = Pairs(soft(10, 2), frames, camera)
    wild = Unrolled(steps=1, width=4, rate=0.3)
    found = fitted(wild, (sets[0], validation), FitBudget(steps=4, batch=4, validate_every=1, patience=50))
    assert found.record.best_step < 4
    assert found.record.validation_mse < found.record.curve[-1][1]
    assert mse(found.invert(frames, camera), validation.pictures) == pytest.approx(
        found.record.validation_mse, rel=1e-5
    )


def test_an_interrupted_fit_ends_as_an_uninterrupted_one(camera, sets, tmp_path):
    method, budget = Unrolled(steps=1, width=4, rate=1e-3), FitBudget(steps=30, batch=4, validate_every=10)
    frames = judged(camera)[1]
    whole = fitted(method, sets, budget)

    class Interrupted(Exception):
        pass

    def stop(step, steps, error):
        if step == 20:
            raise Interrupted

    with pytest.raises(Interrupted):
        fitted(method, sets, budget, checkpoint=tmp_path / "fit.pt", watch=stop)
    assert (tmp_path / "fit.pt").exists()
    again = fitted(method, sets, budget, checkpoint=tmp_path / "fit.pt")
    assert not (tmp_path / "fit.pt").exists()
    assert again.record == whole.record
    torch.testing.assert_close(again.invert(frames, camera), whole.invert(frames, camera), atol=0, rtol=0)


def test_pictures_seen_before_beat_the_best_ridge(camera, sets):
    pictures, frames = judged(camera)
    ridges = [mse(Tikhonov(ridge=r).invert(frames, camera), pictures) for r in (1e-3, 1e-2, 0.1, 1.0)]
    assert mse(fitted(LMMSE, sets).invert(frames, camera), pictures) < 0.5 * min(ridges)


def test_the_best_linear_estimate_is_that_of_the_dense_matrices(camera):
    prior = NormalPictures.of(soft(20, 1), 1000)
    frames = judged(camera)[1][:2]
    units = torch.eye(225).reshape(225, 1, *SCENE)
    covariance = prior.spread(units, 0.7).flatten(1).double()
    matrix = camera.forward(units).flatten(1).T.double()
    seen = matrix @ covariance @ matrix.T
    mean = prior.mean.flatten().double()
    level = seen.diagonal().mean() + (matrix @ mean).square().mean()
    gain = covariance @ matrix.T @ torch.linalg.inv(seen + 0.1**2 * level * torch.eye(64))
    dense = mean + (gain @ (frames.flatten(1).double() - matrix @ mean).T).T
    found = FrameCovariance(prior, camera).estimate(frames, 0.7, 0.1)
    torch.testing.assert_close(found.flatten(1).double(), dense, atol=1e-4, rtol=1e-4)
    torch.testing.assert_close(covariance, covariance.T, atol=1e-6, rtol=1e-4)
    assert float(torch.linalg.eigvalsh(covariance).min()) > -1e-6
    by_distance = prior.spread(units, 0.0).flatten(1)
    assert float(by_distance.diagonal().std()) < 1e-4 * float(by_distance.diagonal().mean())
    of_the_sample = torch.cov(soft(20, 1).flatten(1).T)
    torch.testing.assert_close(prior.spread(units, 1.0).flatten(1), of_the_sample, atol=1e-6, rtol=1e-3)


def test_the_strongest_deviations_are_kept_whatever_the_number_of_pictures():
    for count in (40, 400):
        pictures = soft(count, 1)
        all_of_them, some = (NormalPictures.of(pictures, rank) for rank in (1000, 30))
        assert some.deviations.shape == (30, *SCENE)
        image = soft(2, 8)
        whole, kept = all_of_them.sample(image), some.sample(image)
        assert float((whole - kept).norm()) < 0.05 * float(whole.norm())


@pytest.mark.parametrize("known", [True, False])
def test_a_camera_that_changes_is_inverted_by_its_patterns_or_by_what_they_have_in_common(camera, known):
    def dynamic(pictures, generator):
        psf = (torch.rand(len(pictures), 1, *PSF, generator=generator) < 0.5).float()
        changing = LinearCamera.of_border(psf, SCENE, "valid")
        return changing.forward(pictures), changing if known else None

    sets = Exposed(soft(100, 1), dynamic), Exposed(soft(12, 2), dynamic)
    pictures = soft(12, 3)
    frames, changing = dynamic(pictures, torch.Generator().manual_seed(7))
    mean = mse(sets[0].pictures.mean(0, keepdim=True).expand_as(pictures), pictures)
    if known:
        for method, limit in ((Lmmse(shares=(0.8,), noises=(1e-2,)), 0.4), (UNROLLED, 0.75)):
            assert mse(fitted(method, sets).invert(frames, changing), pictures) < limit * mean
    else:
        found = fitted(Regression(), sets)
        assert mse(found.invert(frames), pictures) < mean
        for method in (LMMSE, Unrolled(), UNet(start=Wiener())):
            with pytest.raises(BadInput, match="needs to know the camera"):
                fitted(method, sets)


def test_recorded_pairs_teach_as_well_as_pictures_that_are_exposed_anew(camera):
    frames, _ = through(camera, 0.01)(soft(120, 1), torch.Generator().manual_seed(1))
    seen, _ = through(camera, 0.01)(soft(30, 2), torch.Generator().manual_seed(2))
    recorded = Pairs(soft(120, 1), frames), Pairs(soft(30, 2), seen)
    found = fitted(UNet(start=Regression(), width=8, levels=2), recorded)
    pictures, frames = judged(camera)
    mean = recorded[0].pictures.mean(0, keepdim=True).expand_as(pictures)
    assert mse(found.invert(frames, None), pictures) < 0.4 * mse(mean, pictures)


def test_too_little_to_learn_from_and_other_grids_are_refused(camera, sets):
    see = through(camera, 0.01)
    for method in METHODS[:3]:
        with pytest.raises(BadInput, match="1 pairs to validate on"):
            fitted(method, (sets[0], Exposed(soft(1, 1), see)))
        with pytest.raises(BadInput, match="on one grid"):
            fitted(method, (sets[0], Exposed(soft(4, 1)[..., 1:], see)))
    with pytest.raises(ValidationError, match="greater than or equal to 1"):
        FitBudget(steps=0)
    with pytest.raises(BadInput, match="are no pairs"):
        Pairs(soft(3, 1), torch.zeros(2, 1, 8, 8))
    with pytest.raises(BadInput, match="resize them"):
        Pairs(soft(3, 1)[..., 1:], torch.zeros(3, 1, 8, 8), camera)
    large = LinearCamera.of_border(torch.ones(1, 2, 2), (90, 90), "same")
    pairs = Pairs(torch.rand(3, 1, 90, 90), torch.rand(3, 1, 90, 90), large)
    with pytest.raises(BadInput, match="the limit is 6400"):
        fitted(LMMSE, (pairs, pairs))


def test_importing_the_methods_imports_nothing_heavy():
    code = "import sys, protocols.inversion.methods; print(sorted({'torch', 'skimage', 'scipy'} & set(sys.modules)))"
    said = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True)
    assert said.stdout.strip() == "[]"
