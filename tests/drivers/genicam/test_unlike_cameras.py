"""Cameras that differ from ours in what GenTL leaves open: our producer, built from sources that are changed for it."""

from __future__ import annotations

import time
from collections.abc import Callable, Mapping
from pathlib import Path

import numpy as np
import pytest

from labctl.errors import HardwareError, InterlockError
from labctl.exposure import Exposure
from sim.virtual_lab.producer import build
from tests.drivers.genicam.conftest import BRIEF, SENSOR, MakeCamera, id_shown, take

Changes = Mapping[str, tuple[tuple[str, str], ...]]
BuildUnlike = Callable[[Changes], str]

STAMPS_THE_END: Changes = {
    "camera.c": (("frame.timestamp_ns = (uint64_t)start_ns", "frame.timestamp_ns = (uint64_t)end_ns"),)
}
PADS_ROWS: Changes = {
    "buffer_info.c": (
        ("case BUFFER_INFO_XPADDING:", "case BUFFER_INFO_XPADDING: return answer_size(4, type, out, size);"),
    )
}
BEGINS_LATER_IN_THE_BUFFER: Changes = {
    "buffer_info.c": (
        (
            "case BUFFER_INFO_IMAGEOFFSET:",
            "return answer_size(0, type, out, size);\n"
            "case BUFFER_INFO_IMAGEOFFSET: return answer_size(64, type, out, size);",
        ),
    ),
    "chunks.c": (("format->bits / 8;", "format->bits / 8 + 64;"),),
    "camera.c": (
        ("rows, memory);", "rows, memory + 64);"),
        (
            "frame->payload_bytes = renderer->height * row_bytes;",
            "frame->payload_bytes = renderer->height * row_bytes + 64;",
        ),
    ),
}
BINS_WITH_HIGH_BLACK_LEVEL: Changes = {
    "registers.c": (
        (
            "= values[REG_WidthMax].integer - values[REG_OffsetX]",
            "= values[REG_WidthMax].integer / (values[REG_BlackLevel].real > 1000 ? 2 : 1) - values[REG_OffsetX]",
        ),
    )
}
TELLS_AN_ABSURD_WIDTH: Changes = {"buffer_info.c": (("answer_size(frame->width,", "answer_size((size_t)1 << 40,"),)}


@pytest.fixture
def build_unlike(tmp_path: Path) -> BuildUnlike:
    """Builds a producer with changed sources; returns the path of its .cti file."""

    def changed(changes: Changes) -> str:
        folder, target = tmp_path / "unlike", tmp_path / "unlike.cti"
        folder.mkdir()
        sources = build.write_sources(folder)
        for name, replacements in changes.items():
            place = next(number for number, path in enumerate(sources) if path.name == name)
            text = sources[place].read_text()
            for old, new in replacements:
                assert text.count(old) == 1, f"{name} has changed: {old}"
                text = text.replace(old, new)
            sources[place] = folder / name
            sources[place].write_text(text)
        build.compile_c(build.find_compiler(), sources, target, build.OPTIMISED, include=folder)
        return str(target)

    return changed


def test_in_free_run_a_stamp_of_the_end_of_an_exposure_is_not_taken_for_its_start(
    make_camera: MakeCamera, build_unlike: BuildUnlike
) -> None:
    camera = make_camera(
        producer=build_unlike(STAMPS_THE_END), trigger="free-run", features={"AcquisitionFrameRate": 12.0}
    )
    taken = camera.configure(Exposure(exposure_s=0.08))
    camera.arm(6)
    for exposure_id in range(6):
        time.sleep(0.013 * exposure_id)
        asked_s = time.monotonic()
        ended_s = take(camera, exposure_id).camera_time_s[0]
        assert ended_s - taken.exposure_s > asked_s - 0.001, "it began before it was asked for"


def test_padded_rows_are_refused_by_name(make_camera: MakeCamera, build_unlike: BuildUnlike) -> None:
    camera = make_camera(producer=build_unlike(PADS_ROWS))
    camera.configure(BRIEF)
    with pytest.raises(HardwareError, match=r"camera: the rows of a frame are padded by 4 bytes.*`pixel_format`"):
        camera.arm(1)


def test_an_image_that_begins_later_in_its_buffer_is_read_from_there(
    make_camera: MakeCamera, build_unlike: BuildUnlike
) -> None:
    camera = make_camera(producer=build_unlike(BEGINS_LATER_IN_THE_BUFFER))
    camera.configure(BRIEF)
    camera.arm(3)
    assert np.diff([id_shown(take(camera)) for _ in range(3)]).tolist() == [1, 1]


def test_limits_are_those_that_stand_after_the_further_features_were_set(
    make_camera: MakeCamera, build_unlike: BuildUnlike
) -> None:
    producer = build_unlike(BINS_WITH_HIGH_BLACK_LEVEL)
    camera = make_camera(producer=producer, features={"BlackLevel": 1001})
    assert camera.shape == (SENSOR[0], SENSOR[1] // 2)
    camera.set_feature("BlackLevel", 64)
    assert camera.shape == SENSOR
    camera.set_feature("BlackLevel", 1001)
    with pytest.raises(InterlockError, match="the sensor has 48x32"):
        camera.configure(BRIEF.model_copy(update={"roi": SENSOR}))
    camera.configure(BRIEF)
    camera.arm(1)
    assert take(camera).pixels.shape == (1, 1, *camera.shape)


def test_whatever_ends_the_grabbing_is_told_and_not_waited_out(
    make_camera: MakeCamera, build_unlike: BuildUnlike
) -> None:
    camera = make_camera(producer=build_unlike(TELLS_AN_ABSURD_WIDTH))
    camera.configure(BRIEF)
    begun_s = time.monotonic()
    with pytest.raises(HardwareError, match="camera: grabbing ended: OverflowError: "):
        camera.arm(1)
    assert time.monotonic() - begun_s < 15
