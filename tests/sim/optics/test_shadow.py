from __future__ import annotations

import numpy as np
import pytest
import torch

from labctl.errors import BadInput
from sim.optics.shadow import Registration, shadow_psf

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
