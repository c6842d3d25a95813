"""Captured frames as learning sees them, from sets that were merged of others: each frame by its own exposure."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import numpy as np
import pytest

from labctl.errors import BadInput, RunFailed
from labctl.frames.merge import merge
from labctl.frames.record import FrameRecord
from protocols.captured import labelled_frames
from tests.labctl.frames.sets import BLACK_DN, FULL_DN, LABELS, SHAPE, header, record, write_set

LADDER = (1.0, 4.0)


def _ladder(
    folder: Path, exposure_s: float, light_dn_per_s: float, *, sample: int, dark_dn_per_s: float = 0, **more: Any
) -> Path:
    """One sample at two rungs, and a dark frame of each if there is dark current."""
    records: list[FrameRecord] = []
    values = []
    for rung, relative in enumerate(LADDER):
        time_s = exposure_s * relative
        for kind, light in (("scene", light_dn_per_s), ("dark", 0.0))[: 2 if dark_dn_per_s else 1]:
            about = {"kind": kind, "sample_id": sample if kind == "scene" else None, "rung": rung}
            records.append(record(len(records), **{**about, "exposure_s": time_s, **more}))
            values.append(min(BLACK_DN + (light + dark_dn_per_s) * time_s, FULL_DN))
    head = header(len(records), set_id=folder.name, ladder=LADDER)
    write_set(folder, len(records), head=head, records=records, images=lambda n: np.full(SHAPE, values[n], np.uint16))
    return folder


def test_repeats_that_a_merged_set_has_of_two_exposures_are_not_averaged(tmp_path: Path) -> None:
    write_set(tmp_path / "a", 3)
    write_set(
        tmp_path / "b", 3, head=header(3, set_id="b"), records=lambda n: record(n, repeat=1, exposure_s=0.02)
    )  # fmt: skip
    merge([tmp_path / "a", tmp_path / "b"], tmp_path / "m")
    with pytest.raises(BadInput, match=r"sample 0 have different exposures \(s\), 0.002 and 0.02"):
        labelled_frames(tmp_path / "m", LABELS)


def test_every_rung_has_the_dark_frame_of_its_own_exposure_whatever_set_it_came_from(tmp_path: Path) -> None:
    sets = [
        _ladder(tmp_path / "a", 0.001, 400_000, sample=0, dark_dn_per_s=100_000),
        _ladder(tmp_path / "b", 0.002, 300_000, sample=1, dark_dn_per_s=100_000),
    ]
    merge(sets, tmp_path / "m")
    light = labelled_frames(tmp_path / "m", LABELS).frames - BLACK_DN
    np.testing.assert_allclose(light[:, 0, 0, 0], [500, 800], rtol=1e-5)  # dark signal of the first rung included


def test_without_dark_frames_every_frame_has_the_black_level_of_its_own_record(tmp_path: Path) -> None:
    sets = [
        _ladder(tmp_path / "a", 0.001, 400_000, sample=0),
        _ladder(tmp_path / "b", 0.001, 400_000, sample=1, black_level_dn=0.0),
    ]
    merge(sets, tmp_path / "m")
    frames = labelled_frames(tmp_path / "m", LABELS).frames[:, 0, 0, 0]
    np.testing.assert_allclose(frames, [BLACK_DN + 400, (464 + 1664) / 5], rtol=1e-5)


def test_rungs_without_a_black_level_are_not_merged_by_a_guess(tmp_path: Path) -> None:
    _ladder(tmp_path / "a", 0.001, 400_000, sample=0, black_level_dn=None)
    with pytest.raises(RunFailed, match=r"nobody wrote down the black level.*dark_every"):
        labelled_frames(tmp_path / "a", LABELS)


def test_pixels_that_clip_at_every_exposure_are_counted(tmp_path: Path) -> None:
    _ladder(tmp_path / "a", 0.001, 400_000, sample=0)
    _ladder(tmp_path / "b", 0.001, 9_000_000, sample=1)
    merge([tmp_path / "a", tmp_path / "b"], tmp_path / "m")
    captured = labelled_frames(tmp_path / "m", LABELS)
    assert captured.clipped_fraction == 0.5
    np.testing.assert_array_equal(captured.frames[1], np.full(SHAPE, FULL_DN, np.float32))
