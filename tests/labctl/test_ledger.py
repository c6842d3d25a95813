from __future__ import annotations

import json
import os
import signal
import subprocess
import sys
import textwrap
from pathlib import Path

import numpy as np
import pytest

from labctl.errors import BadInput, RunFailed
from labctl.frames.ledger import LEDGER, RAW, FrameLedger, read_capture

SHAPE = (1, 6, 5)


def frame(index: int) -> np.ndarray:
    return np.random.default_rng(index).integers(0, 4096, SHAPE, dtype=np.uint16)


def ledger_in(folder: Path, planned: int = 8) -> FrameLedger:
    return FrameLedger(folder, frame_shape=SHAPE, capture_hash="abc", planned=planned)


def fill(folder: Path, until: int, planned: int = 8) -> None:
    with ledger_in(folder, planned) as ledger:
        for index in range(ledger.next_index, until):
            ledger.append(frame(index), {"sample_id": index})
            ledger.commit()


def test_what_was_committed_is_read_back_pixel_for_pixel(tmp_path: Path) -> None:
    fill(tmp_path, 8)
    captured = read_capture(tmp_path)
    assert captured.pixels.shape == (8, *SHAPE)
    assert all(np.array_equal(captured.pixels[i], frame(i)) for i in range(8))
    assert captured.column("sample_id").tolist() == list(range(8))


def test_a_capture_resumes_at_the_next_missing_frame(tmp_path: Path) -> None:
    fill(tmp_path, 3)
    with ledger_in(tmp_path) as ledger:
        assert ledger.next_index == 3
        assert ledger.recovery.dropped_bytes == ledger.recovery.dropped_lines == 0


def test_pixels_without_a_line_are_cut_off(tmp_path: Path) -> None:
    fill(tmp_path, 3)
    with (tmp_path / RAW).open("ab") as raw:
        raw.write(b"\x01" * 17)
    with ledger_in(tmp_path) as ledger:
        assert (ledger.next_index, ledger.recovery.dropped_bytes) == (3, 17)
    fill(tmp_path, 8)
    assert np.array_equal(read_capture(tmp_path).pixels[3], frame(3))


def test_a_torn_line_is_cut_off_and_its_frame_taken_again(tmp_path: Path) -> None:
    fill(tmp_path, 4)
    content = (tmp_path / LEDGER).read_bytes()
    (tmp_path / LEDGER).write_bytes(content[:-9])
    with ledger_in(tmp_path) as ledger:
        assert ledger.next_index == 3
    fill(tmp_path, 8)
    captured = read_capture(tmp_path)
    assert [record["index"] for record in captured.records] == list(range(8))


def test_a_line_whose_pixels_never_reached_the_disk_does_not_count(tmp_path: Path) -> None:
    fill(tmp_path, 4)
    os.truncate(tmp_path / RAW, 3 * 60 + 10)
    with ledger_in(tmp_path) as ledger:
        assert (ledger.next_index, ledger.recovery.dropped_lines) == (3, 1)


def test_a_changed_pixel_is_found(tmp_path: Path) -> None:
    fill(tmp_path, 8)
    with (tmp_path / RAW).open("r+b") as raw:
        raw.seek(60 * 5 + 7)
        raw.write(b"\xff")
    with pytest.raises(RunFailed, match="frame 5 does not match its checksum"):
        read_capture(tmp_path)


def test_damage_that_no_crash_explains_is_never_cut_off(tmp_path: Path) -> None:
    fill(tmp_path, 6)
    with (tmp_path / RAW).open("r+b") as raw:
        raw.seek(60 * 2)
        raw.write(b"\xff\xff")
    with pytest.raises(RunFailed, match="frame 2 does not match its checksum, which no crash explains"):
        ledger_in(tmp_path)
    assert (tmp_path / RAW).stat().st_size == 6 * 60


def test_an_unfinished_capture_is_not_read_as_a_whole_one(tmp_path: Path) -> None:
    fill(tmp_path, 5)
    with pytest.raises(RunFailed, match="5 of 8 frames captured"):
        read_capture(tmp_path)


def test_the_folder_of_another_capture_is_refused(tmp_path: Path) -> None:
    fill(tmp_path, 2)
    with pytest.raises(BadInput, match="frames of another capture"):
        FrameLedger(tmp_path, frame_shape=SHAPE, capture_hash="other", planned=8)


def test_a_killed_writer_loses_no_acknowledged_frame(tmp_path: Path) -> None:
    program = textwrap.dedent(f"""
        import sys
        from pathlib import Path
        import numpy as np
        from labctl.frames.ledger import FrameLedger
        folder = Path({str(tmp_path / "set")!r})
        with FrameLedger(folder, frame_shape={SHAPE}, capture_hash="abc", planned=10**6) as ledger:
            while True:
                i = ledger.next_index
                ledger.append(np.random.default_rng(i).integers(0, 4096, {SHAPE}, dtype=np.uint16), {{"sample_id": i}})
                ledger.commit()
                print(i, flush=True)
    """)
    acknowledged = -1
    for wanted in (7, 31, 60):
        writer = subprocess.Popen([sys.executable, "-c", program], stdout=subprocess.PIPE, text=True)
        assert writer.stdout is not None
        for line in writer.stdout:
            acknowledged = int(line)
            if acknowledged >= wanted:
                writer.send_signal(signal.SIGKILL)
                break
        writer.stdout.close()
        writer.wait()
        with FrameLedger(tmp_path / "set", frame_shape=SHAPE, capture_hash="abc", planned=10**6) as ledger:
            assert ledger.next_index > acknowledged
            kept = ledger.next_index
    lines = [json.loads(line) for line in (tmp_path / "set" / LEDGER).read_text().splitlines()]
    raw = np.fromfile(tmp_path / "set" / RAW, dtype="<u2").reshape(-1, *SHAPE)
    assert [line["index"] for line in lines] == list(range(kept))
    assert len(raw) == kept
    assert all(np.array_equal(raw[i], frame(i)) for i in range(kept))
