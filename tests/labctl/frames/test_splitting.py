"""Splitting a set anew: by a rule that anyone can redo, with samples or whole people kept together."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest

from labctl.errors import BadInput
from labctl.frames.record import FrameRecord
from labctl.frames.splitting import count_split, split_set, write_split
from labctl.frames.store import FrameStore
from tests.labctl.frames.sets import header, record, write_set

FRACTIONS = (0.6, 0.2, 0.2)
PEOPLE = tuple(f"person {n}" for n in range(10))


def of_sample(sample: int, frame: int, repeat: int = 0) -> FrameRecord:
    label = sample % 10
    more = {"label": label, "label_name": PEOPLE[label], "scene_hash": f"scene {sample}", "split": 0}
    return record(frame, sample_id=sample, repeat=repeat, **more)


def people(folder: Path, order: list[int]) -> FrameStore:
    """A set of two frames of every sample, in the order given."""
    records = [of_sample(sample, 2 * n + r, r) for n, sample in enumerate(order) for r in (0, 1)]
    return write_set(
        folder, len(records), head=header(len(records), class_names=PEOPLE, shard_frames=64), records=records
    )


@pytest.fixture
def store(tmp_path: Path) -> FrameStore:
    return people(tmp_path / "set", list(range(50)))


def test_every_label_is_in_every_part_and_frames_of_a_sample_stay_together(store: FrameStore) -> None:
    splitting = split_set(store, by="sample", fractions=FRACTIONS, seed=1)
    write_split(store.folder, "mine", splitting)
    part = store.splits("mine")
    assert np.array_equal(part[0::2], part[1::2]), "both repeats of a sample"
    labels = store.column("label")
    for number, share in enumerate((6, 2, 2)):
        assert np.bincount(labels[part == number], minlength=10).tolist() == [share] * 10
    assert count_split(store, splitting)["val"] == {"frames": 20, "samples": 10, "labels": 10}
    assert store.select(split="val", splitting="mine").tolist() == np.flatnonzero(part == 1).tolist()


@pytest.mark.parametrize("by", ["label", "identity"])
def test_people_that_judge_were_never_seen_in_training(by: str, store: FrameStore) -> None:
    splitting = split_set(store, by=by, fractions=FRACTIONS, seed=1)  # type: ignore[arg-type]
    of = {part: {s % 10 for s, p in splitting.split_of_sample.items() if p == part} for part in range(3)}
    assert [len(of[part]) for part in range(3)] == [6, 2, 2]
    assert not of[0] & of[1]
    assert not of[0] & of[2]
    assert not of[1] & of[2]


def test_the_split_does_not_depend_on_the_order_of_capture(store: FrameStore, tmp_path: Path) -> None:
    shuffled = people(tmp_path / "other", np.random.default_rng(0).permutation(50).tolist())
    for by in ("sample", "label"):
        one, other = (split_set(s, by=by, fractions=FRACTIONS, seed=3).split_of_sample for s in (store, shuffled))
        assert one == other
        assert split_set(store, by=by, fractions=FRACTIONS, seed=4).split_of_sample != one


def test_a_new_sample_moves_few_others(store: FrameStore, tmp_path: Path) -> None:
    before = split_set(store, by="sample", fractions=FRACTIONS, seed=0).split_of_sample
    after = split_set(people(tmp_path / "more", list(range(51))), by="sample", fractions=FRACTIONS, seed=0)
    assert sum(after.split_of_sample[sample] != part for sample, part in before.items()) <= 2


@pytest.mark.parametrize("fractions", [(0.5, 0.2, 0.2), (1.2, -0.2, 0.0), (float("nan"), 0.5, 0.5)])
def test_fractions_that_make_no_whole_are_refused(fractions: tuple[float, float, float], store: FrameStore) -> None:
    with pytest.raises(BadInput, match="must sum to 1"):
        split_set(store, by="sample", fractions=fractions, seed=0)


def test_too_few_samples_or_people_are_refused_with_what_to_do(tmp_path: Path) -> None:
    few = people(tmp_path / "few", [0, 10, 1, 11])
    with pytest.raises(BadInput, match=r"label 'person 0' has 2 samples for 3 parts; .*--by label"):
        split_set(few, by="sample", fractions=FRACTIONS, seed=0)
    with pytest.raises(BadInput, match="has 2 labels for 3 parts; use --by sample"):
        split_set(few, by="label", fractions=FRACTIONS, seed=0)
    assert set(split_set(few, by="label", fractions=(0.5, 0, 0.5), seed=0).split_of_sample.values()) == {0, 2}


def test_frames_of_no_scene_are_not_split(tmp_path: Path) -> None:
    store = write_set(tmp_path, 4, records=lambda index: record(index, kind="dark", sample_id=index))
    with pytest.raises(BadInput, match="no frames with a sample id"):
        split_set(store, by="sample", fractions=FRACTIONS, seed=0)


def test_a_split_is_replaced_only_on_request_and_its_name_stays_in_its_folder(store: FrameStore) -> None:
    one, other = (split_set(store, by="sample", fractions=FRACTIONS, seed=seed) for seed in (1, 2))
    path = write_split(store.folder, "mine", one)
    with pytest.raises(BadInput, match="--replace"):
        write_split(store.folder, "mine", other)
    write_split(store.folder, "mine", other, replace=True)
    assert [file.name for file in path.parent.iterdir()] == ["mine.json"]
    for name in ("../mine", "", ".mine", "a/b", "x" * 101):
        with pytest.raises(BadInput, match="cannot name a split"):
            write_split(store.folder, name, one)
