"""A free-form rest of the PSF: what it finds of a ghost, and that it finds none where there is none."""

from __future__ import annotations

from dataclasses import replace
from types import SimpleNamespace

import numpy as np
import pytest
import torch

from protocols.twin_fit import fit, fitting, residual_psf
from protocols.twin_fit.captures import Captures
from protocols.twin_fit.fit import fit_twin
from protocols.twin_fit.fitted import fitted_twin, twin_from
from protocols.twin_fit.fitting import fit_bench
from protocols.twin_fit.noise import variance_of
from protocols.twin_fit.page import twin_page
from protocols.twin_fit.patterns import fitted_patterns, held_out_patterns
from protocols.twin_fit.priors import prior_of
from protocols.twin_fit.taking import Taker
from protocols.twin_fit.validation import foretold_by, held_out_error
from tests.protocols.twin_benches import CELLS, SCENE_PX, bench

GHOST_PLACE, GHOST_LIGHT = (3, 12), 0.12


@pytest.fixture(scope="module")
def plain(tmp_path_factory):
    """Captures of a bench without a ghost, and their fit."""
    with bench(tmp_path_factory.mktemp("plain"), seed=4) as here:
        prior = prior_of(here.rig.spec, {}, fit=("shift_px", "scale", "photons_per_s", "stray"))
        taker = Taker(here, prior)
        fitted, held_out = (
            taker.take(name, made(CELLS, SCENE_PX))
            for name, made in (("fitted", fitted_patterns), ("held_out", held_out_patterns))
        )
        found = fit_twin(here.rig.spec, fitted, prior_of(here.rig.spec, {}))
        return SimpleNamespace(spec=here.rig.spec, fitted=fitted, held_out=held_out, fit=found)


def ghost_on(shape: tuple[int, int]) -> np.ndarray:
    """(h, w) one soft spot beside the middle."""
    y, x = np.ogrid[: shape[0], : shape[1]]
    spot = np.exp(-((y - GHOST_PLACE[0]) ** 2 + (x - GHOST_PLACE[1]) ** 2) / 2)
    return GHOST_LIGHT * spot / spot.sum()


def with_ghost(plain: SimpleNamespace, captures: Captures, seed: int) -> Captures:
    """The captures as the fitted bench would have made them with a ghost, with noise of their own."""
    values = {**plain.fit.values, "psf_residual": ghost_on((16, 16))}
    twin = twin_from(plain.spec, values, dtype=torch.float64, margin_px=plain.fit.margin_px)
    frames = foretold_by(twin, captures)
    sigma = np.sqrt(variance_of(frames, twin.sensor))
    noisy = frames + sigma * np.random.default_rng(seed).standard_normal(frames.shape)
    return replace(captures, frames=np.clip(np.rint(noisy), 0, captures.saturation_dn).astype(np.uint16))


def test_a_ghost_is_found_and_held_out_frames_are_foretold_with_it(plain, monkeypatch):
    monkeypatch.setattr(residual_psf, "ROUNDS", 1)
    monkeypatch.setattr(residual_psf, "RIDGES", (0.1, 0.01))
    fitted, held_out = (
        with_ghost(plain, captures, seed) for seed, captures in ((1, plain.fitted), (2, plain.held_out))
    )
    without = fit_twin(plain.spec, fitted, plain.fit.prior)
    found, rest = residual_psf.with_residual_psf(plain.spec, without, fitted)
    before, after = (held_out_error(plain.spec, each, held_out).after for each in (without, found))
    assert before > 3
    assert after < 1.4  # in the first round: the values have yet to give back what they made up for
    assert rest.ridge is not None
    assert np.unravel_index(int(np.argmax(rest.weights)), rest.weights.shape) == GHOST_PLACE
    assert np.corrcoef(rest.weights.ravel(), ghost_on(rest.weights.shape).ravel())[0, 1] > 0.85
    assert rest.left_out < 0.8


def test_where_there_is_no_ghost_none_is_found_and_the_fit_stays(plain, monkeypatch):
    monkeypatch.setattr(residual_psf, "RIDGES", (0.1, 0.01))
    found, rest = residual_psf.with_residual_psf(plain.spec, plain.fit, plain.fitted)
    assert found is plain.fit
    assert rest.ridge is None
    assert rest.light == 0.0


def test_the_calibration_holds_the_rest_and_brings_it_back(tmp_path, plain, monkeypatch):
    def ghostly(taker: Taker, name: str, patterns: object) -> Captures:
        return with_ghost(plain, taken(taker, name, patterns), seed=len(name))

    taken = Taker.take
    monkeypatch.setattr(fit, "STARTS", ())
    monkeypatch.setattr(fit, "EVALUATIONS", 6)
    monkeypatch.setattr(residual_psf, "ROUNDS", 1)
    monkeypatch.setattr(residual_psf, "RIDGES", (0.01,))
    monkeypatch.setattr(fitting.Taker, "take", ghostly)
    with bench(tmp_path, seed=4) as here:
        twin = fit_bench(here, {}, limit=5.0, free_form=True)
    assert 0.5 * GHOST_LIGHT < twin.value("residual_light") < 3 * GHOST_LIGHT
    assert any("free-form rest of the PSF moves" in warning for warning in twin.record.warnings)
    residual = fitted_twin(plain.spec, twin).psf_residual
    assert residual is not None
    assert np.allclose(residual.numpy(), twin.arrays["psf_residual"], atol=1e-7)
    titles = [axes.get_title(loc="left") + axes.get_title() for axes in twin_page(twin).axes]
    assert any(title.startswith("Rest of the PSF") for title in titles)
