from __future__ import annotations

import math

import numpy as np
import pytest
import torch

from labctl.errors import BadInput
from sim.optics.convolution import convolve
from sim.optics.depth import convolve_depths, depth_psfs, visible_layers
from sim.optics.field import convolve_field, cos4_fall_off, field_tangents, field_weights
from sim.optics.shadow import Registration

DOUBLE = torch.float64


def test_light_falls_off_with_the_fourth_power_of_the_cosine():
    factor = cos4_fall_off((5, 7), pitch_m=5.2e-3, distance_m=0.02)
    angle = math.atan(math.hypot(1, 2) * 5.2e-3 / 0.02)
    assert float(factor[3, 5]) == pytest.approx(math.cos(angle) ** 4)
    assert float(factor[2, 3]) == 1
    torch.testing.assert_close(factor, factor.flip(0, 1))


def test_scene_and_its_image_behind_the_mask_fall_off_alike():
    scene = cos4_fall_off((9, 9), pitch_m=5.2e-3, distance_m=0.25)
    image = cos4_fall_off((9, 9), pitch_m=208e-6, distance_m=10e-3)
    torch.testing.assert_close(scene, image)


@pytest.mark.parametrize("nodes", [(1, 1), (2, 3), (4, 1)])
def test_every_scene_pixel_is_shared_out_in_full(nodes):
    weights = field_weights((11, 8), nodes)
    assert weights.shape == (nodes[0] * nodes[1], 11, 8)
    assert float(weights.min()) >= 0
    torch.testing.assert_close(weights.sum(0), torch.ones(11, 8, dtype=DOUBLE))


def test_a_field_point_owns_its_pixel_alone():
    weights = field_weights((11, 9), (2, 3)).reshape(2, 3, 11, 9)
    for row, column in ((0, 0), (1, 1), (1, 2)):
        assert float(weights[row, column, row * 10, column * 4]) == 1


@pytest.mark.parametrize("border", ["valid", "same", "full"])
def test_a_blur_that_is_the_same_everywhere_is_a_convolution(rng, border):
    scene, psf = torch.from_numpy(rng.random((2, 3, 13, 12))), torch.from_numpy(rng.random((4, 5)))
    found = convolve_field(scene, psf.expand(6, 4, 5), field_weights((13, 12), (2, 3)), border)
    torch.testing.assert_close(found, convolve(scene, psf[None], border), rtol=0, atol=1e-12)


def test_each_part_of_the_field_has_its_own_blur(rng):
    sharp, soft = torch.zeros(3, 3, dtype=DOUBLE), torch.full((3, 3), 1 / 9, dtype=DOUBLE)
    sharp[1, 1] = 1
    points = torch.zeros(1, 1, 9, 21, dtype=DOUBLE)
    points[0, 0, 4, [0, 10, 20]] = 1
    image = convolve_field(points, torch.stack((sharp, soft)), field_weights((9, 21), (1, 2)), "full")[0, 0]
    torch.testing.assert_close(image[4:7, 0:3], sharp)
    torch.testing.assert_close(image[4:7, 20:23], soft)
    torch.testing.assert_close(image[4:7, 10:13], (sharp + soft) / 2)
    assert float(image.sum()) == pytest.approx(3)


def test_field_points_look_into_the_corners_of_the_scene():
    tangents = field_tangents((11, 9), (2, 3), pitch_m=5e-3, distance_m=0.1)
    assert len(tangents) == 6
    assert tangents[0] == pytest.approx((-5 * 0.05, -4 * 0.05))
    assert tangents[4] == pytest.approx((5 * 0.05, 0.0))


def test_a_field_that_does_not_belong_to_the_scene_is_refused():
    with pytest.raises(BadInput, match=r"psfs \(3, 2, 2\) and weights \(4, 8, 8\) do not belong to a scene"):
        convolve_field(torch.ones(1, 1, 8, 8), torch.ones(3, 2, 2), field_weights((8, 8), (2, 2)))
    with pytest.raises(BadInput, match="0x2 field points on 8x8 pixels"):
        field_weights((8, 8), (0, 2))


MASK = {"pixel_pitch_m": 200e-6, "sensor_pitch_m": 50e-6, "gap_m": 10e-3}


def shadows(distances_m, size_px=(64, 64)):
    picture = torch.ones(8, 8, dtype=DOUBLE)
    return depth_psfs(
        picture, scene_distances_m=distances_m, registration=Registration.nominal(), size_px=size_px, **MASK
    )


def test_a_nearer_point_casts_a_larger_shadow():
    area = shadows((0.05, 0.1, 1e6)).sum(dim=(-2, -1)).numpy()
    np.testing.assert_allclose(area, (8 * 4) ** 2 * np.array([1.2, 1.1, 1.0]) ** 2, rtol=2e-3)


def test_layers_add_up_each_under_its_own_shadow(rng):
    layers, psfs = torch.from_numpy(rng.random((2, 2, 40, 40))), shadows((0.05, 0.5), (40, 40))
    expected = sum(convolve(layers[:, [k]], psfs[[k]]) for k in (0, 1))
    torch.testing.assert_close(convolve_depths(layers, psfs), expected)
    with pytest.raises(BadInput, match=r"layers \(2, 2, 40, 40\) and psfs \(3, 40, 40\) do not belong together"):
        convolve_depths(layers, psfs[[0, 0, 1]])


def test_what_stands_in_front_hides_what_stands_behind(rng):
    radiance = torch.from_numpy(rng.random((1, 3, 4, 4)))
    opacity = torch.ones_like(radiance)
    opacity[:, 0, :, :2] = 0
    opacity[:, 1, :, 1] = 0.25
    seen = visible_layers(radiance, opacity)
    torch.testing.assert_close(seen[:, 0, :, 2:], radiance[:, 0, :, 2:])
    assert float(seen[:, 1:, :, 2:].abs().max()) == 0
    torch.testing.assert_close(seen[:, 1, :, 0], radiance[:, 1, :, 0])
    torch.testing.assert_close(seen[:, 2, :, 1], 0.75 * radiance[:, 2, :, 1])
    white = visible_layers(torch.ones_like(radiance), opacity)
    torch.testing.assert_close(white.sum(1), torch.ones(1, 4, 4, dtype=DOUBLE))
