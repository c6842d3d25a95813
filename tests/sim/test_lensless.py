from __future__ import annotations

import numpy as np
import pytest
import scipy.signal
import torch

from labctl.errors import BadInput
from sim.optics.lensless import Registration, convolve, convolve_window, gaussian_blur, scene_on_sensor, shadow_psf

GEOMETRY = {"pixel_pitch_m": 50e-6, "sensor_pitch_m": 208e-6, "gap_m": 10e-3, "scene_distance_m": 0.25, "cell_px": 4}
DOUBLE = torch.float64


def registration(shift=(0.0, 0.0), rotation=0.0, scale=1.0) -> Registration:
    return Registration(*(torch.tensor(value, dtype=DOUBLE) for value in (shift, rotation, scale)))


def disc_picture(size=32, radius=8.0) -> torch.Tensor:
    axis = torch.arange(size, dtype=DOUBLE) - (size - 1) / 2
    return torch.sigmoid(radius - torch.hypot(axis[:, None], axis[None, :]))


def test_an_aligned_panel_casts_exactly_its_block_means():
    picture = torch.rand(32, 32, dtype=DOUBLE)
    psf = shadow_psf(picture, registration=registration(), size_px=(8, 8), **GEOMETRY)
    blocks = picture.reshape(8, 4, 8, 4).mean(dim=(1, 3))
    torch.testing.assert_close(psf, blocks, rtol=0, atol=1e-12)


@pytest.mark.parametrize("pixel_px", [1, 2])
def test_panel_pixels_as_large_as_sensor_pixels_or_larger_keep_sharp_edges(pixel_px):
    picture = torch.rand(6, 6, dtype=DOUBLE)
    geometry = GEOMETRY | {"pixel_pitch_m": 200e-6 * pixel_px, "cell_px": 1}
    psf = shadow_psf(picture, registration=registration(), size_px=(6 * pixel_px, 6 * pixel_px), **geometry)
    expected = picture.repeat_interleave(pixel_px, 0).repeat_interleave(pixel_px, 1)
    torch.testing.assert_close(psf, expected, rtol=0, atol=1e-12)


def test_registration_moves_the_shadow_where_it_says_and_scales_its_area():
    picture = disc_picture()
    moved = shadow_psf(picture, registration=registration((2.0, -3.0)), size_px=(24, 24), **GEOMETRY)
    still = shadow_psf(picture, registration=registration(), size_px=(24, 24), **GEOMETRY)
    torch.testing.assert_close(moved, still.roll((2, -3), (0, 1)), rtol=0, atol=1e-12)
    grown = shadow_psf(picture, registration=registration(scale=1.1), size_px=(24, 24), **GEOMETRY)
    assert float(grown.sum() / still.sum()) == pytest.approx(1.21, rel=4e-3)


def test_a_quarter_turn_turns_rows_into_columns():
    picture = torch.rand(32, 32, dtype=DOUBLE)
    turned = shadow_psf(picture, registration=registration(rotation=np.pi / 2), size_px=(8, 8), **GEOMETRY)
    still = shadow_psf(picture, registration=registration(), size_px=(8, 8), **GEOMETRY)
    torch.testing.assert_close(turned, still.rot90(1), rtol=0, atol=1e-9)


def test_a_cell_below_one_sensor_pixel_is_refused():
    with pytest.raises(BadInput, match=r"a mask cell spans 0\.500 sensor pixels; at least 1 is needed"):
        shadow_psf(
            torch.ones(4, 4), registration=registration(), size_px=(4, 4), **GEOMETRY | {"sensor_pitch_m": 416e-6}
        )


def test_the_shadow_has_true_gradients_in_mask_and_registration():
    picture = disc_picture(16, 4.0).requires_grad_()
    shift = torch.tensor([0.313, -0.471], dtype=DOUBLE, requires_grad=True)
    rotation = torch.tensor(0.0217, dtype=DOUBLE, requires_grad=True)
    scale = torch.tensor(1.0173, dtype=DOUBLE, requires_grad=True)

    def shadow(picture, shift, rotation, scale):
        return shadow_psf(picture, registration=Registration(shift, rotation, scale), size_px=(6, 6), **GEOMETRY)

    assert torch.autograd.gradcheck(shadow, (picture, shift, rotation, scale), eps=1e-7, atol=1e-5)


def test_blur_keeps_energy_is_gaussian_and_is_nothing_at_sigma_zero():
    point = torch.zeros(41, 41, dtype=DOUBLE)
    point[20, 20] = 1.0
    blurred = gaussian_blur(point, 1.5)
    assert float(blurred.sum()) == pytest.approx(1.0, abs=1e-12)
    variance = float((blurred.sum(1) * (torch.arange(41, dtype=DOUBLE) - 20) ** 2).sum())
    assert variance == pytest.approx(1.5**2 + 1 / 12, rel=1e-3)
    assert torch.equal(gaussian_blur(point, 0.0), point)


def test_blur_has_true_gradients_in_image_and_sigma():
    image = torch.rand(2, 7, 9, dtype=DOUBLE, requires_grad=True)
    sigma = torch.tensor(0.63, dtype=DOUBLE, requires_grad=True)
    assert torch.autograd.gradcheck(gaussian_blur, (image, sigma))


@pytest.mark.parametrize("border", ["valid", "same", "full"])
@pytest.mark.parametrize(("scene_shape", "psf_shape"), [((19, 16), (8, 5)), ((12, 12), (1, 12)), ((9, 9), (9, 9))])
def test_convolution_agrees_with_scipy(rng, border, scene_shape, psf_shape):
    scene, psf = rng.random((2, 1, *scene_shape)), rng.random((2, *psf_shape))
    found = convolve(torch.from_numpy(scene), torch.from_numpy(psf), border)
    expected = np.stack([scipy.signal.convolve(s[0], p, mode=border)[None] for s, p in zip(scene, psf, strict=True)])
    np.testing.assert_allclose(found.numpy(), expected, atol=1e-12)


def test_a_window_may_reach_beyond_the_image_and_finds_darkness_there(rng):
    scene, psf = torch.from_numpy(rng.random((1, 1, 9, 9))), torch.from_numpy(rng.random((1, 4, 4)))
    window = convolve_window(scene, psf, (-3, -2), (18, 18))
    torch.testing.assert_close(window[..., 3:15, 2:14], convolve(scene, psf, "full"))
    assert float(window[..., :3, :].abs().max()) < 1e-12
    assert float(window[..., 15:, :].abs().max()) < 1e-12


def test_a_mask_larger_than_the_scene_is_refused():
    with pytest.raises(BadInput, match=r"mask larger than the scene: .* 9x4 sensor pixels, the scene 8x8"):
        convolve(torch.ones(1, 1, 8, 8), torch.ones(1, 9, 4))


def test_convolution_has_true_gradients():
    scene = torch.rand(2, 1, 6, 7, dtype=DOUBLE, requires_grad=True)
    psf = torch.rand(1, 3, 2, dtype=DOUBLE, requires_grad=True)
    assert torch.autograd.gradcheck(convolve, (scene, psf))
    assert torch.autograd.gradcheck(lambda s, p: convolve(s, p, "full"), (scene, psf))


@pytest.mark.parametrize("scale", [0.5, 0.7, 1.3, 2.0])
def test_resampling_keeps_radiance_inside_and_light_in_total(scale):
    scene = torch.rand(1, 1, 20, 20, dtype=DOUBLE)
    found = scene_on_sensor(scene, scale)
    assert float(found.sum()) == pytest.approx(float(scene.sum()) * scale**2, rel=1e-12)
    flat = scene_on_sensor(torch.ones(1, 1, 20, 20, dtype=DOUBLE), scale)
    torch.testing.assert_close(flat[..., 1:-1, 1:-1], torch.ones_like(flat[..., 1:-1, 1:-1]))


def test_a_scene_already_on_the_sensor_grid_is_left_alone():
    scene = torch.rand(1, 1, 5, 5)
    assert scene_on_sensor(scene, 1 + 1e-9) is scene
