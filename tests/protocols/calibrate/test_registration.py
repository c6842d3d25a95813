"""Registration of a lensless bench: found to a hundredth of a pixel, and refused with a picture where it cannot be."""

from __future__ import annotations

import math
from collections.abc import Callable
from pathlib import Path

import numpy as np
import pytest

from labctl.errors import RunFailed
from protocols.calibrate.bench import Bench
from protocols.calibrate.dot_fitting import half_pixels
from protocols.calibrate.registration import Registration
from sim.twin_settings import TwinSettings
from tests.protocols.calibrate.benches import CELLS, SCENE_PX, bench, found_as_calibration, world_of


def test_every_cell_is_placed_within_a_few_hundredths_of_a_pixel(tmp_path: Path):
    with bench("registration", tmp_path, seed=2) as lab:
        found = Registration().measure(lab).values
        true = world_of(lab).settings.registration
    pulls = np.array(
        [
            (found["shift_px"].value[0] - true.shift_px[0]) / found["shift_px"].error[0],
            (found["shift_px"].value[1] - true.shift_px[1]) / found["shift_px"].error[1],
            (found["rotation_rad"].value - math.radians(true.rotation_deg)) / found["rotation_rad"].error,
            (found["scale"].value - true.scale) / found["scale"].error,
        ]
    )
    assert np.abs(pulls).max() < 4
    assert max(found["shift_px"].error) < 0.01
    assert 16 * found["rotation_rad"].error < 0.02
    assert found["scene_pitch_px"].value == pytest.approx(1, abs=4 * found["scene_pitch_px"].error)


def test_a_shadow_five_pixels_off_is_found_too(tmp_path: Path):
    with bench("registration", tmp_path, changes=("world.shift_px=[5.2, -3.1]", "world.rotation_deg=4")) as lab:
        found = Registration().measure(lab)
        page = Registration().draw(found_as_calibration(Registration(), found, lab))
    assert found.values["shift_px"].value == pytest.approx((5.2, -3.1), abs=0.03)
    assert found.values["rotation_rad"].value == pytest.approx(math.radians(4), abs=2e-3)
    assert len(page.axes) >= 4


def changed(monkeypatch: pytest.MonkeyPatch, change: Callable[[np.ndarray], np.ndarray]) -> None:
    """The camera is mounted otherwise: every frame comes changed."""
    as_it_was = Bench.frames

    def frames(self: Bench, *args: object, **kwargs: object) -> np.ndarray:
        return change(as_it_was(self, *args, **kwargs))  # type: ignore[arg-type]

    monkeypatch.setattr(Bench, "frames", frames)


@pytest.mark.parametrize(
    ("change", "way"),
    [
        (lambda pixels: pixels.swapaxes(-1, -2), "transposed"),
        (lambda pixels: pixels[..., ::-1], "mirrored left to right"),
    ],
)
def test_an_image_the_wrong_way_round_is_named_and_shown(
    change: Callable[[np.ndarray], np.ndarray], way: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
):
    changed(monkeypatch, change)
    with (
        bench("registration", tmp_path) as lab,
        pytest.raises(RunFailed, match=rf"the image of the mask is {way} .*turn"),
    ):
        Registration().measure(lab)
    assert (tmp_path / "refused" / "registration.png").is_file()


def test_a_panel_that_does_not_modulate_shows_no_dots(tmp_path: Path):
    with (
        bench("registration", tmp_path, changes=("world.contrast=1.0001",)) as lab,
        pytest.raises(RunFailed, match=r"no dots are seen.*does not modulate"),
    ):
        Registration().measure(lab)


def test_too_few_dots_are_refused_with_what_to_change(tmp_path: Path):
    with (
        bench("registration", tmp_path) as lab,
        pytest.raises(RunFailed, match=r"too few dots: .* lower spacing_cells"),
    ):
        Registration(spacing_cells=28, source_step_px=0).measure(lab)


def test_the_twin_puts_the_middle_of_the_mask_where_the_registration_says():
    """A twin whose grids do not have a common centre is off by half a pixel, and the registration knows it."""
    scene, cells = (63, 63), (32, 32)
    for frame, off in (((32, 32), (0.0, 0.0)), ((31, 30), (0.5, 0.0))):
        twin = _twin()
        built = twin.build(_roads(), values=None)
        mask = np.zeros(cells)
        mask[8:-8, 8:-8] = 1.0
        import torch

        point = torch.zeros(1, 1, *scene)
        point[..., scene[0] // 2, scene[1] // 2] = 1.0
        light = built.irradiance(point, built.psf(torch.from_numpy(mask)), roi=frame)[0, 0].detach().numpy()
        at = np.array([(light.sum(axis=1 - axis) * _places(frame[axis])).sum() / light.sum() for axis in (0, 1)])
        point_at = np.array([n // 2 - (n - 1) / 2 for n in scene])
        assert half_pixels(twin, cells, scene, frame) == pytest.approx(off)
        assert at - point_at == pytest.approx(off, abs=0.05)


def _places(n: int) -> np.ndarray:
    return np.arange(n) - (n - 1) / 2


def _twin() -> TwinSettings:
    from labctl.rig_file import find_rig, load_rig

    return load_rig(find_rig("sim")).twin  # type: ignore[return-value]


def _roads():
    from labctl.rig_file import find_rig, load_rig

    return load_rig(find_rig("sim")).roads


def test_it_takes_a_moderate_number_of_exposures(tmp_path: Path):
    with bench("registration", tmp_path, rig="sim") as lab:
        Registration().measure(lab)
        assert lab.taken < 60
    assert (CELLS, SCENE_PX) == ((32, 32), (63, 63))
