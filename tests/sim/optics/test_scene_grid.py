from __future__ import annotations

import pytest
import torch

from labctl.errors import BadInput
from sim.optics.scene_grid import scene_on_sensor, size_on_sensor


@pytest.mark.parametrize("scale", [0.5, 0.7, 1.3, 2.0])
def test_resampling_keeps_radiance_inside_and_light_in_total(scale):
    scene = torch.rand(1, 1, 20, 20, dtype=torch.float64)
    found = scene_on_sensor(scene, scale)
    assert float(found.sum()) == pytest.approx(float(scene.sum()) * scale**2, rel=1e-12)
    flat = scene_on_sensor(torch.ones(1, 1, 20, 20, dtype=torch.float64), scale)
    torch.testing.assert_close(flat[..., 1:-1, 1:-1], torch.ones_like(flat[..., 1:-1, 1:-1]))


def test_a_scene_already_on_the_sensor_grid_is_left_alone():
    scene = torch.rand(1, 1, 5, 5)
    assert scene_on_sensor(scene, 1 + 1e-9) is scene


def test_a_size_on_the_sensor_is_rounded_up_but_not_by_rounding_errors():
    assert size_on_sensor(63, 0.5) == 32
    assert size_on_sensor(3, 0.1 / 0.3 * 3) == 3


def test_a_scale_without_meaning_is_refused():
    with pytest.raises(BadInput, match=r"a scene pixel spans -1\.0 sensor pixels; more than 0 is needed"):
        scene_on_sensor(torch.ones(1, 1, 3, 3), -1.0)
