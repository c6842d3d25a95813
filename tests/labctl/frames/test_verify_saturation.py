"""The proof of a set notes frames that saturate, rung by rung of a ladder, and shares that were said wrongly."""

from __future__ import annotations

from pathlib import Path

from labctl.frames.store import FrameStore
from labctl.frames.verify import verify
from tests.labctl.frames.sets import FULL_DN, header, pixels, record, write_set


def test_saturated_frames_are_noted_and_a_wrong_share_is_an_error(tmp_path: Path) -> None:
    def bright(index: int):
        image = pixels(index)
        image[0, :, :2] = FULL_DN if index == 4 else image[0, :, :2]
        return image

    write_set(tmp_path / "a", images=bright, records=lambda i: record(i, saturated_fraction=(i == 4) / 3))
    report = verify(FrameStore.open(tmp_path / "a"))
    (finding,) = report.findings
    assert (finding.severity, finding.word, finding.frames) == ("note", "saturated", (4,))
    assert verify(FrameStore.open(tmp_path / "a"), saturated=0.5).findings == ()
    write_set(tmp_path / "b", images=bright)
    assert (
        verify(FrameStore.open(tmp_path / "b")).findings[0].text
        == "the saturated share of frame 4 is not what the ledger says"
    )


def test_a_rung_that_saturates_is_noted_by_itself(tmp_path: Path) -> None:
    def bright(index: int):
        image = pixels(index)
        image[0, :, :2] = FULL_DN if index % 2 else image[0, :, :2]
        return image

    def rungs(index: int):
        return record(index, sample_id=index // 2, label=0, label_name="anna", split=0, scene_hash=None, rung=index % 2,
                      saturated_fraction=(index % 2) / 3)  # fmt: skip

    write_set(tmp_path, 4, head=header(4, ladder=(1.0, 8.0)), images=bright, records=rungs)
    (finding,) = verify(FrameStore.open(tmp_path)).findings
    assert (finding.severity, finding.word, finding.frames) == ("note", "saturated", (1, 3))
    assert "on rung 1 of the ladder, 8 x the first exposure" in finding.text
