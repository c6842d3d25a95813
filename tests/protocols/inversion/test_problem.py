"""What is believed of a camera."""

from dataclasses import replace

import numpy as np
import pytest
import torch
from scipy.signal import convolve2d

from labctl.errors import BadInput
from labctl.roads import MonitorRoad, PanelRoad, Roads
from protocols.inversion.problem import LinearCamera, frames_as_light
from sim.twin import Twin
from tests.sim.conftest import nominal_twin

SCENE = (31, 31)
MASK = (16, 16)


def random(*shape, seed=0):
    return torch.from_numpy(np.random.default_rng(seed).random(shape))


def small_twin(**changes):
    blocks = {
        "panel": {"shape": (64, 64), "stop_px": (64, 64)},
        "monitor": {"shape": SCENE, "view_px": SCENE},
        "sensor": {
            "shape": (64, 64),
            "pitch_m": 208e-6,
            "dark_current_e_per_s": 3.0,
            "black_level_dn": 40.0,
            "bits": 12,
        },
    }
    for name, block in changes.items():
        blocks[name] = blocks.get(name, {}) | block
    roads = Roads(PanelRoad(cell_px=4), MonitorRoad(pixel_px=1))
    return Twin(nominal_twin(**blocks), roads, dtype=torch.float64)


@pytest.mark.parametrize("psf_shape", [(1, 5, 6), (3, 5, 6), (4, 1, 5, 6), (4, 3, 5, 6)])
@pytest.mark.parametrize("window", [((0, 0), (15, 18)), ((4, 5), (7, 8)), ((3, 1), (9, 4))])
def test_the_adjoint_is_the_transpose_of_the_forward_model(psf_shape, window):
    start, size = window
    camera = LinearCamera(random(*psf_shape), start, size, (11, 13), fall_off=random(11, 13, seed=3) + 0.1)
    scenes, frames = random(4, 3, 11, 13, seed=1), random(4, 3, *size, seed=2)
    torch.testing.assert_close((camera.forward(scenes) * frames).sum(), (scenes * camera.adjoint(frames)).sum())


def test_a_frame_is_the_window_of_the_full_convolution_and_each_frame_may_have_its_own_psf():
    psf, scenes = random(2, 1, 5, 6), random(2, 1, 11, 13, seed=1)
    frames = LinearCamera(psf, (2, 3), (9, 10), (11, 13)).forward(scenes)
    for n in range(2):
        whole = convolve2d(scenes[n, 0].numpy(), psf[n, 0].numpy())
        np.testing.assert_allclose(frames[n, 0], whole[2:11, 3:13], atol=1e-12)


@pytest.mark.parametrize(
    ("border", "stray", "masks"),
    [("valid", 0.0, 1), ("valid", 0.06, 2), ("same", 0.06, 1), ("full", 0.0, 2), ("full", 0.06, 1)],
)
def test_the_camera_of_a_twin_gives_the_light_of_the_twin(border, stray, masks):
    twin = small_twin(
        optics={"border": border, "fall_off": "cos4"},
        light={"photons_per_s": 15_000.0, "stray": stray},
        registration={"shift_px": (0.4, -0.7), "blur_px": 0.6},
    )
    scenes, mask = random(2, 1, *SCENE), random(2, *MASK, seed=1)
    mask = mask[0] if masks == 1 else mask
    camera = LinearCamera.of_twin(twin, mask, SCENE)
    kernel = twin.psf(mask).reshape(-1, 1, *twin.psf(mask).shape[-2:])
    torch.testing.assert_close(camera.forward(scenes), twin.light(scenes, kernel))
    assert camera.frame_shape == twin.frame_shape(MASK, SCENE)


def test_frames_in_dn_become_the_light_of_the_camera():
    twin = small_twin(sensor={"prnu": 0.05, "dsnu": 0.01, "vignetting": 0.2, "column_offset": 0.01})
    scenes, mask = random(3, 1, *SCENE), random(*MASK, seed=1)
    exposure_s = torch.tensor([1e-3, 2e-3, 3e-3], dtype=torch.float64)
    frames = twin.measure(scenes, mask, exposure_s=exposure_s, gain_db=2.0, quantise=False)
    light = frames_as_light(frames, twin, exposure_s=exposure_s, gain_db=2.0)
    torch.testing.assert_close(light, LinearCamera.of_twin(twin, mask, SCENE).forward(scenes))


def test_a_psf_of_another_grid_is_refused_by_both_grids():
    camera = LinearCamera.of_border(random(1, 5, 6), (11, 13))
    assert camera.with_psf(random(3, 1, 5, 6)).psf.shape == (3, 1, 5, 6)
    with pytest.raises(
        BadInput, match=r"grid of 7x6 pixels for a camera whose PSF has 5x6 \(scenes 11x13, frames 7x8\)"
    ):
        camera.with_psf(random(1, 7, 6))
    with pytest.raises(BadInput, match="no pixel sees all of the mask"):
        LinearCamera.of_border(random(1, 12, 6), (11, 13))
    with pytest.raises(BadInput, match="leaves the convolution"):
        replace(camera, start=(9, 5))
    with pytest.raises(BadInput, match="fall-off on a grid of 7x8"):
        replace(camera, fall_off=random(7, 8))


def test_scenes_and_frames_of_another_camera_are_refused():
    camera = LinearCamera.of_border(random(2, 1, 5, 6), (11, 13))
    with pytest.raises(BadInput, match="scenes of"):
        camera.forward(random(2, 1, 11, 12))
    with pytest.raises(BadInput, match="frames of"):
        camera.adjoint(random(2, 1, 11, 13))
    with pytest.raises(BadInput, match="3 frames meet a PSF of 2"):
        camera.forward(random(3, 1, 11, 13))
    assert len(camera.some(slice(1, 2)).forward(random(1, 1, 11, 13))) == 1


@pytest.mark.parametrize(
    ("changes", "words"),
    [
        ({"sensor": {"colour": "rggb"}}, "mosaics"),
        ({"optics": {"scene_pitch_m": 5.5e-3}}, "on the sensor grid"),
    ],
)
def test_a_twin_that_does_not_convolve_is_refused(changes, words):
    with pytest.raises(BadInput, match=words):
        LinearCamera.of_twin(small_twin(**changes), random(*MASK), SCENE)


def test_a_gap_that_moves_light_too_far_is_refused():
    twin = small_twin()
    twin.gap_error.fill_(0.05)
    with pytest.raises(BadInput, match="the limit of a plain convolution"):
        LinearCamera.of_twin(twin, random(*MASK), SCENE)
