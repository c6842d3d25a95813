"""A producer that is not ours: `viky.cti` of the genicam wheel. It has no exposure time, gain, trigger or clock."""

from __future__ import annotations

from pathlib import Path

import genicam
import numpy as np
import pytest

from drivers.genicam.camera import GenicamCamera
from drivers.genicam.finder import find_cameras
from labctl.errors import BadInput, InterlockError
from labctl.exposure import Exposure
from tests.drivers.genicam.conftest import MakeCamera, take

EXPOSURE = Exposure(exposure_s=0.01)


@pytest.fixture
def viky() -> Path:
    path = Path(genicam.__file__).parent / "viky.cti"
    if not path.exists():
        pytest.skip("this genicam wheel brings no viky.cti")
    return path


@pytest.fixture
def camera(make_camera: MakeCamera, viky: Path) -> GenicamCamera:
    return make_camera(
        producer=str(viky), serial="1", pixel_format="Mono8", trigger="free-run", fixed_exposure_s=0.01,
        features={"AcquisitionFrameRate": 100.0},
    )  # fmt: skip


def test_it_is_found_with_its_three_cameras(viky: Path) -> None:
    found = find_cameras({"GENICAM_GENTL64_PATH": str(viky.parent)})
    assert [item.kind for item in found] == ["producer", "camera", "camera", "camera"]
    assert [item.details["serial"] for item in found[1:]] == ["0", "1", "2"]
    assert "serial: '1'" in found[2].where


def test_two_hundred_frames_and_all_counters_are_explained(camera: GenicamCamera) -> None:
    camera.configure(EXPOSURE.model_copy(update={"roi": (400, 600)}))
    camera.start_stream("every")
    frames = [camera.next_frame(10) for _ in range(200)]
    camera.stop_stream()
    assert {frame.pixels.shape for frame in frames} == {(1, 1, 400, 600)}
    assert np.all(np.diff([frame.camera_time_s[0] for frame in frames]) > 0)
    drops = camera.stats()["drops"]
    assert drops["received"] >= 200
    assert drops["spanned"] == drops["received"] + drops["missing"]
    assert drops["missing"] == drops["incomplete"] + drops["underrun"] + drops["lost_elsewhere"]
    assert drops["repeated"] == 0


def test_frames_are_taken_one_by_one_in_free_run(camera: GenicamCamera) -> None:
    taken = camera.configure(EXPOSURE)
    assert taken == Exposure(exposure_s=0.01, roi=(800, 800))
    camera.arm(3)
    frames = [take(camera, exposure_id) for exposure_id in (4, 5, 6)]
    assert [int(frame.exposure_ids[0]) for frame in frames] == [4, 5, 6]
    assert [int(frame.frame_ids[0]) for frame in frames] == [0, 1, 2]
    assert frames[0].exposure_s.tolist() == [0.01]
    assert frames[0].pixels.min() < frames[0].pixels.max() <= camera.saturation_dn == 255


def test_it_says_what_it_cannot_set(camera: GenicamCamera, make_camera: MakeCamera, viky: Path) -> None:
    assert camera.describe_device()["settable"] == {"exposure": False, "gain": False}
    with pytest.raises(InterlockError, match=r"only 0\.01 s, which is fixed, is allowed"):
        camera.configure(Exposure(exposure_s=0.02))
    with pytest.raises(InterlockError, match="at most 0 dB"):
        camera.configure(EXPOSURE.model_copy(update={"gain_db": 1.0}))
    viky_settings = {"producer": str(viky), "serial": "0", "pixel_format": "Mono8"}
    with pytest.raises(BadInput, match="no feature for its exposure time; state it as `fixed_exposure_s`"):
        make_camera(**viky_settings, trigger="free-run")
    triggered = make_camera(**viky_settings, fixed_exposure_s=0.01)
    triggered.configure(EXPOSURE)
    with pytest.raises(BadInput, match="no software trigger; write `trigger: free-run`"):
        triggered.arm(1)
