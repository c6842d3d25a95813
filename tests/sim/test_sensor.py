from __future__ import annotations

import numpy as np
import pytest
import torch

from labctl.errors import BadInput
from labctl.exposure import FrameTag
from sim.noise import KeyedDraws, TorchDraws
from sim.optics.colour import mosaic
from sim.sensor import Sensor, SensorSettings, convert, shot_noise

DOUBLE = torch.float64


def settings(**changes) -> SensorSettings:
    return SensorSettings.model_validate({"shape": (64, 64), "pitch_m": 208e-6} | changes)


def sensor(**changes) -> Sensor:
    return Sensor(settings(**changes), dtype=DOUBLE)


def light(photons_per_s: float, n: int = 1, size: int = 64) -> torch.Tensor:
    return torch.full((n, 1, size, size), photons_per_s, dtype=DOUBLE)


def keyed(n: int, seed: int = 3) -> KeyedDraws:
    return KeyedDraws(seed, [FrameTag(i) for i in range(n)])


@pytest.mark.parametrize("electrons", [0.0, 5.0, 400.0, 6000.0])
def test_mean_and_variance_are_those_of_shot_and_read_noise(electrons):
    chip = sensor(read_noise_e=3.0, full_well_e=10_000, bits=10)
    n = 20
    frames = chip.expose(light(electrons / 0.6, n), exposure_s=1.0, draws=keyed(n), quantise=False)
    found_e = (frames / chip.gain_dn_per_e).numpy()
    variance, count = electrons + 9.0, found_e.size
    assert found_e.mean() == pytest.approx(electrons, abs=5 * np.sqrt(variance / count))
    assert found_e.var() == pytest.approx(variance, rel=5 * np.sqrt(2 / count) + 5 / count)


def test_shot_noise_is_counted_in_whole_electrons():
    chip = sensor(read_noise_e=0.0)
    electrons = chip.expose(light(20), exposure_s=0.25, draws=keyed(1), quantise=False) / chip.gain_dn_per_e
    torch.testing.assert_close(electrons, electrons.round(), rtol=0, atol=1e-9)


def test_the_photon_transfer_slope_is_the_conversion_gain():
    chip = sensor(read_noise_e=2.0, conversion_gain_dn_per_e=0.05, bits=12, full_well_e=60_000)
    means, variances = [], []
    for electrons in (2000.0, 8000.0, 20_000.0, 40_000.0):
        frames = chip.expose(light(electrons / 0.6, 16), exposure_s=1.0, draws=keyed(16), quantise=False)
        means.append(float(frames.mean()))
        variances.append(float(frames.var()))
    slope = np.polyfit(means, variances, 1)[0]
    assert slope == pytest.approx(0.05, rel=0.03)


def test_the_response_is_linear_in_light_time_and_gain():
    chip = sensor()
    base = chip.expose(light(1000), exposure_s=0.5, quantise=False)
    torch.testing.assert_close(chip.expose(light(3000), exposure_s=0.5, quantise=False), 3 * base)
    torch.testing.assert_close(chip.expose(light(1000), exposure_s=2.0, quantise=False), 4 * base)
    torch.testing.assert_close(chip.expose(light(1000), exposure_s=0.5, gain_db=20.0, quantise=False), 10 * base)


def test_a_full_well_reaches_the_top_of_the_adc_and_no_further():
    chip = sensor(black_level_dn=32)
    full = chip.expose(light(10_000 / 0.6), exposure_s=1.0)
    assert torch.equal(full, torch.full_like(full, 1023))
    assert torch.equal(chip.expose(light(1e7), exposure_s=1.0), full)
    dark = chip.expose(light(0), exposure_s=1.0)
    assert torch.equal(dark, torch.full_like(dark, 32))


def test_dark_current_fills_the_well_with_time():
    chip = sensor(dark_current_e_per_s=100)
    electrons = chip.expose(light(0), exposure_s=7.0, quantise=False) / chip.gain_dn_per_e
    torch.testing.assert_close(electrons, torch.full_like(electrons, 700))


def test_frames_are_whole_dn_within_the_adc():
    chip = sensor(bits=8, read_noise_e=50.0)
    frames = chip.expose(light(2000, 4), exposure_s=0.01, draws=keyed(4))
    assert torch.equal(frames, frames.round())
    assert float(frames.min()) == 0
    assert float(sensor(bits=8).expose(light(1e9), exposure_s=1.0).max()) == 255


def test_the_adc_passes_gradients_inside_and_stops_them_where_it_clips():
    value = torch.tensor([-3.0, 0.4, 511.7, 2000.0], dtype=DOUBLE, requires_grad=True)
    convert(value, 1023).sum().backward()
    assert value.grad.tolist() == [0, 1, 1, 0]


def test_the_slope_of_shot_noise_matches_finite_differences_with_common_random_numbers():
    mean = torch.linspace(2, 500, 40, dtype=DOUBLE).reshape(1, 1, 5, 8).requires_grad_()
    count = shot_noise(mean, keyed(1))
    (slope,) = torch.autograd.grad(count.sum(), mean)
    eps = ((count - mean) / mean.sqrt()).detach()

    def with_these_numbers(mean):
        return mean + mean.sqrt() * eps

    step = 1e-4
    expected = (with_these_numbers(mean.detach() + step) - with_these_numbers(mean.detach() - step)) / (2 * step)
    torch.testing.assert_close(slope, expected, rtol=1e-6, atol=1e-6)


def test_the_slope_of_shot_noise_stays_bounded_in_the_dark():
    mean = torch.full((1, 1, 30, 30), 1e-3, dtype=DOUBLE, requires_grad=True)
    (slope,) = torch.autograd.grad(shot_noise(mean, keyed(1)).sum(), mean)
    assert float(slope.abs().max()) < 3


def test_noise_hangs_on_the_exposure_and_not_on_order_or_batch():
    chip = sensor()
    photons = torch.rand(3, 1, 16, 16, dtype=DOUBLE, generator=torch.Generator().manual_seed(0)) * 1000
    tags = [FrameTag(7), FrameTag(2), FrameTag(7, attempt=1)]

    def shoot(order):
        return chip.expose(photons[order], exposure_s=1.0, draws=KeyedDraws(5, [tags[i] for i in order]))

    whole = shoot([0, 1, 2])
    assert torch.equal(shoot([2, 0, 1]), whole[[2, 0, 1]])
    assert torch.equal(torch.cat([shoot([i]) for i in range(3)]), whole)
    other = chip.expose(photons[[0]], exposure_s=1.0, draws=KeyedDraws(5, [FrameTag(7, attempt=1)]))
    assert not torch.equal(other, whole[[0]])
    assert not torch.equal(chip.expose(photons[[0]], exposure_s=1.0, draws=KeyedDraws(6, tags[:1])), whole[[0]])


def test_keyed_noise_wants_one_tag_per_frame():
    with pytest.raises(BadInput, match="2 frames came for 1 exposure tags"):
        sensor().expose(light(1, 2), exposure_s=1.0, draws=keyed(1))


def test_training_noise_repeats_with_its_generator():
    chip = sensor()
    first, second = (
        chip.expose(light(500), exposure_s=1.0, draws=TorchDraws(torch.Generator().manual_seed(4))) for _ in range(2)
    )
    assert torch.equal(first, second)


def test_the_fixed_pattern_has_its_strength_and_a_region_is_a_cut_of_the_whole():
    chip = sensor(prnu=0.01, dsnu=0.001, column_offset=0.002, vignetting=0.3, dark_offset=0.02, map_seed=9)
    flat, offset = chip.flat((64, 64)), chip.offset_dn((64, 64)) / 1023
    assert float(chip.pixel_gain.std()) == pytest.approx(0.01, rel=0.1)
    assert float(flat[0, 0]) == pytest.approx(0.7, abs=0.05)
    assert float(flat[32, 32]) == pytest.approx(1.0, abs=0.05)
    assert float(offset.mean()) == pytest.approx(0.02, abs=0.002)
    assert float(offset.mean(0).std()) == pytest.approx(0.002, rel=0.4)
    assert torch.equal(chip.flat((20, 10)), flat[22:42, 27:37])
    assert torch.equal(sensor(prnu=0.01, map_seed=9).pixel_gain, chip.pixel_gain)


BAYER = {"colour": "grbg", "channel_response": (0.5, 1.0, 0.25)}


@pytest.mark.parametrize("region", [(20, 10), (21, 10), (20, 11), (21, 11)])
def test_a_region_of_a_bayer_sensor_is_a_cut_of_the_whole_and_knows_its_pattern(region):
    chip = sensor(**BAYER)
    photons = torch.rand(1, 3, 64, 64, dtype=DOUBLE, generator=torch.Generator().manual_seed(0)) * 1000
    top, left = ((64 - size) // 2 for size in region)
    cut = (..., slice(top, top + region[0]), slice(left, left + region[1]))
    whole = chip.expose(photons, exposure_s=1.0, quantise=False)
    part = chip.expose(photons[cut], exposure_s=1.0, quantise=False)
    assert torch.equal(part, whole[cut])
    response = torch.tensor([0.5, 1.0, 0.25], dtype=DOUBLE).reshape(1, 3, 1, 1)
    seen = mosaic(photons[cut] * response, chip.settings.pattern_of(region))
    torch.testing.assert_close(part, seen * 0.6 * chip.gain_dn_per_e)


def test_a_grey_picture_lights_every_pixel_of_a_bayer_sensor_by_its_response():
    frame = sensor(**BAYER).expose(light(1000), exposure_s=1.0, quantise=False)
    grey = sensor().expose(light(1000), exposure_s=1.0, quantise=False)
    assert sorted(set((frame / grey).flatten().tolist())) == pytest.approx([0.25, 0.5, 1.0])
    assert sensor().settings.pattern_of((10, 10)) is None


def test_colour_on_a_grey_sensor_is_refused():
    with pytest.raises(BadInput, match=r"the light has 3 channels, a grey sensor takes 1"):
        sensor().expose(light(1).expand(1, 3, 64, 64), exposure_s=1.0)


def test_a_frame_larger_than_the_sensor_is_refused():
    with pytest.raises(BadInput, match="the frame needs 65x65 pixels, the sensor has 64x64"):
        sensor().expose(light(1, size=65), exposure_s=1.0)


def test_each_frame_may_have_its_own_exposure_time():
    chip = sensor()
    frames = chip.expose(light(1000, 2), exposure_s=torch.tensor([0.1, 0.3], dtype=DOUBLE), quantise=False)
    torch.testing.assert_close(frames[1], 3 * frames[0])


@pytest.mark.parametrize(
    ("changes", "problem"),
    [
        ({"black_level_dn": 1023}, "black_level_dn is 1023.0; it must lie below 1023"),
        ({"exposure_limits_s": (2.0, 1.0)}, "the first must be the smaller one"),
    ],
)
def test_settings_that_contradict_themselves_are_refused(changes, problem):
    with pytest.raises(ValueError, match=problem):
        settings(**changes)
