"""Enlarged test sets, what must be kept apart, and intervals that know that copies are no new pictures."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest
from PIL import Image
from pydantic import ValidationError

from labctl.errors import BadInput
from protocols.data import Folder, Npz
from protocols.data.enlarged import COPY_STEP, Enlargement, changed, sources_of
from protocols.metrics import accuracy_interval, paired_difference_interval
from protocols.splits import Split

SCENE = (16, 12)
FLIPPED = {"flip": True, "rotations_deg": [10.0]}


def write_npz(path: Path, **more: object) -> Path:
    """3 identities x 5 pictures of 16x12, split 3/1/1, and these arrays too."""
    rng = np.random.default_rng(0)
    np.savez(
        path,
        images=rng.integers(0, 256, (15, 16, 12), dtype=np.uint8),
        identity=np.repeat([0, 1, 2], 5),
        split=np.tile([0, 0, 0, 1, 2], 3).astype(np.uint8),
        **more,
    )
    return path


def write_tree(root: Path, names: tuple[str, ...]) -> Path:
    for level, name in enumerate(names):
        (root / name).parent.mkdir(parents=True, exist_ok=True)
        Image.fromarray(np.full((10, 8), 40 + 2 * level, dtype=np.uint8)).save(root / name)
    return root


def test_only_test_pictures_get_copies_and_each_is_the_picture_that_it_says(tmp_path):
    path = write_npz(tmp_path / "a.npz")
    plain = Npz(path=path).load(SCENE)
    more = Npz(path=path, enlarge_test=FLIPPED).load(SCENE)
    test = plain.part("test")
    assert len(more) == len(plain) + 3 * len(test)
    assert [len(more.part(split)) for split in (0, 1)] == [len(plain.part(split)) for split in (0, 1)]
    np.testing.assert_array_equal(more.images[np.arange(len(plain))], plain.images)
    for place in range(len(plain), len(more)):
        copy, sample = divmod(int(more.sample_ids[place]), COPY_STEP)
        source = int(np.flatnonzero(plain.sample_ids == sample)[0])
        wanted = changed(plain.images[source][0], *[(False, 10.0), (True, 0.0), (True, 10.0)][copy - 1])
        np.testing.assert_allclose(more.images[place][0], wanted)
        assert more.labels[place] == plain.labels[source]
    assert len(set(more.sample_ids)) == len(more)


def test_copies_are_flipped_and_turned_anticlockwise_and_stay_within_radiance():
    picture = np.zeros((21, 21), dtype=np.float32)
    picture[10, 16] = 1.0
    np.testing.assert_array_equal(changed(picture, True, 0.0), picture[:, ::-1])
    turned = changed(picture, False, 45.0)
    row, column = np.unravel_index(turned.argmax(), turned.shape)
    assert row < 10 < column
    assert 0 <= turned.min() <= turned.max() <= 1


def test_a_second_label_follows_the_copies(tmp_path):
    path = write_npz(tmp_path / "a.npz", mood=np.arange(15) % 2)
    source = Npz(path=path, enlarge_test=FLIPPED)
    data, (labels, names) = source.load(SCENE), source.attribute("mood")
    assert names == ("0", "1")
    np.testing.assert_array_equal(labels, data.sample_ids % COPY_STEP % 2)


def test_new_settings_at_their_default_leave_fingerprints_as_they_were(tmp_path):
    path = write_npz(tmp_path / "a.npz", other_split=np.tile([0, 2, 0, 1, 2], 3))
    plain = Npz(path=path).fingerprint()
    assert Npz(path=path, split_key="split", apart=(), enlarge_test=None).fingerprint() == plain
    assert Npz(path=path, split_key="other_split").fingerprint() != plain
    assert Npz(path=path, enlarge_test={}).fingerprint() != plain


def test_a_file_with_two_splits_is_read_by_the_one_that_is_named(tmp_path):
    path = write_npz(tmp_path / "a.npz", by_light=np.tile([2, 2, 0, 0, 0], 3))
    assert list(Npz(path=path, split_key="by_light").load(SCENE).split[:5]) == [2, 2, 0, 0, 0]
    with pytest.raises(BadInput, match="lacks 'by_moon'"):
        Npz(path=path, split_key="by_moon").check()


def test_what_must_be_kept_apart_is_refused_on_both_sides_of_a_split(tmp_path):
    session = np.repeat(np.arange(5), 3)
    with pytest.raises(BadInput, match=r"of 'session' stand on several sides of the split, .*'1' in train and val"):
        Npz(path=write_npz(tmp_path / "a.npz", session=session), apart=("session",)).check()
    split = np.tile([0, 0, 0, 1, 2], 3)
    Npz(path=write_npz(tmp_path / "b.npz", session=split), apart=("session",)).check()
    with pytest.raises(BadInput, match="lacks 'person'"):
        Npz(path=tmp_path / "b.npz", apart=("person",)).check()


def test_a_person_in_train_and_test_of_a_tree_is_refused_where_people_must_be_kept_apart(tmp_path):
    tree = write_tree(
        tmp_path / "tree",
        tuple(
            f"{part}/{mood}/{who}.png" for part, who in (("train", "ann"), ("test", "bob")) for mood in ("sad", "gay")
        ),
    )
    who = r"/(\w+)\.png$"
    Folder(path=tree, apart=who).check()
    write_tree(tree, ("train/sad/bob.png",))
    with pytest.raises(BadInput, match=r"'bob' in train and test; they must be kept apart"):
        Folder(path=tree, apart=who).check()
    with pytest.raises(BadInput, match=r"does not fit 5 of 5 pictures"):
        Folder(path=tree, apart=r"(\d+)\.jpg").check()


@pytest.mark.parametrize(("pattern", "text"), [("x", "has no group"), ("(", "is no regular expression")])
def test_a_pattern_that_names_nobody_is_refused(pattern, text, tmp_path):
    with pytest.raises(ValidationError, match=text):
        Folder(path=tmp_path, apart=pattern)


def test_angles_name_each_copy_once():
    assert len(Enlargement().copies) == 10
    for angles in ([0.0], [5.0, 5.0], [90.0]):
        with pytest.raises(ValidationError):
            Enlargement(rotations_deg=angles)


def test_the_split_of_the_paper_gives_nineteen_of_twenty_pictures_to_training(tmp_path):
    tree = write_tree(tmp_path, tuple(f"p{who}/{n}.png" for who in range(3) for n in range(20)))
    data = Folder(path=tree, identities=2, fractions=(0.95, 0.0, 0.05), enlarge_test={}).load((8, 8))
    assert [len(data.part(part)) for part in Split] == [38, 0, 20]
    assert data.class_names == ("p0", "p1")


def test_copies_do_not_narrow_the_interval():
    rng = np.random.default_rng(0)
    right = [rng.random(60) < 0.7 for _ in range(2)]
    ids = np.arange(60)
    plain = accuracy_interval(right)
    copied = [np.tile(answers, 10) for answers in right]
    copies = np.concatenate([ids + COPY_STEP * copy for copy in range(10)])
    careless = accuracy_interval(copied)
    careful = accuracy_interval(copied, groups=sources_of([copies] * 2))
    assert careful.mean == pytest.approx(plain.mean)
    assert careful.high - careful.low == pytest.approx(plain.high - plain.low, rel=0.1)
    assert careless.high - careless.low < 0.5 * (careful.high - careful.low)
    other = [answers[::-1] for answers in copied]
    gap = paired_difference_interval(copied, other, groups=sources_of([copies] * 2))
    assert gap.low < 0 < gap.high
    assert sources_of([ids]) is None


def test_groups_that_do_not_fit_the_items_are_refused():
    with pytest.raises(BadInput, match="every item needs a group"):
        accuracy_interval([np.ones(4, dtype=bool)], groups=[np.arange(3)])
