from __future__ import annotations

import math
from types import SimpleNamespace

import numpy as np
import pytest
import scipy.linalg
import torch

from labctl.calibration.record import Calibration
from labctl.errors import BadInput, RunFailed
from labctl.rig_file import find_rig, load_rig
from protocols.simulation import ExposureRule, Simulation
from protocols.twin_fit import fit as fitting
from protocols.twin_fit.captures import joined
from protocols.twin_fit.fit import fit_from_many, fit_twin, whitening_of
from protocols.twin_fit.fitted import fitted_twin, posterior_of, twin_from
from protocols.twin_fit.fitting import _check_light, fit_bench
from protocols.twin_fit.identifiability import warnings_of
from protocols.twin_fit.noise import Whitening, variance_dn2
from protocols.twin_fit.page import twin_page
from protocols.twin_fit.patterns import fitted_patterns, held_out_patterns
from protocols.twin_fit.prediction import Predictor
from protocols.twin_fit.priors import Parameter, prior_of
from protocols.twin_fit.record import told_fit
from protocols.twin_fit.refit import TwinRefit
from protocols.twin_fit.taking import Taker
from protocols.twin_fit.validation import foretold_by, held_out_error
from tests.protocols.small_rig import SMALL_RIG
from tests.protocols.twin_benches import CELLS, SCENE_PX, bench

SEED = 2
NAMED = {
    "shift_px": (1.6, -0.9), "rotation_deg": 1.8, "scale": 1.02, "blur_px": 0.6, "panel_gamma": 1.9, "contrast": 50.0,
    "vignetting": 0.3, "dark_offset": 0.02, "stray": 0.05, "gap_error": 0.02,
}  # fmt: skip
CHANGES = tuple(f"world.{name}={list(value) if isinstance(value, tuple) else value}" for name, value in NAMED.items())


@pytest.fixture(scope="module")
def taken(tmp_path_factory):
    """Captures of one bench with known errors, and its fit."""
    with bench(tmp_path_factory.mktemp("twin"), seed=SEED, changes=CHANGES) as here:
        prior = prior_of(here.rig.spec, {})
        taker = Taker(here, prior)
        fitted, held_out = (
            taker.take(name, made(CELLS, SCENE_PX))
            for name, made in (("fitted", fitted_patterns), ("held_out", held_out_patterns))
        )
        found = fit_twin(here.rig.spec, fitted, prior)
        judged = held_out_error(here.rig.spec, found, held_out)
        recorded = told_fit(
            here, found, judged, settings={"limit": 1.5}, readings={}, warnings=("careful",), max_age_s=60.0, began=0.0
        )
        return SimpleNamespace(
            spec=here.rig.spec, prior=prior, captures=fitted, held_out=held_out, exposures=here.taken,
            fit=found, judged=judged, calibration=recorded,
        )  # fmt: skip


def test_the_fit_finds_the_bench_from_two_pixels_and_two_degrees_off(taken):
    true = {**NAMED, "rotation_rad": math.radians(1.8), "leak": 1 / 50, "monitor_gamma": 2.2, "tilt_rad": (0.0, 0.0),
            "shift_px": (1.6, -0.9), "crosstalk": 0.0, "photons_per_s": 15_000.0}  # fmt: skip
    away = {}
    for p, number, error in zip(taken.prior.parameters, taken.fit.numbers, taken.fit.errors, strict=True):
        expected = true[p.name] if p.index is None else true[p.name][p.index]
        away[p.label] = (number - expected) / error
    assert max(abs(z) for z in away.values()) < 4, away
    assert 0.4 < np.sqrt(np.mean(np.square(list(away.values())))) < 1.7
    at = {p.label: e for p, e in zip(taken.prior.parameters, taken.fit.errors, strict=True)}
    assert at["shift_px[0]"] < 0.03
    assert at["panel_gamma"] < 0.01


def test_frames_that_were_not_fitted_are_foretold_to_their_noise(taken):
    judged = taken.judged
    assert judged.before > 3
    assert 0.9 < judged.after < 1.15
    assert judged.after_dn == pytest.approx(judged.after * judged.floor_dn, rel=0.1)
    assert taken.exposures < 60
    assert taken.captures.saturated_share < 1e-3


def test_what_the_residuals_tell_of_single_pixels_is_in_the_maps(taken):
    world = taken.spec.world.make(taken.spec.twin, taken.spec.roads, None)
    pixels = world._twin.sensor.pixel_gain.numpy()
    smooth = 1 - taken.fit.numbers[[p.name for p in taken.prior.parameters].index("vignetting")] * (
        world._twin.sensor.radius_squared.numpy()
    )
    found = taken.fit.flat_map / smooth
    assert np.corrcoef(found.ravel(), pixels.ravel())[0, 1] > 0.8
    assert (found - pixels).std() < 0.7 * pixels.std()
    columns = world._twin.sensor.offset_dn((16, 16)).numpy()
    assert np.abs(taken.fit.dark_map_dn - columns).max() < 6 * taken.fit.dark_error_dn.max()


def test_slopes_are_differences_of_frames(taken):
    predictor = Predictor.of_rig(
        taken.spec, taken.spec.roads, taken.captures.some([0, 5, 13, 18]), taken.prior.parameters, {}
    )
    at = taken.fit.numbers.copy()
    _, slopes = predictor.frames_and_slopes(at)
    steps = {"shift_px": 0.06, "rotation_rad": 4e-3, "scale": 4e-3}
    for place, parameter in enumerate(taken.prior.parameters):
        step = steps.get(parameter.name, 2e-3 * parameter.sigma)
        ends = []
        for sign in (1, -1):
            moved = at.copy()
            moved[place] = min(max(at[place] + sign * step, parameter.low), parameter.high)
            ends.append((moved[place], predictor.frames(moved)))
        found = (ends[0][1] - ends[1][1]) / (ends[0][0] - ends[1][0])
        assert np.abs(slopes[place] - found).max() < 0.05 * np.abs(found).max(), parameter.label


def test_whitened_residuals_weigh_what_their_covariance_says():
    rng = np.random.default_rng(0)
    signal, usable = rng.uniform(50, 900, (5, 1, 2)), np.ones((5, 1, 2), dtype=bool)
    usable[3, 0, 0] = False
    noise = {"gain_dn_per_e": 0.4, "read_noise_e": 3.0}
    residual = rng.normal(0, 20, (5, 1, 2))
    white = Whitening.of(signal, usable, flat_sigma=np.array(0.02), dark_sigma_dn=np.array(4.0), **noise)
    for column in (0, 1):
        use = usable[:, 0, column]
        s, r = signal[use, 0, column], residual[use, 0, column]
        covariance = np.diag(variance_dn2(s, **noise)) + 0.02**2 * np.outer(s, s) + 4.0**2
        expected = r @ scipy.linalg.solve(covariance, r)
        assert (white(residual)[:, 0, column] ** 2).sum() == pytest.approx(expected, rel=1e-9)
        found, error = white.pattern_of(residual)
        patterns = np.stack((0.02 * s, np.full(len(s), 4.0)), axis=1)
        gains = patterns.T @ scipy.linalg.solve(covariance, np.column_stack((r, patterns)))
        np.testing.assert_allclose(found[0, column], gains[:, 0], rtol=1e-9)
        np.testing.assert_allclose(error[0, column] ** 2, 1 - np.diag(gains[:, 1:]), rtol=1e-6)


def test_saturated_pixels_count_for_nothing(taken):
    some = taken.captures.some([0, 5, 13])
    frames = some.frames.copy()
    frames[:, 4:8, 4:8], frames[:, 9, 9] = some.saturation_dn, 0
    spoiled = type(some)(**{**vars(some), "frames": frames})
    predictor = Predictor.of_rig(taken.spec, taken.spec.roads, spoiled, taken.prior.parameters, {})
    whitening = whitening_of(predictor, taken.prior, taken.fit.numbers)
    residual = predictor.frames(taken.fit.numbers) - frames
    weighed = whitening(residual)
    assert np.abs(weighed[:, 4:8, 4:8]).max() == 0 == np.abs(weighed[:, 9, 9]).max()
    assert np.sqrt(np.square(weighed).mean()) < 1.2
    assert np.abs(residual[:, 4:8, 4:8]).min() > 500


def test_a_value_that_is_not_fitted_stays_at_its_prior(taken):
    prior = prior_of(taken.spec, {}, fit=("shift_px", "photons_per_s", "log_contrast"))
    assert [p.label for p in prior.parameters] == ["shift_px[0]", "shift_px[1]", "leak", "photons_per_s"]
    assert prior.fixed["panel_gamma"] == 2.2
    assert prior.fixed["blur_px"] == 0.6


def by_hand(kind: str, values: dict[str, tuple[object, object]], arrays: dict[str, np.ndarray]) -> Calibration:
    from labctl.calibration.record import CalibrationRecord, Value

    record = CalibrationRecord(
        kind=kind, rig="r", rig_hash="0", bench_hash="0", made=1.0, max_age_s=1.0, labctl="0",
        values={name: Value(value=value, error=error, unit="1") for name, (value, error) in values.items()},
    )  # fmt: skip
    return Calibration(record, arrays)


def test_a_leak_without_an_error_of_its_own_is_no_surer_than_the_table(taken):
    table, error = np.linspace(0, 1, 256), np.full(256, 3e-3)
    for contrast, said, sigma in ((1e9, None, 3e-3), (50.0, 0.0, 4e-3), (50.0, 1.0, 4e-4)):
        found = by_hand("panel_response", {"contrast": (contrast, said)}, {"table": table, "table_error": error})
        leak = next(p for p in prior_of(taken.spec, {"panel_response": found}).parameters if p.label == "leak")
        assert (leak.mean, leak.sigma) == pytest.approx((1 / contrast, sigma))


def test_calibrations_become_priors_with_their_errors_and_their_maps_are_taken_over(taken):
    table = np.linspace(0.02, 1, 256) ** 1.5
    prior = prior_of(
        taken.spec,
        {
            "dark": by_hand("dark", {}, {"dark_dn": np.full((16, 16), 70.0), "dark_dn_error": np.full((16, 16), 0.3)}),
            "flat": by_hand("flat", {}, {"flat": np.full((16, 16), 0.9), "flat_error": np.full((16, 16), 0.004)}),
            "photon_transfer": by_hand(
                "photon_transfer", {"gain_dn_per_e": (0.41, 0.01), "read_noise_e": (4.0, 0.1)}, {}
            ),
            "registration": by_hand(
                "registration", {"shift_px": ((1.5, -0.8), (0.05, 0.04)), "rotation_rad": (0.03, 0.002)}, {}
            ),
            "panel_response": by_hand("panel_response", {"contrast": (50.0, 1.0)}, {"table": table}),
        },
    )
    there = {p.label: p for p in prior.parameters}
    assert not {"dark_offset", "vignetting", "panel_gamma"} & set(there)
    assert (there["shift_px[1]"].mean, there["shift_px[1]"].sigma) == (-0.8, 0.04)
    assert there["shift_px[0]"].source == "calibration `registration`"
    assert (there["leak"].mean, there["leak"].sigma) == (0.02, pytest.approx(1 / 50**2))
    assert prior.fixed["panel_lut"][0] == 0
    assert prior.fixed["panel_lut"][-1] == 1
    assert (prior.fixed["gain_dn_per_e"], prior.fixed["read_noise_e"]) == (0.41, 4.0)
    assert (float(prior.flat_sigma.max()), float(prior.dark_sigma_dn.max())) == (0.004, 0.3)
    assert prior.remarks == ()
    assert len(prior_of(taken.spec, {}).remarks) == 3


def test_the_calibration_file_brings_back_the_very_twin(taken, tmp_path):
    spec, found = taken.spec, taken.calibration
    again = Calibration.load(found.save(tmp_path / "twin.npz"))
    twin = fitted_twin(spec, again)
    assert twin.dtype == torch.float32
    assert not list(twin.parameters())
    labels, numbers, covariance = posterior_of(again)
    assert float(twin.shift_px[1]) == pytest.approx(numbers[labels.index("shift_px[1]")], abs=1e-6)
    assert covariance.shape == (len(labels), len(labels))
    assert np.linalg.eigvalsh(covariance).min() > 0
    mask, scene = np.random.default_rng(5).random((16, 16)), torch.rand(1, 1, 31, 31)
    simulation = Simulation(spec, ExposureRule(0.9, 1e-3), twin=twin)
    frame = simulation.frames(simulation.shown(scene), torch.from_numpy(mask).float())
    assert frame.shape == (1, 1, 16, 16)
    plain = Simulation(spec, ExposureRule(0.9, 1e-3))
    assert float((frame - plain.frames(plain.shown(scene), torch.from_numpy(mask).float())).abs().mean()) > 5
    assert found.record.values["error_after"].value < 1.2 < 3 < found.record.values["error_before"].value
    assert found.record.exposures == taken.exposures


def test_a_twin_of_another_kind_bench_or_rig_file_is_refused(taken):
    spec, found = taken.spec, taken.calibration
    other = load_rig(find_rig("as-built"), overrides=[*SMALL_RIG, "world.seed=99"])
    with pytest.raises(BadInput, match="the fitted twin is foreign"):
        fitted_twin(other, found)
    changed = load_rig(
        find_rig("as-built"), overrides=[*SMALL_RIG, f"world.seed={SEED}", *CHANGES, "twin.optics.gap_m=0.011"]
    )
    with pytest.raises(BadInput, match="`optics` of the rig file changed since; fit it anew"):
        fitted_twin(changed, found)
    with pytest.raises(BadInput, match="of kind `dark` is no fitted twin; give the output `twin`"):
        fitted_twin(spec, by_hand("dark", {}, {}))


def test_a_twin_that_does_not_converge_is_refused_with_its_picture(tmp_path, monkeypatch):
    monkeypatch.setattr(fitting, "STARTS", ())
    monkeypatch.setattr(fitting, "EVALUATIONS", 3)
    with (
        bench(tmp_path, changes=("world.rotation_deg=20",)) as here,
        pytest.raises(RunFailed, match=r"errs by .* times the noise on held-out frames, 1.5 is allowed") as refused,
    ):
        fit_bench(here, {})
    assert (tmp_path / "refused" / "twin.png").stat().st_size > 10_000
    assert str(tmp_path / "refused" / "twin.png") in str(refused.value)


def test_a_bench_without_light_is_refused(tmp_path):
    with (
        bench(tmp_path, changes=("twin.light.photons_per_s=0.001",)) as here,
        pytest.raises(
            RunFailed,
            match=r"the frames are empty: a white scene through the open panel gives .* DN.*switch the lamp on",
        ),
    ):
        fit_bench(here, {})


def test_saturated_captures_are_refused(taken, tmp_path):
    full = type(taken.captures)(**{**vars(taken.captures), "frames": np.full_like(taken.captures.frames, 4095)})
    with bench(tmp_path) as here, pytest.raises(RunFailed, match=r"100\.0 % of the pixels are saturated at 4095 DN"):
        _check_light(here, full)


def test_values_that_cannot_be_told_apart_are_named():
    wide = {"low": -9.0, "high": 9.0, "unit": "1", "source": "wide, round the rig file"}
    parameters = tuple(Parameter(name, None, 0.0, 1.0, **wide) for name in ("scale", "gap_error", "crosstalk"))
    covariance = np.array([[0.01, 0.00995, 0.0], [0.00995, 0.01, 0.0], [0.0, 0.0, 0.81]])
    said = warnings_of(parameters, np.array([0.1, 0.2, 8.9999]), covariance)
    assert said[0].startswith("the captures hardly tell crosstalk: its error is 0.9, that of the prior 1")
    assert said[1].startswith("scale and gap_error cannot be told apart (correlation +0.995)")
    assert said[2].startswith("crosstalk stands at 9, the limit of its search")
    assert len(said) == 3
    assert warnings_of(parameters[:2], np.zeros(2), np.diag([0.01, 0.01])) == []


def test_other_starts_are_tried_when_the_first_ends_badly(taken, monkeypatch):
    tried = []

    def lost(spec, captures, prior, *, roads=None, start=None):
        tried.append(start)
        return SimpleNamespace(residual=9.0 if len(tried) < 3 else 1.0)

    monkeypatch.setattr(fitting, "fit_twin", lost)
    assert fit_from_many(taken.spec, taken.captures, taken.prior).residual == 1.0
    assert tried[0] is None
    assert [round(start["shift_px[0]"], 2) for start in tried[1:]] == [1.8, 1.8]


def test_the_page_shows_the_fit(taken):
    figure = twin_page(taken.calibration)
    titles = [axes.get_title(loc="left") + axes.get_title() for axes in figure.axes]
    assert "Fitted values" in titles
    assert any("by the rig file" in title for title in titles)


# Refitting as captures come in


def refit_of(taken, **changes):
    values = {name: value for name, value in taken.fit.values.items()} | changes
    twin = twin_from(taken.spec, values, dtype=torch.float32, margin_px=taken.fit.margin_px)
    return TwinRefit(twin)


def batches(taken, refit, count):
    for k in range(count):
        mask = k % 6
        some = taken.captures.some(np.flatnonzero(taken.captures.mask_of == mask))
        shown = refit.twin.through_monitor(torch.from_numpy(some.scenes)[:, None].float())
        yield (shown, torch.from_numpy(some.masks[mask]), torch.from_numpy(some.exposure_s),
               torch.from_numpy(some.frames.astype(np.float32))[:, None])  # fmt: skip


def test_a_twin_follows_a_bench_that_moved(taken):
    moved = np.array([1.6, -0.9]) + np.array([-0.5, 0.4])
    refit = refit_of(taken, shift_px=moved, photons_per_s=14_000.0)
    for batch in batches(taken, refit, 18):
        refit.update(*batch)
    assert refit.twin.shift_px.numpy() == pytest.approx([1.6, -0.9], abs=0.05)
    assert float(refit.twin.photons_per_s) == pytest.approx(15_000, rel=0.01)
    assert refit.residual < 1.1
    assert refit.errors["shift_px[0]"] < 0.05


def test_a_refit_goes_on_from_its_checkpoint_to_the_same_bits(taken):
    whole, first = refit_of(taken, blur_px=0.8), refit_of(taken, blur_px=0.8)
    for batch in batches(taken, whole, 6):
        whole.update(*batch)
    for batch in batches(taken, first, 3):
        first.update(*batch)
    again = refit_of(taken, blur_px=0.8)
    again.load_state_dict(first.state_dict())
    for batch in list(batches(taken, again, 6))[3:]:
        again.update(*batch)
    assert torch.equal(whole.twin.blur_px, again.twin.blur_px)
    assert np.array_equal(whole.information, again.information)
    assert again.updates == 6


def test_a_refit_names_what_it_cannot_learn(taken):
    twin = twin_from(taken.spec, dict(taken.fit.values), dtype=torch.float32, margin_px=taken.fit.margin_px)
    with pytest.raises(BadInput, match="a twin is not refitted in focus; it can be in blur_px"):
        TwinRefit(twin, ("focus",))
    with pytest.raises(BadInput, match="nothing is left to refit"):
        TwinRefit(twin, ("vignetting", "dark_offset"))
    assert [p.name for p in TwinRefit(twin, ("stray", "vignetting")).parameters] == ["stray"]


def test_captures_joined_keep_frames_and_masks_together(taken):
    parts = [taken.captures.some([0, 1]), taken.held_out.some([6])]
    both = joined(parts)
    assert both.frames.shape[0] == 3
    assert np.array_equal(both.masks[both.mask_of[2]], taken.held_out.masks[taken.held_out.mask_of[6]])
    twin = twin_from(taken.spec, taken.fit.values, dtype=torch.float64, margin_px=taken.fit.margin_px)
    assert np.allclose(foretold_by(twin, both)[2], foretold_by(twin, parts[1])[0])
