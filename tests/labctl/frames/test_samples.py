"""Samples of a set: repeats averaged, ladders merged, dark, background and flat taken from frames that fit."""

from __future__ import annotations

import pickle
from pathlib import Path
from typing import Any

import numpy as np
import numpy.typing as npt
import pytest

from labctl.errors import BadInput, RunFailed
from labctl.frames.marks import Mark
from labctl.frames.record import FrameRecord
from labctl.frames.samples import Choice, Samples, Treatment, label_numbers
from labctl.frames.store import FrameStore
from labctl.frames.writer import FrameWriter
from tests.labctl.frames.sets import BLACK_DN, FULL_DN, SHAPE, header, pixels, record, write_set

LADDER = (1.0, 4.0)


def _read(samples: Samples, rows: list[int] | None = None) -> npt.NDArray[Any]:
    rows = list(range(len(samples))) if rows is None else rows
    frames = np.empty((len(rows), *samples.frame_shape), dtype=samples.dtype)
    samples.fill(frames, rows)
    return frames


def _set(folder: Path, records: list[FrameRecord], images: list[npt.NDArray[np.uint16]], **more: Any) -> FrameStore:
    head = header(len(records), **more)
    return write_set(folder, len(records), head=head, records=records, images=lambda index: images[index])


def test_without_treatment_samples_are_the_frames_as_they_were_measured(tmp_path: Path) -> None:
    store = write_set(tmp_path, 10)
    samples = Samples(store, Choice(split="val"))
    assert samples.dtype == np.uint16
    np.testing.assert_array_equal(samples.sample_ids, [1, 4, 7])
    np.testing.assert_array_equal(_read(samples, [2, 0, 2]), store.read([7, 1, 7]))
    assert samples.label_names.tolist() == ["ben", "ben", "ben"]


def test_repeats_are_averaged_in_the_order_in_which_their_scenes_came(tmp_path: Path) -> None:
    ids = [5, 2, 5, 9, 2, 5]
    repeats = [0, 0, 1, 0, 1, 2]
    records = [
        record(n, sample_id=i, repeat=r, label_name=f"s{i}") for n, (i, r) in enumerate(zip(ids, repeats, strict=True))
    ]
    store = _set(tmp_path, records, [pixels(n) for n in range(6)])
    samples = Samples(store, treatment=Treatment(average=True))
    assert samples.sample_ids.tolist() == [5, 2, 9]
    assert samples.label_names.tolist() == ["s5", "s2", "s9"]
    raw = store.read(range(6)).astype(np.float64)
    expected = np.stack([raw[[0, 2, 5]].mean(0), raw[[1, 4]].mean(0), raw[3]]).astype(np.float32)
    np.testing.assert_array_equal(_read(samples), expected)
    np.testing.assert_array_equal(_read(samples, [2, 0]), expected[[2, 0]])


def test_a_frame_in_doubt_enters_no_mean(tmp_path: Path) -> None:
    head = header(4)
    with FrameWriter(tmp_path, head) as writer:
        for index in range(4):
            writer.append(pixels(index), record(index, sample_id=index // 2, repeat=index % 2))
        writer.mark(Mark(word="drift", first=1, last=1, reason="moved"))
        writer.finish()
    store = FrameStore.open(tmp_path)
    averaged = _read(Samples(store, treatment=Treatment(average=True)))
    np.testing.assert_array_equal(averaged[0], pixels(0))
    both = _read(Samples(store, Choice(marked=None), Treatment(average=True)))
    np.testing.assert_array_equal(both[0], (pixels(0) + pixels(1).astype(np.float32)) / 2)


def test_a_ladder_becomes_one_frame_that_passes_full_scale(tmp_path: Path) -> None:
    light = np.linspace(100, 7000, int(np.prod(SHAPE))).reshape(SHAPE)  # DN above black at the first exposure
    records, images = [], []
    for n in range(3):
        for rung, relative in enumerate((1.0, 0.25)):
            image = np.clip(light / (n + 1) * relative + BLACK_DN, 0, FULL_DN).astype(np.uint16)
            records.append(record(n, sample_id=n, rung=rung, exposure_s=0.004 * relative, exposure_id=2 * n + rung))
            images.append(image)
    store = _set(tmp_path, records, images, ladder=(1.0, 0.25))
    np.testing.assert_allclose(_read(Samples(store)), [light / n + BLACK_DN for n in (1, 2, 3)], atol=4)
    separate = Samples(store, treatment=Treatment(rungs="separate"))
    np.testing.assert_array_equal(_read(separate), np.stack(images))


def test_a_ladder_that_lost_a_rung_is_merged_without_it_unless_it_was_the_first(tmp_path: Path) -> None:
    records = [record(n, sample_id=n // 2, rung=n % 2, exposure_s=0.001 * LADDER[n % 2]) for n in range(6)]
    images = [np.full(SHAPE, BLACK_DN + 100 * (1 + n // 2) * LADDER[n % 2], np.uint16) for n in range(6)]
    with FrameWriter(tmp_path, header(6, ladder=LADDER)) as writer:
        for image, said in zip(images, records, strict=True):
            writer.append(image, said)
        for index in (1, 2):
            writer.mark(Mark(word="bad", first=index, last=index, reason="hair"))
        writer.finish()
    samples = Samples(FrameStore.open(tmp_path), treatment=Treatment(average=True))
    assert samples.sample_ids.tolist() == [0, 2]
    np.testing.assert_allclose(_read(samples)[:, 0, 0, 0], [BLACK_DN + 100, BLACK_DN + 300])


def test_repeats_of_a_ladder_are_merged_and_then_averaged(tmp_path: Path) -> None:
    records, images = [], []
    for repeat in range(2):
        for rung, relative in enumerate(LADDER):
            records.append(record(len(records), sample_id=0, repeat=repeat, rung=rung, exposure_s=0.001 * relative))
            images.append(np.full(SHAPE, BLACK_DN + (100 + 20 * repeat) * relative, np.uint16))
    store = _set(tmp_path, records, images, ladder=LADDER)
    np.testing.assert_allclose(_read(Samples(store))[:, 0, 0, 0], [BLACK_DN + 100, BLACK_DN + 120])
    np.testing.assert_allclose(_read(Samples(store, treatment=Treatment(average=True))), BLACK_DN + 110)
    by_rung = Samples(store, treatment=Treatment(average=True, rungs="separate"))
    np.testing.assert_allclose(_read(by_rung)[:, 0, 0, 0], [BLACK_DN + 110, BLACK_DN + 440])


@pytest.mark.parametrize(
    ("change", "said"),
    [
        ({"exposure_s": 0.02}, r"sample 0 have different exposures \(s\), 0.002 and 0.02"),
        ({"gain_db": 6.0}, r"gains \(dB\), 0 and 6"),
        ({"mask_hash": "other"}, "masks, mask and other"),
        ({"saturation_dn": 255}, "saturation levels"),
        ({"black_level_dn": None}, "black levels"),
    ],
)
def test_only_repeats_that_were_taken_alike_are_averaged(tmp_path: Path, change: dict[str, Any], said: str) -> None:
    records = [record(0, sample_id=0), record(1, sample_id=0, repeat=1, **change)]
    store = _set(tmp_path, records, [pixels(n) for n in range(2)])
    with pytest.raises(BadInput, match=said):
        Samples(store, treatment=Treatment(average=True))
    assert len(Samples(store)) == 2, "each for itself"


def test_a_ladder_through_two_masks_is_not_one_ladder(tmp_path: Path) -> None:
    records = [
        record(n, sample_id=0, rung=n % 2, exposure_s=0.001 * LADDER[n % 2], mask_hash="AB"[n // 2]) for n in range(4)
    ]
    store = _set(tmp_path, records, [pixels(n) for n in range(4)], ladder=LADDER)
    with pytest.raises(BadInput, match="masks, A and B; only frames taken alike can become one"):
        Samples(store)
    assert len(Samples(store, treatment=Treatment(rungs="separate"))) == 4


def test_exposures_that_tremble_when_read_back_are_alike(tmp_path: Path) -> None:
    records = [record(n, sample_id=0, repeat=n, exposure_s=0.002 + 1e-9 * n) for n in range(2)]
    store = _set(tmp_path, records, [pixels(n) for n in range(2)])
    assert len(Samples(store, treatment=Treatment(average=True))) == 1


def test_pixels_that_are_lower_bounds_are_counted(tmp_path: Path) -> None:
    images = [np.full(SHAPE, 1000, np.uint16) for _ in range(2)]
    images[0][0, 0, :3], images[1][0, 0, 2:4] = FULL_DN - 3, FULL_DN
    store = _set(tmp_path, [record(n, sample_id=0, repeat=n) for n in range(2)], images)
    samples = Samples(store, treatment=Treatment(average=True))
    _read(samples)
    assert samples.clipped_pixels == 4


def _dark_set(folder: Path) -> tuple[FrameStore, npt.NDArray[np.float64]]:
    """Six scenes at two exposures, with two dark frames and two backgrounds of each."""
    rng = np.random.default_rng(0)
    current = rng.integers(0, 40, SHAPE)
    records, images = [], []
    for exposure, factor in ((0.001, 1), (0.002, 2)):
        for kind, light in (("dark", 0), ("background", 7), ("scene", 300), ("scene", 500), ("dark", 0), ("scene", 9)):
            sample = len(records) if kind == "scene" else None
            records.append(record(len(records), kind=kind, sample_id=sample, exposure_s=exposure))
            images.append((BLACK_DN + (current + light) * factor).astype(np.uint16))
    light = np.array([300, 500, 9, 600, 1000, 18], dtype=np.float64)
    return _set(folder, records, images), light


def test_dark_is_taken_from_frames_of_the_same_exposure(tmp_path: Path) -> None:
    store, light = _dark_set(tmp_path)
    samples = Samples(store, treatment=Treatment(dark=True))
    assert samples.dtype == np.float32
    np.testing.assert_array_equal(_read(samples), light[:, None, None, None] * np.ones(SHAPE))
    background = Samples(store, treatment=Treatment(background=True))
    np.testing.assert_array_equal(_read(background)[:, 0, 0, 0], light - [7, 7, 7, 14, 14, 14])


def test_flat_fields_come_from_a_file_or_from_another_set(tmp_path: Path) -> None:
    store, light = _dark_set(tmp_path / "set")
    response = np.linspace(0.5, 1.5, int(np.prod(SHAPE))).reshape(SHAPE)
    np.save(tmp_path / "flat.npy", 1000 * response[0])
    samples = Samples(store, treatment=Treatment(dark=True, flat=str(tmp_path / "flat.npy")))
    np.testing.assert_allclose(_read(samples)[0], light[0] / response, rtol=1e-5)

    dark = np.full(SHAPE, BLACK_DN, np.uint16)
    lit = (dark + np.round(1000 * response)).astype(np.uint16)
    records = [record(0, kind="dark", sample_id=None), record(1), record(2)]
    _set(tmp_path / "flats", records, [dark, lit, lit])
    samples = Samples(store, treatment=Treatment(dark=True, flat=str(tmp_path / "flats")))
    np.testing.assert_allclose(_read(samples)[0], light[0] / response, rtol=2e-3)


@pytest.mark.parametrize(
    ("treatment", "said"),
    [
        ({"dark": True}, r"no dark frame at 0.002 s and 0 dB; capture some \(dark_every\)"),
        ({"background": True}, "no background frame at 0.002 s and 0 dB through mask mask"),
        ({"dark": True, "background": True}, "ask for one"),
        ({"flat": "flat.npy"}, "ask for `dark` or `background` too"),
    ],
)
def test_what_a_set_cannot_give_is_said(tmp_path: Path, treatment: dict[str, Any], said: str) -> None:
    store = write_set(tmp_path, 3)
    with pytest.raises(BadInput, match=said):
        Samples(store, treatment=Treatment(**treatment))


def test_a_flat_field_that_does_not_fit_is_said(tmp_path: Path) -> None:
    store, _ = _dark_set(tmp_path / "set")
    for flat, said in (
        ("none.npy", "No such file"),
        ("small.npy", "is \\(2, 2\\), frames are"),
        ("dir", "no captured"),
    ):
        np.save(tmp_path / "small.npy", np.ones((2, 2)))
        with pytest.raises(BadInput, match=said):
            Samples(store, treatment=Treatment(dark=True, flat=str(tmp_path / flat)))


def test_an_unknown_black_level_stops_a_merger_instead_of_being_guessed(tmp_path: Path) -> None:
    records = [record(n, sample_id=0, rung=n, exposure_s=0.001 * LADDER[n], black_level_dn=None) for n in range(2)]
    store = _set(tmp_path, records, [pixels(n) for n in range(2)], ladder=LADDER)
    with pytest.raises(BadInput, match="black level of these frames is not known"):
        _read(Samples(store))


def test_samples_go_to_another_process_as_an_address_and_not_with_their_ledger(tmp_path: Path) -> None:
    store = write_set(tmp_path, 60, head=header(60, shard_frames=64))
    samples = Samples(store)
    _read(samples, [0])
    sent = pickle.dumps(samples)
    assert len(sent) < 8000 < len((tmp_path / "ledger.jsonl").read_bytes()) / 4
    np.testing.assert_array_equal(_read(pickle.loads(sent), [59, 3]), store.read([59, 3]))


def test_a_damaged_frame_is_an_error_and_no_sample(tmp_path: Path) -> None:
    store = write_set(tmp_path, 10)
    shard = tmp_path / "frames.zarr" / "coded" / "c.0.0.0.0"
    data = bytearray(shard.read_bytes())
    data[10] ^= 1
    shard.write_bytes(data)
    with pytest.raises(RunFailed, match="frame 0 does not match its checksum"):
        _read(Samples(store), [3, 0])


def test_labels_are_numbered_by_name(tmp_path: Path) -> None:
    names = np.array(["ben", "", "anna"])
    assert label_numbers(names, ("anna", "ben"), "set").tolist() == [1, -1, 0]
    with pytest.raises(BadInput, match="set holds frames labelled ben; the classes are anna"):
        label_numbers(names, ("anna",), "set")


def test_a_set_that_lost_lines_of_its_ledger_is_not_learned_from(tmp_path: Path) -> None:
    write_set(tmp_path / "set", 10)
    ledger = tmp_path / "set" / "ledger.jsonl"
    lines = ledger.read_bytes().splitlines(keepends=True)
    ledger.write_bytes(b"".join(lines[:-3]))
    with pytest.raises(RunFailed, match="finished with 10 frames, the ledger has 7"):
        Samples(FrameStore.open(tmp_path / "set"))
    ledger.write_bytes(b"".join(lines[:3] + lines[4:]))
    with pytest.raises(RunFailed, match="no line for frame 3"):
        Samples(FrameStore.open(tmp_path / "set"))


def test_a_black_level_that_trembles_between_captures_keeps_repeats_alike(tmp_path: Path) -> None:
    blacks = (158.1, 158.4, 158.1, 190.0)
    records = [record(n, sample_id=n // 2, repeat=n % 2, black_level_dn=black) for n, black in enumerate(blacks)]
    write_set(tmp_path / "set", 4, records=records)
    with pytest.raises(BadInput, match="sample 1 have different black levels"):
        Samples(FrameStore.open(tmp_path / "set"), treatment=Treatment(average=True))
    write_set(tmp_path / "steady", 2, records=records)
    assert len(Samples(FrameStore.open(tmp_path / "steady"), treatment=Treatment(average=True))) == 1
