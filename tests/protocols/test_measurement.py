from __future__ import annotations

import math
import time
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch

from labctl.calibration.record import ArrayNote, Calibration, CalibrationRecord, Value
from labctl.calibration.validity import bench_hash
from labctl.errors import BadInput
from labctl.rig_file import RigSpec, load_rig
from protocols.measurement import Measurement, parts_of
from sim.twin import Twin

RNG = np.random.default_rng(3)
SHAPE = (32, 32)
EXPOSURE_S = 0.01


@pytest.fixture(scope="module")
def spec() -> RigSpec:
    configs = Path(__file__).parents[2] / "configs"
    return load_rig(configs / "rigs" / "sim.yaml")


def calibration(
    spec: RigSpec, kind: str, arrays: dict[str, np.ndarray] | None = None, **values: float | tuple[float, ...]
) -> Calibration:
    """As the kind of that name would find it."""
    record = CalibrationRecord(
        kind=kind,
        rig=spec.name,
        rig_hash=spec.content_hash,
        bench_hash=bench_hash(spec),
        made=time.time(),
        max_age_s=3600,
        values={name: Value(value=value, error=None, unit="1") for name, value in values.items()},
        arrays={name: ArrayNote(unit="1", text="") for name in arrays or {}},
        labctl="0",
    )
    return Calibration(record, arrays or {})


def registration(spec: RigSpec, shift_px: tuple[float, float], rotation_rad: float, scale: float) -> Calibration:
    return calibration(spec, "registration", shift_px=shift_px, rotation_rad=rotation_rad, scale=scale)


def twin(spec: RigSpec, **values: Any) -> Twin:
    """The twin of the rig with room for a moved shadow, and these values in place of the nominal ones."""
    settings = spec.twin.model_copy(update={"optics": spec.twin.optics.model_copy(update={"margin_px": 8})})
    tensors = {name: torch.as_tensor(value, dtype=torch.float64) for name, value in values.items()}
    return settings.build(spec.roads, dtype=torch.float64, values=tensors)


def smooth_scene(side: int = 63) -> torch.Tensor:
    """(1, 1, H, W) blobs, dark towards the border, so that a turn about the centre brings in nothing new."""
    y, x = np.mgrid[:side, :side] - (side - 1) / 2
    blobs = sum(
        np.exp(-((y - 14 * math.cos(a)) ** 2 + (x - 9 * math.sin(2 * a)) ** 2) / (2 * 4.0**2)) for a in (0.4, 2.0, 3.9)
    )
    return torch.from_numpy(np.clip(blobs, 0, 1))[None, None]


def blurred_mask(cells: int = 32) -> torch.Tensor:
    """(H, W) a few soft cells, with no symmetry."""
    y, x = np.mgrid[:cells, :cells] - (cells - 1) / 2
    spots = sum(np.exp(-((y - r) ** 2 + (x - c) ** 2) / (2 * 1.8**2)) for r, c in ((-5, 2), (4, 6), (1, -7)))
    return torch.from_numpy(np.clip(spots, 0, 1))


def expose(a_twin: Twin, scene: torch.Tensor, mask: torch.Tensor) -> torch.Tensor:
    return a_twin.measure(scene, mask, exposure_s=EXPOSURE_S, quantise=False).detach()


def relative_error(frame: torch.Tensor, wanted: torch.Tensor, black_dn: float = 64.0, edge: int = 7) -> float:
    inside = (..., slice(edge, -edge), slice(edge, -edge))
    light = (wanted - black_dn)[inside]
    return float((frame - wanted)[inside].square().mean().sqrt() / light.square().mean().sqrt())


def test_a_shifted_shadow_is_undone_but_for_the_edge(spec: RigSpec) -> None:
    shift = (1.7, -0.6)
    scene, mask = smooth_scene(), blurred_mask()
    moved, wanted = expose(twin(spec, shift_px=shift), scene, mask), expose(twin(spec), scene, mask)
    measurement = Measurement.of(spec, {"registration": registration(spec, shift, 0.0, 1.0)}, ("registration",), SHAPE)
    back = measurement.correct(moved, EXPOSURE_S)
    assert relative_error(moved, wanted) > 0.1
    assert relative_error(back, wanted) < 0.01


def test_a_turned_and_grown_shadow_gives_the_frame_of_the_designed_mask_for_the_scene_turned_back(
    spec: RigSpec,
) -> None:
    shift, rotation, scale = (0.8, 1.3), math.radians(6), 1.04
    scene, mask = smooth_scene(), blurred_mask()
    moved = expose(twin(spec, shift_px=shift, rotation_rad=rotation, scale=scale), scene, mask)
    found = {"registration": registration(spec, shift, rotation, scale)}
    back = Measurement.of(spec, found, ("registration",), SHAPE).correct(moved, EXPOSURE_S)
    turned = _scene_read_at(scene, rotation, scale)
    assert relative_error(back, expose(twin(spec), turned, mask)) < 0.01
    assert relative_error(back, expose(twin(spec), _scene_read_at(scene, -rotation, scale), mask)) > 0.05
    assert relative_error(moved, expose(twin(spec), turned, mask)) > 0.1


def _scene_read_at(scene: torch.Tensor, rotation: float, scale: float) -> torch.Tensor:
    """The scene turned by -rotation and shrunk by `scale` about its centre: its value at A u."""
    from scipy.ndimage import affine_transform

    cos, sin = scale * math.cos(rotation), scale * math.sin(rotation)
    matrix, centre = np.array([[cos, -sin], [sin, cos]]), np.array([31.0, 31.0])
    picture = affine_transform(scene[0, 0].numpy(), matrix, centre - matrix @ centre, order=3)
    return torch.from_numpy(picture)[None, None]


def test_dark_flat_and_gain_bring_a_bench_to_the_frames_of_its_data_sheet(spec: RigSpec) -> None:
    flat = 1 - 0.3 * RNG.random(SHAPE)
    offset, rate = 90 + RNG.random(SHAPE), 40 * RNG.random(SHAPE)
    light_e = 2000 * RNG.random((3, 1, *SHAPE))
    nominal, true = spec.twin.sensor.gain_dn_per_e, 0.5
    frames = torch.from_numpy(light_e * flat * true + offset + rate * EXPOSURE_S)
    found = {
        "dark": calibration(spec, "dark", {"dark_dn": offset, "dark_rate_dn_per_s": rate}),
        "flat": calibration(spec, "flat", {"flat": flat}),
        "photon_transfer": calibration(spec, "photon_transfer", gain_dn_per_e=true),
    }
    measurement = Measurement.of(spec, found, "all", SHAPE)
    assert measurement.parts == ("dark", "flat", "gain")
    wanted = 64 + nominal * (torch.from_numpy(light_e) + 1.0 * EXPOSURE_S)
    torch.testing.assert_close(measurement.correct(frames, EXPOSURE_S), wanted, rtol=1e-5, atol=1e-3)


def test_light_alone_is_corrected_as_a_frame_without_its_dark(spec: RigSpec) -> None:
    found = {
        "dark": calibration(spec, "dark", {"dark_dn": 150 + RNG.random(SHAPE)}),
        "flat": calibration(spec, "flat", {"flat": 1 + 0.1 * RNG.random(SHAPE)}),
    }
    measurement = Measurement.of(spec, found, "all", SHAPE)
    frames = torch.from_numpy(500 * RNG.random((2, 1, *SHAPE)))
    light = frames - torch.from_numpy(found["dark"].arrays["dark_dn"])
    torch.testing.assert_close(
        measurement.of_light(light, EXPOSURE_S), measurement.correct(frames, EXPOSURE_S), rtol=1e-5, atol=1e-3
    )


def test_the_correction_is_linear_and_passes_gradients_on(spec: RigSpec) -> None:
    found = {
        "dark": calibration(spec, "dark", {"dark_dn": np.full(SHAPE, 99.0)}),
        "registration": registration(spec, (1.2, 0.4), 0.02, 1.01),
    }
    measurement = Measurement.of(spec, found, "all", SHAPE)
    one, other = (torch.from_numpy(1000 * RNG.random((1, 1, *SHAPE))) for _ in range(2))
    mean = measurement.correct((one + other) / 2, EXPOSURE_S)
    parts = (measurement.correct(one, EXPOSURE_S) + measurement.correct(other, EXPOSURE_S)) / 2
    torch.testing.assert_close(mean, parts)
    one.requires_grad_()
    (slope,) = torch.autograd.grad(measurement.correct(one, EXPOSURE_S).sum(), one)
    step = torch.zeros_like(one)
    step[0, 0, 10, 12] = 1.0
    change = (measurement.correct(one + step, EXPOSURE_S) - measurement.correct(one, EXPOSURE_S)).sum().detach()
    assert float(slope[0, 0, 10, 12]) == pytest.approx(float(change), rel=1e-6)


def test_without_parts_the_very_frames_come_back(spec: RigSpec) -> None:
    frames = torch.from_numpy(RNG.random((2, 1, *SHAPE)))
    assert Measurement.of(spec, {}, (), SHAPE).correct(frames, EXPOSURE_S) is frames


def test_a_pixel_that_sees_nothing_gives_black_and_not_noise_scaled_up(spec: RigSpec) -> None:
    flat = np.ones(SHAPE)
    flat[3, 4] = 1e-3
    found = {"dark": calibration(spec, "dark", {"dark_dn": np.full(SHAPE, 64.0)}), "flat": calibration(
        spec, "flat", {"flat": flat}
    )}  # fmt: skip
    frame = Measurement.of(spec, found, "all", SHAPE).correct(torch.full((1, 1, *SHAPE), 164.0), EXPOSURE_S)
    assert float(frame[0, 0, 3, 4]) == pytest.approx(64, abs=0.1)
    assert float(frame[0, 0, 3, 5]) == pytest.approx(164, abs=0.1)


def test_a_part_without_its_calibration_is_refused_with_what_to_do(spec: RigSpec) -> None:
    with pytest.raises(BadInput, match="the calibration `flat` is needed, there is dark; add `flat` to the kinds"):
        Measurement.of(spec, {"dark": calibration(spec, "dark")}, ("flat",), SHAPE)


def test_a_calibration_of_another_bench_is_refused(spec: RigSpec) -> None:
    one = registration(spec, (0.0, 0.0), 0.0, 1.0)
    foreign = Calibration(one.record.model_copy(update={"rig": "next-door"}), one.arrays)
    with pytest.raises(BadInput, match="`registration` is of rig 'next-door', this is 'sim'"):
        Measurement.of(spec, {"registration": foreign}, ("registration",), SHAPE)


def test_a_stale_calibration_is_used_and_said(spec: RigSpec) -> None:
    one = registration(spec, (0.0, 0.0), 0.0, 1.0)
    old = Calibration(one.record.model_copy(update={"made": time.time() - 86_400}), one.arrays)
    said: list[str] = []
    Measurement.of(spec, {"registration": old}, ("registration",), SHAPE, said.append)
    assert said == [
        "careful: the calibration `registration` is stale: 24 hours old, 60 minutes is allowed; calibrate anew"
    ]


def test_maps_of_another_frame_size_are_refused(spec: RigSpec) -> None:
    with pytest.raises(BadInput, match="`dark` is of frames of 16x16 pixels, frames are 32x32"):
        Measurement.of(spec, {"dark": calibration(spec, "dark", {"dark_dn": np.zeros((16, 16))})}, "all", SHAPE)


def test_all_means_what_the_calibrations_allow_and_order_is_not_the_users_care(spec: RigSpec) -> None:
    found = {"registration": registration(spec, (0.0, 0.0), 0.0, 1.0), "dark": calibration(spec, "dark")}
    assert parts_of("all", found) == ("dark", "registration")
    assert parts_of(("registration", "dark"), found) == ("dark", "registration")


def test_wanted_light_alone_is_told_for_the_exposure_of_the_training(spec):
    measurement, light = Measurement.of(spec, {}, (), SHAPE), torch.full((2, 1, *SHAPE), 100.0)
    black = measurement.of_light(torch.zeros_like(light), EXPOSURE_S)
    lasting = measurement.lasting(2 * EXPOSURE_S)
    twice = lasting.of_light(light, torch.tensor([EXPOSURE_S, 2 * EXPOSURE_S]))
    torch.testing.assert_close((twice - black).mean(dim=(1, 2, 3)), torch.tensor([200.0, 100.0]), rtol=1e-3, atol=0.1)
    assert lasting.correct(light, EXPOSURE_S) is light


def test_a_searched_exposure_has_counted_gain_and_scale_already(spec: RigSpec) -> None:
    found = {
        "registration": registration(spec, (0.0, 0.0), 0.0, 1.1),
        "photon_transfer": calibration(spec, "photon_transfer", gain_dn_per_e=0.5),
    }
    measurement, light = Measurement.of(spec, found, "all", SHAPE), torch.full((1, 1, *SHAPE), 100.0)
    black = measurement.of_light(torch.zeros_like(light), EXPOSURE_S)
    fixed, searched = (
        (one.of_light(light, EXPOSURE_S) - black).mean() for one in (measurement, measurement.searched())
    )
    nominal = spec.twin.sensor.gain_dn_per_e
    assert float(fixed) == pytest.approx(100 * (nominal / 0.5) / 1.1**2, rel=1e-3)
    assert float(searched) == pytest.approx(100, rel=1e-3)


def test_wanted_light_stands_at_the_level_of_the_training_whatever_the_light_of_the_bench(spec: RigSpec) -> None:
    found = {
        "registration": registration(spec, (0.0, 0.0), 0.0, 1.1),
        "photon_transfer": calibration(spec, "photon_transfer", gain_dn_per_e=0.5),
    }
    for white_dn_per_s in (3e4, 9e4):
        measurement = Measurement.of(spec, found, "all", SHAPE).standing_at(3000.0, white_dn_per_s)
        white = torch.full((1, 1, *SHAPE), white_dn_per_s * EXPOSURE_S)
        told = measurement.of_light(white, EXPOSURE_S)
        assert float(told.mean()) == pytest.approx(64 + 3000, rel=1e-3)
